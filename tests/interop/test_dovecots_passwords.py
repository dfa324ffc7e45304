# SPDX-License-Identifier: ISC
"""Passwords in Dovecot's forms: what doveadm has made lets in, and ours do there.

doveadm is run from its package, which is unpacked and not installed.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qtools.accounts.db.exchange import export_accounts, import_accounts
from qtools.accounts.db.files import create
from qtools.accounts.db.reader import Database
from qtools.accounts.db.store import Store
from qtools.errors import Refused
from qtools.protocol import scram
from tests.support import foreign

pytestmark = pytest.mark.slow

SECRET = b"correct h\xc3\xb6rse: {battery}"

Doveadm = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def doveadm() -> Doveadm:
    program = foreign("dovecot-core", "usr/bin/doveadm")
    folder = Path(program).parents[2]
    environment = {"LD_LIBRARY_PATH": str(folder / "usr/lib/dovecot")}

    def run(*words: bytes) -> subprocess.CompletedProcess[bytes]:
        argv = [os.fsencode(program), b"-O", b"pw", *words, b"-p", SECRET]
        return subprocess.run(argv, env=environment, capture_output=True, check=False)

    return run


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    made = bytes(tmp_path / "accounts")
    create(made)
    return made


@pytest.fixture
def store(path: bytes) -> Iterator[Store]:
    made = Store(path)
    yield made
    made.close()


def made_by(doveadm: Doveadm, scheme: bytes) -> bytes:
    done = doveadm(b"-s", scheme)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(b"\n")


@pytest.mark.parametrize(
    "scheme",
    [
        *(b"CRYPT", b"MD5-CRYPT", b"MD5", b"SHA256-CRYPT", b"SHA512-CRYPT"),
        *(b"BLF-CRYPT", b"PLAIN.b64", b"CLEARTEXT.hex", b"SHA512-CRYPT.b64"),
    ],
)
def test_what_doveadm_has_made_lets_in(
    doveadm: Doveadm, store: Store, path: bytes, scheme: bytes
) -> None:
    line = b"joe:" + made_by(doveadm, scheme) + b":7:8::/home/joe::"
    report = import_accounts(store, "passwd-file", [line])
    assert report.faults == []
    who = Database(path).verify(b"joe", SECRET, b"")
    assert (who.uid, who.gid, who.home) == (7, 8, b"/home/joe")
    with pytest.raises(Refused):
        Database(path).verify(b"joe", SECRET + b"x", b"")


def test_keys_that_doveadm_has_made_are_ours(
    doveadm: Doveadm, store: Store, path: bytes
) -> None:
    line = b"joe:" + made_by(doveadm, b"SCRAM-SHA-256")
    assert import_accounts(store, "passwd-file", [line]).faults == []
    text = Database(path).keys(b"joe")
    keys = scram.read_keys(text)
    assert scram.make_keys(SECRET, keys.salt, keys.iterations) == text


@pytest.mark.parametrize(
    "scheme",
    [
        *(b"SSHA", b"SSHA256", b"SSHA512", b"SHA", b"SHA512", b"SMD5", b"PLAIN-MD5"),
        *(b"LDAP-MD5", b"CRAM-MD5", b"PBKDF2", b"SCRAM-SHA-1"),
    ],
)
def test_what_can_not_be_checked_is_not_taken(
    doveadm: Doveadm, store: Store, scheme: bytes
) -> None:
    line = b"joe:" + made_by(doveadm, scheme)
    ((number, why),) = import_accounts(store, "passwd-file", [line]).faults
    assert (number, why) == (1, "a password of a scheme that can't be imported")


@pytest.mark.parametrize("kind", ["clear", "hash", "scram-sha-256"])
@pytest.mark.parametrize("method", ["", "sha512", "bcrypt"])
def test_what_we_export_lets_in_at_dovecots(
    doveadm: Doveadm, store: Store, kind: str, method: str
) -> None:
    with store:
        store.add(b"joe", None, b"/", b"")
        store.set_secret(b"joe", SECRET, method, clear=True)
        made = store.credentials(b"joe")
        store.set_credentials(b"joe", {kind: made[kind]})
    (line,) = export_accounts(store, "passwd-file")
    password = line.split(b":")[1]
    done = doveadm(b"-t", password)
    assert done.stdout == password + b" (verified)\n", done.stderr
