# SPDX-License-Identifier: ISC
"""Where passwords are changed, and whose never are, whatever PAM says."""

import pytest

from qtools.accounts import changers
from qtools.accounts.changers import FloorChanger
from qtools.accounts.refusals import NotAllowed
from qtools.errors import Hard, Refused

ABOVE = {b"joe", b"ann"}


class Pam:
    """A PamChanger for tests: settles on some user, and says what was asked of it."""

    def __init__(self, settled: bytes = b"joe") -> None:
        self.settled = settled
        self.asked: list[str] = []

    def authenticate(self, user: bytes, secret: bytes, challenge: bytes) -> None:
        assert (user, challenge) == (b"joe", b"")
        self.asked.append("authenticate")
        if secret != b"secret":
            raise Refused("wrong")

    def user(self) -> bytes:
        return self.settled

    def change(self, new: bytes) -> None:
        self.asked.append(f"change {new.decode()}")

    def end(self) -> None:
        self.asked.append("end")


@pytest.fixture
def floor(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the floors that were asked about, where some users are above any."""
    asked: list[int] = []

    def is_above(user: bytes, least: int) -> bool:
        asked.append(least)
        return user in ABOVE

    monkeypatch.setattr(changers, "is_above", is_above)
    return asked


def above_floor(pam: Pam) -> FloorChanger:
    return FloorChanger(pam, 77)  # type: ignore[arg-type]  # all that is asked of one


def test_who_is_above_is_pam_s(floor: list[int]) -> None:
    pam = Pam()
    changer = above_floor(pam)
    changer.authenticate(b"joe", b"secret", b"")
    changer.change(b"new")
    changer.end()
    assert pam.asked == ["authenticate", "change new", "end"]
    assert floor == [77]
    with pytest.raises(Refused, match="wrong"):
        changer.authenticate(b"joe", b"else", b"")


def test_pam_is_not_asked_about_who_is_below(floor: list[int]) -> None:
    pam = Pam()
    with pytest.raises(NotAllowed, match="below the lowest uid"):
        above_floor(pam).authenticate(b"root", b"secret", b"")
    assert pam.asked == []
    assert floor == [77]


@pytest.mark.usefixtures("floor")
@pytest.mark.parametrize(("settled", "is_fine"), [(b"ann", True), (b"root", False)])
def test_whom_modules_settle_on_counts(settled: bytes, *, is_fine: bool) -> None:
    pam = Pam(settled)
    changer = above_floor(pam)
    if is_fine:
        changer.authenticate(b"joe", b"secret", b"")
        assert pam.asked == ["authenticate"]
    else:
        with pytest.raises(NotAllowed, match="a module takes him"):
            changer.authenticate(b"joe", b"secret", b"")
        assert pam.asked == ["authenticate", "end"]


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        ("", b"", "pam"),
        ("pam:x", b"db:/a", "pam:x"),
        ("", b"system db:/a pam", "db:/a"),
        ("", b"system authuser:/a", "pam"),
        ("db:/b", b"", "db:/b"),
    ],
)
def test_the_word_in_force(given: str, variable: bytes, expected: str) -> None:
    assert changers.word(given, {b"QTOOLS_ACCOUNTS": variable}) == expected
    assert changers.is_pam(expected) is expected.startswith("pam")


@pytest.mark.parametrize("given", ["system", "authuser:/a", "nonsense", "db2:/a"])
def test_where_nothing_can_be_changed(given: str) -> None:
    with pytest.raises(Hard, match="no passwords can be changed in"):
        changers.word(given, {})


def test_a_service_is_a_files_name() -> None:
    with pytest.raises(Hard, match="name of a service"):
        changers.load("pam:../shadow", 100)
