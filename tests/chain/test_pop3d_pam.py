# SPDX-License-Identifier: ISC
"""pop3d that logs in by itself through PAM, as mdpop3d does by default."""

import hashlib
import os
import pwd
import signal
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import corpus, support
from tests.chain.alone import Alone, is_there
from tests.chain.checker import system_user
from tests.chain.pamroom import PamRoom, script, system_service
from tests.chain.test_checkpw import hashed
from tests.chain.test_pop3d_login import INCORRECT, PERMANENT, TEMPORARY, log_in
from tests.conftest import Tools
from tests.support import wait_for

SECRET = b"secret"
SESSION = ["open_session", "close_session"]

Start = Callable[..., Alone]


@pytest.fixture
def pam(room: Path) -> PamRoom:
    support.need_root()
    return PamRoom(room)


@pytest.fixture
def joe(room: Path) -> Iterator[str]:
    """Give a user of the system, with mail in ~/Maildir."""
    home = room / "home"
    home.mkdir()
    with system_user(home, hashed(SECRET)) as name:
        known = pwd.getpwnam(name)
        os.chown(home, known.pw_uid, known.pw_gid)
        corpus.write_maildir(str(home / "Maildir"), (known.pw_uid, known.pw_gid))
        yield name


@pytest.fixture
def start(tools: Tools) -> Iterator[Start]:
    """Give a function that starts pop3d with a service of PAM's."""
    running: list[Alone] = []

    def run(service: str, *words: str, before: tuple[str, ...] = ()) -> Alone:
        argv = [*before, tools.pop3d, "-p", service, "--delay=0", *words]
        running.append(Alone(argv))
        return running[-1]

    yield run
    for each in running:
        each.__exit__(None, None, None)


def unix(pam: PamRoom, *more: str) -> tuple[str, ...]:
    """Give a service that asks the shadow file and logs sessions."""
    log = f"session required pam_exec {pam.logger}"
    return ("auth,account,session required pam_unix nodelay", *more, log)


def sessions(pam: PamRoom) -> list[str]:
    return [line.split()[0] for line in pam.logged()]


def test_a_user_of_the_system(pam: PamRoom, joe: str, start: Start) -> None:
    with system_service(*unix(pam)) as service:
        client = start(service)
        assert log_in(client, SECRET, joe.encode()).startswith(b"+OK maildir: ")
        (opened,) = pam.logged()
        words = ["open_session", service, joe, "127.0.0.1", service]
        assert opened.split() == words
        home = pwd.getpwnam(joe)
        serving = [each for each in client.processes() if each.uid == home.pw_uid]
        assert [each.pid for each in serving] == [client.process.pid]
        assert client.ask(b"QUIT") == b"+OK"
        assert client.end() == (0, "")
        wait_for(lambda: sessions(pam) == SESSION)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_session_is_closed_however_it_ends(
    pam: PamRoom, joe: str, start: Start, number: signal.Signals
) -> None:
    with system_service(*unix(pam)) as service:
        client = start(service)
        log_in(client, SECRET, joe.encode())
        others = [each.pid for each in client.processes()[1:]]
        client.process.send_signal(number)
        assert client.rest() == b""
        wait_for(lambda: sessions(pam) == SESSION)
        wait_for(lambda: not any(map(is_there, others)))


def test_the_keeper_of_a_session_may_die(pam: PamRoom, joe: str, start: Start) -> None:
    """Nobody can close it then, but the mail goes on."""
    with system_service(*unix(pam)) as service:
        client = start(service)
        log_in(client, SECRET, joe.encode())
        (keeper,) = [each for each in client.processes() if not each.uid]
        os.kill(keeper.pid, signal.SIGKILL)
        assert client.ask(b"NOOP", b"QUIT") == b"+OK"
        assert client.end()[0] == 0
        assert sessions(pam) == SESSION[:1]


