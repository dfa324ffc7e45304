# SPDX-License-Identifier: ISC
"""What systemd and s6 hear, and which sockets are taken from systemd."""

import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Hard
from qtools.system import notify
from qtools.system.notify import Notifier, activated

MUCH_SECONDS = 10
HIGH = 700  # descriptors from here on are nobody's


class Manager:
    """systemd's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.environ = {b"NOTIFY_SOCKET": address.encode(), b"PATH": b"/bin"}

    def heard(self) -> bytes:
        return self.socket.recv(4096, socket.MSG_DONTWAIT)


@pytest.fixture(params=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    is_path = request.param == "a path"
    made = Manager(str(tmp_path / "notify") if is_path else f"@qtools-{os.getpid()}")
    yield made
    made.socket.close()


def test_the_manager_hears_each_word(manager: Manager) -> None:
    notifier = Notifier(manager.environ)
    assert notifier.ready()
    assert manager.heard() == b"READY=1"
    assert notifier.stopping()
    assert manager.heard() == b"STOPPING=1"


def test_reloading_names_the_moment(manager: Manager) -> None:
    before = time.monotonic_ns() // 1000
    assert Notifier(manager.environ).reloading()
    told = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.heard())
    assert told is not None
    assert before <= int(told[1]) <= time.monotonic_ns() // 1000


def test_the_variable_is_taken_away(manager: Manager) -> None:
    Notifier(manager.environ)
    assert manager.environ == {b"PATH": b"/bin"}


@pytest.mark.parametrize(
    "address",
    [b"", b"/nowhere/notify", b"@nobody-qtools", b"vsock:2:3", b"/" + b"x" * 200, b"x"],
)
def test_without_a_manager_nothing_happens(address: bytes) -> None:
    environ = {b"NOTIFY_SOCKET": address} if address else {}
    notifier = Notifier(environ)
    assert not environ
    assert not notifier.ready()
    assert not notifier.reloading()
    assert not notifier.stopping()


def test_a_manager_that_does_not_read_holds_nobody_up(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "PATIENCE_SECONDS", 0.01)
    notifier = Notifier(manager.environ)
    before = time.monotonic()
    assert any(not notifier.ready() for _ in range(10_000))
    assert time.monotonic() - before < MUCH_SECONDS


# s6.


def test_s6_gets_its_newline_and_the_end() -> None:
    reader, writer = os.pipe()
    notify.notification(writer)
    assert os.read(reader, 10) == b"\n"
    assert os.read(reader, 10) == b""
    os.close(reader)


def test_a_supervisor_that_has_gone_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    notify.notification(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)


@pytest.mark.parametrize("descriptor", [-1, 0, 1, 2])
def test_the_standard_descriptors_are_not_for_notification(descriptor: int) -> None:
    with pytest.raises(Hard, match="take 3 or more"):
        notify.notification(descriptor)


def test_a_descriptor_that_is_not_open_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(Hard, match="unable to notify on 700: Bad file descriptor"):
        notify.notification(HIGH)


# Socket activation.


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have two sockets at HIGH, and the system begin there."""
    monkeypatch.setattr(notify, "FIRST", HIGH)
    with socket.socket() as one, socket.socket() as two:
        numbers = [fcntl.fcntl(each, fcntl.F_DUPFD, HIGH) for each in (one, two)]
        assert numbers == [HIGH, HIGH + 1]
        yield
    for number in numbers:
        os.close(number)


def environ(pid: object, many: object, *names: bytes) -> dict[bytes, bytes]:
    made = {b"LISTEN_PID": str(pid).encode(), b"LISTEN_FDS": str(many).encode()}
    if names:
        made[b"LISTEN_FDNAMES"] = b":".join(names)
    return made


