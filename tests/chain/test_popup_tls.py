# SPDX-License-Identifier: ISC
"""STLS: with a control socket by script in both dialects, and with real TLS."""

import contextlib
import os
import poplib
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.popup import House, Popup, Wire, make_wire, read_some
from tests.chain.tls import (
    DIALECTS,
    NUMBERS,
    PEM,
    Certificate,
    Descriptors,
    dump_of,
    make_certificate,
    serve_tls,
)

STARTING = b"+OK starting TLS negotiation\r\n"
NOT_AVAILABLE = b"-ERR STLS not available\r\n"
PLAIN = "P:POP3 S:192.0.2.7:c.example"
INSIDE = "P:POP3S S:192.0.2.7:c.example"


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def certificate(session_room: Path) -> Certificate:
    return make_certificate(session_room)


class Scripted:
    """popup before a TLS side that the test plays; inside is what TLS carries."""

    def __init__(
        self, house: House, *words: str, dialogue: str, env: dict[str, str]
    ) -> None:
        self.ends = Descriptors()
        env = {"UCSPITLS": "", **NUMBERS, **env}
        self.popup = house.popup(
            *words,
            options="-d0 -a1",
            dialogue=dialogue,
            env=env,
            more=self.ends.places(),
        )
        self.ends.close_theirs()
        assert self.popup.reply() == b"+OK\r\n"

    def start_tls(self, dialect: str, behind: bytes = b"") -> None:
        """Have TLS asked for, and grant it."""
        self.popup.send(b"STLS\r\n" + behind)
        assert self.popup.reply() == STARTING
        assert self.ends.control.recv(10) == b"Y"
        for piece in dump_of(dialect, "TLSv1.3", "TLS_AES_128_GCM_SHA256"):
            self.ends.control.sendall(piece)

    def ask(self, line: bytes) -> bytes:
        """Send a line inside TLS and read what comes in one piece."""
        os.write(self.ends.to_program, line + b"\r\n")
        return read_some(self.ends.from_program)

    def close(self) -> None:
        self.ends.close()


@contextlib.contextmanager
def scripted(
    house: House, *words: str, dialogue: str, **env: str
) -> Iterator[Scripted]:
    made = Scripted(house, *words, dialogue=dialogue, env=env)
    try:
        yield made
    finally:
        made.close()


def test_stls(house: House, dialogue: str, dialect: str) -> None:
    words = house.play("say:+OK \\r\\n", "echo")
    with scripted(house, *words, dialogue=dialogue) as tls:
        assert tls.popup.ask(b"USER evil") == b"+OK \r\n"
        tls.start_tls(dialect)
        # Read up to the double NUL, the control socket is closed by both processes.
        assert tls.ends.control.recv(10) == b""
        listed = tls.ask(b"CAPA").split(b"\r\n")
        assert b"STLS" not in listed
        assert b"USER" in listed
        assert tls.ask(b"STLS") == NOT_AVAILABLE
        assert tls.ask(b"PASS x") == b"-ERR USER first\r\n"
        assert tls.ask(b"USER joe") == b"+OK \r\n"
        assert tls.ask(b"PASS secret") == b"+OK \r\n"
        assert tls.ask(b"QUIT") == b"+OK said QUIT\r\n"
        assert tls.popup.code() == 0
        assert tls.popup.errors() == ""
        assert tls.popup.rest() == b""
        told = house.told()
        log = tls.popup.log()
    environ = told["environ"]
    assert environ["SSL_PROTOCOL"] == "TLSv1.3"
    assert not {"SSLCTLFD", "SSLREADFD", "SSLWRITEFD", "UCSPITLS"} & set(environ)
    if dialect == "sslserver":
        assert environ["SSL_SERVER_CERT"] == PEM
        assert environ["SSL_SESSION_ID"] == ""
    assert not {"20", "21", "22"} & set(told["descriptors"])
    note = "tls=TLSv1.3/TLS_AES_128_GCM_SHA256"
    assert log[0] == f"Accept::AUTH::User {INSIDE} ?~ 'joe' {note}"
    assert log[1].startswith(f"Info::END::User {INSIDE} ?~ 'joe' why=served code=0 ")


