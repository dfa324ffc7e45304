# SPDX-License-Identifier: ISC
"""Change a password by PAM: real modules, as root and with the user's own rights."""

import os
import posix
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qtools.accounts.interface import Identity
from qtools.accounts.pam.change import PamChanger
from qtools.accounts.verifier import Verifier
from qtools.errors import EXIT_REFUSED, EXIT_TEMPORARY, Failure, Refused
from qtools.system.ffi.crypt import Crypt
from tests import support
from tests.chain.checker import system_user
from tests.chain.pamroom import ASKS, PamRoom, log_in, script

OLD, NEW = b"secret", b"Opun-sesym3"
DONE = "0 "


@pytest.fixture
def pam(room: Path) -> PamRoom:
    return PamRoom(room)


def hashed(secret: bytes) -> str:
    stored = Crypt().hash(secret, b"$1$abcdefgh$")
    assert stored
    return stored.decode()


def apart(work: Callable[[], str]) -> str:
    """Do something in a process of its own; give what it says."""

    def check() -> Identity:
        return Identity(work().encode())

    _, who = Verifier(check, ["try"], is_verbose=True).wait()
    assert who is not None
    return who.name.decode()


def change(
    pam: PamRoom, user: bytes, old: bytes, new: bytes, *, is_for_user: bool = False
) -> str:
    """Change a password; give the step, the code and the text of how it ended."""

    def work() -> str:
        changer = PamChanger(
            b"poppassd", folder=bytes(pam.folder), is_for_user=is_for_user
        )
        step = "authenticate"
        try:
            changer.authenticate(user, old, b"")
            step = "change"
            changer.change(new)
        except Failure as why:
            return f"{step} {why.code} {why}"
        finally:
            changer.end()
        return "done" if posix.getresuid() == (os.getuid(),) * 3 else "still the user"

    return apart(work)


@pytest.fixture
def matrix(pam: PamRoom) -> PamRoom:
    (pam.room / "passdb").write_text("nobody:secret:poppassd\n")
    row = f"all required pam_matrix passdb={pam.room}/passdb verbose"
    pam.service(row, name="poppassd")
    return pam


def test_pam_matrix_asks_for_the_old_one_again(matrix: PamRoom) -> None:
    assert change(matrix, b"nobody", OLD, NEW) == "done"
    passdb = (matrix.room / "passdb").read_bytes()
    assert passdb == b"nobody:" + NEW + b":poppassd\n"
    assert change(matrix, b"nobody", OLD, b"else").startswith("authenticate 1 ")
    assert change(matrix, b"nobody", NEW, OLD) == "done"


@pytest.mark.parametrize(
    ("user", "secret", "expected"),
    [
        (b"nobody", b"wrong", "authenticate 1 "),
        (b"nobody", b"", "authenticate 1 an empty password"),
        (b"somebody", OLD, "authenticate 1 "),
        (b"../nobody", OLD, "authenticate 1 no user can have"),
    ],
)
def test_who_is_refused(
    matrix: PamRoom, user: bytes, secret: bytes, expected: str
) -> None:
    assert change(matrix, user, secret, NEW).startswith(expected)
    assert (matrix.room / "passdb").read_bytes() == b"nobody:secret:poppassd\n"


@pytest.mark.parametrize("new", [b"", b"a\0b"])
def test_what_can_not_be_a_password(matrix: PamRoom, new: bytes) -> None:
    assert change(matrix, b"nobody", OLD, new).startswith("change 1 a password can't")


def test_a_digest_is_no_password(matrix: PamRoom) -> None:
    changer = PamChanger(b"poppassd", folder=bytes(matrix.folder))
    with pytest.raises(Failure, match="digest"):
        changer.authenticate(b"nobody", b"0" * 32, b"<1@h>")


def test_a_digest_overheard_is_no_password_either(pam: PamRoom) -> None:
    """A module that knows APOP would take it for good, whenever it comes."""
    pam.service(name="poppassd")
    again = b"APOP 0123456789abcdef0123456789abcdef <1.2@h>"
    outcome = change(pam, b"nobody", again, NEW)
    assert outcome == "authenticate 1 a digest, sent as a password"
    assert change(pam, b"nobody", b"APOP", NEW) == "done"


