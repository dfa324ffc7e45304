# SPDX-License-Identifier: ISC
"""A POP3 toolchain of small programs that each do one thing and run the next."""

__version__ = "0.1.0"