REFUSED = {
    "a wrong password": (b"wrong", ()),
    "a locked account": (SECRET, ("usermod", "-L")),
    "an expired account": (SECRET, ("usermod", "-e", "1980-01-01")),
    "no such user": (SECRET, ("name", "qt-not-there")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_who_is_refused(pam: PamRoom, joe: str, start: Start, what: str) -> None:
    secret, (*command,) = REFUSED[what]
    name = joe
    if command[:1] == ["name"]:
        name = command[1]
    elif command:
        support.need(command[0], "passwd")
        subprocess.run([*command, joe], check=True)
    with system_service(*unix(pam)) as service:
        client = start(service)
        assert log_in(client, secret, name.encode()) == INCORRECT
        assert client.rest() == b""
        assert client.end() == (1, "")
        assert pam.logged() == []


def test_a_password_that_is_too_old(pam: PamRoom, joe: str, start: Start) -> None:
    subprocess.run([support.need("chage", "passwd"), "-d", "0", joe], check=True)
    with system_service(*unix(pam)) as service:
        reply = log_in(start(service), SECRET, joe.encode())
    assert reply == b"-ERR [AUTH] password expired"


def test_an_empty_password_opens_nothing(room: Path, start: Start) -> None:
    with (
        system_user(room, "") as name,
        system_service("auth,account required pam_unix nullok nodelay") as service,
    ):
        client = start(service)
        assert log_in(client, b"", name.encode()) == b"-ERR syntax error"
        plain = b64encode(b"\0" + name.encode() + b"\0")
        assert client.ask(b"AUTH PLAIN " + plain) == b"-ERR syntax error"
        assert log_in(start(service), b"x", name.encode()) == INCORRECT


PLACES = [
    ([], {}, "Pam"),
    (["-m", "Third"], {}, "Third"),
    ([], {"MAILDIR": "Other"}, "Other"),
    (["-m", "Third"], {"MAILDIR": "Other"}, "Third"),
]


@pytest.mark.parametrize("where", PLACES)
def test_where_the_mail_is(
    tools: Tools, pam: PamRoom, joe: str, where: tuple[list[str], dict[str, str], str]
) -> None:
    """PAM is asked when nobody else has said it."""
    words, env, place = where
    home = Path(pwd.getpwnam(joe).pw_dir)
    (home / "Maildir").rename(home / place)
    (pam.room / "environment").write_text("MAILDIR=Pam\n")
    read = f"conffile=/dev/null readenv=1 envfile={pam.room}/environment"
    with (
        system_service(*unix(pam, f"session required pam_env {read}")) as service,
        Alone([tools.pop3d, "-p", service, *words], env) as client,
    ):
        reply = log_in(client, SECRET, joe.encode())
        assert reply.startswith(b"+OK maildir: ")
        assert not reply.startswith(b"+OK maildir: 0 ")


def test_virtual_users_of_one_account(tools: Tools, pam: PamRoom, joe: str) -> None:
    """A module names the account by PAM_USER, and MAILDIR below its home."""
    home = Path(pwd.getpwnam(joe).pw_dir)
    (home / "Maildir").rename(home / "ann")
    passwords = pam.room / "passwords"
    passwords.write_text(f"ann:{hashed(SECRET)}\n")
    (pam.room / "environment").write_text("MAILDIR=ann\n")
    read = f"conffile=/dev/null readenv=1 envfile={pam.room}/environment"
    rows = (
        f"auth required pam_pwdfile pwdfile={passwords} nodelay",
        "auth required pam_set_items",
        f"session required pam_env {read}",
    )
    with system_service(*rows) as service:
        argv = [tools.pop3d, "-p", service, "--delay=0"]
        with Alone(argv, {"PAM_USER": joe}) as client:
            reply = log_in(client, SECRET, b"ann")
            assert reply.startswith(b"+OK maildir: ")
            assert client.processes()[0].uid == pwd.getpwnam(joe).pw_uid
        with Alone(argv, {"PAM_USER": joe}) as client:
            assert log_in(client, b"wrong", b"ann") == INCORRECT


def test_apop_is_passed_on(pam: PamRoom, joe: str, start: Start) -> None:
    """As mdpop3d's manual has it, and a module may use it."""
    seen = pam.room / "seen"
    check = script(
        pam.room / "check",
        f"#!/bin/sh\ntr -d '\\0' >{seen}\nexec grep -q '^APOP .* <.*>$' {seen}\n",
    )
    with system_service(f"auth required pam_exec expose_authtok {check}") as service:
        client = start(service, "-T", "mail.example")
        stamp = client.line().split()[1]
        digest = hashlib.md5(stamp + SECRET).hexdigest().encode()
        reply = client.ask(b"APOP " + joe.encode() + b" " + digest)
        assert reply.startswith(b"+OK maildir: ")
        assert seen.read_bytes() == b"APOP " + digest + b" " + stamp
        # The same as a password could be heard before and sent again.
        again = b"APOP " + digest + b" " + stamp
        assert log_in(start(service, "-A"), again, joe.encode()) == INCORRECT


def test_what_a_module_prints_is_not_for_the_client(
    pam: PamRoom, joe: str, start: Start
) -> None:
    noise = script(pam.room / "noise", "#!/bin/sh\necho +OK noise\necho noise >&2\n")
    rows = unix(pam, f"auth required pam_exec stdout {noise}")
    with system_service(*rows) as service:
        client = start(service)
        reply = log_in(client, SECRET, joe.encode())
        assert reply.startswith(b"+OK maildir: ")
        assert b"noise" not in client.ask(b"QUIT") + client.rest()


def test_a_module_that_is_not_there_is_no_wrong_password(start: Start) -> None:
    support.need_root()
    with system_service("session required pam_permit") as service:
        path = Path("/etc/pam.d") / service
        path.write_text("auth required /nonexistent/pam_module.so\n")
        reply = log_in(start(service), SECRET, b"joe")
    assert reply in (PERMANENT, TEMPORARY)


def test_a_user_of_pam_s_who_is_root(pam: PamRoom, room: Path, start: Start) -> None:
    options = ("-o", "-u", "0", "-N", "-g", "0")
    with (
        system_user(room, hashed(SECRET), *options) as name,
        system_service(*unix(pam)) as service,
    ):
        client = start(service, "--attempts=2")
        assert log_in(client, SECRET, name.encode()) == INCORRECT
        wait_for(lambda: sessions(pam) == SESSION)
        assert client.ask(b"QUIT") == b"+OK", "he is still there, and was not in"
