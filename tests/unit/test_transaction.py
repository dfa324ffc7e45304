# SPDX-License-Identifier: ISC
"""Transaction as text, as a model, and under input nobody should send."""

import os
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.sessions.actions import Action, Close, Send, SendMessage, Trace, Update
from qtools.sessions.style import JUNK_LIMIT, Style
from qtools.sessions.transaction import VERBS, Transaction
from tests.pop3 import STATUS
from tests.support import IS_NIGHTLY

OCTETS = [38, 27, 17, 2, 0]
UIDS = [b"1.a.host", b"2.b.host", b"3.c.host,S=12", b"4.nul", b"5.x"]


class Drop:
    """A maildrop in memory."""

    def __init__(self) -> None:
        self.count = len(OCTETS)

    def octets(self, number: int) -> int:
        return OCTETS[number - 1]

    def all_octets(self) -> Sequence[int]:
        return OCTETS

    def uid(self, number: int) -> bytes:
        return UIDS[number - 1]

    def all_uids(self) -> Sequence[bytes]:
        return UIDS


def session(**style: object) -> Transaction:
    return Transaction(Drop(), Style(**style))  # type: ignore[arg-type]  # test data


def said(actions: Sequence[Action]) -> bytes:
    """Write actions down as one text, so that any two runs compare."""
    text = b""
    for action in actions:
        if isinstance(action, Send):
            text += action.data
        elif isinstance(action, SendMessage):
            text += action.status + b"<%d %d>" % (
                action.number,
                -1 if action.body_lines is None else action.body_lines,
            )
        elif isinstance(action, Update):
            text += b"<update %s>" % repr(action.deleted).encode()
        elif isinstance(action, Close):
            text += b"<close>"
    return text


def after(commands: bytes, **style: object) -> bytes:
    return said(session(**style).feed(commands.replace(b";", b"\r\n") + b"\r\n"))


OK = b"+OK \r\n"
SYNTAX = b"-ERR syntax error\r\n"
LISTED = b"+OK \r\n1 38\r\n2 27\r\n3 17\r\n4 2\r\n5 0\r\n.\r\n"
NO_SUCH = b"-ERR not that many messages\r\n"
DELETED = b"-ERR already deleted\r\n"
FROM_1 = b"-ERR messages are counted from 1\r\n"

