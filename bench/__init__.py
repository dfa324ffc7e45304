# SPDX-License-Identifier: ISC
"""What a login and a fetched message cost, side by side with others. See README.md."""
