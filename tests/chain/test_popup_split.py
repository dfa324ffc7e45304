# SPDX-License-Identifier: ISC
"""The dialogue in a process of its own: what it can do, and what it cannot."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from pwd import getpwnam

import pytest

from qtools.chain import request, split
from qtools.chain.office import Office
from qtools.chain.request import END, LOG, REQUEST_OCTETS, START_TLS, VERIFY, Request
from qtools.chain.split import LOST, Window
from qtools.sessions.policy import Policy
from tests.chain.popup import House, Popup
from tests.conftest import Tools
from tests.support import need_root, wait_for

STAMP = b"<1.2.abc@mx.example>"


@pytest.fixture
def house(tools: Tools, room: Path) -> Iterator[House]:
    need_root()
    made = House(tools, room)
    yield made
    made.close()


def children(pid: int) -> list[int]:
    return [
        int(word)
        for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


def start(house: House, *steps: str, options: str = "-d0", **more: int) -> Popup:
    places = {int(name[2:]): number for name, number in more.items()}
    popup = house.popup(
        *house.play(*steps), options=options, dialogue="split", more=places
    )
    assert popup.reply() == b"+OK\r\n"
    return popup


def child_of(popup: Popup) -> int:
    (child,) = children(popup.pid)
    return child


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: line.split(":")[1].split() for line in lines}


def test_the_dialogue_is_nobody(house: House) -> None:
    popup = start(house)
    nobody = getpwnam("nobody")
    seen = status(child_of(popup))
    assert seen["Uid"] == [str(nobody.pw_uid)] * 4
    assert seen["Gid"] == [str(nobody.pw_gid)] * 4
    assert seen["Groups"] == []
    assert set(seen["CapEff"] + seen["CapPrm"]) == {"0" * 16}
    assert status(popup.pid)["Uid"] == ["0"] * 4


def test_its_root_directory_is_empty_and_has_no_name(house: House) -> None:
    popup = start(house)
    child = child_of(popup)
    root = f"/proc/{child}/root"
    assert os.readlink(root).endswith(" (deleted)")
    assert os.listdir(root) == []
    assert os.readlink(f"/proc/{child}/cwd") == os.readlink(root)
    with pytest.raises(FileNotFoundError):
        os.mkdir(root + "/x")


def test_another_root_directory_and_user(house: House, room: Path) -> None:
    popup = start(house, options=f"-d0 --chroot {room} --user daemon")
    child = child_of(popup)
    assert os.readlink(f"/proc/{child}/root") == str(room)
    assert status(child)["Uid"] == [str(getpwnam("daemon").pw_uid)] * 4


def test_its_descriptors_are_the_client_s_and_one_socket(house: House) -> None:
    popup = start(house)
    folder = f"/proc/{child_of(popup)}/fd"
    found = {int(name): os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}
    assert {0, 1, 2} < set(found)
    assert 5 not in found
    assert len(found) == 4
    log = os.readlink(f"/proc/{popup.pid}/fd/5")
    assert log not in found.values()


@pytest.mark.parametrize("user", ["no-such-user", "root"])
def test_without_an_unprivileged_user_nothing_is_said(house: House, user: str) -> None:
    popup = house.popup(*house.play(), options=f"-d0 --user {user}", dialogue="split")
    assert popup.rest() == b""
    assert popup.code() == 100
    assert user in popup.errors()


def test_a_root_directory_that_is_not_there(house: House) -> None:
    popup = house.popup(*house.play(), options="-C /no/such", dialogue="split")
    assert popup.rest() == b""
    assert popup.code() == 100


def test_a_killed_dialogue_ends_popup(house: House) -> None:
    popup = start(house)
    os.kill(child_of(popup), signal.SIGKILL)
    assert popup.code() == 111
    assert popup.rest() == b""
    assert " why=dialogue-lost code=111 " in popup.log()[0]


def has_ended(pid: int) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return status(pid)["State"][0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    return look


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_popup_ends_the_dialogue(house: House, what: signal.Signals) -> None:
    popup = start(house)
    child = child_of(popup)
    os.kill(popup.pid, what)
    assert popup.code() == (111 if what == signal.SIGTERM else -what)
    wait_for(has_ended(child))
    assert popup.rest() == b""
    assert popup.errors() == ""


def test_after_the_accept_the_dialogue_is_gone(house: House) -> None:
    popup = start(house, "note:A", "say:+OK \\r\\n", "wait")
    child = child_of(popup)
    popup.send(b"USER joe\r\nPASS x\r\n")
    popup.replies(2)
    wait_for(has_ended(child))
    assert popup.is_running()


def test_the_chain_does_not_hold_the_dialogue_s_socket(house: House) -> None:
    popup = start(house, "wait")
    sockets = {
        os.readlink(f"/proc/{popup.pid}/fd/{name}")
        for name in os.listdir(f"/proc/{popup.pid}/fd")
        if int(name) > 2
    }
    sockets = {path for path in sockets if path.startswith("socket:")}
    popup.send(b"USER joe\r\nPASS x\r\n")
    told = house.told()
    assert sockets
    assert not sockets & set(told["descriptors"].values())


# The privileged side alone, with a dialogue that has been taken over ---------

RECORD = b"joe\0x\0" + STAMP + b"\0"
GOOD = Request(VERIFY, mechanism="User", record=RECORD).pack()


class Siege:
    """An office whose dialogue is the test's; counts the programs it started."""

    def __init__(self, room: Path, attempts: int = 3) -> None:
        self.started = room / "started"
        words = ["sh", "-c", f"echo >>{self.started}; exit 1"]
        self.office = Office(words, Policy(attempts=attempts), STAMP, None, None)

    def run(self, hostile: Callable[[Window], tuple[int, str]]) -> tuple[int, str]:
        """Run the dialogue in the child; it never comes back into the test."""

        def converse(window: Window) -> tuple[int, str]:
            try:
                return hostile(window)
            except BaseException:  # noqa: BLE001  # the child must not run the tests
                os._exit(99)

        return split.run(self.office, None, lambda: None, converse, [])

    def count(self) -> int:
        return len(self.started.read_text()) if self.started.exists() else 0