TRANSCRIPT = [
    (b"STAT", b"+OK 5 84\r\n"),
    (b"stat", b"+OK 5 84\r\n"),
    (b"STAT  ", b"+OK 5 84\r\n"),
    (b"STAT x", SYNTAX),
    (b"LIST", LISTED),
    (b"LIST ", LISTED),
    (b"LIST 3", b"+OK 3 17\r\n"),
    (b"LIST 003", b"+OK 3 17\r\n"),
    (b"LIST  3", SYNTAX),
    (b"LIST 3 ", SYNTAX),
    (b"LIST 3 3", SYNTAX),
    (b"LIST 6", NO_SUCH),
    (b"LIST 0", FROM_1),
    (b"UIDL 3", b"+OK 3 3.c.host,S=12\r\n"),
    (b"UIDL 1a", SYNTAX),
    (b"UIDL +1", SYNTAX),
    (b"UIDL -1", SYNTAX),
    (b"RETR 1", b"+OK \r\n<1 -1>"),
    (b"retr 1", b"+OK \r\n<1 -1>"),
    (b"RETR", SYNTAX),
    (b"RETR 1 2", SYNTAX),
    (b"RETR 0", FROM_1),
    (b"RETR 6", NO_SUCH),
    (b"RETR 18446744073709551617", NO_SUCH),
    (b"TOP 1 0", b"+OK \r\n<1 0>"),
    (b"TOP 1 18446744073709551616", b"+OK \r\n<1 10000000000>"),
    (b"TOP 1", SYNTAX),
    (b"TOP 1 x", SYNTAX),
    (b"TOP 1 2 3", SYNTAX),
    (b"TOP 6 0", NO_SUCH),
    (b"DELE", SYNTAX),
    (b"DELE 2;DELE 2;STAT", OK + DELETED + b"+OK 4 57\r\n"),
    (b"STAT;DELE 2;STAT", b"+OK 5 84\r\n" + OK + b"+OK 4 57\r\n"),
    (b"DELE 2;LIST 2;UIDL 2;RETR 2;TOP 2 1", OK + DELETED * 4),
    (b"DELE 1;DELE 3;LIST", OK * 2 + b"+OK \r\n2 27\r\n4 2\r\n5 0\r\n.\r\n"),
    (
        b"DELE 5;DELE 4;DELE 2;UIDL",
        OK * 3 + b"+OK \r\n1 1.a.host\r\n3 3.c.host,S=12\r\n.\r\n",
    ),
    (b"DELE 2;RSET;LAST;STAT;LIST 2", OK * 2 + b"+OK 0\r\n+OK 5 84\r\n+OK 2 27\r\n"),
    (b"LAST", b"+OK 0\r\n"),
    (b"RETR 2;LAST;TOP 4 1;LAST", b"+OK \r\n<2 -1>+OK 2\r\n+OK \r\n<4 1>+OK 2\r\n"),
    (b"RETR 4;DELE 1;LAST", b"+OK \r\n<4 -1>" + OK + b"+OK 4\r\n"),
    (b"NOOP", OK),
    (b"NOOP x", SYNTAX),
    (b"", b"-ERR unimplemented\r\n"),
    (b" NOOP", b"-ERR unimplemented\r\n"),
    (b"NOOP\tx", b"-ERR unimplemented\r\n"),
    (b"NOOP\r", b"-ERR unimplemented\r\n"),
    (b"NO\0OP", SYNTAX),
    (b"NOOP\0junk", SYNTAX),
    (b"NOOP" + b" " * 249, OK),  # 255 octets with its line end
    (b"NOOP" + b" " * 250, SYNTAX),
    (b"NOOP " + b" " * 300, SYNTAX),
    (b"USER joe", b"-ERR unimplemented\r\n"),
    (b"UTF8", b"-ERR unimplemented\r\n"),
    (b"STLS", b"-ERR unimplemented\r\n"),
    (b"QUIT x", SYNTAX),
    (b"QUIT", b"<update ()>"),
    (b"DELE 3;DELE 1;QUIT;NOOP", OK * 2 + b"<update (1, 3)>"),
    (b"LANG", b"+OK language listing follows\r\nen English\r\nde Deutsch\r\n.\r\n"),
    (
        b"LANG de;RETR 9",
        b"+OK de Sprache gewechselt\r\n-ERR so viele Nachrichten sind nicht da\r\n",
    ),
    (b"LANG xx", b"-ERR invalid language\r\n"),
]


@pytest.mark.parametrize(("commands", "reply"), TRANSCRIPT)
def test_transcript(commands: bytes, reply: bytes) -> None:
    assert after(commands) == reply


BARE_TRANSCRIPT = [
    (b"STAT", b"+OK 5 84\r\n"),
    (b"DELE 1;NOOP;RSET", b"+OK\r\n" * 3),
    (b"RETR 1", b"+OK\r\n<1 -1>"),
    (b"UIDL 1", b"+OK 1 1.a.host\r\n"),
    (b"LIST", LISTED.replace(OK, b"+OK\r\n")),
]


@pytest.mark.parametrize(("commands", "reply"), BARE_TRANSCRIPT)
def test_bare_transcript(commands: bytes, reply: bytes) -> None:
    assert after(commands, is_bare=True) == reply


def test_greetings() -> None:
    assert said(session().greet()) == b"+OK \r\n"
    greeting = b"+OK maildir: 5 message(s) 84 octet(s)\r\n"
    assert said(session(is_bare=True).greet()) == greeting


def test_the_reply_to_quit_is_one() -> None:
    for failed, reply in ((0, OK), (3, b"-ERR some deleted messages not removed\r\n")):
        dialogue = session()
        dialogue.feed(b"DELE 1\r\nQUIT\r\n")
        assert said(dialogue.updated(failed)) == reply + b"<close>"


def test_a_lost_client_changes_nothing_unless_asked_for() -> None:
    dialogue = session()
    dialogue.feed(b"DELE 1\r\n")
    assert dialogue.lost("timeout") == [Close(0, "timeout")]
    assert not dialogue.is_open
    dialogue = session(commits=True)
    dialogue.feed(b"DELE 1\r\n")
    assert dialogue.lost("timeout") == [Update((1,))]
    assert dialogue.updated(0) == [Close(0, "timeout")]


