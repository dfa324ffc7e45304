# SPDX-License-Identifier: ISC
"""PAM behind popserver: a process for each attempt, which stays while a session does.

The modules are the system's own, told what to do by a service in a private /etc.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.system.ffi.crypt import Crypt
from tests.chain import warm
from tests.chain.popup import HOSTNAME, Client
from tests.chain.warm import Server
from tests.conftest import Tools
from tests.estate import Estate
from tests.support import wait_for

UID = 4242
SECRET = "sesame"
REFUSED = b"-ERR [AUTH] authorization failed\r\n"
EXPIRED = b"-ERR [AUTH] password expired\r\n"
TEMPORARY = b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"
OK = b"+OK \r\n"

# Reads what the client has typed; "slow..." waits for the test.
CHECK = """#!/bin/sh
secret=$(cat | tr -d '\\000')
echo "$PAM_USER $secret" >>{room}/tried
case $secret in
slow*) read -r word <{room}/gate; echo "$PAM_USER went on" >>{room}/tried;;
crash*) kill -9 $PPID;;
esac
[ "$secret" = {secret} ]
"""
LOGGER = """#!/bin/sh
echo "$PAM_TYPE $PAM_USER $PAM_RHOST" >>{room}/sessions
"""


class Inn:
    """A popserver whose accounts are PAM's, and what its modules write down."""

    def __init__(self, tools: Tools, room: Path, estate: Estate) -> None:
        self.room = room
        self._tools = tools
        self._estate = estate
        self._servers: list[Server] = []
        self._clients: list[Client] = []
        for name, text in (("check", CHECK), ("logger", LOGGER)):
            path = room / name
            path.write_text(text.format(room=room, secret=SECRET))
            path.chmod(0o755)
        os.mkfifo(room / "gate")
        self.settle("joe")
        self.serve(f"auth required pam_exec.so expose_authtok quiet {room}/check")

    def serve(self, *lines: str) -> None:
        """Have these modules look at passwords."""
        logger = f"session required pam_exec.so quiet {self.room}/logger"
        account = "account required pam_permit.so"
        self._estate.service("pop3", *lines, account, logger)

    def settle(self, name: str, uid: int = UID, aging: str = "") -> None:
        """Make a user with a mailbox."""
        home = self.room / name
        for folder in ("", "tmp", "new", "cur"):
            (home / "Maildir" / folder).mkdir(parents=True, exist_ok=True)
        (home / "Maildir/cur/1.mx").write_text(f"Subject: {name}\n\n")
        for place in (home, *home.rglob("*")):
            os.chown(place, uid, uid)
        stored = Crypt().hash(SECRET.encode(), b"$1$abcdefgh$")
        assert stored
        self._estate.add_user(name, uid, stored.decode(), aging)
        passwd = self._estate.etc / "passwd"
        text = passwd.read_text().replace(
            ":/nonexistent:/bin/false", f":{home}:/bin/sh"
        )
        passwd.write_text(text)

    def open(
        self, *options: str, popup: str = "-d0 -a9", accounts: str = "pam"
    ) -> Server:
        """Start a popserver."""
        chain = ["popup", *popup.split(), HOSTNAME]
        chain += ["checkpw", "-a", accounts, "pop3d", "Maildir"]
        words = [self._tools.popserver, *warm.OPTIONS, *options, "127.0.0.1", "0"]
        path = f"{self._tools.bin}:/usr/bin:/bin"
        env = self._tools.environment(PATH=path)
        server = Server(self._estate.command(*words, *chain), env)
        assert server.port, server.errors.all()
        self._servers.append(server)
        return server

    def client(self, server: Server) -> Client:
        made = server.client()
        assert made.reply() == b"+OK\r\n"
        self._clients.append(made)
        return made

    def log_in(self, server: Server, user: str = "joe", secret: str = SECRET) -> Client:
        """Give a client that has said all it has to say to log in."""
        made = self.client(server)
        made.send(f"USER {user}\r\nPASS {secret}\r\n".encode())
        assert made.reply() == OK
        return made

    def read(self, name: str) -> list[str]:
        """Give what modules have written."""
        path = self.room / name
        return path.read_text().splitlines() if path.exists() else []

    def close(self) -> None:
        for client in self._clients:
            client.hang_up()
        for server in self._servers:
            server.close()


@pytest.fixture
def estate(room: Path) -> Iterator[Estate]:
    with Estate(room / "estate") as made:
        yield made


@pytest.fixture
def inn(tools: Tools, room: Path, estate: Estate) -> Iterator[Inn]:
    made = Inn(tools, room, estate)
    yield made
    made.close()


def test_a_session_is_opened_and_closed(inn: Inn) -> None:
    server = inn.open()
    client = inn.log_in(server)
    assert client.reply() == OK
    assert inn.read("sessions") == ["open_session joe 127.0.0.1"]
    client.send(b"STAT\r\n")
    assert client.reply().startswith(b"+OK 1 ")
    assert inn.read("sessions") == ["open_session joe 127.0.0.1"]
    client.send(b"QUIT\r\n")
    client.reply()
    wait_for(lambda: inn.read("sessions")[1:] == ["close_session joe 127.0.0.1"])