@pytest.fixture
def siege(room: Path) -> Siege:
    return Siege(room)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"x", id="short"),
        pytest.param(GOOD[:-1], id="one octet short"),
        pytest.param(GOOD + b"\0", id="one octet long"),
        pytest.param(GOOD * 2, id="two in one"),
        pytest.param(b"\xff" * REQUEST_OCTETS, id="garbage"),
        pytest.param(bytes([VERIFY, 0, 0, 1, 0, 0, 3, 0]) + GOOD[8:], id="length"),
        pytest.param(Request(VERIFY, record=b"joe").pack(), id="no record"),
        pytest.param(Request(END, code=42).pack(), id="exit code"),
        pytest.param(b"", id="empty"),
    ],
)
@pytest.mark.parametrize("lingers", [False, True])
def test_a_malformed_request_ends_it_all(
    siege: Siege, packet: bytes, *, lingers: bool
) -> None:
    def hostile(window: Window) -> tuple[int, str]:
        window._channel.send(packet)
        while lingers:
            signal.pause()
        os._exit(0)

    assert siege.run(hostile) == (111, LOST)
    assert siege.count() == 0


def test_an_exit_without_a_word_is_a_loss(siege: Siege) -> None:
    assert siege.run(lambda _: os._exit(0)) == (111, LOST)


def test_no_more_verdicts_than_attempts(siege: Siege) -> None:
    def hostile(window: Window) -> tuple[int, str]:
        codes = [window.verify(request.unpack(GOOD)) for _ in range(20)]
        return (0, "quit") if codes == [1] * 20 else (111, "eof")

    assert siege.run(hostile) == (0, "quit")
    assert siege.count() == 3


def test_no_verdict_on_another_challenge(siege: Siege) -> None:
    stolen = Request(VERIFY, mechanism="Apop", record=b"joe\0x\0<heard@before>\0")

    def hostile(window: Window) -> tuple[int, str]:
        return (0, "quit") if window.verify(stolen) == 1 else (111, "eof")

    assert siege.run(hostile) == (0, "quit")
    assert siege.count() == 0


@pytest.mark.parametrize("mechanism", ["Apop", "Cram-Md5", "Scram-Sha-256", "Xoauth2"])
def test_no_verdict_in_a_way_that_no_client_may_ask(
    siege: Siege, mechanism: str
) -> None:
    asked = Request(VERIFY, mechanism=mechanism, record=RECORD)

    def hostile(window: Window) -> tuple[int, str]:
        return (0, "quit") if window.verify(asked) == 1 else (111, "eof")

    assert siege.run(hostile) == (0, "quit")
    assert siege.count() == 0


def test_tls_where_there_is_none(siege: Siege) -> None:
    def hostile(window: Window) -> tuple[int, str]:
        answer = window._ask(Request(START_TLS))
        return (0, "quit") if answer == b"N" else (111, "eof")

    assert siege.run(hostile) == (0, "quit")


def test_lines_for_the_log_lead_to_nothing_else(siege: Siege) -> None:
    def hostile(window: Window) -> tuple[int, str]:
        for _ in range(3):
            window.note(Request(LOG, detail=0, mechanism="User", record=b"root"))
        return 0, "quit"

    assert siege.run(hostile) == (0, "quit")
    assert siege.count() == 0
    assert siege.office.code == 0


@pytest.mark.parametrize(("detail", "count"), [(0, 4), (1, 4), (2, 1), (9, 1)])
def test_no_more_lines_than_refusals_and_none_of_an_accept(
    siege: Siege, detail: int, count: int
) -> None:
    def hostile(window: Window) -> tuple[int, str]:
        for _ in range(count):
            window.note(Request(LOG, detail=detail, mechanism="User", record=b"root"))
        return 0, "quit"

    assert siege.run(hostile) == (111, LOST)
    assert siege.count() == 0
