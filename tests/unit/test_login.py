# SPDX-License-Identifier: ISC
"""The AUTHORIZATION state: properties, a model, and the grammar's edges."""

from base64 import b64encode
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import replies, sasl
from qtools.sessions.actions import (
    Action,
    Close,
    Log,
    Respond,
    Send,
    StartTls,
    Verify,
    Wait,
    Withdraw,
)
from qtools.sessions.login import VERBS, Login, lasting_capabilities
from qtools.sessions.policy import Policy
from tests.unit.loginmodel import Model, Options, Words, outcome

# With many examples hypothesis compares its own cache's keys, octets with numbers.
pytestmark = pytest.mark.filterwarnings(
    "ignore::BytesWarning:hypothesis.internal.cache"
)

STAMP = b"<1.2.abc@mx.example>"
DIGEST = b"0123456789abcdef" * 2
ALL_MECHANISMS = tuple(sasl.MECHANISMS)

OPTIONS = st.builds(
    Options,
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(ALL_MECHANISMS), unique=True).map(tuple),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "passwords", "all"]),
    st.integers(1, 5),
    st.sampled_from([b"", b"b" * 32]),
)

PLAIN_ANSWERS = (b"\0joe\0secret", b"joe\0joe\0x", b"ann\0joe\0x", b"\0joe\0", b"\0\0x")
SCRAM_ANSWERS = (
    *(b"n,,n=joe,r=x", b"y,,n=joe,r=x", b"p=tls-server-end-point,,n=joe,r=x,z=1"),
    *(
        b"n,a=joe,n=joe,r=x",
        b"n,a=ann,n=joe,r=x",
        b"n,,n=j=2Co=3D,r=x",
        b"n,,m=,n=j,r=x",
    ),
    *(b"n,,n=joe,r=" + b"x" * 490, b"n,,n=j=o,r=x", b"n,,n=joe,r=x,y", b"z" * 2049),
)
TOKEN_ANSWERS = (
    *(b"n,a=joe,\1host=h\1port=1\1auth=Bearer t\1\1", b"n,a=joe,\1auth=t\1\1"),
    *(
        b"user=joe\1auth=bearer t\1\1",
        b"user=joe\1auth=Bearer " + b"t" * 4096 + b"\1\1",
    ),
    *(
        b"n,,\1auth=Bearer t\1\1",
        b"p=x,a=joe,\1auth=Bearer t\1\1",
        b"user=joe\1\1",
        b"\1",
    ),
)
ANSWERS = (
    *(*PLAIN_ANSWERS, b"joe", b"", b"joe " + DIGEST, DIGEST, b"n" * 490, b"a\0b"),
    *(*SCRAM_ANSWERS, *TOKEN_ANSWERS),
)
ENCODED = tuple(b64encode(answer) for answer in ANSWERS)
LINES = st.one_of(
    st.sampled_from(
        [
            *(b"USER joe", b"user j o e", b"USER", b"USER  joe", b"USER " + b"u" * 248),
            *(b"PASS secret", b"PASS  x ", b"PASS", b"PASS ", b"PASS " + b"p" * 248),
            *(
                b"PASS " + b"p" * 249,
                b"NOOP",
                b"NOOP x",
                b"NOOP  ",
                b" NOOP",
                b"NOOP\tx",
            ),
            *(b"APOP joe " + DIGEST, b"APOP joe", b"APOP joe ", b"APOP  joe " + DIGEST),
            *(b"AUTH", b"AUTH PLAIN", b"AUTH LOGIN", b"auth cram-md5", b"AUTH SCRAM"),
            *(b"AUTH PLAIN =", b"AUTH CRAM-MD5 =", b"AUTH PLAIN *", b"AUTH PLAIN x y"),
            *(b"*", b"=", b"!", b"CAPA", b"CAPA x", b"STLS", b"STLS x", b"UTF8", b""),
            *(b"LANG", b"LANG de", b"LANG *", b"LANG fr", b"LANG  en", b"QUIT now"),
            *(b"STAT", b"NO\0OP", b"NOOP\r", b"QUIT", b"x" * 13000),
            *(b"AUTH PLAIN " + word for word in ENCODED),
            *(b"AUTH LOGIN " + word for word in ENCODED),
            *(b"AUTH SCRAM-SHA-256", b"AUTH XOAUTH2", b"AUTH OAUTHBEARER ="),
            *(b"AUTH SCRAM-SHA-256 " + b64encode(word) for word in SCRAM_ANSWERS),
            *(b"AUTH SCRAM-SHA-256-PLUS " + b64encode(word) for word in SCRAM_ANSWERS),
            *(b"AUTH OAUTHBEARER " + b64encode(word) for word in TOKEN_ANSWERS),
            *(b"AUTH XOAUTH2 " + b64encode(word) for word in TOKEN_ANSWERS),
            *ENCODED,
        ]
    ),
    st.binary(max_size=30).filter(lambda line: b"\n" not in line),
)
SCENES = st.one_of(
    LINES.map(lambda line: (line,)),
    st.tuples(
        st.sampled_from([b"AUTH SCRAM-SHA-256", b"AUTH SCRAM-SHA-256-PLUS"]),
        st.sampled_from([b64encode(word) for word in SCRAM_ANSWERS]),
        st.sampled_from([*ENCODED, b"", b"*", b"!"]),
    ),
    st.tuples(
        st.sampled_from([b"AUTH OAUTHBEARER", b"AUTH XOAUTH2"]),
        st.sampled_from([b64encode(word) for word in TOKEN_ANSWERS]),
        st.sampled_from([b"", b"AQ==", b"*", b"!", b"QUIT"]),
    ),
)
STEPS = st.lists(
    st.tuples(SCENES, st.sampled_from([1, 2, 100, 111, 3, 0, -9]), st.booleans()),
    max_size=15,
).map(lambda scenes: [(line, *more) for lines, *more in scenes for line in lines])


