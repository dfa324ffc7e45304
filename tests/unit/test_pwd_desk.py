# SPDX-License-Identifier: ISC
"""The privileged side of PWD against a dialogue that somebody has taken over."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtools.accounts import hashes, registry
from qtools.accounts.cli.member import CHANGED
from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from qtools.chain.change.pwd import PwdDesk, Terms
from qtools.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY
from qtools.protocol import commands, digests
from qtools.sessions.pwd_errands import CHANGE, EXECUTE, LOGIN, SCRAM_FINAL, SCRAM_FIRST
from qtools.system.pwdlog import PwdLog
from tests.scram import ScramClient

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


class Clock:
    """Time that passes only where it is waited for, and while a password is checked."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.waits: list[float] = []

    def now(self) -> float:
        self.time += 0.25
        return self.time

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


def desk_of(
    path: bytes,
    attempts: int = 3,
    clock: Clock | None = None,
    log: PwdLog | None = None,
    before: str = "",
) -> PwdDesk:
    """Give a desk; before: the word of a source that is asked before the database."""
    words = [*([before] if before else []), f"db:{os.fsdecode(path)}"]
    sources = registry.load(words)
    terms = Terms(
        sources=sources,
        database=sources[-1],
        path=path,
        stamp=STAMP,
        attempts=attempts,
        fail_seconds=3 if clock else 0,
    )
    log = log or PwdLog(-1, None, b"")
    return PwdDesk(terms, log, clock.now, clock.wait) if clock else PwdDesk(terms, log)


def log_in(desk: PwdDesk, user: bytes = b"joe", method: bytes = b"User") -> int:
    return desk.do(LOGIN, (method, user, SECRET))[0]


def test_nothing_is_done_for_nobody(path: bytes) -> None:
    desk = desk_of(path)
    assert desk.do(EXECUTE, (b"ListDomains",)) == (EXIT_TEMPORARY, b"")
    assert desk.do(CHANGE, (b"new",)) == (EXIT_REFUSED, b"")
    assert desk.do(SCRAM_FINAL, (b"c=biws,r=x,p=eA==",)) == (EXIT_REFUSED, b"")
    assert desk.member is None


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
    assert desk.member is not None
    assert desk.member.user == b"joe"
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


def test_a_refusal_comes_late_and_always_equally_late(path: bytes) -> None:
    with Store(path) as store:
        store.add(b"off", None, b"/home", b"")
        store.set_secret(b"off", SECRET)
        store.set_enabled(b"off", is_enabled=False)
        store.set_rights(b"joe", ["BasicSettings"])
    for user, secret in (
        (b"joe", b"wrong"),
        (b"nobody", b"wrong"),
        (b"off", b"wrong"),
        (b"off", SECRET),
        (b"joe", b""),
        (b"jo\0e", b"x"),
    ):
        clock = Clock()
        desk = desk_of(path, clock=clock)
        assert desk.do(LOGIN, (b"Plain", user, secret))[0] == EXIT_REFUSED
        assert clock.waits == [2.75]
    for user in (b"joe", b"nobody"):
        clock = Clock()
        desk = desk_of(path, clock=clock)
        client = ScramClient(user, b"wrong")
        code, first = desk.do(SCRAM_FIRST, (b"Scram-Sha-256", client.first()))
        assert (code, clock.waits) == (EXIT_DONE, [])
        assert desk.do(SCRAM_FINAL, (client.final(first),))[0] == EXIT_REFUSED
        assert clock.waits == [2.75]


@pytest.mark.parametrize(
    "word",
    [b"VerifyAccountPassword", b'"VerifyAccountPassword"', b"\tverifyaccountpassword"],
)
def test_guessing_by_a_command_is_as_slow(path: bytes, word: bytes) -> None:
    clock = Clock()
    desk = desk_of(path, clock=clock)
    assert log_in(desk, b"boss") == EXIT_DONE
    wrong = word + b" joe PASSWORD wrong"
    right = word + b" joe PASSWORD " + SECRET
    assert desk.do(EXECUTE, (wrong,)) == (EXIT_DONE, b"500 incorrect password")
    assert clock.waits == [2.75]
    assert desk.do(EXECUTE, (right,)) == (EXIT_DONE, b"200 OK")
    assert desk.do(EXECUTE, (b"CreateDomain a.b",)) == (EXIT_DONE, b"200 OK")
    assert desk.do(EXECUTE, (b"CreateDomain a.b",))[1][:4] == b"500 "
    assert clock.waits == [2.75]
    desk.end()


