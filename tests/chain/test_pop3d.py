# SPDX-License-Identifier: ISC
"""The real pop3d over real descriptors: replies, options, exit codes, files."""

import os
import poplib
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests import corpus
from tests.conftest import Tools
from tests.pop3 import Pop3, add, make_maildir, names, own, talk
from tests.support import IS_ROOT, OWNER, PATIENCE_SECONDS, need_root

FILE = b"From: x\nSubject: y\n\nbody1\n.dot\n..\nlast"
HEAD = b"From: x\r\nSubject: y\r\n\r\n"


@pytest.fixture
def box(room: Path) -> Path:
    """Give a room whose Maildir holds one new message and one that was seen."""
    make_maildir(room / "Maildir", {"new/1.x.h": FILE, "cur/2.y.h:2,S": b"\nhi\n"})
    return room


def test_the_session_as_qmail_has_it(tools: Tools, box: Path) -> None:
    said = b"STAT\r\nUIDL\r\nLIST\r\nRETR 2\r\nTOP 1 1\r\nDELE 2\r\nQUIT\r\n"
    ended = talk([tools.pop3d, "Maildir"], box, said)
    assert ended == (
        b"+OK \r\n+OK 2 52\r\n+OK \r\n1 1.x.h\r\n2 2.y.h\r\n.\r\n"
        b"+OK \r\n1 46\r\n2 6\r\n.\r\n+OK \r\n\r\nhi\r\n.\r\n"
        b"+OK \r\n" + HEAD + b"body1\r\n.\r\n+OK \r\n+OK \r\n",
        0,
        "",
    )
    assert names(box / "Maildir") == {"cur/1.x.h:2,"}


def test_the_session_as_mdpop3d_has_it(tools: Tools, box: Path) -> None:
    said = b"STAT\r\nDELE 1\r\nRETR 2\r\nCAPA\r\nQUIT\r\n"
    ended = talk([tools.pop3d, "-aq"], box, said)
    assert ended.output == (
        b"+OK maildir: 2 message(s) 52 octet(s)\r\n+OK 2 52\r\n+OK\r\n"
        b"+OK\r\n\r\nhi\r\n.\r\n+OK\r\nUIDL\r\nTOP\r\nLANG\r\nRESP-CODES\r\nPIPELINING"
        b"\r\nEXPIRE NEVER\r\nIMPLEMENTATION qtools\r\nUSER\r\n.\r\n+OK\r\n"
    )
    assert names(box / "Maildir") == {"cur/2.y.h:2,S"}


def test_poplib_gets_the_corpus(
    tools: Tools, maildir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poplib, "_MAXLINE", 1 << 20)
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, Served(tools, listener, maildir.parent):
        host, port = listener.getsockname()
        client = poplib.POP3(host, port, PATIENCE_SECONDS)
        for number, message in enumerate(corpus.messages(), 1):
            _, lines, octets = client.retr(number)
            assert b"".join(line + b"\r\n" for line in lines) == message.wire
            listed: object = client.list(number)
            assert listed == b"+OK %d %d" % (number, octets)
            top = [b"%b\r\n" % line for line in client.top(number, 2)[1]]
            assert b"".join(top) == corpus.top(message.wire, 2)
        wires = [message.wire for message in corpus.messages()]
        assert client.stat() == (len(wires), sum(map(len, wires)))
        client.quit()


class Served:
    """One pop3d for the next connection to a listener."""

    def __init__(self, tools: Tools, listener: socket.socket, folder: Path) -> None:
        self._thread = threading.Thread(
            target=self._serve, args=(tools, listener, folder)
        )

    def _serve(self, tools: Tools, listener: socket.socket, folder: Path) -> None:
        connection, _ = listener.accept()
        with connection:
            subprocess.run(
                [tools.pop3d, "Maildir"],
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                cwd=folder,
                check=True,
                user=OWNER[0] if IS_ROOT else None,
                group=OWNER[1] if IS_ROOT else None,
                extra_groups=() if IS_ROOT else None,
            )

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE_SECONDS)


