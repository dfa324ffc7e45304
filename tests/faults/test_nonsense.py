# SPDX-License-Identifier: ISC
"""Any octets at all on a channel: nobody who reads them meets anything but its end."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qtools.accounts import answer
from qtools.chain.request import MECHANISMS
from qtools.protocol.record import unpack
from qtools.server.warm import crew as crews
from qtools.server.warm import packets
from qtools.server.warm.accounting import Accounting
from qtools.server.warm.bulletin import Bulletin
from qtools.server.warm.crew import Crew, Member
from qtools.server.warm.guest import Guest
from qtools.server.warm.journal import Journal
from qtools.server.warm.master import Master
from qtools.server.warm.sessions import Limits, Order, Process, Sessions
from qtools.server.warm.verifier import Verifier
from qtools.system.notify import Notifier
from tests.faults.harness import SECRET, Village
from tests.faults.impostor import ENVIRONMENT, TAG, ask_for, chain_of

KINDS = range(packets.ASK, packets.ROOM + 1)
SENTENCES = [
    ask_for(b"joe", SECRET),
    ask_for(b"joe", b"0" * 32, b"<1.2@x>", "Apop"),
    ask_for(b"joe", b"n,,n=joe,r=0", mechanism="Scram-Sha-256"),
    packets.head(packets.RESPOND, 7) + packets.fields(b"c=biws,r=0,p=MA=="),
    packets.head(packets.WITHDRAW, 7),
    packets.head(packets.WANT, 0, 3),
    packets.head(packets.LAUNCH, 7) + packets.fields(b"", ENVIRONMENT, TAG),
    packets.head(packets.TIRED),
    packets.pack_tally(packets.NOTHING),
    packets.pack_ended(7, packets.NOTHING, TAG),
    packets.head(packets.COUNTERS) + packets.fields(b"x"),
]


@st.composite
def twisted(draw: st.DrawFn) -> bytes:
    """Give a sentence in which some octets are others, more or fewer."""
    packet = bytearray(draw(st.sampled_from(SENTENCES)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(packet)))
        packet[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(packet)


@st.composite
def composed(draw: st.DrawFn) -> bytes:
    """Give a head and some fields."""
    head = packets.head(
        draw(st.sampled_from(KINDS) | st.integers(0, 255)),
        draw(st.integers(0, 2**64 - 1)),
        draw(st.integers(0, 255)),
    )
    values = draw(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
    return head + packets.fields(*values) + draw(st.binary(max_size=2))


PACKETS = st.binary(max_size=200) | twisted() | composed()


class Listener:
    """The other end of a channel, which keeps what it is sent."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def send(
        self, packet: bytes, descriptors: object = (), *, waits: bool = False
    ) -> bool:
        del descriptors, waits
        self.heard.append(packet)
        return True


@pytest.fixture(scope="module")
def village() -> Iterator[Village]:
    with TemporaryDirectory() as room:
        made = Village(Path(room))
        made.settle("joe", ids=(os.getuid() or 1, os.getgid() or 1))
        yield made


@pytest.mark.slow
@given(packet=PACKETS, count=st.integers(0, 3))
@example(packet=SENTENCES[0], count=1)
def test_a_verifier_lets_in_who_shows_that_he_may_and_else_ends(
    village: Village, packet: bytes, count: int
) -> None:
    verifier = Verifier(chain_of(village), ["popserver"], 30)
    worker, nursery = Listener(), Listener()
    verifier.attach(cast("Any", worker), cast("Any", nursery), cast("Any", Listener()))
    with suppress(ValueError):
        verifier._serve(packet, [0] * count)
    for order in nursery.heard:
        _, identifier, detail = packets.read_head(packet)
        record, environment, tag = packets.read_fields(packet, 3)
        user, secret, _ = unpack(record)
        assert (user.lower(), secret, count) == (b"joe", SECRET, 1)
        assert MECHANISMS[detail] in ("User", "Plain", "Login")
        identity, *rest = packets.read_fields(order, 3)
        _, who = answer.unpack(identity)
        assert who is not None
        assert who.name == b"joe"
        assert rest == [environment, tag]
        assert packets.read_head(order)[:2] == (packets.LAUNCH, identifier)
    for told in worker.heard:
        kind, identifier, code = packets.read_head(told)
        if kind == packets.ANSWER:
            assert (code == 0) == bool(nursery.heard)
            assert identifier == packets.read_head(packet)[1]
        else:
            assert kind == packets.STAMPS
            assert not nursery.heard


class StillMaster(Master):
    """A master that forks nobody; respawns: how often he would have."""

    respawns = 0

    def _respawn_soon(self) -> None:
        self.respawns += 1


