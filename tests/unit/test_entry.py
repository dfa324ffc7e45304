# SPDX-License-Identifier: ISC
"""What checkpw and popserver's verifiers decide: who comes in, and as whom."""

import posix

import pytest

from qtools.accounts import entry
from qtools.accounts.interface import Identity, Unknown
from qtools.errors import Failure, Misuse, Refused, Temporary
from qtools.protocol import record
from qtools.system.options import parse


class Source:
    """Knows joe and what he was verified with."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        self.asked.append((user, secret, challenge))
        if user != b"joe":
            raise Unknown("unknown")
        return Identity(user, 1000, 1000)

    def decoy(self) -> bytes:
        return b""


def check(packed: bytes, method: bytes = b"", *, allow_empty: bool = False) -> Source:
    """Give the source as it was asked."""
    source = Source()
    who = entry.check(packed, [source], method, allow_empty=allow_empty)
    assert who.name == b"joe"
    return source


JOE = record.pack(b"joe", b"secret", b"<1@mx>")


@pytest.mark.parametrize("method", entry.BEARER_METHODS)
def test_a_digest_is_not_a_token(method: bytes) -> None:
    """Or one that was heard could be sent as one, with its challenge."""
    source = TokenSource()
    entry.check(JOE, [source], method, allow_empty=False)
    assert source.asked == [(b"joe", b"secret", b"")]


@pytest.mark.parametrize("method", entry.PLAINTEXT_METHODS)
def test_a_digest_is_not_the_password(method: bytes) -> None:
    assert check(JOE, method).asked == [(b"joe", b"secret", b"")]


@pytest.mark.parametrize("method", [b"", b"Apop", b"Cram-Md5", b"user"])
def test_the_challenge_goes_along_otherwise(method: bytes) -> None:
    assert check(JOE, method).asked == [(b"joe", b"secret", b"<1@mx>")]


@pytest.mark.parametrize(
    ("packed", "kind"),
    [
        (b"", Misuse),
        (b"joe\0secret", Misuse),
        (b"joe\0" + b"x" * 600 + b"\0\0", Misuse),
        (b"\0secret\0\0", Refused),
        (b"joe\0\0\0", Refused),
        (b"ann\0secret\0\0", Unknown),
    ],
)
def test_who_does_not_come_in(packed: bytes, kind: type[Failure]) -> None:
    with pytest.raises(kind) as why:
        check(packed)
    assert type(why.value) is kind


class TokenSource(Source):
    """Takes tokens, too."""

    TAKES_TOKENS = True


@pytest.mark.parametrize("method", entry.BEARER_METHODS)
def test_a_token_is_shown_only_to_those_who_take_tokens(method: bytes) -> None:
    token = b"t" * 3000
    packed = record.pack(b"joe", token, b"", record.BEARER_OCTETS)
    with pytest.raises(Refused, match="no account source takes a token"):
        check(packed, method)
    plain, taking = Source(), TokenSource()
    entry.check(packed, [plain, taking], method, allow_empty=False)
    assert (plain.asked, taking.asked) == ([], [(b"joe", token, b"")])


def test_only_a_token_may_be_long() -> None:
    packed = record.pack(b"joe", b"t" * 3000, b"", record.BEARER_OCTETS)
    with pytest.raises(Misuse, match="512"):
        check(packed, b"Plain")
    with pytest.raises(Misuse, match="4096"):
        check(b"joe\0" + b"t" * 4096 + b"\0\0", b"Xoauth2")


@pytest.mark.parametrize(
    ("words", "added"),
    [
        ([], {}),
        (["-s", "/run/auth"], {b"QTOOLS_AUTHSOCKET": b"/run/auth"}),
        (["--pam-apop"], {b"QTOOLS_PAMAPOP": b"1"}),
    ],
)
def test_options_that_a_source_is_to_know(
    environ: dict[bytes, bytes], words: list[str], added: dict[bytes, bytes]
) -> None:
    values, _ = parse(["checkpw", *words, "true"], entry.ROWS, entry.USAGE, Misuse)
    entry.set_context(values)
    assert environ == {**BEFORE, **added}


def test_empty_passwords_may_be_allowed_and_empty_names_not() -> None:
    assert check(b"joe\0\0\0", allow_empty=True).asked == [(b"joe", b"", b"")]
    with pytest.raises(Refused, match="empty user"):
        check(b"\0\0\0", allow_empty=True)


@pytest.mark.parametrize(
    ("uid", "euid", "allow_root", "expected"),
    [
        *((1000, 0, False, True), (1000, 0, True, True), (1000, 7, False, True)),
        *((0, 0, False, False), (0, 0, True, True), (0, 7, False, False)),
        *((-1, 0, True, True), (-1, 7, False, True), (-1, 7, True, True)),
    ],
)
def test_who_may_be_what(
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    euid: int,
    *,
    allow_root: bool,
    expected: bool,
) -> None:
    monkeypatch.setattr(posix, "geteuid", lambda: euid)
    who = Identity(b"joe", uid, uid)
    assert entry.may_be(who, allow_root=allow_root) is expected


def test_an_account_without_ids_makes_nobody_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posix, "geteuid", lambda: 0)
    with pytest.raises(Temporary, match="no uid"):
        entry.may_be(Identity(b"joe"), allow_root=False)


BEFORE = {
    b"USER": b"root",
    b"HOME": b"/root",
    b"SHELL": b"/bin/sh",
    b"MAILDIR": b"everybody's",
    b"POP3MAILDIR": b"somebody's",
    b"PATH": b"/bin",
}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """Give the environment, with a login of somebody else in it."""
    kept = dict(BEFORE)
    monkeypatch.setattr(posix, "environ", kept)
    return kept


def test_a_login_sets_its_own_variables(environ: dict[bytes, bytes]) -> None:
    who = Identity(b"joe", 1, 1, home=b"/j", shell=b"/bin/rc", maildir=b"/j/M")
    entry.set_environment(who)
    assert environ == {
        b"USER": b"joe",
        b"HOME": b"/j",
        b"SHELL": b"/bin/rc",
        b"MAILDIR": b"/j/M",
        b"POP3MAILDIR": b"/j/M",
        b"PATH": b"/bin",
    }


def test_what_an_account_has_not_is_not_left_over(environ: dict[bytes, bytes]) -> None:
    entry.set_environment(Identity(b"joe", 1, 1))
    assert environ == {b"USER": b"joe", b"PATH": b"/bin"}


def test_an_account_without_a_name_leaves_all_but_the_mail(
    environ: dict[bytes, bytes],
) -> None:
    entry.set_environment(Identity(b"", home=b"/j", shell=b"/bin/rc"))
    names = (b"USER", b"HOME", b"SHELL", b"PATH")
    assert environ == {name: BEFORE[name] for name in names}
