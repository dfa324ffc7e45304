# SPDX-License-Identifier: ISC
"""pop3d that logs in by itself, in the place of mdpop3d under inetd."""

import hashlib
import os
import pwd
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.chain.alone import Alone, is_there, kill
from tests.chain.test_standalone import Log
from tests.conftest import Tools
from tests.faults.harness import SECRET, Village
from tests.support import OWNER, need_root, wait_for

NAME = "joe"
INCORRECT = b"-ERR [AUTH] login incorrect"
PERMANENT = b"-ERR [SYS/PERM] the server is not set up for you"
TEMPORARY = b"-ERR [SYS/TEMP] temporary failure, try again later"
JUNK_LIMIT = 10

Start = Callable[..., Alone]


@pytest.fixture
def village(room: Path) -> Village:
    made = Village(room)
    made.settle(NAME, mail=3)
    return made


@pytest.fixture
def start(tools: Tools, village: Village) -> Iterator[Start]:
    """Give a function that starts pop3d with more words, and more environment."""
    running: list[Alone] = []

    def run(
        *words: str,
        before: tuple[str, ...] = (),
        has_errors: bool = True,
        user: int | None = None,
        **env: str,
    ) -> Alone:
        accounts = [] if "QTOOLS_ACCOUNTS" in env else ["--accounts", village.source]
        argv = [*before, tools.pop3d, *accounts, *words]
        running.append(Alone(argv, env, has_errors=has_errors, user=user))
        return running[-1]

    yield run
    for each in running:
        each.__exit__(None, None, None)


def log_in(client: Alone, secret: bytes = SECRET, name: bytes = b"joe") -> bytes:
    """Read the greeting and log in; give the reply to PASS."""
    assert client.line().startswith(b"+OK")
    return client.ask(b"USER " + name, b"PASS " + secret)


@pytest.mark.parametrize("has_errors", [True, False])
def test_a_session_in_mdpop3d_s_words(start: Start, *, has_errors: bool) -> None:
    client = start(has_errors=has_errors)
    assert client.line() == b"+OK"
    assert client.ask(b"USER joe") == b"+OK"
    reply = client.ask(b"PASS " + SECRET)
    assert re.fullmatch(rb"\+OK maildir: 3 message\(s\) \d+ octet\(s\)", reply)
    assert client.ask(b"stat") == b"+OK 3 " + reply.split()[4]
    assert client.ask(b"UIDL 1").startswith(b"+OK 1 ")
    assert client.ask(b"DELE 1", b"NOOP", b"QUIT") == b"+OK"
    assert client.rest() == b""
    assert client.end() == (0, "")


def test_deleted_messages_are_gone(start: Start, village: Village) -> None:
    client = start()
    log_in(client)
    assert client.ask(b"DELE 1", b"DELE 3", b"QUIT") == b"+OK"
    client.end()
    assert len(os.listdir(village.residents[b"joe"].maildir / "cur")) == 1


def test_all_in_one_piece(start: Start) -> None:
    """What stands behind PASS waits for whoever serves."""
    client = start()
    client.send(b"USER joe", b"PASS " + SECRET, b"UIDL 1", b"DELE 1", b"STAT", b"QUIT")
    assert client.rest().count(b"+OK") == 7
    assert client.end()[0] == 0


def test_over_pipes_nothing_is_read_too_far(tools: Tools, village: Village) -> None:
    said = b"USER joe\r\nPASS " + SECRET + b"\r\nSTAT\r\nQUIT\r\n"
    argv = [tools.pop3d, "--accounts", village.source]
    done = subprocess.run(argv, input=said, capture_output=True, check=False)
    assert done.stdout.count(b"+OK") == 5
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        (b"joe", b"wrong"),
        (b"joe", b""),
        (b"nobody-at-all", SECRET),
        (b"joe", b"x" * 200),
        (b"j" * 240, b"y" * 240),
        (b"\xff[]%s", b"\xfe"),
    ],
)
def test_whoever_is_refused_hears_the_same(
    start: Start, name: bytes, secret: bytes
) -> None:
    client = start("--delay=0")
    reply = log_in(client, secret, name)
    assert reply == (INCORRECT if secret else b"-ERR syntax error")
    if secret:
        assert client.rest() == b""
        assert client.end() == (1, "")


