# SPDX-License-Identifier: ISC
"""Dovecot's passwd-file: `user:{SCHEME}password:uid:gid:gecos:home:shell:extra`.

Of the extra fields `userdb_mail=maildir:PATH` is where mail is, and `nologin` means
that nobody logs in; others belong to Dovecot. See: Dovecot's manual, "Passwd-file" and
"Password Schemes".
"""

from binascii import Error, a2b_base64, b2a_base64, unhexlify

from qtools.accounts.db.exchange.entry import PREFIXES, Entry, check_fields
from qtools.accounts.db.secrets import CLEAR, HASH, SCRAM
from qtools.accounts.refusals import Unfit
from qtools.protocol import scram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLEAR_SCHEMES = (b"PLAIN", b"CLEAR", b"CLEARTEXT")
HASH_SCHEMES = (b"CRYPT", b"DES-CRYPT", *PREFIXES)
SCRAM_SCHEME = b"SCRAM-SHA-256"
MAIL = b"userdb_mail=maildir:"
FIELDS = 8


def read(lines: "Iterable[bytes]") -> "Iterator[tuple[int, Entry | Unfit]]":
    """Give line numbers and what stands there."""
    for number, line in enumerate(lines, 1):
        text = line.rstrip(b"\r\n")
        if not text.strip() or text.startswith(b"#"):
            continue
        try:
            yield number, _entry(text)
        except Unfit as why:
            yield number, why


def _entry(line: bytes) -> Entry:
    """Make an account of a line.

    Raises: Unfit.
    """
    fields = line.split(b":", FIELDS - 1)
    if len(fields) < 2:
        raise Unfit("not user:password and so on, between colons")
    user, password, uid, gid, _, home, _, extra = fields + [b""] * (
        FIELDS - len(fields)
    )
    entry = Entry(user)
    set_password(entry, password)
    entry.set_ids(uid, gid)
    entry.home = home
    for word in extra.split(b" "):
        if word.startswith(MAIL):
            entry.maildir = word.removeprefix(MAIL)
        if word.partition(b"=")[0] == b"nologin":
            entry.is_enabled = False
    return entry


def set_password(entry: Entry, password: bytes) -> None:
    """Take a password in Dovecot's form, {SCHEME} or {SCHEME.encoding} in front.

    Raises: Unfit.
    """
    scheme, encoding, value = b"CRYPT", b"", password
    if password.startswith(b"{"):
        name, brace, value = password[1:].partition(b"}")
        if not brace:
            raise Unfit("a password without the end of its scheme")
        scheme, _, encoding = name.upper().partition(b".")
    value = _decoded(value, encoding)
    if scheme in CLEAR_SCHEMES:
        entry.set_clear(value)
    elif scheme in HASH_SCHEMES:
        entry.set_hash(value, scheme)
    elif scheme == SCRAM_SCHEME:
        entry.set_keys(_keys(value))
    else:
        raise Unfit("a password of a scheme that can't be imported")


def _decoded(value: bytes, encoding: bytes) -> bytes:
    """Give a password without its encoding.

    Raises: Unfit.
    """
    try:
        if encoding in (b"B64", b"BASE64"):
            return a2b_base64(value, strict_mode=True)
        if encoding == b"HEX":
            return unhexlify(value)
    except (Error, ValueError) as why:
        raise Unfit("a password that is not encoded as it says") from why
    if encoding:
        raise Unfit("a password in an encoding that there is none of")
    return value


def _keys(value: bytes) -> bytes:
    """Turn `iterations,salt,stored,server` into our form; set_keys() looks at it.

    Raises: Unfit.
    """
    words = value.split(b",")
    if len(words) != 4:
        raise Unfit("these are no keys for SCRAM-SHA-256")
    return scram.METHOD + b"$%b:%b$%b:%b" % tuple(words)


def write(entry: Entry) -> "Iterator[bytes]":
    """Give the line of an account.

    A clear password says more than a hash, and a hash more than keys.
    Raises: Unfit.
    """
    extra = [b"nologin"] if not entry.is_enabled else []
    if entry.maildir:
        check_fields(entry, entry.maildir, barred=b" :\t\r\n\0")
        extra.append(MAIL + entry.maildir)
    ids = [b"%d" % number for number in entry.ids] if entry.ids else [b"", b""]
    fields = [entry.user, _password(entry), *ids, b"", entry.home, b""]
    check_fields(entry, *fields)
    if entry.user.startswith(b"#"):
        check_fields(entry, entry.user, barred=b"#")
    yield b":".join([*fields, b" ".join(extra)]) + b"\n"


def _password(entry: Entry) -> bytes:
    made = entry.made
    if CLEAR in made:
        return b"{PLAIN.b64}" + b2a_base64(made[CLEAR], newline=False)
    if HASH in made:
        return b"{CRYPT}" + made[HASH]
    if SCRAM in made:
        words = made[SCRAM].removeprefix(scram.METHOD + b"$")
        cost, _, keys = words.partition(b"$")
        parts = [*cost.split(b":"), *keys.split(b":")]
        # base64, for a colon would end the field; there is none in it either way
        return b"{SCRAM-SHA-256}" + b",".join(parts)
    return b"!"
