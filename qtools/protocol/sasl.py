# SPDX-License-Identifier: ISC
"""SASL mechanisms as POP3 frames them, each a generator of challenges.

A mechanism yields what the server says and is sent what the client answered, both
without their base64; in the end it returns user, secret or digest, and challenge, the
fields of the fd-3 record. See: RFC 5034 (framing), RFC 4616 (PLAIN), RFC 2195
(CRAM-MD5), draft-murchison-sasl-login (LOGIN).
"""

from binascii import Error, a2b_base64, b2a_base64

from qtools.protocol import verbs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Credential = tuple[bytes, bytes, bytes]
    Exchange = Generator[bytes, bytes, Credential]


class Malformed(Exception):
    """The client's answer does not fit the mechanism."""


class Mechanism:
    """One mechanism: its exchange, its word for the log, what it asks of the wire.

    is_plaintext: the secret itself crosses the wire. is_client_first: it may come
    with an initial response.
    """

    __slots__ = ("exchange", "is_client_first", "is_plaintext", "word")

    def __init__(
        self,
        exchange: "Callable[[bytes], Exchange]",
        word: str,
        *,
        is_plaintext: bool,
        is_client_first: bool,
    ) -> None:
        self.exchange = exchange
        self.word = word
        self.is_plaintext = is_plaintext
        self.is_client_first = is_client_first


def _plain(stamp: bytes) -> "Exchange":
    fields = (yield b"").split(b"\0")
    # Acting for somebody else is not ours to grant: nothing behind us could check it.
    if len(fields) != 3 or fields[0] not in (b"", fields[1]):
        raise Malformed
    return _complete(fields[1], fields[2], stamp)


def _login(stamp: bytes) -> "Exchange":
    user = yield b"Username:"
    secret = yield b"Password:"
    return _complete(user, secret, stamp)


def _cram_md5(stamp: bytes) -> "Exchange":
    user, _, digest = (yield stamp).rpartition(b" ")
    if not verbs.is_md5_hex(digest):
        raise Malformed
    return _complete(user, digest, stamp)


def _complete(user: bytes, secret: bytes, stamp: bytes) -> "Credential":
    if not user or not secret or b"\0" in user + secret:
        raise Malformed
    return user, secret, stamp


MECHANISMS = {
    b"PLAIN": Mechanism(_plain, "Plain", is_plaintext=True, is_client_first=True),
    b"LOGIN": Mechanism(_login, "Login", is_plaintext=True, is_client_first=True),
    b"CRAM-MD5": Mechanism(
        _cram_md5, "Cram-Md5", is_plaintext=False, is_client_first=False
    ),
}


def decode(line: bytes) -> bytes:
    """Undo the base64 of a response line.

    Raises: Malformed for anything that is not base64 to the letter.
    """
    try:
        return a2b_base64(line, strict_mode=True) if line else b""
    except Error as why:
        raise Malformed from why


def decode_initial(word: bytes) -> bytes:
    """Undo an initial response, where "=" stands for an empty one (section 4)."""
    return b"" if word == b"=" else decode(word)


def challenge_line(challenge: bytes) -> bytes:
    """Frame a challenge; an empty one is plus, space, CRLF, as clients wait for it."""
    return b"+ " + b2a_base64(challenge, newline=False) + b"\r\n"