@pytest.mark.slow
def test_a_refusal_takes_its_time(start: Start) -> None:
    client = start("--delay=1")
    client.line()
    client.ask(b"USER joe")
    began = monotonic()
    assert client.ask(b"PASS wrong") == INCORRECT
    assert monotonic() - began >= 1


def test_there_may_be_more_attempts(start: Start) -> None:
    client = start("--attempts=3", "--delay=0")
    for _ in range(2):
        assert client.ask() == b""
    assert log_in(client, b"wrong") == INCORRECT
    assert client.ask(b"USER joe", b"PASS wrong") == INCORRECT
    assert client.ask(b"USER joe", b"PASS " + SECRET).startswith(b"+OK maildir: 3 ")


def test_a_digest_is_no_password(start: Start) -> None:
    client = start("-A", "--delay=0")
    stamp = client.line().split()[1]
    digest = hashlib.md5(stamp + SECRET).hexdigest().encode()
    assert client.ask(b"USER joe", b"PASS " + digest) == INCORRECT


@pytest.mark.parametrize(
    ("words", "host"),
    [(["-T", "mail.example"], "mail.example"), (["-A"], socket.gethostname())],
)
def test_apop(start: Start, words: list[str], host: str) -> None:
    client = start(*words)
    greeting = client.line()
    shape = rb"\+OK (<\d+\.\d+@" + re.escape(host.encode()) + rb">)"
    found = re.fullmatch(shape, greeting)
    assert found
    digest = hashlib.md5(found[1] + SECRET).hexdigest().encode()
    assert client.ask(b"APOP joe " + digest.upper()) == b"-ERR syntax error"
    assert client.ask(b"APOP joe " + digest).startswith(b"+OK maildir: 3 ")


def test_apop_is_off_by_itself(start: Start) -> None:
    client = start()
    assert client.line() == b"+OK"
    assert client.ask(b"APOP joe " + b"0" * 32) == b"-ERR APOP not available"


def listed(client: Alone) -> list[bytes]:
    """Give what CAPA lists."""
    assert client.ask(b"CAPA") == b"+OK"
    return list(iter(client.line, b"."))


@pytest.mark.parametrize(
    ("words", "has", "has_not"),
    [
        ([], [b"USER", b"SASL PLAIN LOGIN"], [b"APOP", b"STLS"]),
        (["-A"], [b"USER", b"APOP"], [b"STLS"]),
        (["--plaintext=refuse"], [], [b"USER", b"SASL PLAIN LOGIN"]),
        (["--mechanisms=none"], [b"USER"], [b"SASL PLAIN LOGIN", b"SASL"]),
    ],
)
def test_what_is_listed_is_there(
    start: Start, words: list[str], has: list[bytes], has_not: list[bytes]
) -> None:
    client = start(*words)
    client.line()
    found = listed(client)
    assert {b"TOP", b"UIDL", *has} <= set(found)
    assert not set(has_not) & set(found)


def test_what_was_listed_stays_listed(start: Start) -> None:
    client = start()
    log_in(client)
    assert {b"TOP", b"UIDL", b"USER", b"SASL PLAIN LOGIN"} <= set(listed(client))


@pytest.mark.parametrize(
    "junk",
    [b"STAT", b"\0", b"NO\0OP", b"x" * 5000, b"\xff" * 300, b"", b"GET / HTTP/1.0"],
)
def test_junk_is_answered_line_by_line_up_to_a_limit(start: Start, junk: bytes) -> None:
    client = start()
    client.line()
    client.send(*[junk] * (JUNK_LIMIT + 5))
    replies = client.rest().splitlines()
    assert len(replies) == JUNK_LIMIT
    assert all(reply.startswith(b"-ERR ") for reply in replies)
    assert client.end() == (1, "")


