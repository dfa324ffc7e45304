# SPDX-License-Identifier: ISC
"""Who may log in: one module a kind of account, one small interface."""
