# SPDX-License-Identifier: ISC
"""What popaccount is made of: its arguments, its upkeep, the commands it shares."""
