# SPDX-License-Identifier: ISC
"""Accounts in a file of s/qmail's qmail-authuser.

A line is `key:value`; the last line of a key counts, letters of either case are the
same, blanks at the end are cut, lines without a colon and those that begin with `#`
are skipped. The user's own line comes first, then `@domain`, `@` and `*`; a line
`!user:` or `!@domain:` bars. Values:

    ?  !            a system user: check the password only; become the user, too
    +  &  =         ask checkvpw, vchkpw, doveadm (see foreign)
    %HEX            MD5, SHA-1 or SHA-256 of the password
    $id$... or {CRYPT}hash    a salted hash, which qmail-authuser has not got
    anything else   the clear password, good for APOP and CRAM-MD5, too

One more kind of line makes an account usable for POP3. qmail-authuser takes it for a
comment, so it can't be mistaken for a password:

    #:key:uid=1000 gid=1000 home=/home/joe maildir=/home/joe/Maildir

Its key is looked up like the others; %u and %d in a path stand for the user's part
before and after the last @, in lower case, and %% for a percent sign. One account has
one place, however its name is typed. Names that begin with !, @, * or # are nobody's,
and a value that is empty lets nobody in.
"""

import posix

from qtools.accounts import foreign, hashes, interface
from qtools.accounts.interface import Identity, Unknown
from qtools.errors import Hard, Misuse, Refused, from_os_error
from qtools.protocol import digests

SYSTEM = (b"?", b"!")
CRYPT_PREFIX = b"{CRYPT}"
HASH_MARKS = (b":$", b":" + CRYPT_PREFIX)  # where a hash may begin
PLACE_PREFIX = b"#:"

READ_OCTETS = 1 << 20

CATCH_ALL = (b"@", b"*")


def prepare() -> None:
    """Load the library for salted hashes, if there is one."""
    hashes.prepare()


def open_source(where: bytes) -> "AuthUser":
    """Open authuser:FILE.

    Raises: Hard when the name isn't absolute or the file can't be read.
    """
    if not where.startswith(b"/"):
        raise Hard("authuser: needs an absolute file name, authuser:/path/to/file")
    return AuthUser(_read(where))


class AuthUser:
    """The file's content."""

    def __init__(self, data: bytes) -> None:
        # a line end on both sides of each line, for the searches
        self._lines = b"\n" + data + b"\n"
        self._folded = self._lines.lower()

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """Check a secret or digest and say who it is; see the interface."""
        user = _one_domain(user)
        keys = keys_of(user)
        if self._is_barred(keys):
            hashes.burn(secret, self.decoy())
            raise Refused("account is barred")
        value = self._first(b"", keys)
        if value is None:
            raise Unknown("unknown account")
        who = self._check(value, user, secret, challenge)
        place = self._first(PLACE_PREFIX, keys)
        return who if place is None else placed(who, place, user.lower())

    def decoy(self) -> bytes:
        """Give the last salted hash of the file; see the interface.

        Without one, what the system's users cost if any line leads to them.
        """
        end = len(self._lines)
        while (mark := max(self._lines.rfind(m, 0, end) for m in HASH_MARKS)) > 0:
            end = self._lines.rfind(b"\n", 0, mark) + 1
            line = self._lines[end : self._lines.find(b"\n", end)]
            stored = hash_of(_cut(line.partition(b":")[2]))
            if stored and not line.startswith(b"#"):
                return stored
        if any(b":" + value + b"\n" in self._lines for value in SYSTEM):
            from qtools.accounts.system import System

            return System().decoy()
        return b""

    def knows(self, user: bytes) -> bool:
        """Tell whether a line is about this user, or one that bars; see the interface.

        Who a line says is another's, the system's say, is known here.
        """
        try:
            keys = keys_of(_one_domain(user))
        except Unknown:
            return False
        return self._is_barred(keys) or self._first(b"", keys) is not None

    def _is_barred(self, keys: list[bytes]) -> bool:
        own = keys[: -len(CATCH_ALL)]
        return any(self.value(b"!" + key) is not None for key in own)

    def value(self, key: bytes) -> bytes | None:
        """Give the value of the last line with this key, None without one."""
        mark = b"\n" + key.lower() + b":"
        start = self._folded.rfind(mark)
        if start < 0:
            return None
        start += len(mark)
        return _cut(self._lines[start : self._lines.find(b"\n", start)])

    def _first(self, prefix: bytes, keys: list[bytes]) -> bytes | None:
        """Give the value of the first of these keys that is in the file."""
        found = (self.value(prefix + key) for key in keys)
        return next((value for value in found if value is not None), None)

    def _check(
        self, value: bytes, user: bytes, secret: bytes, challenge: bytes
    ) -> Identity:
        """Check a secret against a value.

        Raises: Refused, Misuse for a value without meaning, Temporary, Hard.
        """
        if value in SYSTEM:
            return _check_system(value, user, secret)
        if value in foreign.PROGRAMS:
            foreign.check(value, user, secret, challenge)
            return Identity(b"")
        if len(value) == 1:
            raise Misuse("the account's line has a value of no meaning")
        stored = hash_of(value)
        if stored:
            is_good = hashes.matches(secret, stored)
        else:
            is_good = is_plain_good(value, secret, challenge)
            # where anybody's check costs something, everybody's does
            hashes.burn(secret, self.decoy())
        if not is_good:
            raise Refused("wrong secret")
        return Identity(b"")


