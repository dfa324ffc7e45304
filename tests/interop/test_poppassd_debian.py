# SPDX-License-Identifier: ISC
"""Our poppassd beside Debian's, under the same server, over the same users.

What is said has to be the same octets, and the exit codes the same, but where a test
of this file says by its name what ours does otherwise. The greeting's version is told
apart in one of them and left out of the others.
"""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from qtools import __version__
from qtools.accounts import hashes
from tests.conftest import Tools
from tests.estate import Estate
from tests.interop.servers import (
    SUPERSERVERS,
    TCPSERVER,
    Server,
    Site,
    Superserver,
    running,
)
from tests.interop.talk import Talk
from tests.support import foreign, need_root, wait_for

OLD, NEW = "correct horse", "battery staple"
USER = b"200 Your password please.\r\n"
PASS = b"200 Your new password please.\r\n"
DONE = b"200 Password changed, thank-you.\r\n200 Bye.\r\n"
WRONG = b"500 Old password is incorrect.\r\n"
LENGTH = b"500 Password length exceeded (max 128).\r\n"
FAILED = b"500 Server error, password not changed\r\n"
DEBIAN_SECONDS = 2.9  # it waits three before it closes
DEBIAN_OCTETS = 998  # what it reads at once
LONG_USER = "u" * 59
UID, LOW_UID = 4242, 99

SERVICE = (
    "auth required pam_unix.so nodelay",
    "account required pam_unix.so",
    "password required pam_unix.so obscure sha512 rounds=5000",
)


class Peer(NamedTuple):
    """One of the two: the server it runs under, and whose it is."""

    server: Server
    is_ours: bool

    def say(self, octets: bytes) -> tuple[bytes, int]:
        """Say all at once and stop; give what is said up to the end, and the code.

        Without the greeting's version. The code is 0, 1 and so on.
        """
        ((said,), (code,)) = self.say_each([octets])
        return said, code

    def say_each(self, texts: list[bytes]) -> tuple[list[bytes], list[int]]:
        """Say several things at the same time; the codes are in no order."""
        before = len(self._ends())
        with ThreadPoolExecutor(len(texts)) as pool:
            said = list(pool.map(self._say, texts))
        wait_for(lambda: len(self._ends()) == before + len(texts))
        return said, [int(status) >> 8 for status in self._ends()[before:]]

    def _say(self, octets: bytes) -> bytes:
        with Talk(self.server) as talk:
            talk.send(octets)
            talk.socket.shutdown(1)
            return re.sub(rb"^(200 poppassd v)[0-9.]+ ", rb"\1N ", talk.rest())

    def _ends(self) -> list[str]:
        return re.findall(r": end [0-9]+ status ([0-9]+)\n", self.server.errors)


class Both(NamedTuple):
    """Both, and what they are about."""

    estate: Estate
    debian: Peer
    ours: Peer

    def restore(self, stored: str) -> None:
        """Give everybody the old password again."""
        path = self.estate.etc / "shadow"
        rows = [line.split(":") for line in path.read_text("ascii").splitlines()]
        for row in rows:
            if row[0] in ("joe", "low", LONG_USER):
                row[1] = stored
        path.write_text("".join(":".join(row) + "\n" for row in rows), "ascii")

    def is_now(self, secret: str, user: str = "joe") -> bool:
        return hashes.matches(secret.encode(), self.estate.stored(user).encode())


@pytest.fixture(scope="module")
def stored() -> str:
    return hashes.make(OLD.encode(), "sha512").decode()


@pytest.fixture
def estate(room: Path, stored: str) -> Iterator[Estate]:
    need_root()
    with Estate(room / "estate") as made:
        for name, uid in (("joe", UID), (LONG_USER, UID + 1), ("low", LOW_UID)):
            made.add_user(name, uid, stored)
        made.service("poppassd", *SERVICE)
        yield made


@pytest.fixture
def stack(estate: Estate) -> Iterator[ExitStack]:
    """Give what ends before the estate does."""
    del estate
    with ExitStack() as held:
        yield held


def start(stack: ExitStack, tools: Tools, estate: Estate, *options: str) -> Both:
    """Run both; options: of ours."""
    program = foreign("poppassd", "usr/sbin/poppassd")
    peers = []
    for name, argv in (("debian", [program]), ("ours", [tools.poppassd, *options])):
        place = estate.place / name
        chain = estate.command(*argv)
        server = running(TCPSERVER, place, chain, tools.environment())
        peers.append(Peer(stack.enter_context(server), name == "ours"))
    return Both(estate, *peers)


