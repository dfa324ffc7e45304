# SPDX-License-Identifier: ISC
"""A database for PWD, the program on a connection, and clients as they are written."""

import os
import re
from hashlib import md5
from pathlib import Path

from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from qtools.protocol import values
from tests.chain.alone import Alone
from tests.chain.checker import run
from tests.conftest import Tools
from tests.support import OWNER

SECRET = "open sesame"


class Bureau:
    """A database with some accounts, and poppassd --pwd on it.

    Its main domain is a.b; postmaster is its master, joe a user, adm@c.d administers
    the domain c.d, ann@c.d lives there.
    """

    def __init__(self, tools: Tools, room: Path, *, clear: bool = False) -> None:
        self.tools = tools
        self.file = room / "accounts"
        create(os.fsencode(self.file))
        with self.store() as store:
            store.set_option("method", b"md5")  # quick
            store.add_domain("a.b")
            store.set_main_domain("a.b")
            store.add_domain("c.d")
            for user in (b"postmaster", b"joe", b"adm@c.d", b"ann@c.d"):
                store.add(user, OWNER, b"/", b"")
                store.set_secret(user, SECRET.encode(), clear=clear)
            store.set_rights(b"postmaster", ["Master"])
            keys = ["CanCreateAccounts", "BasicSettings"]
            store.set_rights(b"adm@c.d", keys)

    def store(self) -> Store:
        return Store(os.fsencode(self.file))

    def words(self, *options: str) -> list[str]:
        """Give a command line that answers at once and logs on descriptor 2."""
        words = [self.tools.poppassd, "--pwd", "--accounts", f"db:{self.file}"]
        return [*words, "--log-stderr", "--fail-delay=0", *options]

    def start(self, *options: str, **environment: str) -> Alone:
        """Give one connection, whose greeting has been read."""
        talk = Alone(self.words(*options), self.tools.environment(**environment))
        self.greeting = talk.line().decode()
        return talk

    def log_in(self, user: str, *options: str) -> Alone:
        talk = self.start(*options)
        said = talk.ask(f"USER {user}".encode(), f"PASS {SECRET}".encode())
        assert said == b"200 login OK"
        return talk

    def knows(self, user: str, secret: str) -> bool:
        """Tell whether somebody can log in by a password, as checkpw has it."""
        record = f"{user}\0{secret}\0".encode()
        return run(self.tools, record, "-a", f"db:{self.file}").code == 0


class VendorClient:
    """The vendor's own client, as far as the wire sees it.

    It takes the first < to the last > of a greeting for a challenge and then tries
    nothing but APOP. Its lines end in LF. It puts quotes around what is no atom,
    escapes control characters, and neither quotes nor backslashes.
    """

    def __init__(self, talk: Alone, greeting: str, user: str, secret: str) -> None:
        self._talk = talk
        self.code = 0
        self.data = ""
        self.methods: list[str] = []
        found = re.search("<.*>", greeting)
        if found:
            digest = md5((found[0] + secret).encode()).hexdigest()
            self.send(f"APOP {user} {digest}")
            self.methods.append("APOP")
        else:
            self.send(f"USER {user}")
            if self.code != 300:
                return
            self.send(f"PASS {secret}")
            self.methods.append("PASS")
        if self.code == 200:
            self.send("INLINE")
            assert self.code == 200

    def send(self, line: str) -> int:
        """Send a line and read one reply; give its code."""
        self._talk.client.sendall(line.encode() + b"\n")
        reply = self._talk.lines.readline().decode().rstrip("\n")
        found = re.fullmatch(r"([0-9]+)\s(.*)", reply, re.DOTALL)
        assert found, reply
        self.code = int(found[1])
        self.data = found[2]
        return self.code

    def value(self) -> "values.Value":
        """Give what came with 201."""
        assert self.code == 201
        return values.parse(self.data.encode())

    @staticmethod
    def quoted(value: object) -> str:
        """Write a datum the way it does."""
        if isinstance(value, dict):
            quoted = VendorClient.quoted
            pairs = (f"{quoted(key)}={quoted(value[key])};" for key in sorted(value))
            return "{" + "".join(pairs) + "}"
        if isinstance(value, list):
            return "(" + ",".join(map(VendorClient.quoted, value)) + ")"
        text = str(value)
        if re.fullmatch("[A-Za-z0-9]+", text):
            return text
        shown = re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\{ord(m[0]):03d}", text)
        return f'"{shown}"'
