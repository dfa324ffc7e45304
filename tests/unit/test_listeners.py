# SPDX-License-Identifier: ISC
"""Listeners: the words that name them, on real sockets of the loopback."""

import _socket
import errno
import os
import posix
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import EXIT_TEMPORARY, Hard, Temporary
from qtools.server import listeners
from qtools.server.listeners import Endpoint, adopt, bind, endpoint, endpoint_of
from tests.support import free_port


def shown(where: Endpoint) -> tuple[str | bytes, int, bool]:
    return where.host, where.port, where.is_tls


@pytest.mark.parametrize(
    ("word", "host", "port", "is_tls"),
    [
        ("127.0.0.1:110", "127.0.0.1", 110, False),
        ("mx.example:pop3", "mx.example", 110, False),
        ("tls:mx.example:pop3s", "mx.example", 995, True),
        ("[::1]:110", "::1", 110, False),
        ("tls:[fe80::1%eth0]:995", "fe80::1%eth0", 995, True),
        ("[::]:110", "::", 110, False),
        ("*:110", "*", 110, False),
        ("0:110", "0.0.0.0", 110, False),
        (":110", "0.0.0.0", 110, False),
        ("tls:0:995", "0.0.0.0", 995, True),
        ("localhost:0", "localhost", 0, False),
        ("0:65535", "0.0.0.0", 65535, False),
        ("unix:/run/pop", b"/run/pop", 0, False),
        ("tls:unix:/run/a:b", b"/run/a:b", 0, True),
    ],
)
def test_a_word_names_a_listener(
    word: str, host: str | bytes, port: int, *, is_tls: bool
) -> None:
    assert shown(endpoint(word)) == (host, port, is_tls)


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("", "a listener is"),
        ("110", "a listener is"),
        ("tls:110", "a listener is"),
        ("::1:110", "a listener is"),
        ("[::1:110", "a listener is"),
        ("::1]:110", "a listener is"),
        ("127.0.0.1:", "port number for ''"),
        ("127.0.0.1:65536", "a port is 0 to 65535"),
        ("127.0.0.1:" + "1" * 5000, "a port is 0 to 65535"),
        ("127.0.0.1:-1", "port number for '-1'"),
        ("127.0.0.1:+1", "port number"),
        ("127.0.0.1: 1", "port number"),
        ("127.0.0.1:\u0661", "port number"),
        ("127.0.0.1:pop\0", "port number"),
        ("127.0.0.1:\udcff", "port number"),
        ("mx\udcff:110", "no name of a host"),
        ("mx\n:110", "no name of a host"),
        ("mx\0:110", "no name of a host"),
        ("m\xfcx:110", "no name of a host"),
        ("unix:", "a whole path"),
        ("unix:run/pop", "a whole path"),
        ("unix:/a\0b", "a whole path"),
        ("unix:/" + "x" * 107, "a whole path"),
    ],
)
def test_a_word_that_names_nothing_is_refused(word: str, complaint: str) -> None:
    with pytest.raises(Hard, match=complaint) as caught:
        endpoint(word)
    assert str(caught.value).isascii() or "\udcff" not in str(caught.value)


@given(st.text(st.characters(codec=None), max_size=30))
def test_any_word_is_a_listener_or_refused(word: str) -> None:
    try:
        where = endpoint(word)
    except Hard:
        return
    assert 0 <= where.port <= 65535
    assert str(where).isprintable() or isinstance(where.host, bytes)


def test_the_positional_words_are_tcpservers() -> None:
    assert shown(endpoint_of("0", "110")) == ("0.0.0.0", 110, False)
    assert shown(endpoint_of("", "110")) == ("0.0.0.0", 110, False)
    assert shown(endpoint_of("::", "pop3s", is_tls=True)) == ("::", 995, True)
    assert shown(endpoint_of("::1", "0")) == ("::1", 0, False)
    assert shown(endpoint_of("unix:/run/pop", "0")) == (b"/run/pop", 0, False)


def test_pop3_is_known_without_a_file_of_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str, protocol: str) -> int:
        raise OSError(f"service/proto not found: {name}/{protocol}")

    monkeypatch.setattr(_socket, "getservbyname", missing)
    assert endpoint("0:pop3").port == 110
    assert endpoint("0:pop3s").port == 995
    with pytest.raises(Hard, match="unable to figure out port number for 'smtp'"):
        endpoint("0:smtp")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("tls:127.0.0.1:995", "127.0.0.1:995"),
        ("[::1]:110", "[::1]:110"),
        ("*:110", "*:110"),
        ("unix:/run/\udcff", "unix:/run/\\xff"),
    ],
)
def test_a_listener_is_shown_as_it_is_written(word: str, text: str) -> None:
    assert str(endpoint(word)) == text


def connects(family: int, address: object) -> bool:
    """Tell whether somebody listens there."""
    with socket.socket(family) as client:
        client.settimeout(5)
        return client.connect_ex(address) == 0  # type: ignore[arg-type]  # of any family


