# SPDX-License-Identifier: ISC
"""One connection before login: what the cold chain's driver does, without waiting.

Both drive the same Login over real sockets. What is left in a socket is looked at as
well as what was sent: the octets behind a line are the session's, or TLS's.
"""

import select
import socket
import struct
from binascii import b2a_base64
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.chain import dialogue
from qtools.chain.office import SERVED
from qtools.chain.request import EVENTS, Request
from qtools.server.warm.connection import (
    ASK,
    ENDED,
    FLUSH,
    PAUSE,
    PEEK_OCTETS,
    TALK,
    TLS,
)
from qtools.sessions.actions import Log
from qtools.sessions.exchange import ANSWER_SECONDS
from qtools.sessions.login import Login
from qtools.sessions.policy import Policy
from qtools.system.fdio import Wire
from tests.support import wait_for
from tests.unit.house import NOW, House, adopted, left_in, received
from tests.unit.loginmodel import Options
from tests.unit.test_login import LINES, OPTIONS, STAMP

# With many examples hypothesis compares its own cache's keys, octets with numbers.
pytestmark = pytest.mark.filterwarnings(
    "ignore::BytesWarning:hypothesis.internal.cache"
)

OK, REFUSED = b"+OK \r\n", b"-ERR [AUTH] authorization failed\r\n"
GREETING = b"+OK\r\n"
LOGIN = b"USER joe\r\nPASS secret\r\n"
IDLE, WRITE = 1200.0, 60.0


@pytest.fixture
def house() -> Iterator[House]:
    """Give a house, and close at the end what was opened in it."""
    with House() as made:
        yield made


class Talk:
    """One connection that was greeted, and its client."""

    def __init__(self, house: House, options: Options | None = None) -> None:
        self.house = house
        self.connection, self.client = house.connection()
        policy = (options or Options()).policy()
        policy.delay_seconds = 1.0 if options is None else 0.0
        self.login = Login(STAMP, policy)
        self.connection.begin(self.login, house.now)

    def say(self, octets: bytes) -> bytes:
        """Send, let the server work until it rests, and give what it said."""
        self.client.send(octets)
        self.settle()
        return received(self.client)

    def settle(self) -> None:
        self.house.settle(self.connection)

    @property
    def state(self) -> int:
        return self.connection.state

    @property
    def left(self) -> bytes:
        return left_in(self.connection.socket)

    @property
    def mask(self) -> int:
        return self.house.watched.get(self.connection, -1)

    @property
    def end(self) -> tuple[int, str] | None:
        """How it ended; a connection ends once."""
        ends = [end[1:] for end in self.house.ended if end[0] is self.connection]
        assert len(ends) <= 1
        assert self.state == ENDED or not ends
        return ends[0] if ends else None

    def let_pass(self, seconds: float) -> bool:
        return self.house.until(self.connection, self.house.now + seconds)


@pytest.fixture
def talk(house: House) -> Talk:
    """Give a connection that has just been greeted."""
    made = Talk(house)
    assert received(made.client) == GREETING
    return made


# Beside the cold chain's driver -----------------------------------------------

IS_SERVED = SERVED, dialogue.SERVED_REASON

Said = tuple[bytes, list[object], tuple[int, str], bytes]


class Script:
    """What the privileged side says, and what it heard: a Clerk, and a House's part."""

    def __init__(self, codes: list[int], handshakes: list[bool]) -> None:
        self._codes = list(codes)
        self._handshakes = list(handshakes)
        self.heard: list[object] = []

    def code(self, mechanism: str, record: bytes) -> int:
        self.heard.append((mechanism, record))
        return self._codes.pop() if self._codes else 1

    def tls(self) -> bool:
        self.heard.append("tls")
        return self._handshakes.pop() if self._handshakes else True

    def line(self, event: str, mechanism: str, user: bytes, code: int) -> None:
        self.heard.append((event, mechanism, user[:512], code))

    # As a Clerk.

    def verify(self, asked: Request) -> int:
        return self.code(asked.mechanism, asked.record) or SERVED

    def start_tls(self) -> bytes | None:
        return b"" if self.tls() else None

    def respond(self, message: bytes) -> NoReturn:
        raise AssertionError(message)

    def withdraw(self) -> NoReturn:
        raise AssertionError("there is no dialogue")

    def note(self, told: Request) -> None:
        self.line(EVENTS[told.detail], told.mechanism, told.record, told.code)


