# SPDX-License-Identifier: ISC
"""pop3d where it logs in by itself: the whole chain in one program."""
