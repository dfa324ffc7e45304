# SPDX-License-Identifier: ISC
"""The verifier: whatever happens to it, only its answer is an accept."""

import os
import posix
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from qtools.accounts import answer
from qtools.accounts.interface import Identity
from qtools.accounts.verifier import Verifier
from qtools.errors import Hard, Misuse, Refused, Temporary


def ask(check: Callable[[], Identity]) -> tuple[int, Identity | None]:
    return Verifier(check, ["checkpw"], is_verbose=False).wait()


def test_an_identity_comes_back() -> None:
    code, who = ask(lambda: Identity(b"joe", 7, 8, home=b"/h"))
    assert code == 0
    assert who is not None
    assert (who.name, who.uid, who.gid, who.home) == (b"joe", 7, 8, b"/h")


@pytest.mark.parametrize("kind", [Refused, Misuse, Hard, Temporary, RuntimeError])
def test_a_failure_comes_back_as_its_code(kind: type[Exception]) -> None:
    def check() -> NoReturn:
        raise kind("why")

    assert ask(check) == (getattr(kind, "code", 111), None)


@pytest.mark.parametrize(
    ("is_verbose", "said"), [(False, ""), (True, "checkpw: why\n")]
)
def test_a_refusal_is_told_only_when_asked(
    capfd: pytest.CaptureFixture[str], *, is_verbose: bool, said: str
) -> None:
    def check() -> NoReturn:
        raise Refused("why")

    Verifier(check, ["/usr/bin/checkpw"], is_verbose=is_verbose).wait()
    assert capfd.readouterr().err == said


def leave(code: int) -> NoReturn:
    posix._exit(code)


def write_and_leave(data: bytes, code: int) -> NoReturn:
    """Write into the verifier's own pipe, as one gone mad would."""
    for descriptor in set(os.listdir("/proc/self/fd")) - BEFORE:
        try:
            posix.write(int(descriptor), data)
        except OSError:
            continue
    posix._exit(code)


BEFORE: set[str] = set()


def outcome(end: Callable[[], Identity]) -> tuple[int, Identity | None]:
    try:
        return ask(end)
    except Temporary as why:
        return why.code, None


GOOD = answer.pack(0, Identity(b"joe", 7, 8))


@pytest.mark.parametrize(
    "end",
    [
        lambda: leave(0),
        lambda: leave(1),
        lambda: leave(111),
        lambda: os.kill(posix.getpid(), signal.SIGKILL),
        lambda: os.kill(posix.getpid(), signal.SIGTERM),
        lambda: write_and_leave(b"garbage", 0),
        lambda: write_and_leave(GOOD[:-1], 0),
        lambda: write_and_leave(GOOD + b"\0", 0),
        lambda: write_and_leave(GOOD + GOOD, 0),
        lambda: write_and_leave(GOOD, 1),
        lambda: write_and_leave(b"x" * 9999, 0),
        lambda: Identity(b"x" * 5000, 7, 8),
    ],
)
def test_no_other_end_is_an_accept(
    end: Callable[[], Identity], capfd: pytest.CaptureFixture[str]
) -> None:
    BEFORE.clear()
    BEFORE.update(os.listdir("/proc/self/fd"))
    assert outcome(end) == (111, None)
    capfd.readouterr()


class Ending:
    """Begins something, and tells on a pipe when it is ended, and in what state."""

    def __init__(self) -> None:
        self.reader, self._writer = posix.pipe()
        self.verifier: Verifier | None = None
        self.home = b""

    def check(self) -> Identity:
        who = Identity(b"joe", 7, 8, home=self.home)
        who.ending = self._end
        return who

    def _end(self) -> None:
        nowhere = os.stat("/dev/null").st_rdev
        is_mute = all(os.fstat(number).st_rdev == nowhere for number in (0, 1))
        posix.write(self._writer, b"%d mute=%d\n" % (posix.getpid(), is_mute))

    def begin(self) -> tuple[int, Identity | None]:
        self.verifier = Verifier(self.check, ["checkpw"], is_verbose=False)
        posix.close(self._writer)
        return self.verifier.wait()

    def has_ended(self, seconds: float = 0) -> bool:
        return bool(select.select([self.reader], [], [], seconds)[0])

    def told(self) -> bytes:
        """Give all that is told until the verifier is gone."""
        with open(self.reader, "rb") as reader:
            return reader.read()


