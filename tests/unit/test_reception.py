# SPDX-License-Identifier: ISC
"""From a listener to the greeting: real clients at a real door, verifiers by hand."""

import os
import socket
from collections.abc import Iterator

import pytest

from qtools.errors import EXIT_HARD, EXIT_TEMPORARY
from qtools.server import own_chain
from qtools.server.warm import reception as module
from qtools.server.warm.connection import ENDED, TALK, TLS, Connection
from qtools.server.warm.reception import HEADER_SECONDS, Reception
from tests.support import wait_for
from tests.unit.house import NOW, House, adopted, left_in, received
from tests.unit.test_cdb import file_of
from tests.unit.test_desks import Office, Verifier
from tests.unit.test_door import BINARY, TEXT, Lobby

GREETING = b"+OK\r\n"
PROXIES = ("--proxy-from", "127.0.0.0/8")


class Hall(House):
    """A house with a door, a reception and perhaps desks behind it.

    words: popserver's. front: popup's.
    """

    def __init__(
        self, *words: str, front: tuple[str, ...] = (), is_tls: bool = False
    ) -> None:
        super().__init__()
        self.lobby = Lobby(self, *words)
        self.door = self.lobby.door
        self.number = self.lobby.number
        self.door.listeners[self.number] = self.lobby.listener, is_tls
        chain = own_chain.read(["popup", *front, "mx.example", "checkpw", "pop3d"])
        settings = self.lobby.settings
        accounting = self.lobby.accounting
        self.reception = Reception(self, settings, chain, self.door, accounting)
        self.inside: list[Connection] = []
        self.office: Office | None = None

    def open_desks(self) -> Verifier:
        """Have challenges made by a verifier from now on; give him."""
        self.office = Office(needs_stamps=True)
        self.reception.use(self.office.desks)
        verifier = self.office.open()
        self.keep(verifier.near)
        self.keep(verifier.channel)
        return verifier

    def enter(self, connection: Connection) -> None:
        super().enter(connection)
        self.keep(connection.socket)
        self.inside.append(connection)

    def forget(self, connection: Connection) -> None:
        super().forget(connection)
        self.inside.remove(connection)
        desk, connection.desk = connection.desk, None
        if desk is not None and self.office is not None:
            self.office.desks.let_go(desk)

    def leave(self, connection: Connection) -> None:
        who = connection.guest
        self.door.admission.release(who.source, who.began, self.now)
        super().leave(connection)

    def come(self) -> socket.socket:
        """Have one client more knock and be accepted, if anybody is."""
        client = self.lobby.connect()
        self.accept()
        return client

    def accept(self) -> None:
        self.reception.accept(self.number)

    @property
    def last(self) -> Connection:
        return self.inside[-1]


def hall(*words: str, front: tuple[str, ...] = (), is_tls: bool = False) -> Hall:
    return Hall(*words, front=front, is_tls=is_tls)


@pytest.fixture
def plain() -> Iterator[Hall]:
    """Give a house without options."""
    with hall() as made:
        yield made


def rules(*records: tuple[bytes, bytes]) -> int:
    """Give rules; a record is a key and its instructions, each with a NUL behind."""
    descriptor = os.memfd_create("rules")
    os.write(descriptor, file_of(list(records)))
    return descriptor


# Coming in --------------------------------------------------------------------


def test_who_comes_is_greeted(plain: Hall) -> None:
    client = plain.come()
    assert client.recv(100) == GREETING
    connection = plain.last
    assert (connection.identifier, connection.state) == (1, TALK)
    assert connection.ends == NOW + 1200
    assert plain.door.admission.count == 1
    client.send(b"QUIT\r\n")
    wait_for(lambda: plain.turn(connection))
    assert client.recv(100) == b"+OK \r\n"
    assert plain.door.admission.count == 0
    assert plain.inside == []


def test_each_has_a_number_of_its_own(plain: Hall) -> None:
    plain.reception.serial = 7 << module.GENERATION_SHIFT
    for _ in range(3):
        plain.come()
    numbers = [each.identifier for each in plain.inside]
    assert numbers == [(7 << module.GENERATION_SHIFT) + each for each in (1, 2, 3)]