def test_an_entry_without_equals_unsets(house: House, dialogue: str) -> None:
    words = house.play("say:+OK \\r\\n")
    old = {"SSL_TLS_SNI_SERVERNAME": "old", "SSL_CIPHER": "old"}
    with scripted(house, *words, dialogue=dialogue, **old) as tls:
        tls.start_tls("s6-ucspitlsd")
        tls.ask(b"USER joe")
        assert tls.ask(b"PASS x") == b"+OK \r\n"
        environ = house.told()["environ"]
    assert "SSL_TLS_SNI_SERVERNAME" not in environ
    assert environ["SSL_CIPHER"] == "TLS_AES_128_GCM_SHA256"


@pytest.mark.parametrize("ucspitls", ["", "!"])
def test_plaintext_behind_stls_is_never_executed(
    house: House, dialogue: str, ucspitls: str
) -> None:
    with scripted(
        house, *house.play("exit:1"), dialogue=dialogue, UCSPITLS=ucspitls
    ) as tls:
        tls.start_tls("sslserver", behind=b"USER evil\r\nNOOP\r\nQUIT\r\n")
        assert tls.ask(b"PASS x") == b"-ERR USER first\r\n"
        assert tls.ask(b"USER joe") == b"+OK \r\n"
        assert tls.ask(b"PASS x") == b"-ERR [AUTH] authorization failed\r\n"
        assert house.told()["record"].startswith("joe\0x\0")
        assert tls.popup.code() == 1
        assert "evil" not in "".join(tls.popup.log())


@pytest.mark.parametrize("ucspitls", ["", "x", "!"])
def test_stls_is_offered(house: House, dialogue: str, ucspitls: str) -> None:
    with scripted(house, "/bin/false", dialogue=dialogue, UCSPITLS=ucspitls) as tls:
        tls.popup.send(b"CAPA\r\n")
        listed = tls.popup.listing()
        assert b"STLS" in listed
        assert (b"USER" in listed) is (ucspitls != "!")


def test_tls_can_be_required(house: House, dialogue: str) -> None:
    with scripted(house, "/bin/false", dialogue=dialogue, UCSPITLS="!") as tls:
        assert tls.popup.ask(b"NOOP") == b"+OK \r\n"
        refusal = b"-ERR [AUTH] TLS required but not negotiated\r\n"
        assert tls.popup.ask(b"USER joe") == refusal
        assert tls.popup.code() == 1
        assert tls.popup.log()[0] == f"Reject::STLS::Any {PLAIN} ?~ 'unknown'"


def test_unset_or_off_stls_is_refused(house: House, dialogue: str) -> None:
    with scripted(house, *house.play(), dialogue=dialogue, UCSPITLS="-") as tls:
        tls.popup.send(b"CAPA\r\n")
        assert b"STLS" not in tls.popup.listing()
        assert tls.popup.ask(b"STLS") == NOT_AVAILABLE
        assert tls.popup.ask(b"NOOP") == b"+OK \r\n"


def plain(
    house: House, env: dict[str, str], more: dict[int, int] | None = None
) -> Popup:
    popup = house.popup("/bin/false", options="-d0", env=env, more=more)
    assert popup.reply() == b"+OK\r\n"
    return popup


@pytest.mark.parametrize("place", ["SSLCTLFD", "SSLREADFD", "SSLWRITEFD"])
@pytest.mark.parametrize("word", [None, "", "x", "99", "0"])
def test_without_its_descriptors_stls_is_not_offered(
    house: House, place: str, word: str | None
) -> None:
    ends = Descriptors()
    env = {"UCSPITLS": "", **NUMBERS}
    del env[place]
    popup = plain(house, env if word is None else {**env, place: word}, ends.places())
    ends.close_theirs()
    popup.send(b"CAPA\r\n")
    assert b"STLS" not in popup.listing()
    assert popup.ask(b"STLS") == NOT_AVAILABLE
    ends.close()


