# SPDX-License-Identifier: ISC
"""Replies of PWD and its Command Line Interface: three digits, a blank, a text.

Nothing is ever behind the digits but one blank, and always something behind that:
clients read replies so. Classes are FTP's: 2 done, 3 more is needed, 4 try again later,
5 no.
"""

OK = b"200 OK"
DONE, DATA, MORE, BUSY = b"200", b"201", b"300", b"400"
REFUSED = b"500"  # a login, a new password; a domain that is there already
WRONG = b"501"  # what was said, or a value in it
NOT_ALLOWED = b"510"
NO_DOMAIN, NO_ACCOUNT = b"512", b"513"
ACCOUNT_EXISTS = b"520"
IN_USE = b"555"

FOLLOWS = b"200 data follow\r\n"


def reply(code: bytes, text: bytes) -> bytes:
    """Make a reply without its line end; whatever would end the line is left out."""
    shown = bytes(octet if octet >= 0x20 and octet != 0x7F else 0x20 for octet in text)
    return code + b" " + (shown.strip() or b"-")


def lines(answer: bytes, *, is_inline: bool) -> bytes:
    """Give the octets for the client; data go on a line of their own unless INLINE."""
    code, _, datum = answer.partition(b" ")
    if code == DATA and not is_inline:
        return FOLLOWS + datum + b"\r\n"
    return answer + b"\r\n"