def test_not_all_who_wait_are_taken_at_once(
    plain: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 3)
    for _ in range(5):
        plain.lobby.connect()
    plain.accept()
    assert len(plain.inside) == 3
    plain.accept()
    assert len(plain.inside) == 5
    plain.accept()
    assert len(plain.inside) == 5


def test_who_has_no_room_stays_outside() -> None:
    with hall("-c", "2") as full:
        clients = [full.lobby.connect() for _ in range(3)]
        full.accept()
        assert len(full.inside) == 2
        assert not full.reception.is_open()
        full.inside[0].end(0, "quit")
        assert full.reception.is_open()
        full.accept()
        assert clients[2].recv(100) == GREETING


def test_who_is_refused_is_no_connection() -> None:
    with hall("--per-source", "1", "--refuse", "-ERR later") as busy:
        busy.come()
        client = busy.come()
        assert client.recv(100) == b"-ERR later\r\n"
        assert len(busy.inside) == 1
        assert busy.reception.serial == 1


def test_our_name_is_what_was_given() -> None:
    with hall("-l", "mx.example") as named:
        assert named.reception.name == b"mx.example"


# Policies and challenges ------------------------------------------------------


def talk(house: Hall, client: socket.socket, line: bytes) -> bytes:
    """Say a line and give the answer."""
    client.send(line + b"\r\n")
    wait_for(lambda: house.turn(house.last))
    return client.recv(10_000)


@pytest.fixture
def ruled() -> Iterator[Hall]:
    """Give a house that goes by rules."""
    with hall("-x", "/rules.cdb") as made:
        yield made


def test_popup_s_options_are_the_policy() -> None:
    with hall(front=("-d0", "-p", "refuse")) as strict:
        client = strict.come()
        assert client.recv(100) == GREETING
        assert talk(strict, client, b"USER joe").startswith(b"-ERR [AUTH] TLS")


def test_a_rule_can_set_the_policy_of_a_network(ruled: Hall) -> None:
    ruled.door.set_rules(rules((b"127.", b"+POP3SASL=none\0")))
    client = ruled.come()
    client.recv(100)
    assert b"SASL" not in talk(ruled, client, b"CAPA")


def test_stls_is_offered_with_a_certificate_unless_a_rule_says_no() -> None:
    with hall("--certificate", "/c.pem", "-x", "/r") as secure:
        secure.door.set_rules(rules((b"", b"")))
        client = secure.come()
        client.recv(100)
        assert b"\nSTLS\r" in talk(secure, client, b"CAPA")
        secure.door.set_rules(rules((b"", b"+UCSPITLS=-\0")))
        client = secure.come()
        client.recv(100)
        assert b"\nSTLS\r" not in talk(secure, client, b"CAPA")


