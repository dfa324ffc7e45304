# SPDX-License-Identifier: ISC
"""The TLS worker: real processes, and the clients of Python and of OpenSSL."""

import contextlib
import hashlib
import os
import random
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qtools.server.channel import pair
from qtools.server.tls import dump as tls_dump
from qtools.server.tls import packets as relay_packets
from qtools.server.tls.common import Limits
from qtools.server.tls.connection import TlsSocket
from qtools.server.tls.settings import TlsSettings
from qtools.system.ucspi import TlsControl, TlsFailed
from tests.certificates import Authority, authority
from tests.chain.relay import (
    HOST,
    Ends,
    Worker,
    drain,
    reset,
    settings,
    together,
    trust,
)
from tests.support import PATIENCE_SECONDS, need, wait_for

VERSIONS = ("TLSv1_2", "TLSv1_3")
BULK = random.Random(1).randbytes(6_000_000)

Start = Callable[..., Worker]


@pytest.fixture(scope="module")
def signer(session_room: Path) -> Authority:
    return authority(session_room / "tls")


@pytest.fixture
def start(signer: Authority) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(
            wanted: TlsSettings | None = None,
            limits: Limits | None = None,
            *,
            most_files: int = 0,
        ) -> Worker:
            wanted = wanted or settings(signer=signer)
            worker = Worker(wanted, limits, most_files=most_files)
            stack.callback(worker.kill)
            return worker

        yield begin


@pytest.fixture
def worker(start: Start) -> Worker:
    return start()


@pytest.fixture
def client(signer: Authority) -> ssl.SSLContext:
    return trust(signer)


# What it is for --------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_octets_both_ways(worker: Worker, signer: Authority, version: str) -> None:
    ends = worker.connect()
    made = worker.shake(ends, trust(signer, version))
    cipher = made.cipher()
    assert cipher
    certificate = made.getpeercert(binary_form=True) or b""
    assert worker.answer() == {
        b"SSL_SERVER_END_POINT": hashlib.sha256(certificate).hexdigest().encode(),
        b"SSL_PROTOCOL": version.replace("_", ".").encode(),
        b"SSL_CIPHER": cipher[0].encode(),
        b"SSL_CIPHER_USEKEYSIZE": str(cipher[2]).encode(),
        b"SSL_TLS_SNI_SERVERNAME": HOST.encode(),
    }
    ends.clear.sendall(b"+OK\r\n")
    assert made.recv(100) == b"+OK\r\n"
    made.sendall(b"CAPA\r\n")
    assert ends.clear.recv(100) == b"CAPA\r\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_program_ends(worker: Worker, signer: Authority, version: str) -> None:
    """The client hears what was said last, and that TLS has ended in order."""
    before = len(worker.descriptors())
    made, clear = worker.serve(trust(signer, version))
    made.sendall(b"QUIT\r\nnobody reads this\r\n")
    assert clear.recv(6) == b"QUIT\r\n"
    clear.sendall(b"+OK bye\r\n")
    clear.close()
    assert made.recv(100) == b"+OK bye\r\n"
    assert made.recv(100) == b""
    made.close()
    worker.holds(before)


def end_side(made: ssl.SSLSocket) -> None:
    """Say that no more comes from this side."""
    made.setblocking(False)
    with contextlib.suppress(ssl.SSLWantReadError):
        made.unwrap()
    made.settimeout(PATIENCE_SECONDS)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_client_ends_its_side(
    worker: Worker, signer: Authority, version: str
) -> None:
    """Whoever has said all he wants still gets the answers."""
    made, clear = worker.serve(trust(signer, version))
    made.sendall(b"QUIT\r\n")
    end_side(made)
    assert drain(clear) == b"QUIT\r\n"
    worker.rests()
    clear.sendall(b"+OK bye\r\n")
    clear.close()
    assert made.recv(100) == b"+OK bye\r\n"
    with pytest.raises(ssl.SSLZeroReturnError):  # both sides have ended in order
        made.recv(100)


def test_the_client_goes_without_a_word(worker: Worker, client: ssl.SSLContext) -> None:
    before = len(worker.descriptors())
    made, clear = worker.serve(client)
    made.close()
    assert clear.recv(1) == b""
    worker.rests()
    clear.close()
    worker.holds(before)


def test_the_client_is_killed(worker: Worker, client: ssl.SSLContext) -> None:
    before = len(worker.descriptors())
    made, clear = worker.serve(client)
    made.sendall(b"NOOP\r\n")
    clear.recv(6)
    reset(made)
    assert clear.recv(1) == b""
    worker.holds(before)


