# SPDX-License-Identifier: ISC
"""The dialogue of poppassd: every reply, octet by octet, and every limit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools import __version__
from qtools.errors import EXIT_HARD, EXIT_REFUSED, EXIT_TEMPORARY
from qtools.sessions.actions import Action, Ask, Close, Send, StartTls
from qtools.sessions.poppassd import AUTHENTICATE, CHANGE, PasswordChange

GREETING = f"200 poppassd v{__version__} hello, who are you?\r\n".encode()
USER = b"200 Your password please.\r\n"
PASS = b"200 Your new password please.\r\n"
NEWPASS = b"200 Password changed, thank-you.\r\n"
BYE = b"200 Bye.\r\n"
NO_USER = b"500 Username required.\r\n"
NO_PASS = b"500 Password required.\r\n"
NO_NEW = b"500 New password required.\r\n"
NO_QUIT = b"500 Quit required.\r\n"
WRONG = b"500 Old password is incorrect.\r\n"
LONG_USER = b"500 Username too long (max 64).\r\n"
LONG_PASS = b"500 Password length exceeded (max 128).\r\n"
FAILED = b"500 Server error, password not changed"
OLD, NEW = b"old secret", b"new secret"


class Talk:
    """One session, with the two answers it will get."""

    def __init__(
        self,
        *,
        first: tuple[int, bytes] = (0, b""),
        second: tuple[int, bytes] = (0, b""),
        **more: Any,
    ) -> None:
        self.session = PasswordChange(**more)
        self.answers = [second, first]
        self.asked: list[tuple[int, tuple[bytes, ...]]] = []
        self.said: list[bytes] = []
        self.closed: list[tuple[int, str]] = []
        self.others: list[Action] = []
        self.do(self.session.greet())

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.closed, "something after the end"
            if isinstance(action, Send):
                self.said.append(action.data)
            elif isinstance(action, Ask):
                self.asked.append((action.kind, action.fields))
                self.do(self.session.answered(*self.answers.pop()))
            elif isinstance(action, Close):
                self.closed.append((action.code, action.why))
            else:
                self.others.append(action)

    def hear(self, *pieces: bytes, is_whole: bool = True) -> list[bytes]:
        """Feed pieces, and the end of the input; give all replies but the greeting."""
        for piece in pieces:
            self.do(self.session.feed(piece))
        while is_whole and not self.closed:
            self.do(self.session.lost("eof"))
        assert self.said[0] == GREETING
        return self.said[1:]


def test_a_change_in_four_lines() -> None:
    talk = Talk()
    said = talk.hear(
        b"user joe\r\n", b"pass old secret\r\n", b"newpass new secret\r\n", b"quit\r\n"
    )
    assert said == [USER, PASS, NEWPASS, BYE]
    assert talk.asked == [(AUTHENTICATE, (b"joe", OLD)), (CHANGE, (NEW,))]
    assert talk.closed == [(0, "quit")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("upper", [False, True])
def test_in_one_packet_and_in_any_shape(end: bytes, upper: bool) -> None:  # noqa: FBT001
    words = [b"user", b"pass", b"newpass", b"quit"]
    words = [word.upper() if upper else word for word in words]
    arguments = (b" joe", b" old secret", b" new secret", b"")
    lines = [word + rest + end for word, rest in zip(words, arguments, strict=True)]
    talk = Talk()
    assert talk.hear(b"".join(lines)) == [USER, PASS, NEWPASS, BYE]
    assert talk.asked == [(AUTHENTICATE, (b"joe", OLD)), (CHANGE, (NEW,))]


@given(st.lists(st.integers(1, 8)))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    whole = b"user joe\r\npass old secret\nnewpass new secret\r\nquit\r\n"
    pieces = []
    for cut in cuts:
        pieces.append(whole[:cut])
        whole = whole[cut:]
    talk = Talk()
    assert talk.hear(*pieces, whole) == [USER, PASS, NEWPASS, BYE]


@pytest.mark.parametrize(
    "line",
    [
        b"HELP\n",
        b"quit\n",
        b"pass x\n",
        b"\n",
        b"",
        b"user\n",
        b"user  \n",
        b" user x\n",
    ],
)
def test_a_name_has_to_come_first(line: bytes) -> None:
    talk = Talk()
    assert talk.hear(line) == [NO_USER]
    assert talk.closed == [(EXIT_REFUSED, "refused")]


@pytest.mark.parametrize(
    ("line", "user"),
    [
        (b"user joe extra", b"joe"),
        (b"user \t joe", b"joe"),
        (b"USER Joe", b"Joe"),
        (b"uSeR joe@example.com", b"joe@example.com"),
        (b"userjoe", b"joe"),  # nobody ever asked for the blank
        (b"user joe\rmore", b"joe"),
        (b"user " + b"x" * 59, b"x" * 59),
    ],
)
def test_names(line: bytes, user: bytes) -> None:
    talk = Talk()
    talk.hear(line + b"\npass x\n")
    assert talk.asked[0] == (AUTHENTICATE, (user, b"x"))


@pytest.mark.parametrize("line", [b"user " + b"x" * 60, b"user x" + b" " * 60])
@pytest.mark.parametrize("more", [b"", b"y" * 5000])
def test_a_long_name_is_refused_once(line: bytes, more: bytes) -> None:
    assert Talk().hear(line + more + b"\nuser joe\n") == [LONG_USER]


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        (b"pass  x y ", b"x y "),
        (b"PASS x", b"x"),
        (b"pass " + b"x" * 123, b"x" * 123),
        (b"pass \xff\xfe", b"\xff\xfe"),
    ],
)
def test_passwords(line: bytes, secret: bytes) -> None:
    talk = Talk()
    talk.hear(b"user joe\n", line + b"\n")
    assert talk.asked[0] == (AUTHENTICATE, (b"joe", secret))


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"pass", NO_PASS),
        (b"pass  ", NO_PASS),
        (b"quit", NO_PASS),
        (b"user joe", NO_PASS),
        (b"", NO_PASS),
        (b"pass " + b"x" * 124, LONG_PASS),
        (b"pass " + b"x" * 5000, LONG_PASS),
        (b"pass a\0b", LONG_PASS),
    ],
)
def test_no_password_no_question(line: bytes, reply: bytes) -> None:
    talk = Talk()
    assert talk.hear(b"user joe\n" + line + b"\nnewpass x\n") == [USER, reply]
    assert talk.asked == []


@pytest.mark.parametrize(
    ("code", "reply", "leaves"),
    [
        (EXIT_REFUSED, WRONG, EXIT_REFUSED),
        (EXIT_TEMPORARY, b"500 Server error, try again later.\r\n", EXIT_TEMPORARY),
        (EXIT_HARD, b"500 Server error, try again later.\r\n", EXIT_TEMPORARY),
    ],
)
def test_a_wrong_password_ends_it(code: int, reply: bytes, leaves: int) -> None:
    talk = Talk(first=(code, b"a reason that is not for the client"))
    assert talk.hear(b"user joe\npass x\nnewpass y\nquit\n") == [USER, reply]
    assert talk.closed == [(leaves, "refused")]
    assert len(talk.asked) == 1


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"quit", NO_NEW),
        (b"newpass", NO_NEW),
        (b"newpass   ", NO_NEW),
        (b"pass x", NO_NEW),
        (b"", NO_NEW),
        (b"newpass " + b"x" * 124, LONG_PASS),
        (b"newpass " + b"x" * 129, LONG_PASS),
        (b"newpass " + b"x" * 5000, LONG_PASS),
        (b"newpass a\0b", LONG_PASS),
        (b"newpass a\rb", LONG_PASS),
    ],
)
def test_a_new_password_is_taken_whole_or_not_at_all(line: bytes, reply: bytes) -> None:
    talk = Talk()
    assert talk.hear(b"user u\npass x\n" + line + b"\nquit\n") == [USER, PASS, reply]
    assert len(talk.asked) == 1


def test_the_longest_new_password_is_the_longest_old_one() -> None:
    talk = Talk()
    longest = b"x" * 123
    talk.hear(b"user u\npass " + longest + b"\nnewpass " + longest + b"\n")
    assert [fields[-1] for _, fields in talk.asked] == [longest, longest]


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (b"", FAILED + b"\r\n"),
        (b"You must choose.", FAILED + b": You must choose.\r\n"),
        (b"two\nlines\r\n200 ok\x1b[", FAILED + b": two lines 200 ok [\r\n"),
        (b"x" * 900, FAILED + b": " + b"x" * 400 + b"\r\n"),
        (b"zu kurz, sch\xc3\xa4m dich", FAILED + b": zu kurz, sch\xc3\xa4m dich\r\n"),
    ],
)
def test_a_refused_change_is_told_in_one_line(text: bytes, reply: bytes) -> None:
    talk = Talk(second=(EXIT_REFUSED, text))
    assert talk.hear(b"user joe\npass x\nnewpass y\nquit\n") == [USER, PASS, reply]
    assert talk.closed == [(EXIT_REFUSED, "refused")]


@pytest.mark.parametrize("line", [b"quit", b"QUIT", b"quitter", b"quit now"])
def test_a_farewell(line: bytes) -> None:
    talk = Talk()
    said = talk.hear(b"user joe\npass x\nnewpass y\n" + line + b"\n")
    assert said[-1] == BYE
    assert talk.closed == [(0, "quit")]


@pytest.mark.parametrize("line", [b"foo\n", b"\n", b"", b"qui\n", b"q" * 2000 + b"\n"])
def test_no_farewell(line: bytes) -> None:
    talk = Talk()
    said = talk.hear(b"user joe\npass x\nnewpass y\n" + line)
    assert said[-2:] == [NEWPASS, NO_QUIT]
    assert talk.closed == [(EXIT_REFUSED, "refused")]


def test_the_last_line_needs_no_end() -> None:
    assert Talk().hear(b"user joe\npass x\nnewpass y\nquit")[-1] == BYE
    assert Talk().hear(b"user joe") == [USER, NO_PASS]


def test_a_silent_client_is_told_and_left() -> None:
    talk = Talk()
    talk.hear(b"user joe\npa", is_whole=False)
    talk.do(talk.session.lost("timeout"))
    assert talk.said[-1].startswith(b"421 ")
    assert talk.closed == [(EXIT_TEMPORARY, "timeout")]


def test_limits_are_told_as_they_are() -> None:
    talk = Talk(user_octets=100, password_octets=300)
    assert talk.hear(b"user " + b"x" * 96 + b"\n") == [
        b"500 Username too long (max 100).\r\n"
    ]
    talk = Talk(user_octets=100, password_octets=300)
    line = b"pass " + b"x" * 296 + b"\n"
    assert talk.hear(b"user " + b"x" * 95 + b"\n", line) == [
        USER,
        b"500 Password length exceeded (max 300).\r\n",
    ]


def test_tls_first_where_there_is_any() -> None:
    talk = Talk(has_stls=True, needs_tls=True)
    said = talk.hear(b"STLS\r\nuser mallory\r\n", is_whole=False)
    assert said == [b"200 Begin TLS negotiation.\r\n"]
    assert talk.others == [StartTls()]
    talk.do(talk.session.tls_started())
    assert talk.hear(b"user joe\npass x\n", is_whole=False)[1:] == [USER, PASS]
    assert talk.asked == [(AUTHENTICATE, (b"joe", b"x"))]


def test_no_tls_where_there_is_none_and_no_name_without_it() -> None:
    assert Talk().hear(b"stls\n") == [NO_USER]
    assert Talk(has_stls=True, needs_tls=True).hear(b"user joe\n") == [
        b"500 Encryption required, start TLS first.\r\n"
    ]
    talk = Talk(has_stls=True)
    talk.hear(b"stls\n", is_whole=False)
    talk.do(talk.session.tls_failed())
    assert talk.closed == [(EXIT_TEMPORARY, "tls-failed")]


@given(st.binary(max_size=300), st.integers(0, 2), st.integers(0, 2))
def test_whatever_comes_is_answered_in_whole_lines(
    octets: bytes, first: int, second: int
) -> None:
    """At most one reply a step, each one line, and an end."""
    codes = (0, EXIT_REFUSED, EXIT_TEMPORARY)
    talk = Talk(first=(codes[first], octets), second=(codes[second], octets))
    lines = b"user joe\npass x\n" + octets + b"\nquit\n"
    said = talk.hear(lines)
    assert 1 <= len(said) <= 4
    for reply in said:
        assert reply[:4] in (b"200 ", b"500 ")
        assert reply.endswith(b"\r\n")
        assert reply.count(b"\n") == reply.count(b"\r") == 1
    assert len(talk.closed) == 1
