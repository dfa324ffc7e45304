# SPDX-License-Identifier: ISC
"""The verifier: whatever happens to it, only its answer is an accept."""

import os
import posix
import signal
from collections.abc import Callable
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


def test_no_process_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> NoReturn:
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(posix, "fork", fork)
    with pytest.raises(Temporary, match="unable to start a verifier"):
        Verifier(lambda: Identity(b"joe"), ["checkpw"], is_verbose=False)
