# SPDX-License-Identifier: ISC
"""popaccount: what its users see, and that no secret comes out of it."""

import json
import os
import pty
import re
import select
import subprocess
from pathlib import Path

import pytest

from qtools.accounts import hashes
from tests import support
from tests.chain.checker import own, run
from tests.conftest import Tools

SECRET = "open sesame"


class Popaccount:
    """The program, on one database."""

    def __init__(self, tools: Tools, file: Path) -> None:
        self.tools = tools
        self.file = file
        self.words = [tools.popaccount, "--db", str(file)]

    def __call__(
        self, *words: str, said: bytes = b"", code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that ends with this code; complaints are one line."""
        made = subprocess.run(
            [*self.words, *words], input=said, capture_output=True, check=False
        )
        out, err = made.stdout.decode(), made.stderr.decode()
        assert made.returncode == code, err
        assert (err == "") == (code == 0)
        if code:
            assert err.startswith("popaccount: ")
            assert err.count("\n") == 1
        assert SECRET not in out + err
        return subprocess.CompletedProcess(made.args, made.returncode, out, err)


@pytest.fixture
def popaccount(tools: Tools, room: Path) -> Popaccount:
    made = Popaccount(tools, room / "accounts")
    made("init")
    return made


def add(popaccount: Popaccount, user: str, home: Path, *options: str) -> None:
    uid, gid = map(str, support.OWNER)
    words = ["--home", str(home), "--uid", uid, "--gid", gid, "--hash", "md5"]
    popaccount("add", user, *words, *options, said=f"{SECRET}\n".encode())


def code(popaccount: Popaccount, user: str, secret: str) -> int:
    """Give checkpw's exit code for a password."""
    record = f"{user}\0{secret}\0".encode()
    return run(popaccount.tools, record, "-a", f"db:{popaccount.file}").code


def test_the_life_of_an_account(popaccount: Popaccount, room: Path) -> None:
    home = own(room / "home")
    add(popaccount, "Joe@ex.com", home)
    assert code(popaccount, "joe@EX.com", SECRET) == 0
    assert code(popaccount, "joe@ex.com", "wrong") == 1
    popaccount("disable", "joe@ex.com")
    assert code(popaccount, "joe@ex.com", SECRET) == 1
    assert popaccount("list").stdout == "joe@ex.com  (disabled)\n"
    popaccount("enable", "JOE@EX.COM")
    assert code(popaccount, "joe@ex.com", SECRET) == 0
    popaccount("passwd", "joe@ex.com", "--hash", "sha512", said=b"other\r\n")
    assert code(popaccount, "joe@ex.com", SECRET) == 1
    assert code(popaccount, "joe@ex.com", "other") == 0
    popaccount("remove", "joe@ex.com")
    assert code(popaccount, "joe@ex.com", "other") == 1
    assert popaccount("list").stdout == ""
    assert home.exists()


def test_the_page_tells_every_method() -> None:
    page = (support.TOP / "man8/popaccount.8").read_text(encoding="ascii")
    told = page.partition(".It Fl -hash")[2].partition(".It ")[0]
    named = " ".join(re.findall(r"^\.Cm (.*)", told, re.MULTILINE))
    assert set(re.findall(r"[\w-]+", named)) == set(hashes.METHODS)


def test_what_checkpw_sees(popaccount: Popaccount, room: Path) -> None:
    home = own(room / "home")
    add(popaccount, "joe", home, "--maildir", "Mail/joe")
    record = f"joe\0{SECRET}\0".encode()
    told = run(popaccount.tools, record, "-a", f"db:{popaccount.file}").told
    assert told
    assert (told.uid, told.gid, told.groups) == (*support.OWNER, [support.OWNER[1]])
    assert told.place == told.home == str(home)
    assert (told.user, told.shell, told.maildir) == ("joe", "", "Mail/joe")


def test_an_account_is_shown_without_its_secrets(
    popaccount: Popaccount, room: Path
) -> None:
    add(popaccount, "joe", room, "--apop")
    uid, gid = support.OWNER
    shown = popaccount("show", "joe").stdout
    assert f"home:      {room}\n" in shown
    assert "maildir:   -\n" in shown
    assert "apop:      yes\n" in shown
    told = json.loads(popaccount("show", "--json", "joe").stdout)
    assert (told["user"], told["uid"], told["gid"]) == ("joe", uid, gid)
    assert (told["enabled"], told["apop"], told["hash"]) == (True, True, "1")
    assert "$" not in shown + json.dumps(told)
    add(popaccount, "ann", room)
    listed = popaccount("list", "--json").stdout.splitlines()
    assert [json.loads(line)["user"] for line in listed] == ["ann", "joe"]


def test_a_new_password_keeps_what_is_kept_unless_told(
    popaccount: Popaccount, room: Path
) -> None:
    def has_apop() -> bool:
        told = json.loads(popaccount("show", "--json", "joe").stdout)
        return bool(told["apop"])

    add(popaccount, "joe", room, "--apop")
    popaccount("passwd", "joe", "--hash", "md5", said=b"one\n")
    assert has_apop()
    popaccount("passwd", "joe", "--no-apop", "--hash", "md5", said=b"two\n")
    assert not has_apop()
    popaccount("passwd", "joe", "--hash", "md5", said=b"three\n")
    assert not has_apop()
    popaccount("passwd", "joe", "--apop", "--hash", "md5", said=b"four\n")
    assert has_apop()


@pytest.mark.parametrize(
    "attempt",
    [
        (["init"], b"", 1, "exists already"),
        (["add", "joe", "--home", "/"], b"x\n", 1, "already"),
        (["add", "ann", "--home", "/"], b"", 1, "empty password"),
        (["add", "ann", "--home", "/"], b"\n", 1, "empty password"),
        (["add", "ann", "--home", "/"], b"a\0b\n", 1, "NUL"),
        (["add", "ann", "--home", "/"], b"x" * 249, 1, "248"),
        (["add", "a b", "--home", "/"], b"x\n", 1, "name is"),
        (["add", "", "--home", "/"], b"x\n", 1, "name is"),
        (["add", "ann"], b"x\n", 100, "--home"),
        (["add", "ann", "--home", "a"], b"x\n", 100, "absolute"),
        (["add", "ann", "--maildir", "a"], b"x\n", 100, "absolute"),
        (["add", "ann", "--home", "/", "--uid", "1"], b"x\n", 100, "together"),
        (["add", "ann", "--home", "/", "--uid", "-1"], b"x\n", 100, "--uid"),
        (["add", "ann", "--home", "/", "--uid", "joe"], b"x\n", 100, "--uid"),
        (["add", "ann", "--home", "/", "--hash", "rot13"], b"x\n", 100, "rot13"),
        (["add", "ann", "--home", "/", "--hash", "bcrypt"], b"x" * 73, 100, "72"),
        (["passwd", "joe", "--hash", "bcrypt"], b"x" * 73, 100, "72"),
        (["add", "ann", "--home", "/", "--password", "x"], b"", 100, "--help"),
        (["add", "ann", "secret", "--home", "/"], b"", 100, "--help"),
        (["passwd", "ann"], b"x\n", 1, "no account ann"),
        (["show", "ann"], b"", 1, "no account ann"),
        (["remove", "ann"], b"", 1, "no account ann"),
        (["enable", "ann"], b"", 1, "no account ann"),
        (["disable", "ann"], b"", 1, "no account ann"),
        (["rename", "ann"], b"", 100, "--help"),
        ([], b"", 100, "--help"),
    ],
)
def test_what_goes_wrong_has_its_code_and_changes_nothing(
    popaccount: Popaccount,
    room: Path,
    attempt: tuple[list[str], bytes, int, str],
) -> None:
    words, said, expected, why = attempt
    add(popaccount, "joe", room)
    before = popaccount("list", "--json").stdout
    assert why in popaccount(*words, said=said, code=expected).stderr
    assert popaccount("list", "--json").stdout == before


@pytest.mark.parametrize("name", ["missing", "text"])
def test_a_wrong_file_is_100(tools: Tools, room: Path, name: str) -> None:
    (room / "text").write_text("joe:secret\n" * 100)
    Popaccount(tools, room / name)("list", code=100)
    assert not (room / "missing").exists()


def test_no_secret_goes_into_a_file_open_to_everybody(
    popaccount: Popaccount, room: Path
) -> None:
    add(popaccount, "joe", room)
    popaccount.file.chmod(0o644)
    before = popaccount.file.read_bytes()
    for words in (["passwd", "joe"], ["add", "ann", "--home", "/"], ["list"]):
        made = popaccount(*words, said=b"another\n", code=100)
        assert "has mode 600" in made.stderr
    assert popaccount.file.read_bytes() == before
    popaccount.file.chmod(0o600)
    popaccount("passwd", "joe", "--hash", "md5", said=b"another\n")


def test_the_database_comes_from_the_environment(tools: Tools, room: Path) -> None:
    def popaccount(*words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [tools.popaccount, *words],
            env=tools.environment(**more),
            capture_output=True,
            check=False,
        )

    words = f"system db:{room}/accounts"
    assert popaccount("init", QTOOLS_ACCOUNTS=words).returncode == 0
    assert (room / "accounts").exists()
    assert popaccount("list", QTOOLS_ACCOUNTS=words).returncode == 0
    for more in ({}, {"QTOOLS_ACCOUNTS": "system"}, {"QTOOLS_ACCOUNTS": "db:"}):
        made = popaccount("list", **more)
        assert made.returncode == 100
        assert b"--db FILE" in made.stderr


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["add", "--help"]])
def test_help_and_version_are_there(tools: Tools, words: list[str]) -> None:
    made = subprocess.run(
        [tools.popaccount, *words], capture_output=True, check=True, text=True
    )
    assert "popaccount" in made.stdout
    assert made.stderr == ""


