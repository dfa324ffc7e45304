# SPDX-License-Identifier: ISC
"""Notes from a link of the chain: over a descriptor, or to a listener inside."""

import os
import posix
from collections.abc import Iterator
from fcntl import F_DUPFD_CLOEXEC, fcntl

import pytest

from qtools.system import verdict
from qtools.system.verdict import ACCEPTED, GREETED, VARIABLE

COUNTS = (1, 2, 3, None, 5, 6)


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def note(self, note: bytes) -> None:
        self.told.append(note)

    def ended(self, why: str, counts: tuple[int | None, ...]) -> None:
        self.told.append((why, counts))


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """Give an environment of its own, and nobody who listens."""
    kept: dict[bytes, bytes] = {}
    monkeypatch.setattr(posix, "environ", kept)
    monkeypatch.setattr(verdict, "_listeners", [])
    return kept


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Give both ends of a pipe; the test closes them."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_without_anybody_nothing_is_told(environ: dict[bytes, bytes]) -> None:
    verdict.tell(ACCEPTED)
    verdict.tell(GREETED)
    verdict.ended("quit", COUNTS)
    assert environ == {}


def test_notes_go_to_the_descriptor_and_the_last_closes_it(
    environ: dict[bytes, bytes], pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    environ[VARIABLE] = b"%d" % writer
    verdict.tell(ACCEPTED)
    assert VARIABLE in environ
    verdict.tell(GREETED)
    verdict.tell(GREETED)
    assert os.read(reader, 10) == ACCEPTED + GREETED
    assert os.read(reader, 10) == b""
    assert VARIABLE not in environ


@pytest.mark.parametrize("number", [b"", b"-1", b"x", b"1x", b"99999"])
def test_a_descriptor_that_is_none_harms_nobody(
    environ: dict[bytes, bytes], number: bytes
) -> None:
    environ[VARIABLE] = number
    verdict.tell(ACCEPTED)
    verdict.tell(GREETED)
    assert environ.get(VARIABLE) == (None if number == b"99999" else number)


def test_popup_may_have_gone(environ: dict[bytes, bytes]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environ[VARIABLE] = b"%d" % writer
    verdict.tell(ACCEPTED)
    verdict.tell(GREETED)
    assert VARIABLE not in environ
    os.close(writer)


@pytest.mark.parametrize(
    "word", [b"", b"x", b"-1", b"0", b"3", b"9", b"12345678", b"9" * 5000]
)
def test_a_dialogue_that_is_none(environ: dict[bytes, bytes], word: bytes) -> None:
    """A number below ten is the chain's, and no business of this variable."""
    environ[verdict.DIALOGUE] = word
    assert verdict.dialogue() == -1
    verdict.hush()
    assert verdict.DIALOGUE not in environ
    posix.fstat(0)


def test_a_dialogue_is_closed_and_forgotten(
    environ: dict[bytes, bytes], pipe: tuple[int, int]
) -> None:
    number = fcntl(pipe[1], F_DUPFD_CLOEXEC, verdict.LOWEST)
    os.close(pipe[1])
    environ[verdict.DIALOGUE] = b"%d" % number
    assert verdict.dialogue() == number
    verdict.hush()
    assert verdict.dialogue() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        posix.fstat(number)


def test_the_last_who_listens_is_told(pipe: tuple[int, int]) -> None:
    first, second = Listener(), Listener()
    verdict.listen(first)
    verdict.listen(second)
    posix.environ[VARIABLE] = b"%d" % pipe[1]
    verdict.tell(ACCEPTED)
    verdict.tell(GREETED)
    verdict.ended("quit", COUNTS)
    assert first.told == []
    assert second.told == [ACCEPTED, GREETED, ("quit", COUNTS)]
    assert os.read(pipe[0], 10) == ACCEPTED + GREETED, "the other way is taken, too"