def drive_dialogue(options: Options, stream: bytes, script: Script) -> Said:
    """Have the blocking driver serve a client who has said everything already."""
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        there.send(stream)
        there.shutdown(socket.SHUT_WR)
        wire = Wire(here.fileno(), here.fileno(), 20, 20)
        login = Login(STAMP, options.policy())
        end = dialogue.Dialogue(login, wire, script).run()
        left = left_in(here) if end == IS_SERVED else b""
        return received(there), script.heard, end, left


def drive_connection(options: Options, pieces: list[bytes], script: Script) -> Said:
    """Have a Connection serve a client who says it piece by piece."""
    with House() as house:
        talk = Talk(house, options)
        said = b""
        for place, piece in enumerate(pieces):
            if talk.state == ENDED:  # nobody reads, and pieces take more room
                with suppress(BrokenPipeError):
                    talk.client.send(b"".join(pieces[place:]))
                break
            talk.client.send(piece)
            said += go_on(talk, script)
        talk.client.shutdown(socket.SHUT_WR)
        said += go_on(talk, script)
        assert talk.state == ENDED
        if talk.end is not None:
            return said, script.heard, talk.end, b""
        return said, script.heard, IS_SERVED, talk.left


def go_on(talk: Talk, script: Script) -> bytes:
    """Do what a connection asks for, until it waits for the client; give its words."""
    said = b""
    while True:
        talk.settle()
        said += received(talk.client)
        house, connection = talk.house, talk.connection
        hear(house, script)
        if talk.state == ASK:
            (_, asked) = house.asked.pop()
            code = script.code(asked.mechanism, asked.record)
            if code:
                connection.answered(code, house.now)
            else:
                connection.accepted(house.now)
        elif talk.state == TLS:
            house.handshakes.remove(connection)
            is_good = script.tls()
            step = connection.tls_started if is_good else connection.tls_failed
            step(house.now)
        else:
            return said


def hear(house: House, script: Script) -> None:
    """Take the lines of refusals; in the cold chain the office tells of logins."""
    lines, house.lines[:] = list(house.lines), []
    for line in lines:
        if line.event != "Accept::AUTH":
            script.line(line.event, line.mechanism, line.user, line.code)


STREAMS = st.lists(
    st.one_of(
        LINES.map(lambda line: line + b"\r\n"),
        st.sampled_from([LOGIN, b"STLS\r\n", b"QUIT\r\n", b"NOOP\n"]),
        st.binary(max_size=8),
    ),
    max_size=12,
).map(b"".join)
CODES = st.lists(st.sampled_from([0, 1, 1, 2, 100, 111, 3]), max_size=6)
CUTS = st.lists(st.integers(0, 20_000), max_size=8)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({each % (len(stream) + 1) for each in cuts})
    ends = zip([0, *places], [*places, len(stream)], strict=True)
    return [stream[start:end] for start, end in ends]


@pytest.mark.slow
@given(OPTIONS, STREAMS, CUTS, CODES, st.lists(st.booleans()))
def test_it_does_what_the_blocking_driver_does(
    options: Options,
    stream: bytes,
    cuts: list[int],
    codes: list[int],
    handshakes: list[bool],
) -> None:
    """Whatever is said, however it is cut, down to the octets left for the session."""
    expected = drive_dialogue(options, stream, Script(codes, handshakes))
    script = Script(codes, handshakes)
    assert drive_connection(options, cut(stream, cuts), script) == expected
    assert stream.endswith(expected[-1])