@pytest.mark.slow
def test_silence_is_ended(start: Start) -> None:
    client = start("-t", "1")
    client.line()
    assert client.rest() == b""
    assert client.end() == (111, "")


def test_options_of_the_session_count(start: Start, village: Village) -> None:
    maildir = village.residents[b"joe"].maildir
    client = start("-n", "-c")
    log_in(client)
    client.ask(b"DELE 1")
    client.client.shutdown(socket.SHUT_WR)
    client.end()
    assert [len(os.listdir(maildir / name)) for name in ("new", "cur")] == [2, 0]


PLACES = [
    ([], {}, "Maildir"),
    ([], {"MAILDIR": "Other"}, "Other"),
    (["-m", "Third"], {"MAILDIR": "Other"}, "Third"),
    (["-m", "."], {}, "."),
]


@pytest.mark.parametrize(("words", "env", "place"), PLACES)
def test_where_the_mail_is(
    start: Start, village: Village, words: list[str], env: dict[str, str], place: str
) -> None:
    maildir = village.residents[b"joe"].maildir
    if place == ".":
        for folder in maildir.iterdir():
            folder.rename(maildir.parent / folder.name)
    else:
        maildir.rename(maildir.with_name(place))
    client = start(*words, **env)
    assert log_in(client).startswith(b"+OK maildir: 3 ")


def test_what_an_account_s_own_line_says_counts_most(
    start: Start, village: Village
) -> None:
    maildir = village.residents[b"joe"].maildir
    maildir.rename(maildir.with_name("Own"))
    text = village.accounts.read_text()
    own = f" maildir={maildir.with_name('Own')}\n"
    village.accounts.write_text(text.rstrip() + own)
    client = start("-m", "Maildir", MAILDIR="Other")
    assert log_in(client).startswith(b"+OK maildir: 3 ")


def test_nowhere_to_serve_is_told_by_ourselves(start: Start) -> None:
    client = start("-m", "Nowhere")
    assert log_in(client) == PERMANENT
    code, errors = client.end()
    assert code == 0
    assert errors.endswith(
        "unable to read maildir Nowhere: No such file or directory\n"
    )


WRONG = {
    "a file that is not there": [
        "--accounts",
        "authuser:/nonexistent/file",
        "--delay=0",
    ],
    "-R without it": ["-R", "NOT_THERE"],
    "a service of PAM's without PAM": ["-p", "pop3"],
    "no number": ["--delay", "x"],
    "no mechanism": ["--mechanisms", "telepathy"],
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_to_client_and_operator(start: Start, what: str) -> None:
    client = start(*WRONG[what])
    first = client.line()
    if first == b"+OK":  # a file is looked for when it is needed
        first = client.ask(b"USER joe", b"PASS " + SECRET)
    assert first == PERMANENT
    code, errors = client.end()
    assert code in (0, 1)
    assert errors.startswith("pop3d: ")
    assert errors.count("\n") == 1


def test_a_number_for_root_lets_nobody_in(start: Start, village: Village) -> None:
    text = village.accounts.read_text()
    village.accounts.write_text(re.sub(r"uid=\d+", "uid=0", text))
    assert log_in(start("--delay=0")) == INCORRECT


def test_without_root_the_own_mail_is_served(start: Start, village: Village) -> None:
    need_root()  # to have two kinds of users
    village.settle("ann", mail=1, ids=(54399, 54399))
    os.chmod(village.accounts, 0o644)
    assert log_in(start(user=OWNER[0])).startswith(b"+OK maildir: 3 ")
    other = start("--accounts", village.source, user=OWNER[0])
    assert log_in(other, name=b"ann") == TEMPORARY


@pytest.fixture
def log(room: Path) -> Iterator[Log]:
    need_root()
    made = Log(room / "dev")
    yield made
    made.socket.close()


INFO, DEBUG = 16 + 6, 16 + 7  # facility mail


def test_the_log_of_a_session(start: Start, log: Log) -> None:
    client = start(before=log.before())
    log_in(client)
    client.ask(b"DELE 1", b"QUIT")
    who = f"{INFO} pop3d[N]: [N.N.N.N][joe]"
    assert log.line() == f"{who} connected"
    assert log.line() == f"{who} quit (N/N msgs/bytes left, N/N deleted)"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"joe", "login incorrect for [joe]"),
        (b"who", "user unknown: [who]"),
        (b"x] [%s", r"user unknown: [x\x5d\x20\x5b%s]"),
    ],
)
def test_the_log_of_a_refusal(start: Start, log: Log, name: bytes, text: str) -> None:
    client = start("-q", "--delay=0", "-r", "client.example", before=log.before())
    assert log_in(client, b"wrong", name) == INCORRECT
    assert log.line() == f"{INFO} pop3d[N]: [client.example] {text}"
    client.end()
    log.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        log.socket.recv(100)  # one line, and none of the end


