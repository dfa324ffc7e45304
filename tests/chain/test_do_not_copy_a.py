# SPDX-License-Identifier: ISC
"""The holes of qmail-authuser that ours has not got, one test each: A1 to A7."""

import itertools
import sys
from pathlib import Path

import pytest

from qtools.accounts import hashes
from qtools.accounts.authuser import AuthUser
from qtools.errors import Failure, Refused
from qtools.protocol import digests
from qtools.system.ffi.crypt import Crypt
from tests import support
from tests.chain.checker import place, run, system_user
from tests.conftest import Tools

STAMP = b"<1.2@h>"
MD5 = b"5ebe2294ecd0e0f08eab7690d2a6ee69"  # of "secret"


def sent(secret: bytes) -> bytes:
    return b"".join(part + b"\0" for part in (b"joe", secret, STAMP))


def source(room: Path, line: str) -> str:
    path = room / "authuser"
    path.write_text(f"{line}\n{place('joe', room)}", encoding="ascii")
    return f"authuser:{path}"


def test_a1_apop_verifies(tools: Tools, room: Path) -> None:
    word = source(room, "joe:secret")
    assert run(tools, sent(digests.apop(STAMP, b"secret")), "-a", word).code == 0
    assert run(tools, sent(digests.apop(STAMP, b"Secret")), "-a", word).code == 1


@pytest.mark.parametrize(
    "stored",
    [
        "%" + MD5.decode(),
        "%e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
        "$1$abcdefgh$BYMbzIWMoBDiHi60wBB2A.",
        "{CRYPT}$1$abcdefgh$BYMbzIWMoBDiHi60wBB2A.",
        "{CRYPT}ab01FAX.bQRSU",
        "%" + MD5.decode()[1:],
        "{CRYPT}",
    ],
)
def test_a2_who_reads_the_file_can_not_log_in_with_it(
    tools: Tools, room: Path, stored: str
) -> None:
    word = source(room, "joe:" + stored)
    text = stored.encode()
    bare = text.removeprefix(b"%").removeprefix(b"{CRYPT}")
    for secret in {text, bare} - {b""}:
        keyed = (digests.apop(STAMP, secret), digests.cram_md5(STAMP, secret))
        for typed in (secret, *keyed):
            assert run(tools, sent(typed), "-a", word).code == 1


@pytest.mark.parametrize("method", ["User", "Plain", "Login"])
def test_a3_a_digest_is_no_password(tools: Tools, room: Path, method: str) -> None:
    """Popup's POP3METHOD says which of the two the client has sent."""
    word = source(room, "joe:secret")
    for digest in (digests.apop, digests.cram_md5):
        typed = digest(STAMP, b"secret")
        assert run(tools, sent(typed), "-a", word, POP3METHOD=method).code == 1
        assert run(tools, sent(typed), "-a", word, POP3METHOD="Apop").code == 0
        without_challenge = b"joe\0" + typed + b"\0"
        assert run(tools, without_challenge, "-a", word).code == 1
    assert run(tools, sent(b"secret"), "-a", word, POP3METHOD=method).code == 0


@pytest.mark.parametrize(
    "value", [b"secret", b"%" + MD5, b"$1$abcdefgh$BYMbzIWMoBDiHi60wBB2A."]
)
def test_a4_secrets_are_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    """Nothing gets in, or stays out, but by the comparison that leaks nothing."""
    seen: list[tuple[bytes, bytes]] = []

    def equal(one: bytes, other: bytes) -> bool:
        seen.append((one, other))
        return True

    for module in (digests, hashes):
        monkeypatch.setattr(module, "equal", equal)
    AuthUser(b"joe:" + value).verify(b"joe", b"wrong", b"")
    assert seen

    for module in (digests, hashes):
        monkeypatch.setattr(module, "equal", lambda *_: False)
    with pytest.raises(Refused):
        AuthUser(b"joe:" + value).verify(b"joe", b"secret", b"")


def test_a5_a_wrong_system_password_is_1_and_nothing_else(
    tools: Tools, room: Path
) -> None:
    stored = Crypt().hash(b"secret", b"ab")
    assert stored
    word = source(room, "*:!")
    with system_user(room, stored.decode()) as name:
        for secret in map(bytes, itertools.product(b"aZ", b"9", b"bc/")):
            record = name.encode() + b"\0" + secret + b"\0"
            assert run(tools, record, "-a", word).code == 1
    # crypt(3) has no answer to this one
    with system_user(room, "!" + stored.decode()) as name:
        assert run(tools, name.encode() + b"\0secret\0", "-a", word).code == 1


