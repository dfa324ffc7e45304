# SPDX-License-Identifier: ISC
"""What a policy changes in the words of a dialogue, the dialogue being the same."""

import pytest

from qtools.sessions.actions import Action, Close, Send, Trace
from qtools.sessions.login import Login
from qtools.sessions.policy import VERDICTS, Policy

STAMP = b"<1.2@mx.example>"
DIGEST = b"0123456789abcdef" * 2


def talk(session: Login, *lines: bytes) -> list[Action]:
    return [act for line in lines for act in session.feed(line + b"\r\n")]


def said(actions: list[Action]) -> bytes:
    return b"".join(action.data for action in actions if isinstance(action, Send))


@pytest.mark.parametrize("line", [b"USER joe", b"NOOP", b"UTF8", b"QUIT"])
def test_a_bare_reply_has_three_characters(line: bytes) -> None:
    assert said(talk(Login(STAMP, Policy(is_bare=True)), line)) == b"+OK\r\n"
    assert said(talk(Login(STAMP, Policy()), line)) == b"+OK \r\n"


@pytest.mark.parametrize("line", [b"CAPA", b"AUTH"])
def test_a_bare_list_has_a_bare_first_line(line: bytes) -> None:
    bare = said(talk(Login(STAMP, Policy(is_bare=True)), line))
    usual = said(talk(Login(STAMP, Policy()), line))
    assert bare.startswith(b"+OK\r\n")
    assert bare.partition(b"\r\n")[2] == usual.partition(b"\r\n")[2]


@pytest.mark.parametrize("code", [*VERDICTS, 77, -9])
def test_only_a_wrong_password_is_told_in_other_words(code: int) -> None:
    replies = []
    for policy in (Policy(attempts=9), Policy(attempts=9, refusal=b"login incorrect")):
        session = Login(STAMP, policy)
        talk(session, b"USER joe", b"PASS x")
        replies.append(said(session.verdict(code)))
    usual, other = replies
    assert other == usual.replace(b"authorization failed", b"login incorrect")
    assert (other == usual) is (code != 1)


def test_junk_has_a_limit_where_it_is_wanted() -> None:
    session = Login(STAMP, Policy(junk_limit=3))
    actions = talk(session, b"STAT", b"NOOP", b"\0", b"USER", b"XYZ")
    assert said(actions).count(b"-ERR") == 4  # USER is a command, if not a whole one
    assert actions[-1] == Close(1, "junk")
    assert talk(session, b"NOOP") == []


def test_without_a_limit_junk_goes_on() -> None:
    session = Login(STAMP, Policy())
    assert said(talk(session, *[b"x"] * 1000)).count(b"-ERR") == 1000
    assert session.is_open


def test_a_trace_shows_lines_and_no_secret() -> None:
    session = Login(STAMP, Policy(apop=True, is_traced=True, attempts=9))
    lines = [b"CAPA", b"USER joe", b" pass hunter2", b"AUTH PLAIN", b"aHVudGVyMg=="]
    actions = talk(session, *lines, b"APOP joe " + DIGEST)
    assert [act.line for act in actions if isinstance(act, Trace)] == [
        *(b"CAPA", b"USER joe", b"PASS <hidden>", b"AUTH <hidden>", b"<hidden>"),
        b"APOP <hidden>",
    ]


@pytest.mark.parametrize("refused", [b"AUTH LOGIN2", b"AUTH CRAM-MD5 =", b"AUTH LOGIN"])
def test_what_follows_a_refused_auth_is_not_shown(refused: bytes) -> None:
    """A client that goes on all the same sends name and password, in base64."""
    policy = Policy(is_traced=True, attempts=9, mechanisms=(b"CRAM-MD5",))
    actions = talk(Login(STAMP, policy), refused, b"am9l", b"c2VjcmV0")
    assert [act.line for act in actions if isinstance(act, Trace)] == [
        *(b"AUTH <hidden>", b"<unknown>", b"<unknown>")
    ]


def test_nothing_is_traced_unasked() -> None:
    actions = talk(Login(STAMP, Policy()), b"NOOP", b"XYZ")
    assert not [act for act in actions if isinstance(act, Trace)]