def login(options: Options | None = None) -> Login:
    return Login(STAMP, (options or Options()).policy())


def said(actions: list[Action]) -> bytes:
    """Give what the client reads."""
    return b"".join(action.data for action in actions if isinstance(action, Send))


def talk(session: Login, *lines: bytes) -> list[Action]:
    actions: list[Action] = []
    for line in lines:
        actions += session.feed(line + b"\r\n")
    return actions


@given(OPTIONS, STEPS)
def test_the_session_equals_the_model(
    options: Options, steps: list[tuple[bytes, int, bool]]
) -> None:
    session, model = login(options), Model(options, STAMP)
    for line, code, is_lucky in steps:
        if model.is_over:
            assert session.feed(line + b"\r\n") == []
            return
        expected = model.line(line)
        found = outcome(session.feed(line + b"\r\n"))
        assert found == expected, line
        last = expected[-1]
        if isinstance(last, tuple) and last[0] in ("verify", "respond"):
            is_dialogue = last[0] == "respond" or last[1].startswith("Scram")
            if is_dialogue and is_lucky:
                assert outcome(session.challenged(b"r=1")) == model.challenged()
            else:
                assert outcome(session.verdict(code)) == model.verdict(code)
        elif last == ("tls",) and is_lucky:
            model.tls()
            assert session.tls_started() == []
        elif last == ("tls",):
            assert outcome(session.tls_failed()) == [("close", 111)]
            return


class Client:
    """Feeds a session and does at once what it asks for; keeps what was said."""

    def __init__(self, options: Options, codes: list[int]) -> None:
        self.session = login(options)
        self.codes = codes
        self.replies: list[bytes] = []
        self.done: list[Action] = []

    def feed(self, chunk: bytes) -> None:
        self.perform(self.session.feed(chunk))

    def perform(self, actions: list[Action]) -> None:
        self.done += [action for action in actions if not isinstance(action, Wait)]
        self.replies += [act.data for act in actions if isinstance(act, Send)]
        asked = [act for act in actions if isinstance(act, Verify | Respond | StartTls)]
        assert actions[-1:] == asked or not asked
        for action in asked:
            if isinstance(action, Verify) and action.mechanism.startswith("Scram"):
                self.perform(self.session.challenged(b"r=1"))
            elif isinstance(action, Verify | Respond):
                code = self.codes.pop() if self.codes else 1
                self.perform(self.session.verdict(code))


STREAMS = st.lists(
    st.one_of(LINES.map(lambda line: line + b"\r\n"), st.binary(max_size=8)),
    max_size=12,
).map(b"".join)