def test_those_of_one_kind_share_a_policy(
    ruled: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_POLICIES", 2)
    made = []
    for value in (b"none", b"none", b"plain", b"login", b"none", b"login"):
        ruled.door.set_rules(rules((b"", b"+POP3SASL=" + value + b"\0")))
        ruled.come()
        login = ruled.last.login
        assert login is not None
        made.append(login.policy)
    assert made[0] is made[1] is made[4]
    assert len({id(each) for each in made}) == 4, "what is beyond is made each time"
    assert len(ruled.reception._policies) == 2


def test_a_rule_that_means_nothing_ends_its_clients_only(ruled: Hall) -> None:
    records = (b"127.", b"+POP3PLAINTEXT=perhaps\0")
    ruled.door.set_rules(rules(records))
    for _ in range(3):
        client = ruled.come()
        assert client.recv(100) == b""
    assert [end[1:] for end in ruled.ended] == [(EXIT_HARD, "policy")] * 3
    assert (ruled.inside, ruled.door.admission.count) == ([], 0)
    (complaint,) = ruled.lobby.complaints
    assert "allow or refuse, not perhaps" in complaint
    ruled.door.set_rules(rules((b"", b"")))
    assert ruled.come().recv(100) == GREETING


def test_nobody_is_let_in_before_the_rules(ruled: Hall) -> None:
    client = ruled.come()
    assert ruled.inside == []
    ruled.door.set_rules(-1)
    ruled.accept()
    assert client.recv(100) == GREETING


@pytest.mark.parametrize(
    ("words", "front", "expected"),
    [
        ((), (), False),
        ((), ("-m", "cram-md5"), True),
        ((), ("-m", "plain,login"), False),
        (("-x", "/rules.cdb"), (), True),
    ],
)
def test_who_may_use_challenges(
    words: tuple[str, ...], front: tuple[str, ...], *, expected: bool
) -> None:
    with hall(*words, front=front) as made:
        assert made.reception.uses_challenges() is expected


def test_without_verifiers_who_make_them_challenges_are_made_here() -> None:
    with hall(front=("-m", "cram-md5")) as made:
        client = made.come()
        client.recv(100)
        challenge = talk(made, client, b"AUTH CRAM-MD5")
        assert challenge.startswith(b"+ ")
        assert made.last.desk is None


def test_a_challenge_is_its_verifier_s() -> None:
    with hall(front=("-m", "cram-md5")) as made:
        verifier = made.open_desks()
        client = made.come()
        assert made.inside == [], "nobody is let in before there is one"
        verifier.give_stamps(b"<1@mx>")
        assert made.office is not None
        made.office.hear(verifier)
        made.accept()
        assert client.recv(100) == GREETING
        assert made.last.desk is not None
        assert made.office.holders() == [1]
        assert talk(made, client, b"AUTH CRAM-MD5") == b"+ PDFAbXg+\r\n"
        made.last.end(0, "quit")
        assert made.office.holders() == [0]


def test_who_needs_no_challenge_takes_none_away(ruled: Hall) -> None:
    verifier = ruled.open_desks()
    verifier.give_stamps(b"<1@mx>")
    assert ruled.office is not None
    ruled.office.hear(verifier)
    ruled.door.set_rules(rules((b"", b"")))
    for _ in range(3):
        assert ruled.come().recv(100) == GREETING
    assert ruled.office.holders() == [0]
    ruled.door.set_rules(rules((b"", b"+POP3AUTH=+apop\0")))
    assert ruled.come().recv(100) == b"+OK <1@mx>\r\n"
    assert ruled.office.holders() == [1]


# TLS from the first octet on --------------------------------------------------


@pytest.fixture
def secure() -> Iterator[Hall]:
    """Give a house whose listener speaks TLS at once."""
    with hall("--certificate", "/c.pem", is_tls=True) as made:
        yield made


def test_the_greeting_comes_inside_tls(secure: Hall) -> None:
    client = secure.come()
    connection = secure.last
    assert (connection.state, secure.handshakes) == (TLS, [connection])
    assert connection.login is None
    client.settimeout(0)
    assert received(client) == b""
    here, there = socket.socketpair()
    connection.socket.close()
    connection.socket = secure.keep(adopted(here))
    connection.guest.tls = {b"SSL_PROTOCOL": b"TLSv1.3"}
    secure.reception.welcome(connection)
    assert secure.keep(there).recv(100) == GREETING
    login = secure.last.login
    assert login is not None
    assert login.policy.is_tls
    assert not login.policy.can_start_tls()


def test_challenges_may_be_gone_when_tls_has_begun() -> None:
    words = ("--certificate", "/c.pem")
    with hall(*words, front=("-m", "cram-md5"), is_tls=True) as made:
        verifier = made.open_desks()
        verifier.give_stamps(b"<1@mx>")
        assert made.office is not None
        made.office.hear(verifier)
        for _ in range(2):
            made.come()
        first, second = made.inside
        for connection in (first, second):
            made.reception.welcome(connection)
        assert [each.state for each in (first, second)] == [TALK, ENDED]
        assert made.ended == [(second, EXIT_TEMPORARY, "no-challenge")]
        assert made.door.admission.count == 1


# Behind a proxy ---------------------------------------------------------------


@pytest.fixture
def proxied() -> Iterator[Hall]:
    """Give a house whose clients come by a proxy."""
    with hall(*PROXIES, "--per-source", "1") as made:
        yield made


def knock(house: Hall) -> tuple[socket.socket, Connection]:
    """Have a proxy connect, which has not said anything yet."""
    proxy = house.come()
    return proxy, house.last


def heard(house: Hall, connection: Connection, octets: int) -> None:
    """Have so many octets read, once they have come."""
    wait_for(lambda: len(left_in(connection.socket)) == octets)
    house.reception.read_header(connection)


def test_nobody_is_greeted_before_the_header(proxied: Hall) -> None:
    proxy, connection = knock(proxied)
    assert connection.deadline == NOW + HEADER_SECONDS
    assert connection.login is None
    assert proxied.door.admission.count == 0
    proxied.reception.read_header(connection)
    proxy.send(TEXT[:20])
    heard(proxied, connection, 20)
    proxy.send(TEXT[20:] + b"CAPA\r\n")
    heard(proxied, connection, len(TEXT) + 6)
    assert proxy.recv(100) == GREETING
    assert connection.guest.remote == (b"198.51.100.7", 4321)
    assert left_in(connection.socket) == b"CAPA\r\n"
    assert proxied.door.admission.count == 1
    assert proxied.inside == [connection]


def test_limits_are_for_who_is_behind_it(proxied: Hall) -> None:
    first, connection = knock(proxied)
    first.send(TEXT)
    heard(proxied, connection, len(TEXT))
    second, other = knock(proxied)
    second.send(TEXT)
    heard(proxied, other, len(TEXT))
    assert second.recv(100) == b""
    assert proxied.inside == [connection]
    assert proxied.door.admission.count == 1
    assert proxied.lobby.events() == [b"Reject::CONNECT::Source"]
    third, another = knock(proxied)
    header = TEXT.replace(b"198.51.100.7", b"198.51.100.8")
    third.send(header)
    heard(proxied, another, len(header))
    assert third.recv(100) == GREETING


def test_tls_of_the_proxy_counts(proxied: Hall) -> None:
    proxy, connection = knock(proxied)
    proxy.send(BINARY)
    heard(proxied, connection, len(BINARY))
    assert proxy.recv(100) == GREETING
    assert connection.login is not None
    assert connection.login.policy.is_tls


@pytest.mark.parametrize("octets", [b"USER joe\r\n", b"PROXY TCP7 x"])
def test_another_beginning_is_turned_away(proxied: Hall, octets: bytes) -> None:
    proxy, connection = knock(proxied)
    proxy.send(octets)
    heard(proxied, connection, len(octets))
    with pytest.raises(ConnectionResetError):
        proxy.recv(100)
    assert (proxied.inside, proxied.door.admission.count) == ([], 0)
    assert proxied.lobby.events() == [b"Reject::CONNECT::Proxy"]


def test_a_proxy_that_says_nothing_is_turned_away(proxied: Hall) -> None:
    proxy, connection = knock(proxied)
    proxied.reception.turn_away(connection, "no header came")
    assert proxy.recv(100) == b""
    assert proxied.inside == []
    assert proxied.lobby.lines[0].endswith(b"?~ '' no header came\n")


def test_a_proxy_that_goes_is_turned_away(proxied: Hall) -> None:
    proxy, connection = knock(proxied)
    proxy.close()
    wait_for(lambda: connection.socket.recv(1, socket.MSG_PEEK) == b"")
    proxied.reception.read_header(connection)
    assert proxied.inside == []


def test_a_header_may_come_before_tls() -> None:
    words = (*PROXIES, "--certificate", "/c.pem")
    with hall(*words, is_tls=True) as made:
        proxy, connection = knock(made)
        assert made.handshakes == []
        proxy.send(TEXT + b"\x16\x03\x01")
        heard(made, connection, len(TEXT) + 3)
        assert made.handshakes == [connection]
        assert connection.state == TLS
        assert left_in(connection.socket) == b"\x16\x03\x01"


def test_others_need_no_header() -> None:
    with hall("--proxy-from", "192.0.2.0/24") as made:
        assert made.come().recv(100) == GREETING
