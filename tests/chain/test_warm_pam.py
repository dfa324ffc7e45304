# SPDX-License-Identifier: ISC
"""PAM behind popserver: a process for each attempt, which stays while a session does.

The modules are the system's own, told what to do by a service in a private /etc.
"""

import os
import signal
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from qtools.system.ffi.crypt import Crypt
from tests.chain import warm
from tests.chain.popup import HOSTNAME, Client
from tests.chain.warm import Server, children_of
from tests.conftest import Tools
from tests.estate import CHANGED, NEVER, Estate
from tests.faults import tree
from tests.support import wait_for

UID = 4242
SECRET = "sesame"
REFUSED = b"-ERR [AUTH] authorization failed\r\n"
EXPIRED = b"-ERR [AUTH] password expired\r\n"
TEMPORARY = b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"
OK = b"+OK \r\n"

# Reads what the client has typed; "slow..." waits for the test.
CHECK = """#!/bin/sh
secret=$(cat | tr -d '\\000')
echo "$PAM_USER $secret" >>{room}/tried
case $secret in
slow*) read -r word <{room}/gate; echo "$PAM_USER went on" >>{room}/tried;;
crash*) kill -9 $PPID;;
esac
[ "$secret" = {secret} ]
"""
LOGGER = """#!/bin/sh
[ $PAM_TYPE = close_session ] && [ -e {room}/slow ] && read -r word <{room}/gate
echo "$PAM_TYPE $PAM_USER $PAM_RHOST" >>{room}/sessions
"""


class Inn:
    """A popserver whose accounts are PAM's, and what its modules write down."""

    def __init__(self, tools: Tools, room: Path, estate: Estate) -> None:
        self.room = room
        self._tools = tools
        self._estate = estate
        self._servers: list[Server] = []
        self._clients: list[Client] = []
        for name, text in (("check", CHECK), ("logger", LOGGER)):
            path = room / name
            path.write_text(text.format(room=room, secret=SECRET))
            path.chmod(0o755)
        os.mkfifo(room / "gate")
        self.settle("joe")
        self._gate = os.open(room / "gate", os.O_RDWR)
        check = f"pam_exec.so expose_authtok quiet {room}/check"
        self.serve(
            f"auth [success=1 default=ignore] {check}",  # its failure is a system error
            "auth requisite pam_deny.so",
            "auth required pam_permit.so",
        )

    def let_go_on(self) -> None:
        """Have one check go on that waits."""
        os.write(self._gate, b"go on\n")

    def serve(self, *lines: str) -> None:
        """Have these modules look at passwords."""
        logger = f"session required pam_exec.so quiet {self.room}/logger"
        account = "account required pam_permit.so"
        self._estate.service("pop3", *lines, account, logger)

    def settle(self, name: str, uid: int = UID, aging: str = "") -> None:
        """Make a user with a mailbox."""
        home = self.room / name
        for folder in ("", "tmp", "new", "cur"):
            (home / "Maildir" / folder).mkdir(parents=True, exist_ok=True)
        (home / "Maildir/cur/1.mx").write_text(f"Subject: {name}\n\n")
        for place in (home, *home.rglob("*")):
            os.chown(place, uid, uid)
        stored = Crypt().hash(SECRET.encode(), b"$1$abcdefgh$")
        assert stored
        self._estate.add_user(name, uid, stored.decode(), aging)
        passwd = self._estate.etc / "passwd"
        text = passwd.read_text().replace(
            ":/nonexistent:/bin/false", f":{home}:/bin/sh"
        )
        passwd.write_text(text)

    def open(
        self, *options: str, popup: str = "-d0 -a9", accounts: str = "pam"
    ) -> Server:
        """Start a popserver."""
        chain = ["popup", *popup.split(), HOSTNAME]
        chain += ["checkpw", "-a", accounts, "pop3d", "Maildir"]
        words = [self._tools.popserver, *warm.OPTIONS, *options, "127.0.0.1", "0"]
        path = f"{self._tools.bin}:/usr/bin:/bin"
        env = self._tools.environment(PATH=path)
        server = Server(self._estate.command(*words, *chain), env)
        assert server.port, server.errors.all()
        self._servers.append(server)
        return server

    def client(self, server: Server) -> Client:
        made = server.client()
        assert made.reply() == b"+OK\r\n"
        self._clients.append(made)
        return made

    def log_in(self, server: Server, user: str = "joe", secret: str = SECRET) -> Client:
        """Give a client that has said all it has to say to log in."""
        made = self.client(server)
        made.send(f"USER {user}\r\nPASS {secret}\r\n".encode())
        assert made.reply() == OK
        return made

    def read(self, name: str) -> list[str]:
        """Give what modules have written."""
        path = self.room / name
        return path.read_text().splitlines() if path.exists() else []

    def close(self) -> None:
        os.close(self._gate)
        for client in self._clients:
            client.hang_up()
        for server in self._servers:
            server.close()


