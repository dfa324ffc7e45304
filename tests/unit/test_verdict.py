# SPDX-License-Identifier: ISC
"""Notes from a link of the chain: over a descriptor, or to a listener inside."""

import os
import posix
from collections.abc import Iterator

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