def test_no_name_has_a_second_password(path: bytes, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_bytes(b"boss:%b\n" % hashes.make(b"first", "md5"))
    users.chmod(0o600)
    for method in (b"Scram-Sha-256", b"User"):
        desk = desk_of(path, before=f"authuser:{users}")
        if method == b"User":
            assert desk.do(LOGIN, (method, b"boss", SECRET))[0] == EXIT_REFUSED
        else:
            client = ScramClient(b"boss", SECRET)
            answer = desk.do(SCRAM_FIRST, (method, client.first()))
            assert answer == (EXIT_REFUSED, b"")
        assert desk.do(EXECUTE, (b"NOOP",)) == (EXIT_TEMPORARY, b"")
        assert desk.do(LOGIN, (b"User", b"boss", b"first")) == (EXIT_DONE, b"")
        assert desk.member is None


def test_the_hook_is_told_of_what_nobody_has_heard_of(
    path: bytes, tmp_path: Path
) -> None:
    hook, told = tmp_path / "hook", tmp_path / "told"
    hook.write_text(f"#!/bin/sh\necho $1 $2 >>{told}\n", encoding="ascii")
    hook.chmod(0o755)
    with Store(path) as store:
        store.set_option("hook", os.fsencode(hook))
    desk = desk_of(path)
    assert log_in(desk) == EXIT_DONE
    assert desk.do(CHANGE, (b"new",)) == (EXIT_DONE, b"")
    desk.end()  # the dialogue was gone, so that nothing was settled
    assert "password joe" in told.read_text(encoding="ascii").splitlines()


def moved_domain(store: Store) -> None:
    store.add_domain("b.org")
    store.add(b"joe@b.org", None, b"/home", b"")
    store.set_secret(b"joe@b.org", b"other", clear=True)
    store.set_main_domain("b.org")


def moved_name(store: Store) -> None:
    store.rename(b"joe", b"old")
    newcomer(store)


def removed(store: Store) -> None:
    """Have a newcomer get the number, too: it was the highest."""
    store.remove(b"joe")
    newcomer(store)


def newcomer(store: Store) -> None:
    store.add(b"joe", None, b"/home", b"")
    store.set_secret(b"joe", b"other", clear=True)
    store.set_rights(b"joe", ["Master"])


def reset(store: Store) -> None:
    store.set_secret(b"joe", b"other", clear=True)


@pytest.mark.parametrize("method", [b"User", b"Scram-Sha-256"])
@pytest.mark.parametrize("happens", [moved_domain, moved_name, removed, reset])
def test_a_session_is_of_an_account_and_not_of_a_name(
    path: bytes, happens: Callable[[Store], None], method: bytes
) -> None:
    desk = desk_of(path)
    with Store(path) as store:  # joe is the last one, whose number is given again
        store.add_domain("a.org")
        store.set_main_domain("a.org")
        store.remove(b"joe")
        store.add(b"joe", None, b"/home", b"")
        store.set_secret(b"joe", SECRET, clear=True)
        store.set_rights(b"joe", ["Master"])
    enter(desk, method)
    assert desk.do(EXECUTE, (b"GetAccount boss",))[1][:4] == b"201 "
    with Store(path) as store:
        happens(store)
    before = everything(path)
    assert desk.do(CHANGE, (b"mine",)) == (EXIT_REFUSED, CHANGED.encode())
    for line in (b"GetAccount joe", b"SetAccountPassword joe TO mine", b"NOOP"):
        assert desk.do(EXECUTE, (line,))[1][:4] == b"510 "
    desk.end()
    assert everything(path) == before


def enter(desk: PwdDesk, method: bytes) -> None:
    """Log joe in."""
    if method != b"Scram-Sha-256":
        assert log_in(desk, method=method) == EXIT_DONE
        return
    client = ScramClient(b"joe", SECRET)
    code, first = desk.do(SCRAM_FIRST, (method, client.first()))
    assert code == EXIT_DONE
    assert desk.do(SCRAM_FINAL, (client.final(first),))[0] == EXIT_DONE


def everything(path: bytes) -> list[object]:
    store = Store(path)
    return [
        (account.user, store.credentials(account.user.encode()))
        for account in store.list()
    ]


def test_what_a_session_does_to_its_own_account_does_not_end_it(path: bytes) -> None:
    with Store(path) as store:
        store.set_rights(b"joe", ["Master"])
    desk = desk_of(path)
    assert log_in(desk) == EXIT_DONE
    for line in (
        b"SetAccountPassword joe TO second",
        b"UpdateAccount joe {Password=third;UseAPOP=YES;}",
        b"UpdateAccount joe {UseAPOP=NO;}",
        b"RenameAccount joe INTO joseph",
        b"NOOP",
    ):
        assert desk.do(EXECUTE, (line,)) == (EXIT_DONE, b"200 OK")
    for new in (b"fourth", b"fifth"):
        assert desk.do(CHANGE, (new,)) == (EXIT_DONE, b"")
    assert desk.do(EXECUTE, (b"DeleteAccount joseph",))[1] == b"200 OK"
    assert desk.do(EXECUTE, (b"NOOP",))[1][:4] == b"510 "
    desk.end()


def test_a_hash_that_is_made_anew_is_no_other_password(path: bytes) -> None:
    with Store(path) as store:
        store.set_credentials(b"joe", {"hash": hashes.make(SECRET, "md5")})
        store.set_option("method", b"sha512")
    desk = desk_of(path)
    assert log_in(desk) == EXIT_DONE
    assert Store(path).show(b"joe").method == "$6$"
    assert desk.do(EXECUTE, (b"NOOP",))[1] == b"200 OK"
    desk.end()


NAMES = st.sampled_from([b"joe", b"alias", b"ann", b"boss", b"new", b"boss@a.b"])
WORDS = NAMES | st.sampled_from([b"{Password=mine;}", b"(Master)", b"INTO", b"TO"])
LINES = st.builds(  # whole ones of what changes somebody, and any of any command
    lambda line, one, other: line.replace(b"?", one).replace(b"!", other),
    st.sampled_from(
        [
            b"SetAccountPassword ? TO mine",
            b"UpdateAccount ? {Password=mine;}",
            b"SetAccount ? {Password=mine;PWDAllowed=NO;}",
            b"DeleteAccount ?",
            b"RenameAccount ? INTO !",
            b"SetAccountRights ? (Master)",
            b"SetAccountAliases ? (!)",
            b"CreateAccount ? {Password=mine;}",
        ]
    ),
    NAMES,
    NAMES,
) | st.builds(
    lambda command, words: b" ".join([command, *words]),
    st.sampled_from(sorted(commands.TABLE)),
    st.lists(WORDS, max_size=4),
)
FIELDS = st.lists(LINES | NAMES | st.binary(max_size=60), max_size=4).map(tuple)
ERRANDS = (
    st.tuples(st.just(EXECUTE), LINES.map(lambda line: (line,)))
    | st.tuples(st.just(CHANGE), NAMES.map(lambda name: (name,)))
    | st.tuples(st.sampled_from(KINDS) | st.integers(0, 255), FIELDS)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(errands=st.lists(ERRANDS, min_size=5, max_size=20), is_in=st.booleans())
def test_whatever_is_asked_nobody_else_is_changed(
    *, path: bytes, errands: list[tuple[int, tuple[bytes, ...]]], is_in: bool
) -> None:
    with Store(path) as store:
        store.set_secret(b"joe", SECRET, clear=True)
    before = [rest_of(path, user) for user in (b"ann", b"boss")]
    desk = desk_of(path)
    if is_in:
        assert log_in(desk, b"joe") == EXIT_DONE
    for kind, fields in errands:
        code, answer = desk.do(kind, fields)
        assert code in (EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY)
        assert b"\n" not in answer
    desk.settle()
    desk.note(b"Line", b"C", b"x", 0)
    desk.end()
    assert desk.member is None or desk.member.user == b"joe"
    assert [rest_of(path, user) for user in (b"ann", b"boss")] == before


def rest_of(path: bytes, user: bytes) -> list[object]:
    """Give all that is kept of an account."""
    store = Store(path)
    told = [store.credentials(user), store.settings(user), store.rights(user)]
    return [vars(store.show(user)), store.aliases(user), *told]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_number_of_fields_is_nothing(path: bytes, kind: int) -> None:
    for count in range(6):
        code, answer = desk_of(path).do(kind, (b"x",) * count)
        assert (code, answer) in ((EXIT_TEMPORARY, b""), (EXIT_REFUSED, b""))