@pytest.mark.parametrize(
    "env",
    [{"TCPLOCALPORT": "995"}, {"SSLLOCALPORT": "995"}, {"SSL_PROTOCOL": "TLSv1.3"}],
)
def test_inside_tls_stls_is_not_offered(house: House, env: dict[str, str]) -> None:
    if "SSLLOCALPORT" in env:
        env = {**env, "TCPLOCALPORT": ""}
    ends = Descriptors()
    popup = plain(house, {"UCSPITLS": "!", **NUMBERS, **env}, ends.places())
    popup.send(b"CAPA\r\n")
    listed = popup.listing()
    assert b"STLS" not in listed
    assert b"USER" in listed
    assert popup.ask(b"STLS") == NOT_AVAILABLE
    popup.ask(b"QUIT")
    assert popup.log()[0].startswith(f"Info::END::None {INSIDE} ?~ ")
    ends.close_theirs()
    ends.close()


def test_a_handshake_that_fails_at_s6_is_an_end_without_a_word(
    house: House, dialogue: str
) -> None:
    with scripted(house, "/bin/false", dialogue=dialogue) as tls:
        assert tls.popup.ask(b"STLS") == STARTING
        assert tls.ends.control.recv(1) == b"Y"
        tls.ends.control.sendall(b"SSL_PROTOCOL=TLSv1.3\0")
        tls.ends.control.close()
        assert tls.popup.rest() == b""
        assert tls.popup.code() == 111
        (line,) = tls.popup.log()
        assert line.startswith(f"Info::END::None {PLAIN} ?~ '' why=tls-failed code=111")


def test_a_handshake_that_fails_at_sslserver_is_logged(
    house: House, dialogue: str
) -> None:
    """sslserver kills us; qmail-popup then vanishes without a line."""
    with scripted(house, "/bin/false", dialogue=dialogue) as tls:
        assert tls.popup.ask(b"STLS") == STARTING
        assert tls.ends.control.recv(1) == b"Y"
        os.kill(tls.popup.pid, signal.SIGTERM)
        assert tls.popup.rest() == b""
        assert tls.popup.code() == 111
        (line,) = tls.popup.log()
        assert line.startswith(f"Info::END::None {PLAIN} ?~ '' why=tls-failed code=111")


@pytest.mark.parametrize("place", [20, 21, 22])
def test_a_log_on_a_descriptor_of_tls_is_none(
    house: House, dialogue: str, place: int
) -> None:
    ends = Descriptors()
    names = dict(zip((20, 21, 22), NUMBERS, strict=True))
    env = {"UCSPITLS": "", **NUMBERS, names[place]: "5"}
    places = ends.places()
    popup = house.popup(
        *house.play("exit:1"),
        options="-d0 -a1",
        dialogue=dialogue,
        env=env,
        more={**places, 5: places[place]},
    )
    popup.reply()
    popup.send(b"USER joe\r\nPASS x\r\n")
    assert popup.rest() == b"+OK \r\n-ERR [AUTH] authorization failed\r\n"
    assert popup.code() == 1
    ends.close_theirs()
    assert read_some(ends.from_program) == b""
    assert ends.control.recv(100) == b""
    ends.close()


def test_read_and_write_may_be_the_same(house: House, dialogue: str) -> None:
    ends = Descriptors()
    inside, theirs = socket.socketpair()
    inside.settimeout(30)
    env = {"UCSPITLS": "", "SSLCTLFD": "20", "SSLREADFD": "21", "SSLWRITEFD": "21"}
    popup = house.popup(
        "/bin/false",
        dialogue=dialogue,
        env=env,
        more={20: ends.their_control, 21: theirs.fileno()},
    )
    popup.reply()
    assert popup.ask(b"STLS") == STARTING
    assert ends.control.recv(1) == b"Y"
    ends.control.sendall(b"\0\0")
    inside.sendall(b"QUIT\r\n")
    assert inside.recv(100) == b"+OK \r\n"
    assert popup.code() == 0
    ends.close_theirs()
    ends.close()
    inside.close()
    theirs.close()