@given(
    OPTIONS.map(lambda options: options._replace(has_stls=False)),
    STREAMS,
    st.lists(st.integers(0, 20_000), max_size=8),
    st.lists(st.sampled_from([1, 2, 100, 111, -9])),
)
def test_chunking_never_changes_the_result_and_each_line_gets_one_reply(
    options: Options, stream: bytes, cuts: list[int], codes: list[int]
) -> None:
    whole, pieces, bytewise = (Client(options, codes.copy()) for _ in range(3))
    whole.feed(stream)
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        pieces.feed(stream[start:end])
    for octet in stream:
        bytewise.feed(bytes([octet]))
    assert whole.done == pieces.done == bytewise.done
    if whole.session.is_open:
        assert len(whole.replies) == stream.count(b"\n")
    else:
        assert len(whole.replies) <= stream.count(b"\n")
    for reply in whole.replies:
        assert reply.endswith(b"\r\n")
        is_list = reply.endswith(b"\r\n.\r\n")
        assert is_list or (len(reply) <= replies.REPLY_OCTETS)
        assert is_list or reply.count(b"\n") == 1
        assert reply.startswith((b"+OK", b"-ERR ", b"+ "))


def combinations() -> list[Options]:
    mechanisms = ((), (b"CRAM-MD5",), (b"PLAIN", b"LOGIN"), ALL_MECHANISMS)
    switches = (False, True)
    return [
        Options(*columns)
        for columns in product(
            switches, switches, mechanisms, switches, switches, ("", "passwords", "all")
        )
    ]


def is_taken(options: Options, *lines: bytes) -> bool:
    """Tell whether lines of a command are carried out to their last."""
    actions = talk(login(options), *lines)
    last = [act for act in actions if isinstance(act, Send | Verify | StartTls)][-1]
    return not isinstance(last, Send) or last.data.startswith(b"+")


def capabilities(session: Login) -> list[bytes]:
    reply = said(talk(session, b"CAPA"))
    assert reply.startswith(b"+OK")
    return reply.split(b"\r\n")[1:-2]


@pytest.mark.parametrize("options", combinations())
def test_what_capa_lists_is_what_is_accepted(options: Options) -> None:
    listed = capabilities(login(options))
    assert is_taken(options, b"USER joe", b"PASS x") is (b"USER" in listed)
    assert is_taken(options, b"APOP joe " + DIGEST) is (b"APOP" in listed)
    assert is_taken(options, b"STLS") is (b"STLS" in listed)
    (words,) = [line.split() for line in listed if line.startswith(b"SASL")] or [[]]
    for name in ALL_MECHANISMS:
        assert is_taken(options, b"AUTH " + name) is (name in words)
    assert is_taken(options, b"AUTH") is bool(words)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("options", combinations())
def test_the_greeting_has_the_stamp_when_apop_can_be_accepted(options: Options) -> None:
    """APOP that waits for TLS needs the stamp as well: there is no second greeting."""
    session = login(options)
    greeting = said(session.greet())
    is_listed = b"APOP" in capabilities(session)
    if b"STLS" in capabilities(session):
        talk(session, b"STLS")
        session.tls_started()
        is_listed |= b"APOP" in capabilities(session)
    assert greeting == (b"+OK " + STAMP + b"\r\n" if is_listed else b"+OK\r\n")


@pytest.mark.parametrize("options", combinations())
def test_after_stls_the_list_is_asked_anew(options: Options) -> None:
    session = login(options._replace(has_stls=True, is_tls=False))
    talk(session, b"STLS")
    session.tls_started()
    assert capabilities(session) == capabilities(login(options._replace(is_tls=True)))


def test_capa_is_one_piece() -> None:
    assert len(talk(login(), b"CAPA")) == 1


