# SPDX-License-Identifier: ISC
"""popserver --demo: throw-away accounts, mail and certificate."""