def test_the_program_is_killed(worker: Worker, client: ssl.SSLContext) -> None:
    """What it has said before it died without reading everything still arrives."""
    before = len(worker.descriptors())
    made, clear = worker.serve(client)
    clear.sendall(b"+OK\r\n")
    made.sendall(b"never read\r\n")
    wait_for(lambda: clear.recv(1, socket.MSG_PEEK))
    clear.close()
    assert drain(made) == b"+OK\r\n"
    made.close()
    worker.holds(before)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.slow
def test_much_both_ways_at_once(
    worker: Worker, signer: Authority, version: str
) -> None:
    made, clear = worker.serve(trust(signer, version))

    def talk(held: socket.socket) -> None:
        held.sendall(BULK)

    def listen(held: socket.socket) -> str:
        digest, left = hashlib.sha256(), len(BULK)
        while left:
            part = held.recv(65536)
            assert part
            digest.update(part)
            left -= len(part)
        return digest.hexdigest()

    heard = together(
        lambda: talk(clear),
        lambda: listen(clear),
        lambda: swap(made),
    )
    assert heard[1:] == [hashlib.sha256(BULK).hexdigest()] * 2


def test_many_small_records(worker: Worker, client: ssl.SSLContext) -> None:
    """None is left behind in the library while nothing more comes."""
    made, clear = worker.serve(client)
    lines = [b"NOOP %d\r\n" % number for number in range(1000)]
    for line in lines:
        made.sendall(line)
    heard = b""
    while len(heard) < len(b"".join(lines)):
        heard += clear.recv(65536)
    assert heard == b"".join(lines)


def swap(made: ssl.SSLSocket) -> str:
    """Send and read BULK with one TLS connection, which two threads can't share."""
    made.setblocking(False)
    digest, left, rest = hashlib.sha256(), len(BULK), memoryview(BULK)
    while left or rest:
        if rest:
            with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                rest = rest[made.send(rest[:16384]) :]
        with contextlib.suppress(ssl.SSLWantReadError):
            part = made.recv(65536)
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()


@pytest.mark.slow
def test_two_hundred_at_once(worker: Worker, client: ssl.SSLContext) -> None:
    before = len(worker.descriptors())
    served = [worker.serve(client) for _ in range(200)]
    worker.holds(before + 400)
    for number, (made, _) in enumerate(served):
        made.sendall(b"%d\r\n" % number)
    for number, (_, clear) in enumerate(served):
        assert clear.recv(100) == b"%d\r\n" % number
        clear.sendall(b"+OK %d\r\n" % number)
        clear.close()
    for number, (made, _) in enumerate(served):
        assert drain(made) == b"+OK %d\r\n" % number
        made.close()
    worker.holds(before)


# Slow readers ----------------------------------------------------------------


def fill(held: socket.socket, worker: Worker) -> int:
    """Write until nobody takes any more; give how many octets that were."""
    held.setblocking(False)
    taken = 0
    while True:
        try:
            taken += held.send(bytes(16384))
        except (BlockingIOError, ssl.SSLWantWriteError):
            seen = taken
            worker.rests()
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                taken += held.send(bytes(16384))
            if taken == seen:
                held.settimeout(PATIENCE_SECONDS)
                return taken


MOST_HELD = 40_000_000  # the buffers of the system, and next to nothing of ours


@pytest.mark.slow
def test_a_client_that_does_not_read(worker: Worker, client: ssl.SSLContext) -> None:
    """The program is held up, and the worker neither spins nor keeps it all."""
    made, clear = worker.serve(client)
    before = worker.memory()
    taken = fill(clear, worker)
    assert taken < MOST_HELD
    assert worker.memory() - before < 1_000_000
    clear.close()
    worker.rests()
    assert len(drain(made)) == taken


@pytest.mark.slow
def test_a_program_that_does_not_read(worker: Worker, client: ssl.SSLContext) -> None:
    made, clear = worker.serve(client)
    before = worker.memory()
    taken = fill(made, worker)
    assert taken < MOST_HELD
    assert worker.memory() - before < 1_000_000
    clear.sendall(b"still there\r\n")
    assert made.recv(100) == b"still there\r\n"
    made.close()
    worker.rests()
    assert len(drain(clear)) >= taken - 16384


# Handshakes that fail --------------------------------------------------------


