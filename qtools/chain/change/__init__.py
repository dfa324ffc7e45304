# SPDX-License-Identifier: ISC
"""Passwords and accounts changed: a confined dialogue, and who does its errands."""
