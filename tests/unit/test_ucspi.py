# SPDX-License-Identifier: ISC
"""UCSPI: who the peer is, and the control socket of UCSPI-TLS in both dialects."""

import os
import signal
import socket
from collections.abc import Iterator
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.system import ucspi
from qtools.system.ucspi import TlsControl, TlsFailed

PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n" + b"QUJD" * 500 + b"\n-----END-----\n"
# In sslserver's order, with values of several lines and an empty one.
SSLSERVER = [
    (b"SSL_PROTOCOL", b"TLSv1.3"),
    (b"SSL_SESSION_ID", b""),
    (b"SSL_CIPHER", b"TLS_AES_256_GCM_SHA384"),
    (b"SSL_SERVER_S_DN", b"/CN=mx.example/O=a=b"),
    (b"SSL_SERVER_CERT", PEM),
    (b"SSL_CLIENT_CERT_CHAIN_1", PEM),
]
S6 = [
    (b"SSL_PROTOCOL", b"TLSv1.3"),
    (b"SSL_CIPHER", b"TLS_AES_128_GCM_SHA256"),
    (b"SSL_TLS_SNI_SERVERNAME", None),
]
Dump = list[tuple[bytes, bytes | None]]


def as_dump(entries: Dump) -> bytes:
    words = (name if word is None else name + b"=" + word for name, word in entries)
    return b"".join(word + b"\0" for word in words) + b"\0"


@pytest.mark.parametrize(
    ("environ", "address", "host"),
    [
        (
            {"TCPREMOTEIP": "192.0.2.7", "TCPREMOTEHOST": "c.example"},
            "192.0.2.7",
            "c.example",
        ),
        ({"TCP6REMOTEIP": "2001:db8::1", "TCPREMOTEIP": "x"}, "2001:db8::1", "unknown"),
        ({"TCP6REMOTEIP": "::ffff:192.0.2.9"}, "192.0.2.9", "unknown"),
        ({"SSLREMOTEIP": "192.0.2.8", "SSLREMOTEHOST": "s"}, "192.0.2.8", "s"),
        ({"TCPREMOTEIP": "192.0.2.7", "TCPREMOTEHOST": ""}, "192.0.2.7", "unknown"),
    ],
)
def test_peer(environ: dict[str, str], address: str, host: str) -> None:
    given_ = {name.encode(): word.encode() for name, word in environ.items()}
    assert ucspi.peer(given_) == (address.encode(), host.encode())


class Server:
    """The TLS side: a control socket and what stands for the cleartext."""

    def __init__(self) -> None:
        self.end, theirs = socket.socketpair()
        self.read, self.write = os.pipe()
        self.control = TlsControl(theirs.detach(), self.read, self.write)

    def close(self) -> None:
        self.end.close()
        for descriptor in (self.control.control, self.read, self.write):
            os.close(descriptor)

    def answer(self, *pieces: bytes, closes: bool = False) -> None:
        """Wait for the request and send the pieces, each as a write of its own."""
        assert self.end.recv(10) == b"Y"
        for piece in pieces:
            self.end.sendall(piece)
        if closes:
            self.end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def start(server: Server, *pieces: bytes, closes: bool = False) -> object:
    tls = Thread(target=server.answer, args=pieces, kwargs={"closes": closes})
    tls.start()
    try:
        return server.control.start()
    finally:
        tls.join()


@pytest.mark.parametrize(
    "entries", [SSLSERVER, S6, []], ids=["sslserver", "s6", "none"]
)
@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_a_dump_in_pieces(server: Server, entries: Dump, size: int) -> None:
    dump = as_dump(entries)
    pieces = [dump[at : at + size] for at in range(0, len(dump), size)]
    assert start(server, *pieces) == dict(entries)


def test_two_nuls_are_an_empty_dump(server: Server) -> None:
    assert start(server, b"\0\0") == {}


@pytest.mark.parametrize("dump", [b"", b"SSL_PROTOCOL=TLSv1.3\0", b"SSL_PRO"])
def test_an_end_before_the_double_nul_is_a_failure(server: Server, dump: bytes) -> None:
    with pytest.raises(TlsFailed):
        start(server, dump, closes=True)


def test_a_dump_without_end_is_a_failure(server: Server) -> None:
    with pytest.raises(TlsFailed):
        start(server, b"SSL_X=" + b"x" * ucspi.DUMP_OCTETS * 2, closes=True)


def test_a_server_that_is_gone_is_a_failure(server: Server) -> None:
    server.end.close()
    with pytest.raises(TlsFailed):
        server.control.start()


def test_a_handshake_has_its_own_time_limit(server: Server) -> None:
    with pytest.raises(TlsFailed):
        server.control.start(0.01)


def test_sigterm_while_waiting_is_a_failure(server: Server) -> None:
    def give_up() -> None:
        server.end.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)

    previous = signal.getsignal(signal.SIGTERM)
    tls = Thread(target=give_up)
    tls.start()
    with pytest.raises(TlsFailed):
        server.control.start()
    tls.join()
    assert signal.getsignal(signal.SIGTERM) is previous


@given(st.binary(max_size=200))
def test_only_ssl_variables_are_taken(dump: bytes) -> None:
    assert all(name.startswith(b"SSL") for name in ucspi._parse(dump))


def numbers(control: object, read: object, write: object) -> dict[bytes, bytes]:
    words = (control, read, write)
    names = (ucspi.CONTROL, ucspi.READ, ucspi.WRITE)
    return {
        name: str(word).encode()
        for name, word in zip(names, words, strict=True)
        if word is not None
    }


def test_three_open_descriptors_are_a_control(server: Server) -> None:
    control = server.control.control
    found = ucspi.tls_control(numbers(control, server.read, server.write))
    assert found
    assert (found.control, found.read, found.write) == (
        control,
        server.read,
        server.write,
    )


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(
    "word", [None, "", "x", "-1", "3x", " 3", "0", "1", "2", "65000", "9" * 30]
)
def test_anything_else_is_none(server: Server, place: int, word: str | None) -> None:
    words: list[object] = [server.control.control, server.read, server.write]
    words[place] = word
    assert ucspi.tls_control(numbers(*words)) is None


def test_leave_takes_the_variables_away() -> None:
    environ = numbers(7, 8, 9) | {b"UCSPITLS": b"", b"SSL_PROTOCOL": b"x"}
    TlsControl(7, 8, 9).leave(environ)
    assert environ == {b"SSL_PROTOCOL": b"x"}
