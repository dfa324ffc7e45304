# SPDX-License-Identifier: ISC
"""What is told of connections: popup's lines, and numbers that none can overflow."""

import posix
import struct

import pytest

from qtools.server.admission import SOURCE, TOTAL, Admission
from qtools.server.metrics import MOST, PREFIX, Counters, render
from qtools.server.warm import packets
from qtools.server.warm.accounting import Accounting
from qtools.server.warm.guest import Guest
from qtools.server.warm.journal import INFO, NOTICE, Journal
from qtools.server.warm.packets import MOST_COUNT, NOTHING, WHYS, Tally
from qtools.sessions.actions import Log
from tests.unit.house import NOW, guest

TLS = {b"SSL_PROTOCOL": b"TLSv1.3", b"SSL_CIPHER": b"CIPHER"}
DONE = Tally(0, WHYS.index("quit"), (2, 3000, 1, 1500, 4, None))


class Books:
    """An accounting, and what it wrote."""

    def __init__(self, *, is_verbose: bool = False) -> None:
        self.written: list[tuple[int, bytes]] = []
        self.complaints: list[str] = []
        journal = Journal(self.write)
        self.accounting = Accounting(
            "popup", journal, self.complaints.append, is_verbose=is_verbose
        )
        self.accounting.now = NOW
        self.admission = Admission(10, 5, 0)

    def write(self, level: int, line: bytes) -> bool:
        self.written.append((level, line))
        return True

    @property
    def line(self) -> str:
        """The one line that was written since the last look, without its beginning."""
        ((_, line),) = self.written
        self.written.clear()
        head = b"popup: pid %d " % posix.getpid()
        assert line.startswith(head)
        assert line.endswith(b"\n")
        return line[len(head) : -1].decode("ascii")

    def counts(self) -> dict[str, float]:
        """Give what was counted and is not 0, as the master reads it."""
        counters = Counters()
        counters.merge(self.accounting.packed({}), 1)
        rows = [row.rpartition(" ") for row in render(counters).decode().split("\n")]
        return {
            name.removeprefix(PREFIX): float(value)
            for name, _, value in rows
            if name and not name.startswith("#") and float(value)
        }


@pytest.fixture
def books() -> Books:
    """Give an accounting that writes into a list."""
    return Books()


def who(*, is_tls: bool = False) -> Guest:
    made = guest()
    made.tls = dict(TLS) if is_tls else {}
    return made


def test_who_comes_is_counted_and_not_told_of(books: Books) -> None:
    books.accounting.came(who(), is_tls=False)
    assert books.written == []
    assert books.counts() == {"connections_total": 1}


@pytest.mark.parametrize(("is_tls", "note"), [(False, ""), (True, " implicit TLS")])
def test_who_wants_to_know_is_told_who_comes(note: str, *, is_tls: bool) -> None:
    books = Books(is_verbose=True)
    books.accounting.came(who(), is_tls=is_tls)
    where = "P:POP3 S:192.0.2.7:unknown ?~ ''"
    assert books.line == f"Info::CONNECT::None {where}{note}"


def test_an_accepted_login(books: Books) -> None:
    books.accounting.judged(who(is_tls=True), Log("Accept::AUTH", "Plain", b"joe"))
    assert books.written[0][0] == INFO
    assert books.line == (
        "Accept::AUTH::Plain P:POP3S S:192.0.2.7:unknown ?~ 'joe' tls=TLSv1.3/CIPHER"
    )
    assert books.counts() == {
        'logins_total{mechanism="Plain"}': 1,
        "sessions_total": 1,
    }


@pytest.mark.parametrize(
    ("code", "note", "why"),
    [
        (1, "", "refused"),
        (2, " code=2", "misuse"),
        (3, " code=3", "expired"),
        (100, " code=100", "hard"),
        (111, " code=111", "temporary"),
        (77, " code=77", "temporary"),
    ],
)
def test_a_refused_login(books: Books, code: int, note: str, why: str) -> None:
    books.accounting.judged(who(), Log("Reject::AUTH", "User", b"a 'b'\n", code))
    assert books.written[0][0] == NOTICE
    where = "P:POP3 S:192.0.2.7:unknown"
    user = "a\\x20\\x27b\\x27\\x0a"
    assert books.line == f"Reject::AUTH::User {where} ?~ '{user}'{note}"
    assert books.counts() == {f'failures_total{{mechanism="User",why="{why}"}}': 1}


def test_a_login_that_has_to_wait_for_tls(books: Books) -> None:
    books.accounting.judged(who(), Log("Reject::STLS", "Any", b"unknown"))
    assert books.line == ("Reject::STLS::Any P:POP3 S:192.0.2.7:unknown ?~ 'unknown'")
    assert books.counts() == {'failures_total{mechanism="Any",why="refused"}': 1}


def test_a_long_name_makes_no_long_line(books: Books) -> None:
    """AUTH takes 12 KiB; popup's lines have no more of it than a record could hold."""
    books.accounting.judged(who(), Log("Reject::AUTH", "Plain", b"\xff" * 9000, 1))
    line = books.line
    assert line.count("\\xff") == 512
    assert len(line) < 2200


