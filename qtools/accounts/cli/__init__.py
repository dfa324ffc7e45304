# SPDX-License-Identifier: ISC
"""The Command Line Interface: commands carried out on the account database."""
