# SPDX-License-Identifier: ISC
"""Stand-ins for programs that no Debian package offers, after their transcripts."""
