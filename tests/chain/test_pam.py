# SPDX-License-Identifier: ISC
"""Log in by PAM: real modules, each attempt in a process of its own."""

import os
import posix
import pwd
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.accounts.interface import Identity
from qtools.accounts.pam import attempt
from qtools.accounts.pam.source import Source
from qtools.accounts.verifier import Verifier
from qtools.errors import (
    EXIT_EXPIRED,
    EXIT_HARD,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    Temporary,
)
from qtools.system.ffi.crypt import Crypt
from tests import support
from tests.chain.checker import system_user
from tests.chain.pamroom import ASKS, Attempt, PamRoom, log_in, module, script

MATRIX = "all required pam_matrix passdb={room}/passdb verbose"

# Somebody whom every system has, as a name to log in by
NOBODY = b"nobody"


@pytest.fixture
def pam(room: Path) -> PamRoom:
    return PamRoom(room)


def hashed(secret: bytes) -> str:
    stored = Crypt().hash(secret, b"$1$abcdefgh$")
    assert stored
    return stored.decode()


@pytest.fixture
def matrix(pam: PamRoom) -> PamRoom:
    (pam.room / "passdb").write_text("nobody:secret:pop3\ndaemon:secret:imap\n")
    pam.service(MATRIX.format(room=pam.room))
    return pam


@pytest.mark.parametrize(
    ("user", "secret", "code"),
    [
        (b"nobody", b"secret", 0),
        (b"nobody", b"wrong", EXIT_REFUSED),
        (b"nobody", b"", EXIT_REFUSED),
        (b"nobody", b"secret ", EXIT_REFUSED),
        (b"somebody", b"secret", EXIT_REFUSED),
        (b"daemon", b"secret", EXIT_REFUSED),  # another service's: its account says no
        (b"no/body", b"secret", EXIT_REFUSED),
    ],
)
def test_pam_matrix(matrix: PamRoom, user: bytes, secret: bytes, code: int) -> None:
    assert log_in(matrix.source(), user, secret) == code


def test_what_a_module_tells_reaches_the_operator_on_one_line(
    matrix: PamRoom, capfd: pytest.CaptureFixture[str]
) -> None:
    log_in(matrix.source(), NOBODY, b"wrong")
    assert capfd.readouterr().err == (
        "try: PAM, authenticate: Authentication failure (7): Authentication failed\n"
    )


@pytest.mark.parametrize(
    ("user", "secret", "code"),
    [
        (b"nobody", b"secret", 0),
        (b"nobody", b"wrong", EXIT_REFUSED),
        (b"daemon", b"secret", EXIT_REFUSED),
        (b"stranger", b"secret", EXIT_HARD),  # good, and no user of the system
        (b"nobody2", b"secret", EXIT_REFUSED),
    ],
)
def test_pam_pwdfile(pam: PamRoom, user: bytes, secret: bytes, code: int) -> None:
    stored = hashed(b"secret")
    users = f"nobody:{stored}\ndaemon:*\nstranger:{stored}\n"
    (pam.room / "users").write_text(users)
    pam.service(f"auth required pam_pwdfile pwdfile={pam.room}/users nodelay")
    assert log_in(pam.source(), user, secret) == code


def test_who_is_let_in_is_who_the_system_says(matrix: PamRoom) -> None:
    session = Attempt(matrix.source(), NOBODY, b"secret")
    who, known = session.identity(), pwd.getpwnam("nobody")
    session.end()
    assert (who.name, who.uid, who.gid) == (NOBODY, known.pw_uid, known.pw_gid)
    assert who.groups == [known.pw_gid]
    assert (who.home, who.shell) == (known.pw_dir.encode(), known.pw_shell.encode())
    assert who.maildir == b""


