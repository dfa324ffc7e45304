# SPDX-License-Identifier: ISC
"""The header with which GS2 mechanisms begin: binding, and for whom.

SCRAM and OAUTHBEARER share it, and its way to write names. See: RFC 5801 section 4,
RFC 5802 section 7 (gs2-header, saslname).
"""

from qtools.protocol.framing import Malformed

UNSUPPORTED, UNOFFERED, BOUND = b"n", b"y", b"p"

_ESCAPES = (b"2C", b"3D")


class Header:
    """A GS2 header.

    flag: UNSUPPORTED, UNOFFERED (the client could bind, and thinks that we can't) or
    BOUND. binding: the kind of binding behind BOUND. authorization: for whom, or empty
    for oneself. text: the header as it was sent. rest: what stands behind it.
    """

    __slots__ = ("authorization", "binding", "flag", "rest", "text")

    def __init__(
        self,
        flag: bytes,
        binding: bytes,
        authorization: bytes,
        text: bytes,
        rest: bytes,
    ) -> None:
        self.flag = flag
        self.binding = binding
        self.authorization = authorization
        self.text = text
        self.rest = rest


def read(message: bytes) -> Header:
    """Cut the header off a message.

    Raises: Malformed.
    """
    flag, comma, behind = message.partition(b",")
    authorization, second, rest = behind.partition(b",")
    if not comma or not second:
        raise Malformed
    kind, equals, binding = flag.partition(b"=")
    if kind not in (UNSUPPORTED, UNOFFERED, BOUND) or (kind == BOUND) is not bool(
        binding
    ):
        raise Malformed
    if bool(equals) is not bool(binding):
        raise Malformed
    name = b""
    if authorization:
        if not authorization.startswith(b"a="):
            raise Malformed
        name = read_name(authorization[2:])
    text = message[: len(message) - len(rest)]
    return Header(kind, binding, name, text, rest)


def read_name(text: bytes) -> bytes:
    """Undo the escapes of a saslname: =2C is a comma, =3D an equals sign.

    Raises: Malformed for any other escape, an empty name, a comma or a NUL.
    """
    first, *others = text.split(b"=")
    if not text or b"," in text or b"\0" in text:
        raise Malformed
    if any(other[:2] not in _ESCAPES for other in others):
        raise Malformed
    parts = [(b"," if other[:2] == b"2C" else b"=") + other[2:] for other in others]
    return b"".join([first, *parts])
