# SPDX-License-Identifier: ISC
"""How a Transaction speaks: as qmail-pop3d or as mdpop3d, and what it allows."""

from qtools.protocol import tongue

# mdpop3d counts unknown commands, too. At how many it closes is not known; a client
# that only tries what we might have never sends that many.
JUNK_LIMIT = 10


class Style:
    """How a session speaks and what it allows.

    is_bare: positive replies without anything behind +OK, and a greeting that counts,
    as mdpop3d has them; else qmail-pop3d's. junk_limit: close at this many unknown
    commands, 0 for never. commits: a lost connection counts as QUIT. blank_line: every
    message is followed by an empty line, which then counts. is_traced: give a Trace
    for every line. capabilities: what the dialogue before login had on its list and
    holds on, None when that was a stranger's. language: in force from the start.
    """

    __slots__ = (
        "blank_line",
        "capabilities",
        "commits",
        "is_bare",
        "is_traced",
        "junk_limit",
        "language",
    )

    def __init__(  # noqa: PLR0913  # a style is what its fields say, all by name
        self,
        *,
        is_bare: bool = False,
        junk_limit: int = 0,
        commits: bool = False,
        blank_line: bool = False,
        is_traced: bool = False,
        capabilities: "list[bytes] | None" = None,
        language: bytes = tongue.DEFAULT,
    ) -> None:
        self.is_bare = is_bare
        self.junk_limit = junk_limit
        self.commits = commits
        self.blank_line = blank_line
        self.is_traced = is_traced
        self.capabilities = capabilities
        self.language = language
