# SPDX-License-Identifier: ISC
"""One module a program: options and wiring, nothing else."""
