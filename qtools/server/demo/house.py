# SPDX-License-Identifier: ISC
"""The demo's folder: an account database, Maildirs, a certificate; all thrown away."""

import os
import posix
import pwd
import shutil
import tempfile

from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from qtools.errors import Hard, from_os_error
from qtools.server.demo import certificate, mail
from qtools.system import confine

EVERYBODYS = "/tmp"  # noqa: S108  # a fresh folder in it, with a name that was free


class Resident:
    """An account: its name, its password, what is in its Maildir.

    has_clear: the password is kept in the clear as well, so that APOP and CRAM-MD5
    work. count: of messages.
    """

    def __init__(
        self, user: str, password: str, count: int, *, has_clear: bool
    ) -> None:
        self.user = user
        self.password = password
        self.count = count
        self.has_clear = has_clear
        self.maildir = ""

    def fields(self) -> dict[str, object]:
        """Give what a test wants to know."""
        return {
            "user": self.user,
            "password": self.password,
            "apop": self.has_clear,
            "maildir": self.maildir,
            "messages": self.count,
        }


def residents() -> list[Resident]:
    """Give the accounts; the first is the one that examples use."""
    everything = len(mail.messages())
    return [
        Resident(
            "reader@example.org", "an easy demo password", everything, has_clear=True
        ),
        Resident("hashed@example.org", "correct horse", 2, has_clear=False),
        Resident("empty@example.org", "nothing to read", 0, has_clear=True),
    ]


class House:
    """The folder and who lives there."""

    def __init__(self) -> None:
        """Make the folder, with nothing in it so far.

        Raises: Hard, Temporary.
        """
        self.owner = _owner()
        try:
            self.folder = tempfile.mkdtemp(prefix="qtools-demo-", dir=_place())
            # Sessions run as another user; nobody can list what is here.
            os.chmod(self.folder, 0o711)  # noqa: S103  # that is what is meant
        except OSError as why:
            raise from_os_error(why, "make a folder") from why
        self.database = f"{self.folder}/accounts"
        self.residents: list[Resident] = []

    def furnish(self) -> None:
        """Make accounts and mail.

        Raises: Hard, Temporary.
        """
        create(os.fsencode(self.database))
        store = Store(os.fsencode(self.database))
        for resident in residents():
            home = f"{self.folder}/{resident.user.partition('@')[0]}"
            resident.maildir = f"{home}/Maildir"
            stored = mail.messages()[: resident.count]
            try:
                os.mkdir(home, 0o700)
                os.chown(home, *self.owner)
                mail.write_maildir(resident.maildir, self.owner, stored)
            except OSError as why:
                raise from_os_error(why, f"fill {resident.maildir}") from why
            user, secret = resident.user.encode(), resident.password.encode()
            with store:
                store.add(user, self.owner, os.fsencode(home), b"", make_domain=True)
                store.set_secret(user, secret, "", clear=resident.has_clear)
            self.residents.append(resident)
        store.close()

    def certificate(self) -> "tuple[str, str] | None":
        """Make a certificate; give its path and its key's, None when that can't be."""
        return certificate.make(self.folder)

    def remove(self) -> None:
        """Remove all of it; what can't be is the janitor's."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _owner() -> tuple[int, int]:
    """Give the uid and gid of all mail: our own, or nobody's when we are root.

    Raises: Hard.
    """
    if posix.getuid():
        return posix.getuid(), posix.getgid()
    try:
        entry = pwd.getpwnam(confine.USER)
    except KeyError:
        raise Hard(f"no such user: {confine.USER}") from None
    return entry.pw_uid, entry.pw_gid


def _place() -> str:
    """Give the folder to make ours in.

    Root's own may be closed to other users, and a blank would cut the word in two that
    names the database.
    """
    place = tempfile.gettempdir()
    return EVERYBODYS if not posix.getuid() or place.split() != [place] else place
