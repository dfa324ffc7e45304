# SPDX-License-Identifier: ISC
"""What a source of accounts offers: verify a record and say who that is.

A source runs in a short-lived verifier process, never in the process that becomes the
user, so that no other user's hash is ever in that one's memory.
"""

from qtools.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Source(Protocol):
        """One place where accounts are kept."""

        def verify(self, user: bytes, secret: bytes, challenge: bytes) -> "Identity":
            """Check a secret, or a digest over the challenge, and say who it is.

            Takes the three fields of the fd-3 record; challenge is the APOP or
            CRAM-MD5 challenge with its angle brackets, or empty.
            Raises: Unknown; Refused (wrong or expired secret, disabled), having
            spent what a good secret costs; Temporary, Hard.
            """

        def decoy(self) -> bytes:
            """Give a hash against which the secret of an unknown user is checked.

            It makes strangers cost what users cost; empty where checks cost nothing.
            """


LARGEST_ID = 2**32 - 2  # of uid and gid; the last number means "leave as is"


class Unknown(Refused):
    """No such account in this source; another one may have it."""


class Identity:
    """Who an accepted user is to the system.

    name: the account's own name, for USER; empty for "leave the environment". uid,
    gid: numbers, or -1 each for "leave ids as they are". groups: supplementary groups;
    the primary one alone by default. home: directory to enter, or empty for "stay".
    shell: for SHELL, or empty. maildir: for MAILDIR, or empty for "not set".
    """

    __slots__ = ("gid", "groups", "home", "maildir", "name", "shell", "uid")

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


def home_of(maildir: bytes) -> bytes:
    """Give the directory to enter for an account that only has a maildir."""
    head, slash, _ = maildir.rstrip(b"/").rpartition(b"/")
    return head or slash
