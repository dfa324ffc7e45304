# SPDX-License-Identifier: ISC
"""pop3d that logs in by itself, behind every superserver and with every client."""

import poplib
import ssl
import subprocess
from pathlib import Path

import pytest

from tests import corpus
from tests.certificates import authority
from tests.interop.clients import CLIENTS, Client, Errand, assert_same
from tests.interop.conftest import SECRET, USER, House, Serve
from tests.interop.servers import (
    HOST,
    SUPERSERVERS,
    Server,
    Superserver,
    popserver,
)
from tests.interop.talk import Talk
from tests.support import need

pytestmark = pytest.mark.slow

# How a client logs in, and what pop3d needs for it.
WORDS = {
    "user": (),
    "apop": ("-T", "mx.example"),
    "+APOP": ("-A",),
    "PLAIN": (),
    "LOGIN": (),
    "plain": (),
    "login": (),
    "cram-md5": ("--mechanisms", "cram-md5"),
    "CRAM-MD5": ("--mechanisms", "cram-md5"),
    "scram-sha-256": ("--mechanisms", "scram-sha-256"),
}
LOGINS = [
    pytest.param(client, how, id=f"{client.name}-{how}")
    for client in CLIENTS
    for how in client.logins
    if how in WORDS
]


def pop3d(house: House, *words: str) -> list[str]:
    """Give the one word of the chain, with its options."""
    return [house.tools.pop3d, "--accounts", f"db:{house.database}", *words]


@pytest.mark.parametrize("superserver", SUPERSERVERS, ids=lambda row: row.name)
def test_a_session_behind(superserver: Superserver, house: House, serve: Serve) -> None:
    server = serve(pop3d(house), superserver)
    with Talk(server) as talk:
        assert talk.login(USER, SECRET).startswith(b"+OK maildir: ")
        for number, message in enumerate(corpus.messages(), 1):
            reply = talk.ask_long(b"RETR %d" % number)
            assert reply == b"+OK\r\n" + corpus.stuffed(message.wire), message.label
        assert talk.ask(b"DELE 1") == b"+OK\r\n"
        assert talk.ask(b"QUIT") == b"+OK\r\n"
        assert talk.rest() == b""
    assert len(house.files()) == len(corpus.messages()) - 1


@pytest.mark.parametrize(("client", "how"), LOGINS)
def test_mail_is_fetched(
    client: Client, how: str, house: House, serve: Serve, place: Path
) -> None:
    server = serve(pop3d(house, *WORDS[how]))
    errand = Errand(server.port, USER, SECRET, place, how, is_kept=False)
    assert_same(client, client.fetch(errand), corpus.messages())
    assert house.files() == []


@pytest.fixture
def inside(house: House, serve: Serve, session_room: Path) -> Server:
    """Give a server with delayed encryption."""
    made = authority(session_room / "alone")
    both = str(made.combined("mx.example"))
    superserver = popserver("-n", "--certificate", both, is_foreign=True)
    return serve(pop3d(house), superserver, UCSPITLS="")


def test_stls(inside: Server, session_room: Path) -> None:
    trust = ssl.create_default_context(cafile=str(authority(session_room / "alone").ca))
    client = poplib.POP3(HOST, inside.port, timeout=30)
    assert "STLS" in client.capa()
    client.host = "mx.example"
    client.stls(trust)
    assert "STLS" not in client.capa()
    client.user(USER)
    client.pass_(SECRET)
    assert client.stat()[0] == len(corpus.messages())
    client.quit()


def test_plaintext_behind_stls_is_never_executed(inside: Server) -> None:
    with Talk(inside) as talk:
        talk.line()
        talk.send(f"STLS\r\nUSER {USER}\r\nPASS {SECRET}\r\nSTAT\r\n".encode())
        assert talk.line().startswith(b"+OK starting TLS")
        assert b"+OK" not in talk.rest()


def test_curl_is_told_that_the_password_is_wrong(house: House, serve: Serve) -> None:
    server = serve(pop3d(house, "--delay=0"))
    url = f"pop3://{HOST}:{server.port}/1"
    made = subprocess.run(
        [need("curl", "curl"), "-sS", "--user", f"{USER}:wrong", url],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 67  # login denied
    assert len(house.files()) == len(corpus.messages())