@pytest.mark.parametrize(
    ("env", "words", "host"),
    [
        ({}, [], "N.N.N.N"),
        ({"REMOTE_HOST": "b.example"}, [], "b.example"),
        ({"REMOTE_HOST": "b", "TCPREMOTEIP": "a.example"}, [], "a.example"),
        ({"TCPREMOTEIP": "", "REMOTE_HOST": "b.example"}, [], "b.example"),
        ({"V": "c.example", "TCPREMOTEIP": "a"}, ["-R", "V"], "c.example"),
        ({"V": "c", "TCPREMOTEIP": "a"}, ["-R", "V", "-r", "d"], "d"),
    ],
)
def test_whom_the_log_takes_for_the_client(
    start: Start, log: Log, env: dict[str, str], words: list[str], host: str
) -> None:
    client = start(*words, before=log.before(), **env)
    client.line()
    client.ask(b"QUIT")
    assert log.line() == f"{INFO} pop3d[N]: [{host}] quit before login"


def test_debugging_shows_lines_but_no_secret(start: Start, log: Log) -> None:
    client = start("-d", before=log.before())
    log_in(client)
    client.ask(b"RETR 9", b"QUIT")
    lines = [log.line() for _ in range(6)]
    assert lines == [
        f"{DEBUG} pop3d[N]: [N.N.N.N] < USER joe",
        f"{DEBUG} pop3d[N]: [N.N.N.N] < PASS <hidden>",
        f"{INFO} pop3d[N]: [N.N.N.N][joe] connected",
        f"{DEBUG} pop3d[N]: [N.N.N.N][joe] < RETR N",
        f"{DEBUG} pop3d[N]: [N.N.N.N][joe] < QUIT",
        f"{INFO} pop3d[N]: [N.N.N.N][joe] quit (N/N msgs/bytes left, N/N deleted)",
    ]


def test_debugging_shows_nothing_of_a_login_that_was_not_begun(
    start: Start, log: Log
) -> None:
    client = start("-d", before=log.before())
    client.line()
    client.ask(b"AUTH LOGIN2", b"am9l", b"c2VjcmV0", b"STAT")
    assert [log.line() for _ in range(4)] == [
        f"{DEBUG} pop3d[N]: [N.N.N.N] < AUTH <hidden>",
        f"{DEBUG} pop3d[N]: [N.N.N.N] < <unknown>",
        f"{DEBUG} pop3d[N]: [N.N.N.N] < <unknown>",
        f"{DEBUG} pop3d[N]: [N.N.N.N] < STAT",
    ]


def test_under_inetd_complaints_go_to_the_log(start: Start, log: Log) -> None:
    client = start("-m", "Nowhere", has_errors=False, before=log.before())
    assert log_in(client) == PERMANENT
    assert client.rest() == b""
    assert "unable to read maildir Nowhere" in log.line()