def test_one_write_a_reply_and_one_for_a_pipelined_batch(
    tools: Tools, maildir: Path
) -> None:
    # A sequenced-packet socket keeps writes apart.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_SECONDS)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with ours, theirs:
        process = subprocess.Popen(
            [tools.pop3d, "Maildir"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            cwd=maildir.parent,
            user=OWNER[0] if IS_ROOT else None,
            group=OWNER[1] if IS_ROOT else None,
            extra_groups=() if IS_ROOT else None,
        )
        assert ours.recv(1 << 20) == b"+OK \r\n"
        for number, message in enumerate(corpus.messages(), 1):
            if len(message.wire) < 60_000:
                ours.send(b"RETR %d\r\n" % number)
                reply = ours.recv(1 << 20)
                assert reply == b"+OK \r\n" + corpus.stuffed(message.wire)
        ours.send(b"LIST\r\nUIDL\r\nNOOP\r\nRETR 1\r\nSTAT\r\n")
        assert ours.recv(1 << 20).count(b"+OK ") == 5
        ours.send(b"QUIT\r\n")
        assert ours.recv(1 << 20) == b"+OK \r\n"
        assert process.wait(PATIENCE_SECONDS) == 0


def test_pipes_do_as_well_as_sockets(tools: Tools, maildir: Path) -> None:
    done = subprocess.run(
        [tools.pop3d, "Maildir"],
        input=b"RETR 20\r\nQUIT\r\n",
        capture_output=True,
        cwd=maildir.parent,
        check=True,
        timeout=PATIENCE_SECONDS,
        user=OWNER[0] if IS_ROOT else None,
        group=OWNER[1] if IS_ROOT else None,
        extra_groups=() if IS_ROOT else None,
    )
    wire = corpus.messages()[-1].wire
    assert done.stdout == b"+OK \r\n" * 2 + corpus.stuffed(wire) + b"+OK \r\n"


@pytest.mark.slow
def test_huge_messages_take_no_memory(tools: Tools, room: Path) -> None:
    huge = {
        "cur/1.line:2,": b"x" * 30_000_000,
        "cur/2.lines:2,": b".a line like any other\n" * 1_300_000,
        "cur/3.dots:2,": b"\n." * 200_000,
    }
    make_maildir(room / "Maildir", huge)
    limit = 40 << 10  # KiB of addresses, interpreter and all
    script = f'ulimit -v {limit} && exec "$0" "$@"'
    with Pop3(["/bin/sh", "-c", script, tools.pop3d, "Maildir"], room) as client:
        assert client.line() == b"+OK \r\n"
        for number, stored in enumerate(huge.values(), 1):
            wire = corpus.wire(stored)
            assert client.ask(b"LIST %d" % number) == b"+OK %d %d\r\n" % (
                number,
                len(wire),
            )
            client.send(b"RETR %d\r\nTOP %d 1\r\nNOOP\r\n" % (number, number))
            expected = b"+OK \r\n" + corpus.stuffed(wire)
            expected += b"+OK \r\n" + corpus.stuffed(corpus.top(wire, 1)) + b"+OK \r\n"
            assert exactly(client.client, len(expected)) == expected
        assert client.ask(b"QUIT") == b"+OK \r\n"
        assert client.end().code == 0


def exactly(connection: socket.socket, octets: int) -> bytes:
    parts = []
    while octets:
        part = connection.recv(min(octets, 1 << 20))
        assert part, "closed early"
        parts.append(part)
        octets -= len(part)
    return b"".join(parts)


OPTIONS = [
    (["--maildir", "Other", "Maildir"], b"+OK 0 0"),
    (["-mOther", "-a"], b"+OK 0 0"),
    (["-a", "Other"], b"+OK 0 0"),
    (["-u", "joe", "-m", "Maildir"], b"+OK 2 52"),
    (["-t", "5", "-c", "-n", "-q", "Maildir"], b"+OK 2 52"),
    (["-r", "host", "-R", "NOT_THERE", "Maildir"], b"+OK 2 52"),
    (["--blank-line", "Maildir"], b"+OK 2 56"),
    (["--", "Maildir"], b"+OK 2 52"),
]


@pytest.mark.parametrize(("words", "stat"), OPTIONS)
def test_options(tools: Tools, box: Path, words: list[str], stat: bytes) -> None:
    make_maildir(box / "Other", {})
    ended = talk([tools.pop3d, *words], box, b"STAT\r\nQUIT\r\n")
    assert ended.output.split(b"\r\n")[1] == stat
    assert ended.code == 0


def test_which_maildir_is_served(tools: Tools, box: Path) -> None:
    make_maildir(box / "Other", {})
    env = {"MAILDIR": "Other"}

    def count(*words: str, env: dict[str, str] | None = None) -> bytes:
        return talk([tools.pop3d, "-q", *words], box, b"STAT\r\n", env).output[-10:]

    assert count("-a") == b"+OK 2 52\r\n"
    assert count("-a", env=env).endswith(b"+OK 0 0\r\n")
    assert count("-a", env={"MAILDIR": ""}) == b"+OK 2 52\r\n"
    assert count("-a", "-mMaildir", env=env) == b"+OK 2 52\r\n"
    assert count("Maildir", env=env) == b"+OK 2 52\r\n"
    inside = talk([tools.pop3d, "-qam."], box / "Maildir", b"STAT\r\n", env)
    assert inside.output.endswith(b"+OK 2 52\r\n")


def test_the_blank_line_is_sent_and_counted(tools: Tools, box: Path) -> None:
    ended = talk([tools.pop3d, "--blank-line", "Maildir"], box, b"LIST 2\r\nRETR 2\r\n")
    assert ended.output == b"+OK \r\n+OK 2 8\r\n+OK \r\n\r\nhi\r\n\r\n.\r\n"


def test_no_move(tools: Tools, box: Path) -> None:
    talk([tools.pop3d, "-n", "Maildir"], box, b"DELE 2\r\nQUIT\r\n")
    assert names(box / "Maildir") == {"new/1.x.h"}


@pytest.mark.parametrize("words", [["Maildir"], ["-aq"]])
def test_without_quit_nothing_changes(
    tools: Tools, box: Path, words: list[str]
) -> None:
    before = names(box / "Maildir")
    ended = talk([tools.pop3d, *words], box, b"RETR 1\r\nDELE 1\r\nDELE 2\r\nQUI")
    assert ended.code == 0
    assert names(box / "Maildir") == before


def test_commit_makes_a_closed_connection_a_quit(tools: Tools, box: Path) -> None:
    ended = talk([tools.pop3d, "-acq"], box, b"DELE 2\r\n")
    assert (ended.output.count(b"\r\n"), ended.code) == (2, 0)
    assert names(box / "Maildir") == {"cur/1.x.h:2,"}


@pytest.mark.slow
@pytest.mark.parametrize("words", [["-t1", "Maildir"], ["-act1"]])
def test_an_idle_client_times_out_in_silence(
    tools: Tools, box: Path, words: list[str]
) -> None:
    with Pop3([tools.pop3d, *words], box) as client:
        client.line()
        client.ask(b"DELE 2")
        assert client.end(shut=False) == (b"", 0, "")
    is_committed = "-act1" in words
    assert ("cur/2.y.h:2,S" in names(box / "Maildir")) != is_committed


@pytest.mark.slow
def test_a_client_that_does_not_read_times_out(tools: Tools, room: Path) -> None:
    make_maildir(room / "Maildir", {"cur/1.x:2,": b"x" * 5_000_000})
    with Pop3([tools.pop3d, "-t1", "Maildir"], room) as client:
        client.send(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        assert client.process.wait(PATIENCE_SECONDS) == 0
    assert names(room / "Maildir") == {"cur/1.x:2,"}


def test_sigterm_commits_nothing(tools: Tools, box: Path) -> None:
    before = names(box / "Maildir")
    with Pop3([tools.pop3d, "-acq"], box) as client:
        client.line()
        client.ask(b"DELE 2")
        client.process.send_signal(signal.SIGTERM)
        assert client.end(shut=False) == (b"", -signal.SIGTERM, "")
    assert names(box / "Maildir") == before


USAGE = [
    (["-p", "pop3", "Maildir"], "--service is for logins"),
    (["--attempts=1", "Maildir"], "--attempts is for logins"),
    (["Maildir", "x"], "too many arguments"),
    (["-t", "x", "Maildir"], "--timeout takes a whole number"),
    (["-t", "0", "Maildir"], "--timeout takes a whole number"),
    (["-x", "Maildir"], "unknown option -x"),
    (["-R", "NOT_THERE", "Maildir"], "variable NOT_THERE is not set"),
    (["Nowhere"], "unable to read maildir Nowhere: No such file or directory"),
    (["Maildir/cur/2.y.h:2,S"], "Not a directory"),
]


@pytest.mark.parametrize(("words", "text"), USAGE)
def test_a_failure_before_the_greeting_is_silent(
    tools: Tools, box: Path, words: list[str], text: str
) -> None:
    ended = talk([tools.pop3d, *words], box, b"")
    assert (ended.output, ended.code) == (b"", 100)
    assert ended.errors.startswith("pop3d: ")
    assert text in ended.errors
    assert ended.errors.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["-m", "Maildir"]])
