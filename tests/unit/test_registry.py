# SPDX-License-Identifier: ISC
"""registry: which sources are in force, who decides, what a stranger costs."""

import pytest

from qtools.accounts import hashes, registry
from qtools.accounts.interface import Identity, Unknown
from qtools.accounts.standing import Standing
from qtools.errors import Hard, Refused, Temporary


class Fake:
    """A source that knows one name."""

    def __init__(self, name: bytes, secret: bytes, decoy: bytes = b"") -> None:
        self.name = name
        self.secret = secret
        self.asked = 0
        self._decoy = decoy

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        self.asked += 1
        if user == b"trouble":
            raise Temporary(challenge.decode())
        if user != self.name:
            raise Unknown("unknown account")
        if secret != self.secret:
            raise Refused("wrong secret")
        return Identity(user)

    def decoy(self) -> bytes:
        return self._decoy


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ([], {}, ["system"]),
        ([], {b"QTOOLS_ACCOUNTS": b""}, ["system"]),
        ([], {b"QTOOLS_ACCOUNTS": b" db:/a  system "}, ["db:/a", "system"]),
        (["db:/a"], {b"QTOOLS_ACCOUNTS": b"system"}, ["db:/a"]),
        (["db:/a", "authuser:/b system"], {}, ["db:/a", "authuser:/b", "system"]),
        ([], {b"QTOOLS_ACCOUNTS": b"db:/\xff"}, ["db:/\udcff"]),
    ],
)
def test_the_words_in_force(
    given: list[str], environ: dict[bytes, bytes], expected: list[str]
) -> None:
    assert registry.words(given, environ) == expected


@pytest.mark.parametrize(
    "word", ["nis", "", ":", "os", "DB:/a", "qtools.accounts.db:x"]
)
def test_an_unknown_kind_is_hard(word: str) -> None:
    if not word:
        assert registry.words([word], {}) == ["system"]
        return
    with pytest.raises(Hard, match="there are system, authuser, db, pam, command"):
        registry.words([word], {})


@pytest.mark.parametrize(
    "word",
    [
        *("system:x", "db", "authuser:", "db:a"),
        *("pam:../pop3", "pam:a/b", "pam:.", "pam:-", "command:", "command:true"),
    ],
)
def test_a_wrong_where_is_hard(word: str) -> None:
    (opener,) = registry.load([word])
    with pytest.raises(Hard):
        opener()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["system"], False),
        (["authuser:/a", "db:/b", "system"], False),
        (["pam"], True),
        (["system", "pam:pop-3"], True),
        (["command:/bin/true", "db:/b"], True),
    ],
)
def test_some_sources_need_a_process_for_each_attempt(
    words: list[str], *, expected: bool
) -> None:
    assert registry.is_solitary(words) is expected
    assert Standing(words).is_solitary is expected


def test_the_first_that_knows_decides() -> None:
    sources = [Fake(b"ann", b"one"), Fake(b"ann", b"two"), Fake(b"ben", b"two")]
    assert registry.verify(sources, b"ann", b"one", b"").name == b"ann"
    with pytest.raises(Refused, match="wrong"):
        registry.verify(sources, b"ann", b"two", b"")
    assert [source.asked for source in sources] == [2, 0, 0]
    assert registry.verify(sources, b"ben", b"two", b"").name == b"ben"
    with pytest.raises(Temporary):
        registry.verify(sources, b"trouble", b"", b"")


@pytest.mark.parametrize(
    ("decoys", "spent"),
    [
        ([b"$1$a", b"$6$b"], [b"$1$a"]),
        ([b"", b"$6$b"], [b"$6$b"]),
        ([b"$6$b", b""], [b"$6$b"]),
        ([b"", b""], [b""]),
    ],
)
def test_a_stranger_costs_one_hash(
    monkeypatch: pytest.MonkeyPatch, decoys: list[bytes], spent: list[bytes]
) -> None:
    burnt: list[bytes] = []
    monkeypatch.setattr(hashes, "burn", lambda _, stored: burnt.append(stored))
    sources = [
        Fake(name, b"one", decoy)
        for name, decoy in zip((b"ann", b"ben"), decoys, strict=True)
    ]
    with pytest.raises(Refused, match="unknown"):
        registry.verify(sources, b"tom", b"one", b"")
    assert burnt == spent
