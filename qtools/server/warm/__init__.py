# SPDX-License-Identifier: ISC
"""Our own chain without exec: login worker, verifiers, sessions and who forks them."""
