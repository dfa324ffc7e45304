# SPDX-License-Identifier: ISC
"""Whose password may be changed, and that all who look for a user mean the same one."""

import os
import posix
import pwd
import sys

import pytest

from qtools.accounts import floor, users
from qtools.accounts.pam import change, source


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, int]:
    """Give the users of a system in Latin-1, by octets, to be filled by the test."""
    found: dict[bytes, int] = {}

    def look_up(name: str) -> pwd.struct_passwd:
        if "\0" in name:
            raise ValueError(name)
        octets = name.encode("latin-1", "surrogateescape")
        uid = found[octets]
        return pwd.struct_passwd((name, "x", uid, uid, "", "/home", "/bin/sh"))

    monkeypatch.setattr(users, "getpwnam", look_up)
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    return found


@pytest.mark.parametrize(
    ("uid", "least", "is_fine"),
    [
        (100, 100, True),
        (99, 100, False),
        (99, 99, True),
        (0, 0, False),
        (1, 0, True),
        (0, 100, False),
    ],
)
def test_a_uid_is_above_or_below(
    known: dict[bytes, int],
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    least: int,
    *,
    is_fine: bool,
) -> None:
    known[b"joe"] = uid
    monkeypatch.setattr(posix, "geteuid", lambda: 0)
    assert floor.is_above(b"joe", least) is is_fine
    assert not floor.is_above(b"ann", least)
    assert not floor.is_above(b"joe\0", least)


def test_without_root_there_is_one_user(
    known: dict[bytes, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    known.update({b"joe": 1000, b"ann": 1001})
    monkeypatch.setattr(posix, "geteuid", lambda: 1000)
    assert floor.is_above(b"joe", 100)
    assert not floor.is_above(b"ann", 100)


@pytest.mark.parametrize("name", [b"J\xf6", "Jö".encode(), b"joe"])
def test_a_name_is_the_same_octets_to_all(known: dict[bytes, int], name: bytes) -> None:
    known[name] = os.getuid() or 1000
    assert floor.is_above(name, 1)
    assert change._uid_of(name) == known[name]
    assert source._find(name).pw_uid == known[name]
    assert users.octets(users.find(name).pw_name) == name