class TestProcesses:
    """Of a pop3d that is root: which there are, and that each may die."""

    @pytest.fixture(autouse=True)
    def as_root(self) -> None:
        """Have two kinds of users."""
        need_root()

    def test_root_hears_nothing_before_the_login(self, start: Start) -> None:
        client = start()
        client.line()
        wait_for(lambda: _call(client.process.pid)[0] in RECEIVING)
        (parent, child) = client.processes()
        assert (parent.uid, child.uid) == (0, pwd.getpwnam("nobody").pw_uid)
        assert (child.groups, child.capabilities) == ("", 0)
        assert child.root != "/"

        def is_woken() -> bool:
            assert client.ask(b"NOOP") == b"+OK"
            return client.processes()[1].sleeps >= child.sleeps + 10

        wait_for(is_woken)
        later, _ = client.processes()
        assert later.sleeps == parent.sleeps, "root was woken by the client"

    def test_root_waits_for_the_dialogue_and_for_nothing_else(
        self, start: Start
    ) -> None:
        client = start()
        client.line()
        parent, child = client.processes()
        wait_for(lambda: _call(parent.pid)[0] in RECEIVING)
        call = _call(parent.pid)
        held = os.readlink(f"/proc/{parent.pid}/fd/{int(call[1], 16)}")
        assert held != os.readlink(f"/proc/{parent.pid}/fd/0")
        assert held.startswith("socket:")
        assert child.parent == parent.pid

    def test_who_serves_is_the_user_and_alone(
        self, start: Start, village: Village
    ) -> None:
        client = start()
        log_in(client)
        (only,) = client.processes()
        assert only.pid == client.process.pid
        assert (only.uid, only.capabilities) == (OWNER[0], 0)
        held = {os.readlink(link) for link in Path(f"/proc/{only.pid}/fd").iterdir()}
        assert str(village.accounts) not in held
        assert len([place for place in held if place.startswith("socket:")]) <= 2
        status = Path(f"/proc/{only.pid}/status").read_text(encoding="ascii")
        assert re.search(rf"^Uid:(\t{OWNER[0]}){{4}}$", status, re.MULTILINE)
        assert re.search(rf"^Gid:(\t{OWNER[1]}){{4}}$", status, re.MULTILINE)

    def test_the_dialogue_dies(self, start: Start) -> None:
        client = start()
        client.line()
        kill(client.dialogue())
        assert client.rest() == b""
        assert client.end() == (111, "")

    def test_the_parent_dies(self, start: Start) -> None:
        client = start()
        client.line()
        child = client.dialogue()
        client.process.kill()
        assert client.rest() == b""
        wait_for(lambda: not is_there(child.pid))

    def test_the_verifier_dies(self, start: Start, village: Village) -> None:
        """One that hangs on a fifo, and is killed there."""
        village.accounts.unlink()
        os.mkfifo(village.accounts)
        client = start("--delay=0")
        client.line()
        client.send(b"USER joe", b"PASS x")

        def verifier() -> int:
            _, *others = client.processes()
            found = [each.pid for each in others if each.root == "/"]
            return found[0] if found else 0

        pid = wait_for(verifier)
        wait_for(lambda: _call(pid)[0] in OPENING)
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        os.kill(pid, signal.SIGKILL)
        assert client.line() == b"+OK"
        assert client.line() == TEMPORARY

    def test_the_parent_dies_while_a_verifier_hangs(
        self, start: Start, village: Village
    ) -> None:
        village.accounts.unlink()
        os.mkfifo(village.accounts)
        client = start("--delay=0")
        client.line()
        client.send(b"USER joe", b"PASS x")
        wait_for(lambda: len(client.processes()) == 3)
        _, *others = client.processes()
        client.process.kill()
        assert client.line() == b"+OK"
        assert client.line() == TEMPORARY
        assert client.rest() == b""
        confined = [each for each in others if each.root != "/"]
        wait_for(lambda: not any(is_there(each.pid) for each in confined))
        kill(next(each for each in others if each.root == "/"))


# recvfrom(2) and openat(2), on amd64 and arm64
RECEIVING = ("45", "207")
OPENING = ("257", "56")


def _call(pid: int) -> list[str]:
    """Give the number and the arguments of the call that a process waits in."""
    return Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()
