# SPDX-License-Identifier: ISC
"""Who comes in: real listeners and clients, rules that tcprules has compiled."""

import os
import posix
import resource
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import proxy
from qtools.server import listeners
from qtools.server.settings import Settings
from qtools.server.warm.accounting import Accounting
from qtools.server.warm.door import Door, read_header
from qtools.server.warm.guest import Guest
from qtools.server.warm.journal import Journal
from tests.support import need, wait_for
from tests.unit.house import NOW, House, adopted, guest, left_in, received
from tests.unit.test_cdb import file_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


class Lobby:
    """A door with one listener, and what it told."""

    def __init__(self, house: House, *words: str, place: str = "127.0.0.1:0") -> None:
        self.house = house
        self.lines: list[bytes] = []
        self.complaints: list[str] = []
        self.settings = Settings(["popserver", *words, "127.0.0.1", "0", "popup"])
        self.accounting = Accounting(
            "popup", Journal(self._write), self.complain, is_verbose=False
        )
        self.listener = house.keep(listeners.bind(listeners.endpoint(place), 128))
        self.number = self.listener.fileno()
        table = {self.number: (self.listener, False)}
        self.door = Door(self.settings, table, self.accounting, self.complain)
        self.pass_time(NOW)

    def _write(self, _level: int, line: bytes) -> bool:
        self.lines.append(line)
        return True

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def pass_time(self, now: float) -> None:
        self.now = self.accounting.now = now

    def connect(self) -> socket.socket:
        """Give a client who knocks."""
        client = self.house.keep(socket.socket(self.listener.family))
        client.connect(self.listener.getsockname())
        client.settimeout(10)
        return client

    def accept(self) -> tuple["_socket.socket", Guest]:
        """Let the next one who knocks stand in the door."""
        accepted: list[tuple[_socket.socket, Guest]] = []

        def look() -> bool:
            with suppress(BlockingIOError):
                found = self.door.accept(self.number, self.now)
                accepted.extend([found] if found else [])
            return bool(accepted)

        wait_for(look)
        ((held, who),) = accepted
        return self.house.keep(held), who

    def enter(self, address: bytes = b"192.0.2.7") -> tuple[bool, socket.socket]:
        """Have somebody from an address ask to come in; give whether he may."""
        held, client = self.house.connection()
        who = Guest((b"127.0.0.1", 110), (address, 40001), 0.0)
        self.guest = who
        return self.door.may_enter(held.socket, who, self.now), client

    def events(self) -> list[bytes]:
        """Give the events of the lines since the last look."""
        lines, self.lines = self.lines, []
        return [line.split()[3] for line in lines]


@pytest.fixture
def house() -> Iterator[House]:
    """Give a house, and close at the end what was opened in it."""
    with House() as made:
        yield made


@pytest.fixture
def lobby(house: House) -> Lobby:
    """Give a door as it is without options."""
    return Lobby(house)


# Accepting --------------------------------------------------------------------


def test_replies_leave_at_once(lobby: Lobby) -> None:
    """Held back, one is lost when the connection is closed right behind it."""
    with lobby.connect():
        held, _ = lobby.accept()
        assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_without_a_client_there_is_nobody(lobby: Lobby) -> None:
    with pytest.raises(BlockingIOError):
        lobby.door.accept(lobby.number, NOW)


def test_a_client_is_who_he_is(lobby: Lobby) -> None:
    client = lobby.connect()
    held, who = lobby.accept()
    assert who.remote == (b"127.0.0.1", client.getsockname()[1])
    assert who.local == (b"127.0.0.1", lobby.listener.getsockname()[1])
    assert (who.source, who.began) == (b"127.0.0.1", NOW)
    assert not os.get_inheritable(held.fileno())
    held.send(b"+OK")
    assert client.recv(10) == b"+OK"


def test_small_replies_leave_at_once(lobby: Lobby) -> None:
    lobby.connect()
    held, _ = lobby.accept()
    assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_door_that_is_shut_turns_away_who_still_waits(lobby: Lobby) -> None:
    waiting = lobby.connect()
    where = lobby.listener.getsockname()
    lobby.door.shut()
    with pytest.raises(ConnectionResetError):
        waiting.recv(1)
    with pytest.raises(ConnectionRefusedError), socket.socket() as late:
        late.connect(where)