@pytest.fixture
def both(stack: ExitStack, tools: Tools, estate: Estate) -> Both:
    """Both, ours without delay and rules of its own."""
    return start(stack, tools, estate, "--fail-delay=0", "--any-password")


def lines(*words: str, end: str = "\r\n") -> bytes:
    return "".join(word + end for word in words).encode()


GOOD = ("user joe", f"pass {OLD}", f"newpass {NEW}", "quit")
TO_NEWPASS = GOOD[:2]
LATER_PARTS = ("quit", "newpass", "newpass   ", "", "pass x", "NEW x")
SAME = {
    "a change": lines(*GOOD),
    "bare LF": lines(*GOOD, end="\n"),
    "upper case": lines("USER joe", f"PASS {OLD}", f"NEWPASS {NEW}", "QUIT"),
    "mixed case": lines("UsEr joe", f"pASS {OLD}", f"NewPass {NEW}", "quitter"),
    "no end of the last line": lines(*GOOD)[:-2],
    "blanks": lines(
        "user  joe extra words", f"pass   {OLD}", f"newpass   {NEW}", "quit"
    ),
    "a tabulator": lines("user\tjoe", f"pass\t{OLD}", f"newpass\t{NEW}", "quit"),
    "no blanks": lines("userjoe", f"pass{OLD}", f"newpass{NEW}", "quit"),
    "a CR in a name": lines("user joe\rmore", f"pass {OLD}", f"newpass {NEW}", "quit"),
    "more than quit": lines(*GOOD, "quit", "user joe"),
    "quit is not last": lines(*GOOD[:3], "foo"),
    "nothing instead of quit": lines(*GOOD[:3]),
    "an empty line instead of quit": lines(*GOOD[:3], ""),
    "three letters of quit": lines(*GOOD[:3], "qui"),
    "a name of 59": lines(f"user {LONG_USER}", f"pass {OLD}", f"newpass {NEW}", "quit"),
    "a name of 60": lines("user " + "u" * 60),
    "a new password of 123": lines(*TO_NEWPASS, "newpass " + "n" * 123, "quit"),
    "an empty password": lines("user joe", "pass "),
    "a password of 124": lines("user joe", "pass " + "p" * 124),
    "passwords of one": lines("user joe", f"pass {OLD}", "newpass x", "quit"),
    **{
        f"{first!r} first": octets
        for first in (
            "HELP",
            "quit",
            "pass x",
            "",
            "user",
            "user  ",
            " user joe",
            "us x",
        )
        for octets in (lines(first),)
    },
    "nothing at all": b"",
    **{f"{word!r} for pass": lines("user joe", word) for word in ("quit", "user joe")},
    "nothing for pass": lines("user joe"),
    **{f"{word!r} for newpass": lines(*TO_NEWPASS, word) for word in LATER_PARTS},
    "nothing for newpass": lines(*TO_NEWPASS),
}


@pytest.mark.slow
def test_what_is_said_is_the_same_to_the_octet(both: Both, stored: str) -> None:
    for what, octets in SAME.items():
        both.restore(stored)
        theirs = both.debian.say(octets)
        has_changed = both.estate.stored("joe") != stored
        both.restore(stored)
        assert both.ours.say(octets) == theirs, what
        assert (both.estate.stored("joe") != stored) == has_changed, what


@pytest.mark.slow
def test_refusals_have_the_same_words(both: Both) -> None:
    texts = [
        lines(f"user {user}", f"pass {secret}", f"newpass {NEW}", "quit")
        for user, secret in (
            ("joe", "wrong"),
            ("joe", "p" * 123),
            ("joe", OLD + " "),
            ("low", OLD),
            ("no-such", OLD),
        )
    ]
    theirs, codes = both.debian.say_each(texts)
    assert {said.splitlines(keepends=True)[-1] for said in theirs} == {WRONG}
    assert both.ours.say_each(texts) == (theirs, codes)


def test_line_by_line_it_is_the_same_as_at_once(both: Both) -> None:
    for peer, secrets in ((both.debian, (OLD, NEW)), (both.ours, (NEW, OLD))):
        with Talk(peer.server) as talk:
            talk.line()
            said = [
                talk.ask(word.encode())
                for word in ("user joe", f"pass {secrets[0]}", f"newpass {secrets[1]}")
            ]
            assert b"".join([*said, talk.ask(b"quit")]) == USER + PASS + DONE
            assert talk.rest() == b""