# pam_debug gives what it is told to: every phase, and what each code means in it
CODES = {
    "auth": {
        "perm_denied": EXIT_REFUSED,
        "auth_err": EXIT_REFUSED,
        "user_unknown": EXIT_REFUSED,
        "acct_expired": EXIT_REFUSED,
        "maxtries": EXIT_REFUSED,
        "authinfo_unavail": EXIT_TEMPORARY,
        "cred_insufficient": EXIT_TEMPORARY,
        "service_err": EXIT_TEMPORARY,
        "system_err": EXIT_TEMPORARY,
        "buf_err": EXIT_TEMPORARY,
        "abort": EXIT_TEMPORARY,
        "conv_err": EXIT_TEMPORARY,
        "try_again": EXIT_TEMPORARY,
        "open_err": EXIT_HARD,
        "symbol_err": EXIT_HARD,
        "module_unknown": EXIT_HARD,
        "new_authtok_reqd": EXIT_EXPIRED,
    },
    "acct": {
        "new_authtok_reqd": EXIT_EXPIRED,
        "authtok_expired": EXIT_EXPIRED,
        "cred_expired": EXIT_EXPIRED,
        "acct_expired": EXIT_REFUSED,
        "perm_denied": EXIT_REFUSED,
        "auth_err": EXIT_REFUSED,
        "user_unknown": EXIT_REFUSED,
        "authinfo_unavail": EXIT_TEMPORARY,
        "system_err": EXIT_TEMPORARY,
    },
    "cred": {
        "cred_expired": EXIT_EXPIRED,
        "cred_unavail": EXIT_TEMPORARY,
        "cred_err": EXIT_TEMPORARY,
        "user_unknown": EXIT_TEMPORARY,
        "perm_denied": 0,  # so the library says when no module has anything to do
    },
    "open_session": {
        "session_err": EXIT_TEMPORARY,
        "perm_denied": EXIT_TEMPORARY,
        "system_err": EXIT_TEMPORARY,
    },
}


@pytest.mark.parametrize(
    ("step", "word", "code"),
    [(step, word, code) for step, row in CODES.items() for word, code in row.items()],
)
def test_what_a_code_means(
    pam: PamRoom,
    step: str,
    word: str,
    code: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    given = f"{step}={word}"
    pam.service(
        f"auth required pam_debug {given if step in ('auth', 'cred') else ''}",
        f"auth required {ASKS}",
        f"account required pam_debug {given if step == 'acct' else ''}",
        f"session required pam_debug {given if step == 'open_session' else ''}",
    )
    assert log_in(pam.source(), NOBODY, b"secret") == code
    assert capfd.readouterr().err.startswith("try: PAM, ") is bool(code)


@pytest.mark.parametrize("module", ["pam_permit", "pam_rootok", "pam_debug"])
def test_who_is_not_asked_for_a_password_is_not_let_in(
    pam: PamRoom, module: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is root who calls PAM: some modules look no further."""
    support.need_root()
    pam.service(f"auth sufficient {module}", f"auth required {ASKS}")
    assert log_in(pam.source(), NOBODY, b"secret") == EXIT_HARD
    assert "no module has asked for the password" in capfd.readouterr().err


def test_only_a_user_unknown_at_once_may_be_looked_for_elsewhere(pam: PamRoom) -> None:
    """Whose password was good is nobody else's account."""
    for rows, expected in (
        (("auth required pam_debug auth=user_unknown",), "Unknown"),
        (("account required pam_debug acct=user_unknown",), "Refused"),
    ):
        pam.service(*rows)
        assert kind_of(pam.source()) == expected


def kind_of(source: Source) -> str:
    """Give the kind of the failure, from the process that it happens in."""

    def check() -> Identity:
        try:
            return source.verify(NOBODY, b"secret", b"")
        except Exception as why:  # noqa: BLE001  # its name is what is looked for
            return Identity(type(why).__name__.encode())

    _, who = Verifier(check, ["try"], is_verbose=False).wait()
    assert who is not None
    return who.name.decode()


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("auth required /no/such/module.so\n", EXIT_HARD),
        ("nonsense", EXIT_REFUSED),  # no module at all: the library's own refusal
        ("", EXIT_REFUSED),
    ],
)
def test_a_service_that_makes_no_sense_lets_nobody_in(
    pam: PamRoom, service: str, code: int
) -> None:
    (pam.folder / "pop3").write_text(service)
    assert log_in(pam.source(), NOBODY, b"secret") == code


def test_no_service_is_hard(pam: PamRoom) -> None:
    assert log_in(pam.source(b"none"), NOBODY, b"secret") == EXIT_HARD
    nowhere = Source(b"pop3", folder=bytes(pam.room / "missing"))
    assert log_in(nowhere, NOBODY, b"secret") == EXIT_HARD