def test_of_a_unix_socket_nothing_is_known(house: House, tmp_path: Path) -> None:
    lobby = Lobby(house, "--proxy-from", "unix", place=f"unix:{tmp_path}/pop3")
    lobby.connect()
    _, who = lobby.accept()
    assert (who.remote, who.source) == ((b"unknown", 0), b"unknown")
    assert lobby.door.is_proxy(who)


def test_a_client_of_ipv6_has_an_address_without_a_scope_of_ours(house: House) -> None:
    lobby = Lobby(house, place="[::1]:0")
    lobby.connect()
    _, who = lobby.accept()
    assert (who.remote[0], who.source) == (b"::1", b"::/64")


def test_a_client_that_has_gone_again_is_nobody_or_at_its_end(lobby: Lobby) -> None:
    client = lobby.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    accepted = lobby.door.accept(lobby.number, NOW)
    if accepted is not None:
        held, _ = accepted
        with pytest.raises(ConnectionResetError):
            held.recv(1)
        held.close()
    with pytest.raises(BlockingIOError):
        lobby.door.accept(lobby.number, NOW)


@pytest.fixture
def exhausted() -> Iterator[Callable[[], None]]:
    """Give what leaves this process no descriptor to be had."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def exhaust() -> None:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))

    yield exhaust
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_out_of_descriptors_clients_are_turned_away_one_by_one(
    lobby: Lobby, exhausted: Callable[[], None]
) -> None:
    clients = [lobby.connect() for _ in range(3)]
    lobby.connect()
    exhausted()
    for client in clients:
        assert lobby.door.accept(lobby.number, NOW) is None
        assert client.recv(1) == b""
    (complaint,) = lobby.complaints
    assert complaint.startswith("out of descriptors")


def test_with_descriptors_again_clients_come_in_again(
    lobby: Lobby, exhausted: Callable[[], None]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lobby.connect()
    exhausted()
    assert lobby.door.accept(lobby.number, NOW) is None
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    lobby.connect()
    _, who = lobby.accept()
    assert who.remote[0] == b"127.0.0.1"


# Limits -----------------------------------------------------------------------


def test_one_source_gets_what_one_may_have(house: House) -> None:
    lobby = Lobby(house, "--per-source", "2", "--refuse", "-ERR [IN-USE] later")
    answers = [lobby.enter() for _ in range(3)]
    assert [may for may, _ in answers] == [True, True, False]
    assert received(answers[2][1]) == b"-ERR [IN-USE] later\r\n"
    assert answers[2][1].recv(1) == b""
    assert lobby.enter(b"192.0.2.8")[0]
    assert lobby.events() == [b"Reject::CONNECT::Source"]


def test_without_a_text_a_refused_client_just_ends(house: House) -> None:
    lobby = Lobby(house, "--per-source", "1")
    lobby.enter()
    may, client = lobby.enter()
    assert (may, client.recv(1)) == (False, b"")


@pytest.mark.parametrize(
    ("words", "is_open"), [([], False), (["--refuse", "-ERR full"], True)]
)
def test_when_all_is_full_the_kernel_holds_them_or_they_are_told(
    house: House, words: list[str], *, is_open: bool
) -> None:
    lobby = Lobby(house, "-c", "2", *words)
    assert lobby.door.is_open(NOW)
    assert all(lobby.enter(address)[0] for address in (b"192.0.2.1", b"192.0.2.2"))
    assert lobby.door.is_open(NOW) is is_open
    if is_open:
        may, client = lobby.enter(b"192.0.2.3")
        assert (may, received(client)) == (False, b"-ERR full\r\n")
        assert lobby.events() == [b"Reject::CONNECT::Total"]


def test_a_door_that_is_full_of_the_past_opens_again(house: House) -> None:
    """Nobody comes or goes: only the time passes."""
    lobby = Lobby(house, "-c", "2", "--min-delay", "10")
    for address in (b"192.0.2.1", b"192.0.2.2"):
        assert lobby.enter(address)[0]
        lobby.door.admission.release(lobby.guest.source, NOW, NOW + 1)
    assert not lobby.door.is_open(NOW + 9)
    assert lobby.door.is_open(NOW + 10)


def test_who_comes_in_begins_now(lobby: Lobby) -> None:
    lobby.pass_time(NOW + 5)
    assert lobby.enter()[0]
    assert lobby.guest.began == NOW + 5


def test_who_does_not_read_his_refusal_holds_up_nobody(house: House) -> None:
    lobby = Lobby(house, "--per-source", "1", "--refuse", "x" * 1_000_000)
    lobby.enter()
    may, client = lobby.enter()
    assert not may
    client.close()
    held, gone = house.connection()
    gone.close()
    assert not lobby.door.may_enter(held.socket, guest(), NOW)


# Rules ------------------------------------------------------------------------

RULES = """\
192.0.2.1:deny
192.0.2.:allow,POP3AUTH="+apop",EMPTY=""
:allow
"""


@pytest.fixture
def compile_rules(tmp_path: Path) -> Callable[[str], int]:
    """Give what compiles rules, and gives a descriptor of them."""
    tcprules = need("tcprules", "ucspi-tcp")

    def compile_(text: str) -> int:
        path = tmp_path / "rules.cdb"
        words = [tcprules, str(path), str(tmp_path / "rules.tmp")]
        subprocess.run(words, input=text.encode(), check=True)
        return os.open(path, os.O_RDONLY)

    return compile_


@pytest.fixture
def ruled(house: House) -> Lobby:
    """Give a door that goes by rules, which have not come yet."""
    return Lobby(house, "-x", "/etc/rules.cdb", "--refuse", "-ERR full")


def test_rules_decide_and_set_variables(
    ruled: Lobby, compile_rules: Callable[[str], int]
) -> None:
    ruled.door.set_rules(compile_rules(RULES))
    may, client = ruled.enter(b"192.0.2.1")
    assert (may, client.recv(1)) == (False, b""), "tcpserver says nothing to him"
    assert ruled.events() == [b"Reject::CONNECT::Rules"]
    assert ruled.enter(b"::ffff:192.0.2.2")[0]
    assert ruled.guest.variables == {b"POP3AUTH": b"+apop", b"EMPTY": b""}
    assert ruled.enter(b"198.51.100.1")[0]
    assert ruled.guest.variables == {}
    assert ruled.door.admission.count == 2, "who is denied counts no more"


def test_nobody_comes_before_the_rules(
    ruled: Lobby, compile_rules: Callable[[str], int]
) -> None:
    assert not ruled.door.is_open(NOW)
    ruled.door.set_rules(compile_rules(RULES))
    assert ruled.door.is_open(NOW)


def test_rules_may_be_none(ruled: Lobby) -> None:
    ruled.door.set_rules(-1)
    assert ruled.door.is_open(NOW)
    assert ruled.enter(b"192.0.2.1")[0]


def test_rules_are_replaced_and_leave_no_descriptor(
    ruled: Lobby, compile_rules: Callable[[str], int]
) -> None:
    before = open_files().count("rules.cdb")
    answers = []
    for text in (RULES, ":deny\n", ":allow\n"):
        ruled.door.set_rules(compile_rules(text))
        answers.append(ruled.enter(b"192.0.2.9")[0])
    assert answers == [True, False, True]
    assert open_files().count("rules.cdb") == before + 1
    ruled.door.set_rules(-1)
    assert open_files().count("rules.cdb") == before


def open_files() -> list[str]:
    """Give the names of the files this process has open, of deleted ones as well."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{number}")
            names.append(name.removesuffix(" (deleted)").rpartition("/")[2])
    return names