@pytest.mark.slow
@given(STREAMS.filter(bool), CODES)
def test_octet_by_octet_it_is_the_same(stream: bytes, codes: list[int]) -> None:
    options = Options(attempts=5)
    whole = drive_connection(options, [stream], Script(codes, []))
    octets = [bytes((each,)) for each in stream[:2000]]
    rest = [stream[2000:]] if stream[2000:] else []
    assert drive_connection(options, octets + rest, Script(codes, [])) == whole


# Reading ----------------------------------------------------------------------


def test_a_greeted_client_is_listened_to(talk: Talk) -> None:
    assert (talk.state, talk.mask) == (TALK, select.EPOLLIN)
    assert talk.connection.deadline == NOW + IDLE


BEHIND = [b"", b"STAT\r\n", b"STAT\r\nRETR 1\r\nDELE", b"x" * 5000, b"\r\n" * 600]


@pytest.mark.parametrize("behind", BEHIND)
def test_what_comes_behind_a_password_is_left_for_the_session(
    talk: Talk, behind: bytes
) -> None:
    assert talk.say(LOGIN + behind) == OK
    assert (talk.state, talk.mask, talk.left) == (ASK, -1, behind)
    talk.client.send(b"more\r\n")
    talk.settle()
    talk.connection.accepted(NOW)
    assert talk.left == behind + b"more\r\n"
    assert (talk.state, talk.end) == (ENDED, None)
    (line,) = talk.house.lines
    assert line == Log("Accept::AUTH", "User", b"joe")


@pytest.mark.parametrize("behind", BEHIND)
def test_what_comes_behind_stls_is_left_for_the_handshake(
    house: House, behind: bytes
) -> None:
    talk = Talk(house, Options(has_stls=True))
    received(talk.client)
    said = talk.say(b"STLS\r\n" + behind)
    assert said == b"+OK starting TLS negotiation\r\n"
    assert (talk.state, talk.left) == (TLS, behind)
    assert house.handshakes == [talk.connection]


def test_a_whole_login_at_once_is_read_line_by_line(house: House) -> None:
    talk = Talk(house, Options(mechanisms=(b"PLAIN",)))
    received(talk.client)
    said = talk.say(b"CAPA\r\nAUTH PLAIN\r\nAGpvZQBzZWNyZXQ=\r\nSTAT\r\nQUIT\r\n")
    assert said.endswith(b"\r\n.\r\n+ \r\n")
    (_, asked) = house.asked[0]
    assert asked.record.startswith(b"joe\0secret\0")
    assert talk.left == b"STAT\r\nQUIT\r\n"
    assert (talk.connection.mechanism, talk.connection.user) == ("Plain", b"joe")


def test_a_long_line_is_dropped_as_it_comes(talk: Talk) -> None:
    assert talk.say(b"x" * 100_000) == b""
    assert len(talk.login.forget()) <= PEEK_OCTETS
    assert talk.left == b""


def test_one_turn_takes_no_more_than_it_has_seen(talk: Talk) -> None:
    talk.client.send(b"NOOP\r\n" * 200)
    assert talk.house.turn(talk.connection)
    first = received(talk.client)
    assert PEEK_OCTETS // 6 <= first.count(b"\n") <= PEEK_OCTETS // 6 + 1
    talk.settle()
    assert (first + received(talk.client)) == OK * 200


# Verdicts and pauses ----------------------------------------------------------


def refused(talk: Talk, code: int = 1) -> None:
    """Have a login refused, up to the pause before the reply."""
    talk.say(LOGIN)
    talk.connection.answered(code, talk.house.now)