def hello(client: ssl.SSLContext, *, name: str = HOST) -> bytes:
    """Give what a client says first."""
    up = ssl.MemoryBIO()
    side = client.wrap_bio(ssl.MemoryBIO(), up, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        side.do_handshake()
    return up.read()


def old_hello(version: int) -> bytes:
    """Give the first words of a client that knows no TLS above 1.0 or 1.1."""
    suites = bytes.fromhex("c013c014002f0035")
    body = bytes((3, version)) + bytes(32) + b"\0"
    body += len(suites).to_bytes(2, "big") + suites + b"\1\0"
    shake = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + len(shake).to_bytes(2, "big") + shake


SSL2_HELLO = bytes.fromhex("802e0100020015000000100100800200800300800400800500800600")
SSL2_HELLO += bytes.fromhex("4007 00c0".replace(" ", "")) + bytes(16)

NOT_TLS = {
    "TLS 1.0": old_hello(1),
    "TLS 1.1": old_hello(2),
    "SSL 3": old_hello(0),
    "SSL 2": SSL2_HELLO,
    "POP3": b"CAPA\r\n",
    "POP3, long": b"USER joe\r\nPASS secret\r\nSTAT\r\nQUIT\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: mx.example\r\n\r\n",
    "zeros": bytes(600),
    "an alert": bytes.fromhex("15030300020228"),
    "application data": bytes.fromhex("1703030005") + b"hello",
    "an empty handshake": bytes.fromhex("1603010000") * 40,
    "a long record": bytes.fromhex("160301ffff") + bytes(70000),
}


def is_refused(worker: Worker, ends: Ends, before: int) -> str:
    """Make sure that all is closed and nothing leaks; give the reason."""
    why = worker.answer()
    assert isinstance(why, str)
    assert drain(ends.clear) == b""
    heard = drain(ends.client)
    assert heard == b"" or heard[0] == ALERT
    ends.client.close()
    worker.holds(before)
    worker.rests()
    return why


ALERT = 21


@pytest.mark.parametrize("words", NOT_TLS.values(), ids=NOT_TLS.keys())
def test_what_is_no_tls_of_ours(worker: Worker, words: bytes) -> None:
    before = len(worker.descriptors())
    ends = worker.connect()
    with contextlib.suppress(ConnectionError):
        ends.client.sendall(words)
    assert is_refused(worker, ends, before)


@pytest.mark.slow
def test_why_is_a_word(worker: Worker) -> None:
    before = len(worker.descriptors())
    for words, why in (
        (b"GET / HTTP/1.0\r\n\r\n", "http-request"),
        (old_hello(1), "unsupported-protocol"),
        (b"CAPA\r\n", "wrong-version-number"),
    ):
        ends = worker.connect()
        ends.client.sendall(words)
        assert is_refused(worker, ends, before) == why


def test_words_before_the_handshake(worker: Worker, client: ssl.SSLContext) -> None:
    """What was said in the clear behind STLS can't be taken for what TLS brought."""
    before = len(worker.descriptors())
    ends = worker.connect()
    ends.client.sendall(b"USER joe\r\n" + hello(client))
    assert is_refused(worker, ends, before)


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 100])
def test_a_client_that_stops_in_the_midst(
    worker: Worker, client: ssl.SSLContext, cut: int
) -> None:
    before = len(worker.descriptors())
    ends = worker.connect()
    ends.client.sendall(hello(client)[:cut])
    worker.rests()
    ends.client.shutdown(socket.SHUT_WR)
    assert is_refused(worker, ends, before) == "eof"


def test_a_client_that_is_killed_in_the_midst(
    worker: Worker, client: ssl.SSLContext
) -> None:
    before = len(worker.descriptors())
    ends = worker.connect()
    ends.client.sendall(hello(client)[:20])
    worker.rests()
    reset(ends.client)
    assert worker.answer() in ("lost", "eof")
    assert drain(ends.clear) == b""
    worker.holds(before)


def test_a_client_that_is_gone_before(worker: Worker) -> None:
    """It may have gone while its descriptor was under way."""
    before = len(worker.descriptors())
    for _ in range(20):
        ends = worker.connect(before_sending=reset)
        assert worker.answer() in ("lost", "eof")
        assert drain(ends.clear) == b""
    worker.holds(before)


@pytest.mark.slow
def test_a_handshake_takes_only_so_long(start: Start, client: ssl.SSLContext) -> None:
    worker = start(limits=Limits(handshake_seconds=0.2))
    before = len(worker.descriptors())
    silent, slow = worker.connect(), worker.connect()
    slow.client.sendall(hello(client)[:20])
    for ends in (silent, slow):
        assert worker.answer() == "timeout"
        assert drain(ends.clear) == b""
        assert drain(ends.client) == b""
    worker.holds(before)


def test_the_user_is_gone_in_the_midst(worker: Worker, client: ssl.SSLContext) -> None:
    """Nobody can be told of its connections, so nobody is to have them."""
    before = len(worker.descriptors())
    ends = worker.connect()
    worker.rests()
    worker.channel.close()
    made = worker.shake(ends, client)
    assert drain(ends.clear) == b""
    with contextlib.suppress(ssl.SSLError):
        assert drain(made) == b""
    worker.holds(before - 1)


