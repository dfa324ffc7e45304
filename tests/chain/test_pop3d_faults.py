# SPDX-License-Identifier: ISC
"""pop3d when things go wrong: kills, vanished clients, full disks, files that move.

tests/unit/test_update_faults.py interrupts QUIT at every single system call; here
processes are killed for real.
"""

import os
import random
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from tests.conftest import Tools
from tests.pop3 import Pop3, add, contents, make_maildir, names, talk
from tests.support import IS_NIGHTLY, IS_ROOT, OWNER, PATIENCE_SECONDS

COUNT = 200
DELETED = range(1, COUNT + 1, 3)
DELETIONS = b"".join(b"DELE %d\r\n" % number for number in DELETED)

# Runs pop3d's main(), but its nth call that changes the maildir is followed by kill -9.
SUICIDE = """
import posix, sys
sys.path.insert(0, sys.argv[1])
from qtools.maildrop import update
from qtools.tools import pop3d
left = int(sys.argv[2])

class Deadly:
    def __getattr__(self, name):
        real = getattr(posix, name)
        def call(*arguments, **named):
            global left
            real(*arguments, **named)
            left -= 1
            if not left:
                posix.kill(posix.getpid(), 9)
        return call if name in ("unlink", "link", "rename") else real

update.posix = Deadly()
posix._exit(pop3d.main(["pop3d", *sys.argv[3:]]))
"""


def message(number: int) -> bytes:
    return b"Subject: %d\n\nThis is message %d.\n" % (number, number)


def full_box(room: Path, name: str = "Maildir") -> Path:
    """Make a Maildir of 200 messages, three quarters of them new."""
    where = ("cur/{:03}.x.h:2,S", "new/{:03}.x.h", "new/{:03}.x.h", "new/{:03}.x.h")
    stored = {
        where[number % 4].format(number): message(number)
        for number in range(1, COUNT + 1)
    }
    return make_maildir(room / name, stored)


def check_nothing_lost(tools: Tools, box: Path) -> int:
    """Compare what is there and what was asked to be deleted with what there was.

    Then have another session complete the work. Gives how many deleted ones were left.
    """
    everything = {message(number) for number in range(1, COUNT + 1)}
    asked = {message(number) for number in DELETED}
    there = contents(box)
    assert len(there) == len(set(there))
    assert set(there) | asked == everything
    ended = talk([tools.pop3d, box.name], box.parent, b"STAT\r\nQUIT\r\n")
    assert ended.output.split()[2] == b"%d" % len(there)
    assert contents(box) == there
    assert len(names(box)) == len(there)
    return len(asked.intersection(there))


STEPS = range(1, 367) if IS_NIGHTLY else (1, 2, 66, 67, 68, 69, 70, 133, 250, 265, 266)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_kill_behind_a_step_of_quit(tools: Tools, room: Path, step: int) -> None:
    box = full_box(room)
    script = room / "suicide.py"
    script.write_text(SUICIDE)
    argv = [tools.python, "-IS", str(script), str(tools.prefix / "lib/qtools")]
    with Pop3([*argv, str(step), "Maildir"], room) as client:
        client.send(DELETIONS + b"QUIT\r\n")
        ended = client.end()
    replies = ended.output.count(b"+OK \r\n")
    if ended.code == 0:  # fewer steps than that
        assert replies == 2 + len(DELETED)
    else:
        assert (ended.code, replies) == (-signal.SIGKILL, 1 + len(DELETED))
    assert check_nothing_lost(tools, box) == max(0, len(DELETED) - step)


@pytest.mark.slow
def test_kill_at_any_time_loses_nothing(tools: Tools, room: Path) -> None:
    source = random.Random(0)
    unfinished = 0
    for number in range(500 if IS_NIGHTLY else 15):
        box = full_box(room, f"Maildir{number}")
        with Pop3([tools.pop3d, box.name], room) as client:
            client.send(DELETIONS)
            for _ in range(1 + len(DELETED)):
                client.line()
            client.send(b"QUIT\r\n")
            # QUIT takes some milliseconds; looking at the folder passes the time.
            for _ in range(source.randrange(40)):
                os.listdir(box / "cur")
            client.process.kill()
            unfinished += client.end().code != 0
        check_nothing_lost(tools, box)
    assert unfinished


