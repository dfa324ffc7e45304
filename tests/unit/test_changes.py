# SPDX-License-Identifier: ISC
"""The privileged side of poppassd, whatever a dialogue that was taken over may ask."""

import signal
import syslog

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts import mapping, quality
from qtools.accounts.interface import Unknown
from qtools.accounts.mapping import Mapping
from qtools.accounts.refusals import NotAllowed, Unfit
from qtools.chain.change import changes
from qtools.chain.change.changes import ChangeDesk, Rules
from qtools.errors import Expired, Failure, Hard, Refused, Temporary
from qtools.sessions.poppassd import AUTHENTICATE, CHANGE
from qtools.system import changelog
from qtools.system.changelog import ChangeLog

OLD, NEW = b"correct horse", b"battery staple"


class Changer:
    """A changer for tests, and all that it is asked."""

    def __init__(self, first: Failure | None, second: Failure | None) -> None:
        self.failures = {"authenticate": first, "change": second}
        self.asked: list[tuple[bytes, ...]] = []
        self.blocked: set[int] = set()

    def authenticate(self, user: bytes, secret: bytes, challenge: bytes) -> None:
        assert challenge == b""
        self._do("authenticate", user, secret)

    def change(self, new: bytes) -> None:
        self.blocked = blocked_now()
        self._do("change", new)

    def end(self) -> None:
        self.asked.append((b"end",))

    def _do(self, step: str, *fields: bytes) -> None:
        self.asked.append(fields)
        if (failure := self.failures[step]) is not None:
            raise failure


