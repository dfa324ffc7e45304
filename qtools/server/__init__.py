# SPDX-License-Identifier: ISC
"""popserver's processes: listener, limits, login worker, TLS, sessions."""