# Names and certificates ------------------------------------------------------


def openssl(*words: str, ends: Ends, said: bytes = b"") -> str:
    """Run openssl s_client on the client's connection; give all it says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [need("openssl", "openssl"), "s_client", "-connect"]
        command += [f"127.0.0.1:{port}", *words]
        program = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        near, _ = listener.accept()
    with near:
        carriers = (
            lambda: carry(near, ends.client),
            lambda: carry(ends.client, near),
            lambda: program.communicate(said, PATIENCE_SECONDS)[0],
        )
        told = together(*carriers)[2]
    assert isinstance(told, bytes)
    return told.decode(errors="replace")


def carry(source: socket.socket, target: socket.socket) -> None:
    """Carry octets one way until the end."""
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("name", ["one.example", "two.example"])
@pytest.mark.parametrize("version", VERSIONS)
def test_each_name_has_its_certificate(
    start: Start, signer: Authority, name: str, version: str
) -> None:
    worker = start(settings("one.example", "two.example", signer=signer))
    ends = worker.connect()
    worker.shake(ends, trust(signer, version), name)  # which checks the name
    told = worker.answer()
    assert isinstance(told, dict)
    assert told[b"SSL_TLS_SNI_SERVERNAME"] == name.encode()


def test_who_names_nobody_gets_the_first(start: Start, signer: Authority) -> None:
    worker = start(settings("one.example", "two.example", signer=signer))
    context = trust(signer)
    context.check_hostname = False
    for name in (None, "three.example", "127.0.0.1"):
        ends = worker.connect()
        made = worker.shake(ends, context, name)
        certificate = made.getpeercert()
        assert certificate
        assert ("DNS", "one.example") in certificate["subjectAltName"]
        assert isinstance(worker.answer(), dict)


@pytest.mark.parametrize("name", ["a\nb", "a b", "=", "-"])
def test_a_name_that_is_none(worker: Worker, name: str) -> None:
    """It is not told to anybody, and the worker says nothing either."""
    ends = worker.connect()
    ends.clear.close()
    openssl("-servername", name, ends=ends)
    told = worker.answer()
    assert isinstance(told, dict)
    assert b"SSL_TLS_SNI_SERVERNAME" not in told
    assert worker.complaints() == ""


def test_a_name_that_is_no_text_ends_the_handshake(worker: Worker) -> None:
    ends = worker.connect()
    ends.clear.close()
    openssl("-servername", "\udcff\udcfe", ends=ends)
    assert worker.answer() == "callback-failed"
    assert worker.complaints() == ""


def asking(signer: Authority, rule: str) -> TlsSettings:
    made = settings(signer=signer)
    made.client_ca, made.client_certificate = str(signer.ca), rule
    return made


def introduced(signer: Authority, version: str, whose: Authority) -> ssl.SSLContext:
    """Give a context with a certificate for the client that somebody has signed."""
    context = trust(signer, version)
    context.load_cert_chain(*whose.client("Joe Example"))
    return context


@pytest.mark.parametrize("rule", ["ask", "require"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_with_a_certificate(
    start: Start, signer: Authority, version: str, rule: str
) -> None:
    worker = start(asking(signer, rule))
    ends = worker.connect()
    worker.shake(ends, introduced(signer, version, signer))
    told = worker.answer()
    assert isinstance(told, dict)
    assert told[b"SSL_CLIENT_S_DN"] == (
        b"/C=DE/O=qtools/OU=Mail/CN=Joe Example/emailAddress=joe@example"
    )
    assert told[b"SSL_CLIENT_M_SERIAL"].isdigit()


@pytest.mark.parametrize("rule", ["ask", "require"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_one(
    start: Start, signer: Authority, version: str, rule: str
) -> None:
    worker = start(asking(signer, rule))
    before = len(worker.descriptors())
    ends = worker.connect()
    if rule == "ask":
        worker.shake(ends, trust(signer, version))
        told = worker.answer()
        assert isinstance(told, dict)
        assert b"SSL_CLIENT_S_DN" not in told
    else:
        with pytest.raises(ssl.SSLError, match=r"certificate required|failure"):
            worker.shake(ends, trust(signer, version)).recv(1)
        is_refused_to(worker, ends, before, "peer-did-not-return-a-certificate")


@pytest.mark.parametrize("rule", ["ask", "require"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_with_one_of_somebody_else_s(
    start: Start, signer: Authority, session_room: Path, version: str, rule: str
) -> None:
    """It is told why, not just cut off."""
    other = authority(session_room / "other-tls", "Somebody Else")
    worker = start(asking(signer, rule))
    before = len(worker.descriptors())
    ends = worker.connect()
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        worker.shake(ends, introduced(signer, version, other)).recv(1)
    is_refused_to(worker, ends, before, "certificate-verify-failed")


def is_refused_to(worker: Worker, ends: Ends, before: int, why: str) -> None:
    """Make sure that all is closed when the client has read the alert."""
    worker.close_clients()
    assert worker.answer() == why
    assert drain(ends.clear) == b""
    worker.holds(before)


# What is refused or left out -------------------------------------------------


def test_no_renegotiation(worker: Worker) -> None:
    """s_client's R asks for one."""
    ends = worker.connect()
    said = openssl("-tls1_2", "-servername", HOST, ends=ends, said=b"R\n")
    assert isinstance(worker.answer(), dict)
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