def test_junk_closes_a_bare_session() -> None:
    dialogue = session(is_bare=True, junk_limit=JUNK_LIMIT)
    dialogue.feed(b"RETR 99\r\nSTAT x\r\n")  # mistakes, but commands
    text = said(dialogue.feed(b"EHLO x\r\n" * JUNK_LIMIT + b"NOOP\r\n"))
    assert text == b"-ERR unimplemented\r\n" * JUNK_LIMIT + b"<close>"
    assert not dialogue.is_open


def test_the_blank_line_counts() -> None:
    assert after(b"STAT;LIST 1", blank_line=True) == b"+OK 5 94\r\n+OK 1 40\r\n"
    assert after(b"DELE 1;STAT", blank_line=True) == OK + b"+OK 4 54\r\n"
    assert b"\r\n5 2\r\n" in after(b"LIST", blank_line=True)


def capabilities(**style: object) -> set[bytes]:
    return set(after(b"CAPA", **style).splitlines()[1:-1])


def test_capa_tells_the_truth() -> None:
    own = {b"TOP", b"UIDL", b"LANG", b"RESP-CODES", b"PIPELINING"}
    own |= {b"EXPIRE NEVER", b"IMPLEMENTATION qtools"}
    assert capabilities() == own
    assert capabilities(is_bare=True) == own | {b"USER"}
    handed = [b"USER", b"SASL PLAIN LOGIN"]
    ours = own | {b"AUTH-RESP-CODE", b"UTF8 USER"}
    assert capabilities(capabilities=handed) == ours | set(handed)
    assert capabilities(capabilities=[], is_bare=True) == ours


def test_every_capability_of_a_row_is_carried_out() -> None:
    for keyword, verb in VERBS.items():
        if verb.capability:
            arguments = b" 1" * verb.least
            assert after(keyword + arguments).startswith(b"+OK")


def test_a_trace_hides_secrets() -> None:
    actions = session(is_traced=True).feed(b"PASS sesame\r\nRETR 1\r\n")
    traced = [action.line for action in actions if isinstance(action, Trace)]
    assert traced == [b"PASS <hidden>", b"RETR 1"]


def test_the_tally_counts_what_update_removed() -> None:
    dialogue = session()
    dialogue.feed(b"DELE 1\r\nSTAT\r\nDELE 2\r\n")
    assert dialogue.tally() == (5, 84, 0, 0)
    dialogue.feed(b"QUIT\r\n")
    dialogue.updated(0)
    assert dialogue.tally() == (3, 19, 2, 65)


def test_the_tally_counts_no_octets_for_its_own_sake() -> None:
    dialogue = session()
    dialogue.feed(b"DELE 1\r\nLIST 2\r\nQUIT\r\n")
    assert dialogue.tally() == (5, None, 0, 0)
    dialogue.updated(0)
    assert dialogue.tally() == (4, None, 1, None)


class Model:
    """RFC 1939 in a few lines, by other means than the product: a list of flags."""

    def __init__(self) -> None:
        self.there = [True] * 5
        self.touched = [0]
        self.done = False

    def reply(self, word: str, *numbers: int) -> str:
        if numbers and numbers[0] == 0:
            return "-ERR messages are counted from 1"
        if numbers and numbers[0] > 5:
            return "-ERR not that many messages"
        if numbers and not self.there[numbers[0] - 1]:
            return "-ERR already deleted"
        return "+OK " + str(getattr(self, word.lower())(*numbers))

    def numbers(self, *, there: bool) -> list[int]:
        return [at + 1 for at in range(5) if self.there[at] == there]

    def stat(self) -> str:
        left = self.numbers(there=True)
        return f"{len(left)} {sum(OCTETS[number - 1] for number in left)}"

    def list(self, *numbers: int, values: tuple[object, ...] = (*OCTETS,)) -> str:
        if numbers:
            return f"{numbers[0]} {values[numbers[0] - 1]}"
        rows = [f"{each} {values[each - 1]}" for each in self.numbers(there=True)]
        return "\r\n".join(["", *rows, "."])

    def uidl(self, *numbers: int) -> str:
        return self.list(*numbers, values=tuple(uid.decode() for uid in UIDS))

    def retr(self, number: int) -> str:
        self.touched.append(number)
        return f"\r\n<{number} -1>"

    def dele(self, number: int) -> str:
        self.touched.append(number)
        self.there[number - 1] = False
        return ""

    def top(self, number: int, lines: int) -> str:
        return f"\r\n<{number} {lines}>"

    def rset(self) -> str:
        self.there, self.touched = [True] * 5, [0]
        return ""

    def last(self) -> int:
        return max(self.touched)

    def noop(self) -> str:
        return ""

    def quit(self) -> str:
        self.done = True
        return f"\r\n<update {tuple(self.numbers(there=False))}>"


