# SPDX-License-Identifier: ISC
"""A source of keys that is open no longer than one question takes.

For a process that forks others which open the same source: SQLite must not be carried
over a fork, whose child would believe that it has the locks of its parent.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.interface import Identity, KeyHolder, Source
    from qtools.accounts.registry import Opener


class Momentary:
    """What SCRAM asks of a source; see accounts.interface.KeyHolder."""

    def __init__(self, opener: "Opener") -> None:
        self._opener = opener

    def _open(self) -> "KeyHolder":
        source = self._opener()
        assert hasattr(source, "keys")  # noqa: S101  # see of()
        return source  # type: ignore[return-value]  # it has them

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> "Identity":
        """Check a secret."""
        return self._open().verify(user, secret, challenge)

    def decoy(self) -> bytes:
        """Give a hash for strangers."""
        return self._open().decoy()

    def keys(self, user: bytes) -> bytes:
        """Give a user's keys."""
        return self._open().keys(user)

    def identify(self, user: bytes) -> "Identity":
        """Say who it is whose key has been proved."""
        return self._open().identify(user)

    def salt_key(self) -> bytes:
        """Give the secret from which salts are made."""
        return self._open().salt_key()

    def iterations(self, name: bytes) -> int:
        """Give how often a stranger's keys are hashed."""
        return self._open().iterations(name)

    def canonical(self, user: bytes) -> bytes:
        """Give the one name of an account."""
        return self._open().canonical(user)


def of(openers: "list[Opener]") -> "list[Source]":
    """Give the sources, those that hold keys no longer open than they are asked.

    Raises: Hard, Temporary.
    """
    return [_momentary(opener) for opener in openers]


def _momentary(opener: "Opener") -> "Source":
    source = opener()
    return Momentary(opener) if hasattr(source, "keys") else source