def test_whose_password_nobody_has_asked_for_changes_nothing(pam: PamRoom) -> None:
    pam.service("auth sufficient pam_permit", name="poppassd")
    outcome = change(pam, b"nobody", OLD, NEW)
    assert outcome.startswith("authenticate 100 ")
    assert outcome.endswith("no module has asked for the password")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("new_authtok_reqd", "done"),
        ("maxtries", "authenticate 1 "),
        ("authtok_expired", "authenticate 3 "),
        ("system_err", "authenticate 111 "),
    ],
)
def test_what_modules_say_of_an_old_password(
    pam: PamRoom, word: str, expected: str
) -> None:
    rows = (f"auth required pam_debug auth={word}", f"auth required {ASKS}")
    pam.service(*rows, name="poppassd")
    assert change(pam, b"nobody", OLD, NEW).startswith(expected)


def test_nothing_is_changed_of_who_is_not_authenticated(matrix: PamRoom) -> None:
    changer = PamChanger(b"poppassd", folder=bytes(matrix.folder))
    with pytest.raises(Failure, match="nobody is authenticated"):
        changer.change(NEW)
    with pytest.raises(Failure, match="Authentication failure"):
        changer.authenticate(b"nobody", b"wrong", b"")
    with pytest.raises(Failure, match="nobody is authenticated"):
        changer.change(NEW)
    changer.authenticate(b"nobody", OLD, b"")
    assert changer.user() == b"nobody"
    changer.end()
    changer.end()
    with pytest.raises(Failure, match="nobody is authenticated"):
        changer.change(NEW)


CODES = {
    "authtok_err": EXIT_REFUSED,
    "perm_denied": EXIT_REFUSED,
    "authtok_lock_busy": EXIT_TEMPORARY,
    "try_again": EXIT_TEMPORARY,
    "authinfo_unavail": EXIT_TEMPORARY,
    "system_err": EXIT_REFUSED,  # since pam_debug tells what it does
    "conv_err": EXIT_TEMPORARY,
}


@pytest.mark.parametrize("phase", ["prechauthtok", "chauthtok"])
@pytest.mark.parametrize(("word", "code"), CODES.items())
def test_what_a_code_means(pam: PamRoom, phase: str, word: str, code: int) -> None:
    pam.service(f"password required pam_debug {phase}={word}", name="poppassd")
    step, got, text = change(pam, b"nobody", OLD, NEW).split(" ", 2)
    assert (step, int(got)) == ("change", code)
    assert text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("new_authtok_reqd", "done"),  # that is what one changes it for
        ("authtok_expired", "authenticate 3 "),  # for so long that it is closed
        ("acct_expired", "authenticate 1 "),
        ("perm_denied", "authenticate 1 "),
        ("authinfo_unavail", "authenticate 111 "),
    ],
)
def test_an_old_password_is_no_hindrance_and_an_old_account_is(
    pam: PamRoom, word: str, expected: str
) -> None:
    pam.service(f"account required pam_debug acct={word}", name="poppassd")
    assert change(pam, b"nobody", OLD, NEW).startswith(expected)


@pytest.mark.parametrize(
    ("word", "told", "expected"),
    [
        ("quiet stdout", "echo not in June; exit 1", "change 1 not in June"),
        ("quiet stdout", "exit 1", "change 111 System error"),
        ("quiet", "echo not in June; exit 1", "change 111 System error"),
        ("", "exit 3", "change 1 {program} failed: exit code 3"),
        ("quiet stdout", "echo fine", "done"),
    ],
)
def test_what_a_program_of_pam_exec_s_tells(
    pam: PamRoom, word: str, told: str, expected: str
) -> None:
    """Every refusal of its is a system error, so that only words tell it from one."""
    program = script(pam.room / "program", f"#!/bin/sh\n{told}\n")
    row = f"password required pam_exec {word} {program}"
    pam.service(row, "password required pam_permit", name="poppassd")
    outcome = change(pam, b"nobody", OLD, NEW)
    assert outcome == expected.format(program=program)


@pytest.fixture
def unix(pam: PamRoom) -> PamRoom:
    support.need_root()
    pam.service(
        "auth required pam_unix nodelay",
        "account,session required pam_unix",
        "password required pam_unix obscure yescrypt",
        name="poppassd",
    )
    pam.service("auth required pam_unix nodelay", "account required pam_unix")
    return pam


@pytest.fixture
def joe(room: Path) -> Iterator[bytes]:
    with system_user(room, hashed(OLD)) as name:
        yield name.encode()