CHECKER = """#!/bin/sh
printf '%s ' "$0" "$@" >{room}/argv
cat <&{descriptor} >{room}/record
exec 2>/dev/null
{end}
"""


def stand_in(room: Path, name: str, descriptor: int, end: str) -> str:
    """Put a checker into a folder and give a PATH that begins with it."""
    program = room / name
    program.write_text(
        CHECKER.format(room=room, descriptor=descriptor, end=end), encoding="ascii"
    )
    program.chmod(0o755)
    return f"{room}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("mark", "name", "codes"),
    [
        ("+", "checkvpw", {0: 0, 1: 1, 2: 111, 3: 1, 100: 111, 111: 111}),
        ("&", "vchkpw", {0: 0, 1: 1, 3: 1, 4: 111, 12: 1, 13: 1, 15: 1, 20: 1}),
        ("=", "doveadm", {0: 0, 77: 1, 75: 111, 64: 111}),
    ],
)
def test_a6_the_exit_codes_of_others_are_mapped(
    tools: Tools, room: Path, mark: str, name: str, codes: dict[int, int]
) -> None:
    word = source(room, f"@:{mark}\n{place('@', room)}")
    ends = {f"exit {theirs}": ours for theirs, ours in codes.items()}
    descriptor = 0 if mark == "=" else 3
    for end, code in {**ends, "kill -9 $$": 111}.items():
        path = stand_in(room, name, descriptor, end)
        outcome = run(
            tools, b"joe@EX.com\0secret\0" + STAMP + b"\0", "-a", word, PATH=path
        )
        assert outcome.code == code, end
    told = (room / "record").read_bytes()
    assert told == (
        b"secret\n" if mark == "=" else b"joe@ex.com\0secret\0" + STAMP + b"\0"
    )
    arguments = (room / "argv").read_text().split()[1:]
    assert (
        arguments
        == {
            "+": ["true", "Maildir"],
            "&": [],
            "=": ["auth", "test", "joe@ex.com"],
        }[mark]
    )
    (room / name).unlink()
    outcome = run(tools, b"joe\0secret\0", "-a", word, PATH="/nowhere:/usr/bin:/bin")
    assert outcome.code == 111
    assert name in outcome.errors


def test_a6_doveadm_is_given_the_socket_and_no_password_in_argv(
    tools: Tools, room: Path
) -> None:
    word = source(room, f"@:=\n{place('@', room)}")
    path = stand_in(room, "doveadm", 0, "exit 0")
    outcome = run(tools, b"joe\0secret\0", "-s", "/run/auth", "-a", word, PATH=path)
    assert outcome.code == 0
    arguments = (room / "argv").read_text().split()[1:]
    assert arguments == ["auth", "test", "-a", "/run/auth", "joe"]
    for record in (b"-x\0secret\0", b"joe\0secret\nx\0", b"joe\0secret\rx\0"):
        assert run(tools, record, "-a", word, PATH=path).code == 1


@pytest.mark.parametrize("kind", ["missing", "directory", "unreadable"])
def test_a7_a_file_that_can_not_be_read_is_temporary(
    tools: Tools, room: Path, kind: str
) -> None:
    path = room / "file"
    if kind == "directory":
        path.mkdir()
    if kind == "unreadable":
        # root reads everything but this
        path = Path("/proc/self/mem") if support.IS_ROOT else path
        path.touch()
        if not support.IS_ROOT:
            path.chmod(0)
    outcome = run(tools, b"joe\0secret\0", "-a", f"authuser:{path}")
    assert outcome.code == 111
    assert outcome.told is None
    assert "checkpw: unable to read" in outcome.errors


def test_no_failure_is_an_accept() -> None:
    """Each way to fail has an exit code other than 0."""
    kinds = [
        kind
        for kind in vars(sys.modules[Failure.__module__]).values()
        if isinstance(kind, type) and issubclass(kind, Failure)
    ]
    assert {kind.code for kind in kinds} == {1, 2, 3, 100, 111}