def test_a_refusal_is_told_after_a_pause(talk: Talk) -> None:
    refused(talk)
    assert (talk.state, talk.mask) == (PAUSE, 0)
    assert talk.connection.deadline == NOW + 1
    assert talk.say(b"NOOP\r\n") == b""
    assert not talk.let_pass(0.9)
    assert talk.let_pass(0.1)
    assert received(talk.client) == REFUSED
    assert talk.connection.deadline == NOW + 1 + IDLE
    talk.settle()
    assert received(talk.client) == OK
    (line,) = talk.house.lines
    assert line == Log("Reject::AUTH", "User", b"joe", 1)


def test_after_so_many_refusals_it_ends(talk: Talk) -> None:
    for number in range(3):
        refused(talk)
        assert talk.end is None
        assert talk.let_pass(2.0**number)
        assert received(talk.client) == REFUSED
        talk.settle()
    assert talk.end == (1, "refused")
    assert talk.client.recv(1) == b""


def test_without_a_delay_there_is_no_pause(house: House) -> None:
    talk = Talk(house, Options())
    received(talk.client)
    refused(talk, 111)
    assert talk.state == TALK
    said = received(talk.client)
    assert said == b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"


def test_an_answer_may_come_while_it_is_asked_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when no verifier can be asked; what is behind it has its turn then."""
    talk = Talk(house, Options(attempts=2))
    received(talk.client)
    monkeypatch.setattr(
        house, "verify", lambda connection, _: connection.answered(111, house.now)
    )
    said = talk.say(LOGIN + b"NOOP\r\n" + LOGIN + b"NOOP\r\n")
    failure = b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"
    assert said == OK + failure + OK + OK + failure
    assert talk.end == (1, "refused")


def test_a_handshake_may_fail_while_it_is_asked_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(house, Options(has_stls=True))
    received(talk.client)
    monkeypatch.setattr(
        house, "start_tls", lambda connection: connection.tls_failed(house.now)
    )
    assert talk.say(b"STLS\r\nNOOP\r\n") == b"+OK starting TLS negotiation\r\n"
    assert talk.end == (111, "tls-failed")


@pytest.mark.parametrize("code", [0, 1, 111])
def test_an_answer_after_the_end_is_for_nobody(talk: Talk, code: int) -> None:
    talk.say(LOGIN)
    talk.connection.end(111, "terminated")
    if code:
        talk.connection.answered(code, NOW)
    else:
        talk.connection.accepted(NOW)
    assert (talk.state, talk.end) == (ENDED, (111, "terminated"))
    assert talk.house.lines == []
    assert talk.client.recv(1) == b""


@pytest.mark.parametrize("state", [TALK, PAUSE, TLS, ENDED])
def test_an_answer_nobody_asked_for_changes_nothing(talk: Talk, state: int) -> None:
    talk.connection.state = state
    talk.connection.answered(1, NOW)
    talk.connection.accepted(NOW)
    assert talk.state == state
    assert (talk.house.lines, received(talk.client)) == ([], b"")


# TLS in the middle ------------------------------------------------------------


@pytest.fixture
def shaking(house: House) -> Talk:
    """Give a connection in its handshake, on a socket that is another one now."""
    talk = Talk(house, Options(has_stls=True))
    talk.say(b"USER mallory\r\nSTLS\r\nPASS injected\r\n")
    assert talk.state == TLS
    assert talk.left == b"PASS injected\r\n"
    talk.connection.socket.close()
    here, talk.client = socket.socketpair()
    house.keep(talk.client).setblocking(False)
    talk.connection.socket = house.keep(adopted(here))
    return talk


def test_inside_tls_it_goes_on_afresh(shaking: Talk) -> None:
    house = shaking.house
    house.now += 20
    shaking.connection.tls_started(house.now)
    assert (shaking.state, shaking.mask) == (TALK, select.EPOLLIN)
    assert shaking.connection.deadline == NOW + 20 + IDLE
    assert shaking.say(b"PASS x\r\n") == b"-ERR USER first\r\n"
    assert b"STLS" not in shaking.say(b"CAPA\r\n")
    assert shaking.say(LOGIN + b"STAT\r\n") == OK
    assert (shaking.state, shaking.left) == (ASK, b"STAT\r\n")


def test_a_handshake_that_failed_ends_it_without_a_word(shaking: Talk) -> None:
    shaking.connection.tls_failed(NOW)
    assert shaking.end == (111, "tls-failed")
    assert shaking.client.recv(1) == b""


def test_a_handshake_that_failed_before_the_greeting_ends_it(house: House) -> None:
    connection, client = house.connection()
    connection.state = TLS
    connection.tls_failed(NOW)
    assert house.ended == [(connection, 111, "tls-failed")]
    assert connection.state == ENDED
    assert client.recv(1) == b""


@pytest.mark.parametrize("is_good", [True, False])
def test_news_of_a_handshake_after_the_end_is_for_nobody(
    shaking: Talk, *, is_good: bool
) -> None:
    connection = shaking.connection
    connection.end(111, "terminated")
    if is_good:
        connection.tls_started(NOW)
    else:
        connection.tls_failed(NOW)
    assert shaking.end == (111, "terminated")


# Clients that don't read ------------------------------------------------------

CAPA = b"CAPA\r\n"
MOST_HELD = 200 * (PEEK_OCTETS // len(CAPA) + 1)  # octets: what one look can lead to


def slow(house: House) -> Talk:
    """Give a client whose socket takes some kilobytes and no more."""
    talk = Talk(house, Options())
    received(talk.client)
    talk.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return talk


def test_who_does_not_read_is_not_read_from(house: House) -> None:
    talk = slow(house)
    talk.client.send(CAPA * 2000)
    talk.settle()
    assert talk.mask == select.EPOLLOUT
    assert talk.left, "the rest waits in the kernel"
    assert 0 < len(talk.connection._out) <= MOST_HELD
    said = b""
    while talk.left or talk.connection._out:
        said += received(talk.client)
        talk.settle()
    said += received(talk.client)
    one = said[: said.index(b"\r\n.\r\n") + 5]
    assert said == one * 2000
    assert talk.mask == select.EPOLLIN


@pytest.mark.parametrize(
    ("last", "state"), [(LOGIN, ASK), (b"STLS\r\n", TLS), (b"QUIT\r\n", ENDED)]
)
def test_what_takes_time_waits_for_the_client_to_read(
    house: House, last: bytes, state: int
) -> None:
    talk = Talk(house, Options(has_stls=True))
    received(talk.client)
    talk.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    talk.client.send(CAPA * (PEEK_OCTETS // len(CAPA) - 4) + last + b"behind")
    talk.settle()
    assert (talk.state, talk.mask) == (FLUSH, select.EPOLLOUT)
    assert (house.asked, house.handshakes, talk.end) == ([], [], None)
    while talk.state == FLUSH:
        assert received(talk.client)
        talk.settle()
    assert talk.state == state
    if state != ENDED:
        assert talk.left == b"behind"


@pytest.mark.slow
@given(
    st.lists(
        st.sampled_from([CAPA, CAPA * 60, b"NOOP\r\n", LOGIN, b"USER x\r\nPASS"]),
        max_size=12,
    ),
    st.lists(st.integers(1, 6000), max_size=40),
    CODES,
)
def test_slow_readers_get_the_same(
    words: list[bytes], reads: list[int], codes: list[int]
) -> None:
    stream = b"".join(words)
    expected = drive_dialogue(Options(), stream, Script(codes, []))[0]
    script = Script(codes, [])
    with House() as house:
        talk = slow(house)
        with suppress(BlockingIOError):
            talk.client.send(stream)
        talk.client.shutdown(socket.SHUT_WR)
        said, sizes = GREETING, [*reads, *[65536] * 10_000]
        while talk.state != ENDED:
            talk.settle()
            assert len(talk.connection._out) <= MOST_HELD
            if talk.state == ASK:
                said += go_on(talk, script)
            with suppress(BlockingIOError):
                said += talk.client.recv(sizes.pop(0))
        assert said + received(talk.client) == expected


# Time -------------------------------------------------------------------------


def test_an_idle_client_ends(talk: Talk) -> None:
    talk.let_pass(1000)
    assert talk.say(b"NOOP\r\n") == OK
    assert not talk.let_pass(IDLE - 1)
    assert talk.let_pass(1)
    assert talk.end == (111, "timeout")
    assert talk.client.recv(1) == b""


def test_a_client_that_drips_is_a_client_that_idles(talk: Talk) -> None:
    for _ in range(12):
        assert talk.end is None
        talk.let_pass(100)
        with suppress(BrokenPipeError):
            talk.say(b"N")
    assert talk.end == (111, "timeout")


def test_nobody_stays_beyond_the_end(house: House) -> None:
    talk = Talk(house)
    talk.connection.ends = NOW + 3000
    for _ in range(3):
        talk.let_pass(900)
        assert talk.say(b"NOOP\r\n")[-6:] == OK
    assert talk.connection.deadline == NOW + 3000
    assert talk.let_pass(300)
    assert talk.end == (111, "timeout")


def test_a_pause_that_ends_too_late_is_not_followed_by_a_word(talk: Talk) -> None:
    talk.connection.ends = NOW + 0.5
    refused(talk)
    assert talk.let_pass(1)
    assert talk.end == (111, "timeout")
    assert talk.client.recv(1) == b""


def test_the_time_of_a_verifier_is_not_the_client_s(talk: Talk) -> None:
    talk.say(LOGIN)
    assert talk.connection.deadline == talk.connection.ends == NOW + 3600
    assert not talk.let_pass(2000)
    talk.connection.answered(1, talk.house.now)
    assert talk.let_pass(1)
    assert received(talk.client) == REFUSED
    assert talk.connection.deadline == NOW + 2001 + IDLE


def test_what_a_verifier_says_late_is_what_counts(talk: Talk) -> None:
    # The session may have begun: an end told here would be a lie, or a second one.
    talk.say(LOGIN)
    talk.let_pass(3600)
    assert talk.end is None
    talk.connection.accepted(talk.house.now)
    assert [line.event for line in talk.house.lines] == ["Accept::AUTH"]


@pytest.mark.parametrize("is_flush", [True, False])
def test_who_reads_nothing_ends_after_the_write_limit(
    house: House, *, is_flush: bool
) -> None:
    talk = slow(house)
    talk.client.send(CAPA * 80 + LOGIN[: 99 * is_flush])
    talk.settle()
    assert talk.state == (FLUSH if is_flush else TALK)
    assert talk.connection.deadline == NOW + WRITE
    talk.settle()
    assert talk.let_pass(WRITE)
    assert talk.end == (111, "timeout")


def test_whose_first_octet_does_not_fit_has_the_write_limit_as_well(
    house: House,
) -> None:
    talk = slow(house)
    with suppress(BlockingIOError):
        while True:  # what fits into the socket
            talk.connection.socket.send(b"x", socket.MSG_DONTWAIT)
    talk.client.send(b"NOOP\r\n")
    talk.settle()
    assert talk.connection._out == OK
    assert talk.connection.deadline == NOW + WRITE


def test_who_reads_slowly_stays(house: House) -> None:
    talk = slow(house)
    talk.client.send(CAPA * 80)
    talk.settle()
    while talk.connection._out:
        talk.let_pass(WRITE - 1)
        received(talk.client)
        talk.settle()
    assert talk.end is None
    assert talk.connection.deadline == talk.house.now + IDLE, "all is read: he may idle"


# Hang-ups ---------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"NOOP\r\n", b"USER jo", b"AUTH PLAIN\r\n"])
def test_a_client_that_closes_ends(talk: Talk, before: bytes) -> None:
    talk.client.send(before)
    talk.client.close()
    talk.settle()
    assert talk.end == (111, "eof")


def test_a_client_that_closes_its_side_gets_his_answers(talk: Talk) -> None:
    talk.client.send(b"NOOP\r\nQUIT\r\n")
    talk.client.shutdown(socket.SHUT_WR)
    talk.settle()
    assert received(talk.client) == OK + OK
    assert talk.end == (0, "quit")


def test_a_client_that_closes_its_side_in_a_pause_gets_his_answer(talk: Talk) -> None:
    refused(talk)
    talk.client.shutdown(socket.SHUT_WR)
    talk.settle()
    assert talk.state == PAUSE
    assert talk.let_pass(1)
    assert received(talk.client) == REFUSED
    talk.settle()
    assert talk.end == (111, "eof")


def test_a_client_that_goes_in_a_pause_ends_at_once(talk: Talk) -> None:
    refused(talk)
    talk.client.close()
    talk.settle()
    assert talk.end == (111, "eof")
    assert not talk.let_pass(10)


def test_a_client_that_goes_with_answers_unread_ends(house: House) -> None:
    for behind in (b"", LOGIN):
        talk = slow(house)
        talk.client.send(CAPA * 80 + behind)
        talk.settle()
        assert talk.connection._out
        talk.client.close()
        talk.settle()
        assert talk.end == (111, "eof")
        assert house.asked == []


def test_who_goes_while_a_verifier_works_is_the_session_s_to_find_out(
    talk: Talk,
) -> None:
    talk.say(LOGIN)
    talk.client.close()
    talk.settle()
    assert (talk.state, talk.end) == (ASK, None)
    talk.connection.answered(1, NOW)
    assert talk.state == PAUSE
    talk.settle()
    assert talk.end == (111, "eof")


def test_who_hangs_up_with_a_full_socket_does_not_make_the_loop_spin(
    house: House,
) -> None:
    """Nothing is sent any more: the kernel would tell of the hang-up for ever."""
    talk = slow(house)
    talk.client.send(CAPA * 80)
    talk.settle()
    assert talk.connection._out
    talk.connection.hung_up(NOW)
    assert talk.end == (111, "eof")


@pytest.fixture
def tcp(house: House) -> Talk:
    """Give a connection over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = house.keep(socket.create_connection(listener.getsockname()))
        held, _ = listener.accept()
    talk = Talk(house)
    talk.connection, unused = house.connection()
    unused.close()
    talk.connection.socket.close()
    talk.connection.socket = house.keep(adopted(held))
    talk.client = client
    policy = Policy(delay_seconds=1.0, has_stls=True)
    talk.login = Login(STAMP, policy)
    talk.connection.begin(talk.login, NOW)
    assert client.recv(100) == GREETING
    return talk


