# SPDX-License-Identifier: ISC
"""SCRAM-SHA-256: its messages and its arithmetic, for the server's side.

The server keeps two keys of a password, with which it can check a client's proof and
prove itself, and from which the password can't be had. Nonces come in as arguments.
Whatever is in a client's message is octets, and nothing of it is put right.
See: RFC 5802 (the exchange), RFC 7677 (SHA-256), RFC 5803 (keys as text).
"""

from binascii import b2a_base64

from qtools.protocol import digests, gs2
from qtools.protocol.framing import Malformed, decode

ITERATIONS = 4096  # the least that RFC 7677 section 4 allows; what accounts begin with
MOST_ITERATIONS = 10_000_000  # above, a client would work for many seconds
SALT_OCTETS = 16
KEY_OCTETS = 32  # what SHA-256 gives
BINDING = b"tls-server-end-point"  # RFC 5929 section 4, the only kind we have
METHOD = b"SCRAM-SHA-256"

_COMMA = 0x2C
_OWN_LETTERS = b"acimnprsve"  # of fields with a meaning, so of no extension


class First:
    """A client-first-message: the GS2 header, the user's name, the client's nonce.

    bare: the message without its header, of which the proof is made.
    """

    __slots__ = ("bare", "header", "nonce", "user")

    def __init__(
        self, header: gs2.Header, user: bytes, nonce: bytes, bare: bytes
    ) -> None:
        self.header = header
        self.user = user
        self.nonce = nonce
        self.bare = bare


class Final:
    """A client-final-message: header and binding again, both nonces, the proof.

    unproved: the message up to the proof, of which the proof is made.
    """

    __slots__ = ("binding", "nonce", "proof", "unproved")

    def __init__(
        self, binding: bytes, nonce: bytes, proof: bytes, unproved: bytes
    ) -> None:
        self.binding = binding
        self.nonce = nonce
        self.proof = proof
        self.unproved = unproved


class Keys:
    """What a server keeps of a password; stored and server are KEY_OCTETS each."""

    __slots__ = ("iterations", "salt", "server", "stored")

    def __init__(
        self, iterations: int, salt: bytes, stored: bytes, server: bytes
    ) -> None:
        self.iterations = iterations
        self.salt = salt
        self.stored = stored
        self.server = server


def read_first(message: bytes) -> First:
    """Read a client-first-message.

    Raises: Malformed, also for somebody else's name in it (nothing behind us could
    say who may act for whom) and for an extension that must not be ignored.
    """
    header = gs2.read(message)
    fields = header.rest.split(b",")
    if len(fields) < 2 or not fields[0].startswith(b"n="):
        raise Malformed  # "m=" has to come first, and means one that we don't know
    user = gs2.read_name(fields[0][2:])
    nonce = _nonce(fields[1])
    _skip_extensions(fields[2:])
    if header.authorization not in (b"", user):
        raise Malformed
    if header.flag == gs2.BOUND and header.binding != BINDING:
        raise Malformed
    return First(header, user, nonce, header.rest)


def read_final(message: bytes) -> Final:
    """Read a client-final-message.

    Raises: Malformed.
    """
    unproved, comma, proof = message.rpartition(b",p=")
    fields = unproved.split(b",")
    if not comma or len(fields) < 2 or not fields[0].startswith(b"c="):
        raise Malformed
    _skip_extensions(fields[2:])
    found = decode(proof)
    if len(found) != KEY_OCTETS:
        raise Malformed
    return Final(decode(fields[0][2:]), _nonce(fields[1]), found, unproved)


def server_first(nonce: bytes, keys: Keys) -> bytes:
    """Give the server-first-message; nonce: the client's and ours behind it."""
    salt = b2a_base64(keys.salt, newline=False)
    return b"r=%b,s=%b,i=%d" % (nonce, salt, keys.iterations)


