# SPDX-License-Identifier: ISC
"""The session log: it takes what fits, says what was lost, and holds up nobody."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Temporary
from qtools.server import syslogger
from qtools.server.warm import journal
from qtools.server.warm.journal import Journal
from qtools.system.fdio import PIPE_OCTETS
from tests.support import PATIENCE_SECONDS

LINE = b"popup: pid 7 Info::END::None P:POP3\n"
LOST = b"popserver: %d lines of this log were lost\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Give both ends of a pipe, the far one not blocking."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


def read(descriptor: int) -> bytes:
    parts = b""
    with suppress(BlockingIOError):
        while part := os.read(descriptor, 65536):
            parts += part
    return parts


def fill(log: Journal, line: bytes) -> int:
    """Write until a line is lost; give how many were not."""
    for written in range(100_000):
        if log._lost:
            return written - 1
        log.line(line, is_refusal=False)
    raise AssertionError("it never fills")


def test_without_a_log_nothing_is_lost() -> None:
    log = Journal(None)
    log.line(LINE, is_refusal=True)
    assert log._lost == 0


@pytest.mark.parametrize(
    ("has_levels", "expected"),
    [(False, LINE + LINE), (True, b"<5>" + LINE + b"<6>" + LINE)],
)
def test_lines_go_to_a_descriptor(
    pipe: tuple[int, int], expected: bytes, *, has_levels: bool
) -> None:
    log = journal.to_descriptor(pipe[1], has_levels=has_levels)
    log.line(LINE, is_refusal=True)
    log.line(LINE, is_refusal=False)
    assert read(pipe[0]) == expected


def test_lines_go_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("ab") as file:
        log = journal.to_descriptor(file.fileno(), has_levels=False)
        for _ in range(1000):
            log.line(LINE, is_refusal=False)
    assert path.read_bytes() == LINE * 1000


@pytest.mark.parametrize("blocks", [True, False])
def test_a_full_pipe_loses_lines_and_says_how_many(
    pipe: tuple[int, int], *, blocks: bool
) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocks)
    log = journal.to_descriptor(writer, has_levels=False)
    written = fill(log, LINE)
    for _ in range(4):
        log.line(LINE, is_refusal=False)
    before = read(reader)
    assert before == LINE * written
    log.line(LINE, is_refusal=False)
    log.line(LINE, is_refusal=False)
    assert read(reader) == LOST % 5 + LINE * 2


def test_the_note_may_be_the_last_that_fits() -> None:
    room = [0, 1, 0, 3]
    taken: list[bytes] = []

    def write(_level: int, line: bytes) -> bool:
        if room[0] == 0:
            return False
        room[0] -= 1
        taken.append(line)
        return True

    log = Journal(write)
    for _ in range(4):
        log.line(LINE, is_refusal=False)
        room.pop(0)
    assert taken == [LOST % 1, LOST % 2, LINE]


@pytest.mark.slow
@given(st.lists(st.integers(0, 4), max_size=30))
def test_each_line_is_written_or_counted(rooms: list[int]) -> None:
    taken: list[bytes] = []
    room = 0

    def write(_level: int, line: bytes) -> bool:
        nonlocal room
        room -= 1
        if room >= 0:
            taken.append(line)
        return room >= 0

    log = Journal(write)
    for each in rooms:
        room = each
        log.line(LINE, is_refusal=False)
    told = sum(int(line.split()[1]) for line in taken if line != LINE)
    assert taken.count(LINE) + told + log._lost == len(rooms)


@pytest.mark.parametrize("octets", [PIPE_OCTETS - 1, PIPE_OCTETS, 50_000])
@pytest.mark.parametrize("has_levels", [True, False])
def test_a_long_line_is_cut_and_keeps_its_end(
    pipe: tuple[int, int], octets: int, *, has_levels: bool
) -> None:
    log = journal.to_descriptor(pipe[1], has_levels=has_levels)
    log.line(b"x" * octets + b"\n", is_refusal=False)
    log.line(LINE, is_refusal=False)
    first, second = read(pipe[0]).splitlines(keepends=True)
    assert len(first) <= PIPE_OCTETS
    assert second.endswith(LINE)


def test_long_lines_fill_a_pipe_without_waiting(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    log = journal.to_descriptor(writer, has_levels=False)
    written = fill(log, b"x" * 50_000 + b"\n")
    assert read(reader) == (b"x" * (PIPE_OCTETS - 1) + b"\n") * written
    assert log._lost == 1


@pytest.mark.parametrize("path", ["/dev/full"])
def test_a_full_disk_loses_lines(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    log = journal.to_descriptor(descriptor, has_levels=False)
    for number in range(1, 5):
        log.line(LINE, is_refusal=False)
        assert log._lost == number
    os.close(descriptor)


def test_a_log_whose_reader_has_gone_loses_lines(pipe: tuple[int, int]) -> None:
    log = journal.to_descriptor(pipe[1], has_levels=False)
    os.close(pipe[0])
    for _ in range(3):
        log.line(LINE, is_refusal=True)
    os.close(pipe[1])
    log.line(LINE, is_refusal=True)
    assert log._lost == 4


# Syslog -----------------------------------------------------------------------


class Syslog:
    """A system's log, as syslog(3) of any process that we fork writes to it.

    That it finds a log daemon again is seen with a real one: test_standalone.
    """

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("")  # the kernel chooses a name that anybody may send to
        self.socket.settimeout(PATIENCE_SECONDS)
        self._address = self.socket.getsockname()

    def write(self, level: int, text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
            held.sendto(f"<{level}> {text}".encode(), self._address)

    def line(self) -> str:
        """Give the next line."""
        return self.socket.recv(65536).decode()


@pytest.fixture
def syslog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Syslog]:
    """Give the system's log."""
    made = Syslog()
    monkeypatch.setattr("syslog.syslog", made.write)
    yield made
    made.socket.close()


def test_syslog_gets_level_and_text_by_a_process_of_its_own(
    syslog: Syslog, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def start(program: str) -> int:
        started.append(real(program))
        return started[0]

    real = syslogger.start
    monkeypatch.setattr(syslogger, "start", start)
    log = journal.to_syslog("popup")
    log.line(LINE, is_refusal=True)
    log.line(LINE, is_refusal=False)
    text = "pid 7 Info::END::None P:POP3"
    assert [syslog.line(), syslog.line()] == [f"<5> {text}", f"<6> {text}"]
    assert not os.get_blocking(started[0]), "nobody waits for the log"
    os.close(started[0])
    os.waitpid(-1, 0)  # it ends when we do


def test_without_a_process_for_it_there_is_no_log_and_no_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_program: str) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(syslogger, "start", start)
    with pytest.raises(Temporary, match="unable to start a process for the session"):
        journal.to_syslog("popup")
