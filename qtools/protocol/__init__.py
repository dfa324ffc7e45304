# SPDX-License-Identifier: ISC
"""Pure protocol: bytes in, values out; no descriptors, clock or randomness."""
