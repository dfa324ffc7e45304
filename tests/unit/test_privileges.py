# SPDX-License-Identifier: ISC
"""privileges: the order of the steps, and that each lie of the system is found."""

import posix

import pytest

from qtools.errors import Temporary
from qtools.system import privileges


class System:
    """A make-believe kernel that notes what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, uid: int = 0) -> None:
        self.uids: tuple[int, ...] = (uid, uid, uid)
        self.gids: tuple[int, ...] = (uid, uid, uid)
        self.groups = [uid]
        self.did: list[object] = []
        for name in (
            *("geteuid", "getresuid", "getresgid", "getgroups", "setgroups"),
            *("setresgid", "setresuid", "setuid", "seteuid", "chdir"),
        ):
            monkeypatch.setattr(posix, name, getattr(self, name))

    def geteuid(self) -> int:
        return self.uids[1]

    def getresuid(self) -> tuple[int, ...]:
        return self.uids

    def getresgid(self) -> tuple[int, ...]:
        return self.gids

    def getgroups(self) -> list[int]:
        return self.groups

    def setgroups(self, groups: list[int]) -> None:
        self.did.append("groups")
        self.groups = list(groups)

    def setresgid(self, *gids: int) -> None:
        self.did.append("gid")
        self.gids = gids

    def setresuid(self, *uids: int) -> None:
        self.did.append("uid")
        self.uids = uids

    def setuid(self, uid: int) -> None:
        if 0 not in self.uids:
            raise PermissionError(1, "no", uid)

    def seteuid(self, uid: int) -> None:
        self.setuid(uid)

    def chdir(self, path: bytes) -> None:
        self.did.append(path.decode())


def test_groups_gid_uid_and_directory_in_this_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = System(monkeypatch)
    privileges.become(7, 8, [8], b"/home/joe")
    assert system.did == ["groups", "gid", "uid", "/home/joe"]


def test_nothing_is_done_when_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = System(monkeypatch)
    privileges.become(-1, -1, [], b"")
    assert system.did == []


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ("setgroups", None),
        ("setresgid", None),
        ("setresuid", None),
        ("setuid", None),
        ("seteuid", None),
        ("getgroups", [8, 0]),
        ("getresuid", (7, 7, 0)),
        ("getresgid", (8, 8, 0)),
    ],
)
def test_a_step_that_did_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch, step: str, value: object
) -> None:
    system = System(monkeypatch)
    system.groups = [0, 4]
    monkeypatch.setattr(posix, step, lambda *_: value)
    with pytest.raises(Temporary, match="this process"):
        privileges.become(7, 8, [8], b"/home/joe")
    assert "/home/joe" not in system.did


@pytest.mark.parametrize("step", ["setgroups", "setresgid", "setresuid", "chdir"])
def test_a_step_that_fails_is_temporary(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    System(monkeypatch)

    def fail(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(posix, step, fail)
    with pytest.raises(Temporary, match="unable to"):
        privileges.become(7, 8, [8], b"/home/joe")


def test_one_is_what_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(monkeypatch, uid=7)
    privileges.become(7, 7, [7], b"/home/joe")
    assert system.did == ["/home/joe"]


@pytest.mark.parametrize(("uid", "gid"), [(8, 7), (7, 8), (0, 0)])
def test_nobody_else_is_become_without_root(
    monkeypatch: pytest.MonkeyPatch, uid: int, gid: int
) -> None:
    system = System(monkeypatch, uid=7)
    with pytest.raises(Temporary, match="not started as root"):
        privileges.become(uid, gid, [gid], b"/")
    assert system.did == []


def test_a_half_dropped_process_is_not_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = System(monkeypatch, uid=7)
    system.uids = (7, 7, 0)
    with pytest.raises(Temporary):
        privileges.become(7, 7, [7], b"/")