@pytest.mark.parametrize("is_used", [False, True])
def test_low_numbers_as_servers_give_them(
    house: House, dialogue: str, *, is_used: bool
) -> None:
    """sslserver gives the first free numbers: the record's 3 is one of them."""
    ends = Descriptors()
    env = {"UCSPITLS": "", "SSLCTLFD": "3", "SSLREADFD": "4", "SSLWRITEFD": "6"}
    places = {3: ends.their_control, 4: ends.read, 6: ends.write}
    words = house.play("say:+OK \\r\\n")
    popup = house.popup(*words, dialogue=dialogue, env=env, more=places)
    ends.close_theirs()
    lines = b"USER joe\r\nPASS x\r\n"
    popup.reply()
    if is_used:
        popup.ask(b"STLS")
        ends.control.sendall(b"\0\0")
        os.write(ends.to_program, lines)
    else:
        popup.send(lines)
    told = house.told()
    assert told["record"].startswith("joe\0x\0<")
    assert popup.code() == 0
    inherited = set(map(int, told["descriptors"]))
    note = int(told["environ"]["QTOOLS_VERDICT"])
    expected = {0, 1, 2, 3, 5, note}
    assert inherited == (expected if is_used else expected | {4, 6})
    assert popup.log()[0].startswith("Accept::AUTH::User ")
    ends.close()


# Real TLS --------------------------------------------------------------------


class StlsClient(poplib.POP3):
    """poplib over a connection that is there already."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        super().__init__("mx.example", timeout=30)

    def _create_socket(self, timeout: float) -> socket.socket:
        assert timeout
        return self._connection


def trust(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate.certificate)


def test_poplib_by_stls(
    house: House, certificate: Certificate, dialogue: str, dialect: str
) -> None:
    popup, server, connection = serve_tls(
        house,
        certificate,
        *house.play("say:+OK \\r\\n", "echo"),
        dialect=dialect,
        dialogue=dialogue,
        env={"UCSPITLS": "!"},
    )
    client = StlsClient(connection)
    assert "STLS" in client.capa()
    assert client.stls(trust(certificate)) == STARTING[:-2]
    assert "STLS" not in client.capa()
    client.user("joe")
    client.pass_("secret")
    assert client.quit() == b"+OK said QUIT"
    assert popup.code() == 0
    server.join()
    assert popup.errors() == ""
    line = popup.log()[0]
    assert line.startswith(f"Accept::AUTH::User {INSIDE} ?~ 'joe' tls=TLSv1.")
    assert house.told()["environ"]["SSL_PROTOCOL"].startswith("TLSv1.")


@pytest.mark.parametrize(
    "garbage", [b"USER evil\r\nPASS x\r\n" * 20, b"\x16\x03\x01\0\0"]
)
def test_what_is_no_handshake_ends_it(
    house: House, certificate: Certificate, dialogue: str, dialect: str, garbage: bytes
) -> None:
    """Plaintext pipelined behind STLS stays unread and then is the handshake."""
    popup, server, connection = serve_tls(
        house,
        certificate,
        *house.play("exit:0"),
        dialect=dialect,
        dialogue=dialogue,
        env={},
    )
    connection.sendall(b"STLS\r\n" + garbage)
    connection.shutdown(socket.SHUT_WR)
    server.join()
    assert popup.rest().startswith(b"+OK\r\n" + STARTING)
    assert popup.code() == 111
    assert not server.is_done
    (line,) = popup.log()
    assert " why=tls-failed code=111 " in line
    assert not house.report.exists()
    connection.close()


def test_a_client_that_breaks_off_the_handshake(
    house: House, certificate: Certificate, dialogue: str, dialect: str
) -> None:
    popup, server, connection = serve_tls(
        house, certificate, "/bin/false", dialect=dialect, dialogue=dialogue, env={}
    )
    client = StlsClient(connection)
    with pytest.raises(ssl.SSLCertVerificationError):
        client.stls(ssl.create_default_context())
    server.join()
    client.file.close()
    assert popup.code() == 111


def test_a_wire_of_pipes_cannot_be_mistaken(house: House) -> None:
    """UCSPI-TLS needs no socket on 0 and 1: what is read is what was written."""
    wire: Wire = make_wire("pipe")
    ends = Descriptors()
    popup = house.popup(
        "/bin/false",
        wire=wire,
        env={"UCSPITLS": "", **NUMBERS},
        more=ends.places(),
    )
    ends.close_theirs()
    popup.reply()
    popup.send(b"STLS\r\nUSER evil\r\n")
    assert popup.reply() == STARTING
    assert ends.control.recv(1) == b"Y"
    ends.control.sendall(b"\0\0")
    os.write(ends.to_program, b"PASS x\r\n")
    assert read_some(ends.from_program) == b"-ERR USER first\r\n"
    ends.close()
