# SPDX-License-Identifier: ISC
"""What is asked about a client: ident, names, a PROXY header; and how long."""

import _socket
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from qtools.errors import Temporary
from qtools.server.foreign import lookup
from qtools.server.foreign import proxy as foreign_proxy

HOST = "127.0.0.1"
LOCAL = (b"127.0.0.1", 110)

Answer = Callable[[bytes | None], list[bytes]]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answer]:
    """Give what starts an ident server with one answer, and gives what it is asked.

    None: it says nothing and keeps the connection.
    """
    listener = socket.create_server((HOST, 0))
    monkeypatch.setattr(lookup, "IDENT_PORT", listener.getsockname()[1])
    asked: list[bytes] = []
    over = threading.Event()
    threads = []

    def serve(text: bytes | None) -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            with client:
                asked.append(client.recv(100))
                if text is None:
                    over.wait(30)
                else:
                    client.sendall(text)

    def start(text: bytes | None) -> list[bytes]:
        threads.append(threading.Thread(target=serve, args=(text,)))
        threads[-1].start()
        return asked

    yield start
    over.set()
    for thread in threads:
        thread.join()
    listener.close()


@pytest.mark.parametrize(
    ("text", "user"),
    [
        (b"4321 , 110 : USERID : UNIX : joe\r\n", b"joe"),
        (b"4321,110:USERID:UNIX:joe\n", b"joe"),
        (b"1,2:USERID:OTHER,US-ASCII: j o\te:x%\r\n", b"joe:x%"),
        (b"4321 , 110 : ERROR : NO-USER\r\n", b""),
        (b"nonsense\n", b""),
        (b"a:b:c:" + b"d" * 300 + b"\n", b"d" * 257),
        (b"a:b:c:" + b"d" * 3000, b"d" * 257),
        (b"a:b:c:jo\0e\n", b"jo"),
        (b"a:b:c:cut short", None),
        (b"", None),
    ],
)
def test_ident_is_read_as_tcpserver_does(
    answer: Answer, text: bytes, user: bytes | None
) -> None:
    asked = answer(text)
    assert lookup.ident(LOCAL, (HOST.encode(), 4321), 30) == user
    assert asked == [b"4321 , 110\r\n"]


def test_ident_waits_no_longer_than_it_is_told(answer: Answer) -> None:
    answer(None)
    began = time.monotonic()
    assert lookup.ident(LOCAL, (HOST.encode(), 4321), 0.05) is None
    assert time.monotonic() - began < 10


def test_no_ident_server_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as listener:
        monkeypatch.setattr(lookup, "IDENT_PORT", listener.getsockname()[1])
    assert lookup.ident(LOCAL, (HOST.encode(), 4321), 30) is None


def test_ident_about_an_address_that_is_not_ours_is_no_answer() -> None:
    assert lookup.ident((b"192.0.2.1", 110), (HOST.encode(), 4321), 30) is None


def names(monkeypatch: pytest.MonkeyPatch, name: str, *addresses: str) -> None:
    """Have the resolver give one name, and these addresses for it."""
    rows = [(2, 1, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(_socket, "getnameinfo", lambda *_: (name, "0"))
    monkeypatch.setattr(_socket, "getaddrinfo", lambda *_: rows)


def test_a_name_is_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, "Client.EXAMPLE")
    assert lookup.host_name(b"192.0.2.7") == b"client.example"


@pytest.mark.parametrize(
    ("addresses", "name"),
    [
        (["192.0.2.8", "192.0.2.7"], b"client.example"),
        (["192.0.2.8"], None),
        ([], None),
    ],
)
def test_a_name_that_does_not_lead_back_is_none_when_paranoid(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], name: bytes | None
) -> None:
    names(monkeypatch, "client.example", *addresses)
    for address in (b"192.0.2.7", b"::ffff:192.0.2.7"):
        assert lookup.host_name(address, is_paranoid=True) == name


def test_an_address_without_a_name_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(_socket, "getnameinfo", fail)
    assert lookup.host_name(b"192.0.2.7") is None


def test_a_resolver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()

    def hang(*_: object) -> None:
        here.recv(1)

    monkeypatch.setattr(_socket, "getnameinfo", hang)
    monkeypatch.setattr(lookup, "LOOKUP_SECONDS", 0.05)
    assert lookup.host_name(b"192.0.2.7") is None
    here.close()
    there.close()


def test_a_header_that_does_not_come_is_waited_for_so_long() -> None:
    here, there = socket.socketpair()
    there.sendall(b"PROXY TCP4 ")
    with pytest.raises(Temporary, match="in time"):
        foreign_proxy.read(here, 0.05)
    here.close()
    there.close()


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_header_may_come_in_pieces_and_what_follows_stays(step: int) -> None:
    header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 110\r\n"
    data = header + b"USER joe\r\n"
    with socket.create_server((HOST, 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        here, _ = listener.accept()
    there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send() -> None:
        for place in range(0, len(data), step):
            there.sendall(data[place : place + step])

    thread = threading.Thread(target=send)
    thread.start()
    found = foreign_proxy.read(here)
    thread.join()
    assert found.source == (b"192.0.2.7", 4321)
    there.close()
    rest = b""
    while part := here.recv(100):
        rest += part
    here.close()
    assert rest == b"USER joe\r\n"