def reset(talk: Talk) -> None:
    """Hang up as a client does that has crashed, or wants no more."""
    talk.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    talk.client.close()


@pytest.mark.parametrize("before", [b"", b"NOOP\r\n", b"USER jo", b"NOOP\r\nUSER"])
def test_a_reset_ends_it(tcp: Talk, before: bytes) -> None:
    tcp.client.sendall(before)
    reset(tcp)
    wait_for(lambda: tcp.house.turn(tcp.connection) and tcp.end)
    assert tcp.end == (111, "eof")


def test_a_reset_in_a_pause_ends_it(tcp: Talk) -> None:
    tcp.client.sendall(LOGIN)
    wait_for(lambda: tcp.house.turn(tcp.connection) and tcp.state == ASK)
    tcp.connection.answered(1, NOW)
    reset(tcp)
    wait_for(lambda: tcp.house.turn(tcp.connection))
    assert tcp.end == (111, "eof")


@pytest.mark.parametrize("code", [0, 1])
def test_a_reset_while_a_verifier_works_is_found_out_later(
    tcp: Talk, code: int
) -> None:
    tcp.client.sendall(LOGIN)
    wait_for(lambda: tcp.house.turn(tcp.connection) and tcp.state == ASK)
    reset(tcp)
    assert not tcp.house.turn(tcp.connection)
    if code:
        tcp.connection.answered(code, NOW)
        wait_for(lambda: tcp.house.turn(tcp.connection))
        assert tcp.end == (111, "eof")
    else:
        tcp.connection.accepted(NOW)
        assert (tcp.state, tcp.end) == (ENDED, None)