@pytest.mark.parametrize("is_for_user", [False, True])
def test_pam_unix(unix: PamRoom, joe: bytes, *, is_for_user: bool) -> None:
    assert change(unix, joe, OLD, NEW, is_for_user=is_for_user) == "done"
    assert log_in(unix.source(), joe, NEW) == 0
    assert log_in(unix.source(), joe, OLD) == EXIT_REFUSED
    assert change(unix, joe, b"wrong", OLD).startswith("authenticate 1 ")


def test_as_root_pam_unix_enforces_nothing(unix: PamRoom, joe: bytes) -> None:
    """Why there are rules of our own; see: quality."""
    assert change(unix, joe, OLD, b"abc") == "done"


REASONS = {
    b"abc": "change 1 You must choose a longer password.",
    OLD: "change 1 The password has not been changed.",
}


@pytest.mark.parametrize("new", REASONS)
def test_for_the_user_the_modules_reason_comes_on_one_line(
    unix: PamRoom, joe: bytes, new: bytes
) -> None:
    outcome = change(unix, joe, OLD, new, is_for_user=True)
    assert outcome == REASONS[new]
    assert log_in(unix.source(), joe, OLD) == 0


def test_a_least_age_is_kept_for_the_user(unix: PamRoom, joe: bytes) -> None:
    chage = support.need("chage", "passwd")
    subprocess.run([chage, "-m", "30", joe], check=True)
    assert change(unix, joe, OLD, NEW, is_for_user=True) == (
        "change 1 You must wait longer to change your password."
    )
    assert change(unix, joe, OLD, NEW) == "done"


def test_a_password_that_has_to_be_changed_is(unix: PamRoom, joe: bytes) -> None:
    chage = support.need("chage", "passwd")
    subprocess.run([chage, "-d", "0", joe], check=True)
    assert change(unix, joe, OLD, NEW, is_for_user=True) == "done"
    assert log_in(unix.source(), joe, NEW) == 0


def test_an_expired_account_changes_nothing(unix: PamRoom, joe: bytes) -> None:
    chage = support.need("chage", "passwd")
    subprocess.run([chage, "-E", "1", joe], check=True)
    outcome = change(unix, joe, OLD, NEW)
    assert outcome.startswith("authenticate 1 ")
    assert "account has expired" in outcome


def test_only_users_of_the_system_can_be_acted_for(matrix: PamRoom) -> None:
    support.need_root()
    with (matrix.room / "passdb").open("a") as passdb:
        passdb.write("stranger:secret:poppassd\n")
    outcome = change(matrix, b"stranger", OLD, NEW, is_for_user=True)
    assert outcome == "change 100 b'stranger' is no user of this system"
    assert pwd.getpwnam("nobody")


def test_no_delay_unless_it_is_asked_for(pam: PamRoom) -> None:
    rows = ("auth optional pam_faildelay delay=60000000", "auth required pam_deny")
    pam.service(*rows, name="poppassd")
    began = os.times().elapsed
    assert change(pam, b"nobody", OLD, NEW).startswith("authenticate 1 ")
    assert os.times().elapsed - began < 30, "half of it is the least that PAM waits"


TIMES = 3000


@pytest.mark.slow
def test_nothing_is_left_of_three_thousand_changes(matrix: PamRoom) -> None:
    """Of ours: a change by pam_matrix that succeeds leaves a descriptor of its own."""
    matrix.service(
        f"all required pam_matrix passdb={matrix.room}/passdb",
        "password required pam_debug prechauthtok=authtok_err",
        name="poppassd",
    )
    changer = PamChanger(b"poppassd", folder=bytes(matrix.folder))

    def use() -> tuple[int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * posix.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd"))

    def change_often(times: int) -> None:
        for _ in range(times // 2):
            with pytest.raises(Refused, match="Authentication failure"):
                changer.authenticate(b"nobody", b"wrong", b"")
            changer.authenticate(b"nobody", OLD, b"")
            with pytest.raises(Refused):
                changer.change(NEW)
        changer.end()

    def work() -> str:
        change_often(500)
        before = use()
        change_often(TIMES)
        return "{} {} {} {}".format(*before, *use())

    octets, descriptors, octets_then, descriptors_then = map(int, apart(work).split())
    assert descriptors_then == descriptors
    assert octets_then - octets < 1 << 20, "an 11th of a page each time"
