# SPDX-License-Identifier: ISC
"""The privileged side of PWD against a dialogue that somebody has taken over."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtools.accounts import registry
from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from qtools.chain.pwd import PwdDesk, Terms
from qtools.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY
from qtools.protocol import digests
from qtools.sessions.pwd import CHANGE, EXECUTE, LOGIN, SCRAM_FINAL, SCRAM_FIRST
from qtools.system.pwdlog import PwdLog

STAMP = b"<1.2@h>"
SECRET = b"secret"
KINDS = (LOGIN, SCRAM_FIRST, SCRAM_FINAL, EXECUTE, CHANGE)


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    made = os.fsencode(tmp_path / "accounts")
    create(made)
    with Store(made) as store:
        store.set_option("method", b"md5")
        for user in (b"joe", b"ann", b"boss"):
            store.add(user, None, b"/home", b"")
            store.set_secret(user, SECRET, clear=True)
        store.set_rights(b"boss", ["Master"])
        store.set_aliases(b"joe", ["alias"])
    return made


def desk_of(path: bytes, attempts: int = 3) -> PwdDesk:
    (source,) = registry.load([f"db:{os.fsdecode(path)}"])
    terms = Terms(
        sources=[source],
        database=source,
        path=path,
        stamp=STAMP,
        attempts=attempts,
        fail_seconds=0,
    )
    return PwdDesk(terms, PwdLog(-1, None, b""))


def log_in(desk: PwdDesk, user: bytes = b"joe", method: bytes = b"User") -> int:
    return desk.do(LOGIN, (method, user, SECRET))[0]


def test_nothing_is_done_for_nobody(path: bytes) -> None:
    desk = desk_of(path)
    assert desk.do(EXECUTE, (b"ListDomains",)) == (EXIT_TEMPORARY, b"")
    assert desk.do(CHANGE, (b"new",)) == (EXIT_REFUSED, b"")
    assert desk.do(SCRAM_FINAL, (b"c=biws,r=x,p=eA==",)) == (EXIT_REFUSED, b"")
    assert desk.user == b""


def test_there_are_no_more_attempts_than_a_client_has(path: bytes) -> None:
    desk = desk_of(path, attempts=2)
    for secret in (b"one", b"two"):
        code = desk.do(LOGIN, (b"User", b"joe", secret))[0]
        assert code == EXIT_REFUSED
    assert log_in(desk) == EXIT_REFUSED
    desk = desk_of(path, attempts=2)
    for _ in range(2):
        first = desk.do(SCRAM_FIRST, (b"Scram-Sha-256", b"n,,n=joe,r=x"))
        assert first[0] == EXIT_DONE
    assert log_in(desk) == EXIT_REFUSED


def test_who_has_logged_in_stays_who_he_is(path: bytes) -> None:
    desk = desk_of(path)
    assert log_in(desk, b"alias") == EXIT_DONE
    assert desk.user == b"joe"
    assert log_in(desk, b"boss") == EXIT_REFUSED
    assert desk.do(SCRAM_FIRST, (b"Scram-Sha-256", b"n,,n=boss,r=x"))[0] == EXIT_REFUSED
    code, answer = desk.do(EXECUTE, (b"SetAccountPassword ann TO x",))
    assert (code, answer[:4]) == (EXIT_DONE, b"510 ")
    assert desk.do(EXECUTE, (b"GetAccount ann",))[1][:4] == b"510 "
    assert desk.do(CHANGE, (b"new",)) == (EXIT_DONE, b"")
    secrets = [Store(path).credentials(user)["clear"] for user in (b"joe", b"ann")]
    assert secrets == [b"new", SECRET]
    desk.end()


def test_a_digest_counts_over_this_challenge_and_no_other(path: bytes) -> None:
    for method, digest in (
        (b"Apop", digests.apop(b"<other@h>", SECRET)),
        (b"Cram-Md5", digests.cram_md5(b"<other@h>", SECRET)),
        (b"User", digests.apop(STAMP, SECRET)),
        (b"Plain", digests.cram_md5(STAMP, SECRET)),
        (b"Other", SECRET),
        (b"", SECRET),
        (b"Scram-Sha-256", SECRET),
    ):
        assert desk_of(path).do(LOGIN, (method, b"joe", digest))[0] == EXIT_REFUSED
    desk = desk_of(path)
    assert desk.do(LOGIN, (b"Apop", b"joe", digests.apop(STAMP, SECRET)))[0] == 0


def test_being_bound_to_a_channel_that_is_not_there_is_refused(path: bytes) -> None:
    first = b"p=tls-server-end-point,,n=joe,r=x"
    answer = desk_of(path).do(SCRAM_FIRST, (b"Scram-Sha-256-Plus", first))
    assert answer == (EXIT_REFUSED, b"")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    kind=st.integers(0, 255),
    fields=st.lists(st.binary(max_size=60), max_size=4).map(tuple),
    is_in=st.booleans(),
)
def test_whatever_is_asked_nobody_else_is_changed(
    *, path: bytes, kind: int, fields: tuple[bytes, ...], is_in: bool
) -> None:
    before = [Store(path).credentials(user) for user in (b"ann", b"boss")]
    desk = desk_of(path)
    if is_in:
        assert log_in(desk, b"joe") in (EXIT_DONE, EXIT_REFUSED)
    code, answer = desk.do(kind, fields)
    desk.settle()
    desk.note(b"Line", b"C", b"x", 0)
    desk.end()
    assert code in (EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY)
    assert b"\n" not in answer
    assert desk.user in (b"", b"joe")
    assert [Store(path).credentials(user) for user in (b"ann", b"boss")] == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_number_of_fields_is_nothing(path: bytes, kind: int) -> None:
    for count in range(6):
        code, answer = desk_of(path).do(kind, (b"x",) * count)
        assert (code, answer) in ((EXIT_TEMPORARY, b""), (EXIT_REFUSED, b""))
