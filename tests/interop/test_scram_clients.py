# SPDX-License-Identifier: ISC
"""SCRAM with other people's clients: mpop, whose library is GNU's, and Cyrus' library.

Cyrus' is the one that binds to its channel by tls-server-end-point. What goes over the
network is changed and played again by a client of our own.
"""

import hashlib
import socket
import ssl
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from tests.certificates import authority
from tests.interop.clients import CLIENTS, Errand
from tests.interop.conftest import SECRET, USER, House, Serve
from tests.interop.cyrus import CyrusClient
from tests.interop.servers import Server, popserver
from tests.scram import ScramClient
from tests.support import PATIENCE_SECONDS, need, wait_for

pytestmark = pytest.mark.slow

(MPOP,) = (client for client in CLIENTS if client.name == "mpop")
MECHANISMS = "plain,login,cram-md5,scram-sha-256"
NOT_ALLOWED = 77  # EX_NOPERM, with which mpop reports a refused login


@pytest.fixture
def server(house: House, serve: Serve) -> Server:
    """Serve a cold chain under tcpserver, with all ways to log in."""
    options = ["--delay", "0", "--mechanisms", MECHANISMS]
    popup = [house.popup[0], *options, *house.popup[1:]]
    return serve([*popup, *house.checkpw, *house.pop3d], POP3AUTH="+apop")


def accepted(server: Server) -> list[str]:
    return [line for line in server.log if "Accept::AUTH" in line]


@pytest.mark.parametrize("how", MPOP.logins)
def test_mpop_comes_in(how: str, house: House, server: Server, place: Path) -> None:
    sent = house.move_in()
    errand = Errand(server.port, USER, SECRET, place, how, is_kept=False)
    assert len(MPOP.fetch(errand)) == len(sent)
    wait_for(lambda: any("Info::END" in line for line in server.log))
    assert f"Accept::AUTH::{MPOP.logins[how]} " in accepted(server)[0]


@pytest.mark.parametrize("how", MPOP.logins)
@pytest.mark.parametrize(
    ("user", "secret"), [(USER, SECRET + "!"), ("nobody@example.org", SECRET)]
)
def test_mpop_is_refused(
    how: str, user: str, secret: str, server: Server, place: Path
) -> None:
    errand = Errand(server.port, user, secret, place, how, is_kept=True)
    rows = (
        f"account default\nhost {errand.host}\nport {errand.port}\nauth {how}",
        f"user {user}\npassword {secret}\ndelivery maildir {errand.maildir()}\n",
    )
    given = errand.write("mpoprc", "\n".join(rows))
    errand.run(need("mpop", "mpop"), "-C", given, codes=(NOT_ALLOWED,))
    wait_for(lambda: any("Info::END" in line for line in server.log))
    rejected = [line for line in server.log if "Reject::AUTH" in line]
    assert f"Reject::AUTH::{MPOP.logins[how]} " in rejected[0]
    assert not accepted(server)


