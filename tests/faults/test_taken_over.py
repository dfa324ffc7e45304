# SPDX-License-Identifier: ISC
"""A login worker, or a session, that has been taken over and says what it likes.

Whatever that is, nobody is let in who has not shown that he may, no mail is read, and
whoever speaks nonsense is sent away and replaced.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from hashlib import md5
from pathlib import Path
from typing import cast

import pytest

from qtools.accounts import answer
from qtools.accounts.interface import Identity
from qtools.errors import EXIT_REFUSED, EXIT_TEMPORARY
from qtools.protocol.record import RECORD_OCTETS
from qtools.server.channel import PACKET_OCTETS, Channel
from qtools.server.warm import packets
from tests.faults import tree
from tests.faults.harness import SECRET, Village
from tests.faults.impostor import (
    ENVIRONMENT,
    IDENTIFIER,
    TAG,
    Chain,
    ask_for,
    numbered,
    receive,
)
from tests.faults.tree import NURSERY, SESSION, VERIFIER
from tests.scram import ScramClient
from tests.support import OWNER, TOP, wait_for


@pytest.fixture
def chain(village: Village) -> Iterator[Chain]:
    made = Chain(village, "--verifiers", "2")
    yield made
    made.close()


class Wire:
    """A connection: what would be the client's, and what the worker holds of it."""

    def __init__(self) -> None:
        self.client, self.held = socket.socketpair()
        self.client.settimeout(30)

    def asks(self, verifier: Channel, packet: bytes, copies: int = 1) -> None:
        """Send a packet with the connection, and let go of that."""
        with suppress(BrokenPipeError):
            verifier.send(packet, [self.held.fileno()] * copies)
        self.held.close()

    def rest(self) -> bytes:
        """Give all that comes, when everybody else has let go."""
        parts = []
        with suppress(ConnectionError):
            while part := self.client.recv(65536):
                parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        self.client.close()
        self.held.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def digest(stamp: bytes, secret: bytes = SECRET) -> bytes:
    return md5(stamp + secret, usedforsecurity=False).hexdigest().encode()


def stamps_of(verifier: Channel, count: int = 4) -> list[bytes]:
    """Ask a verifier for challenges."""
    verifier.send(packets.head(packets.WANT, 0, count))
    packet, _ = receive(verifier)
    assert packets.read_head(packet)[0] == packets.STAMPS
    (stamps,) = packets.read_fields(packet, 1)
    return stamps.split()


def code_of(verifier: Channel, packet: bytes, wire: Wire | None = None) -> int:
    """Ask, and give the code of the answer; without a wire none is spoken on."""
    wire, is_ours = (Wire(), True) if wire is None else (wire, False)
    wire.asks(verifier, packet)
    found, descriptors = receive(verifier)
    kind, identifier, code = packets.read_head(found)
    assert (kind, identifier, descriptors) == (packets.ANSWER, IDENTIFIER, [])
    assert len(found) == len(packets.head(packets.ANSWER))
    if is_ours:
        if code:
            assert wire.rest() == b""
        wire.close()
    return code


def test_who_shows_that_he_may_is_let_in(chain: Chain, wire: Wire) -> None:
    """So that a refusal of the others means something."""
    verifier = chain.worker.verifier()
    assert code_of(verifier, ask_for(b"joe", SECRET), wire) == 0
    wire.client.sendall(b"STAT\r\nQUIT\r\n")
    assert wire.rest().startswith(b"+OK \r\n+OK 3 ")
    identifier, tally = chain.worker.ended()
    assert (identifier, tally.code) == (IDENTIFIER, 0)


# Challenges.


def test_an_answer_is_good_once(chain: Chain, wire: Wire) -> None:
    verifier = chain.worker.verifier()
    stamp, *_ = stamps_of(verifier)
    packet = ask_for(b"joe", digest(stamp), stamp, "Apop")
    assert code_of(verifier, packet, wire) == 0
    for _ in range(5):
        assert code_of(verifier, packet) == EXIT_REFUSED