def test_behind_a_login_there_is_no_other(
    tools: Tools, box: Path, words: list[str]
) -> None:
    ended = talk([tools.pop3d, *words], box, b"", {"QTOOLS_VERDICT": "99"})
    assert (ended.output, ended.code) == (b"", 100)
    assert "needs a maildir, or -a or -u: the login is done already" in ended.errors


def test_options_of_mdpop3d_s_login_do_no_harm_behind_one(
    tools: Tools, box: Path
) -> None:
    ended = talk([tools.pop3d, "-aqA", "-p", "x", "-T", "y"], box, b"QUIT\r\n")
    assert ended.output.startswith(b"+OK maildir: ")


def test_an_unreadable_maildir_is_silent(tools: Tools, box: Path) -> None:
    os.chmod(box / "Maildir", 0)
    ended = talk([tools.pop3d, "Maildir"], box, b"")
    os.chmod(box / "Maildir", 0o700)
    assert (ended.output, ended.code) == (b"", 100)
    assert "Permission denied" in ended.errors


def test_mdpop3d_speaks_for_itself_where_nobody_else_would(
    tools: Tools, box: Path
) -> None:
    ended = talk([tools.pop3d, "-a", "-m", "Nowhere"], box, b"STAT\r\n")
    reply = b"-ERR [SYS/PERM] the server is not set up for you\r\n"
    assert (ended.output, ended.code) == (reply, 0)
    assert "unable to read maildir Nowhere" in ended.errors
    # 99 is no descriptor: popup has gone, but it would have spoken.
    env = {"QTOOLS_VERDICT": "99"}
    ended = talk([tools.pop3d, "-a", "-m", "Nowhere"], box, b"STAT\r\n", env)
    assert (ended.output, ended.code) == (b"", 100)