SENT = (0, 1, 100, 70_000, 1_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("words", [["Maildir"], ["-acq"]])
def test_the_client_vanishes_in_retr(
    tools: Tools, room: Path, words: list[str], sent: int
) -> None:
    stored = {"new/1.x:2,": b"x" * 3_000_000, "cur/2.y:2,": b"y\n"}
    box = make_maildir(room / "Maildir", stored)
    before = names(box)
    listener = socket.create_server(("127.0.0.1", 0))
    # What the kernel has taken counts as sent: let it take less than the message.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    with listener, client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            process = subprocess.Popen(
                [tools.pop3d, *words],
                stdin=server.fileno(),
                stdout=server.fileno(),
                stderr=subprocess.PIPE,
                cwd=room,
                user=OWNER[0] if IS_ROOT else None,
                group=OWNER[1] if IS_ROOT else None,
                extra_groups=() if IS_ROOT else None,
            )
        client.settimeout(PATIENCE_SECONDS)
        client.sendall(b"DELE 2\r\nRETR 1\r\nQUIT\r\n")
        wanted = sent
        while wanted > 0:
            wanted -= len(client.recv(min(wanted, 65536)))
        # Leave with a reset, as a dial-up line that went down and came back.
        linger = struct.pack("ii", 1, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, b"")
    left = names(box)
    if "-acq" not in words:
        assert left == before
    else:  # at once, the reset may have overtaken the commands
        assert left - {"cur/2.y:2,"} == {"cur/1.x:2,"}
        assert sent == SENT[0] or len(left) == 1


def test_a_full_disk_behind_the_output(tools: Tools, room: Path) -> None:
    box = make_maildir(room / "Maildir", {"new/1.x": b"x\n"})
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [tools.pop3d, "Maildir"],
            input=b"DELE 1\r\nQUIT\r\n",
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=room,
            check=False,
            timeout=PATIENCE_SECONDS,
            user=OWNER[0] if IS_ROOT else None,
            group=OWNER[1] if IS_ROOT else None,
            extra_groups=() if IS_ROOT else None,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert names(box) == {"new/1.x"}


def test_folders_that_cannot_be_written(tools: Tools, room: Path) -> None:
    stored = {"new/1.x": b"x\n", "cur/2.y:2,": b"y\n"}
    box = make_maildir(room / "Maildir", stored)
    os.chmod(box / "new", 0o500)
    os.chmod(box / "cur", 0o500)
    ended = talk([tools.pop3d, "Maildir"], room, b"DELE 1\r\nDELE 2\r\nQUIT\r\n")
    os.chmod(box / "new", 0o700)
    os.chmod(box / "cur", 0o700)
    failure = b"-ERR some deleted messages not removed\r\n"
    assert ended == (b"+OK \r\n" * 3 + failure, 0, "")
    assert names(box) == set(stored)


def test_messages_removed_and_renamed_under_the_session(
    tools: Tools, room: Path
) -> None:
    stored = {"new/1.x": b"x\n", "new/2.y": b"y\n", "cur/3.z:2,": b"z\n"}
    box = make_maildir(room / "Maildir", stored)
    with Pop3([tools.pop3d, "Maildir"], room) as client:
        client.line()
        (box / "new/1.x").unlink()
        os.rename(box / "new/2.y", box / "cur/2.y:2,S")
        (box / "cur/3.z:2,").unlink()
        os.mkfifo(box / "cur/3.z:2,")
        assert client.ask(b"RETR 1") == b"-ERR unable to open that message\r\n"
        assert client.ask(b"TOP 1 0") == b"-ERR unable to open that message\r\n"
        assert client.fetch(b"RETR 2") == b"y\r\n"
        assert client.fetch(b"RETR 3") == b""  # a FIFO holds nobody up
        for number in (1, 2):
            assert client.ask(b"DELE %d" % number) == b"+OK \r\n"
        assert client.ask(b"QUIT") == b"+OK \r\n"
        client.end()
    assert names(box) == {"cur/3.z:2,"}


def test_the_whole_maildir_goes_away(tools: Tools, room: Path) -> None:
    box = make_maildir(room / "Maildir", {"new/1.x": b"x\n"})
    with Pop3([tools.pop3d, "Maildir"], room) as client:
        client.line()
        box.rename(room / "Away")
        assert client.fetch(b"RETR 1") == b"x\r\n"  # its descriptor is held
        (room / "Away/new/1.x").unlink()
        assert client.ask(b"RETR 1") == b"-ERR unable to open that message\r\n"
        client.ask(b"DELE 1")
        client.send(b"QUIT\r\n")
        ended = client.end()
    # Nobody can tell where the message is, so nobody claims that it was removed.
    assert ended == (b"-ERR some deleted messages not removed\r\n", 0, "")