class Talk:
    """A client by hand, whose exchanges somebody else may think up."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(PATIENCE_SECONDS)
        self._file = connection.makefile("rb")
        assert self._file.readline().startswith(b"+OK")

    def ask(self, line: bytes) -> bytes:
        """Send a line and read a line, without its end."""
        self.connection.sendall(line + b"\r\n")
        return self._file.readline().removesuffix(b"\r\n")

    def challenge(self, line: bytes) -> bytes:
        """Send a line and read a challenge."""
        reply = self.ask(line)
        assert reply.startswith(b"+ "), reply
        return b64decode(reply[2:], validate=True)

    def capabilities(self) -> list[bytes]:
        """Read what can be done now."""
        lines = [self.ask(b"CAPA")]
        while lines[-1] != b".":
            lines.append(self._file.readline().removesuffix(b"\r\n"))
        return lines

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.connection.close()


def log_in(talk: Talk, client: CyrusClient) -> tuple[bytes, bytes]:
    """Log in by what is offered; give the mechanism chosen and the last reply."""
    (offer,) = [line for line in talk.capabilities() if line.startswith(b"SASL ")]
    name, first = client.start(offer.removeprefix(b"SASL "))
    assert talk.ask(b"AUTH " + name) == b"+ "
    final = client.step(talk.challenge(b64encode(first)))
    reply = talk.ask(b64encode(final))
    if reply.startswith(b"-ERR"):
        return name, reply
    assert client.step(b64decode(reply[2:])) == b""  # our proof is good, too
    return name, talk.ask(b"")


def test_cyrus_comes_in(server: Server) -> None:
    talk = Talk(server.connect())
    found = log_in(talk, CyrusClient(USER.encode(), SECRET.encode()))
    assert found[0] == b"SCRAM-SHA-256"
    assert found[1].startswith(b"+OK")
    assert talk.ask(b"QUIT").startswith(b"+OK")
    talk.close()


def test_cyrus_is_refused(server: Server) -> None:
    talk = Talk(server.connect())
    found = log_in(talk, CyrusClient(USER.encode(), b"wrong"))
    assert found == (b"SCRAM-SHA-256", b"-ERR [AUTH] authorization failed")
    talk.close()


KINDS = {"own chain": False, "a cold chain": True}


class Secure:
    """A server with TLS by STLS."""

    def __init__(
        self, house: House, serve: Serve, room: Path, *, is_foreign: bool
    ) -> None:
        ours = authority(room / "authority")
        made = ours.server("localhost")
        words = ["--certificate", str(made.certificate), "--key", str(made.key)]
        words += ["--tls-workers", "1", *(["-n", "-s"] if is_foreign else [])]
        row = popserver(*words, is_foreign=is_foreign)
        options = ["--delay", "0", "-m", "scram-sha-256-plus,scram-sha-256"]
        chain = [house.popup[0], *options, *house.chain[1:]]
        self.server = serve(chain, row, UCSPITLS="")
        self.context = ssl.create_default_context(cafile=str(ours.ca))

    def connect(self) -> tuple[Talk, bytes]:
        """Begin TLS; give the connection and the hash of the certificate seen there."""
        talk = Talk(self.server.connect())
        assert talk.ask(b"STLS").startswith(b"+OK")
        secure = self.context.wrap_socket(talk.connection, server_hostname="localhost")
        talk.connection, talk._file = secure, secure.makefile("rb")
        certificate = secure.getpeercert(binary_form=True)
        assert certificate
        return talk, hashlib.sha256(certificate).digest()


@pytest.fixture(params=KINDS)
def secure(
    request: pytest.FixtureRequest, house: House, serve: Serve, session_room: Path
) -> Secure:
    return Secure(house, serve, session_room, is_foreign=KINDS[request.param])


def test_cyrus_is_bound_to_its_channel(secure: Secure) -> None:
    talk, seen = secure.connect()
    found = log_in(talk, CyrusClient(USER.encode(), SECRET.encode(), seen))
    assert found[0] == b"SCRAM-SHA-256-PLUS"
    assert found[1].startswith(b"+OK")
    assert talk.ask(b"QUIT").startswith(b"+OK")
    talk.close()
    assert "Accept::AUTH::Scram-Sha-256-Plus " in wait_for_accept(secure.server)


def wait_for_accept(server: Server) -> str:
    wait_for(lambda: accepted(server))
    return accepted(server)[0]


def test_a_client_that_sees_another_certificate_is_refused(secure: Secure) -> None:
    """Whoever sits between has to show one of his own."""
    talk, seen = secure.connect()
    found = log_in(talk, CyrusClient(USER.encode(), SECRET.encode(), seen[::-1]))
    assert found == (b"SCRAM-SHA-256-PLUS", b"-ERR [AUTH] authorization failed")
    talk.close()


def test_a_client_from_which_the_offer_was_hidden_is_refused(secure: Secure) -> None:
    talk, seen = secure.connect()
    client = CyrusClient(USER.encode(), SECRET.encode(), seen)
    name, first = client.start(b"SCRAM-SHA-256 PLAIN")
    assert (name, first[:2]) == (b"SCRAM-SHA-256", b"y,")
    reply = talk.ask(b"AUTH SCRAM-SHA-256 " + b64encode(first))
    assert reply == b"-ERR [AUTH] authorization failed"
    talk.close()


def test_a_client_that_can_t_be_bound_comes_in_without(secure: Secure) -> None:
    talk, _ = secure.connect()
    found = log_in(talk, CyrusClient(USER.encode(), SECRET.encode()))
    assert found[0] == b"SCRAM-SHA-256"
    assert found[1].startswith(b"+OK")
    talk.close()


# What goes over the network, changed and played again ----------------------------


def begin(talk: Talk, client: ScramClient) -> bytes:
    """Give the answer to the server's challenge."""
    first = b"AUTH SCRAM-SHA-256 " + b64encode(client.first())
    return client.final(talk.challenge(first))


def test_what_was_recorded_is_of_no_use(server: Server) -> None:
    client = ScramClient(USER.encode(), SECRET.encode())
    recorded = Talk(server.connect())
    final = b64encode(begin(recorded, client))
    assert recorded.challenge(final) == client.expected
    assert recorded.ask(b"").startswith(b"+OK")
    for talk in (recorded, Talk(server.connect())):
        if talk is not recorded:
            begin(talk, client)
            assert talk.ask(final) == b"-ERR [AUTH] authorization failed"
        talk.close()


def test_no_octet_of_an_answer_can_be_changed(server: Server) -> None:
    client = ScramClient(USER.encode(), SECRET.encode())
    octets = 0
    place = 0
    while not octets or place < octets:
        talk = Talk(server.connect())
        for changed in range(place, place + 3):
            final = bytearray(begin(talk, client))
            octets = len(final)
            final[changed % octets] ^= 1
            reply = talk.ask(b64encode(bytes(final)))
            assert reply == b"-ERR [AUTH] authorization failed", (changed, final)
        talk.close()
        place += 21
    assert not accepted(server)
