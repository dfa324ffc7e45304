# SPDX-License-Identifier: ISC
"""popserver when something is wrong: hostile peers, dead processes, no room left."""