def test_what_comes_for_one_that_has_ended_is_for_nobody(talk: Talk) -> None:
    connection = talk.connection
    talk.say(b"QUIT\r\n")
    assert talk.end == (0, "quit")
    connection.readable(NOW)
    connection.writable(NOW)
    connection.hung_up(NOW)
    connection.end(111, "again")
    assert talk.end == (0, "quit")


def test_before_a_greeting_there_is_nothing_to_hear(house: House) -> None:
    connection, client = house.connection()
    client.send(LOGIN)
    connection.readable(NOW)
    connection.hung_up(NOW)
    assert left_in(connection.socket) == LOGIN
    assert house.ended == []


# Dialogues with a verifier ----------------------------------------------------

FIRST = b"n,,n=joe,r=abc"
AUTH = b"AUTH SCRAM-SHA-256 " + b2a_base64(FIRST, newline=False) + b"\r\n"


@pytest.fixture
def proving(house: House) -> Talk:
    """Give a connection whose verifier has been asked, and has not spoken."""
    made = Talk(house)
    made.login.policy.mechanisms = (b"SCRAM-SHA-256",)
    assert received(made.client) == GREETING
    assert made.say(AUTH + b"Yz1i\r\n*\r\nNOOP\r\n") == b""
    ((_, asked),) = house.asked
    assert asked.mechanism == "Scram-Sha-256"
    assert (made.state, made.mask) == (ASK, -1)
    return made


