# SPDX-License-Identifier: ISC
"""The system's own users: getpwnam, the shadow file and crypt(3).

As checkpassword, and beyond it: what the shadow entry says about age is respected,
because without PAM nobody else would; a lookup that failed is not a stranger; a locked
account costs what an open one costs. A POP3 client can't change a password, so one
that has to be changed is refused. See: shadow(5).
"""

import posix
import sys
from pwd import getpwnam
from time import time

from qtools.accounts import hashes
from qtools.accounts.interface import Identity, Unknown
from qtools.errors import Expired, Hard, Refused, Temporary
from qtools.system.ffi.shadow import Entry, Tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd

DAY_SECONDS = 86400
SHADOW = b"/etc/shadow"
TAIL_OCTETS = 4096


def prepare() -> None:
    """Load libraries.

    Raises: Hard when libc hasn't got what we need.
    """
    hashes.prepare()
    _tables()


def open_source(where: bytes) -> "System":
    """Open system.

    Raises: Hard, because it takes no WHERE.
    """
    if where:
        raise Hard("the account source system takes no file")
    return System()


class System:
    """The system's users."""

    def __init__(self) -> None:
        self._tables = _tables()

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """Check a password and say who it is; see the interface.

        There is no clear secret, so that a digest is just a wrong password.
        """
        del challenge
        known, stored, entry = self._find(user)
        if not hashes.matches(secret, stored):
            if not hashes.is_usable(stored):
                hashes.burn(secret, self.decoy())
            raise Refused("wrong password, or locked")
        if entry is not None:
            check_age(entry, int(time()) // DAY_SECONDS)
        return Identity(
            _encode(known.pw_name),
            known.pw_uid,
            known.pw_gid,
            home=_encode(known.pw_dir),
            shell=_encode(known.pw_shell),
        )

    def _find(self, user: bytes) -> "tuple[struct_passwd, bytes, Entry | None]":
        """Give a user's entry, the stored hash and the shadow entry, if any.

        Raises: Unknown, Temporary.
        """
        known = self._look_up(user)
        entry = self._tables.shadow(_encode(known.pw_name))
        stored = _encode(known.pw_passwd) if entry is None else entry.hash
        if not hashes.is_usable(stored) and posix.geteuid() != 0:
            # libc hides entries from us, some NSS modules even behind a made-up
            # hash: we can't know whether the account is locked.
            raise Temporary("not root: unable to read the shadow entry")
        return known, stored, entry

    def knows(self, user: bytes) -> bool:
        """Tell whether the system has such a user, locked or not; see the interface."""
        try:
            self._look_up(user)
        except Unknown:
            return False
        return True

    def _look_up(self, user: bytes) -> "struct_passwd":
        """Give a user's entry.

        Raises: Unknown, Temporary.
        """
        try:
            return getpwnam(user.decode(sys.getfilesystemencoding(), _KEEP))
        except KeyError as why:
            self._tables.check_user_lookup(user)
            raise Unknown("no such user") from why
        except ValueError as why:
            raise Unknown("no such user") from why

    def decoy(self) -> bytes:
        """Give a hash of the method that most of the newest users have.

        The end of the shadow file is enough: users are added there. Without a usable
        one, the system's best method.
        """
        return commonest(_tail(SHADOW)) or hashes.new_setting()


_bound: list[Tables] = []


def _tables() -> Tables:
    if not _bound:
        _bound.append(Tables())
    return _bound[0]


_KEEP = "surrogateescape"


def check_age(entry: Entry, today: int) -> None:
    """Refuse an account or password that is too old.

    Takes today in days since 1970.
    Raises: Refused.
    """
    if 0 <= entry.expiry <= today:
        raise Refused("the account has expired")
    if entry.change == 0:
        raise Expired("the password has to be changed first")
    if entry.change > 0 and entry.most >= 0 and entry.change + entry.most < today:
        is_closed = 0 <= entry.grace < today - entry.change - entry.most
        if is_closed:
            raise Refused("the account is closed")
        raise Expired("the password expired")


def _tail(path: bytes) -> bytes:
    """Give the whole lines at the end of a file, or nothing."""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        start = max(posix.fstat(descriptor).st_size - TAIL_OCTETS, 0)
        data = posix.pread(descriptor, TAIL_OCTETS, start)
    except OSError:
        return b""
    finally:
        posix.close(descriptor)
    return data.partition(b"\n")[2] if start else data


def commonest(lines: bytes) -> bytes:
    """Give a hash of the commonest method in shadow lines, empty without any."""
    second = [line.split(b":", 2)[1:2] for line in lines.split(b"\n")]
    usable = [field[0] for field in second if field and hashes.is_usable(field[0])]
    methods = [hashes.method_of(stored) for stored in usable]
    counts = [methods.count(method) for method in methods]
    return usable[counts.index(max(counts))] if usable else b""


def _encode(text: str) -> bytes:
    return text.encode(sys.getfilesystemencoding(), _KEEP)