def _one_domain(user: bytes) -> bytes:
    """Give a name with its domain in lower case."""
    local, at, domain = user.rpartition(b"@")
    return local + at + domain.lower() if at else user


def keys_of(user: bytes) -> list[bytes]:
    """Give the keys under which a user is looked up, in order.

    Raises: Unknown for a name that could be taken for another kind of line.
    """
    if user[:1] in (b"!", b"@", b"*", b"#") or b":" in user or b"\n" in user:
        raise Unknown("no user can have such a name")
    domain = user.rpartition(b"@")
    return [user, *((b"@" + domain[2],) if domain[1] else ()), *CATCH_ALL]


def hash_of(value: bytes) -> bytes:
    """Give the salted hash in a value, empty when it is of another kind.

    A value that looks like one is never a clear password: or what is pasted into the
    file could be typed as the password.
    """
    if value.startswith(CRYPT_PREFIX):
        return value[len(CRYPT_PREFIX) :] or b"*"
    return value if hashes.is_modern(value) else b""


def is_plain_good(value: bytes, secret: bytes, challenge: bytes) -> bool:
    """Check against a clear password or an unsalted digest; an empty value is none."""
    if value.startswith(b"%"):
        digest = digests.hexadecimal(secret, len(value) - 1)
        return digest is not None and digests.equal(digest, value[1:].lower())
    is_same = digests.equal(value, secret)
    return bool(value) and (is_same or digests.answers(secret, challenge, value))


def placed(who: Identity, place: bytes, user: bytes) -> Identity:
    """Add to an identity what the account's `#:` line says.

    Takes the user in lower case, as keys are: one account, one place and one USER.
    Raises: Hard when that line makes no sense.
    """
    uid, gid = who.uid, who.gid
    paths = {b"home": who.home, b"maildir": who.maildir}
    for word in place.split():
        name, _, text = word.partition(b"=")
        if name in paths:
            paths[name] = _expand(text, user)
        elif name == b"uid":
            uid = _number(text)
        elif name == b"gid":
            gid = _number(text)
        else:
            raise Hard("a #: line has a word other than uid= gid= home= maildir=")
    if (uid < 0) != (gid < 0):
        raise Hard("a #: line has only one of uid= and gid=")
    home = paths[b"home"] or interface.home_of(paths[b"maildir"])
    return Identity(
        who.name or user,
        uid,
        gid,
        home=home,
        shell=who.shell,
        maildir=paths[b"maildir"],
    )


def _number(text: bytes) -> int:
    if not text.isdigit() or int(text) > interface.LARGEST_ID:
        raise Hard("a #: line has a uid= or gid= that isn't a number")
    return int(text)


def _expand(text: bytes, user: bytes) -> bytes:
    """Put the parts of a name into a path.

    Raises: Refused when the name would lead out of its place, Hard.
    """
    local, at, domain = user.rpartition(b"@")
    parts = {b"u": local if at else user, b"d": domain if at else b"", b"%": b"%"}
    path, *pieces = text.replace(b"%%", b"%\0").split(b"%")
    for piece in pieces:
        sign = piece[:1].replace(b"\0", b"%")
        if sign not in parts:
            raise Hard("a #: line has a % other than %u %d %%")
        part = parts[sign]
        if sign != b"%" and (b"/" in part or part[:1] in (b"", b".")):
            raise Refused("the name can't be part of a path")
        path += part + piece[1:]
    return path


def _check_system(value: bytes, user: bytes, secret: bytes) -> Identity:
    """Check a system user's password; see the interface."""
    from qtools.accounts.system import System

    local, at, _ = user.rpartition(b"@")
    system = System()
    try:
        who = system.verify(local if at else user, secret, b"")
    except Unknown as why:
        # the line says that this account is ours: no other source may have it
        hashes.burn(secret, system.decoy())
        raise Refused("unknown system user") from why
    return who if value == b"!" else Identity(b"")


def _cut(value: bytes) -> bytes:
    """Cut a value at its first NUL, and the blanks at its end."""
    return value.partition(b"\0")[0].rstrip(b" \t")


def _read(path: bytes) -> bytes:
    """Read a file that holds secrets.

    Raises: Hard, Temporary.
    """
    name = path.decode("utf-8", "backslashreplace")
    parts = []
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            while part := posix.read(descriptor, READ_OCTETS):
                parts.append(part)
        finally:
            posix.close(descriptor)
    except OSError as why:
        raise from_os_error(why, f"read {name}") from why
    return b"".join(parts)
