# SPDX-License-Identifier: ISC
"""pop3d -D, in the place of popa3d -D: its limits, its daemon, its log."""

import os
import poplib
import pwd
import re
import signal
import socket
import ssl
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.certificates import authority
from tests.chain.checker import system_user
from tests.chain.test_checkpw import hashed
from tests.chain.test_import_budget import BUDGET, imported
from tests.conftest import Tools, make_install
from tests.faults.harness import SECRET, Village
from tests.interop.servers import MARK, marked
from tests.support import (
    IS_ROOT,
    OWNER,
    PATIENCE_SECONDS,
    free_port,
    need,
    need_root,
    wait_for,
)

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"
NAME = "joe"
SESSIONS_PER_SOURCE = 50
STATE, LISTENING = 3, "0A"  # a column of /proc/net/tcp, and what it says there


class Server:
    """A pop3d -D: its port, its processes, what it said to whoever started it."""

    def __init__(self, argv: list[str], env: dict[str, str], port: int) -> None:
        self.port = port
        self._mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            argv,
            env={**env, MARK: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def processes(self) -> dict[int, str]:
        """Give all that runs, number and name."""
        return marked(self._mark)

    def daemon(self) -> int:
        """Give the number of the process all others come from."""
        parents = {pid: _parent(pid) for pid in self.processes()}
        (found,) = [pid for pid, parent in parents.items() if parent not in parents]
        return found

    def connect(self, source: str = HOST) -> socket.socket:
        """Give a connection."""
        place = (HOST, self.port)
        return socket.create_connection(place, PATIENCE_SECONDS, (source, 0))

    def log_in(self, name: str = NAME, secret: str = SECRET.decode()) -> poplib.POP3:
        """Give a client that has logged in."""
        client = poplib.POP3(HOST, self.port, timeout=PATIENCE_SECONDS)
        try:
            client.user(name)
            client.pass_(secret)
        except poplib.error_proto:
            client.close()
            raise
        return client

    def end(self) -> None:
        """End all of it, if it is there, and wait for that."""
        wait_for(lambda: not self._kill())
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _kill(self) -> dict[int, str]:
        """Kill what runs, and give it."""
        found = self.processes()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found


def _parent(pid: int) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        return int(status.rpartition(")")[2].split()[1])
    return 0


def is_listening(port: int) -> bool:
    """Tell whether somebody listens, without being a connection that counts."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    rows = [line.split() for line in lines[1:]]
    wanted = f":{port:04X}"
    return any(row[1].endswith(wanted) and row[STATE] == LISTENING for row in rows)


Start = Callable[..., Server]


@pytest.fixture
def village(room: Path) -> Village:
    made = Village(room)
    made.settle(NAME, mail=3)
    return made


@pytest.fixture
def start(tools: Tools, village: Village) -> Iterator[Start]:
    """Give a function that starts pop3d -D on a free port, and waits for it.

    It takes more words, what comes in front of all, whether to stay in the foreground.
    """
    running: list[Server] = []

    def run(
        *words: str,
        before: tuple[str, ...] = (),
        program: str = tools.pop3d,
        stays: bool = True,
        **env: str,
    ) -> Server:
        port = free_port()
        stay = ["--foreground"] if stays else []
        argv = [*before, program, "-D", *stay, "--listen", f"{HOST}:{port}", *words]
        environ = tools.environment(QTOOLS_ACCOUNTS=village.source)
        server = Server(argv, {**environ, **env}, port)
        running.append(server)
        if stays:
            wait_for(lambda: is_listening(port) or server.process.poll() is not None)
        else:
            server.process.wait(PATIENCE_SECONDS)
        return server

    yield run
    for server in running:
        server.end()


def test_a_user_of_the_system_reads_his_mail(start: Start, room: Path) -> None:
    """As with popa3d there is nothing to set up."""
    need_root()
    home = room / "home"
    home.mkdir()
    with system_user(home, hashed(SECRET)) as name:
        entry = pwd.getpwnam(name)
        for folder in ("", "tmp", "new", "cur"):
            (home / "Maildir" / folder).mkdir(0o700)
        (home / "Maildir/new/1.mail").write_bytes(b"Subject: hello\n\nyou\n")
        for place in (home, *home.rglob("*")):
            os.chown(place, entry.pw_uid, entry.pw_gid)
        server = start(QTOOLS_ACCOUNTS="")
        client = server.log_in(name)
        assert client.retr(1)[1] == [b"Subject: hello", b"", b"you"]
        client.dele(1)
        client.quit()
        wait_for(lambda: not list((home / "Maildir").glob("*/1.mail*")))
        server.end()


def test_in_the_foreground_the_log_is_on_descriptor_2(start: Start) -> None:
    server = start()
    server.log_in().quit()
    with pytest.raises(poplib.error_proto):
        server.log_in(secret="a guess")
    server.process.terminate()
    assert server.process.wait(PATIENCE_SECONDS) == 0
    assert server.process.stderr
    log = server.process.stderr.read()
    for event in ("Accept::AUTH::User", "Reject::AUTH::User", "Info::END::User"):
        pattern = rf"pop3d: pid \d+ {event} P:POP3 S:{HOST}:unknown \?~ '{NAME}'"
        assert re.search(pattern, log), log


def test_each_connection_has_one_try(start: Start) -> None:
    server = start()
    with server.connect() as client, client.makefile("rb") as lines:
        lines.readline()
        client.sendall(b"USER joe\r\nPASS a guess\r\n")
        assert lines.readline() == b"+OK \r\n"
        assert lines.readline().startswith(b"-ERR [AUTH]")
        assert lines.read() == b""


def test_short_connections_count_for_a_while_and_the_refused_hear_nothing(
    start: Start,
) -> None:
    server = start()
    for _ in range(SESSIONS_PER_SOURCE):
        with server.connect() as client:
            client.sendall(b"QUIT\r\n")
            assert client.recv(100).startswith(b"+OK")
    with server.connect() as client, suppress(ConnectionResetError):
        assert client.recv(100) == b""
    with server.connect("127.0.0.2") as client:  # a source of its own
        assert client.recv(100).startswith(b"+OK")


def leave(client: poplib.POP3) -> None:
    """Leave without QUIT."""
    client.close()


def folders(village: Village) -> dict[str, int]:
    """Give how many messages are where."""
    maildir = village.residents[NAME.encode()].maildir
    return {name: len(os.listdir(maildir / name)) for name in ("new", "cur")}


def test_options_are_those_of_the_sessions(start: Start, village: Village) -> None:
    server = start("-n", "-c")
    client = server.log_in()
    client.dele(1)
    leave(client)
    wait_for(lambda: folders(village) == {"new": 2, "cur": 0})
    server.log_in().quit()
    server.process.terminate()
    server.process.wait(PATIENCE_SECONDS)
    assert folders(village) == {"new": 2, "cur": 0}  # nothing was moved


@pytest.mark.parametrize("words", [("-m", "Other"), ("Other",), ("--", "Other")])
def test_the_maildir_can_be_another(
    start: Start, village: Village, words: tuple[str, ...]
) -> None:
    maildir = village.residents[NAME.encode()].maildir
    maildir.rename(maildir.with_name("Other"))
    client = start(*words).log_in()
    assert client.stat()[0] == 3
    client.quit()


def test_timeout_holds_before_and_after_the_login(start: Start) -> None:
    server = start("-t", "1")
    with server.connect() as waiting:
        inside = server.log_in()
        assert waiting.recv(100).startswith(b"+OK")
        assert waiting.recv(100) == b""
        assert inside.file.read() in (b"", b"-ERR timeout\r\n")
        inside.close()


def test_a_listener_with_tls_has_sslservers_certificate(
    start: Start, session_room: Path
) -> None:
    made = authority(session_room / "standalone")
    both = made.combined("mx.example")
    port = free_port()
    server = start("--listen", f"tls:{HOST}:{port}", CERTFILE=str(both))
    trust = ssl.create_default_context(cafile=str(made.ca))
    with (
        socket.create_connection((HOST, port), PATIENCE_SECONDS) as client,
        trust.wrap_socket(client, server_hostname="mx.example") as inside,
    ):
        assert inside.recv(100).startswith(b"+OK")
    plain = poplib.POP3(HOST, server.port)
    assert "STLS" in plain.capa()
    plain.quit()


def test_accounts_and_attempts_by_options(start: Start, village: Village) -> None:
    words = ("--accounts", village.source, "--attempts", "2", "--delay=0")
    server = start(*words, QTOOLS_ACCOUNTS="system")
    client = poplib.POP3(HOST, server.port, timeout=PATIENCE_SECONDS)
    for secret in ("a guess", SECRET.decode()):
        client.user(NAME)
        with suppress(poplib.error_proto):
            client.pass_(secret)
    assert client.stat()[0] == 3
    client.quit()


def test_apop_by_an_option(start: Start) -> None:
    server = start("-T", "mx.example")
    client = poplib.POP3(HOST, server.port, timeout=PATIENCE_SECONDS)
    assert re.search(rb"<\d+\.\S+@mx\.example>$", client.getwelcome())
    client.apop(NAME, SECRET.decode())
    assert client.stat()[0] == 3
    client.quit()


@pytest.mark.parametrize("said", ["apop", "APOP"])
def test_apop_alone_is_what_it_stays(start: Start, said: str) -> None:
    server = start("-A", POP3AUTH=said)
    client = poplib.POP3(HOST, server.port, timeout=PATIENCE_SECONDS)
    offered = client.capa()
    assert "APOP" in offered
    assert not {"USER", "SASL"} & set(offered)
    with pytest.raises(poplib.error_proto) as why:
        client.user(NAME)
    assert why.value.args == (b"-ERR USER not available",)
    client.apop(NAME, SECRET.decode())
    client.quit()


WRONG = {
    "a service of PAM's without PAM": ["-p", "pop3", "--accounts", "system"],
    "an option of other uses": ["-a"],
    "a user": ["-u", "joe"],
    "two Maildirs": ["one", "two"],
    "a place that is none": ["--listen", "nowhere"],
    "TLS without a certificate": ["--listen", f"tls:{HOST}:0"],
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_at_once(tools: Tools, what: str) -> None:
    port = free_port()
    argv = [tools.pop3d, "-D", "--listen", f"{HOST}:{port}", *WRONG[what]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (100, "")
    assert done.stderr.startswith("pop3d: ")
    assert done.stderr.count("\n") == 1
    assert not is_listening(port)


@pytest.mark.parametrize("word", ["--foreground", "--listen=127.0.0.1:0"])
def test_words_of_a_server_are_for_a_server(tools: Tools, word: str) -> None:
    argv = [tools.pop3d, word, "Maildir"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (100, 1)
    assert "are for -D" in done.stderr


def test_a_port_that_is_taken_is_temporary(tools: Tools) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        argv = [tools.pop3d, "-D", "--listen", f"{HOST}:{port}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 111
    assert done.stderr == (
        f"pop3d: unable to bind {HOST}:{port}: Address already in use\n"
    )


def test_what_the_daemon_finds_wrong_is_told_by_whoever_was_started(
    start: Start,
) -> None:
    server = start(stays=False, CERTFILE="/nonexistent/file")
    assert server.process.returncode == 100
    assert server.process.stderr
    told = server.process.stderr.read()
    assert (
        told == "pop3d: unable to read /nonexistent/file: No such file or directory\n"
    )
    wait_for(lambda: not server.processes())


def test_the_daemon_has_left_everything_of_its_starter(start: Start) -> None:
    server = start(stays=False)
    assert server.process.returncode == 0
    # Whoever reads what it said need not wait for the daemon.
    assert server.process.communicate(timeout=PATIENCE_SECONDS) == ("", "")
    server.log_in().quit()
    daemon = server.daemon()
    assert os.getsid(daemon) != os.getsid(0)
    assert os.readlink(f"/proc/{daemon}/cwd") == "/"
    for pid in server.processes():
        assert os.getsid(pid) == os.getsid(daemon)
        with suppress(OSError):  # a session that has ended meanwhile
            places = {
                os.readlink(f"/proc/{pid}/fd/{descriptor}") for descriptor in "012"
            }
            assert all(re.match(r"/dev/null$|(pipe|socket):", one) for one in places)
    os.kill(daemon, signal.SIGTERM)
    wait_for(lambda: not server.processes())


def test_a_prefix_of_the_programs_changes_nothing(start: Start, room: Path) -> None:
    """There may be a pop3d of somebody else's, and no checkpw of ours by that name."""
    prefix = room / "prefixed"
    make_install(prefix, PROGPREFIX="q")
    server = start(program=str(prefix / "bin/qpop3d"))
    server.log_in().quit()
    server.process.terminate()
    server.process.wait(PATIENCE_SECONDS)
    assert server.process.stderr
    assert "qpop3d: pid " in server.process.stderr.read()


def test_a_session_loads_nothing_of_the_server(tools: Tools, village: Village) -> None:
    maildir = village.residents[NAME.encode()].maildir
    loaded, said = imported(
        tools.pop3d,
        str(maildir),
        client=b"STAT\r\nQUIT\r\n",
        user=OWNER[0] if IS_ROOT else None,
    )
    assert said.startswith(b"+OK \r\n+OK 3 ")
    assert BUDGET.exists()
    assert not {name for name in loaded if name.startswith("qtools.server")}


NUMBER = re.compile(r"\b\d+\b")


class Log:
    """A /dev of a test's own, in which somebody listens to the system's log."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self._folder = folder
        (folder / "null").touch()
        self.socket = self.listen()

    def listen(self) -> socket.socket:
        """Begin to listen, again if need be."""
        path = self._folder / "log"
        path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.settimeout(PATIENCE_SECONDS)
        made.bind(str(path))
        path.chmod(0o666)
        return made

    def before(self) -> tuple[str, ...]:
        """Give the words that run a program where this is /dev."""
        script = (
            'mount --bind /dev/null "$0/null" && mount --rbind "$0" /dev && exec "$@"'
        )
        unshare = need("unshare", "util-linux")
        words = (unshare, "--mount", "sh", "-c", script, str(self._folder))
        if subprocess.run(
            [*words, "true"], capture_output=True, check=False
        ).returncode:
            need("unshare --mount that may mount", "util-linux, outside a container")
        return words

    def line(self) -> str:
        """Give the next line: its priority, and what stands behind the time."""
        text = self.socket.recv(8192).decode("ascii").rstrip("\0")
        found = re.fullmatch(r"<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d (.*)", text)
        assert found, text
        return f"{found[1]} {NUMBER.sub('N', found[2])}"


@pytest.fixture
def log(room: Path) -> Iterator[Log]:
    need_root()
    made = Log(room / "dev")
    yield made
    made.socket.close()


# Facility mail, with the priorities info, notice, err and crit.
INFO, NOTICE, ERROR, CRITICAL = (16 + priority for priority in (6, 5, 3, 2))


def event(priority: int, what: str) -> str:
    return (
        f"{priority} pop3d[N]: pid N {what}::User P:POP3 S:N.N.N.N:unknown ?~ '{NAME}'"
    )


def test_the_daemon_logs_to_syslog(start: Start, log: Log) -> None:
    server = start(stays=False, before=log.before())
    assert server.process.returncode == 0
    server.log_in().quit()
    assert log.line() == event(INFO, "Accept::AUTH")
    assert log.line().startswith(event(INFO, "Info::END") + " why=served code=N")
    with pytest.raises(poplib.error_proto):
        server.log_in(secret="a guess")
    assert log.line() == event(NOTICE, "Reject::AUTH")


def test_a_log_daemon_that_comes_back_is_found_again(start: Start, log: Log) -> None:
    server = start(stays=False, before=log.before())
    server.log_in().quit()
    log.line()
    log.line()
    log.socket.close()
    log.socket = log.listen()
    server.log_in().quit()
    assert log.line() == event(INFO, "Accept::AUTH")


def test_complaints_of_the_daemon_are_in_the_log(start: Start, log: Log) -> None:
    server = start(stays=False, before=log.before())
    confined = wait_for(lambda: [p for p in server.processes() if _is_confined(p)])
    assert isinstance(confined, list)
    os.kill(confined[0], signal.SIGKILL)
    text = log.line()
    assert text.startswith(f"{ERROR} pop3d[N]: the login worker ended with -N")


def _is_confined(pid: int) -> bool:
    return os.listdir(f"/proc/{pid}/root") == []


def test_why_it_did_not_start_is_in_the_log(start: Start, log: Log) -> None:
    server = start("-u", "joe", stays=False, before=log.before())
    assert server.process.returncode == 100
    assert log.line().startswith(f"{CRITICAL} pop3d[N]: --username is for one session")