def test_debian_s_own_service_file_serves_both(both: Both, stored: str) -> None:
    theirs = Path(foreign("poppassd", "."), "etc/pam.d/poppassd").read_text("ascii")
    both.estate.service("poppassd", theirs)
    for peer in (both.debian, both.ours):
        both.restore(stored)
        assert peer.say(lines(*GOOD))[0].endswith(PASS + DONE)
        assert both.is_now(NEW)


# What ours does otherwise, each for a reason.


def test_otherwise_the_greeting_tells_our_own_version(both: Both) -> None:
    with Talk(both.debian.server) as debian, Talk(both.ours.server) as ours:
        shape = re.compile(rb"200 poppassd v([0-9.]+) hello, who are you\?\r\n")
        theirs, here = (shape.fullmatch(talk.line()) for talk in (debian, ours))
    assert theirs
    assert here
    assert (theirs[1], here[1]) == (b"1.8.5", __version__.encode())


@pytest.mark.parametrize("octets", [124, 128, 129, 600])
def test_otherwise_a_long_new_password_is_refused_not_cut(
    both: Both, octets: int
) -> None:
    words = lines(*TO_NEWPASS, "newpass " + "n" * octets, "quit")
    greeting, _, _ = both.debian.say(b"")[0].partition(b"\n")
    assert both.ours.say(words) == (greeting + b"\n" + USER + PASS + LENGTH, 1)
    assert both.is_now(OLD)
    assert both.debian.say(words)[0].endswith(DONE)
    assert both.is_now("n" * min(octets, 128))
    # ... and whoever has one is locked out there.
    again = lines("user joe", "pass " + "n" * min(octets, 128))
    assert both.debian.say(again)[0].endswith(LENGTH)


def test_otherwise_one_long_line_gets_one_reply(both: Both) -> None:
    newpass = f"newpass {NEW}".ljust(DEBIAN_OCTETS)
    long = lines(*TO_NEWPASS, newpass + "quit", "foo")
    assert both.ours.say(long)[0].endswith(PASS + LENGTH)
    assert both.is_now(OLD)
    assert both.debian.say(long)[0].endswith(DONE), "the rest is its next line"


def test_otherwise_a_new_password_with_a_cr_in_it_is_refused(both: Both) -> None:
    words = lines(*TO_NEWPASS, "newpass abc\rdef", "quit")
    assert both.ours.say(words)[0].endswith(PASS + LENGTH)
    assert both.debian.say(words)[0].endswith(DONE)
    assert both.is_now("abc")


def test_otherwise_a_module_may_ask_for_the_old_password_again(both: Both) -> None:
    passdb = both.estate.matrix("poppassd", joe=OLD)
    assert both.debian.say(lines(*GOOD))[0].endswith(FAILED)
    assert OLD in passdb.read_text("ascii")
    assert both.ours.say(lines(*GOOD))[0].endswith(DONE)
    assert NEW in passdb.read_text("ascii")


def test_otherwise_what_a_module_tells_is_in_the_one_reply(both: Both) -> None:
    text = both.estate.place / "text"
    text.write_text("Not today.\n", "ascii")
    echo = f"password required pam_echo.so file={text}"
    deny = "password required pam_deny.so"
    both.estate.service("poppassd", *SERVICE[:2], echo, deny)
    theirs, ours = (peer.say(lines(*GOOD))[0] for peer in (both.debian, both.ours))
    assert theirs.endswith(PASS + FAILED)
    told = FAILED[:-2] + b": Not today.\r\n"
    assert ours.endswith(PASS + told)


