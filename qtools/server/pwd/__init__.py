# SPDX-License-Identifier: ISC
"""poppassd --pwd -D: a server for PWD, put together from popserver's parts."""
