# SPDX-License-Identifier: ISC
"""popserver inside TLS: every client that can, by STLS and on a port for it alone."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import corpus
from tests.certificates import authority
from tests.interop.clients import CLIENTS, Client, Errand, assert_same
from tests.interop.conftest import SECRET, USER, House, Serve
from tests.interop.servers import HOST, Server, Superserver, popserver
from tests.support import free_port, need, wait_for

pytestmark = pytest.mark.slow

CASES = [(client, how) for client in CLIENTS for how in client.tls]
KINDS = {"own chain": False, "programs of others": True}
FEW = ("poplib", "curl", "mpop")  # three TLS libraries: enough where only TLS is ours


class Site(NamedTuple):
    """A server with a port for each way to begin TLS, and whom to trust."""

    server: Server
    ports: dict[str, int]
    ca: str

    def errand(self, place: Path, how: str, tls: str) -> Errand:
        """Give a client what it needs to know."""
        who = (self.ports[tls], USER, SECRET, place, how)
        return Errand(*who, is_kept=False, tls=tls, ca=self.ca)


@pytest.fixture
def site(
    request: pytest.FixtureRequest, serve: Serve, house: House, session_room: Path
) -> Site:
    ours = authority(session_room / "authority")
    made = ours.server("localhost")
    port = free_port()
    words = ["--certificate", str(made.certificate), "--key", str(made.key)]
    words += ["--tls-workers", "1", "--listen", f"tls:{HOST}:{port}"]
    is_foreign = KINDS[request.param]
    words += ["-n", "-s"] if is_foreign else []
    row: Superserver = popserver(*words, is_foreign=is_foreign)
    policy = ["--plaintext", "refuse", "--mechanisms", "plain,login,cram-md5"]
    chain = [house.popup[0], *policy, *house.chain[1:]]
    server = serve(chain, row, POP3AUTH="+apop")
    return Site(server, {"stls": server.port, "at once": port}, str(ours.ca))


@pytest.mark.parametrize(
    ("site", "case"),
    [
        pytest.param(kind, (client, tls), id=f"{kind}: {client.name} {tls}")
        for kind in KINDS
        for client, tls in CASES
        if client.name in FEW or not KINDS[kind]
    ],
    indirect=["site"],
)
def test_mail_is_fetched_inside_tls(
    case: tuple[Client, str], site: Site, house: House, place: Path
) -> None:
    client, tls = case
    how = [*client.logins][1]  # the first word, "user", leaves curl a choice
    fetched = client.fetch(site.errand(place, how, tls))
    assert_same(client, fetched, corpus.messages())
    assert house.files() == []
    wait_for(lambda: any("Info::END" in line for line in site.server.log))
    accepted = next(line for line in site.server.log if "Accept::AUTH" in line)
    assert f"Accept::AUTH::{client.logins[how]} P:POP3S S:127.0.0.1:" in accepted
    assert " tls=TLSv1.3/TLS_" in accepted


STARTS = {"stls": ["-starttls", "pop3"], "at once": []}


@pytest.mark.parametrize("tls", STARTS)
@pytest.mark.parametrize("site", KINDS, indirect=True)
def test_a_session_by_openssl(site: Site, house: House, tls: str) -> None:
    """All of it in one packet: what comes behind the password is the session's."""
    where = ["-connect", f"localhost:{site.ports[tls]}", "-servername", "localhost"]
    trust = [
        "-CAfile",
        site.ca,
        "-verify_return_error",
        "-verify_hostname",
        "localhost",
    ]
    commands = f"USER {USER}\nPASS {SECRET}\nRETR 1\nDELE 1\nQUIT\n"
    done = subprocess.run(
        [
            *(need("openssl", "openssl"), "s_client", "-quiet", "-crlf"),
            *(*STARTS[tls], *where, *trust),
        ],
        input=commands.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    message = corpus.stuffed(corpus.messages()[0].wire)
    ok = b"+OK \r\n"
    said = done.stdout.partition(ok)[2]
    assert said == ok + ok + message + ok + ok
    assert len(house.files()) == len(corpus.messages()) - 1
