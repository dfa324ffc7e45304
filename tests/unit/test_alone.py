# SPDX-License-Identifier: ISC
"""How a pop3d that logs in by itself is asked, and how it makes refusals wait."""

import base64
import re

import pytest

from qtools.accounts import registry
from qtools.accounts.interface import Identity
from qtools.chain.alone import manner, speech
from qtools.chain.alone.speech import Speech
from qtools.chain.dialogue import Dialogue
from qtools.chain.service import OPTIONS
from qtools.errors import Hard
from qtools.protocol import sasl
from qtools.sessions.actions import Send, Wait
from qtools.sessions.exchange import ANSWER_SECONDS
from qtools.sessions.login import Login
from qtools.sessions.policy import Policy
from qtools.system import fdio
from qtools.system.options import Values, parse


def given(*words: str) -> Values:
    return parse(["pop3d", *words], OPTIONS, "usage")[0]


def policy(*words: str, **environ: str) -> Policy:
    told = {name.encode(): word.encode() for name, word in environ.items()}
    return manner.make_policy(given(*words), told, has_control=False)


def test_the_policy_is_mdpop3d_s() -> None:
    made = policy()
    assert (made.attempts, made.delay_seconds, made.junk_limit) == (1, 3, 10)
    assert (made.is_bare, made.refusal) == (True, b"login incorrect")
    assert (made.apop, made.passwords, made.is_traced) == (False, True, False)
    assert made.mechanisms == (b"PLAIN", b"LOGIN")


@pytest.mark.parametrize("words", [("-A",), ("-T", "x"), ("-A", "-T", "x")])
def test_apop_by_either_option(words: tuple[str, ...]) -> None:
    assert policy(*words).apop
    assert policy(*words).passwords


def test_the_environment_of_a_ucspi_server_counts() -> None:
    assert policy(POP3AUTH="apop").apop
    assert not policy(POP3AUTH="apop").passwords
    assert policy(POP3PLAINTEXT="refuse").tls_for == "passwords"
    assert policy("--plaintext=allow", POP3PLAINTEXT="refuse").tls_for == ""


def test_options_of_popup_have_other_meanings_here() -> None:
    """-m is a Maildir, -p a service, -u and -a end the login."""
    made = policy("-m", "Maildir", "-p", "pop3", "-d")
    assert made.mechanisms == (b"PLAIN", b"LOGIN")
    assert made.is_traced


STAMP = re.compile(rb"<[0-9]+\.[0-9]+@[!-;=?A-~]{1,64}>")


@pytest.mark.parametrize("tag", ["mx.example", "<a> b@c\n", "x" * 99, "@", "\udcff"])
def test_a_stamp_has_the_shape_of_mdpop3d_s(tag: str) -> None:
    assert STAMP.fullmatch(manner.make_stamp(given("-T", tag)))


def test_no_stamp_repeats() -> None:
    assert len({manner.make_stamp(given("-A")) for _ in range(1000)}) == 1000