def test_a_challenge_that_was_never_out_is_refused(chain: Chain) -> None:
    verifier = chain.worker.verifier()
    given, *_ = stamps_of(verifier)
    for stamp in (b"<1.2@x>", given[:-1], given + b">", given.replace(b".", b"1", 1)):
        packet = ask_for(b"joe", digest(stamp), stamp, "Apop")
        assert code_of(verifier, packet) == EXIT_REFUSED


def test_a_challenge_of_another_verifier_is_refused(chain: Chain) -> None:
    one, other = chain.worker.verifier(), chain.worker.verifier()
    stamp, *_ = stamps_of(one)
    packet = ask_for(b"joe", digest(stamp), stamp, "Apop")
    assert code_of(other, packet) == EXIT_REFUSED
    stamps_of(other)
    assert code_of(other, packet) == EXIT_REFUSED


def test_a_challenge_is_used_up_by_wrong_answers(chain: Chain, wire: Wire) -> None:
    verifier = chain.worker.verifier()
    stamp, fresh, *_ = stamps_of(verifier)
    wrong = ask_for(b"joe", digest(stamp, b"wrong"), stamp, "Apop")
    for _ in range(3):
        assert code_of(verifier, wrong) == EXIT_REFUSED
    right = ask_for(b"joe", digest(stamp), stamp, "Apop")
    assert code_of(verifier, right) == EXIT_REFUSED
    right = ask_for(b"joe", digest(fresh), fresh, "Apop")
    assert code_of(verifier, right, wire) == 0


@pytest.mark.parametrize("mechanism", ["User", "Plain", "Login"])
def test_a_digest_is_not_the_password_whatever_it_is_called(
    chain: Chain, mechanism: str
) -> None:
    verifier = chain.worker.verifier()
    for stamp in (stamps_of(verifier)[0], b"<1.2@x>"):
        packet = ask_for(b"joe", digest(stamp), stamp, mechanism)
        assert code_of(verifier, packet) == EXIT_REFUSED


@pytest.mark.parametrize("user", [b"", b"nobody", b"JOE2", b"joe\n", b"*", b"@"])
def test_no_other_name_is_let_in(chain: Chain, user: bytes) -> None:
    verifier = chain.worker.verifier()
    assert code_of(verifier, ask_for(user, SECRET)) in (EXIT_REFUSED, 2)
    assert code_of(verifier, ask_for(user, b"")) in (EXIT_REFUSED, 2)


# Dialogues.


def respond(data: bytes) -> bytes:
    return packets.head(packets.RESPOND, IDENTIFIER) + packets.fields(data)


class Proving:
    """What has to be known of a village to ask an account database instead."""

    def __init__(self, room: Path) -> None:
        home = room / "home"
        for folder in ("", "tmp", "new", "cur"):
            (home / "Maildir" / folder).mkdir(parents=True, exist_ok=True)
        path = room / "database"
        self.source = f"db:{path}"
        command = [str(TOP / "bin/popaccount"), "--db", str(path)]
        who = ("--home", home, "--uid", OWNER[0], "--gid", OWNER[1])
        for words in (
            ["init"],
            ["add", "joe", "--stdin", "--hash", "md5", *map(str, who)],
        ):
            given = [sys.executable, *command, *words]
            subprocess.run(given, input=SECRET + b"\n", check=True)


@pytest.fixture
def proving(room: Path) -> Iterator[Chain]:
    made = Chain(cast("Village", Proving(room)), "--verifiers", "2")
    yield made
    made.close()


def scram_of(verifier: Channel, scram: ScramClient, wire: Wire) -> bytes:
    """Begin a dialogue; give what the client would answer."""
    wire.asks(verifier, ask_for(b"joe", scram.first(), mechanism="Scram-Sha-256"))
    found, _ = receive(verifier)
    assert packets.read_head(found)[:2] == (packets.CHALLENGE, IDENTIFIER)
    (challenge,) = packets.read_fields(found, 1)
    assert wire.rest() == b"", "nothing of the connection is kept"
    return scram.final(challenge)


