# SPDX-License-Identifier: ISC
"""What an account's name and secret may be: what a client can send, and a log can hold.

See: RFC 2449 section 4 (a command line has at most 255 octets).
"""

from qtools.accounts.db.reader import fold
from qtools.errors import Refused

USER_OCTETS = 248  # "USER " and CRLF fill the 255 octets of a line, see: RFC 2449
SECRET_OCTETS = 248  # likewise after "PASS "


def check_secret(secret: bytes) -> None:
    """Refuse a secret that no client could send.

    Raises: Refused.
    """
    if not secret:
        raise Refused("an empty password is no password")
    if len(secret) > SECRET_OCTETS:
        raise Refused(f"a password has at most {SECRET_OCTETS} octets")
    if any(octet in secret for octet in (b"\0", b"\r", b"\n")):
        raise Refused("a password can't hold NUL, CR or LF")


def name_of(user: bytes) -> str:
    """Give the name under which an account is kept.

    Raises: Refused when no client could send it or it would spoil a log line.
    """
    try:
        name = fold(user)
    except UnicodeDecodeError as why:
        raise Refused("an account's name is UTF-8") from why
    if not name or len(user) > USER_OCTETS or not name.isprintable() or " " in name:
        raise Refused(
            f"an account's name is 1 to {USER_OCTETS} octets, printable, without blanks"
        )
    return name