def test_modules_know_where_the_client_is(
    pam: PamRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(posix.environ, b"TCPREMOTEIP", b"192.0.2.7")
    pam.service(
        f"auth required {ASKS}",
        f"auth,account,session required pam_exec {pam.logger}",
    )
    session = Attempt(pam.source(), NOBODY, b"secret")
    session.identity()
    steps = ["auth", "account", "open_session"]
    assert [line.split()[0] for line in pam.logged()] == steps
    session.end()
    steps.append("close_session")
    assert [line.split()[0] for line in pam.logged()] == steps
    assert {line.split(maxsplit=1)[1] for line in pam.logged()} == {
        "pop3 nobody 192.0.2.7 pop3 "
    }


def test_the_steps_are_taken_in_order_and_undone_in_reverse(pam: PamRoom) -> None:
    """A trace of the library's own calls, between which modules have no say."""
    pam.service(f"auth required {ASKS}", "auth required pam_permit")
    source = pam.source()

    def check() -> Identity:
        library = attempt.library()
        told: list[str] = []

        def traced(name: str) -> None:
            step = library.steps[name]

            def call(handle: object, flags: int) -> int:
                told.append(f"{name}:{flags}")
                code: int = step(handle, flags)
                return code

            library.steps[name] = call

        for name in list(library.steps):
            traced(name)
        end = library.end

        def traced_end(handle: object, code: int) -> int:
            told.append(f"end:{code}")
            result: int = end(handle, code)
            return result

        library.end = traced_end
        who = source.verify(NOBODY, b"secret", b"")
        assert who.ending
        who.ending()
        who.ending()  # once is enough
        return Identity(" ".join(told).encode())

    _, who = Verifier(check, ["try"], is_verbose=False).wait()
    assert who is not None
    assert who.name.decode() == (
        "authenticate:1 acct_mgmt:1 setcred:2 open_session:0"
        " close_session:0 setcred:4 end:0"
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Mail/x", "{home}/Mail/x"),
        ("/var/mail/x", "/var/mail/x"),
        (".", "{home}/."),
    ],
)
@pytest.mark.parametrize("step", ["auth", "session"])
def test_a_module_says_where_the_mail_is(
    pam: PamRoom, step: str, said: str, expected: str
) -> None:
    (pam.room / "environment").write_text(f"MAILDIR={said}\n")
    read = f"conffile=/dev/null readenv=1 envfile={pam.room}/environment"
    pam.service(f"auth required {ASKS}", f"{step} required pam_env {read}")
    session = Attempt(pam.source(), NOBODY, b"secret")
    home = pwd.getpwnam("nobody").pw_dir
    assert session.identity().maildir.decode() == expected.format(home=home)
    session.end()