@pytest.fixture
def ending() -> Ending:
    return Ending()


def children() -> set[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in found}


def test_what_was_begun_is_ended_when_the_user_has_gone(ending: Ending) -> None:
    before = children()
    code, who = ending.begin()
    assert code == 0
    assert who is not None
    (verifier,) = children() - before
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(verifier, number)  # to the whole group, for the session
    assert not ending.has_ended()
    assert ending.verifier
    ending.verifier.release()
    assert ending.told() == b"%d mute=1\n" % verifier
    assert os.waitpid(verifier, 0)[1] == 0


def test_whatever_the_user_becomes_holds_the_lifeline(ending: Ending) -> None:
    ending.begin()
    open_now = subprocess.run(
        ["sh", "-c", "ls -l /proc/self/fd"], close_fds=False, stdout=-1, check=True
    )
    pipes = [line.split() for line in open_now.stdout.splitlines() if b"pipe:" in line]
    assert any(int(words[8]) >= 10 and words[0][2:3] == b"w" for words in pipes)
    session = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    assert ending.verifier
    ending.verifier.release()
    assert not ending.has_ended()
    session.kill()
    session.communicate()
    assert ending.told().endswith(b"mute=1\n")
    os.wait()


def test_what_does_not_fit_into_an_answer_is_ended_at_once(
    ending: Ending, capfd: pytest.CaptureFixture[str]
) -> None:
    ending.home = b"/" * 5000
    assert ending.begin() == (111, None)
    assert ending.told().endswith(b"mute=1\n")
    assert "longer than 4096" in capfd.readouterr().err


def test_what_nobody_waits_for_is_ended_at_once(ending: Ending) -> None:
    asked, asking = posix.pipe()
    if (asker := posix.fork()) == 0:

        def check() -> Identity:
            posix.close(asking)
            posix.read(asked, 1)  # until whoever asked has gone
            return ending.check()

        Verifier(check, ["checkpw"], is_verbose=False)
        posix._exit(0)
    posix.waitpid(asker, 0)
    posix.close(ending._writer)
    posix.close(asking)
    assert ending.told().endswith(b"mute=1\n")


def test_an_ending_that_fails_is_told_to_the_operator(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise RuntimeError("no such session")

    def check() -> Identity:
        who = Identity(b"joe", 7, 8)
        who.ending = fail
        return who

    verifier = Verifier(check, ["checkpw"], is_verbose=False)
    assert verifier.wait()[0] == 0
    verifier.release()
    assert os.waitpid(verifier._pid, 0)[1] == 0
    assert "unable to end a session: RuntimeError" in capfd.readouterr().err


@pytest.mark.parametrize(
    "handler", [signal.default_int_handler, signal.SIG_IGN, signal.SIG_DFL]
)
def test_no_interrupt_comes_up_in_a_callback(
    handler: Callable[..., object] | signal.Handlers,
) -> None:
    """C would print the exception, and take the callback for a success."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        code, who = ask(lambda: Identity(b"%r" % signal.getsignal(signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 0
    assert who is not None
    ignored = signal.SIG_IGN if handler == signal.SIG_IGN else signal.SIG_DFL
    assert who.name == b"%r" % ignored


def test_no_process_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> NoReturn:
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(posix, "fork", fork)
    with pytest.raises(Temporary, match="unable to start a verifier"):
        Verifier(lambda: Identity(b"joe"), ["checkpw"], is_verbose=False)