@pytest.mark.slow
@pytest.mark.parametrize("becomes", [1_000_000, 4_000_000, 9_000_000])
def test_a_message_that_changes_while_it_is_sent(
    tools: Tools, room: Path, becomes: int
) -> None:
    box = make_maildir(room / "Maildir", {"cur/1.x:2,": b"line\n" * 1_600_000})
    with Pop3([tools.pop3d, "Maildir"], room) as client:
        client.line()
        client.send(b"RETR 1\r\nNOOP\r\n")
        assert client.line() == b"+OK \r\n"
        assert client.line() == b"line\r\n"
        os.truncate(box / "cur/1.x:2,", becomes)
        lines = client.lines()
        assert len(lines) < 1_600_000 or becomes > 8_000_000
        assert set(lines) <= {b"line", lines[-1]}
        assert client.line() == b"+OK \r\n"


def test_an_endless_line_gets_one_reply(tools: Tools, room: Path) -> None:
    make_maildir(room / "Maildir", {})
    said = [
        b"x" * 3_000_000 + b"\r\n",
        b"\0" * 100_000 + b"\n",
        b"RETR 1\0\r\n",
        b"NOOP" + b" " * 249 + b"\r\n",
        b"NOOP" + b" " * 250 + b"\r\n",
        b"NOOP\r\n",
    ]
    ended = talk([tools.pop3d, "Maildir"], room, b"".join(said))
    bad = b"-ERR syntax error\r\n"
    assert ended.output == b"+OK \r\n" + bad * 3 + b"+OK \r\n" + bad + b"+OK \r\n"
    assert (ended.code, ended.errors) == (0, "")


@pytest.mark.slow
def test_binary_input_gets_a_reply_a_line(tools: Tools, room: Path) -> None:
    make_maildir(room / "Maildir", {"cur/1.x:2,": b"x\n"})
    source = random.Random(1)
    for _ in range(200 if IS_NIGHTLY else 5):
        said = source.randbytes(200_000)
        ended = talk([tools.pop3d, "Maildir"], room, said)
        assert ended.output.count(b"-ERR ") == said.count(b"\n")
        assert (ended.code, ended.errors) == (0, "")


@pytest.mark.slow
def test_many_pipelined_commands_take_no_memory(tools: Tools, room: Path) -> None:
    stored = {f"cur/{number}.x:2,": b"x\n" for number in range(500)}
    make_maildir(room / "Maildir", stored)
    limit = 40 << 10  # KiB of addresses
    script = f'ulimit -v {limit} && exec "$0" "$@"'
    argv = ["/bin/sh", "-c", script, tools.pop3d, "Maildir"]
    with Pop3(argv, room) as client:
        assert client.line() == b"+OK \r\n"
        octets = len(b"".join(b"%d 3\r\n" % number for number in range(1, 501))) + 9
        client.send(b"LIST\r\n" * 8000)  # asks for 39 MB with one packet
        left = 8000 * octets
        while left:
            left -= len(client.client.recv(min(left, 1 << 20)))
        assert client.ask(b"NOOP") == b"+OK \r\n"


def test_no_descriptor_left_for_the_maildir_is_temporary(
    tools: Tools, room: Path
) -> None:
    make_maildir(room / "Maildir", {"cur/1.x:2,": b"x\n"})
    script = 'ulimit -n 5 && exec "$0" "$@" 4</dev/null'
    argv = ["/bin/sh", "-c", script, tools.pop3d, "Maildir"]
    ended = talk(argv, room, b"STAT\r\n")
    text = "pop3d: unable to read maildir Maildir: Too many open files\n"
    assert ended == (b"", 111, text)


@pytest.mark.slow
def test_deliveries_go_on_while_sessions_fetch_and_delete(
    tools: Tools, room: Path
) -> None:
    box = make_maildir(room / "Maildir", {})
    sent = [b"delivered %d\r\n" % number for number in range(300)]

    def deliver() -> None:
        for number, text in enumerate(sent):
            add(box, f"tmp/{number}.x", text.replace(b"\r", b""))
            os.rename(box / f"tmp/{number}.x", box / f"new/{number}.x")

    deliveries = threading.Thread(target=deliver)
    deliveries.start()
    fetched = []
    is_last = False
    while not is_last:
        is_last = not deliveries.is_alive()  # what comes now has to be the rest
        with Pop3([tools.pop3d, "Maildir"], room) as client:
            client.line()
            count = int(client.ask(b"STAT").split()[1])
            for number in range(1, count + 1):
                fetched.append(client.fetch(b"RETR %d" % number))
                client.ask(b"DELE %d" % number)
            assert client.ask(b"QUIT") == b"+OK \r\n"
            client.end()
    deliveries.join()
    assert sorted(fetched) == sorted(sent)
    assert names(box) == set()