def server_final(keys: Keys, agreed: bytes) -> bytes:
    """Give the server-final-message, which proves that we have the keys, too."""
    return b"v=" + b2a_base64(digests.hmac_sha256(keys.server, agreed), newline=False)


def agreed_on(first: First, server_first: bytes, final: Final) -> bytes:
    """Give what both sides sign, the AuthMessage of RFC 5802 section 3."""
    return b",".join((first.bare, server_first, final.unproved))


def is_proof(keys: Keys, agreed: bytes, proof: bytes) -> bool:
    """Say whether the client has the password of which the keys were made."""
    signature = digests.hmac_sha256(keys.stored, agreed)
    pad = int.from_bytes(signature, "big") ^ int.from_bytes(proof, "big")
    client_key = pad.to_bytes(KEY_OCTETS, "big")
    return digests.equal(digests.sha256(client_key), keys.stored)


def make_keys(password: bytes, salt: bytes, iterations: int = ITERATIONS) -> bytes:
    """Make of a password what is to be stored: METHOD$iterations:salt$stored:server.

    Takes a password that is prepared already (SASLprep), and SALT_OCTETS at random.
    """
    from _hashlib import pbkdf2_hmac  # only where a password is set

    salted: bytes = pbkdf2_hmac("sha256", password, salt, iterations)
    stored = digests.sha256(digests.hmac_sha256(salted, b"Client Key"))
    server = digests.hmac_sha256(salted, b"Server Key")
    return write_keys(Keys(iterations, salt, stored, server))


def write_keys(keys: Keys) -> bytes:
    """Give the text that read_keys() reads."""
    words = (keys.salt, keys.stored, keys.server)
    salt, stored, server = (b2a_base64(word, newline=False) for word in words)
    return b"%b$%d:%b$%b:%b" % (METHOD, keys.iterations, salt, stored, server)


def read_keys(text: bytes) -> Keys:
    """Read what make_keys() or write_keys() has made.

    Raises: ValueError.
    """
    method, _, rest = text.partition(b"$")
    cost, _, keys = rest.partition(b"$")
    iterations, _, salt = cost.partition(b":")
    stored, _, server = keys.partition(b":")
    if method != METHOD or not iterations.isdigit() or len(iterations) > 8:
        raise ValueError("not the keys of SCRAM-SHA-256")
    try:
        found = Keys(int(iterations), decode(salt), decode(stored), decode(server))
    except Malformed:
        raise ValueError("keys that are not base64") from None
    is_whole = len(found.stored) == len(found.server) == KEY_OCTETS
    if not found.salt or not is_whole or not 1 <= found.iterations <= MOST_ITERATIONS:
        raise ValueError("keys of the wrong length")
    return found


def invent_keys(secret: bytes, user: bytes, iterations: int) -> Keys:
    """Make keys for a stranger that nobody has a password for, always the same.

    secret: of the server, so that nobody outside can tell them from a salt at random.
    """
    salt = digests.hmac_sha256(secret, b"salt\0" + user)[:SALT_OCTETS]
    stored, server = (
        digests.hmac_sha256(secret, word + user) for word in (b"stored\0", b"server\0")
    )
    return Keys(iterations, salt, stored, server)


def is_nonce(text: bytes) -> bool:
    """Say whether these octets can be a nonce: printable, and no comma."""
    return bool(text) and not any(o < 33 or o > 126 or o == _COMMA for o in text)


def _nonce(field: bytes) -> bytes:
    if not field.startswith(b"r=") or not is_nonce(field[2:]):
        raise Malformed
    return field[2:]


def _skip_extensions(fields: list[bytes]) -> None:
    """Ignore fields behind those that we know, if they have the form of one.

    Raises: Malformed, for "m=" as well, which says that one must not be ignored.
    """
    for field in fields:
        letter, equals, value = field.partition(b"=")
        is_other = len(letter) == 1 and letter.isalpha() and letter not in _OWN_LETTERS
        if not is_other or not equals or not value or b"\0" in value:
            raise Malformed
