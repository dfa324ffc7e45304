# SPDX-License-Identifier: ISC
"""Accounts that PAM's modules know: log in, and change a password."""