NUMBER = st.integers(0, 7)
COMMANDS = st.lists(
    st.tuples(st.sampled_from(("STAT", "RSET", "NOOP", "LAST", "LIST", "UIDL", "QUIT")))
    | st.tuples(st.sampled_from(("LIST", "UIDL", "RETR", "DELE", "DELE")), NUMBER)
    | st.tuples(st.just("TOP"), NUMBER, NUMBER),
    max_size=30,
)


@given(COMMANDS)
def test_the_whole_dialogue_equals_the_model(
    commands: list[tuple[str, *tuple[int, ...]]],
) -> None:
    model, expected = Model(), b""
    dialogue, got = session(), b""
    for command in commands:
        if not model.done:
            reply = model.reply(*command).encode()
            expected += reply if reply.endswith(b">") else reply + b"\r\n"
            expected = expected.replace(b"+OK \r\n<update", b"<update")
        got += said(dialogue.feed(" ".join(map(str, command)).encode() + b"\r\n"))
    assert got == expected


LINE = st.binary(max_size=40) | st.sampled_from(
    [
        *(row[0].partition(b";")[0] for row in TRANSCRIPT),
        *(b"x" * octets for octets in (253, 254, 255, 256, 4096)),
        b"\0",
    ]
)


@given(st.lists(LINE.filter(lambda line: b"\n" not in line)))
def test_each_line_gets_exactly_one_reply(lines: list[bytes]) -> None:
    dialogue = session()
    for line in lines:
        if not dialogue.is_open:
            assert dialogue.feed(line + b"\n") == []
            continue
        actions = dialogue.feed(line + b"\n")
        assert len(actions) == 1
        reply = actions[0]
        if isinstance(reply, Send):
            status, _, rest = reply.data.partition(b"\r\n")
            assert STATUS.fullmatch(status + b"\r\n")
            assert len(status) <= 510
            assert not rest or rest.endswith(b".\r\n")
        else:
            assert isinstance(reply, SendMessage | Update)


@given(st.lists(LINE).map(b"\r\n".join), st.lists(st.integers(0, 200), max_size=8))
def test_chunking_never_changes_the_replies(data: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    dialogue, parts = session(), b""
    for start, end in pairwise(ends):
        parts += said(dialogue.feed(data[start:end]))
    assert parts == said(session().feed(data))


WORDS = (
    *(*VERBS, b"PASS", b"USER", b" ", b" ", b"1", b"9", b"0", b"\r\n", b"\n", b"\0"),
    *(b"x" * 253, b" " * 253, b"1" * 4096),
)


@pytest.mark.slow
def test_random_input_never_raises() -> None:
    source = random.Random(os.environ.get("FUZZ_SEED", "qtools"))
    rounds = 1_000_000 if IS_NIGHTLY else 10_000
    overlong = 0
    for _ in range(rounds):
        parts = [
            source.choice(WORDS) if source.random() < 0.9 else source.randbytes(9)
            for _ in range(source.randrange(12))
        ]
        dialogue = session(is_bare=bool(source.getrandbits(1)), is_traced=True)
        data = b"".join(parts) + b"\n"
        overlong += any(len(line) > 255 for line in data.splitlines(keepends=True))
        replies = [act for act in dialogue.feed(data) if not isinstance(act, Trace)]
        assert len(replies) <= data.count(b"\n")
        assert dialogue.is_open == (not any(isinstance(r, Update) for r in replies))
        if dialogue.is_open:
            assert len(replies) == data.count(b"\n")
    assert overlong > rounds // 20