class OnlyBulletin:
    """All of the premises that is needed to hear a crew."""

    def __init__(self) -> None:
        self.bulletin = Bulletin(Notifier({}))


@pytest.mark.slow
@given(packet=PACKETS, kind=st.sampled_from([crews.WORKER, crews.VERIFIER, crews.TLS]))
@example(packet=packets.head(packets.TIRED), kind=crews.VERIFIER)
@example(packet=packets.head(packets.TIRED), kind=crews.WORKER)
def test_the_master_obeys_few_words(packet: bytes, kind: str) -> None:
    premises = cast("Any", OnlyBulletin())
    master = StillMaster(premises, lambda: premises, ["popserver"])
    member = Member(kind, 0, cast("Any", None))
    try:
        with suppress(ValueError):
            master._obey(Crew(1, 30), member, packet)
    finally:
        master._loop.close()
        master._vigil.close()
        for descriptor in (master._wakeup, master._waker):
            os.close(descriptor)
    is_whole = len(packet) >= len(packets.head(packets.TIRED))
    says_so = is_whole and packets.read_head(packet)[0] == packets.TIRED
    is_tired = says_so and kind == crews.VERIFIER
    assert member.is_tired == is_tired
    assert master.respawns == is_tired


def begin(way: int, client: int, order: Order) -> None:
    del way, client, order
    raise AssertionError("nobody is to be served")


@given(packet=PACKETS)
def test_a_nursery_begins_no_session_for_nobody(packet: bytes) -> None:
    told: list[bytes] = []
    sessions = Sessions(begin, lambda *_: None, told.append, Limits(9, 0, 0))
    with suppress(ValueError):
        sessions.launch(packet, [])
    assert not sessions.busy
    for each in told:  # with an identity that is one, but without a descriptor
        assert packets.unpack_ended(each)[0] == packets.read_head(packet)[1]


class Way(Listener):
    """A session's way to the nursery, with a packet on it."""

    descriptor = 99

    def __init__(self, packet: bytes) -> None:
        super().__init__()
        self._packet = packet

    def receive(self) -> tuple[bytes, list[int]]:
        return self._packet, []

    def close(self) -> None:
        pass


@given(packet=PACKETS | st.binary(min_size=51, max_size=51))
@example(packet=packets.pack_tally(packets.NOTHING))
def test_a_session_is_ended_by_whatever_it_says(packet: bytes) -> None:
    told: list[bytes] = []
    sessions = Sessions(begin, lambda *_: None, told.append, Limits(9, 9, 9))
    sessions._bury_leaving = lambda: None  # type: ignore[method-assign]
    process = Process(0, cast("Any", Way(packet)), (1, 1))
    process.identifier, process.tag = 7, TAG
    sessions.busy[Way.descriptor] = process
    sessions.hear(Way.descriptor)
    assert not sessions.busy
    assert (Way.descriptor in sessions._idle) == bool(told)
    for each in told:
        identifier, _, tag = packets.unpack_ended(each)
        assert (identifier, tag) == (7, TAG)
    assert bool(told) != bool(sessions._leaving)


@st.composite
def tags(draw: st.DrawFn) -> bytes:
    """Give a tag, or what a login worker that was taken over left in its place."""
    guest = Guest((b"127.0.0.1", 110), (b"192.0.2.1", 4711), draw(st.floats()))
    guest.tls = {b"SSL_PROTOCOL": draw(st.binary(max_size=9))}
    tag = bytearray(guest.tag(draw(st.text(max_size=9)), draw(st.binary(max_size=9))))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(tag)))
        tag[place : place + 1] = draw(st.binary(max_size=2))
    return bytes(tag)


COUNTS = st.lists(
    st.none() | st.integers(0, packets.MOST_COUNT), min_size=6, max_size=6
)


@pytest.mark.slow
@given(tag=st.binary(max_size=99) | tags(), counts=COUNTS, code=st.integers(-64, 255))
def test_whatever_a_tag_holds_makes_one_line_at_most(
    tag: bytes, counts: list[int | None], code: int
) -> None:
    lines: list[bytes] = []

    def write(_level: int, line: bytes) -> bool:
        lines.append(line)
        return True

    accounting = Accounting("popup", Journal(write), print, is_verbose=False)
    tally = packets.Tally(code, 0, tuple(counts))
    with suppress(ValueError):
        accounting.resumed(packets.head(packets.LIVE) + packets.fields(tag))
    accounting.ended(tally, tag)
    assert len(lines) <= 1
    for line in lines:
        assert line.endswith(b"\n")
        assert line[:-1].decode("ascii").isprintable()
        assert b" Info::END::" in line
    bulletin = Bulletin(Notifier({}))
    bulletin.count(1, accounting.packed({}))