def challenge(talk: Talk) -> bytes:
    """Have the verifier say "r=1"; give what the client hears."""
    talk.connection.challenged(b"r=1", talk.house.now)
    talk.settle()
    return received(talk.client)


def test_a_challenge_is_answered_to_the_verifier(proving: Talk) -> None:
    assert challenge(proving) == b"+ cj0x\r\n"
    assert proving.house.responses == [(proving.connection, b"c=b")]
    assert (proving.state, proving.mask) == (ASK, -1)
    assert proving.left == b"*\r\nNOOP\r\n", "it is the session's, or for later"
    proving.connection.accepted(proving.house.now)
    assert proving.state == ENDED
    assert proving.house.withdrawn == []


def test_who_wants_no_more_of_it_withdraws(proving: Talk) -> None:
    challenge(proving)
    assert challenge(proving) == b"+ cj0x\r\n"
    assert proving.house.withdrawn == [proving.connection]
    assert proving.let_pass(1.0), "it counts as a wrong password"
    proving.settle()
    said = received(proving.client)
    assert said == b"-ERR authentication cancelled\r\n" + OK


def test_a_refusal_ends_a_dialogue(proving: Talk) -> None:
    challenge(proving)
    proving.connection.answered(1, proving.house.now)
    assert proving.let_pass(1.0)
    proving.settle()
    assert received(proving.client).startswith(REFUSED)
    assert proving.house.withdrawn == []


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_who_goes_in_the_middle_of_it_withdraws(house: House, how: str) -> None:
    talk = Talk(house)
    talk.login.policy.mechanisms = (b"SCRAM-SHA-256",)
    talk.say(AUTH)
    assert challenge(talk).endswith(b"+ cj0x\r\n")
    if how == "gone":
        talk.client.close()
        talk.settle()
    else:
        assert not talk.let_pass(ANSWER_SECONDS - 1)
        assert talk.let_pass(1.0)
    assert talk.end is not None
    assert house.withdrawn == [talk.connection]


def test_a_challenge_that_comes_too_late_is_not_heard(talk: Talk) -> None:
    assert challenge(talk) == b""
    assert talk.state == TALK
