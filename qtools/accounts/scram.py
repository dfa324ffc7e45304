# SPDX-License-Identifier: ISC
"""The server's side of one SCRAM exchange, over sources that hold keys.

Whether a name is known shows nowhere before the end: a stranger gets a salt, too, and
always the same, and his proof is checked against keys that nobody has. The first source
that knows the account decides, as over a password: who is known to one without keys
is refused, whatever a later one has. Sources that can't tell are passed over.
See: RFC 5802 sections 3 and 5, RFC 5929 section 4 (tls-server-end-point).
"""

import posix
from binascii import b2a_base64

from qtools.accounts.interface import Unknown
from qtools.errors import Hard, Refused, Temporary
from qtools.protocol import digests, gs2, scram
from qtools.protocol.framing import Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeGuard

    from qtools.accounts.interface import Identity, KeyHolder, Source

METHODS = (b"Scram-Sha-256", b"Scram-Sha-256-Plus")  # words of popup's for POP3METHOD
NONCE_OCTETS = 18  # before base64, which then has no padding


class Exchange:
    """One exchange: first(), then final(), then identity().

    binding: the tls-server-end-point of the client's connection, empty where that is
    not known: what a client must be bound to when it says that it is. Whether its
    header fits the mechanism, and what was offered, Login has checked.
    """

    def __init__(self, sources: "Sequence[Source]", binding: bytes = b"") -> None:
        self._sources = sources
        self._binding = binding
        self._first: scram.First | None = None
        self._keys: scram.Keys | None = None
        self._holder: KeyHolder | None = None  # who knows the account and its keys
        self._is_known = False
        self._sent = b""
        self._who: Identity | None = None

    @property
    def user(self) -> bytes:
        """The name in the client's first message."""
        return self._first.user if self._first else b""

    def first(self, message: bytes) -> bytes:
        """Take the client-first-message, give the server-first-message.

        Raises: Refused when it can't be one, or is bound to what we don't know;
        Temporary, Hard.
        """
        try:
            first = scram.read_first(message)
        except Malformed:
            raise Refused("not the first message of SCRAM") from None
        if first.header.flag == gs2.BOUND and not self._binding:
            raise Refused("bound to a TLS connection that we don't know")
        self._first = first
        self._keys = self._find_keys(first.user)
        nonce = first.nonce + make_nonce()
        self._sent = scram.server_first(nonce, self._keys)
        self._nonce = nonce
        return self._sent

    def final(self, message: bytes) -> bytes:
        """Take the client-final-message, give the server-final-message.

        Raises: Unknown; Refused on anything else that is wrong; Expired; Temporary,
        Hard.
        """
        first, keys = self._first, self._keys
        if first is None or keys is None:
            raise Refused("the last message of SCRAM came first")
        try:
            final = scram.read_final(message)
        except Malformed:
            raise Refused("not the last message of SCRAM") from None
        self._first = None  # one answer to one challenge
        agreed = scram.agreed_on(first, self._sent, final)
        is_proved = scram.is_proof(keys, agreed, final.proof)
        is_bound = digests.equal(final.binding, self._expected(first.header))
        if not self._is_known:
            raise Unknown("unknown account")
        if self._holder is None:
            raise Refused("an account without keys")
        if not (is_proved and is_bound and final.nonce == self._nonce):
            raise Refused("wrong password, or messages that were changed")
        self._who = self._holder.identify(first.user)
        return scram.server_final(keys, agreed)

    def identity(self) -> "Identity":
        """Give who it is, after final().

        Raises: Refused when nothing has been proved.
        """
        if self._who is None:
            raise Refused("nothing has been proved")
        return self._who

    def _expected(self, header: gs2.Header) -> bytes:
        """Give what the client has to say about the channel it is on."""
        return header.text + (self._binding if header.flag == gs2.BOUND else b"")

    def _find_keys(self, user: bytes) -> scram.Keys:
        """Give the account's keys, or such as a stranger is shown.

        Raises: Hard when no source holds any; Temporary.
        """
        sources, self._sources = self._sources, ()
        first = next(filter(_has_keys, sources), None)
        if first is None:
            raise Hard("no account source has keys for SCRAM")
        # For everybody, as is reading them below: it takes its time.
        text = scram.write_keys(_invented(first, user))
        for source in sources:
            found = _keys_in(source, user)
            if found is None:
                continue
            self._is_known = True
            if found and _has_keys(source):
                self._holder, text = source, found
            break
        try:
            return scram.read_keys(text)
        except ValueError as why:
            raise Temporary(f"keys of {user!r}: {why}") from why


def _has_keys(source: "Source") -> "TypeGuard[KeyHolder]":
    return hasattr(source, "keys")


def _keys_in(source: "Source", user: bytes) -> bytes | None:
    """Give the keys that a source has for an account, which may be none.

    Gives None when it doesn't know the account, or can't tell.
    Raises: Temporary, Hard.
    """
    if not _has_keys(source):
        knows: Callable[[bytes], bool] | None = getattr(source, "knows", None)
        return b"" if knows is not None and knows(user) else None
    try:
        return source.keys(user)
    except Unknown:
        return None


def _invented(holder: "KeyHolder", user: bytes) -> scram.Keys:
    """Give keys that look as if the holder had made them for this user.

    Raises: Temporary, Hard.
    """
    name = holder.canonical(user)
    iterations = holder.iterations(name) or scram.ITERATIONS
    return scram.invent_keys(holder.salt_key(), name, iterations)


def make_nonce() -> bytes:
    """Make our half of a nonce, never the same again (RFC 5802 section 5.1)."""
    return b2a_base64(posix.urandom(NONCE_OCTETS), newline=False)
