# SPDX-License-Identifier: ISC
"""Random input against the login session: 10,000 inputs each time, a million nightly.

Not by hypothesis, which is made to find the smallest counter-example and not to get
through a million; the seed of each input is its number, so that any can be repeated.
"""

from base64 import b64encode
from random import Random

import pytest

from qtools.protocol import replies, sasl
from qtools.sessions.actions import (
    Action,
    Close,
    Respond,
    Send,
    StartTls,
    Verify,
    Withdraw,
)
from qtools.sessions.login import VERBS, Login
from qtools.sessions.policy import Policy
from tests.support import IS_NIGHTLY

INPUTS = 1_000_000 if IS_NIGHTLY else 10_000
PARTS = 10  # so that workers can share them

STAMP = b"<1.2.abc@mx.example>"
DIGEST = b"0123456789abcdef" * 2
WORDS = [
    *(keyword + end for keyword in VERBS for end in (b"", b" ", b"\r\n", b"\n")),
    *(b" ", b"\r\n", b"\n", b"\r", b"\0", b"\t", b"=", b"*", b"joe", b"+ "),
    *(name + b"\r\n" for name in sasl.MECHANISMS),
    *(b"AUTH " + name + b"\r\n" for name in sasl.MECHANISMS),
    *(
        b64encode(answer) + b"\r\n"
        for answer in (
            *(b"n,,n=joe,r=x", b"p=tls-server-end-point,,n=joe,r=x", b"y,,n=j,r=x"),
            *(b"user=joe\1auth=Bearer t\1\1", b"n,a=joe,\1auth=Bearer t\1\1"),
        )
    ),
    *(b"am9l", b"AGpvZQBzZWNyZXQ=\r\n", b"joe " + DIGEST + b"\r\n", DIGEST),
    *(b"USER joe\r\n", b"PASS x\r\n", b"AUTH LOGIN\r\n", b"u" * 253, b"A" * 4096),
]
CODES = (1, 2, 3, 100, 111, -9)


def random_input(chance: Random) -> bytes:
    return b"".join(
        chance.choice(WORDS)
        if chance.random() < 0.9
        else chance.randbytes(chance.randrange(12))
        for _ in range(chance.randrange(24))
    )


def random_policy(chance: Random) -> Policy:
    return Policy(
        passwords=chance.random() < 0.8,
        apop=chance.random() < 0.5,
        mechanisms=tuple(chance.sample(list(sasl.MECHANISMS), chance.randrange(8))),
        binding=chance.choice((b"", b"b" * 32)),
        has_stls=chance.random() < 0.3,
        is_tls=chance.random() < 0.2,
        tls_for=chance.choice(("", "", "passwords", "all")),
        attempts=chance.randrange(1, 9),
        delay_seconds=0,
    )


class Tally:
    """What is owed to the client and what it got."""

    def __init__(self, chance: Random) -> None:
        self.session = Login(STAMP, random_policy(chance))
        self.chance = chance
        self.replies = 0
        self.lines = 0
        self.is_closed = False
        self.is_asked = False  # the verifier waits for an answer

    def feed(self, data: bytes) -> None:
        """Feed in pieces, doing what the session asks for at once."""
        while data and not self.is_closed:
            size = self.chance.randrange(1, len(data) + 1)
            piece, data = data[:size], data[size:]
            self.lines += piece.count(b"\n")
            actions = self.session.feed(piece)
            while actions:
                actions = self.perform(actions.pop(0)) + actions

    def perform(self, action: Action) -> list[Action]:
        """Perform one action; give what that leads to."""
        assert not self.is_closed
        if isinstance(action, Send):
            self.replies += 1
            check_reply(action.data)
        elif isinstance(action, Verify):
            assert action.record.count(b"\0") == 3
            return self.judge(is_dialogue=action.mechanism.startswith("Scram"))
        elif isinstance(action, Respond):
            assert self.is_asked
            return self.judge(is_dialogue=True)
        elif isinstance(action, Withdraw):
            assert self.is_asked
            self.is_asked = False
        elif isinstance(action, StartTls):
            # The lines that came with STLS are dropped, and owed no more.
            self.lines = self.replies
            assert self.session.tls_started() == []
        elif isinstance(action, Close):
            self.is_closed = True
        return []

    def judge(self, *, is_dialogue: bool) -> list[Action]:
        """Be the verifier."""
        self.is_asked = is_dialogue and self.chance.random() < 0.6
        if self.is_asked:
            return self.session.challenged(self.chance.randbytes(9))
        return self.session.verdict(self.chance.choice(CODES))


def check_reply(reply: bytes) -> None:
    assert reply.startswith((b"+OK", b"-ERR ", b"+ "))
    assert reply.endswith(b"\r\n")
    if not reply.endswith(b"\r\n.\r\n"):
        assert reply.count(b"\n") == 1
        assert len(reply) <= replies.REPLY_OCTETS


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_random_input_gets_one_reply_a_line(part: int) -> None:
    for number in range(part, INPUTS, PARTS):
        chance = Random(number)
        tally = Tally(chance)
        tally.feed(random_input(chance))
        if tally.is_closed:
            assert tally.replies <= tally.lines, number
        else:
            assert tally.replies == tally.lines, number
