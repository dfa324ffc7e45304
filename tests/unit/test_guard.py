# SPDX-License-Identifier: ISC
"""Failures become exit codes and one line; notes go back to popup."""

import os
import posix
from collections.abc import Callable
from contextlib import suppress

import pytest

from qtools import errors
from qtools.errors import Failure, Hard, Misuse, Refused, Temporary
from qtools.system import guard, verdict


def failing(why: Exception) -> Callable[[list[str]], int]:
    def main(_argv: list[str]) -> int:
        raise why

    return main


@pytest.mark.parametrize(
    ("why", "code", "line"),
    [
        (Refused("no"), 1, "checkpw: no\n"),
        (Misuse("no record"), 2, "checkpw: no record\n"),
        (Hard("usage"), 100, "checkpw: usage\n"),
        (Temporary("later"), 111, "checkpw: later\n"),
        (Failure("something"), 111, "checkpw: something\n"),
        (KeyError("x"), 111, "checkpw: unexpected KeyError: 'x'\n"),
        (Hard("two\nlines\r\xf6"), 100, "checkpw: two\\nlines\\r\\xf6\n"),
    ],
)
def test_a_failure_is_a_code_and_one_line(
    why: Exception, code: int, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert guard.guarded(failing(why), ["/usr/local/bin/checkpw"]) == code
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", line)


def test_a_code_is_handed_on() -> None:
    assert guard.guarded(lambda _: 7, ["x"]) == 7


def test_a_traceback_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It changes nothing about the exit code, which is a verdict for popup."""
    monkeypatch.setattr(posix, "environ", {b"QTOOLS_DEBUG": b"1"})
    assert guard.guarded(failing(KeyError("x")), ["x"]) == errors.EXIT_TEMPORARY
    assert "in failing\n" in capfd.readouterr().err.replace("in main", "in failing")


def test_a_log_that_nobody_reads_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while os.write(writer, b"x" * 512):
            pass
    os.set_blocking(writer, True)
    kept = os.dup(2)
    os.dup2(writer, 2)
    try:
        guard.complain(["x"], "y")
    finally:
        os.dup2(kept, 2)
        for descriptor in (reader, writer, kept):
            os.close(descriptor)


def test_no_descriptor_2_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_descriptor: int, _data: bytes) -> int:
        raise OSError

    monkeypatch.setattr(posix, "write", closed)
    guard.complain(["x"], "y")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (2, Hard),
        (13, Hard),
        (20, Hard),
        (21, Hard),
        (11, Temporary),
        (5, Temporary),
        (12, Temporary),
        (24, Temporary),
        (28, Temporary),
        (110, Temporary),
        (116, Temporary),
        (9999, Temporary),
    ],
)
def test_an_error_of_the_system_is_hard_or_temporary(
    number: int, kind: type[Failure]
) -> None:
    why = errors.from_os_error(OSError(number, "words"), "open /x")
    assert type(why) is kind
    assert str(why) == "unable to open /x: words"


def test_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    environ = {verdict.VARIABLE: b"%d" % writer}
    monkeypatch.setattr(posix, "environ", environ)
    verdict.tell(verdict.ACCEPTED)
    assert environ
    verdict.tell(verdict.GREETED)
    assert not environ
    assert os.read(reader, 10) == b"AG"
    assert os.read(reader, 10) == b""
    verdict.tell(verdict.GREETED)
    os.close(reader)


@pytest.mark.parametrize("word", [b"", b"x", b"-1", b"65000"])
def test_a_note_nobody_wants_is_no_failure(
    word: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posix, "environ", {verdict.VARIABLE: word})
    verdict.tell(verdict.ACCEPTED)
    verdict.tell(verdict.GREETED)
