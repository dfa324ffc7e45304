# SPDX-License-Identifier: ISC
"""Who gives an option to the wrong kind of chain is told so."""

import posix

import pytest

from qtools.server import unheeded
from qtools.server.settings import OPTIONS, Settings

CERTIFICATE = ("--certificate", "/cert")


def warned(*words: str, is_foreign: bool, speaks_tls: bool = False) -> list[str]:
    settings = Settings(["popserver", *words, "127.0.0.1", "0", "program"])
    return unheeded.warnings(settings, is_foreign=is_foreign, speaks_tls=speaks_tls)


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "environ", {})


ROWS = {row.name: row for row in OPTIONS}


@pytest.mark.parametrize("is_foreign", [False, True])
def test_a_line_for_each_option_of_the_other_kind(*, is_foreign: bool) -> None:
    others, own = (unheeded.WARM, unheeded.FOREIGN)[:: 1 if is_foreign else -1]
    for name, _ in others:
        words = [f"--{name}", *(["9"] if ROWS[name].argument else [])]
        told = warned(*words, is_foreign=is_foreign)
        assert [line.partition(" ")[0] for line in told] == [f"--{name}"]
    words = [f"--{name}=9" for name, _ in own if ROWS[name].argument]
    assert warned(*words, is_foreign=is_foreign) == []


def test_what_is_taken_back_is_not_spoken_of() -> None:
    words = ("-h", "-H", "-r", "-R", "-p", "-P")
    assert warned(*words, is_foreign=False) == []
    assert len(warned("-RHl", "0", "-h", is_foreign=False)) == 1


def test_tls_that_nobody_gets() -> None:
    for word in ("-n", "-s"):
        (line,) = warned(word, is_foreign=True)
        assert line == "no TLS: -n and -s need --certificate"
        assert warned(word, *CERTIFICATE, is_foreign=True) == []
    (line,) = warned(*CERTIFICATE, is_foreign=True)
    assert line.startswith("a certificate, and no TLS")
    assert warned(*CERTIFICATE, is_foreign=True, speaks_tls=True) == []
    assert warned(*CERTIFICATE, is_foreign=False) == []
