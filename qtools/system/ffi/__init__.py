# SPDX-License-Identifier: ISC
"""The only place that talks to C libraries."""
