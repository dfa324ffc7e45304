# SPDX-License-Identifier: ISC
"""SASL mechanisms, each a generator of challenges.

A mechanism yields what the server says and is sent what the client answered, both
without their base64; in the end it returns user, secret or digest, and challenge, the
fields of the fd-3 record. For SCRAM the secret is the client's first message, and what
follows is between the client and the verifier. See: framing, RFC 4616 (PLAIN), RFC 2195
(CRAM-MD5), draft-murchison-sasl-login (LOGIN), RFC 7677 (SCRAM-SHA-256), RFC 7628
(OAUTHBEARER).
"""

from qtools.protocol import verbs
from qtools.protocol.framing import Malformed
from qtools.protocol.record import BEARER_OCTETS, RECORD_OCTETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    Credential = tuple[bytes, bytes, bytes]
    Exchange = Generator[bytes, bytes, Credential]


class Mechanism:
    """One mechanism: its exchange, its word for the log, what it asks of the wire.

    is_plaintext: the secret itself crosses the wire. is_client_first: it may come
    with an initial response. is_dialogue: the verifier has more to say than a verdict.
    is_bound: only inside TLS whose end point is known. octets: of the longest record.
    refusal: a challenge that explains a refusal; the client's answer to it is nothing,
    and only then is it refused (RFC 7628 section 3.2.3).
    """

    __slots__ = (
        "exchange",
        "is_bound",
        "is_client_first",
        "is_dialogue",
        "is_plaintext",
        "octets",
        "refusal",
        "word",
    )

    def __init__(  # noqa: PLR0913  # a row has as many columns
        self,
        exchange: "Callable[[bytes], Exchange]",
        word: str,
        *,
        is_plaintext: bool,
        is_client_first: bool = True,
        is_dialogue: bool = False,
        is_bound: bool = False,
        octets: int = RECORD_OCTETS,
        refusal: bytes = b"",
    ) -> None:
        self.exchange = exchange
        self.word = word
        self.is_plaintext = is_plaintext
        self.is_client_first = is_client_first
        self.is_dialogue = is_dialogue
        self.is_bound = is_bound
        self.octets = octets
        self.refusal = refusal


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


def _scram(stamp: bytes) -> "Exchange":
    from qtools.protocol import gs2, scram

    message = yield b""
    first = scram.read_first(message)
    if first.header.flag == gs2.BOUND:
        raise Malformed
    return _complete(first.user, message, stamp)


def _scram_plus(stamp: bytes) -> "Exchange":
    from qtools.protocol import gs2, scram

    message = yield b""
    first = scram.read_first(message)
    if first.header.flag != gs2.BOUND:
        raise Malformed
    return _complete(first.user, message, stamp)


def _oauthbearer(stamp: bytes) -> "Exchange":
    from qtools.protocol import bearer

    return _complete(*bearer.read_oauthbearer((yield b"")), stamp)


def _xoauth2(stamp: bytes) -> "Exchange":
    from qtools.protocol import bearer

    return _complete(*bearer.read_xoauth2((yield b"")), stamp)


def _complete(user: bytes, secret: bytes, stamp: bytes) -> "Credential":
    if not user or not secret or b"\0" in user + secret:
        raise Malformed
    return user, secret, stamp


MECHANISMS = {
    b"PLAIN": Mechanism(_plain, "Plain", is_plaintext=True),
    b"LOGIN": Mechanism(_login, "Login", is_plaintext=True),
    b"CRAM-MD5": Mechanism(
        _cram_md5, "Cram-Md5", is_plaintext=False, is_client_first=False
    ),
    b"SCRAM-SHA-256-PLUS": Mechanism(
        _scram_plus,
        "Scram-Sha-256-Plus",
        is_plaintext=False,
        is_dialogue=True,
        is_bound=True,
    ),
    b"SCRAM-SHA-256": Mechanism(
        _scram, "Scram-Sha-256", is_plaintext=False, is_dialogue=True
    ),
    b"OAUTHBEARER": Mechanism(
        _oauthbearer,
        "Oauthbearer",
        is_plaintext=True,
        octets=BEARER_OCTETS,
        refusal=b'{"status":"invalid_token"}',
    ),
    b"XOAUTH2": Mechanism(
        _xoauth2,
        "Xoauth2",
        is_plaintext=True,
        octets=BEARER_OCTETS,
        refusal=b'{"status":"401","schemes":"bearer"}',
    ),
}


def load(names: "Iterable[bytes]") -> None:
    """Load what these mechanisms need besides this module.

    To be called where files can still be reached: a confined dialogue has none.
    """
    if any(MECHANISMS[name].is_dialogue for name in names):
        from qtools.protocol import scram  # noqa: F401
    if any(MECHANISMS[name].refusal for name in names):
        from qtools.protocol import bearer  # noqa: F401


def is_deceived(message: bytes) -> bool:
    """Say whether a SCRAM client could bind to its TLS, and thinks that we can't.

    Where we have offered that, somebody between has taken the offer away (RFC 5802
    section 6).
    """
    return message.startswith(b"y,")