def test_what_was_in_the_environment_before_is_not_where_the_mail_is(
    matrix: PamRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILDIR", "/somebody/else")
    session = Attempt(matrix.source(), NOBODY, b"secret")
    assert session.identity().maildir == b""
    session.end()


def test_a_module_may_let_a_name_in_as_another_user(
    pam: PamRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many virtual users as one likes, and one owner of their mail."""
    monkeypatch.setenv("PAM_USER", "daemon")  # for pam_set_items
    (pam.room / "users").write_text(f"virtual:{hashed(b'secret')}\n")
    (pam.room / "environment").write_text("MAILDIR=virtual/Maildir\n")
    read = f"conffile=/dev/null readenv=1 envfile={pam.room}/environment"
    pam.service(
        f"auth required pam_pwdfile pwdfile={pam.room}/users nodelay",
        "auth required pam_set_items",
        f"auth required pam_env {read}",
    )
    session = Attempt(pam.source(), b"virtual", b"secret")
    who, owner = session.identity(), pwd.getpwnam("daemon")
    session.end()
    assert (who.name, who.uid, who.gid) == (b"daemon", owner.pw_uid, owner.pw_gid)
    assert who.maildir.decode() == f"{owner.pw_dir}/virtual/Maildir"


def test_groups_that_a_module_adds_are_the_users(pam: PamRoom) -> None:
    """As pam_group does while credentials are established; its own file is fixed."""
    support.need_root()
    pam.service()
    source = pam.source()

    def check() -> Identity:
        library = attempt.library()
        establish = library.steps["setcred"]

        def add(handle: object, flags: int) -> int:
            posix.setgroups([*posix.getgroups(), 54323])
            code: int = establish(handle, flags)
            return code

        library.steps["setcred"] = add
        return source.verify(NOBODY, b"secret", b"")

    verifier = Verifier(check, ["try"], is_verbose=True)
    _, who = verifier.wait()
    verifier.release()
    assert who is not None
    assert set(who.groups) == {who.gid, 54323}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("step", ["open_session", "close_session"])
def test_who_is_told_to_end_closes_what_he_has_opened(
    pam: PamRoom, step: str, number: signal.Signals
) -> None:
    """A signal to the whole group, while a module of the session takes its time."""
    for name in ("began", "gate"):
        os.mkfifo(pam.room / name)
    slow = script(
        pam.room / "slow",
        f"#!/bin/sh\n[ $PAM_TYPE = {step} ] || exit 0\n"
        f"echo >{pam.room}/began\nread -r word <{pam.room}/gate\n",
    )
    pam.service(
        f"session required pam_exec {pam.logger}", f"session required pam_exec {slow}"
    )
    verifier = Verifier(
        lambda: pam.source().verify(NOBODY, b"secret", b""), ["try"], is_verbose=True
    )
    if step == "close_session":
        assert verifier.wait()[0] == 0
        verifier.release()
    (pam.room / "began").read_bytes()
    os.kill(verifier._pid, number)
    (pam.room / "gate").write_text("go on\n")
    if step == "open_session":
        assert verifier.wait()[0] == 0
        verifier.release()
    assert posix.waitpid(verifier._pid, 0)[1] == 0
    steps = [line.split()[0] for line in pam.logged()]
    assert steps == ["open_session", "close_session"]


def test_what_was_put_off_is_heeded_when_nothing_is_open(pam: PamRoom) -> None:
    pam.service("session required pam_deny")
    source = pam.source()

    def check() -> Identity:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        with pytest.raises(Temporary):
            source.verify(NOBODY, b"secret", b"")
        after = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return Identity(b"as before" if after == before else b"otherwise")

    _, who = Verifier(check, ["try"], is_verbose=False).wait()
    assert who is not None
    assert who.name == b"as before"


def test_a_module_that_crashes_leaves_no_password_behind(pam: PamRoom) -> None:
    support.need_root()
    pam.service()
    source = pam.source()

    def check() -> Identity:
        resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096))
        ending = source.verify(NOBODY, b"secret", b"").ending
        assert ending
        ending()
        return Identity(b"%d" % resource.getrlimit(resource.RLIMIT_CORE)[0])

    _, who = Verifier(check, ["try"], is_verbose=True).wait()
    assert who is not None
    assert who.name == b"0"


def test_apop_is_passed_to_modules_that_know_it(
    pam: PamRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = pam.room / "seen"
    keep = script(pam.room / "keep", f"#!/bin/sh\ntr '\\0' '\\n' >{seen}\n")
    pam.service(f"auth required pam_exec expose_authtok quiet {keep}")
    digest = b"0123456789abcdef0123456789abcdef"
    monkeypatch.setitem(posix.environ, b"POP3METHOD", b"Apop")
    assert Attempt(pam.source(), NOBODY, digest, b"<1.2@h>").code == EXIT_REFUSED
    assert not seen.exists(), "nobody is asked about a digest"
    monkeypatch.setitem(posix.environ, b"QTOOLS_PAMAPOP", b"1")
    session = Attempt(pam.source(), NOBODY, digest, b"<1.2@h>")
    assert session.code == 0
    session.end()
    # some versions of the module end it with a NUL
    assert seen.read_bytes().rstrip(b"\n") == b"APOP " + digest + b" <1.2@h>"


def test_a_digest_overheard_elsewhere_is_not_asked_about(
    pam: PamRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules that know APOP know it at every port of theirs, told to us or not."""
    pam.service()
    monkeypatch.setitem(posix.environ, b"POP3METHOD", b"User")
    assert log_in(pam.source(), NOBODY, b"APOP") == 0
    again = b"APOP 0123456789abcdef0123456789abcdef <1.2@h>"
    assert log_in(pam.source(), NOBODY, again) == EXIT_REFUSED


@pytest.fixture
def unix(pam: PamRoom) -> Source:
    """Give pam_unix as a source, with nullok, as Debian has it."""
    support.need_root()
    pam.service(
        "auth required pam_unix nodelay nullok", "account,session required pam_unix"
    )
    return pam.source()


@pytest.fixture
def joe(room: Path) -> Iterator[str]:
    with system_user(room, hashed(b"secret")) as name:
        yield name


def test_pam_unix(unix: Source, joe: str) -> None:
    assert log_in(unix, joe.encode(), b"secret") == 0
    assert log_in(unix, joe.encode(), b"wrong") == EXIT_REFUSED
    assert log_in(unix, joe.encode() + b"x", b"secret") == EXIT_REFUSED


@pytest.mark.parametrize("stored", ["!", "*", "!{}"])
def test_pam_unix_refuses_who_is_locked(unix: Source, room: Path, stored: str) -> None:
    with system_user(room, stored.format(hashed(b"secret"))) as name:
        assert log_in(unix, name.encode(), b"secret") == EXIT_REFUSED


def test_an_empty_hash_lets_nobody_in_whatever_the_service_says(
    unix: Source, room: Path
) -> None:
    with system_user(room, "") as name:
        for secret in (b"", b"secret"):
            assert log_in(unix, name.encode(), secret) == EXIT_REFUSED


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (["-d", "0"], (EXIT_EXPIRED, "password immediately")),
        (["-d", "2000-01-01", "-M", "30"], (EXIT_EXPIRED, "password expired")),
        (["-d", "2000-01-01", "-M", "30", "-I", "5"], (EXIT_EXPIRED, "(27)")),
        (["-E", "1"], (EXIT_REFUSED, "account has expired")),
    ],
)
def test_pam_unix_knows_ages(
    unix: Source,
    joe: str,
    age: list[str],
    expected: tuple[int, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    subprocess.run([support.need("chage", "passwd"), *age, joe], check=True)
    code, why = expected
    assert log_in(unix, joe.encode(), b"secret") == code
    assert why in capfd.readouterr().err
    assert log_in(unix, joe.encode(), b"wrong") == EXIT_REFUSED
    assert "Authentication failure (7)" in capfd.readouterr().err


def test_an_expired_account_may_be_hidden_by_the_service(
    pam: PamRoom, joe: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Debian's common-account turns it into a refusal, with the module's reason."""
    subprocess.run([support.need("chage", "passwd"), "-E", "1", joe], check=True)
    unix, deny, permit = map(module, ("pam_unix", "pam_deny", "pam_permit"))
    (pam.folder / "pop3").write_text(
        f"auth required {unix} nodelay\n"
        f"account [success=1 new_authtok_reqd=done default=ignore] {unix}\n"
        f"account requisite {deny}\n"
        f"account required {permit}\n"
    )
    assert log_in(pam.source(), joe.encode(), b"secret") == EXIT_REFUSED
    assert "Authentication failure (7): Your account has expired" in (
        capfd.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "has_delay"), [(60, False), (2.5, True)])
def test_the_modules_delay_is_theirs_unless_it_is_dropped(
    pam: PamRoom, seconds: float, *, has_delay: bool
) -> None:
    delay = f"pam_faildelay delay={int(seconds * 1_000_000)}"
    pam.service(f"auth optional {delay}", "auth required pam_deny")
    source = Source(b"pop3", folder=bytes(pam.folder), has_delay=has_delay)
    began = os.times().elapsed
    assert log_in(source, NOBODY, b"secret") == EXIT_REFUSED
    # PAM waits for 0.5 to 1.5 times as long, by chance
    assert (os.times().elapsed - began >= seconds / 2) is has_delay


TIMES = 10_000


@pytest.mark.slow
def test_nothing_is_left_of_ten_thousand_conversations(matrix: PamRoom) -> None:
    source = matrix.source()

    def use() -> tuple[int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * posix.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd"))

    def converse(times: int) -> None:
        for number in range(times):
            try:
                secret = b"wrong" if number % 2 else b"secret"
                who = source.verify(NOBODY, secret, b"")
            except Exception as why:  # noqa: BLE001  # the code is what counts
                assert getattr(why, "code", 0) == EXIT_REFUSED, why  # noqa: PT017
            else:
                assert who.ending
                who.ending()

    def check() -> Identity:
        converse(500)
        before = use()
        converse(TIMES)
        return Identity(b"%d %d %d %d" % (*before, *use()))

    _, who = Verifier(check, ["try"], is_verbose=True).wait()
    assert who is not None
    octets, descriptors, octets_then, descriptors_then = map(int, who.name.split())
    assert descriptors_then == descriptors
    assert octets_then - octets < 1 << 20, "a 39th of a page each time"