@pytest.mark.parametrize("words", [["Maildir"], ["-u", "root"]])
def test_nothing_is_served_as_root(tools: Tools, box: Path, words: list[str]) -> None:
    need_root()
    for uids in ((0, 0), (OWNER[0], 0), (0, OWNER[0])):
        code = f"import os; os.setresuid({uids[0]}, {uids[1]}, 0); os.execv(%r, %r)"
        argv = [tools.pop3d, *words]
        done = subprocess.run(
            [tools.python, "-I", "-c", code % (tools.pop3d, argv)],
            input=b"QUIT\r\n",
            capture_output=True,
            cwd=box,
            check=False,
            env={"QTOOLS_VERDICT": "99"},
        )
        assert (done.stdout, done.returncode) == (b"", 100)
        assert done.stderr == b"pop3d: refuses to serve as uid 0\n"


@pytest.mark.parametrize("word", ["--help", "--version", "-V"])
def test_help_and_version(tools: Tools, box: Path, word: str) -> None:
    ended = talk([tools.pop3d, word], box, b"")
    assert (ended.code, ended.errors) == (0, "")
    if word == "--help":
        assert ended.output.startswith(b"usage: pop3d [options] maildir | pop3d -a|-u")
    else:
        assert ended.output.startswith(b"pop3d (qtools) ")