def test_no_ticket_and_no_resumption_in_1_3(worker: Worker, signer: Authority) -> None:
    context = trust(signer, "TLSv1_3")
    made, clear = worker.serve(context)
    clear.sendall(b"+OK\r\n")
    assert made.recv(5) == b"+OK\r\n"  # a ticket would have come before
    assert made.session is not None
    assert not made.session.has_ticket


def test_resumption_without_a_ticket_in_1_2(worker: Worker, signer: Authority) -> None:
    context = trust(signer, "TLSv1_2")
    made, clear = worker.serve(context)
    session = made.session
    assert session is not None
    assert not session.has_ticket
    clear.close()
    assert drain(made) == b""
    ends = worker.connect()
    again = worker.shake(ends, context, session=session)
    assert again.session_reused
    assert isinstance(worker.answer(), dict)


@pytest.mark.parametrize("words", [["-tls1_2"], ["-tls1_3"]])
@pytest.mark.slow
def test_openssl_s_client(worker: Worker, words: list[str]) -> None:
    ends = worker.connect()
    text = b"0123456789abcde\n" * 100_000

    def serve() -> bytes:
        ends.clear.sendall(text)
        heard = ends.clear.recv(100)
        ends.clear.close()
        return heard

    words = [*words, "-quiet", "-verify_quiet", "-servername", HOST]
    heard, told = together(serve, lambda: openssl(*words, ends=ends, said=b"hello\n"))
    assert heard == b"hello\n"
    assert isinstance(told, str)
    assert text.decode() in told


# UCSPI-TLS -------------------------------------------------------------------


def control_of(ends: Ends) -> socket.socket:
    assert ends.control is not None
    return ends.control


def test_before_the_program_asks_nothing_is_touched(
    worker: Worker, client: ssl.SSLContext
) -> None:
    """The program has the same connection open, and waits on it."""
    raws: list[socket.socket] = []
    ends = worker.connect(is_ucspi=True, keep_raw=raws)
    worker.rests()
    assert os.get_blocking(raws[0].fileno())
    ends.client.sendall(b"STLS\r\n")
    assert raws[0].recv(100) == b"STLS\r\n"
    raws[0].sendall(b"+OK\r\n")
    assert ends.client.recv(100) == b"+OK\r\n"
    control_of(ends).sendall(b"y")
    made = worker.shake(ends, client)
    made.sendall(b"CAPA\r\n")
    assert ends.clear.recv(100) == b"CAPA\r\n"


def test_start_and_say_nothing(worker: Worker, client: ssl.SSLContext) -> None:
    ends = worker.connect(is_ucspi=True)
    control_of(ends).sendall(b"y")
    assert control_of(ends).recv(100) == b""
    made = worker.shake(ends, client)
    ends.clear.sendall(b"+OK\r\n")
    assert made.recv(100) == b"+OK\r\n"
    assert not worker.has_answer()


