# SPDX-License-Identifier: ISC
"""Desks of verifiers: who gets a record, who waits, and what a lost verifier leaves.

The verifiers are the other ends of real channels, spoken for by the tests.
"""

import select
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from qtools.errors import EXIT_TEMPORARY
from qtools.server import channel
from qtools.server.channel import Channel, close_all
from qtools.server.warm import desks as module
from qtools.server.warm import packets
from qtools.server.warm.connection import Connection
from qtools.server.warm.desks import DEPTH, FEW_STAMPS, STAMPS_WANTED, Desk, Desks
from tests.unit.house import House


class Verifier:
    """The other end of a desk."""

    def __init__(self) -> None:
        here, self.channel = channel.pair()
        self.near: Channel = here
        self.number = here.descriptor
        self.wanted = 0
        self.withdrawn: list[int] = []

    def requests(self, most: int = 1000) -> list[int]:
        """Give ids of records that came, and see what stamps are wanted."""
        found: list[int] = []
        while len(found) < most and (received := self.channel.receive()):
            packet, descriptors = received
            if not packet:
                break
            kind, identifier, detail = packets.read_head(packet)
            if kind == packets.WANT:
                self.wanted += detail
            elif kind == packets.WITHDRAW:
                assert not descriptors
                self.withdrawn.append(identifier)
            else:
                assert kind in (packets.ASK, packets.RESPOND)
                assert len(descriptors) == 1
                found.append(identifier)
            close_all(descriptors)
        return found

    def say(self, kind: int, identifier: int = 0, detail: int = 0) -> None:
        assert self.channel.send(packets.head(kind, identifier, detail))

    def challenge(self, identifier: int, data: bytes = b"r=1") -> None:
        head = packets.head(packets.CHALLENGE, identifier)
        assert self.channel.send(head + packets.fields(data))

    def give_stamps(self, *stamps: bytes) -> None:
        fields = packets.fields(b" ".join(stamps))
        assert self.channel.send(packets.head(packets.STAMPS) + fields)

    @property
    def is_let_go(self) -> bool:
        """Tell whether nobody is at the desk any more."""
        while (received := self.channel.receive()) and received[0]:
            close_all(received[1])
        return received is not None


