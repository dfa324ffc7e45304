# SPDX-License-Identifier: ISC
"""Every client fetches every message, octet for octet, however it logs in."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests import corpus
from tests.interop.clients import CLIENTS, Client, Errand, assert_same
from tests.interop.conftest import SECRET, USER, House, Serve
from tests.interop.servers import POPSERVER, TCPSERVER, Server, Superserver
from tests.support import wait_for

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A client that logs in one way, at one server."""

    client: Client
    how: str
    superserver: Superserver = TCPSERVER

    def __str__(self) -> str:
        return f"{self.client.name} {self.how} {self.superserver.name}"


CASES = [Case(client, how) for client in CLIENTS for how in client.logins]
# The first way of each, by USER or so, is in test_superservers.
FEWER = [
    Case(client, how, POPSERVER) for client in CLIENTS for how in [*client.logins][1:]
]


def serve_all(
    house: House, serve: Serve, how: str, superserver: Superserver = TCPSERVER
) -> Server:
    """Serve with every way to log in; with USER alone for "user".

    curl can't be told to use USER where there is something better.
    """
    all_kinds = "plain,login,cram-md5,scram-sha-256"
    mechanisms = "none" if how == "user" else all_kinds
    popup = [house.popup[0], "--mechanisms", mechanisms, *house.popup[1:]]
    chain = [*popup, *house.checkpw, *house.pop3d]
    return serve(chain, superserver, POP3AUTH="" if how == "user" else "+apop")


@pytest.mark.parametrize("case", CASES + FEWER, ids=str)
def test_mail_is_fetched_once_in_two_sessions_and_left(
    case: Case, house: House, serve: Serve, place: Path
) -> None:
    client, how, superserver = case
    server = serve_all(house, serve, how, superserver)
    before = house.files()
    errand = Errand(server.port, USER, SECRET, place, how, is_kept=True)

    assert_same(client, client.fetch(errand), corpus.messages())
    assert client.fetch(errand) == []

    # The client does not wait for the log: each session has a line at both its ends.
    wait_for(lambda: sum("Info::END" in line for line in server.log) >= 2)
    logins = [line for line in server.log if "Accept::AUTH" in line]
    assert len(logins) >= 2
    assert all(f"Accept::AUTH::{client.logins[how]} " in line for line in logins)
    moved = {f"new/{each.name}": f"cur/{each.name}:2," for each in corpus.messages()}
    assert house.files() == sorted(moved.get(name, name) for name in before)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_what_was_fetched_is_deleted(
    client: Client, house: House, serve: Serve, place: Path
) -> None:
    how = next(iter(client.logins))
    server = serve_all(house, serve, how)
    errand = Errand(server.port, USER, SECRET, place, how, is_kept=False)
    assert_same(client, client.fetch(errand), corpus.messages())
    assert house.files() == []