@pytest.mark.parametrize("why", [SOURCE, TOTAL, "rules", "proxy"])
def test_who_is_turned_away_is_told_of_once_in_a_while(books: Books, why: str) -> None:
    for _ in range(7):
        books.accounting.turned_away(why, who(), books.admission)
    where = "P:POP3 S:192.0.2.7:unknown ?~ ''"
    event = f"Reject::CONNECT::{why.capitalize()}"
    assert books.line == f"{event} {where}"
    books.accounting.now += 10
    books.accounting.turned_away(why, who(), books.admission, "a\nnote")
    assert books.written[0][0] == NOTICE
    assert books.line == f"{event} {where} a note (+6 more)"
    assert books.counts() == {f'refused_total{{why="{why}"}}': 8}


def test_handshakes_are_counted(books: Books) -> None:
    for variables in (None, TLS, {}, {b"SSL_PROTOCOL": b"\xff\n"}):
        books.accounting.handshake(variables)
    assert books.counts() == {
        "tls_failures_total": 1,
        'tls_handshakes_total{protocol="TLSv1.3"}': 1,
        'tls_handshakes_total{protocol="other"}': 2,
    }
    assert books.written == []


def test_who_leaves_before_login(books: Books) -> None:
    books.accounting.now = NOW + 61.6
    books.accounting.left(who(), ("None", b""), 111, "eof")
    assert books.line == (
        "Info::END::None P:POP3 S:192.0.2.7:unknown ?~ '' why=eof code=111 seconds=62"
    )
    books.accounting.now = NOW - 5
    books.accounting.left(who(), ("User", b"joe"), 1, "refused")
    assert books.line.endswith("?~ 'joe' why=refused code=1 seconds=0")


def test_a_session_that_ended(books: Books) -> None:
    tag = who(is_tls=True).tag("User", b"joe")
    books.accounting.now = NOW + 2.4
    books.accounting.ended(DONE, tag)
    assert books.line == (
        "Info::END::User P:POP3S S:192.0.2.7:unknown ?~ 'joe' why=served code=0"
        " seconds=2 end=quit retrieved=2 octets=3000 deleted=1 left=4 left-octets=-"
        " tls=TLSv1.3/CIPHER"
    )
    assert books.counts() == {
        "messages_retrieved_total": 2,
        "octets_sent_total": 3000,
        "messages_deleted_total": 1,
        "session_seconds_sum": 2.4,
        "session_seconds_count": 1,
    }


@pytest.mark.parametrize(
    ("code", "shown", "end"),
    [(1, 1, ""), (100, 100, ""), (111, 111, ""), (-9, 111, " signal=9")],
)
def test_a_session_that_failed(books: Books, code: int, shown: int, end: str) -> None:
    """A code is one of popup's; what killed a session is told behind it."""
    books.accounting.ended(Tally(code, 0, NOTHING.counts), who().tag("User", b"joe"))
    line = books.line
    assert f" why=failed code={shown} seconds=0 end=lost retrieved=0 " in line
    assert line.endswith(" left=0 left-octets=-" + end)


def test_each_way_to_end_is_one_word(books: Books) -> None:
    for number in range(len(WHYS)):
        books.accounting.ended(Tally(0, number, (0,) * 6), who().tag("User", b"joe"))
        assert len(books.line.split()) == 14


@pytest.mark.parametrize("tag", [b"", b"x" * 50, packets.fields(*[b"x"] * 8)])
def test_a_session_with_a_hostile_tag_is_counted_and_not_told_of(
    books: Books, tag: bytes
) -> None:
    books.accounting.ended(DONE, tag)
    assert books.written == []
    assert books.counts()["messages_retrieved_total"] == 2


def test_no_number_of_sessions_makes_a_count_nobody_takes(books: Books) -> None:
    """Each is its user's own process, and may claim what it likes."""
    tally = Tally(0, 1, (MOST_COUNT,) * 6)
    for _ in range(int(MOST / MOST_COUNT) + 10):
        books.accounting.ended(tally, b"")
    assert books.counts()["octets_sent_total"] == MOST


def resumed(books: Books, tag: bytes) -> tuple[bytes, float]:
    packet = packets.head(packets.LIVE, 5) + packets.fields(tag)
    return books.accounting.resumed(packet)


def test_a_session_of_before_goes_on(books: Books) -> None:
    made = Guest((b"127.0.0.1", 110), (b"2001:db8::1", 4), NOW - 100)
    assert resumed(books, made.tag("User", b"joe")) == (b"2001:db8::/64", NOW - 100)


@pytest.mark.parametrize(
    "tag",
    [
        b"",
        b"garbage",
        packets.fields(struct.pack(">d", float("nan")), *[b""] * 7),
        packets.fields(struct.pack(">d", float("inf")), *[b""] * 7),
    ],
)
def test_one_with_a_hostile_tag_is_of_a_source_nobody_knows(
    books: Books, tag: bytes
) -> None:
    """The worker that wrote it may have been taken over; this one has to start."""
    assert resumed(books, tag) == (b"unknown", NOW)


def test_none_began_after_now(books: Books) -> None:
    """It would count until then."""
    made = guest()
    made.began = NOW + 1e9
    assert resumed(books, made.tag("User", b"")) == (b"192.0.2.7", NOW)


def test_gauges_go_along_with_the_counters(books: Books) -> None:
    gauges = {"connections": 3, "sessions": 2, "sources": 1, "verifier_queue": 7}
    counters = Counters()
    counters.merge(books.accounting.packed(gauges), 1)
    text = render(counters).decode()
    for name, value in gauges.items():
        assert f"\n{PREFIX}{name} {value}\n" in text