@pytest.mark.parametrize("version", VERSIONS)
def test_start_and_tell(start: Start, signer: Authority, version: str) -> None:
    """In the order of sslserver's, read as popup reads it."""
    worker = start(asking(signer, "ask"))
    before = len(worker.descriptors())
    ends = worker.connect(is_ucspi=True)
    context = introduced(signer, version, signer)
    made: list[ssl.SSLSocket] = []
    shaking = threading.Thread(target=lambda: made.append(worker.shake(ends, context)))
    shaking.start()
    told = TlsControl(os.dup(control_of(ends).fileno()), -1, -1).start()
    shaking.join(PATIENCE_SECONDS)
    names = [name.decode() for name in told]
    assert names[:9] == [
        *("SSL_PROTOCOL", "SSL_SESSION_ID", "SSL_CIPHER", "SSL_CIPHER_EXPORT"),
        *("SSL_CIPHER_USEKEYSIZE", "SSL_CIPHER_ALGKEYSIZE", "SSL_VERSION_INTERFACE"),
        *("SSL_VERSION_LIBRARY", "SSL_TLS_SNI_SERVERNAME"),
    ]
    of_client = names.index("SSL_CLIENT_M_VERSION")
    assert names[9] == "SSL_SERVER_M_VERSION"
    assert names[of_client - 1] == "SSL_SERVER_CERT"
    assert names[-2:] == ["SSL_CLIENT_CERT", "SSL_SERVER_END_POINT"]
    assert told[b"SSL_PROTOCOL"] == version.replace("_", ".").encode()
    assert told[b"SSL_SESSION_ID"] == b""
    assert told[b"SSL_CIPHER_EXPORT"] == b"false"
    assert told[b"SSL_CIPHER_ALGKEYSIZE"] == told[b"SSL_CIPHER_USEKEYSIZE"]
    assert told[b"SSL_CLIENT_S_DN_CN"] == b"Joe Example"
    assert told[b"SSL_CLIENT_S_DN_Email"] == b"joe@example"
    pair = signer.client("Joe Example")
    assert told[b"SSL_CLIENT_CERT"] == pair.certificate.read_bytes()
    assert control_of(ends).recv(1) == b""
    assert not worker.has_answer()
    ends.clear.sendall(b"+OK\r\n")
    assert made[0].recv(100) == b"+OK\r\n"
    ends.clear.close()
    made[0].close()
    worker.holds(before)


def test_the_program_never_asks(worker: Worker) -> None:
    """Its end is the end of the control socket; the connection was its own."""
    before = len(worker.descriptors())
    ends = worker.connect(is_ucspi=True)
    worker.holds(before + 3)
    control_of(ends).close()
    assert drain(ends.clear) == b""
    assert drain(ends.client) == b""
    worker.holds(before)
    assert not worker.has_answer()


@pytest.mark.parametrize("word", [b"n", b"\0", b"\xff", b"Z"])
def test_no_other_word_is_known(worker: Worker, word: bytes) -> None:
    before = len(worker.descriptors())
    ends = worker.connect(is_ucspi=True)
    control_of(ends).sendall(word)
    assert drain(control_of(ends)) == b""
    assert drain(ends.clear) == b""
    worker.holds(before)
    assert not worker.has_answer()


def test_a_program_hears_of_a_failure(worker: Worker) -> None:
    before = len(worker.descriptors())
    ends = worker.connect(is_ucspi=True)
    ends.client.sendall(b"CAPA\r\n")
    with pytest.raises(TlsFailed):
        TlsControl(os.dup(control_of(ends).fileno()), -1, -1).start()
    assert drain(ends.clear) == b""
    drain(ends.client)
    ends.client.close()
    worker.holds(before)


def test_a_program_hears_of_a_client_that_is_gone(worker: Worker) -> None:
    before = len(worker.descriptors())
    ends = worker.connect(is_ucspi=True, before_sending=reset)
    control_of(ends).sendall(b"Y")
    assert drain(control_of(ends)) == b""
    assert drain(ends.clear) == b""
    worker.holds(before)


@pytest.mark.slow
def test_a_program_hears_of_a_client_that_is_late(start: Start) -> None:
    worker = start(limits=Limits(handshake_seconds=0.2))
    before = len(worker.descriptors())
    ends = worker.connect(is_ucspi=True)
    control_of(ends).sendall(b"Y")
    assert drain(control_of(ends)) == b""
    assert drain(ends.clear) == b""
    worker.holds(before)


def test_a_program_that_does_not_listen(worker: Worker, client: ssl.SSLContext) -> None:
    """It has asked and gone: nobody is at the other end of the dump."""
    before = len(worker.descriptors())
    ends = worker.connect(is_ucspi=True)
    control_of(ends).sendall(b"Y")
    control_of(ends).close()
    made = worker.shake(ends, client)
    assert drain(ends.clear) == b""
    made.close()
    worker.holds(before)


# Channels --------------------------------------------------------------------


def descriptors_of(*kinds: str) -> list[int]:
    """Open some things; of a pipe the end that can be written."""
    made = []
    for kind in kinds:
        if kind == "stream":
            near, far = socket.socketpair()
            near.close()
            made.append(far.detach())
        elif kind == "packets":
            one, two = pair()
            one.close()
            made.append(two.detach())
        elif kind == "file":
            made.append(os.open(os.devnull, os.O_RDWR))
        else:
            reader, writer = os.pipe()
            os.close(reader)
            made.append(writer)
    return made


