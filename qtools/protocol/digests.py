# SPDX-License-Identifier: ISC
"""Digests over a challenge and a secret: APOP and CRAM-MD5.

Made by hand from the C modules, because hashlib and hmac would cost as much as the
rest of a login. MD5 is the protocols' choice; marked as not used for security, so that
a strict build of the system's library does not refuse it. See: RFC 1939 section 7
(APOP), RFC 2195 (CRAM-MD5), RFC 2104 (HMAC).
"""

from _md5 import md5  # type: ignore[import-not-found]  # typeshed leaves it out
from _operator import _compare_digest

HEX_OCTETS = 32

BLOCK_OCTETS = 64  # of MD5 and SHA-256, see: RFC 2104 section 2
_INNER = int.from_bytes(b"\x36" * BLOCK_OCTETS, "big")
_OUTER = int.from_bytes(b"\x5c" * BLOCK_OCTETS, "big")


def apop(challenge: bytes, secret: bytes) -> bytes:
    """Give the 32 lower-case hexadecimal digits that APOP asks for.

    Takes the challenge with its angle brackets.
    See: RFC 1939 section 7 (APOP).
    """
    return _md5(challenge + secret).encode()


def cram_md5(challenge: bytes, secret: bytes) -> bytes:
    """Give the 32 lower-case hexadecimal digits of HMAC-MD5, keyed by the secret.

    See: RFC 2195 section 2.
    """
    key = secret
    if len(key) > BLOCK_OCTETS:
        key = md5(key, usedforsecurity=False).digest()
    block = int.from_bytes(key.ljust(BLOCK_OCTETS, b"\0"), "big")
    inner = (block ^ _INNER).to_bytes(BLOCK_OCTETS, "big")
    outer = (block ^ _OUTER).to_bytes(BLOCK_OCTETS, "big")
    return _md5(outer + md5(inner + challenge, usedforsecurity=False).digest()).encode()


def equal(one: bytes, other: bytes) -> bool:
    """Compare in a time that tells nothing about where they differ."""
    return _compare_digest(one, other)


def answers(digest: bytes, challenge: bytes, secret: bytes) -> bool:
    """Say whether this is the APOP or CRAM-MD5 digest over challenge and secret.

    A record doesn't say which of the two it carries. Without a challenge nothing is a
    digest. Digits in upper case, which RFC 1939 section 7 does not allow and our popup
    refuses, are accepted from popups that let them pass.
    """
    if not challenge or len(digest) != HEX_OCTETS:
        return False
    given = digest.lower()
    is_apop = equal(given, apop(challenge, secret))
    is_cram_md5 = equal(given, cram_md5(challenge, secret))
    return is_apop or is_cram_md5


def hexadecimal(secret: bytes, digits: int) -> bytes | None:
    """Give the unsalted digest that has so many hexadecimal digits, None without one.

    32 is MD5, 40 SHA-1, 64 SHA-256.
    """
    make = _UNSALTED.get(digits)
    return None if make is None else make(secret).encode()


def _md5(data: bytes) -> str:
    digest: str = md5(data, usedforsecurity=False).hexdigest()
    return digest


def _sha1(data: bytes) -> str:
    from _sha1 import sha1  # type: ignore[import-not-found]  # as _md5

    digest: str = sha1(data, usedforsecurity=False).hexdigest()
    return digest


def sha256(data: bytes) -> bytes:
    """Give the 32 octets of SHA-256."""
    try:
        from _sha2 import sha256 as make  # type: ignore[import-not-found]  # as _md5
    except ImportError:  # before Python 3.12
        from _sha256 import sha256 as make  # type: ignore[import-not-found]  # as _md5
    digest: bytes = make(data).digest()
    return digest


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """Give the 32 octets of HMAC-SHA-256.

    See: RFC 2104 section 2.
    """
    if len(key) > BLOCK_OCTETS:
        key = sha256(key)
    block = int.from_bytes(key.ljust(BLOCK_OCTETS, b"\0"), "big")
    inner = (block ^ _INNER).to_bytes(BLOCK_OCTETS, "big")
    outer = (block ^ _OUTER).to_bytes(BLOCK_OCTETS, "big")
    return sha256(outer + sha256(inner + data))


def _sha256(data: bytes) -> str:
    return sha256(data).hex()


_UNSALTED = {32: _md5, 40: _sha1, 64: _sha256}
