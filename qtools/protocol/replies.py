# SPDX-License-Identifier: ISC
"""Replies as the client will read them.

See: RFC 1939 section 3, RFC 2449 section 4 (512 octets a reply) and section 8
(response codes), RFC 3206 (SYS/TEMP, SYS/PERM, AUTH).
"""

REPLY_OCTETS = 512

AUTH = b"AUTH"
SYS_TEMP = b"SYS/TEMP"
SYS_PERM = b"SYS/PERM"
IN_USE = b"IN-USE"
LOGIN_DELAY = b"LOGIN-DELAY"

OK = b"+OK \r\n"  # with the blank, as the qmail tools always sent it


def ok(text: bytes = b"") -> bytes:
    """Make a positive status line."""
    return _line(b"+OK ", text)


def err(text: bytes, code: bytes = b"") -> bytes:
    """Make a negative status line, with a response code where one applies."""
    return _line(b"-ERR [" + code + b"] " if code else b"-ERR ", text)


def _line(status: bytes, text: bytes) -> bytes:
    return (status + text)[: REPLY_OCTETS - 2] + b"\r\n"


def multi(status: bytes, lines: list[bytes]) -> bytes:
    """Make a multi-line reply whose lines need no stuffing (they start with no dot).

    In one piece, because clients are known to stall on a list that comes in parts.
    """
    return b"".join((status, *[line + b"\r\n" for line in lines], b".\r\n"))
