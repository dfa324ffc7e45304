# SPDX-License-Identifier: ISC
"""Finding the next program, and telling ours from one that has its name."""

import os
import posix
import signal
import sys
from pathlib import Path

import pytest

from qtools.chain import handover
from qtools.errors import Hard
from tests.support import TOP

PROGRAM = "#!/bin/sh\n"
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """Give this process's environment as the programs see it, to be changed."""
    kept: dict[bytes, bytes] = {b"PATH": b"/nowhere"}
    monkeypatch.setattr(posix, "environ", kept)
    return kept


def put(folder: Path, name: str, text: str = PROGRAM, mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def search(environ: dict[bytes, bytes], *folders: Path) -> None:
    environ[b"PATH"] = b":".join(os.fsencode(folder) for folder in folders)


def test_the_first_in_path_is_found(
    environ: dict[bytes, bytes], tmp_path: Path
) -> None:
    first, second = put(tmp_path / "a", "prog"), put(tmp_path / "b", "prog")
    search(environ, tmp_path / "none", first.parent, second.parent)
    assert handover.find("prog") == os.fsencode(first)


def test_what_cannot_be_run_is_passed_over(
    environ: dict[bytes, bytes], tmp_path: Path
) -> None:
    put(tmp_path / "a", "prog", mode=0o644)
    (tmp_path / "b" / "prog").mkdir(parents=True)
    (tmp_path / "c").write_text("no folder")
    good = put(tmp_path / "d", "prog")
    search(environ, *(tmp_path / name for name in "abcd"))
    assert handover.find("prog") == os.fsencode(good)


def test_an_empty_word_in_path_is_this_folder(
    environ: dict[bytes, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "prog")
    monkeypatch.chdir(tmp_path)
    environ[b"PATH"] = b"/nowhere:"
    assert handover.find("prog") == b"./prog"


def test_without_path_the_usual_folders_are_searched(
    environ: dict[bytes, bytes],
) -> None:
    del environ[b"PATH"]
    assert handover.find("sh") in (b"/bin/sh", b"/usr/bin/sh")


def test_a_name_with_a_slash_is_taken_as_it_is() -> None:
    assert handover.find("./no/such") == b"./no/such"


def test_a_name_is_octets(environ: dict[bytes, bytes], tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/pr\xf6g"
    descriptor = os.open(path, os.O_CREAT, 0o755)
    os.close(descriptor)
    search(environ, tmp_path)
    assert handover.find("pr\udcf6g") == path


def test_what_is_not_there_is_hard() -> None:
    with pytest.raises(Hard, match="prog"):
        handover.find("prog")
    with pytest.raises(Hard, match="no program"):
        handover.prepare([])


def test_a_file_that_cannot_be_run_is_hard(tmp_path: Path) -> None:
    path = put(tmp_path, "prog", mode=0o644)
    link = handover.prepare([str(path)])
    kept = {number: signal.getsignal(number) for number in RESTORED}
    try:
        with pytest.raises(Hard, match="prog"):
            link.run()
        assert {signal.getsignal(number) for number in RESTORED} == {signal.SIG_DFL}
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


# Which of them is ours, seen from a checkout ---------------------------------


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, environ: dict[bytes, bytes]) -> Path:
    """Make this process look like the popup of this checkout."""
    monkeypatch.setattr(sys, "argv", [str(TOP / "bin/popup")])
    monkeypatch.setattr(sys, "path", [os.path.realpath(TOP), *sys.path])
    search(environ, TOP / "bin")
    return TOP / "bin"


def is_ours(*words: str) -> bool:
    return handover.prepare([*words])._tool is not None


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("name", handover.OURS)
def test_our_own_are_ours(name: str) -> None:
    assert is_ours(name)
    assert is_ours(str(TOP / "bin" / name))


@pytest.mark.usefixtures("checkout")
def test_a_tool_that_is_no_link_of_a_chain_is_execd() -> None:
    assert not is_ours("popaccount")


@pytest.mark.usefixtures("checkout")
def test_a_foreign_program_is_execd(
    environ: dict[bytes, bytes], tmp_path: Path
) -> None:
    put(tmp_path, "checkpw")
    search(environ, tmp_path)
    assert not is_ours("checkpw")


def test_a_symlink_into_the_checkout_is_ours(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "any-name"
    link.symlink_to(checkout / "checkpw")
    assert is_ours(str(link))


def test_a_copy_of_our_stub_elsewhere_is_not(checkout: Path, tmp_path: Path) -> None:
    text = (checkout / "checkpw").read_text()
    path = put(tmp_path, "checkpw", text)
    assert not is_ours(str(path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('run("checkpw")', 'run("../evil")'),
        ('run("checkpw")', 'evil()\nrun("checkpw")'),
        ("-IS", "-S"),
        ("import sys", "import sys, evil"),
        ('run("checkpw")', 'run("checkpw")\nevil()'),
    ],
)
def test_one_changed_word_makes_it_foreign(
    checkout: Path, tmp_path: Path, old: str, new: str
) -> None:
    text = (checkout / "checkpw").read_text()
    assert old in text
    path = put(tmp_path, "checkpw", text.replace(old, new))
    assert not is_ours(str(path))


def test_a_long_file_that_begins_like_ours_is_not(
    checkout: Path, tmp_path: Path
) -> None:
    text = (checkout / "checkpw").read_text()
    padded = text + "#" * handover.STUB_OCTETS + '\nrun("checkpw")\n'
    assert not is_ours(str(put(tmp_path, "checkpw", padded)))


@pytest.mark.usefixtures("checkout")
def test_the_environment_forces_exec(environ: dict[bytes, bytes]) -> None:
    environ[handover.FORCE_EXEC] = b""
    assert not is_ours("checkpw")


@pytest.mark.usefixtures("checkout")
def test_the_option_forces_exec_from_here_on(environ: dict[bytes, bytes]) -> None:
    assert handover.prepare(["checkpw"], force_exec=True)._tool is None
    assert environ[handover.FORCE_EXEC] == b"1"


def test_a_process_that_is_no_stub_calls_nothing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert not is_ours(str(checkout / "checkpw"))


def test_an_installed_stub_of_another_library_is_execd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'import sys\nsys.path.insert(0, "/lib/{}")\nrun("{}")\n'
    mine = put(tmp_path, "popup", text.format("one", "popup"))
    same = put(tmp_path, "checkpw", text.format("one", "checkpw"))
    other = put(tmp_path, "pop3d", text.format("two", "pop3d"))
    monkeypatch.setattr(sys, "argv", [str(mine)])
    assert is_ours(str(same))
    assert not is_ours(str(other))


@pytest.mark.parametrize("word", [b"C.UTF-8", b"de_DE.UTF-8"])
def test_a_locale_that_is_not_the_interpreter_s_is_left_alone(
    environ: dict[bytes, bytes], word: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ[b"LC_CTYPE"] = word
    monkeypatch.setattr(handover, "_read", lambda *_: b"A=b\0LC_CTYPE=" + word + b"\0")
    handover.prepare(["/bin/sh"])
    assert environ[b"LC_CTYPE"] == word


@pytest.mark.parametrize(
    ("original", "kept"), [(b"A=b\0", None), (b"LC_CTYPE=C\0", b"C")]
)
def test_a_locale_of_the_interpreter_s_is_taken_back(
    environ: dict[bytes, bytes],
    original: bytes,
    kept: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ[b"LC_CTYPE"] = b"C.UTF-8"
    monkeypatch.setattr(handover, "_read", lambda *_: original)
    handover.prepare(["/bin/sh"])
    assert environ.get(b"LC_CTYPE") == kept