def test_a_reader_that_has_had_enough_is_no_failure(
    popaccount: Popaccount, room: Path
) -> None:
    add(popaccount, "joe", room)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        made = subprocess.run(
            [*popaccount.words, "list"], stdout=out, stderr=subprocess.PIPE, check=False
        )
    assert (made.returncode, made.stderr) == (0, b"")


# --------------------------------------------------------------------------------
# the terminal


def converse(words: list[str], lines: list[str]) -> tuple[int, str]:
    """Run a program on a terminal of its own, answer each prompt with a line."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    seen = b""
    waiting = list(lines)
    while select.select([terminal], [], [], support.PATIENCE_SECONDS)[0]:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        seen += data
        if seen.endswith(b": ") and waiting:
            os.write(terminal, waiting.pop(0).encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


def test_a_password_is_asked_for_twice_and_not_echoed(
    popaccount: Popaccount, room: Path
) -> None:
    uid, gid = map(str, support.OWNER)
    where = ["--home", str(own(room / "home")), "--uid", uid, "--gid", gid]
    words = [*popaccount.words, "add", "joe", *where, "--hash", "md5"]
    ended, seen = converse(words, [SECRET, SECRET])
    assert ended == 0
    assert seen.split() == ["Password", "for", "joe:", "Again:"]
    assert code(popaccount, "joe", SECRET) == 0

    ended, seen = converse([*popaccount.words, "passwd", "joe"], ["one", "two"])
    assert ended == 1
    assert "the two passwords differ" in seen
    assert code(popaccount, "joe", SECRET) == 0


def test_stdin_is_asked_for_no_second_time_when_told(
    popaccount: Popaccount, room: Path
) -> None:
    add(popaccount, "joe", room)
    words = [*popaccount.words, "passwd", "joe", "--stdin", "--hash", "md5"]
    made = subprocess.run(words, input=b"new\nmore\n", capture_output=True, check=True)
    assert made.stdout == b""


def test_who_can_not_be_exported_is_named_and_left_out(
    popaccount: Popaccount, room: Path
) -> None:
    for user in ("ann", "a:b", "c:d", "joe"):
        add(popaccount, user, room)
    assert "a:b can't be said" in popaccount("export", "passwd-file", code=1).stderr
    words = [*popaccount.words, "export", "--skip-bad", "passwd-file"]
    made = subprocess.run(words, capture_output=True, check=False)
    assert made.returncode == 1
    assert [line.split(b":")[0] for line in made.stdout.splitlines()] == [
        b"ann",
        b"joe",
    ]
    assert made.stderr.decode().splitlines() == [
        "popaccount: the account a:b can't be said in this form",
        "popaccount: the account c:d can't be said in this form",
        "popaccount: 2 accounts were not exported",
    ]
    assert popaccount("export", "--skip-bad", "csv").stdout.count("\n") == 5