def test_capa_lists_what_is_standing() -> None:
    listed = capabilities(login(Options(apop=True, has_stls=True)))
    assert listed == [
        *(b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING"),
        *(b"USER", b"APOP", b"SASL PLAIN LOGIN", b"STLS", b"UTF8 USER", b"LANG"),
    ]


def test_what_capa_must_still_say_after_login() -> None:
    policy = Options(apop=True, has_stls=True).policy()
    assert lasting_capabilities(policy) == [b"USER", b"SASL PLAIN LOGIN"]
    closed = Options(tls_for="all").policy()
    assert lasting_capabilities(closed) == []


# The lines before, the line, what is said to it.
TRANSCRIPT = [
    ([], b"NOOP", b"+OK \r\n"),
    ([], b"noop", b"+OK \r\n"),
    ([], b"NOOP x", b"-ERR syntax error\r\n"),
    ([], b"NOOP\tx", b"-ERR authorization first\r\n"),
    ([], b" NOOP", b"-ERR authorization first\r\n"),
    ([], b"NOOP\r", b"-ERR authorization first\r\n"),
    ([], b"NO\0OP", b"-ERR syntax error\r\n"),
    ([], b"NOOP\0junk", b"-ERR syntax error\r\n"),
    ([], b"", b"-ERR authorization first\r\n"),
    ([], b"STAT", b"-ERR authorization first\r\n"),
    ([], b"USER", b"-ERR syntax error\r\n"),
    ([], b"USER ", b"-ERR syntax error\r\n"),
    ([], b"USER  ", b"-ERR syntax error\r\n"),
    ([], b"USER a b", b"+OK \r\n"),
    ([], b"PASS x", b"-ERR USER first\r\n"),
    ([b"USER joe"], b"PASS", b"-ERR syntax error\r\n"),
    ([b"USER joe"], b"PASS ", b"-ERR syntax error\r\n"),
    ([], b"APOP joe " + DIGEST, b"-ERR APOP not available\r\n"),
    ([], b"STLS", b"-ERR STLS not available\r\n"),
    ([], b"AUTH", b"+OK \r\nPLAIN\r\nLOGIN\r\n.\r\n"),
    ([], b"AUTH SCRAM-SHA-1", b"-ERR unknown mechanism\r\n"),
    ([], b"AUTH CRAM-MD5", b"-ERR unknown mechanism\r\n"),
    ([], b"AUTH PLAIN", b"+ \r\n"),
    ([], b"AUTH login", b"+ VXNlcm5hbWU6\r\n"),
    ([b"AUTH LOGIN"], b"am9l", b"+ UGFzc3dvcmQ6\r\n"),
    ([b"AUTH LOGIN"], b"*", b"-ERR authentication cancelled\r\n"),
    ([b"AUTH PLAIN"], b"not base64", b"-ERR syntax error\r\n"),
    ([b"AUTH PLAIN"], b"", b"-ERR syntax error\r\n"),
    ([], b"AUTH PLAIN =", b"-ERR syntax error\r\n"),
    ([], b"AUTH PLAIN AGEAYg== x", b"-ERR syntax error\r\n"),
    ([b"AUTH PLAIN", b"*"], b"NOOP", b"+OK \r\n"),
    ([], b"UTF8", b"+OK \r\n"),
    ([], b"UTF8 x", b"-ERR syntax error\r\n"),
    ([], b"LANG", b"+OK language listing follows\r\nen English\r\nde Deutsch\r\n.\r\n"),
    ([], b"LANG de", b"+OK de Sprache gewechselt\r\n"),
    ([b"LANG de"], b"STAT", b"-ERR zuerst anmelden\r\n"),
    ([b"LANG de", b"LANG fr"], b"STAT", b"-ERR zuerst anmelden\r\n"),
    ([], b"QUIT", b"+OK \r\n"),
    ([], b"QUIT now", b"-ERR syntax error\r\n"),
]


@pytest.mark.parametrize(("before", "line", "reply"), TRANSCRIPT)
def test_transcript(before: list[bytes], line: bytes, reply: bytes) -> None:
    session = login()
    talk(session, *before)
    assert said(talk(session, line)) == reply


# The lines, and the record and mechanism that follow.
RECORDS = [
    ([b"USER joe", b"PASS secret"], b"joe\0secret", "User"),
    ([b"USER joe", b"PASS  se cret "], b"joe\0 se cret ", "User"),
    ([b"USER j o e", b"PASS x\r"], b"j o e\0x\r", "User"),
    ([b"USER joe", b"USER ann", b"PASS x"], b"ann\0x", "User"),
    ([b"USER joe", b"USER", b"PASS x"], b"joe\0x", "User"),
    ([b"USER joe", b"PASS", b"PASS x"], b"joe\0x", "User"),
    ([b"USER \xe4\x1b", b"PASS \xff"], b"\xe4\x1b\0\xff", "User"),
    ([b"APOP joe " + DIGEST], b"joe\0" + DIGEST, "Apop"),
    ([b"AUTH PLAIN AGpvZQBzZWNyZXQ="], b"joe\0secret", "Plain"),
    ([b"AUTH PLAIN", b"AGpvZQBzZWNyZXQ="], b"joe\0secret", "Plain"),
    ([b"auth plain am9lAGpvZQBzZWNyZXQ="], b"joe\0secret", "Plain"),
    ([b"AUTH LOGIN", b"am9l", b"c2VjcmV0"], b"joe\0secret", "Login"),
    ([b"AUTH LOGIN am9l", b"c2VjcmV0"], b"joe\0secret", "Login"),
    (
        [b"AUTH CRAM-MD5", b64encode(b"joe " + DIGEST)],
        b"joe\0" + DIGEST,
        "Cram-Md5",
    ),
]
EVERYTHING = Options(apop=True, mechanisms=ALL_MECHANISMS)


@pytest.mark.parametrize(("lines", "fields", "mechanism"), RECORDS)
def test_the_record(lines: list[bytes], fields: bytes, mechanism: str) -> None:
    actions = talk(login(EVERYTHING), *lines)
    user = fields.split(b"\0")[0]
    record = fields + b"\0" + STAMP + b"\0"
    assert actions[-1] == Verify(record, mechanism, user)


def test_cram_md5_shows_the_stamp() -> None:
    challenge = said(talk(login(EVERYTHING), b"AUTH CRAM-MD5"))
    assert challenge == b"+ " + b64encode(STAMP) + b"\r\n"


def test_plain_for_somebody_else_is_refused() -> None:
    answer = b64encode(b"ann\0joe\0secret")
    assert said(talk(login(), b"AUTH PLAIN " + answer)) == b"-ERR syntax error\r\n"


@pytest.mark.parametrize("octets", [253, 254])
def test_a_command_has_255_octets_with_its_end(octets: int) -> None:
    session = login()
    reply = said(talk(session, b"USER " + b"u" * (octets - 5)))
    assert reply == (b"+OK \r\n" if octets == 253 else b"-ERR syntax error\r\n")


def test_the_limit_of_a_command_is_settable() -> None:
    session = Login(STAMP, Policy(line_octets=512))
    assert said(talk(session, b"USER " + b"u" * 505)) == b"+OK \r\n"


@pytest.mark.parametrize("octets", [12284, 12288])
def test_a_sasl_line_has_12288_octets_with_its_end(octets: int) -> None:
    session = login()
    talk(session, b"AUTH LOGIN")
    reply = said(talk(session, b"QUJD" * (octets // 4)))
    is_good = octets == 12284
    assert reply == (b"+ UGFzc3dvcmQ6\r\n" if is_good else b"-ERR syntax error\r\n")


def test_an_over_long_sasl_line_ends_the_exchange_with_one_reply() -> None:
    session = login()
    talk(session, b"AUTH PLAIN")
    assert said(session.feed(b"A" * 50_000)) == b""
    assert said(session.feed(b"A" * 50_000 + b"\r\n")) == b"-ERR syntax error\r\n"
    assert said(talk(session, b"NOOP")) == b"+OK \r\n"


def test_a_record_too_long_for_any_checker_is_a_wrong_password() -> None:
    session = login(Options(attempts=2))
    lines = b"USER " + b"u" * 248 + b"\r\nPASS " + b"p" * 248 + b"\r\n"
    actions = session.feed(lines * 3)
    assert not [action for action in actions if isinstance(action, Verify)]
    refusal = b"-ERR [AUTH] authorization failed\r\n"
    assert said(actions) == (b"+OK \r\n" + refusal) * 2
    assert actions[-1] == Close(1, "refused")


def test_thousands_of_refusals_are_no_error() -> None:
    session = Login(STAMP, Policy(attempts=5000))
    lines = b"USER " + b"u" * 248 + b"\r\nPASS " + b"p" * 248 + b"\r\n"
    assert session.feed(lines * 5000)[-1] == Close(1, "refused")


VERDICTS = [
    (1, b"-ERR [AUTH] authorization failed\r\n"),
    (2, b"-ERR [SYS/PERM] the server is not set up for you\r\n"),
    (100, b"-ERR [SYS/PERM] the server is not set up for you\r\n"),
    (111, b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"),
    (3, b"-ERR [AUTH] password expired\r\n"),
    (77, b"-ERR [SYS/TEMP] aack, child crashed\r\n"),
    (-9, b"-ERR [SYS/TEMP] aack, child crashed\r\n"),
]


@pytest.mark.parametrize(("code", "reply"), VERDICTS)
def test_a_verdict_is_one_reply_and_one_line(code: int, reply: bytes) -> None:
    session = login()
    talk(session, b"USER joe", b"PASS x")
    assert session.verdict(code) == [
        Log("Reject::AUTH", "User", b"joe", code),
        Send(reply),
    ]
    assert said(talk(session, b"PASS x")) == b"-ERR USER first\r\n"


def test_the_delay_doubles_and_is_bounded() -> None:
    session = Login(STAMP, Policy(attempts=10, delay_seconds=1.0))
    waits = []
    for _ in range(10):
        talk(session, b"USER joe", b"PASS x")
        actions = session.verdict(1)
        waits += [action.seconds for action in actions if isinstance(action, Wait)]
        assert actions.index(Wait(waits[-1])) < actions.index(Send(VERDICTS[0][1]))
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_after_so_many_refusals_it_is_over(attempts: int) -> None:
    session = login(Options(attempts=attempts))
    for left in reversed(range(attempts)):
        assert session.is_open
        talk(session, b"USER joe", b"PASS x")
        actions = session.verdict(1)
        assert (actions[-1] == Close(1, "refused")) is not left
    assert talk(session, b"NOOP") == []


def test_without_tls_a_login_is_refused_and_counted() -> None:
    session = login(Options(tls_for="all", has_stls=True, attempts=2))
    actions = talk(session, b"USER joe")
    assert actions == [
        Log("Reject::STLS", "Any", b"unknown"),
        Send(b"-ERR [AUTH] TLS required but not negotiated\r\n"),
    ]
    assert talk(session, b"CAPA", b"NOOP") != []
    assert talk(session, b"APOP joe x") == [Send(b"-ERR APOP not available\r\n")]
    assert talk(session, b"AUTH PLAIN")[-1] == Close(1, "refused")


def test_a_rule_for_passwords_leaves_digests_alone() -> None:
    options = EVERYTHING._replace(tls_for="passwords")
    assert is_taken(options, b"APOP joe " + DIGEST)
    assert is_taken(options, b"AUTH CRAM-MD5")
    assert not is_taken(options, b"USER joe")
    assert not is_taken(options, b"AUTH PLAIN")


def test_while_a_verdict_is_due_nothing_is_looked_at() -> None:
    session = login()
    talk(session, b"USER joe")
    assert session.feed(b"PASS x\r\nNOOP\r\nUSER ann\r\n")[1:] == []
    assert talk(session, b"QUIT") == []
    assert said(session.verdict(1)) == VERDICTS[0][1] + b"+OK \r\n" * 3


def test_after_an_accept_nothing_is_looked_at_and_all_of_it_can_be_had() -> None:
    session = login()
    session.feed(b"USER joe\r\nPASS x\r\nSTAT\r\nQU")
    assert session.accepted() == [Log("Accept::AUTH", "User", b"joe")]
    assert session.feed(b"IT\r\nUSER ann\r\nPASS y\r\n") == []
    assert session.forget() == b"STAT\r\nQUIT\r\nUSER ann\r\nPASS y\r\n"


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_plaintext_behind_stls_is_forgotten(cut: int) -> None:
    session = login(Options(has_stls=True))
    talk(session, b"USER joe", b"LANG de", b"UTF8")
    data = b"STLS\r\nUSER evil\r\nNOOP\r\nAUTH PLAIN\r\nNO"
    actions = session.feed(data[:cut]) + session.feed(data[cut:])
    assert actions == [Send(b"+OK starting TLS negotiation\r\n"), StartTls()]
    assert session.tls_started() == []
    assert said(talk(session, b"PASS x")) == b"-ERR USER first\r\n"
    assert said(talk(session, b"STLS")) == b"-ERR STLS not available\r\n"
    assert not session.is_utf8


def test_a_failed_handshake_says_nothing() -> None:
    session = login(Options(has_stls=True))
    talk(session, b"STLS")
    assert session.tls_failed() == [Close(111, "tls-failed")]


def test_a_client_that_is_gone() -> None:
    session = login()
    assert session.lost("eof") == [Close(111, "eof")]
    assert talk(session, b"NOOP") == []


def test_every_verb_of_the_table_is_known_to_the_model() -> None:
    for keyword in VERBS:
        assert hasattr(Model, "do_" + keyword.decode().lower())


def test_the_words_of_an_outcome() -> None:
    words: Words = outcome([Send(b"+ \r\n"), Send(b"-ERR [AUTH] x\r\n"), Wait(1)])
    assert words == [b"+", b"-ERR [AUTH]"]


SCRAM_FIRST = b"n,,n=joe,r=abc"
SCRAM_ASKED = b"joe\0" + SCRAM_FIRST + b"\0" + STAMP + b"\0"
SCRAM_ONLY = Options(mechanisms=(b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"))
BOUND = SCRAM_ONLY._replace(is_tls=True, binding=b"b" * 32)


def begin_scram(session: Login) -> None:
    (asked,) = talk(session, b"AUTH SCRAM-SHA-256 " + b64encode(SCRAM_FIRST))
    assert asked == Verify(SCRAM_ASKED, "Scram-Sha-256", b"joe")


def test_a_dialogue_with_the_verifier() -> None:
    session = login(SCRAM_ONLY)
    begin_scram(session)
    assert session.feed(b"\r\n") == []  # what comes now has to wait
    assert session.challenged(b"r=abcdef,s=,i=1") == [
        Send(b"+ " + b64encode(b"r=abcdef,s=,i=1") + b"\r\n"),
        Respond(b""),
    ]
    assert said(session.challenged(b"v=1")) == b"+ dj0x\r\n"
    assert talk(session, b64encode(b"more")) == [Respond(b"more")]
    assert session.accepted() == [Log("Accept::AUTH", "Scram-Sha-256", b"joe")]


def test_a_dialogue_without_an_initial_response() -> None:
    session = login(SCRAM_ONLY)
    assert said(talk(session, b"AUTH SCRAM-SHA-256")) == b"+ \r\n"
    (asked,) = talk(session, b64encode(SCRAM_FIRST))
    assert asked == Verify(SCRAM_ASKED, "Scram-Sha-256", b"joe")


def test_a_dialogue_that_ends_in_a_refusal_is_one_attempt() -> None:
    session = login(SCRAM_ONLY._replace(attempts=2))
    for end in ([], [Close(1, "refused")]):
        begin_scram(session)
        session.challenged(b"r=abcdef")
        assert talk(session, b64encode(b"c=wrong")) == [Respond(b"c=wrong")]
        assert session.verdict(1) == [
            Log("Reject::AUTH", "Scram-Sha-256", b"joe", 1),
            Send(b"-ERR [AUTH] authorization failed\r\n"),
            *end,
        ]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"*", b"authentication cancelled"),
        (b"not base64", b"syntax error"),
        (b"QQ=", b"syntax error"),
        (b64encode(b"x" * 2049), b"syntax error"),
        (b"A" * 13000, b"syntax error"),
    ],
)
def test_a_client_that_gives_up_a_dialogue(line: bytes, text: bytes) -> None:
    """It counts, as the verifier has been asked and has said something."""
    session = Login(STAMP, Policy(mechanisms=(b"SCRAM-SHA-256",), delay_seconds=4))
    begin_scram(session)
    session.challenged(b"r=abcdef")
    assert talk(session, line) == [
        Withdraw(),
        Log("Reject::AUTH", "Scram-Sha-256", b"joe", 1),
        Wait(4),
        Send(b"-ERR " + text + b"\r\n"),
    ]
    assert said(talk(session, b"NOOP")) == b"+OK \r\n"


def test_a_client_that_is_gone_while_the_verifier_waits_for_it() -> None:
    session = login(SCRAM_ONLY)
    begin_scram(session)
    session.challenged(b"r=abcdef")
    assert session.lost("timeout") == [Withdraw(), Close(111, "timeout")]


def test_a_verifier_that_speaks_where_nobody_listens_is_a_failure() -> None:
    session = login()
    talk(session, b"USER joe", b"PASS x")
    assert said(session.challenged(b"hello")).startswith(b"-ERR [SYS/TEMP]")


def test_a_message_for_the_verifier_may_have_2048_octets() -> None:
    session = login(SCRAM_ONLY)
    begin_scram(session)
    session.challenged(b"r=abcdef")
    assert talk(session, b64encode(b"x" * 2048)) == [Respond(b"x" * 2048)]


def test_plus_is_there_only_where_the_end_point_is_known() -> None:
    assert b"SASL SCRAM-SHA-256" in capabilities(login(SCRAM_ONLY))
    session = login(SCRAM_ONLY._replace(has_stls=True))
    talk(session, b"STLS")
    session.tls_started(b"b" * 32)
    assert b"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256" in capabilities(session)
    first = b"p=tls-server-end-point,,n=joe,r=abc"
    (asked,) = talk(session, b"AUTH SCRAM-SHA-256-PLUS " + b64encode(first))
    record = b"joe\0" + first + b"\0" + STAMP + b"\0"
    assert asked == Verify(record, "Scram-Sha-256-Plus", b"joe")


@pytest.mark.parametrize(
    ("options", "name", "first", "reply"),
    [
        (BOUND, b"SCRAM-SHA-256", b"y,,n=joe,r=x", b"-ERR [AUTH] authorization failed"),
        (BOUND, b"SCRAM-SHA-256", b"p=tls-server-end-point,,n=joe,r=x", b"-ERR syntax"),
        (BOUND, b"SCRAM-SHA-256-PLUS", b"n,,n=joe,r=x", b"-ERR syntax error"),
        (BOUND, b"SCRAM-SHA-256-PLUS", b"y,,n=joe,r=x", b"-ERR syntax error"),
        (SCRAM_ONLY, b"SCRAM-SHA-256-PLUS", b"n,,n=joe,r=x", b"-ERR unknown mechanism"),
    ],
)
def test_headers_that_do_not_fit_the_mechanism(
    options: Options, name: bytes, first: bytes, reply: bytes
) -> None:
    actions = talk(login(options), b"AUTH " + name + b" " + b64encode(first))
    assert said(actions).startswith(reply)
    assert not any(isinstance(action, Verify) for action in actions)


def test_a_client_that_could_bind_may_say_so_where_nobody_offers_it() -> None:
    options = BOUND._replace(mechanisms=(b"SCRAM-SHA-256",))
    first = b64encode(b"y,,n=joe,r=x")
    (asked,) = talk(login(options), b"AUTH SCRAM-SHA-256 " + first)
    assert isinstance(asked, Verify)


TOKENS = [
    (b"OAUTHBEARER", b"n,a=joe,\1auth=Bearer to.ken=\1\1", "Oauthbearer"),
    (
        b"OAUTHBEARER",
        b"y,a=joe,\1host=h\1port=110\1auth=Bearer to.ken=\1\1",
        "Oauthbearer",
    ),
    (b"XOAUTH2", b"user=joe\1auth=Bearer to.ken=\1\1", "Xoauth2"),
]


@pytest.mark.parametrize(("name", "answer", "word"), TOKENS)
def test_a_token(name: bytes, answer: bytes, word: str) -> None:
    session = login(EVERYTHING)
    (asked,) = talk(session, b"AUTH " + name + b" " + b64encode(answer))
    assert asked == Verify(b"joe\0to.ken=\0" + STAMP + b"\0", word, b"joe")


@pytest.mark.parametrize("answer", [b"", b"AQ==", b"*", b"!", b"QUIT"])
def test_a_refused_token_is_explained_before_it_is_refused(answer: bytes) -> None:
    session = Login(STAMP, Policy(mechanisms=(b"OAUTHBEARER",), delay_seconds=2))
    talk(session, b"AUTH OAUTHBEARER " + b64encode(TOKENS[0][1]))
    explained = b"+ " + b64encode(b'{"status":"invalid_token"}') + b"\r\n"
    assert session.verdict(1) == [
        Log("Reject::AUTH", "Oauthbearer", b"joe", 1),
        Wait(2),
        Send(explained),
    ]
    assert talk(session, answer) == [Send(b"-ERR [AUTH] authorization failed\r\n")]
    assert said(talk(session, b"NOOP")) == b"+OK \r\n"


def test_a_token_that_nobody_could_check_just_now_is_not_explained() -> None:
    session = login(EVERYTHING)
    talk(session, b"AUTH OAUTHBEARER " + b64encode(TOKENS[0][1]))
    assert said(session.verdict(111)).startswith(b"-ERR [SYS/TEMP]")


def test_the_last_token_allowed_is_explained_and_then_it_is_over() -> None:
    session = login(EVERYTHING._replace(attempts=1))
    talk(session, b"AUTH XOAUTH2 " + b64encode(TOKENS[2][1]))
    assert isinstance(session.verdict(1)[-1], Send)
    assert talk(session, b"")[-1] == Close(1, "refused")


def test_a_token_needs_tls_where_a_password_does() -> None:
    session = login(EVERYTHING._replace(tls_for="passwords"))
    (words,) = [line for line in capabilities(session) if line.startswith(b"SASL")]
    assert words == b"SASL CRAM-MD5 SCRAM-SHA-256"
    assert said(talk(session, b"AUTH XOAUTH2")).startswith(b"-ERR [AUTH] TLS required")


@pytest.mark.parametrize("octets", [4096, 4097])
def test_the_longest_token_makes_a_record_of_4096_octets(octets: int) -> None:
    session = login(EVERYTHING)
    talk(session, b"AUTH XOAUTH2")
    token = b"t" * (octets - len(b"joe\0\0" + STAMP + b"\0"))
    actions = talk(session, b64encode(b"user=joe\1auth=Bearer " + token + b"\1\1"))
    asked = [action for action in actions if isinstance(action, Verify)]
    assert [len(action.record) for action in asked] == [4096] * (octets == 4096)
    if not asked:  # as one that is wrong
        assert (
            said(actions)
            == b"+ " + b64encode(sasl.MECHANISMS[b"XOAUTH2"].refusal) + b"\r\n"
        )


def test_nothing_that_asks_more_of_a_checker_is_offered_unasked() -> None:
    assert Policy().mechanisms == (b"PLAIN", b"LOGIN")