def test_popup_learns_that_the_session_has_begun(tools: Tools, box: Path) -> None:
    code = (
        "import os, sys; ours, theirs = os.pipe(); os.set_inheritable(theirs, True)\n"
        "os.environ['QTOOLS_VERDICT'] = str(theirs)\n"
        "if not os.fork(): os.execv(sys.argv[1], sys.argv[1:])\n"
        "os.close(theirs); note = os.read(ours, 9); os.wait()\n"
        "os.write(2, note + os.read(ours, 9) + b'.')\n"
    )
    argv = [tools.python, "-I", "-c", code, tools.pop3d]
    assert talk([*argv, "Maildir"], box, b"QUIT\r\n").errors == "G."
    assert talk([*argv, "Nowhere"], box, b"QUIT\r\n").errors.endswith("\n.")


def test_what_popup_hands_over(tools: Tools, box: Path) -> None:
    env = {"POP3CAPA": "USER\nSASL PLAIN", "POP3LANG": "de", "POP3UTF8": "1"}
    ended = talk([tools.pop3d, "Maildir"], box, b"CAPA\r\nRETR x\r\n", env)
    lines = ended.output.split(b"\r\n")
    assert {b"USER", b"SASL PLAIN", b"UTF8 USER", b"AUTH-RESP-CODE"} <= set(lines)
    assert lines[-2] == b"-ERR Syntaxfehler"


def test_the_working_directory_may_be_closed_to_us(tools: Tools, box: Path) -> None:
    # As for a virtual user: an absolute path, and a home that is not his.
    closed = box / "closed"
    closed.mkdir(0o711)
    argv = [tools.pop3d, str(box / "Maildir")]
    assert talk(argv, closed, b"STAT\r\n").output == b"+OK \r\n+OK 2 52\r\n"


def test_a_delivery_during_the_session_changes_nothing(tools: Tools, box: Path) -> None:
    with Pop3([tools.pop3d, "Maildir"], box) as client:
        client.line()
        add(box / "Maildir", "new/0.early", b"x\n", 1)
        assert client.ask(b"STAT") == b"+OK 2 52\r\n"
        assert client.fetch(b"RETR 2") == b"\r\nhi\r\n"
        client.ask(b"DELE 1")
        assert client.ask(b"QUIT") == b"+OK \r\n"
        client.end()
    assert names(box / "Maildir") == {"new/0.early", "cur/2.y.h:2,S"}


def test_ids_stay_from_session_to_session(tools: Tools, maildir: Path) -> None:
    add(maildir, "new/1000000001.a b", b"x")
    add(maildir, "cur/" + "y" * 200 + ":2,", b"x")
    own(maildir)
    argv = [tools.pop3d, "Maildir"]
    first = talk(argv, maildir.parent, b"UIDL\r\nQUIT\r\n").output
    assert talk(argv, maildir.parent, b"UIDL\r\nQUIT\r\n").output == first
    assert len(first.split(b"\r\n")) == 22 + 5