def accept(listener: _socket.socket) -> None:
    """Take the next connection and end it.

    A second object on the same descriptor leaves the flags of the first as they are.
    """
    with socket.socket(fileno=os.dup(listener.fileno())) as same:
        same.accept()[0].close()


def test_it_listens_without_blocking() -> None:
    with closing(bind(endpoint("127.0.0.1:0"), 5)) as made:
        assert made.getsockname()[0] == "127.0.0.1"
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not made.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
        assert not os.get_inheritable(made.fileno())
        with pytest.raises(BlockingIOError):
            accept(made)
        assert connects(socket.AF_INET, made.getsockname())
        accept(made)


def test_the_port_asked_for_is_the_port_bound() -> None:
    port = free_port()
    with closing(bind(endpoint(f"127.0.0.1:{port}"), 5)) as made:
        assert made.getsockname() == ("127.0.0.1", port)


def test_a_port_in_use_is_temporary() -> None:
    with closing(bind(endpoint("127.0.0.1:0"), 5)) as made:
        port = made.getsockname()[1]
        with pytest.raises(Temporary) as caught:
            bind(endpoint(f"127.0.0.1:{port}"), 5)
    text = f"unable to bind 127.0.0.1:{port}: Address already in use"
    assert str(caught.value) == text
    assert caught.value.code == EXIT_TEMPORARY


def test_a_foreign_address_is_temporary() -> None:
    with pytest.raises(Temporary, match=r"bind 192\.0\.2\.1:0: Cannot assign"):
        bind(endpoint("192.0.2.1:0"), 5)


def test_a_port_one_may_not_have_is_for_somebody_to_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[_socket.socket] = []

    class Forbidden(_socket.socket):
        def bind(self, _address: object) -> None:
            made.append(self)
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_socket, "socket", Forbidden)
    with pytest.raises(Hard, match=r"bind 127\.0\.0\.1:110: Permission denied"):
        bind(endpoint("127.0.0.1:110"), 5)
    assert [each.fileno() for each in made] == [-1]


def test_ipv6_of_one_address_is_ipv6_only() -> None:
    with closing(bind(endpoint("[::1]:0"), 5)) as made:
        assert made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        port = made.getsockname()[1]
        assert connects(socket.AF_INET6, ("::1", port))
        assert not connects(socket.AF_INET, ("127.0.0.1", port))


class OnLoopback(_socket.socket):
    """A socket that stays at home whatever it is asked for, and notes that."""

    asked: list[tuple[object, bool]]

    def bind(self, address: object) -> None:
        is_six = self.family == socket.AF_INET6
        is_dual = is_six and not self.getsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
        )
        OnLoopback.asked.append((address, is_dual))
        super().bind(("::1" if is_six else "127.0.0.1", 0))


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    OnLoopback.asked = []
    monkeypatch.setattr(_socket, "socket", OnLoopback)


@pytest.mark.usefixtures("on_loopback")
@pytest.mark.parametrize(
    ("word", "address", "is_dual"),
    [
        ("*:1110", ("::", 1110), True),
        ("[::]:1110", ("::", 1110), True),
        ("0:1110", ("0.0.0.0", 1110), False),
        ("[::1]:1110", ("::1", 1110, 0, 0), False),
    ],
)
def test_what_is_asked_of_the_kernel(
    word: str, address: tuple[object, ...], *, is_dual: bool
) -> None:
    bind(endpoint(word), 5).close()
    assert OnLoopback.asked == [(address, is_dual)]