GOOD, GOOD_UCSPI = (
    relay_packets.pack_start(7, is_ucspi=is_ucspi) for is_ucspi in (False, True)
)
STREAMS = ("stream", "stream", "stream")

MALFORMED = {
    "short": (GOOD[:-1], STREAMS[:2]),
    "long": (GOOD + b"\0", STREAMS[:2]),
    "one octet": (b"\1", STREAMS[:2]),
    "a very long one": (GOOD + bytes(100_000), STREAMS[:2]),
    "nothing with descriptors": (b"", STREAMS[:2]),
    "another kind": (b"\2" + GOOD[1:], STREAMS[:2]),
    "a channel": (relay_packets.CHANNEL_PACKET, ("packets",)),
    "a retirement": (relay_packets.RETIRE_PACKET, ()),
    "another flag": (b"\1\2" + GOOD[2:], STREAMS),
    "a part too many": (GOOD, STREAMS),
    "parts too many": (GOOD_UCSPI, (*STREAMS, *STREAMS)),
    "files": (GOOD, ("file", "file")),
    "a pipe": (GOOD, ("stream", "pipe")),
    "packets for a client": (GOOD, ("packets", "stream")),
    "packets for a program": (GOOD, ("stream", "packets")),
    "a file for control": (GOOD_UCSPI, ("stream", "stream", "file")),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_packet_closes_its_channel_alone(
    worker: Worker, client: ssl.SSLContext, name: str
) -> None:
    packet, kinds = MALFORMED[name]
    made, clear = worker.serve(client)
    mine = worker.add_channel()
    before = len(worker.descriptors())
    opened = descriptors_of(*kinds)
    assert mine.send(packet, opened, waits=True)
    for descriptor in opened:
        os.close(descriptor)
    assert mine.receive(waits=True) == (b"", [])
    mine.close()
    worker.holds(before - 1)
    worker.rests()
    made.sendall(b"NOOP\r\n")
    assert clear.recv(100) == b"NOOP\r\n"
    worker.serve(client)


@pytest.mark.parametrize("is_ucspi", [False, True])
def test_a_start_without_descriptors(worker: Worker, *, is_ucspi: bool) -> None:
    """The system did not let them through: no fault of the sender's."""
    before = len(worker.descriptors())
    packet = GOOD_UCSPI if is_ucspi else GOOD
    for kinds in ((), STREAMS[:1]):
        opened = descriptors_of(*kinds)
        assert worker.channel.send(packet, opened, waits=True)
        for descriptor in opened:
            os.close(descriptor)
        if not is_ucspi:
            assert worker.answer() == "descriptors"
        worker.holds(before)
    assert not worker.has_answer()


def test_out_of_descriptors(start: Start, client: ssl.SSLContext) -> None:
    """Who can't be served is told; then it goes on."""
    worker = start(most_files=len(BASE) + 3)
    made, clear = worker.serve(client)
    for _ in range(3):
        refused = worker.connect()
        assert worker.answer() == "descriptors"
        assert drain(refused.clear) == b""
        assert drain(refused.client) == b""
    worker.rests()
    made.sendall(b"QUIT\r\n")
    assert clear.recv(100) == b"QUIT\r\n"
    clear.close()
    drain(made)
    made.close()
    worker.holds(len(BASE))
    worker.serve(client)


BASE = ("0", "1", "2", "channel", "control", "epoll")


@pytest.mark.slow
def test_answers_wait_for_who_does_not_read(
    worker: Worker, client: ssl.SSLContext
) -> None:
    """And so do the octets of their connections: the answer comes first."""
    worker.channel = worker.add_channel(send_octets=4096)
    waiting = []
    for _ in range(60):
        ends = worker.connect()
        made = worker.shake(ends, client)
        made.sendall(b"NOOP\r\n")
        waiting.append((made, ends))
    worker.rests()
    late = [ends for _, ends in waiting if not has_octets(ends.clear)]
    assert late, "all answers found room"
    told = [worker.answer() for _ in waiting]
    assert all(isinstance(each, dict) for each in told)
    for _, ends in waiting:
        assert ends.clear.recv(100) == b"NOOP\r\n"
    worker.serve(client)


def has_octets(held: socket.socket) -> bool:
    return bool(select.select([held], [], [], 0)[0])


def test_connections_outlive_their_channel(
    worker: Worker, client: ssl.SSLContext
) -> None:
    """A session goes on when the login worker that sent it has died."""
    made, clear = worker.serve(client)
    pending = worker.connect()
    program = worker.connect(is_ucspi=True)
    worker.rests()
    before = len(worker.descriptors())
    worker.channel.close()
    worker.holds(before - 1)
    made.sendall(b"NOOP\r\n")
    assert clear.recv(100) == b"NOOP\r\n"
    control_of(program).sendall(b"y")
    asked = worker.shake(program, client)
    asked.sendall(b"NOOP\r\n")
    assert program.clear.recv(100) == b"NOOP\r\n"
    worker.shake(pending, client)
    assert drain(pending.clear) == b""
    worker.channel = worker.add_channel()
    worker.serve(client)


# Its end ---------------------------------------------------------------------


def test_it_ends_when_it_is_sent_away_and_has_nobody(worker: Worker) -> None:
    assert worker.control.send(relay_packets.RETIRE_PACKET)
    worker.rests()
    worker.channel.close()
    assert worker.wait() == 0


def test_it_ends_when_the_master_is_gone(worker: Worker) -> None:
    worker.control.close()
    worker.rests()
    worker.channel.close()
    assert worker.wait() == 0


def test_it_stays_for_the_last_connection(
    worker: Worker, client: ssl.SSLContext
) -> None:
    made, clear = worker.serve(client)
    assert worker.control.send(relay_packets.RETIRE_PACKET)
    waiting = worker.connect()  # a channel that is there may still send
    worker.shake(waiting, client)
    assert isinstance(worker.answer(), dict)
    waiting.clear.close()
    worker.channel.close()
    worker.control.close()
    worker.rests()
    made.sendall(b"QUIT\r\n")
    assert clear.recv(100) == b"QUIT\r\n"
    clear.close()
    drain(made)
    worker.close_clients()
    assert worker.wait() == 0


def test_it_stays_while_the_master_is_there(worker: Worker) -> None:
    worker.channel.close()
    worker.holds(len(BASE) - 1)
    worker.rests()
    worker.channel = worker.add_channel()
    ends = worker.connect()
    ends.client.close()
    assert worker.answer() == "eof"


@pytest.mark.parametrize("packet", [b"\4", b"\4\1", b"\5\1", b"\1" * 10, b"\4\0\0"])
def test_a_master_that_is_out_of_its_mind_is_none(
    worker: Worker, client: ssl.SSLContext, packet: bytes
) -> None:
    made, clear = worker.serve(client)
    (descriptor,) = descriptors_of("packets")
    assert worker.control.send(packet, [descriptor])
    os.close(descriptor)
    assert worker.control.receive(waits=True) == (b"", [])
    worker.channel.close()
    made.sendall(b"NOOP\r\n")
    assert clear.recv(100) == b"NOOP\r\n"
    worker.close_clients()
    clear.close()
    assert worker.wait() == 0


# Time, and what should not happen --------------------------------------------


@pytest.mark.slow
def test_who_does_nothing_for_too_long(start: Start, client: ssl.SSLContext) -> None:
    worker = start(limits=Limits(idle_seconds=0.2))
    before = len(worker.descriptors())
    made, clear = worker.serve(client)
    assert drain(clear) == b""
    with contextlib.suppress(ssl.SSLError):
        drain(made)
    worker.holds(before)


@pytest.mark.slow
def test_a_direction_that_stands_still_ends_both(
    start: Start, client: ssl.SSLContext
) -> None:
    """A client that talks and does not read is held up for no longer than others."""
    worker = start(limits=Limits(idle_seconds=0.5))
    made, clear = worker.serve(client)
    clear.setblocking(False)

    def is_over() -> bool:
        try:
            made.sendall(b"NOOP\r\n")
            with contextlib.suppress(BlockingIOError):
                if not clear.recv(65536):
                    return True
            with contextlib.suppress(BlockingIOError):
                while True:
                    clear.send(bytes(65536))
        except ConnectionError:
            return True
        return False

    wait_for(is_over)


def test_a_client_that_never_closes(start: Start, client: ssl.SSLContext) -> None:
    worker = start(limits=Limits(linger_seconds=0.2))
    before = len(worker.descriptors())
    made, clear = worker.serve(client)
    clear.close()
    assert made.recv(1) == b""
    worker.holds(before)


def test_a_fault_in_one_connection_is_not_the_end(
    start: Start, client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = tls_dump.brief

    def faulty(connection: TlsSocket) -> bytes:
        if connection.asked == "fault.example":
            raise ZeroDivisionError("on purpose")
        return brief(connection)

    monkeypatch.setattr(tls_dump, "brief", faulty)
    worker = start()
    before = len(worker.descriptors())
    client.check_hostname = False
    ends = worker.connect()
    made = worker.shake(ends, client, "fault.example")
    assert worker.answer() == "lost"
    assert drain(ends.clear) == b""
    made.close()
    worker.holds(before)
    assert "unexpected ZeroDivisionError: on purpose" in worker.complaints()
    worker.serve(client)
