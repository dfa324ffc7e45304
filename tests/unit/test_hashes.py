# SPDX-License-Identifier: ISC
"""hashes: every method made and checked, and everything that must never match."""

import hashlib
from binascii import b2a_base64
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts import hashes
from qtools.errors import Hard
from qtools.system.ffi.crypt import Crypt
from qtools.system.ffi.native import Library

if TYPE_CHECKING:
    from qtools.system.ffi.native import CType


def _scrypt(secret: bytes, ln: int, r: int, p: int, salt: bytes) -> bytes:
    key = hashlib.scrypt(secret, salt=salt, n=1 << ln, r=r, p=p, dklen=32)
    text = b"$".join(
        b2a_base64(part, newline=False).rstrip(b"=") for part in (salt, key)
    )
    return b"$scrypt$ln=%d,r=%d,p=%d$%s" % (ln, r, p, text)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["", *hashes.METHODS])
def test_a_method_checks_what_it_made(method: str) -> None:
    stored = hashes.make(b"s\xc3\xa9cret", method)
    assert hashes.is_usable(stored)
    assert hashes.is_modern(stored)
    assert hashes.matches(b"s\xc3\xa9cret", stored)
    assert not hashes.matches(b"secret", stored)
    assert hashes.make(b"s\xc3\xa9cret", method) != stored


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(Hard, match="no hash method rot13"):
        hashes.make(b"secret", "rot13")


def test_bcrypt_cuts_no_secret() -> None:
    with pytest.raises(Hard, match="72"):
        hashes.make(b"x" * 73, "bcrypt")


@pytest.mark.parametrize("form", [b"$2a$", b"$2b$", b"$2y$"])
def test_what_bcrypt_would_not_read_matches_nothing(form: bytes) -> None:
    stored = Crypt().hash(b"x" * 72, form + b"04$abcdefghijklmnopqrstuu")
    assert stored is not None
    assert hashes.matches(b"x" * 72, stored)
    assert not hashes.matches(b"x" * 73, stored)
    assert not hashes.matches(b"x" * 72 + b"anything", stored)


def test_a_secret_too_long_for_bcrypt_costs_what_others_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []

    def again(secret: bytes, stored: bytes) -> bytes:
        asked.append(secret)
        return stored

    monkeypatch.setattr(hashes, "_again", again)
    assert not hashes.matches(b"x" * 73, b"$2b$04$")
    assert asked == [b"x" * 73]


@pytest.mark.parametrize(
    "setting", [b"ab", b"$1$abcdefgh$", b"$5$rounds=1000$x$", b"$6$rounds=1000$x$"]
)
def test_the_systems_methods_are_checked(setting: bytes) -> None:
    stored = Crypt().hash(b"secret", setting)
    assert stored is not None
    assert hashes.matches(b"secret", stored)
    assert not hashes.matches(b"Secret", stored)


def test_an_scrypt_hash_made_elsewhere_matches() -> None:
    stored = _scrypt(b"secret", 4, 8, 1, b"NaCl")
    assert hashes.matches(b"secret", stored)
    assert not hashes.matches(b"Secret", stored)


@pytest.mark.parametrize(
    "stored",
    [
        *(b"", b"*", b"!", b"!!", b"x", b"*0", b"*1", b"!$1$abcdefgh$", b"$zz$a$b"),
        *(b"secret", b"a", b"\xff\xff", b"$1$\0$x", b"*LK*", b"NP", b"$", b"$$$"),
        *(b"$scrypt$", b"$scrypt$ln=4,r=8$x$y", b"$scrypt$ln=4,r=8,p=1$x"),
        *(b"$scrypt$ln=x,r=8,p=1$TmFDbA$x", b"$scrypt$ln=99,r=8,p=1$TmFDbA$x"),
        *(b"$scrypt$ln=4,r=0,p=0$TmFDbA$x", b"$scrypt$ln=30,r=8,p=1$TmFDbA$x"),
        *(b"$scrypt$ln=4,r=8,p=1$\xff$x", b"$scrypt$N=4,r=8,p=1$TmFDbA$x"),
    ],
)
@pytest.mark.parametrize("secret", [b"secret", b"", b"*0", b"!"])
def test_what_is_no_hash_matches_nothing(stored: bytes, secret: bytes) -> None:
    assert not hashes.matches(secret, stored)
    hashes.burn(secret, stored)


@pytest.mark.parametrize("secret", [b"x" * 512, b"x" * 5000, b"a\0b"])
def test_an_impossible_secret_matches_nothing(secret: bytes) -> None:
    stored = Crypt().hash(b"a", b"$1$abcdefgh$")
    assert stored is not None
    assert not hashes.matches(secret, stored)


def test_511_octets_are_a_secret() -> None:
    stored = Crypt().hash(b"x" * 511, b"$1$abcdefgh$")
    assert stored is not None
    assert hashes.matches(b"x" * 511, stored)
    assert not hashes.matches(b"x" * 510, stored)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_stored_octets_raise(secret: bytes, stored: bytes) -> None:
    # bounded, so that no random setting may ask for seconds
    if not stored.startswith((b"$", b"_")):
        assert not hashes.matches(secret, stored) or len(stored) == 13


@given(st.binary(max_size=60))
def test_no_scrypt_octets_raise(rest: bytes) -> None:
    assert not hashes.matches(b"secret", b"$scrypt$ln=1,r=1,p=1$" + rest)


def test_a_locked_hash_is_not_usable() -> None:
    for stored in (b"", b"x", b"*", b"!", b"!$6$a$b", b"!aaaaaaaaaaaa"):
        assert not hashes.is_usable(stored)
    for stored in (b"$6$a$b", b"_J9..rasm", b"qtFrQNeTIbABC"):
        assert hashes.is_usable(stored)


def test_the_method_of_a_hash_is_its_prefix() -> None:
    assert hashes.method_of(b"$6$salt$key") == "$6$"
    assert hashes.method_of(b"$scrypt$ln=1$salt$key") == "$scrypt$"
    assert hashes.method_of(b"qtFrQNeTIbABC") == ""


def test_without_a_library_there_is_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Hard("no library")

    monkeypatch.setattr(hashes, "_library", fail)
    stored = hashes.make(b"secret")
    assert stored.startswith(b"$scrypt$")
    assert hashes.matches(b"secret", stored)
    with pytest.raises(Hard, match="no sha512"):
        hashes.make(b"secret", "sha512")


def test_a_missing_library_is_named() -> None:
    with pytest.raises(Hard, match="libnowhere"):
        Crypt("libnowhere.so.1")


def test_plain_crypt_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Crypt()
    find = Library.function

    def find_no_crypt_ra(self: Library, name: str, *kinds: "CType") -> object:
        if name.endswith("_ra"):
            raise Hard(f"no {name}")
        return find(self, name, *kinds)

    monkeypatch.setattr(Library, "function", find_no_crypt_ra)
    plain = Crypt()
    for setting in (b"ab", b"$1$abcdefgh$", b"*0"):
        assert plain.hash(b"secret", setting) == library.hash(b"secret", setting)
    assert plain.setting(b"$6$") is None
    # and what has been hashed by the one is good for the other
    monkeypatch.setattr(hashes, "_crypt", [plain])
    stored = library.hash(b"secret", b"$1$abcdefgh$")
    assert stored is not None
    assert hashes.matches(b"secret", stored)
    assert hashes.make(b"secret").startswith(hashes.SCRYPT)