def test_where_there_is_no_ipv6_a_star_is_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Old(OnLoopback):
        def __init__(self, family: int, kind: int, protocol: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported")
            super().__init__(family, kind, protocol)

    OnLoopback.asked = []
    monkeypatch.setattr(_socket, "socket", Old)
    bind(endpoint("*:1110"), 5).close()
    assert OnLoopback.asked == [(("0.0.0.0", 1110), False)]
    with pytest.raises(Temporary, match=r"bind \[::\]:1110: Address family"):
        bind(endpoint("[::]:1110"), 5)


Rows = list[tuple[int, int, int, str, tuple[str, int]]]


def lookups(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name lead to these addresses, in this order."""
    rows: Rows = [
        (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, 0))
        for each in addresses
    ]
    monkeypatch.setattr(_socket, "getaddrinfo", lambda *_: rows)


@pytest.mark.parametrize(
    ("addresses", "bound"),
    [
        (["127.0.0.1", "127.0.0.2"], "127.0.0.1"),
        (["127.0.0.2", "127.0.0.1"], "127.0.0.2"),
        (["::1", "127.0.0.2"], "127.0.0.2"),
        (["::1"], "::1"),
    ],
)
def test_a_name_is_its_first_address_as_with_tcpserver(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], bound: str
) -> None:
    lookups(monkeypatch, *addresses)
    with closing(bind(endpoint("mx.example:0"), 5)) as made:
        assert made.getsockname()[0] == bound


def test_a_name_without_an_address_is_temporary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lookups(monkeypatch)
    with pytest.raises(Temporary, match=r"no IP address for mx\.example"):
        bind(endpoint("mx.example:0"), 5)


def test_a_name_that_leads_nowhere_is_temporary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object) -> Rows:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(_socket, "getaddrinfo", unknown)
    text = r"unable to figure out IP address for mx\.example: Name or service"
    with pytest.raises(Temporary, match=text):
        bind(endpoint("mx.example:0"), 5)


# UNIX sockets.


def at(path: Path) -> Endpoint:
    return endpoint(f"unix:{path}")


def test_a_unix_socket_listens(tmp_path: Path) -> None:
    path = tmp_path / "pop"
    with closing(bind(at(path), 5)) as made:
        assert made.getsockname() == str(path)
        assert connects(socket.AF_UNIX, str(path))


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pop"
    bind(at(path), 5).close()
    assert path.is_socket()
    with closing(bind(at(path), 5)):
        assert connects(socket.AF_UNIX, str(path))


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_living_unix_socket_is_left_alone(tmp_path: Path, waiting: int) -> None:
    """Also one whose backlog is full; to connect to it would block."""
    path = tmp_path / "pop"
    with closing(bind(at(path), 0)) as made:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(waiting)]
        for client in clients:
            client.connect(str(path))
        with pytest.raises(Temporary, match="Address already in use"):
            bind(at(path), 5)
        for client in clients:
            client.close()
        accept(made)
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "pop", tmp_path / "target"
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "folder":
        path.mkdir()
    else:
        bind(at(target), 5).close()
        path.symlink_to(target)
    with pytest.raises(Hard, match="is there already and no socket"):
        bind(at(path), 5)
    assert os.path.lexists(path)


def test_a_socket_of_another_kind_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "pop"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(Temporary, match="Address already in use"):
            bind(at(path), 5)
    assert path.is_socket()


def test_a_socket_that_was_replaced_meanwhile_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers start at once: the slower one must not cut off the other."""
    path, fresh = tmp_path / "pop", tmp_path / "fresh"
    bind(at(path), 5).close()
    with closing(bind(at(fresh), 5)):
        real = posix.lstat

        def overtaken(name: bytes) -> os.stat_result:
            seen = real(name)
            if fresh.exists():
                fresh.rename(path)
                # The probe that follows asks the old one, which refuses.
                monkeypatch.setattr(_socket, "socket", Refusing)
            return seen

        monkeypatch.setattr(posix, "lstat", overtaken)
        with pytest.raises(Temporary, match="Address already in use"):
            bind(at(path), 5)
        monkeypatch.undo()
        assert connects(socket.AF_UNIX, str(path))


class Refusing(_socket.socket):
    """A socket that nobody answers."""

    def connect(self, _address: object) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def test_a_missing_folder_is_for_somebody_to_mend(tmp_path: Path) -> None:
    with pytest.raises(Hard, match=r"unable to bind unix:.*No such file"):
        bind(at(tmp_path / "none/pop"), 5)


# Socket activation.


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "is_tls"),
    [(b"tls", True), (b"pop3s", True), (b"pop3", False), (b"unknown", False)],
)
def test_a_listening_socket_is_adopted(
    listener: socket.socket, name: bytes, *, is_tls: bool
) -> None:
    made, is_known_as_tls = adopt(os.dup(listener.fileno()), name, has_tls=True)
    with closing(made):
        assert is_known_as_tls == is_tls
        assert made.getsockname() == listener.getsockname()
        with pytest.raises(BlockingIOError):
            accept(made)


def test_port_995_means_tls(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "TLS_PORT", listener.getsockname()[1])
    made, is_tls = adopt(os.dup(listener.fileno()), b"unknown", has_tls=True)
    made.close()
    assert is_tls


def test_port_995_means_nothing_without_a_certificate(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "TLS_PORT", listener.getsockname()[1])
    made, is_tls = adopt(os.dup(listener.fileno()), b"unknown", has_tls=False)
    made.close()
    assert not is_tls


def test_a_unix_socket_is_adopted_whatever_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("9")
        one.listen()
        made, is_tls = adopt(os.dup(one.fileno()), b"unknown", has_tls=True)
        made.close()
    assert not is_tls


def test_what_does_not_listen_is_refused_and_left_open(tmp_path: Path) -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    near, far = socket.socketpair()
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    packets = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    packets.bind(str(tmp_path / "packets"))
    packets.listen()
    with bound, near, far, datagrams, packets:
        for one in (bound, near, datagrams, packets):
            with pytest.raises(Hard, match=r"is not a listening stream socket"):
                adopt(one.fileno(), b"tls", has_tls=True)
            assert os.fstat(one.fileno())


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(Hard, match=r"Socket operation on non-socket"):
        adopt(descriptor, b"tls", has_tls=True)
    os.close(descriptor)
    with pytest.raises(Hard, match=r"Bad file descriptor"):
        adopt(descriptor, b"tls", has_tls=True)
