# SPDX-License-Identifier: ISC
"""The chain behind every superserver there is: mail, log lines, nothing left behind."""

import re
import subprocess
from pathlib import Path

import pytest

from tests import corpus
from tests.interop.clients import CLIENTS, Client, Errand, assert_same
from tests.interop.conftest import SECRET, USER, House, Serve
from tests.interop.servers import SUPERSERVERS, TCPSERVER, Superserver
from tests.interop.talk import Talk
from tests.support import need, wait_for

pytestmark = pytest.mark.slow

ACCEPTED = "popup: pid N Accept::AUTH::User P:POP3 S:{} ?~ 'reader@example.org'"
ENDED = "popup: pid N Info::END::User P:POP3 S:{} ?~ '{}' why=served code=0 seconds=N"


def by_name(row: Client | Superserver) -> str:
    return row.name


@pytest.mark.parametrize("superserver", SUPERSERVERS, ids=by_name)
def test_a_session_behind(superserver: Superserver, house: House, serve: Serve) -> None:
    server = serve(superserver=superserver)
    with Talk(server) as talk:
        assert talk.login(USER, SECRET) == b"+OK \r\n"
        for number, message in enumerate(corpus.messages(), 1):
            reply = talk.ask_long(b"RETR %d" % number)
            assert reply == b"+OK \r\n" + corpus.stuffed(message.wire), message.label
        assert talk.ask(b"DELE 1") == b"+OK \r\n"
        assert talk.ask(b"QUIT") == b"+OK \r\n"
        assert talk.rest() == b""
    assert len(house.files()) == len(corpus.messages()) - 1

    wait_for(lambda: len(server.log) > 1)
    # What comes through a UNIX socket has no address.
    who = "127.0.0.1:unknown" if superserver.has_port else "unknown:unknown"
    numberless = [re.sub(r"\b(pid |seconds=)\d+", r"\1N", line) for line in server.log]
    ended = ENDED.format(who, USER) + (counted() if superserver.is_counting else "")
    assert numberless == [ACCEPTED.format(who), ended]


def counted() -> str:
    """Say what a session did that read all messages and deleted the first."""
    messages = corpus.messages()
    # Without what ends a reply: the dot, and a line end that the last line has not.
    octets = sum(len(corpus.stuffed(each.wire)) - len(b".\r\n") for each in messages)
    octets -= sum(2 for each in messages if each.stored[-1:] not in (b"\n", b""))
    return (
        f" end=quit retrieved={len(messages)} octets={octets} deleted=1"
        f" left={len(messages) - 1} left-octets=-"  # nobody has asked for all of them
    )


@pytest.mark.parametrize("client", CLIENTS, ids=by_name)
@pytest.mark.parametrize(
    "superserver",
    [row for row in SUPERSERVERS if row.has_port and row is not TCPSERVER],
    ids=by_name,
)
def test_mail_is_fetched_behind(
    superserver: Superserver, client: Client, house: House, serve: Serve, place: Path
) -> None:
    chain = [house.popup[0], "--mechanisms", "none", *house.chain[1:]]
    server = serve(chain, superserver)
    how = next(iter(client.logins))
    errand = Errand(server.port, USER, SECRET, place, how, is_kept=False)
    assert_same(client, client.fetch(errand), corpus.messages())
    assert house.files() == []


def test_curl_fetches_through_a_unix_socket(house: House, serve: Serve) -> None:
    (superserver,) = (row for row in SUPERSERVERS if not row.has_port)
    server = serve(superserver=superserver)
    words = ["--unix-socket", server.socket, "--user", f"{USER}:{SECRET}"]
    fetched = subprocess.run(
        [need("curl", "curl"), "-sS", *words, "pop3://mx.example.org/1"],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert fetched.stdout == corpus.messages()[0].wire
    assert house.files() != []


def rules(folder: Path, text: str) -> Path:
    """Compile rules for tcpserver."""
    path = folder / "rules.cdb"
    program = need("tcprules", "ucspi-tcp")
    words = [program, str(path), str(folder / "rules.new")]
    subprocess.run(words, input=text, text=True, check=True)
    return path


@pytest.mark.parametrize(
    ("rule", "command", "reply"),
    [
        ('POP3PLAINTEXT="refuse"', b"USER x", rb"-ERR \[.*\r\n"),
        ('POP3PLAINTEXT="allow"', b"USER x", rb"\+OK .*\r\n"),
        ('POP3AUTH="apop"', b"USER x", rb"-ERR .*\r\n"),
        ('POP3AUTH="+apop"', b"USER x", rb"\+OK .*\r\n"),
        ('POP3SASL="none"', b"AUTH PLAIN", rb"-ERR .*\r\n"),
        ('POP3SASL="plain"', b"AUTH PLAIN", rb"\+ \r\n"),
        ('POP3SASL="plain"', b"AUTH CRAM-MD5", rb"-ERR .*\r\n"),
    ],
)
def test_a_rule_of_tcpserver_decides_for_a_network(
    rule: str, command: bytes, reply: bytes, serve: Serve, room: Path
) -> None:
    compiled = rules(room, f"127.:allow,{rule}\n:deny\n")
    options = TCPSERVER.argv

    def argv(site: object) -> list[str]:
        program, *words = options(site)  # type: ignore[arg-type]  # passed through
        return [program, "-x", str(compiled), *words]

    server = serve(superserver=TCPSERVER._replace(argv=argv))
    with Talk(server) as talk:
        assert talk.line().startswith(b"+OK")
        assert re.fullmatch(reply, talk.ask(command))
