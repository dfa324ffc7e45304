# SPDX-License-Identifier: ISC
"""Drivers of the cold chain: they perform a session's actions on 0 and 1."""