def test_who_proves_that_he_knows_is_let_in(proving: Chain, wire: Wire) -> None:
    """So that a refusal of the others means something."""
    verifier = proving.worker.verifier()
    scram, other = ScramClient(b"joe", SECRET), Wire()
    final = scram_of(verifier, scram, other)
    other.close()
    third = Wire()
    third.asks(verifier, respond(final))
    found, _ = receive(verifier)
    assert packets.read_fields(found, 1) == [scram.expected]
    third.close()
    assert code_of(verifier, respond(b""), wire) == 0
    assert code_of(verifier, respond(b"")) == EXIT_TEMPORARY
    assert code_of(verifier, respond(final)) == EXIT_TEMPORARY


ANSWERS = {
    "nothing": b"",
    "a name": b"joe",
    "no proof": b"c=biws,r=rOprNGfwEbeRWgbNEkqO",
    "zeros": bytes(2048),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_dialogue_ends_over_nonsense(proving: Chain, answer: str) -> None:
    verifier = proving.worker.verifier()
    assert code_of(verifier, respond(ANSWERS[answer])) == EXIT_TEMPORARY
    scram, wire = ScramClient(b"joe", SECRET), Wire()
    final = scram_of(verifier, scram, wire)
    wire.close()
    assert code_of(verifier, respond(ANSWERS[answer])) == EXIT_REFUSED
    assert code_of(verifier, respond(final)) == EXIT_TEMPORARY


def test_what_is_withdrawn_is_forgotten(proving: Chain) -> None:
    verifier = proving.worker.verifier()
    withdraw = packets.head(packets.WITHDRAW, IDENTIFIER)
    verifier.send(withdraw)
    scram, wire = ScramClient(b"joe", SECRET), Wire()
    final = scram_of(verifier, scram, wire)
    wire.close()
    for _ in range(3):
        verifier.send(withdraw)
    assert code_of(verifier, respond(final)) == EXIT_TEMPORARY


def test_an_answer_to_another_verifier_is_refused(proving: Chain) -> None:
    one, other = proving.worker.verifier(), proving.worker.verifier()
    scram, wire = ScramClient(b"joe", SECRET), Wire()
    final = scram_of(one, scram, wire)
    wire.close()
    assert code_of(other, respond(final)) == EXIT_TEMPORARY
    fresh = Wire()
    scram_of(other, ScramClient(b"joe", SECRET), fresh)
    fresh.close()
    assert code_of(other, respond(final)) == EXIT_REFUSED


# Processes for attempts.


class Waiting:
    """What has to be known of a village to ask a program that waits for the test."""

    def __init__(self, room: Path) -> None:
        self.told, gate, program = room / "told", room / "gate", room / "program"
        os.mkfifo(gate)
        self.gate = os.open(gate, os.O_RDWR)
        program.write_text(
            f"#!/bin/sh\nenv >>{self.told}\nread -r word <{gate}\nexit 1\n"
        )
        program.chmod(0o755)
        self.source = f"command:{program}"


class Asking:
    """What has to be known of a village to ask a program."""

    def __init__(self, source: str) -> None:
        self.source = source


def test_no_more_processes_than_there_may_be(room: Path) -> None:
    waiting = Waiting(room)
    words = ("--verifiers", "1", "--verifier-processes", "3")
    chain = Chain(cast("Village", waiting), *words)
    try:
        verifier = chain.worker.verifier()
        packet, _ = receive(verifier)
        assert packet == packets.head(packets.ROOM, 0, 3)
        wires = [Wire() for _ in range(8)]
        for number, wire in enumerate(wires):
            wire.asks(verifier, numbered(RIGHT, number))
        found = [packets.read_head(receive(verifier)[0]) for _ in range(5)]
        assert found == [(packets.ANSWER, n, EXIT_TEMPORARY) for n in range(3, 8)]
        os.write(waiting.gate, b"go on\n" * 3)
        found = [packets.read_head(receive(verifier)[0]) for _ in range(3)]
        assert sorted(found) == [(packets.ANSWER, n, EXIT_REFUSED) for n in range(3)]
        for wire in wires:
            assert wire.rest() == b""
            wire.close()
    finally:
        os.close(waiting.gate)
        chain.close()


def test_variables_cannot_choose_what_a_program_does(room: Path) -> None:
    waiting = Waiting(room)
    chain = Chain(cast("Village", waiting), "--verifiers", "1")
    try:
        verifier = chain.worker.verifier()
        receive(verifier)
        names = (
            *(b"LD_PRELOAD", b"PATH", b"HOME", b"QTOOLS_EXEC", b"PYTHONPATH"),
            *(b"SSLKEYLOGFILE", b"SSL_CERT_FILE", b"SSL_CERT_DIR"),
        )
        variables = b"\0".join(name + b"=/evil" for name in names)
        variables += b"\0TCPREMOTEIP=192.0.2.1\0POP3METHOD=User"
        os.write(waiting.gate, b"go on\n")
        packet = ask_for(b"joe", SECRET, variables=variables)
        assert code_of(verifier, packet) == EXIT_REFUSED
    finally:
        os.close(waiting.gate)
        chain.close()
    told = waiting.told.read_text()
    assert "TCPREMOTEIP=192.0.2.1\n" in told
    assert "/evil" not in told


@pytest.mark.parametrize("claimed", ["Apop", "Cram-Md5"])
def test_a_digest_that_was_heard_is_no_token(room: Path, claimed: str) -> None:
    """The program would compare it, as the challenge and the variable tell it to."""
    heard = b"<1.2@recorded>"
    program, told = room / "program", room / "told"
    program.write_text(
        f"#!/bin/sh\nenv >>{told}\ncat <&3 | tr '\\000' '\\n' >>{told}\nexit 1\n"
    )
    program.chmod(0o755)
    asking = Asking(f"command:{program}")
    chain = Chain(cast("Village", asking), "--verifiers", "1")
    try:
        verifier = chain.worker.verifier()
        receive(verifier)
        variables = b"POP3METHOD=" + claimed.encode()
        packet = ask_for(b"joe", digest(heard), heard, "Xoauth2", variables)
        assert code_of(verifier, packet) == EXIT_REFUSED
    finally:
        chain.close()
    lines = told.read_text().splitlines()
    assert "POP3METHOD=Xoauth2" in lines
    assert digest(heard).decode() in lines
    assert heard.decode() not in lines


# Packets that no login worker sends.

JOE = answer.pack(0, Identity(b"joe", *OWNER, home=b"/"))
ROOT = answer.pack(0, Identity(b"root", 0, 0, home=b"/"))
RIGHT = ask_for(b"joe", SECRET)
FIELDS = RIGHT[len(packets.head(0)) :]
NONSENSE = {
    "launch": packets.head(packets.LAUNCH, 7) + packets.fields(JOE, ENVIRONMENT, TAG),
    "root": packets.head(packets.LAUNCH, 7) + packets.fields(ROOT, ENVIRONMENT, TAG),
    "answer": packets.head(packets.ANSWER, 7, 0),
    "tired": packets.head(packets.TIRED),
    "tally": packets.pack_tally(packets.NOTHING),
    "ended": packets.pack_ended(7, packets.NOTHING, TAG),
    "live": packets.head(packets.LIVE, 7) + packets.fields(TAG),
    "drain": packets.head(packets.DRAIN),
    "verifier": packets.head(packets.VERIFIER),
    "stamps": packets.head(packets.STAMPS) + packets.fields(b"<1.2@x>"),
    "challenge": packets.head(packets.CHALLENGE, 7) + packets.fields(b"r=1"),
    "room": packets.head(packets.ROOM, 0, 9),
    "withdraw with more": packets.head(packets.WITHDRAW, 7) + packets.fields(b""),
    "long answer": packets.head(packets.RESPOND, 7) + packets.fields(bytes(2049)),
    "two answers": packets.head(packets.RESPOND, 7) + packets.fields(b"c=", b"c="),
    "want with more": packets.head(packets.WANT, 0, 4) + b"x",
    "zero": packets.head(0) + FIELDS,
    "mechanism": packets.head(packets.ASK, 7, 99) + FIELDS,
    "cut short": RIGHT[:-1],
    "too long": RIGHT + b"\0",
    "too many fields": RIGHT + packets.fields(b""),
    "too few fields": packets.head(packets.ASK, 7, 0) + packets.fields(b"joe"),
    "one octet": b"\x10",
    "long record": packets.head(packets.ASK, 7, 0)
    + packets.fields(b"joe\0" + b"x" * RECORD_OCTETS + b"\0\0", ENVIRONMENT, TAG),
    "oversized": RIGHT + bytes(PACKET_OCTETS),
    "random": b"\x93\x1f" * 700,
}


@pytest.mark.slow
def test_a_verifier_ends_over_nonsense_and_begins_no_session(village: Village) -> None:
    chain = Chain(village, "--verifiers", str(len(NONSENSE) + 1))
    try:
        worker, wires = chain.worker, {name: Wire() for name in NONSENSE}
        for name, wire in wires.items():
            wire.asks(worker.verifier(), NONSENSE[name])
        for verifier, (name, wire) in zip(worker.verifiers, wires.items(), strict=True):
            assert wire.rest() == b"", name
            assert receive(verifier) == (b"", []), name
            wire.close()
        assert chain.crew(SESSION) == []
        wait_for(lambda: chain.errors.count("a verifier ended with ") == len(NONSENSE))
        for _ in range(len(NONSENSE) + 1):  # the last one there was, and successors
            verifier = worker.verifier()
        assert code_of(verifier, ask_for(b"joe", b"wrong")) == EXIT_REFUSED
    finally:
        chain.close()


@pytest.mark.parametrize("copies", [0, 2, 3])
def test_one_connection_belongs_to_one_login(
    chain: Chain, wire: Wire, copies: int
) -> None:
    verifier = chain.worker.verifier()
    wire.asks(verifier, RIGHT, copies)
    assert wire.rest() == b""
    assert receive(verifier) == (b"", [])
    assert chain.crew(SESSION) == []


def test_descriptors_that_come_unasked_are_closed(chain: Chain) -> None:
    verifier = chain.worker.verifier()
    chain.worker.verifier()
    wait_for(lambda: len(chain.crew(VERIFIER)) == 2)
    pids = chain.crew(VERIFIER)
    before = [tree.count(pid) for pid in pids]
    for _ in range(5):
        wires = [Wire(), Wire()]
        for wire in wires:
            verifier.send(packets.head(packets.WANT, 0, 1), [wire.held.fileno()] * 3)
            wire.held.close()
            receive(verifier)
            assert wire.rest() == b""
            wire.close()
    wait_for(lambda: [tree.count(pid) for pid in pids] == before)


def test_an_environment_cannot_choose_the_mail(
    chain: Chain, wire: Wire, village: Village
) -> None:
    """Somebody who may log in asks for another's Maildir, by way of variables."""
    other = str(village.residents[b"ann"].maildir).encode()
    names = (b"MAILDIR", b"POP3MAILDIR", b"HOME", b"QTOOLS_EXEC", b"USER")
    variables = b"\0".join(name + b"=" + other for name in names)
    packet = ask_for(b"joe", SECRET, variables=variables)
    assert code_of(chain.worker.verifier(), packet, wire) == 0
    wire.client.sendall(b"RETR 1\r\nSTAT\r\nQUIT\r\n")
    said = wire.rest()
    assert b"for joe" in said
    assert b"for ann" not in said
    assert b"+OK 3 " in said


# What a login worker may not say to the master.


TO_MASTER = ("launch", "root", "tired", "live", "oversized", "random", "one octet")


@pytest.mark.parametrize("name", [*TO_MASTER, "counters"])
def test_a_login_worker_that_speaks_nonsense_is_replaced(
    chain: Chain, wire: Wire, name: str
) -> None:
    worker = chain.worker
    worker.verifier()
    counters = packets.head(packets.COUNTERS) + packets.fields(b"no counters at all")
    packet = NONSENSE.get(name, counters)
    wire.asks(worker.channel, packet)
    assert wire.rest() == b""
    after = chain.hired()
    assert "a login worker sends what it must not" in chain.errors
    third = Wire()
    assert code_of(after.verifier(), ask_for(b"joe", SECRET), third) == 0
    third.close()


def test_a_login_worker_cannot_reach_the_nursery(chain: Chain, wire: Wire) -> None:
    """The nursery has the master's end of its channel, to write on it."""
    chain.worker.verifier()
    wait_for(lambda: chain.crew(NURSERY))
    (nursery,) = chain.crew(NURSERY)
    wire.asks(chain.worker.channel, NONSENSE["launch"])
    chain.hired()
    assert wire.rest() == b""
    assert chain.crew(NURSERY) == [nursery]
    assert chain.crew(SESSION) == []


# Sessions.


@pytest.fixture
def false_sessions(village: Village) -> Iterator[Chain]:
    made = Chain(village, "--verifiers", "1", has_sessions=False)
    yield made
    made.close()


GREATEST = packets.Tally(0, 0, (2**63, 2**63, 2**63, None, 0, None))
WORDS = {
    **NONSENSE,
    "counts": packets._TALLY.pack(packets.TALLY, 0, 0, *[2**63] * 6),
    "why": packets._TALLY.pack(packets.TALLY, 0, 99, *[0] * 6),
    "nothing": b"",
}
del WORDS["tally"]


@pytest.mark.slow
def test_a_session_that_speaks_nonsense_is_ended_and_told_of(
    false_sessions: Chain,
) -> None:
    chain, verifier = false_sessions, false_sessions.worker.verifier()
    wires, strangers = [Wire() for _ in WORDS], [Wire() for _ in WORDS]
    for number, (name, word) in enumerate(WORDS.items()):
        wires[number].asks(verifier, numbered(RIGHT, number))
        receive(verifier)
        way, client = chain.session()
        strangers[number].asks(way, word)
        if name == "nothing":
            way.close()
        client.close()
    pids = chain.crew(SESSION)
    ended = [chain.worker.ended() for _ in WORDS]
    assert sorted(number for number, _ in ended) == list(range(len(WORDS)))
    for _, tally in ended:
        assert tally.code != 0
        assert tally.counts == packets.NOTHING.counts
    for wire in (*wires, *strangers):
        assert wire.rest() == b""
        wire.close()
    wait_for(lambda: not any(map(tree.is_there, pids)))
    after = Wire()
    assert code_of(verifier, RIGHT, after) == 0
    _, client = chain.session()
    client.sendall(b"the next one")
    assert after.client.recv(100) == b"the next one"
    after.close()


@pytest.mark.slow
def test_a_session_that_says_more_than_its_end_gets_nobody_else(
    false_sessions: Chain, wire: Wire
) -> None:
    chain, verifier = false_sessions, false_sessions.worker.verifier()
    assert code_of(verifier, RIGHT, wire) == 0
    way, client = chain.session()
    (pid,) = chain.crew(SESSION)
    for _ in range(2):
        way.send(packets.pack_tally(packets.NOTHING))
    client.close()
    assert chain.worker.ended()[0] == IDENTIFIER
    wait_for(lambda: not tree.is_there(pid))
    assert wire.rest() == b""
    with pytest.raises(BlockingIOError):
        chain.worker.channel._socket.recv(1, socket.MSG_DONTWAIT)