@pytest.fixture
def estate(room: Path) -> Iterator[Estate]:
    with Estate(room / "estate") as made:
        yield made


@pytest.fixture
def inn(tools: Tools, room: Path, estate: Estate) -> Iterator[Inn]:
    made = Inn(tools, room, estate)
    yield made
    made.close()


def test_a_session_is_opened_and_closed(inn: Inn) -> None:
    server = inn.open()
    client = inn.log_in(server)
    assert client.reply() == OK
    assert inn.read("sessions") == ["open_session joe 127.0.0.1"]
    client.send(b"STAT\r\n")
    assert client.reply().startswith(b"+OK 1 ")
    assert inn.read("sessions") == ["open_session joe 127.0.0.1"]
    client.send(b"QUIT\r\n")
    client.reply()
    wait_for(lambda: inn.read("sessions")[1:] == ["close_session joe 127.0.0.1"])


@pytest.mark.parametrize(
    ("name", "uid", "reply"), [("toor", 0, REFUSED), ("lost", UID + 1, TEMPORARY)]
)
def test_who_may_not_come_in_leaves_no_session(
    inn: Inn, name: str, uid: int, reply: bytes
) -> None:
    """Neither uid 0 nor one whose home is not there, password and all."""
    inn.settle(name, uid)
    if uid:
        (inn.room / name).rename(inn.room / "elsewhere")
    server = inn.open()
    for count in (1, 2):
        assert inn.log_in(server, name).reply() == reply
        begun = [f"open_session {name} 127.0.0.1", f"close_session {name} 127.0.0.1"]
        assert inn.read("sessions") == begun * count


class Family(NamedTuple):
    """Who is there while somebody is served: by pid."""

    verifier: int
    keeper: int
    nursery: int
    session: int


def family(server: Server) -> Family:
    """Give them, for one session behind one verifier."""
    found: dict[bool, tuple[int, int]] = {}
    for child in children_of(server.pid):
        for below in children_of(child):
            found[tree.look(below).uids[1] == UID] = child, below
    return Family(*found[False], *found[True])


def is_closed(inn: Inn) -> bool:
    opened = inn.read("sessions").count("open_session joe 127.0.0.1")
    return opened == inn.read("sessions").count("close_session joe 127.0.0.1") > 0


def has_left(pid: int) -> Callable[[], bool]:
    return lambda: not tree.is_there(pid)


def test_sessions_of_one_process_are_closed_one_by_one(inn: Inn) -> None:
    server = inn.open()
    processes = set()
    for _ in range(3):
        client = inn.log_in(server)
        assert client.reply() == OK
        processes.add(family(server).session)
        client.send(b"QUIT\r\n")
        assert client.rest() == OK
        wait_for(lambda: is_closed(inn))
    opened = ["open_session joe 127.0.0.1", "close_session joe 127.0.0.1"]
    assert inn.read("sessions") == 3 * opened
    assert len(processes) == 1


def test_a_wrong_password_holds_up_nobody(inn: Inn) -> None:
    """Its module waits until all others have been served."""
    inn.settle("ann")
    server = inn.open("--verifiers", "1")
    slow = inn.log_in(server, "joe", "slow")
    wait_for(lambda: "joe slow" in inn.read("tried"))
    others = [inn.log_in(server, "ann") for _ in range(20)]
    for client in others:
        assert client.reply() == OK
        client.send(b"QUIT\r\n")
        assert client.rest() == OK
    assert "joe went on" not in inn.read("tried")
    inn.let_go_on()
    assert slow.reply() == REFUSED
    assert inn.read("tried").count("joe went on") == 1


