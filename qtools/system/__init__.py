# SPDX-License-Identifier: ISC
"""The operating system: descriptors, processes, privileges, UCSPI, logs."""
