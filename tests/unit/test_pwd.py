# SPDX-License-Identifier: ISC
"""The dialogue of PWD: transcripts, every reply of its own, and what a log may see."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import (
    EXIT_DONE,
    EXIT_EXPIRED,
    EXIT_HARD,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
)
from qtools.protocol import digests
from qtools.sessions import pwd_errands
from qtools.sessions.actions import Action, Ask, Close, Log, Send, StartTls
from qtools.sessions.policy import Policy
from qtools.sessions.pwd import Pwd

STAMP = b"<50.1733950486@mail.example.com>"
GREETING = "200 mail.example.com PWD Server ready\r\n"
OPEN = Policy(attempts=3, mechanisms=(b"PLAIN", b"LOGIN", b"CRAM-MD5"))
APOP = Policy(apop=True, mechanisms=(b"CRAM-MD5",))

# What the other side answers, by errand.
ANSWERS: dict[tuple[object, ...], tuple[int, bytes]] = {
    (pwd_errands.LOGIN, b"User", b"joe", b"secret"): (EXIT_DONE, b""),
    (pwd_errands.LOGIN, b"User", b"joe", b" two words "): (EXIT_DONE, b""),
    (pwd_errands.LOGIN, b"User", b"old", b"secret"): (EXIT_EXPIRED, b""),
    (pwd_errands.LOGIN, b"User", b"slow", b"secret"): (EXIT_TEMPORARY, b""),
    (pwd_errands.LOGIN, b"User", b"odd", b"secret"): (EXIT_HARD, b""),
    (pwd_errands.LOGIN, b"Plain", b"joe", b"secret"): (EXIT_DONE, b""),
    (pwd_errands.LOGIN, b"Login", b"joe", b"secret"): (EXIT_DONE, b""),
    (pwd_errands.LOGIN, b"Apop", b"joe", digests.apop(STAMP, b"secret")): (
        EXIT_DONE,
        b"",
    ),
    (pwd_errands.LOGIN, b"Cram-Md5", b"joe", digests.cram_md5(STAMP, b"secret")): (
        EXIT_DONE,
        b"",
    ),
    (pwd_errands.SCRAM_FIRST, b"Scram-Sha-256", b"n,,n=joe,r=abc"): (
        EXIT_DONE,
        b"r=abcdef",
    ),
    (pwd_errands.SCRAM_FINAL, b"c=biws,r=abcdef,p=eA=="): (EXIT_DONE, b"v=eA=="),
    (pwd_errands.EXECUTE, b"ListDomains"): (EXIT_DONE, b'201 ("a.b")'),
    (pwd_errands.EXECUTE, b"DeleteAccount ann"): (EXIT_DONE, b"513 unknown account"),
    (pwd_errands.EXECUTE, b"MainDomainName"): (EXIT_TEMPORARY, b""),
    (pwd_errands.EXECUTE, b"GetAccount joe"): (EXIT_DONE, b"201 {}"),
    (pwd_errands.CHANGE, b"new one"): (EXIT_DONE, b""),
    (pwd_errands.CHANGE, b"kept"): (EXIT_REFUSED, b"not allowed"),
    (pwd_errands.CHANGE, b"late"): (EXIT_TEMPORARY, b"disk full"),
}


class Talk:
    """A dialogue whose errands are answered from the dictionary, by lines."""

    def __init__(self, policy: Policy = OPEN, *, is_traced: bool = False) -> None:
        self.session = Pwd(STAMP, policy, b"mail.example.com", is_traced=is_traced)
        self.asked: list[Ask] = []
        self.logged: list[bytes] = []
        self.closed: Close | None = None
        self.tls_works = True
        self.greeting = self.perform(self.session.greet())

    def perform(self, actions: list[Action]) -> str:
        """Perform the actions, those that follow from one before the next."""
        said = b""
        left = list(reversed(actions))
        while left and self.closed is None:
            action = left.pop()
            if isinstance(action, Send):
                said += action.data
            elif isinstance(action, Close):
                self.closed = action
            elif isinstance(action, Log):
                self.logged.append(action.user)
            elif isinstance(action, Ask):
                self.asked.append(action)
                key = (action.kind, *action.fields)
                answer = ANSWERS.get(key, (EXIT_REFUSED, b""))
                left += reversed(self.session.answered(*answer))
            elif isinstance(action, StartTls):
                works = self.tls_works
                session = self.session
                left += session.tls_started() if works else session.tls_failed()
            else:
                pytest.fail(f"nobody performs {action}")
        return said.decode()

    def say(self, *lines: bytes) -> str:
        """Say some lines at once and give the replies to them."""
        return self.perform(self.session.feed(b"".join(line + b"\n" for line in lines)))


def logged_in(*, is_traced: bool = False) -> Talk:
    talk = Talk(is_traced=is_traced)
    assert talk.say(b"USER joe", b"PASS secret").endswith("200 login OK\r\n")
    return talk


def test_the_guides_own_session() -> None:
    talk = Talk()
    assert talk.greeting == GREETING
    assert talk.say(b"USER joe") == "300 please send the PASS\r\n"
    assert talk.say(b"PASS secret") == "200 login OK\r\n"
    assert talk.say(b"ListDomains") == '200 data follow\r\n("a.b")\r\n'
    assert talk.say(b"inline") == "200 OK\r\n"
    assert talk.say(b"ListDomains") == '201 ("a.b")\r\n'
    assert talk.say(b"DeleteAccount ann") == "513 unknown account\r\n"
    assert talk.say(b"NEWPASS new one") == "200 password changed\r\n"
    assert talk.say(b"QUIT") == "200 PWD connection closed\r\n"
    assert talk.closed == Close(EXIT_DONE, "quit")


def test_the_banner_is_one_and_the_last() -> None:
    greeting = Talk(APOP).greeting
    assert greeting == f"{GREETING[:-2]} {STAMP.decode()}\r\n"
    assert Talk(OPEN).greeting.count("<") == 0
    session = Pwd(STAMP, APOP, b"<a><b>")
    assert session.greet() == [Send(b"200 ab PWD Server ready " + STAMP + b"\r\n")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([b"USER"], "501 wrong arguments"),
        ([b"USER  "], "501 wrong arguments"),
        ([b"PASS secret"], "501 send the USER first"),
        ([b"USER joe", b"PASS wrong"], "500 incorrect password or account name"),
        ([b"USER joe", b"PASS  two words "], "200 login OK"),
        ([b"user joe ", b"pass secret\r"], "200 login OK"),
        ([b"USER old", b"PASS secret"], "500 password expired"),
        ([b"USER slow", b"PASS secret"], "400 temporary failure, try again later"),
        ([b"USER odd", b"PASS secret"], "400 temporary failure, try again later"),
        ([b"ListDomains"], "501 log in first"),
        ([b"NEWPASS x"], "501 log in first"),
        ([b""], "501 log in first"),
        ([b"STLS"], "501 STLS is not available"),
        ([b"APOP joe " + b"0" * 32], "501 APOP is not available"),
        ([b"AUTH"], '("PLAIN","LOGIN","CRAM-MD5")'),
        ([b"AUTH FOO"], "501 unknown mechanism"),
        ([b"AUTH CRAM-MD5 eA=="], "501 wrong arguments"),
        ([b"AUTH PLAIN AGpvZQBzZWNyZXQ="], "200 login OK"),
        ([b"AUTH PLAIN AGpvZQB3cm9uZw=="], "500 incorrect password or account name"),
        ([b"AUTH PLAIN", b"AGpvZQBzZWNyZXQ="], "200 login OK"),
        ([b"AUTH PLAIN", b"*"], "501 authentication cancelled"),
        ([b"AUTH PLAIN", b"#"], "501 not a response of this mechanism"),
        ([b"AUTH PLAIN", b"\0"], "501 not a response of this mechanism"),
        ([b"AUTH LOGIN", b"am9l", b"c2VjcmV0"], "200 login OK"),
        ([b"NOOP"], "200 OK"),
        ([b"NOOP x"], "501 wrong arguments"),
        ([b"x" * 300], "501 a line too long, or with a NUL in it"),
        ([b"USER j\0e"], "501 a line too long, or with a NUL in it"),
        ([b"QUIT"], "200 PWD connection closed"),
    ],
)
def test_what_is_said_before_login(lines: list[bytes], said: str) -> None:
    replies = Talk().say(*lines).splitlines()
    assert replies[-1] == said.replace('"PLAIN"', "PLAIN").replace('"LOGIN"', "LOGIN")


def test_digests_are_over_the_stamp_of_the_greeting() -> None:
    digest = digests.apop(STAMP, b"secret")
    assert Talk(APOP).say(b"APOP joe " + digest) == "200 login OK\r\n"
    assert Talk(APOP).say(b"APOP joe x") == "501 wrong arguments\r\n"
    talk = Talk(APOP)
    challenge = f"300 {b64encode(STAMP).decode()}\r\n"
    assert talk.say(b"AUTH CRAM-MD5") == challenge
    answer = b"joe " + digests.cram_md5(STAMP, b"secret")
    assert talk.say(b64encode(answer)) == "200 login OK\r\n"


def test_scram_is_a_dialogue_with_the_other_side() -> None:
    policy = Policy(mechanisms=(b"SCRAM-SHA-256",))

    def encoded(text: bytes) -> str:
        return f"300 {b64encode(text).decode()}\r\n"

    talk = Talk(policy)
    first = b64encode(b"n,,n=joe,r=abc")
    assert talk.say(b"AUTH SCRAM-SHA-256 " + first) == encoded(b"r=abcdef")
    proof = b64encode(b"c=biws,r=abcdef,p=eA==")
    assert talk.say(proof) == encoded(b"v=eA==")
    assert talk.say(b"") == "200 login OK\r\n"
    talk = Talk(policy)
    talk.say(b"AUTH SCRAM-SHA-256 " + first)
    assert talk.say(b"eA==") == "500 incorrect password or account name\r\n"
    talk = Talk(policy)
    talk.say(b"AUTH SCRAM-SHA-256 " + first)
    assert talk.say(b"*") == "501 authentication cancelled\r\n"
    talk.say(b"AUTH SCRAM-SHA-256 " + first, proof)
    assert talk.say(b"eA==") == "501 not a response of this mechanism\r\n"
    assert talk.say(b"ListDomains") == "501 log in first\r\n"


def test_refusals_are_counted() -> None:
    talk = Talk()
    for _ in range(2):
        talk.say(b"USER joe", b"PASS wrong")
        assert talk.closed is None
    talk.say(b"AUTH PLAIN AGpvZQB3cm9uZw==")
    assert talk.closed == Close(EXIT_REFUSED, "refused")


def test_tls_makes_a_fresh_start() -> None:
    talk = Talk(Policy(has_stls=True, tls_for="passwords", apop=True))
    assert talk.say(b"USER joe") == "501 start TLS first\r\n"
    assert talk.say(b"AUTH PLAIN") == "501 start TLS first\r\n"
    assert talk.say(b"AUTH") == "200 data follow\r\n()\r\n"
    said = talk.say(b"STLS", b"USER joe", b"PASS secret")
    assert said == "200 begin TLS negotiation\r\n"  # what came in the clear is gone
    assert talk.say(b"PASS secret") == "501 send the USER first\r\n"
    assert talk.say(b"STLS") == "501 STLS is not available\r\n"
    assert talk.say(b"USER joe", b"PASS secret").endswith("200 login OK\r\n")
    assert talk.say(b"STLS") == "501 not now\r\n"
    talk = Talk(Policy(has_stls=True))
    talk.tls_works = False
    talk.say(b"STLS")
    assert talk.closed == Close(EXIT_TEMPORARY, "tls-failed")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"USER joe", "501 not now"),
        (b"FOO", "501 unknown command"),
        (b"", "501 unknown command"),
        (b"NOOP", "200 OK"),
        (b"NOOP x", "501 too many arguments at octet 5"),
        (b"INLINE x", "501 too many arguments at octet 7"),
        (b"MainDomainName", "400 temporary failure, try again later"),
        (b"NEWPASS kept", "500 not allowed"),
        (b"NEWPASS late", "500 password not changed, try again later"),
        (b"NEWPASS", "500 password not changed"),
        (b"SetAccountPassword joe", "501 no TO at octet 22"),
        (b'SetAccountPassword joe TO "a"b"', "501 no blank behind an argument"),
        (b"UpdateAccount joe {a=" + b"(" * 10_000, "501 more than 64 levels"),
        (b"UpdateAccount joe {a=" + b"x" * 1_000_000, "501 a line too long"),
        (b"DeleteAccount a\0", "501 a line too long, or with a NUL in it"),
    ],
)
def test_what_is_said_after_login(line: bytes, said: str) -> None:
    talk = logged_in()
    reply = talk.say(line)
    assert reply.startswith(said)
    assert reply.count("\r\n") == 1
    asked = [ask.kind for ask in talk.asked]
    is_errand = said[:3] in ("400", "500")
    assert asked == [pwd_errands.LOGIN, *asked[1:]]
    assert len(asked) == 1 + is_errand


def test_the_end_of_the_input_and_silence() -> None:
    talk = Talk()
    talk.perform(talk.session.lost("eof"))
    assert talk.closed == Close(EXIT_DONE, "eof")
    talk = Talk()
    said = talk.perform(talk.session.lost("timeout"))
    assert said == "400 too long silent, closing the connection\r\n"
    assert talk.closed == Close(EXIT_TEMPORARY, "timeout")


def test_a_traced_dialogue_shows_lines_without_secrets() -> None:
    talk = logged_in(is_traced=True)
    talk.say(b"NEWPASS secret")
    talk.say(b'SetAccountPassword ann TO "secret"', b"SetAccountPaswd ann secret")
    talk.say(b"UpdateAccount ann {Password=secret;}", b"ListDomains")
    shown = b"\n".join(talk.logged)
    assert b"secret" not in shown
    assert b"USER joe" in talk.logged
    assert b"PASS <hidden>" in talk.logged
    assert b"NEWPASS <hidden>" in talk.logged
    assert b"SetAccountPassword ann TO <hidden>" in talk.logged
    assert b"ListDomains" in talk.logged
    other = Talk(is_traced=True)
    other.say(b"PASSsecret", b" PASS secret", b"pass\tsecret", b"USER joe secret")
    other.say(b"AUTH PLAIN c2VjcmV0", b"AUTH PLAIN", b"c2VjcmV0", b"APOP joe secret")
    shown = b"\n".join(other.logged)
    assert b"c2VjcmV0" not in shown
    assert shown.count(b"secret") == 1  # of the name that it was taken for


LINES = st.sampled_from(
    [
        *(b"USER joe", b"PASS secret", b"NOOP", b"AUTH", b"AUTH PLAIN", b"*"),
        *(b"INLINE", b"ListDomains", b"NEWPASS new one", b"STLS", b"QUIT", b""),
        *(b"x", b"\xff\0("),
    ]
)


@given(st.lists(LINES, max_size=12), st.data())
def test_chunking_never_changes_the_replies(
    lines: list[bytes], data: st.DataObject
) -> None:
    text = b"".join(line + b"\r\n" for line in lines)
    whole, parts = Talk(), Talk()
    expected = whole.perform(whole.session.feed(text))
    said = ""
    while text:
        length = data.draw(st.integers(1, len(text)))
        piece, text = text[:length], text[length:]
        said += parts.perform(parts.session.feed(piece))
    assert said == expected


@given(text=st.binary(max_size=200), is_in=st.booleans())
def test_any_octets_get_replies_of_one_shape(*, text: bytes, is_in: bool) -> None:
    talk = logged_in() if is_in else Talk()
    lines = [line for line in text.split(b"\n") if b"AUTH" not in line.upper()]
    replies = talk.say(*lines).split("\r\n")
    assert replies.pop() == ""
    assert all(reply[:3].isdigit() and reply[3] == " " for reply in replies)
    if talk.closed is None:
        assert len(replies) == len(lines)
