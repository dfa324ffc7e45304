# SPDX-License-Identifier: ISC
"""Tokens for passwords: what OAUTHBEARER and XOAUTH2 clients send.

Both send pairs of key and value, each ended by the octet 1. Only the user's name and
the token are of use here: whoever gave out the token knows for what it is good.
See: RFC 7628 section 3.1 (OAUTHBEARER), RFC 6750 section 2.1 (Bearer); XOAUTH2 as
Google's and Microsoft's mail servers describe it.
"""

from qtools.protocol import gs2
from qtools.protocol.framing import Malformed

_END = b"\1"


def read_oauthbearer(message: bytes) -> tuple[bytes, bytes]:
    """Give user and token; the user is the one of the header, which must be there.

    Raises: Malformed, for channel bindings as well: none is defined with tokens.
    """
    header = gs2.read(message)
    if header.flag == gs2.BOUND or not header.rest.startswith(_END):
        raise Malformed
    return header.authorization, _token(_pairs(header.rest[1:]))


def read_xoauth2(message: bytes) -> tuple[bytes, bytes]:
    """Give user and token.

    Raises: Malformed.
    """
    pairs = _pairs(message)
    return pairs.get(b"user", b""), _token(pairs)


def _pairs(text: bytes) -> dict[bytes, bytes]:
    """Cut pairs; behind the last one stands one end more."""
    if not text.endswith(_END + _END):
        raise Malformed
    pairs: dict[bytes, bytes] = {}
    for pair in text[:-2].split(_END):
        key, equals, value = pair.partition(b"=")
        if not equals or not key.isalpha() or key in pairs:
            raise Malformed
        pairs[key] = value
    return pairs


def _token(pairs: dict[bytes, bytes]) -> bytes:
    scheme, blank, token = pairs.get(b"auth", b"").partition(b" ")
    is_visible = not any(octet <= 32 or octet >= 127 for octet in token)
    if scheme.lower() != b"bearer" or not blank or not is_visible:
        raise Malformed
    return token
