# SPDX-License-Identifier: ISC
"""Real superservers, real clients and foreign links of the chain."""
