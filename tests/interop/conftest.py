# SPDX-License-Identifier: ISC
"""What tests with real programs share: a house with an account, mail, and servers."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import corpus
from tests.conftest import Tools
from tests.interop.clients import NOBODY
from tests.interop.servers import HOSTNAME, TCPSERVER, Server, Superserver, running
from tests.support import IS_ROOT, OWNER

USER = "reader@example.org"
SECRET = "cold tea, no sugar"


class House(NamedTuple):
    """An account of USER, in a database, and the home that its mail is in."""

    tools: Tools
    database: Path
    home: Path

    @property
    def maildir(self) -> Path:
        """Where mail lies."""
        return self.home / "Maildir"

    def move_in(self) -> list[corpus.Message]:
        """Put the corpus into the Maildir, and nothing else."""
        shutil.rmtree(self.maildir, ignore_errors=True)
        return corpus.write_maildir(str(self.maildir), OWNER)

    def files(self) -> list[str]:
        """Give what the Maildir holds, folder and name."""
        found = []
        for folder in ("new", "cur"):
            names = os.listdir(self.maildir / folder)
            found += [f"{folder}/{name}" for name in names]
        return sorted(found)

    @property
    def popup(self) -> list[str]:
        """The first link, up to its host name."""
        return [self.tools.popup, HOSTNAME]

    @property
    def checkpw(self) -> list[str]:
        """The middle link."""
        return ["checkpw", "--accounts", f"db:{self.database}"]

    @property
    def pop3d(self) -> list[str]:
        """The last link."""
        return ["pop3d", "Maildir"]

    @property
    def chain(self) -> list[str]:
        """All three."""
        return [*self.popup, *self.checkpw, *self.pop3d]


@pytest.fixture(scope="session")
def shared_house(tools: Tools, session_room: Path) -> House:
    """Make the house once: hashing a password takes its time."""
    place = session_room / "house"
    house = House(tools, place / "accounts", place / "home")
    place.mkdir()
    house.home.mkdir(mode=0o755)
    os.chown(house.home, *OWNER)
    popaccount = [tools.popaccount, "--db", str(house.database)]
    uid, gid = map(str, OWNER)
    who = ["--home", str(house.home), "--uid", uid, "--gid", gid]
    subprocess.run([*popaccount, "init"], check=True)
    subprocess.run(
        [*popaccount, "add", USER, "--apop", *who],
        input=SECRET.encode() + b"\n",
        check=True,
    )
    return house


@pytest.fixture
def house(shared_house: House) -> House:
    """Give the house with the corpus in its Maildir."""
    shared_house.move_in()
    return shared_house


@pytest.fixture
def place(room: Path) -> Path:
    """Give a folder in which a client, who is nobody, may write."""
    path = room / "client"
    path.mkdir()
    if IS_ROOT:
        os.chown(path, NOBODY, NOBODY)
    return path


Serve = Callable[..., Server]


@pytest.fixture
def serve(house: House, room: Path) -> Iterator[Serve]:
    """Give a function that runs a chain for the rest of the test.

    It takes the chain (default: ours), the superserver (default: tcpserver) and what
    is to stand in the environment, and gives the Server.
    """
    with ExitStack() as stack:

        def start(
            chain: list[str] | None = None,
            superserver: Superserver = TCPSERVER,
            **environment: str,
        ) -> Server:
            server: AbstractContextManager[Server] = running(
                superserver,
                room / "server",
                house.chain if chain is None else chain,
                house.tools.environment(**environment),
            )
            return stack.enter_context(server)

        yield start
