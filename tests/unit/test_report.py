# SPDX-License-Identifier: ISC
"""The lines for syslog, with names chosen by a stranger."""

import socket
import syslog

import pytest

from qtools.system import fdio, report
from qtools.system.report import LoginReport, Report


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *_: None)
    monkeypatch.setattr(syslog, "syslog", lambda *line: lines.append(line))
    return lines


def test_a_session_in_two_lines(logged: list[tuple[int, str]]) -> None:
    told = Report(b"192.0.2.7", b"joe")
    told.started()
    told.trace(b"RETR 1")
    told.ended("quit", (3, 120, 1, 40))
    assert logged == [
        (syslog.LOG_INFO, "[192.0.2.7][joe] connected"),
        (syslog.LOG_DEBUG, "[192.0.2.7][joe] < RETR 1"),
        (
            syslog.LOG_INFO,
            "[192.0.2.7][joe] quit (3/120 msgs/bytes left, 1/40 deleted)",
        ),
    ]


@pytest.mark.parametrize("is_quiet", [False, True])
def test_what_is_told_before_a_login(
    logged: list[tuple[int, str]], *, is_quiet: bool
) -> None:
    told = LoginReport(b"192.0.2.7", is_quiet=is_quiet)
    told.trace(b"USER joe")
    told.incorrect(b"joe")
    told.unknown(b"x] [y")
    told.expired(b"ann")
    told.ended("quit")
    info, debug = syslog.LOG_INFO, syslog.LOG_DEBUG
    assert logged[:4] == [
        (debug, "[192.0.2.7] < USER joe"),
        (info, "[192.0.2.7] login incorrect for [joe]"),
        (info, r"[192.0.2.7] user unknown: [x\x5d\x20\x5by]"),
        (info, "[192.0.2.7] password expired for [ann]"),
    ]
    assert logged[4:] == ([] if is_quiet else [(info, "[192.0.2.7] quit before login")])


def test_octets_may_be_unknown(logged: list[tuple[int, str]]) -> None:
    Report(b"h", b"u").ended("timeout", (3, None, 1, None))
    assert logged[0][1] == "[h][u] timeout (3/- msgs/bytes left, 1/- deleted)"


def test_a_quiet_report_keeps_errors(logged: list[tuple[int, str]]) -> None:
    told = Report(b"192.0.2.7", b"joe", is_quiet=True)
    told.started()
    told.failed("disk on fire")
    told.ended("quit", (0, 0, 0, 0))
    assert logged == [(syslog.LOG_ERR, "[192.0.2.7][joe] disk on fire")]


def test_nobody_writes_a_line_of_his_own(logged: list[tuple[int, str]]) -> None:
    told = Report(b"host]\n[x", b"joe] quit [\xe4\0%s")
    told.started()
    told.trace(b"USER a\n\x1b[31m")
    who = "[host\\x5d\\x0a\\x5bx][joe\\x5d\\x20quit\\x20\\x5b\\xe4\\x00%s]"
    assert [line for _, line in logged] == [
        f"{who} connected",
        f"{who} < USER a\\x0a\\x1b[31m",
    ]


def test_the_peer_is_asked_for_its_address() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            assert fdio.peer_address(server.fileno()) == b"127.0.0.1"
            assert fdio.peer_address(listener.fileno()) == b"unknown"
            assert server.send(b"still open") == 10
        assert client.recv(99) == b"still open"
    with open("/dev/null", "rb") as null:
        assert fdio.peer_address(null.fileno()) == b"unknown"


def test_own_name_falls_back_to_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.own_name()
    monkeypatch.setattr("posix.getuid", lambda: 54_399)
    assert report.own_name() == b"54399"