class Office:
    """Desks, and what they told."""

    def __init__(self, *, needs_stamps: bool = False) -> None:
        self.house = House()
        self.desks = Desks(self.watch, self, needs_stamps=needs_stamps)
        self.watched: set[int] = set()
        self.answers: list[tuple[int, int | None]] = []
        self.challenges: list[tuple[int, bytes]] = []

    def watch(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on or off
        assert (descriptor in self.watched) is not on
        (self.watched.add if on else self.watched.remove)(descriptor)

    def answer(self, connection: Connection, code: int | None) -> None:
        self.answers.append((connection.identifier, code))

    def challenge(self, connection: Connection, data: bytes) -> None:
        self.challenges.append((connection.identifier, data))

    def open(self) -> Verifier:
        verifier = Verifier()
        self.house.keep(verifier.channel)
        self.house.keep(verifier.near)
        self.desks.add(verifier.near)
        return verifier

    def connection(self) -> Connection:
        return self.house.connection()[0]

    def ask(self, connection: Connection | None = None, *, bound: bool = False) -> int:
        """Ask, and give the id."""
        asking = connection or self.connection()
        packet = packets.head(packets.ASK, asking.identifier)
        self.desks.ask(asking, packet, asking.desk if bound else None)
        return asking.identifier

    def greeted(self) -> Connection:
        """Give a connection that got a stamp."""
        made = self.connection()
        found = self.desks.stamp()
        assert found is not None
        _, made.desk = found
        return made

    def hear(self, verifier: Verifier) -> None:
        self.desks.hear(verifier.number)

    def holders(self) -> list[int]:
        return [desk.holders for desk in self.desks._desks.values()]


@pytest.fixture
def office() -> Iterator[Office]:
    """Give an office where nobody gets a challenge."""
    made = Office()
    with made.house:
        yield made


@pytest.fixture
def stamping() -> Iterator[Office]:
    """Give an office where everybody gets one."""
    made = Office(needs_stamps=True)
    with made.house:
        yield made


@pytest.fixture
def challenging(stamping: Office) -> tuple[Office, Verifier]:
    """Give an office with one verifier that has given out some stamps."""
    office = stamping
    verifier = office.open()
    assert verifier.requests() == []
    verifier.give_stamps(*(b"<%d@mx>" % number for number in range(DEPTH + 2)))
    office.hear(verifier)
    return office, verifier


def test_a_record_goes_to_the_desk_with_the_fewest_waiting(office: Office) -> None:
    one, two = office.open(), office.open()
    first = office.ask()
    second = office.ask()
    assert (one.requests(), two.requests()) == ([first], [second])
    two.say(packets.ANSWER, second, 1)
    office.hear(two)
    third = office.ask()
    assert (one.requests(), two.requests()) == ([], [third])
    assert office.answers == [(second, 1)]


def test_a_desk_gets_no_more_than_its_depth(office: Office) -> None:
    verifier = office.open()
    asked = [office.ask() for _ in range(DEPTH + 3)]
    assert verifier.requests() == asked[:DEPTH]
    assert office.desks.waiting == 3
    verifier.say(packets.ANSWER, asked[2], 111)
    office.hear(verifier)
    assert verifier.requests() == asked[DEPTH : DEPTH + 1]
    assert office.desks.waiting == 2


def test_the_connection_goes_along(office: Office) -> None:
    verifier = office.open()
    connection, client = office.house.connection()
    office.ask(connection)
    _, (descriptor,) = verifier.channel.receive() or (b"", [])
    passed = socket.socket(fileno=descriptor)
    passed.send(b"+OK")
    assert client.recv(10) == b"+OK"
    passed.close()


def test_who_would_wait_too_long_is_told_at_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_QUEUED", 5)
    asked = [office.ask() for _ in range(7)]
    assert office.answers == [(asked[5], EXIT_TEMPORARY), (asked[6], EXIT_TEMPORARY)]
    verifier = office.open()
    assert verifier.requests() == asked[:DEPTH]


def test_who_has_been_sent_is_asked_until_the_answer(office: Office) -> None:
    verifier = office.open()
    asked = [office.ask() for _ in range(DEPTH + 1)]
    assert [office.desks.is_asked(each) for each in asked] == [True] * DEPTH + [False]
    verifier.say(packets.ANSWER, asked[0], 1)
    office.hear(verifier)
    assert not office.desks.is_asked(asked[0])
    assert office.desks.is_asked(asked[DEPTH])


def test_a_desk_that_is_added_later_serves_the_queue(office: Office) -> None:
    asked = [office.ask() for _ in range(2 * DEPTH + 1)]
    first, second = office.open(), office.open()
    assert first.requests() == asked[:DEPTH]
    assert second.requests() == asked[DEPTH : 2 * DEPTH]
    assert office.desks.waiting == 1


def test_who_has_ended_while_he_waited_is_left_out(office: Office) -> None:
    first, second = office.connection(), office.connection()
    office.ask(first)
    office.ask(second)
    first.socket.close()
    assert office.open().requests() == [second.identifier]
    assert office.answers == []


def test_a_lost_desk_leaves_nobody_knows(office: Office) -> None:
    verifier = office.open()
    asked = [office.ask() for _ in range(DEPTH + 1)]
    verifier.say(packets.ANSWER, asked[0], 1)
    verifier.channel.close()
    office.hear(verifier)
    office.hear(verifier)
    assert office.answers[0] == (asked[0], 1), "his last word counts"
    assert sorted(office.answers[1:]) == [(each, None) for each in asked[1:DEPTH]]
    assert office.watched == set()
    assert office.open().requests() == asked[DEPTH:], "who waited goes to another"


def test_who_waited_for_a_lost_desk_hears_to_try_again(
    challenging: tuple[Office, Verifier],
) -> None:
    office, verifier = challenging
    other = office.open()
    asked = [office.ask(office.greeted(), bound=True) for _ in range(DEPTH)]
    waiting = office.greeted()
    office.ask(waiting, bound=True)
    assert office.desks.waiting == 1
    verifier.channel.close()
    office.hear(verifier)
    assert office.answers[-1] == (waiting.identifier, EXIT_TEMPORARY)
    assert (asked[0], None) in office.answers
    assert other.requests() == []
    late = office.ask(waiting, bound=True)
    assert office.answers[-1] == (late, EXIT_TEMPORARY)


def test_another_with_the_same_descriptor_is_another_desk(
    challenging: tuple[Office, Verifier],
) -> None:
    """The kernel gives the lowest number that is free."""
    office, verifier = challenging
    greeted = office.greeted()
    verifier.channel.close()
    office.hear(verifier)
    verifier.near.close()
    fresh = office.open()
    assert fresh.number == verifier.number
    late = office.ask(greeted, bound=True)
    assert office.answers == [(late, EXIT_TEMPORARY)]
    assert office.desks.waiting == 0
    assert greeted.desk is not None
    greeted.desk.is_tired = True
    office.desks.let_go(greeted.desk)
    assert office.watched == {fresh.number}
    assert not fresh.is_let_go


def test_a_bound_record_does_not_hold_up_others(
    challenging: tuple[Office, Verifier],
) -> None:
    office, verifier = challenging
    for _ in range(DEPTH + 1):
        office.ask(office.greeted(), bound=True)
    free = office.open()
    other = office.ask()
    assert free.requests() == [other]
    assert office.desks.waiting == 1
    assert len(verifier.requests()) == DEPTH


def test_of_bound_and_others_the_older_has_its_turn(
    challenging: tuple[Office, Verifier],
) -> None:
    office, verifier = challenging
    greeted = office.greeted()
    asked = [office.ask() for _ in range(DEPTH)]
    expected = [office.ask(), office.ask(greeted, bound=True), office.ask()]
    assert verifier.requests() == asked
    for identifier in asked[:3]:
        verifier.say(packets.ANSWER, identifier, 1)
        office.hear(verifier)
    assert verifier.requests() == expected


def test_stamps_are_asked_for_when_there_are_few(stamping: Office) -> None:
    office = stamping
    assert office.desks.stamp() is None
    verifier = office.open()
    assert verifier.requests() == []
    assert verifier.wanted == STAMPS_WANTED
    assert not office.desks.has_stamps()
    verifier.give_stamps(*(b"<%d@mx>" % number for number in range(STAMPS_WANTED)))
    office.hear(verifier)
    taken = [office.desks.stamp() for _ in range(STAMPS_WANTED)]
    assert {found[0] for found in taken if found} == {
        b"<%d@mx>" % number for number in range(STAMPS_WANTED)
    }
    assert office.holders() == [STAMPS_WANTED]
    verifier.requests()
    assert verifier.wanted == 2 * STAMPS_WANTED, (
        "once for the lack of them, not oftener"
    )
    assert not office.desks.has_stamps()


def test_stamps_come_from_the_desk_that_has_most(stamping: Office) -> None:
    office = stamping
    one, two = office.open(), office.open()
    one.give_stamps(b"<1@mx>", b"<2@mx>")
    two.give_stamps(b"<3@mx>")
    office.hear(one)
    office.hear(two)
    found = [office.desks.stamp() for _ in range(4)]
    assert [each and each[0] for each in found] == [
        b"<1@mx>",
        b"<2@mx>",
        b"<3@mx>",
        None,
    ]


def test_without_challenges_no_stamp_is_asked_for(office: Office) -> None:
    verifier = office.open()
    verifier.requests()
    assert verifier.wanted == 0


def test_a_few_stamps_are_followed_by_more(
    challenging: tuple[Office, Verifier],
) -> None:
    office, verifier = challenging
    verifier.requests()
    assert verifier.wanted == 2 * STAMPS_WANTED
    assert FEW_STAMPS < STAMPS_WANTED
    assert office.desks.has_stamps()


def test_a_tired_desk_closes_when_nobody_holds_a_stamp(
    challenging: tuple[Office, Verifier],
) -> None:
    office, verifier = challenging
    first, second = office.greeted(), office.greeted()
    verifier.say(packets.TIRED)
    office.hear(verifier)
    assert not office.desks.has_stamps()
    plain = office.ask()
    assert verifier.requests() == []
    bound = office.ask(first, bound=True)
    assert verifier.requests() == [bound]
    assert isinstance(second.desk, Desk)
    office.desks.let_go(second.desk)
    assert isinstance(first.desk, Desk)
    office.desks.let_go(first.desk)
    assert office.watched == {verifier.number}, "an answer is due"
    verifier.say(packets.ANSWER, bound, 1)
    office.hear(verifier)
    assert office.answers == [(bound, 1)]
    assert office.watched == set()
    assert verifier.is_let_go
    assert office.open().requests() == [plain]


def test_a_tired_desk_without_stamps_closes_after_its_last_answer(
    office: Office,
) -> None:
    verifier = office.open()
    asked = [office.ask() for _ in range(DEPTH)]
    verifier.say(packets.TIRED)
    office.hear(verifier)
    for identifier in asked:
        assert office.watched == {verifier.number}
        verifier.say(packets.ANSWER, identifier, 1)
        office.hear(verifier)
    assert verifier.is_let_go
    assert office.watched == set()


def test_a_tired_desk_without_work_closes_at_once(office: Office) -> None:
    verifier = office.open()
    verifier.say(packets.TIRED)
    office.hear(verifier)
    assert office.watched == set()


def test_stamps_that_come_behind_a_farewell_are_not_given_out(
    challenging: tuple[Office, Verifier],
) -> None:
    office, verifier = challenging
    office.greeted()
    verifier.say(packets.TIRED)
    verifier.give_stamps(b"<3@mx>")
    office.hear(verifier)
    office.hear(verifier)
    assert not office.desks.has_stamps()
    assert office.watched == {verifier.number}


def test_what_could_not_be_sent_is_tried_again(
    stamping: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = stamping
    with monkeypatch.context() as patch:
        patch.setattr(Channel, "send", lambda *_: False)  # out of memory
        verifier = office.open()
        asked = [office.ask() for _ in range(DEPTH + 1)]
        office.desks.retry()
        assert not office.desks.is_asked(asked[0])
    assert (verifier.requests(), verifier.wanted) == ([], 0)
    office.desks.retry()
    assert verifier.requests() == asked[:DEPTH]
    assert verifier.wanted == STAMPS_WANTED
    office.desks.retry()
    assert (verifier.requests(), verifier.wanted) == ([], STAMPS_WANTED)


def test_when_no_desk_will_come_nobody_waits_for_one(office: Office) -> None:
    verifier = office.open()
    asked = [office.ask() for _ in range(DEPTH + 2)]
    office.desks.retire()
    assert office.answers == [], "there is one"
    verifier.channel.close()
    office.hear(verifier)
    lost = [(each, None) for each in asked[:DEPTH]]
    waited = [(each, EXIT_TEMPORARY) for each in asked[DEPTH:]]
    assert office.answers == lost + waited
    late = office.ask()
    assert office.answers[-1] == (late, EXIT_TEMPORARY)
    assert office.desks.waiting == 0


# Dialogues.


def in_dialogue(office: Office, verifier: Verifier) -> Connection:
    """Give a connection that this verifier has challenged."""
    made = office.connection()
    office.ask(made)
    assert verifier.requests()[-1:] == [made.identifier]
    verifier.challenge(made.identifier)
    office.hear(verifier)
    return made


def respond(office: Office, connection: Connection) -> int:
    """Have a client's answer sent to its partner."""
    packet = packets.head(packets.RESPOND, connection.identifier)
    office.desks.ask(connection, packet, connection.partner)
    return connection.identifier


def test_a_dialogue_is_with_one_desk(office: Office) -> None:
    one = office.open()
    talking = in_dialogue(office, one)
    two = office.open()
    assert office.challenges == [(talking.identifier, b"r=1")]
    assert not office.desks.is_asked(talking.identifier)
    others = [office.ask() for _ in range(2)]
    assert one.requests() + two.requests() == others
    assert one.requests() == []
    respond(office, talking)
    assert one.requests() == [talking.identifier]
    assert office.desks.is_asked(talking.identifier)
    one.challenge(talking.identifier, b"v=1")
    office.hear(one)
    respond(office, talking)
    assert (one.requests(), two.requests()) == ([talking.identifier], [])
    one.say(packets.ANSWER, talking.identifier, 0)
    office.hear(one)
    assert office.challenges[1:] == [(talking.identifier, b"v=1")]
    assert office.answers == [(talking.identifier, 0)]
    assert talking.partner is None


def test_a_dialogue_ends_with_its_desk(office: Office) -> None:
    one = office.open()
    talking = in_dialogue(office, one)
    one.channel.close()
    office.hear(one)
    assert office.answers == [], "it has not been asked"
    two = office.open()
    respond(office, talking)
    assert office.answers == [(talking.identifier, EXIT_TEMPORARY)]
    assert two.requests() == []
    office.desks.withdraw(talking)
    assert two.requests() == []


def test_who_withdraws_is_forgotten_at_the_desk(office: Office) -> None:
    verifier = office.open()
    talking, other = in_dialogue(office, verifier), office.connection()
    office.desks.withdraw(other)
    office.desks.withdraw(talking)
    office.desks.withdraw(talking)
    verifier.requests()
    assert verifier.withdrawn == [talking.identifier]


def test_a_dialogue_ends_where_there_is_no_room_for_an_answer(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its desk would be kept for it when it is tired, for ever."""
    one = office.open()
    talking = in_dialogue(office, one)
    monkeypatch.setattr(module, "MOST_QUEUED", 0)
    respond(office, talking)
    assert office.answers == [(talking.identifier, EXIT_TEMPORARY)]
    assert talking.partner is None
    one.requests()
    assert one.withdrawn == [talking.identifier]
    one.say(packets.TIRED)
    office.hear(one)
    assert one.is_let_go
    assert office.watched == set()


@pytest.mark.parametrize("ends", ["answer", "withdrawal"])
def test_a_tired_desk_stays_for_its_dialogues(office: Office, ends: str) -> None:
    verifier = office.open()
    talking = in_dialogue(office, verifier)
    verifier.say(packets.TIRED)
    office.hear(verifier)
    assert office.watched == {verifier.number}
    respond(office, talking)
    assert verifier.requests() == [talking.identifier]
    if ends == "answer":
        verifier.say(packets.ANSWER, talking.identifier, 1)
    else:
        verifier.challenge(talking.identifier)
    office.hear(verifier)
    office.desks.withdraw(talking)
    assert office.watched == set()
    assert verifier.is_let_go


def test_a_desk_with_more_room_gets_more(office: Office) -> None:
    verifier = office.open()
    asked = [office.ask() for _ in range(40)]
    verifier.say(packets.ROOM, 0, 32)
    office.hear(verifier)
    assert verifier.requests() == asked[:32]
    verifier.say(packets.ROOM, 0, 0)
    verifier.say(packets.ANSWER, asked[0], 1)
    office.hear(verifier)
    office.hear(verifier)
    assert verifier.requests() == [], "there are more than the one it has room for"


GARBAGE = [
    packets.head(packets.CHALLENGE, 1),
    packets.head(packets.CHALLENGE, 999) + packets.fields(b"r=1"),
    packets.head(packets.ROOM) + packets.fields(b"x"),
    b"x",
    packets.head(packets.ANSWER, 999),
    packets.head(packets.ANSWER, 1, 1) + b"x",
    packets.head(packets.LAUNCH, 1),
    packets.head(packets.STAMPS),
    packets.head(packets.STAMPS) + packets.fields(b"a", b"b"),
    packets.head(packets.TIRED) + packets.fields(b"x"),
    bytes(10),
]


@pytest.mark.parametrize("packet", GARBAGE)
def test_a_verifier_that_talks_nonsense_is_a_lost_one(
    office: Office, packet: bytes
) -> None:
    verifier = office.open()
    asked = office.ask()
    assert verifier.channel.send(packet, [0])
    office.hear(verifier)
    assert office.answers == [(asked, None)]
    assert office.watched == set()
    assert verifier.is_let_go


def test_nothing_to_hear_is_no_end(office: Office) -> None:
    verifier = office.open()
    office.hear(verifier)
    assert office.watched == {verifier.number}


def test_a_dead_verifier_that_was_not_heard_of_yet_loses_nobody(
    office: Office,
) -> None:
    verifier = office.open()
    verifier.channel.close()
    asked = office.ask()
    assert office.answers == []
    office.hear(verifier)
    assert office.answers == []
    assert office.open().requests() == [asked]


def test_a_fault_behind_an_answer_is_not_the_verifier_s(office: Office) -> None:
    class Faulty(Office):
        def answer(self, connection: Connection, code: int | None) -> None:
            del connection, code
            raise KeyError("a bug")

    office.desks = Desks(office.watch, Faulty(), needs_stamps=False)
    verifier = office.open()
    asked = office.ask()
    verifier.say(packets.ANSWER, asked, 1)
    with pytest.raises(KeyError, match="a bug"):
        office.hear(verifier)
    assert office.watched == {verifier.number}


class Machine(RuleBasedStateMachine):
    """Clients come, ask and go; verifiers answer, tire, die and are replaced."""

    clients: Bundle[Connection] = Bundle("clients")
    verifiers: Bundle[Verifier] = Bundle("verifiers")

    def __init__(self) -> None:
        super().__init__()
        self.office = Office(needs_stamps=True)
        self.alive: dict[int, Verifier] = {}
        self.with_stamp: list[Connection] = []
        self.due: dict[int, Connection] = {}
        self.gone: set[int] = set()  # while they were asked about
        self.stamps = 0
        self.is_retiring = False

    def teardown(self) -> None:
        self.office.house.__exit__()

    def settle(self) -> None:
        """Hear everything there is to hear, and check what was answered."""
        for number, verifier in list(self.alive.items()):
            while number in self.office.watched and _has_news(verifier):
                self.office.hear(verifier)
        answers, self.office.answers = self.office.answers, []
        for identifier, code in answers:
            connection = self.due.pop(identifier, None)
            assert connection or identifier in self.gone
            if connection is not None and code != 1:
                self._end(connection)
        for number in set(self.alive) - self.office.watched:
            del self.alive[number]
        if answers:
            self.settle()

    @rule(target=verifiers)
    def open(self) -> Verifier:
        return self._open()

    def _open(self) -> Verifier:
        verifier = self.office.open()
        self.alive[verifier.number] = verifier
        return verifier

    @rule(verifier=verifiers, count=st.integers(1, 5))
    def give_stamps(self, verifier: Verifier, count: int) -> None:
        if self._is_at_a_desk(verifier):
            self.stamps += count
            first = self.stamps
            verifier.give_stamps(*(b"<%d>" % (first + each) for each in range(count)))
            self.settle()

    @rule(target=clients)
    def come(self) -> Connection:
        connection = self.office.connection()
        found = self.office.desks.stamp()
        if found is not None:
            connection.desk = found[1]
            self.with_stamp.append(connection)
        return connection

    @rule(client=clients, bound=st.booleans())
    def ask(self, client: Connection, *, bound: bool) -> None:
        if client.socket.fileno() >= 0 and client.identifier not in self.due:
            self.due[client.identifier] = client
            self.office.ask(client, bound=bound)
            self.settle()

    @rule(client=consumes(clients))
    def go(self, client: Connection) -> None:
        """End, whatever is being asked."""
        if self.due.pop(client.identifier, None):
            self.gone.add(client.identifier)
        self._end(client)
        self.settle()

    def _end(self, client: Connection) -> None:
        if client in self.with_stamp:
            self.with_stamp.remove(client)
            assert client.desk is not None
            desk, client.desk = client.desk, None
            self.office.desks.let_go(desk)
        client.socket.close()

    @rule(verifier=verifiers, most=st.integers(1, 5))
    def answer(self, verifier: Verifier, most: int) -> None:
        if self._is_at_a_desk(verifier):
            for identifier in verifier.requests(most):
                verifier.say(packets.ANSWER, identifier, identifier % 2)
            self.settle()

    @rule(verifier=verifiers)
    def tire(self, verifier: Verifier) -> None:
        if self._is_at_a_desk(verifier):
            verifier.say(packets.TIRED)
            self.settle()

    @rule(verifier=consumes(verifiers), is_mad=st.booleans())
    def die(self, verifier: Verifier, *, is_mad: bool) -> None:
        self._die(verifier, is_mad=is_mad)

    def _die(self, verifier: Verifier, *, is_mad: bool) -> None:
        if is_mad and self._is_at_a_desk(verifier):
            verifier.channel.send(b"garbage")
            self.settle()
        verifier.channel.close()
        self.settle()

    @precondition(lambda self: not self.is_retiring)
    @rule()
    def retire(self) -> None:
        self.is_retiring = True
        self.office.desks.retire()
        self.settle()

    @rule(target=verifiers, verifier=consumes(verifiers))
    def replace(self, verifier: Verifier) -> Verifier:
        self._die(verifier, is_mad=False)
        return self._open()

    def _is_at_a_desk(self, verifier: Verifier) -> bool:
        return self.alive.get(verifier.number) is verifier

    @invariant()
    def holders_are_those_who_hold(self) -> None:
        for desk in self.office.desks._desks.values():
            holding = [each for each in self.with_stamp if each.desk is desk]
            assert desk.holders == len(holding)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        desks = self.office.desks._desks.values()
        known = [identifier for desk in desks for identifier in desk.asked]
        queues = [self.office.desks._queue, *(desk.queue for desk in desks)]
        known += [
            connection.identifier for queue in queues for _, connection, _ in queue
        ]
        assert sorted(set(known) - self.gone) == sorted(self.due)
        assert len(set(known)) == len(known)

    @invariant()
    def who_has_time_works(self) -> None:
        desks = self.office.desks
        for desk in desks._desks.values():
            waiting = len(desk.queue) + (0 if desk.is_tired else len(desks._queue))
            assert len(desk.asked) == DEPTH or not waiting
            assert len(desk.asked) <= DEPTH

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        desks = self.office.desks
        assert desks._desks or not (self.is_retiring and desks.waiting)

    @invariant()
    def only_needed_desks_are_open(self) -> None:
        for desk in self.office.desks._desks.values():
            assert not desk.is_tired or desk.holders or desk.asked
            assert not (desk.is_tired and desk.stamps)
        assert set(self.office.desks._desks) == self.office.watched


def _has_news(verifier: Verifier) -> bool:
    poll = select.poll()
    poll.register(verifier.number, select.POLLIN)
    return bool(poll.poll(0))


TestMachine = pytest.mark.slow(Machine.TestCase)
TestMachine.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=40
)