class Office:
    """A desk with what is around it; time passes only while it sleeps."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        first: Failure | None = None,
        second: Failure | None = None,
        takes: float = 0.0,
    ) -> None:
        self.now = 100.0
        self.slept = 0.0
        self.lines: list[str] = []
        self.changer = Changer(first, second)
        monkeypatch.setattr(changes, "monotonic", lambda: self.now)
        monkeypatch.setattr(changes, "sleep", self._sleep)
        monkeypatch.setattr(syslog, "openlog", lambda *_: None)
        monkeypatch.setattr(syslog, "syslog", lambda _, line: self.lines.append(line))
        self.rules = Rules(mapping.parse(b"example.com %").account, fail_seconds=3)
        log = ChangeLog(syslog.LOG_LOCAL4, b"192.0.2.7")
        self.takes = takes
        self.desk = ChangeDesk(self._open, self.rules, log)

    def _open(self) -> Changer:
        self.now += self.takes
        return self.changer

    def _sleep(self, seconds: float) -> None:
        self.slept += seconds


def test_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(monkeypatch)
    assert office.desk.do(AUTHENTICATE, (b"joe@example.com", OLD)) == (0, b"")
    assert office.desk.do(CHANGE, (NEW,)) == (0, b"")
    office.desk.end()
    assert office.changer.asked == [(b"joe", OLD), (NEW,), (b"end",)]
    assert office.lines == ["changed POP3 password for joe from 192.0.2.7"]
    assert office.slept == 0.0


def test_nobody_ends_it_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(monkeypatch)
    office.desk.do(AUTHENTICATE, (b"joe", OLD))
    office.desk.do(CHANGE, (NEW,))
    assert {signal.SIGTERM, signal.SIGHUP, signal.SIGINT} <= office.changer.blocked
    assert signal.SIGTERM in blocked_now(), "the answer is not on its way yet"
    office.desk.settle()
    assert signal.SIGTERM not in blocked_now()


@pytest.mark.parametrize("why", [None, Refused("too simple"), Temporary("no disk")])
def test_nobody_ends_it_before_it_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, why: Failure | None
) -> None:
    office = Office(monkeypatch, second=why)
    office.desk.do(AUTHENTICATE, (b"joe", OLD))
    blocked: list[set[int]] = []
    monkeypatch.setattr(syslog, "syslog", lambda *_: blocked.append(blocked_now()))
    office.desk.do(CHANGE, (NEW,))
    assert [signal.SIGTERM in each for each in blocked] == [True]
    office.desk.end()
    assert signal.SIGTERM not in blocked_now()


def blocked_now() -> set[int]:
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


@pytest.mark.parametrize("takes", [0.0, 1.5, 2.9, 3.0, 7.0])
@pytest.mark.parametrize(
    "why", [Refused("x"), Unknown("x"), NotAllowed("x"), Expired("x")]
)
def test_a_refusal_is_due_three_seconds_after_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, takes: float, why: Failure
) -> None:
    office = Office(monkeypatch, first=why, takes=takes)
    assert office.desk.do(AUTHENTICATE, (b"joe", OLD)) == (1, b"")
    assert office.slept == pytest.approx(max(3.0 - takes, 0.0))


@pytest.mark.parametrize("why", [Temporary("no disk"), Hard("no PAM")])
def test_trouble_is_told_to_the_operator_only(
    monkeypatch: pytest.MonkeyPatch, why: Failure
) -> None:
    office = Office(monkeypatch, first=why)
    assert office.desk.do(AUTHENTICATE, (b"joe", OLD)) == (why.code, b"")
    assert office.lines == [
        f"unable to check a password: {why} (user joe) from 192.0.2.7"
    ]
    office = Office(monkeypatch, second=why)
    office.desk.do(AUTHENTICATE, (b"joe", OLD))
    assert office.desk.do(CHANGE, (NEW,)) == (why.code, b"")
    office.desk.end()
    assert office.lines == [f"PAM error: {why} (user joe) from 192.0.2.7"]


def test_why_a_new_password_was_refused_is_told_to_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office(monkeypatch, second=Refused("too simple"))
    office.desk.do(AUTHENTICATE, (b"joe", OLD))
    assert office.desk.do(CHANGE, (NEW,)) == (1, b"too simple")
    office.desk.end()
    assert office.lines == ["PAM error: too simple (user joe) from 192.0.2.7"]


def test_trouble_has_the_name_of_where_passwords_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office(monkeypatch, second=Temporary("locked"))
    office.rules.place = "database"
    office.desk.do(AUTHENTICATE, (b"joe@example.com", OLD))
    office.desk.do(CHANGE, (NEW,))
    office.desk.end()
    assert office.lines == ["database error: locked (user joe) from 192.0.2.7"]
    office = Office(monkeypatch, first=Temporary("locked"))
    office.desk.do(AUTHENTICATE, (b"joe@example.com", OLD))
    (line,) = office.lines
    named = "(user joe (given as joe@example.com))"
    assert line == f"unable to check a password: locked {named} from 192.0.2.7"


def test_a_password_may_not_hold_the_name_that_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office(monkeypatch)
    office.rules.account = mapping.parse(b"example.net mail_%_7").account
    office.desk.do(AUTHENTICATE, (b"jim@example.net", OLD))
    code, text = office.desk.do(CHANGE, (b"I am Jim the first",))
    office.desk.end()
    assert (code, text) == (1, b"the new password holds the user's name")


@pytest.mark.parametrize(
    ("user", "secret"), [(b"", OLD), (b"a\0b", OLD), (b"joe", b"a\0b"), (b"a@b", OLD)]
)
def test_names_of_nobody_are_not_asked_about(
    monkeypatch: pytest.MonkeyPatch, user: bytes, secret: bytes
) -> None:
    office = Office(monkeypatch)
    assert office.desk.do(AUTHENTICATE, (user, secret)) == (1, b"")
    assert office.changer.asked == []
    assert office.slept == pytest.approx(3.0)
    assert office.lines[0].startswith("failed attempt to change password for ")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            st.lists(st.sampled_from([b"joe", OLD, NEW, b""]), max_size=3).map(tuple),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_there_is_one_try_and_one_change_whatever_is_asked(
    asked: list[tuple[int, tuple[bytes, ...]]],
    is_good: bool,  # noqa: FBT001
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        office = Office(monkeypatch, first=None if is_good else Refused("no"))
        for kind, fields in asked:
            office.desk.do(kind, fields)
            office.desk.settle()
    done = office.changer.asked
    assert len(done) <= 2
    assert [len(fields) for fields in done] == [2, 1][: len(done)]
    assert is_good or len(done) <= 1


@pytest.mark.parametrize(
    ("new", "text"),
    [
        (b"1234567", "shorter than 8"),
        (b"        ", "nothing but blanks"),
        ("12345678\x85".encode(), "control character"),
        ("äöüäöüä".encode(), "shorter than 8"),
        (OLD, "the old one"),
        (OLD[::-1], "too similar"),
        (OLD.title(), "too similar"),
        (b"my joe.doe!", "the user's name"),
        (b"EOD.EOJ is reversed", "the user's name"),
        (b"tab\tulator", "control character"),
        (b"delete\x7f..", "control character"),
    ],
)
def test_weak_passwords(new: bytes, text: str) -> None:
    with pytest.raises(Unfit, match=text):
        quality.check(b"joe.doe@example.com", OLD, new)


@pytest.mark.parametrize(
    ("user", "new"),
    [
        (b"joe", "äöüäöüäö".encode()),
        (b"joe", b"\xff\xfe1234567"),
        (b"joe", b"\xe2\x82\xe2\x82\xe2\x82\xe2\x82"),  # 8 octets, no UTF-8
        (b"al", b"al is too short a name"),
        (b"", b"12345678"),
    ],
)
def test_good_passwords(user: bytes, new: bytes) -> None:
    quality.check(user, OLD, new)


@pytest.mark.parametrize(
    ("name", "account"),
    [
        (b"joe", b"joe"),
        (b"joe@EXAMPLE.com", b"joe"),
        (b"joe@example.net", b"joe_net"),
        (b"joe@example.org", b"joe@other"),
        (b"a@b@example.com", b"a@b"),
        (b"@example.com", b""),
        (b"joe@", b"joe@other"),
    ],
)
def test_a_map(name: bytes, account: bytes) -> None:
    made = mapping.parse(b"# c\nexample.com %\n\n Example.NET\t%_net # d\n* %@other\n")
    assert made.account(name) == account


def test_no_map_and_any_domain() -> None:
    assert Mapping({}).account(b"joe@x") == b"joe@x"
    assert mapping.strip().account(b"joe@x") == b"joe"
    assert mapping.parse(b"a %").account(b"joe@b") == b""


@pytest.mark.parametrize("text", [b"", b"# c\n", b"a\n", b"a b c\n", b"a b\n", b"@a %"])
def test_no_maps(text: bytes) -> None:
    with pytest.raises(Hard):
        mapping.parse(text)


def test_nobody_writes_a_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(syslog, "openlog", lambda *_: None)
    monkeypatch.setattr(syslog, "syslog", lambda _, line: lines.append(line))
    log = ChangeLog(syslog.LOG_LOCAL4, b"::1\nx")
    log.incorrect(b"a from 192.0.2.1\n", b"a from 192.0.2.1\n")
    log.failed("b\nc\x1b \u00e4")
    assert lines == [
        r"old password is incorrect for user a\x20from\x20192.0.2.1\x0a from ::1\x0ax",
        r"b c  \xe4 from ::1\x0ax",
    ]


def test_facilities() -> None:
    assert changelog.facility("local4") == syslog.LOG_LOCAL4
    assert changelog.facility("authpriv") == syslog.LOG_AUTHPRIV
    with pytest.raises(Hard, match="no facility kern"):
        changelog.facility("kern")