@pytest.fixture(params=[True, False])
def has_pam(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(manner, "has_pam", lambda: request.param)
    return bool(request.param)


def test_accounts_by_default(*, has_pam: bool) -> None:
    expected = ["pam"] if has_pam else ["system"]
    assert manner.account_words(given(), {}) == expected
    assert manner.account_words(given(), {b"QTOOLS_ACCOUNTS": b" "}) == expected


@pytest.mark.usefixtures("has_pam")
@pytest.mark.parametrize(
    ("words", "variable", "expected"),
    [
        ([], b"system db:/x", ["system", "db:/x"]),
        (["--accounts", "db:/y"], b"system", ["db:/y"]),
        (["--accounts", "pam", "--accounts", "db:/y"], b"", ["pam", "db:/y"]),
        (["-p", "svc", "--accounts", "pam system"], b"", ["pam:svc", "system"]),
        (["-p", "svc"], b"db:/x pam", ["db:/x", "pam:svc"]),
        (["-p", "svc", "--accounts", "pam:own"], b"", ["pam:own"]),
    ],
)
def test_accounts_by_word(
    words: list[str], variable: bytes, expected: list[str]
) -> None:
    environ = {b"QTOOLS_ACCOUNTS": variable}
    assert manner.account_words(given(*words), environ) == expected


def test_a_service_needs_pam(*, has_pam: bool) -> None:
    with pytest.raises(Hard, match="--service is for PAM"):
        manner.account_words(given("-p", "svc", "--accounts", "system"), {})
    if has_pam:
        assert manner.account_words(given("-p", "svc"), {}) == ["pam:svc"]
    else:
        with pytest.raises(Hard, match="--service is for PAM"):
            manner.account_words(given("-p", "svc"), {})


def test_features_are_what_there_is(*, has_pam: bool) -> None:
    assert manner.features() == (["PAM", "APOP"] if has_pam else ["APOP"])


class Source:
    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        del secret, challenge
        return Identity(user, 1, 1, maildir=b"/its/own")

    def decoy(self) -> bytes:
        return b"decoy"


@pytest.mark.parametrize("is_named", [True, False])
def test_pam_is_asked_where_mail_is_when_nobody_has_said_it(
    monkeypatch: pytest.MonkeyPatch, *, is_named: bool
) -> None:
    monkeypatch.setattr(registry, "load", lambda words: [Source for _ in words])
    sources = manner.sources(["pam:x", "db:/y"], is_named=is_named)
    found = [source().verify(b"joe", b"x", b"").maildir for source in sources]
    assert found == [b"" if is_named else b"/its/own", b"/its/own"]
    assert {source().decoy() for source in sources} == {b"decoy"}


class Wire:
    has_line = False

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data


class Clerk:
    """One that takes its time over a verdict."""

    def __init__(self, clock: list[float]) -> None:
        self._clock = clock

    def verify(self, _asked: object) -> int:
        self._clock[0] += 2
        return 1

    def note(self, _told: object) -> None:
        """Have no log."""


@pytest.mark.parametrize(("delay", "expected"), [(3, 1), (2, 0), (1, 0)])
def test_a_refusal_waits_from_the_question_on(
    monkeypatch: pytest.MonkeyPatch, delay: int, expected: int
) -> None:
    clock = [100.0]
    slept: list[float] = []
    monkeypatch.setattr(speech, "monotonic", lambda: clock[0])
    monkeypatch.setattr("qtools.chain.driver.sleep", slept.append)
    login = Login(b"<1@h>", Policy(delay_seconds=delay, attempts=9, is_traced=True))
    wire, lines = Wire(), list[bytes]()
    talk = Speech(login, wire, Clerk(clock), lines.append)  # type: ignore[arg-type]  # as much as it needs
    talk._perform(login.feed(b"USER joe\r\n"))
    talk._perform(login.feed(b"PASS secret\r\n"))
    assert slept == [expected]
    assert lines == [b"USER joe", b"PASS <hidden>"]
    talk._perform([Wait(5), Send(b"x")])
    assert slept[1:] == [5], "what no question came before waits as long as it says"


class Slow(Wire):
    """Lines of a client that ends behind them; how long each was waited for."""

    def __init__(self, *lines: bytes) -> None:
        super().__init__()
        self.lines = [*lines, b""]
        self.waits: list[float] = []

    def read_line(self, seconds: float) -> bytes:
        self.waits.append(seconds)
        return self.lines.pop(0)

    def drain(self) -> None:
        """Have nothing more."""

    def release(self) -> None:
        """Have no descriptor."""


class Asking(Clerk):
    """One whose verifier asks back, once."""

    def verify(self, _asked: object) -> bytes:  # type: ignore[override]  # a message
        return b"r=1"

    def respond(self, _message: bytes) -> int:
        return 1

    def withdraw(self) -> None:
        """Have nothing to end."""


def test_an_answer_to_a_verifier_has_less_time_than_a_command() -> None:
    """More processes wait for it, as root."""
    first = base64.b64encode(b"n,,n=joe,r=" + b"x" * 24)
    wire = Slow(b"AUTH SCRAM-SHA-256 " + first + b"\r\n", b"eA==\r\n", b"NOOP\r\n")
    mechanisms = (b"SCRAM-SHA-256",)
    login = Login(b"<1@h>", Policy(mechanisms=mechanisms, delay_seconds=0))
    clerk = Asking([0.0])
    talk = Dialogue(login, wire, clerk)  # type: ignore[arg-type]  # as much as it needs
    assert talk.run() == (111, "eof")
    assert wire.sent.startswith(b"+OK\r\n+ cj0x\r\n-ERR [AUTH]")
    idle = fdio.LONGEST_SECONDS
    assert wire.waits == [idle, ANSWER_SECONDS, idle, idle]


def test_every_mechanism_can_be_asked_for() -> None:
    for name in sasl.MECHANISMS:
        assert policy("--mechanisms", name.decode()).mechanisms == (name,)
