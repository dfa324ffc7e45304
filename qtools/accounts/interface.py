# SPDX-License-Identifier: ISC
"""What a source of accounts offers: verify a record and say who that is.

A source runs in a short-lived verifier process, never in the process that becomes the
user, so that no other user's hash is ever in that one's memory.
"""

from qtools.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Source(Protocol):
        """One place where accounts are kept."""

        def verify(self, user: bytes, secret: bytes, challenge: bytes) -> "Identity":
            """Check a secret, or a digest over the challenge, and say who it is.

            Takes the three fields of the fd-3 record; challenge is the APOP or
            CRAM-MD5 challenge with its angle brackets, or empty.
            Raises: Unknown; Refused (wrong secret, disabled), having spent what a
            good secret costs; Expired; Temporary, Hard.
            """

        def decoy(self) -> bytes:
            """Give a hash against which the secret of an unknown user is checked.

            It makes strangers cost what users cost; empty where checks cost nothing.
            """

    class Knower(Source, Protocol):
        """A source without keys for SCRAM that can tell whom it would decide about."""

        def knows(self, user: bytes) -> bool:
            """Tell whether verify() would not say that this account is unknown.

            Raises: Temporary, Hard.
            """

    class KeyHolder(Source, Protocol):
        """A source whose accounts may have keys for SCRAM, too."""

        def keys(self, user: bytes) -> bytes:
            """Give `SCRAM-SHA-256$iterations:salt$stored:server`, or nothing.

            Salt and keys are in base64 (the form of RFC 5803 without blanks).
            Raises: Unknown; Temporary, Hard.
            """

        def identify(self, user: bytes) -> "Identity":
            """Say who it is whose key has been proved.

            Raises: Unknown; Refused when disabled; Temporary, Hard.
            """

        def salt_key(self) -> bytes:
            """Give the secret from which salts for strangers are made, always the same.

            Raises: Temporary, Hard.
            """

        def iterations(self, name: bytes) -> int:
            """Give how often the keys of a stranger are hashed; 0 is for the usual.

            As often as those of an account, always the same, and none that is in use
            left out: it is shown to whoever asks. Takes a canonical name.
            Raises: Temporary, Hard.
            """

        def canonical(self, user: bytes) -> bytes:
            """Give the one name of all that would lead to the same account.

            There need be no such account: a stranger has one salt, however he writes
            his name.
            Raises: Temporary, Hard.
            """

    class Changer(Protocol):
        """Changes one password: authenticate(), then change(), then end()."""

        def authenticate(self, user: bytes, secret: bytes, challenge: bytes) -> None:
            """Check the old secret, or a digest over the challenge.

            One that has to be changed because it is too old is good for that.
            Raises: Refused, Temporary, Hard.
            """

        def change(self, new: bytes) -> None:
            """Store the new secret, durably, of the user authenticated before.

            Raises: Refused, its text fit for the client; Temporary, Hard.
            """

        def end(self) -> None:
            """Let go of what is held; may be called at any time."""


LARGEST_ID = 2**32 - 2  # of uid and gid; the last number means "leave as is"


class Unknown(Refused):
    """No such account in this source; another one may have it."""


class Identity:
    """Who an accepted user is to the system.

    name: the account's own name, for USER; empty for "leave the environment". uid,
    gid: numbers, or -1 each for "leave ids as they are". groups: supplementary groups;
    the primary one alone by default. home: directory to enter, or empty for "stay".
    shell: for SHELL, or empty. maildir: for MAILDIR, or empty for "not set".
    ending: to be called when the session has ended, in the process that verified and
    in no other; None when there is nothing to end.
    """

    __slots__ = ("ending", "gid", "groups", "home", "maildir", "name", "shell", "uid")

    def __init__(  # noqa: PLR0913  # an identity is what its fields say
        self,
        name: bytes,
        uid: int = -1,
        gid: int = -1,
        *,
        home: bytes = b"",
        shell: bytes = b"",
        maildir: bytes = b"",
    ) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = [gid] if gid >= 0 else []
        self.home = home
        self.shell = shell
        self.maildir = maildir
        self.ending: Callable[[], None] | None = None


def home_of(maildir: bytes) -> bytes:
    """Give the directory to enter for an account that only has a maildir."""
    head, slash, _ = maildir.rstrip(b"/").rpartition(b"/")
    return head or slash