def broken(text: bytes = b"no database") -> int:
    descriptor = os.memfd_create("test")
    os.write(descriptor, text)
    return descriptor


def test_a_file_that_is_none_leaves_the_door_closed(ruled: Lobby) -> None:
    descriptor = broken()
    ruled.door.set_rules(descriptor)
    assert not ruled.door.is_open(NOW)
    (complaint,) = ruled.complaints
    assert "/etc/rules.cdb is damaged" in complaint
    with pytest.raises(OSError, match="Bad file"):
        posix.fstat(descriptor)


def test_a_file_that_is_none_leaves_the_old_rules(
    ruled: Lobby, compile_rules: Callable[[str], int]
) -> None:
    ruled.door.set_rules(compile_rules(RULES))
    ruled.door.set_rules(broken())
    assert ruled.door.is_open(NOW)
    assert not ruled.enter(b"192.0.2.1")[0]
    assert ruled.enter(b"192.0.2.2")[0]


def test_a_damaged_file_lets_nobody_in_and_is_told_of_once(ruled: Lobby) -> None:
    data = bytearray(file_of([(b"", b"")]))
    data[2048:2056] = b"\xff" * 8  # the length of the only key
    at = 5381 % 256 * 8
    data[at : at + 4] = (len(data) + 5).to_bytes(4, "little")
    descriptor = broken(bytes(data))
    ruled.door.set_rules(descriptor)
    assert ruled.complaints == []
    assert [ruled.enter(b"192.0.2.1")[0] for _ in range(5)] == [False] * 5
    (complaint,) = ruled.complaints
    assert "/etc/rules.cdb is damaged" in complaint