def test_no_more_at_once_than_there_is_room_for(inn: Inn) -> None:
    server = inn.open("--verifiers", "1", "--verifier-processes", "2")
    slow = [inn.log_in(server, "joe", f"slow{number}") for number in range(2)]
    wait_for(lambda: len(inn.read("tried")) == 2)
    waiting = inn.log_in(server)
    other = inn.client(server)
    assert other.ask(b"NOOP") == OK
    assert len(inn.read("tried")) == 2
    inn.let_go_on()
    assert waiting.reply() == OK
    assert f"joe {SECRET}" in inn.read("tried")
    inn.let_go_on()
    assert [client.reply() for client in slow] == [REFUSED] * 2


@pytest.mark.parametrize("who", ["session", "verifier", "nursery"])
def test_whoever_is_killed_a_session_is_closed(inn: Inn, who: str) -> None:
    server = inn.open("--verifiers", "1")
    client = inn.log_in(server)
    assert client.reply() == OK
    there = family(server)
    os.kill(getattr(there, who), signal.SIGKILL)
    if who == "session":
        assert client.rest() == b""
    else:
        wait_for(has_left(getattr(there, who)))
        if who == "verifier":
            server.errors.until("a verifier ended with -9; a new one comes")
        else:
            server.errors.until("the nursery ended with -9; a new one comes")
        client.send(b"STAT\r\n")
        assert client.reply().startswith(b"+OK 1 ")
        assert not is_closed(inn)
        assert tree.is_there(there.keeper)
        client.send(b"QUIT\r\n")
        assert client.rest() == OK
    wait_for(lambda: is_closed(inn))
    wait_for(has_left(there.keeper))
    server.errors.text = ""  # so was it to be


