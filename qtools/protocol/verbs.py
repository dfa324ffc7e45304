# SPDX-License-Identifier: ISC
"""Command rows, and how a line is cut into a verb and its arguments.

A session's whole behaviour hangs on one table of rows: dispatch, argument counts,
what CAPA lists, what a debug log must hide, the command list of the man pages.
See: RFC 1939 section 3 (keywords and arguments, one space between), RFC 2449.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Handler = Callable[..., Any]


# Of POP3's commands those whose arguments are secrets, whether we have them or not.
SECRET_KEYWORDS = (b"PASS", b"APOP", b"AUTH")

# Lines that may be shown: what has no keyword of POP3's can be anything, a password in
# base64 say, whose AUTH was refused.
SHOWN_KEYWORDS = frozenset(
    (
        *(b"USER", b"PASS", b"APOP", b"AUTH", b"STLS", b"UTF8", b"LANG", b"CAPA"),
        *(b"STAT", b"LIST", b"RETR", b"DELE", b"TOP", b"UIDL", b"LAST", b"RSET"),
        *(b"NOOP", b"QUIT"),
    )
)
UNSHOWN = b"<unknown>"


class Verb:
    """One command.

    handler: called with the session and the arguments. least, most: how many
    arguments; the last one keeps its spaces. capability: what CAPA lists for it, empty
    for nothing. offered: a predicate over the session's policy; a verb that is not
    offered now is neither announced nor carried out, so that the two can't disagree.
    is_secret: the arguments must never reach a log.
    """

    __slots__ = ("capability", "handler", "is_secret", "least", "most", "offered")

    def __init__(  # noqa: PLR0913  # a row has as many columns
        self,
        handler: "Handler",
        least: int,
        most: int,
        capability: bytes = b"",
        *,
        offered: "Callable[[Any], bool] | None" = None,
        is_secret: bool = False,
    ) -> None:
        self.handler = handler
        self.least = least
        self.most = most
        self.capability = capability
        self.offered = offered
        self.is_secret = is_secret


def split(line: bytes) -> tuple[bytes, bytes]:
    """Cut a line into its upper-case keyword and the rest after one space."""
    keyword, _, rest = line.partition(b" ")
    return keyword.upper(), rest


def arguments(verb: Verb, rest: bytes) -> list[bytes] | None:
    """Cut the rest of a line into this verb's arguments; None when they don't fit.

    Only the first spaces separate: a password keeps every space after the one that
    belongs to the command. For a verb that takes none, blanks alone are none.
    """
    if not verb.most:
        return None if rest.strip(b" ") else []
    given = rest.split(b" ", verb.most - 1) if rest else []
    return given if verb.least <= len(given) else None


def message_number(text: bytes) -> int | None:
    """Read a message-number: digits and nothing else (RFC 1939 section 5).

    Gives None for anything else. A number of more than ten digits is cut to one that
    no maildrop reaches: converting a hostile one would cost time.
    """
    if not text.isdigit():
        return None
    digits = text.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= 10 else 10**10


def is_md5_hex(text: bytes) -> bool:
    """Tell whether this is an MD5 digest as APOP and CRAM-MD5 write it (32 digits)."""
    return len(text) == 32 and not text.strip(b"0123456789abcdef")


def masked(table: "dict[bytes, Verb]", line: bytes) -> bytes:
    """Give the line as a debug log may show it, secrets replaced.

    A secret that was mistyped is still one: blanks before the keyword, or something
    else than one space behind it, hide nothing of it. So may be a whole line that is no
    command.
    """
    start = line.strip()[:4].upper()
    verb = table.get(start)
    is_secret = verb.is_secret if verb else start in SECRET_KEYWORDS
    if is_secret and len(line.strip()) > 4:
        return start + b" <hidden>"
    keyword, _ = split(line.strip())
    is_known = keyword in table or keyword in SHOWN_KEYWORDS
    return line if is_known else UNSHOWN