# PROXY headers ----------------------------------------------------------------

TEXT = b"PROXY TCP4 198.51.100.7 192.0.2.25 4321 110\r\n"
BINARY = (
    proxy.SIGNATURE
    + b"\x21\x11\x00\x27"
    + bytes((198, 51, 100, 7, 192, 0, 2, 25))
    + struct.pack(">HH", 4321, 110)
    + b"\x20\x00\x18\x01\0\0\0\0"
    + b"\x21\x00\x07TLSv1.3"
    + b"\x23\x00\x06CIPHER"
)
LOCAL = proxy.SIGNATURE + b"\x20\x00\x00\x00"


@pytest.fixture
def behind(house: House) -> tuple[socket.socket, socket.socket]:
    """Give the socket of a connection from a proxy, and the proxy's end."""
    here, there = socket.socketpair()
    house.keep(there)
    held = adopted(here)
    return house.keep(held), there


def test_who_has_to_send_a_header(house: House) -> None:
    lobby = Lobby(house, "--proxy-from", "192.0.2.0/24 2001:db8::/32")
    answers = {
        address: lobby.door.is_proxy(guest((address, 1)))
        for address in (b"192.0.2.7", b"::ffff:192.0.2.8", b"2001:db8::1", b"192.0.3.1")
    }
    assert list(answers.values()) == [True, True, True, False]
    assert not Lobby(house).door.is_proxy(guest())


@pytest.mark.parametrize("header", [TEXT, BINARY])
def test_a_header_says_who_is_behind_the_proxy(
    behind: tuple[socket.socket, socket.socket], header: bytes
) -> None:
    held, there = behind
    there.send(header + b"USER joe\r\n")
    found = read_header(held, guest())
    assert found is not None
    assert (found.remote, found.source) == ((b"198.51.100.7", 4321), b"198.51.100.7")
    assert found.local == (b"192.0.2.25", 110)
    assert found.began == NOW
    assert left_in(held) == b"USER joe\r\n"
    if header == BINARY:
        assert found.tls == {b"SSL_PROTOCOL": b"TLSv1.3", b"SSL_CIPHER": b"CIPHER"}
    else:
        assert found.tls == {}


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_header_that_names_nobody_leaves_the_proxy(
    behind: tuple[socket.socket, socket.socket], header: bytes
) -> None:
    held, there = behind
    there.send(header + b"x")
    found = read_header(held, guest())
    assert found is not None
    assert (found.remote, found.local) == (guest().remote, guest().local)
    assert left_in(held) == b"x"


@pytest.mark.slow
@given(st.sampled_from([TEXT, BINARY, LOCAL]), st.lists(st.integers(1, 60), max_size=8))
def test_a_header_in_pieces_is_left_until_it_is_whole(
    header: bytes, cuts: list[int]
) -> None:
    here, there = socket.socketpair()
    with there, here:
        places = sorted({cut for cut in cuts if cut < len(header)})
        for start, end in zip([0, *places], [*places, len(header)], strict=True):
            there.send(header[start:end])
            found = read_header(here, guest())
            assert (found is not None) == (end == len(header))
            assert left_in(here) == (b"" if found else header[:end])


@pytest.mark.parametrize(
    "octets", [b"USER joe\r\n", b"PROXY TCP5 ", b"\x16\x03\x01", TEXT[:30] + b"\r\n"]
)
def test_another_beginning_is_malformed(
    behind: tuple[socket.socket, socket.socket], octets: bytes
) -> None:
    held, there = behind
    there.send(octets)
    with pytest.raises(proxy.Malformed):
        read_header(held, guest())


def test_an_end_is_malformed_and_nothing_yet_is_not(
    behind: tuple[socket.socket, socket.socket],
) -> None:
    held, there = behind
    with pytest.raises(BlockingIOError):
        read_header(held, guest())
    there.close()
    with pytest.raises(proxy.Malformed, match="has ended"):
        read_header(held, guest())
