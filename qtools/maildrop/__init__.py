# SPDX-License-Identifier: ISC
"""Where mail lies: message numbering, octet counts, unique-ids, update."""