@pytest.mark.slow
def test_otherwise_all_refusals_wait_and_wait_before_they_are_told(
    stack: ExitStack, tools: Tools, estate: Estate
) -> None:
    both = start(stack, tools, estate)
    refused = (("joe", "wrong"), ("low", OLD), ("no-such", OLD))
    asked = [
        (peer.server, *who) for peer in (both.debian, both.ours) for who in refused
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        waited = list(pool.map(lambda words: _waits(*words), asked))
    (wrong, low, _), ours = waited[:3], waited[3:]
    assert wrong[0] < DEBIAN_SECONDS < wrong[1]
    assert low[1] < DEBIAN_SECONDS, "time tells who is who"
    assert min(told for told, _ in ours) >= 3.0
    assert max(ended for _, ended in ours) < 3.0 + DEBIAN_SECONDS


def _waits(server: Server, user: str, secret: str) -> tuple[float, float]:
    """Give the seconds from the password to its refusal, and to the end."""
    with Talk(server) as talk:
        talk.line()
        talk.ask(f"user {user}".encode())
        began = time.monotonic()
        assert talk.ask(f"pass {secret}".encode()) == WRONG
        told = time.monotonic() - began
        assert talk.rest() == b""
        return told, time.monotonic() - began


def test_otherwise_root_s_password_can_not_be_guessed(both: Both) -> None:
    words = lines("user root", "pass guess")
    both.ours.say(words)
    assert not [line for line in both.estate.log() if "pam_unix" in line]
    both.debian.say(words)
    asked = [line for line in both.estate.log() if "pam_unix" in line]
    assert [line for line in asked if "user=root" in line]


def test_otherwise_an_account_that_has_expired_stays_so(
    both: Both, stored: str
) -> None:
    both.estate.add_user("gone", UID + 2, stored, "19000:0:99999:7::1:")
    words = lines("user gone", f"pass {OLD}", f"newpass {NEW}", "quit")
    assert both.ours.say(words)[0].endswith(USER + WRONG)
    assert both.debian.say(words)[0].endswith(DONE)


def test_otherwise_pam_and_the_log_know_where_the_client_is(both: Both) -> None:
    for peer, rhost, ending in ((both.debian, "", "joe"), (both.ours, "127.0.0.1", "")):
        peer.say(lines("user joe", "pass wrong"))
        logged = both.estate.log()
        (of_pam,) = [line for line in logged if "authentication failure" in line]
        assert f" rhost={rhost}  user=joe" in of_pam
        (own,) = [line for line in logged if "old password is incorrect" in line]
        assert own.endswith(ending or "for user joe from 127.0.0.1")
        assert own.startswith("<163>"), "facility and priority are the same"


def test_otherwise_a_weak_password_is_refused(
    stack: ExitStack, tools: Tools, estate: Estate
) -> None:
    both = start(stack, tools, estate)
    weak = lines(*TO_NEWPASS, "newpass abc", "quit")
    told = b": the new password is shorter than 8 characters\r\n"
    assert both.ours.say(weak)[0].endswith(FAILED[:-2] + told)
    assert both.debian.say(weak)[0].endswith(DONE)


def test_otherwise_a_silent_client_is_left(
    stack: ExitStack, tools: Tools, estate: Estate
) -> None:
    both = start(stack, tools, estate, "--timeout=1")
    with Talk(both.debian.server) as debian, Talk(both.ours.server) as ours:
        assert ours.rest().endswith(b"421 Timeout, closing connection.\r\n")
        debian.line()
        assert debian.ask(b"user joe") == USER


def test_otherwise_pam_s_own_troubles_are_no_wrong_name(both: Both) -> None:
    for name in ("poppassd", "other"):
        (both.estate.etc / "pam.d" / name).unlink()
    said, code = both.debian.say(lines(*TO_NEWPASS))
    assert (said.splitlines()[-1], code) == (b"500 Invalid username.", 1)
    said, code = both.ours.say(lines(*TO_NEWPASS))
    assert said.splitlines()[-1] == b"500 Server error, try again later."
    assert code == 111


# Under which servers it runs.


def _popserver(tools: Tools) -> Superserver:
    def argv(site: Site) -> list[str]:
        where = ["-R", "-H", "-l", "mx.example", "127.0.0.1", str(site.port)]
        return [tools.popserver, *where, *site.chain]

    return Superserver("popserver", argv)


ROWS = [row for row in SUPERSERVERS if not row.name.startswith("popserver")]


@pytest.mark.parametrize("row", [*ROWS, None], ids=lambda row: row and row.name)
def test_it_runs_under_every_superserver(
    stack: ExitStack, tools: Tools, estate: Estate, row: Superserver | None
) -> None:
    chain = estate.command(tools.poppassd)
    server = stack.enter_context(
        running(
            row or _popserver(tools), estate.place / "s", chain, tools.environment()
        )
    )
    with Talk(server) as talk:
        talk.send(lines(*GOOD))
        assert talk.rest().endswith(PASS + DONE)
    address = "unknown" if row and not row.has_port else "127.0.0.1"
    (line,) = [line for line in estate.log() if "POP3" in line]
    assert line.endswith(f"joe from {address}")