@pytest.mark.usefixtures("passed")
@pytest.mark.parametrize(
    ("given_names", "names"),
    [
        ((b"pop3", b"tls"), [b"pop3", b"tls"]),
        ((b"", b"x y"), [b"", b"x y"]),
        ((), [b"unknown", b"unknown"]),
    ],
)
def test_sockets_come_with_their_names(
    given_names: tuple[bytes, ...], names: list[bytes]
) -> None:
    variables = environ(os.getpid(), 2, *given_names) | {b"PATH": b"/bin"}
    assert os.get_inheritable(HIGH)
    found = activated(variables, os.getpid())
    assert [each.descriptor for each in found] == [HIGH, HIGH + 1]
    assert [each.name for each in found] == names
    assert not os.get_inheritable(HIGH)
    assert not os.get_inheritable(HIGH + 1)
    assert variables == {b"PATH": b"/bin"}


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="none"),
        pytest.param(environ(os.getpid() + 1, 2), id="somebody else's"),
        pytest.param({b"LISTEN_FDS": b"1"}, id="no process"),
        pytest.param({b"LISTEN_PID": b"%d" % os.getpid()}, id="no number"),
    ],
)
def test_what_is_not_for_us_is_left_alone_but_not_handed_on(
    variables: dict[bytes, bytes],
) -> None:
    assert activated(variables, os.getpid()) == []
    assert variables == {}


@pytest.mark.usefixtures("passed")
@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        (environ("x", 1), "LISTEN_PID is no number"),
        (environ(-1, 1), "LISTEN_PID is no number"),
        (environ("9" * 5000, 1), "LISTEN_PID is no number"),
        (environ(os.getpid(), "1 "), "LISTEN_FDS is no number"),
        (environ(os.getpid(), "+1"), "LISTEN_FDS is no number"),
        (environ(os.getpid(), 0), "LISTEN_FDS is not 1 to"),
        (environ(os.getpid(), 100000), "LISTEN_FDS is not 1 to"),
        (environ(os.getpid(), 3), "descriptor 702: Bad file descriptor"),
        (environ(os.getpid(), 2, b"one"), "LISTEN_FDNAMES of 1"),
        (environ(os.getpid(), 1, b"one", b"two"), "LISTEN_FDNAMES of 2"),
        (environ(os.getpid(), 1, b"o\nne"), "impossible name"),
        (environ(os.getpid(), 1, b"\xff"), "impossible name"),
        (environ(os.getpid(), 1, b"x" * 256), "impossible name"),
    ],
)
def test_nonsense_is_found(variables: dict[bytes, bytes], complaint: str) -> None:
    with pytest.raises(Hard, match=complaint):
        activated(variables, os.getpid())
    assert variables == {}


WORDS = st.one_of(st.binary(max_size=12), st.integers(0, 300).map(b"%d".__mod__))


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(notify.LISTEN_VARIABLES), WORDS), WORDS)
def test_any_variables_that_are_ours_are_nonsense(
    variables: dict[bytes, bytes], word: bytes
) -> None:
    """No descriptor is open there, so there is nothing they could rightly say."""
    ours = {notify.LISTEN_PID: b"%d" % os.getpid(), notify.LISTEN_FDS: word}
    variables.update(ours)
    complaint = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notify, "FIRST", HIGH)
        try:
            assert activated(variables, os.getpid()) == []
        except Hard as why:
            complaint = str(why)
    assert ("LISTEN_FD" in complaint) == bool(word)
    assert variables == {}


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(notify.LISTEN_VARIABLES), WORDS))
def test_any_variables_of_others_are_refused_or_not_for_us(
    variables: dict[bytes, bytes],
) -> None:
    complaint = ""
    try:
        assert activated(variables, os.getpid()) == []
    except Hard as why:
        complaint = str(why)
    assert not complaint or "LISTEN_PID" in complaint
    assert variables == {}


def test_the_message_of_a_restart_is_whole(manager: Manager) -> None:
    """READY has to follow RELOADING, in this order, as two datagrams."""
    notifier = Notifier(manager.environ)
    assert notifier.reloading()
    assert notifier.ready()
    assert manager.heard().startswith(b"RELOADING=1\n")
    assert manager.heard() == b"READY=1"