def test_a_keeper_that_is_killed_leaves_the_session_alone(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    client = inn.log_in(server)
    assert client.reply() == OK
    there = family(server)
    os.kill(there.keeper, signal.SIGKILL)
    wait_for(lambda: there.keeper not in children_of(there.verifier))
    client.send(b"STAT\r\nQUIT\r\n")
    assert client.rest().startswith(b"+OK 1 ")


def test_a_session_that_outlives_its_crew_is_closed(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    client = inn.log_in(server)
    assert client.reply() == OK
    there = family(server)
    server.signal(signal.SIGHUP)
    wait_for(has_left(there.verifier))
    other = inn.log_in(server)
    assert other.reply() == OK
    assert not is_closed(inn)
    for each in (client, other):
        each.send(b"QUIT\r\n")
        assert each.rest() == OK
    wait_for(lambda: is_closed(inn))
    wait_for(has_left(there.keeper))


def test_the_master_waits_for_the_last_to_close(inn: Inn) -> None:
    """A service manager kills what is left when he has ended."""
    server = inn.open("--verifiers", "1")
    client = inn.log_in(server)
    assert client.reply() == OK
    there = family(server)
    (inn.room / "slow").touch()
    server.signal(signal.SIGTERM)
    client.send(b"QUIT\r\n")
    assert client.rest() == OK
    wait_for(has_left(there.nursery))
    wait_for(has_left(there.verifier))
    assert tree.is_there(there.keeper)
    assert not is_closed(inn)
    assert tree.is_there(server.pid)
    inn.let_go_on()
    assert server.code() == 0
    assert is_closed(inn)
    wait_for(has_left(there.keeper))


@pytest.mark.slow
def test_the_master_does_not_wait_for_ever(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    client = inn.log_in(server)
    assert client.reply() == OK
    there = family(server)
    (inn.room / "slow").touch()
    server.signal(signal.SIGTERM)
    client.send(b"QUIT\r\n")
    assert server.code() == 0
    server.errors.until("what sessions have begun does not end in time")
    assert tree.is_there(there.keeper)
    inn.let_go_on()
    wait_for(has_left(there.keeper))


def test_a_module_that_crashes_is_temporary_and_nobody_elses_trouble(inn: Inn) -> None:
    server = inn.open("--verifiers", "1")
    slow = inn.log_in(server, "joe", "slow")
    wait_for(lambda: "joe slow" in inn.read("tried"))
    crashing = inn.log_in(server, "joe", "crash")
    assert crashing.reply() == TEMPORARY
    server.errors.until("a check has ended without an answer")
    inn.let_go_on()
    assert slow.reply() == REFUSED
    assert "a new one comes" not in server.errors.text


def test_a_check_that_takes_too_long_is_temporary(inn: Inn) -> None:
    server = inn.open("--verifiers", "1", "--verify-timeout", "1")
    slow = inn.log_in(server, "joe", "slow")
    assert inn.log_in(server).reply() == OK
    assert slow.reply() == TEMPORARY
    assert "a new one comes" not in server.errors.text


def test_a_digest_is_no_password(inn: Inn) -> None:
    server = inn.open(popup="-d0 -m cram-md5,plain")
    client = inn.client(server)
    client.send(b"AUTH CRAM-MD5\r\n")
    assert client.reply().startswith(b"+ ")
    client.send(b2a_base64(b"joe " + b"0" * 32, newline=False) + b"\r\n")
    assert client.reply() == REFUSED
    assert inn.read("tried") == []
    client.send(b"AUTH PLAIN " + b2a_base64(b"\0joe\0" + SECRET.encode()))
    assert client.reply() == OK


def test_unix_users(inn: Inn) -> None:
    inn.settle("old", UID + 1, f"{CHANGED}:0:10:7:::")
    inn.settle("gone", UID + 2, f"{CHANGED}:0:{NEVER}:7::{CHANGED + 1}:")
    inn.serve("auth required pam_unix.so nodelay", "account required pam_unix.so")
    server = inn.open()
    expected = {
        ("joe", SECRET): OK,
        ("joe", "wrong"): REFUSED,
        ("nobody", "wrong"): REFUSED,
        ("no-such", SECRET): REFUSED,
        ("old", SECRET): EXPIRED,
        ("old", "wrong"): REFUSED,
        ("gone", SECRET): REFUSED,
    }
    clients = {words: inn.log_in(server, *words) for words in expected}
    assert {words: client.reply() for words, client in clients.items()} == expected


def foreign(inn: Inn, secret: str = SECRET) -> str:
    """Give the word for a checker that lets joe in by this secret."""
    checker = inn.room / "foreign"
    checker.write_text(
        "#!/bin/sh\n"
        f'env >{inn.room}/told; tr "\\000" "\\n" <&3 | grep -qx {secret} || exit 1\n'
        f'export USER=joe HOME={inn.room}/joe; cd "$HOME"\n'
        f'exec setpriv --reuid {UID} --regid {UID} --clear-groups "$@"\n'
    )
    checker.chmod(0o755)
    return f"command:{checker}"


def test_a_foreign_checker_decides(inn: Inn) -> None:
    server = inn.open(accounts=foreign(inn))
    good, bad = inn.log_in(server), inn.log_in(server, secret="wrong")
    assert good.reply() == OK
    good.send(b"STAT\r\n")
    assert good.reply().startswith(b"+OK 1 ")
    assert bad.reply() == REFUSED
    assert "TCPREMOTEIP=127.0.0.1" in inn.read("told")
    assert "POP3METHOD=User" in inn.read("told")


@pytest.mark.parametrize("accounts", ["command", "pam"])
def test_a_token_is_for_a_foreign_checker_only(inn: Inn, accounts: str) -> None:
    token = "t" * 2000
    words = {"command": foreign(inn, token), "pam": "pam"}
    server = inn.open(popup="-d0 -a9 -m xoauth2", accounts=words[accounts])
    for given in ("wrong", token):
        client = inn.client(server)
        client.send(b"AUTH XOAUTH2\r\n")
        assert client.reply() == b"+ \r\n"
        message = f"user=joe\1auth=Bearer {given}\1\1".encode()
        client.send(b2a_base64(message, newline=False) + b"\r\n")
        if given == token and accounts == "command":
            assert client.reply() == OK
        else:
            assert client.reply().startswith(b"+ ")  # why not
            assert client.ask(b"") == REFUSED
    assert inn.read("tried") == []


@pytest.mark.slow
def test_nothing_is_left_of_many(inn: Inn) -> None:
    server = inn.open("--verifiers", "1", "--per-source", "0")
    first = inn.log_in(server)
    assert first.reply() == OK
    verifier = family(server).verifier
    before = tree.count(verifier)
    for _ in range(4):
        clients = [inn.log_in(server) for _ in range(8)]
        clients += [inn.log_in(server, "joe", "wrong") for _ in range(8)]
        for client in clients:
            client.reply()
            client.send(b"QUIT\r\n")
            client.rest()
    wait_for(lambda: tree.count(verifier) == before)
    assert len(children_of(verifier)) == 1
    assert not tree.zombies(verifier)
    assert inn.read("sessions").count("open_session joe 127.0.0.1") == 33
