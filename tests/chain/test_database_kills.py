# SPDX-License-Identifier: ISC
"""Sixteen processes change one database and are killed: what was said to be is there.

Each worker has two names of its own, and all increment one number. A worker says what
it is about to do, and then that it is done, which is where a client would be told 200;
both lie in a pipe that outlives it. Who was killed is followed by another with the same
names, who looks first: it must find what was acknowledged, and of what was begun either
all or nothing.
"""

import json
import os
import random
import select
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest

from qtools.accounts import hashes
from qtools.accounts.db.files import create
from qtools.accounts.db.reader import Database
from qtools.accounts.db.store import Store
from qtools.accounts.refusals import NoAccount
from qtools.protocol import scram
from tests.support import PATIENCE_SECONDS

WORKERS = 16
OPERATIONS = 10_000
EVERY = 60  # a kill for so many operations
SEED = 20251121

State = dict[str, Any]  # of one worker's account


class Worker:
    """What a worker does; runs in a process of its own."""

    def __init__(self, path: bytes, number: int, seed: int, pipe: int) -> None:
        self.path = path
        self.names = f"w{number}", f"w{number}@ex.org"
        self.chance = random.Random(seed)
        self.pipe = pipe
        self.store = Store(path)
        self.reader = Database(path)
        self.state = self.look()

    def run(self) -> NoReturn:
        """Work until killed."""
        self.say("found", self.state)
        kinds = (self.secret, self.verify, self.rename, self.aliases, self.settings)
        while True:
            self.chance.choice((*kinds, self.count))()

    def say(self, what: str, state: State | None) -> None:
        os.write(self.pipe, json.dumps([what, state]).encode() + b"\n")

    def look(self) -> State:
        """Read what there is of this worker's account."""
        for name in self.names:
            try:
                self.store.show(name.encode())
            except NoAccount:
                continue
            settings = self.store.settings(name.encode())
            secret = settings.pop("secret").decode()
            made = self.store.credentials(name.encode())
            assert hashes.matches(secret.encode(), made["hash"])
            assert made["clear"] == secret.encode()
            assert scram.read_keys(made["scram-sha-256"]).iterations
            return {
                "name": name,
                "secret": secret,
                "aliases": self.store.aliases(name.encode()),
                "settings": {key: value.decode() for key, value in settings.items()},
            }
        raise AssertionError(f"{self.names} have gone")

    def change(self, **changes: Any) -> bytes:
        """Say what is going to be; give the account's name."""
        name: str = self.state["name"]
        self.state = {**self.state, **changes}
        self.say("begin", self.state)
        return name.encode()

    def done(self) -> None:
        self.say("done", self.state)

    def word(self) -> str:
        return f"{self.chance.getrandbits(64):x}"

    def secret(self) -> None:
        secret = self.word()
        user = self.change(secret=secret)
        with self.store:
            self.store.set_secret(user, secret.encode(), "md5", clear=True)
            self.store.set_settings(user, {"secret": secret.encode()})
        self.done()

    def verify(self) -> None:
        user = self.change()
        secret: str = self.state["secret"]
        who = self.reader.verify(user, secret.encode(), b"")
        assert who.name == user
        assert self.reader.keys(user)
        self.done()

    def rename(self) -> None:
        other = self.names[self.state["name"] == self.names[0]]
        user = self.change(name=other)
        with self.store:
            self.store.rename(user, other.encode())
        self.done()

    def aliases(self) -> None:
        count = self.chance.randrange(3)
        names = sorted(f"{self.names[0]}-{self.word()}" for _ in range(count))
        user = self.change(aliases=names)
        with self.store:
            self.store.set_aliases(user, names)
        self.done()

    def settings(self) -> None:
        made = {self.chance.choice("abc"): self.word() for _ in range(2)}
        user = self.change(settings={**self.state["settings"], **made})
        with self.store:
            changes = {key: value.encode() for key, value in made.items()}
            self.store.set_settings(user, changes)
        self.done()

    def count(self) -> None:
        """Add one to a number that all share."""
        self.say("count", None)
        with self.store:
            count = int(self.store.settings(b"shared")["count"])
            self.store.set_settings(b"shared", {"count": b"%d" % (count + 1)})
        self.say("counted", None)


class Seat:
    """One worker after the other, and what they may have left."""

    def __init__(self, path: bytes, number: int, chance: random.Random) -> None:
        self.path, self.number, self.chance = path, number, chance
        self.possible: list[State] = []  # the first was acknowledged, a second begun
        self.done = self.counting = self.counted = self.kills = 0
        self.start()

    def start(self) -> None:
        seed = self.chance.getrandbits(32)
        self.held = b""
        self.reader, pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.reader)
                Worker(self.path, self.number, seed, pipe).run()
            except BaseException as why:  # noqa: BLE001  # all of it is to be reported
                os.write(pipe, json.dumps(["failed", repr(why)]).encode() + b"\n")
            finally:
                os._exit(1)
        os.close(pipe)

    def read(self) -> bool:
        """Take what the worker says; give whether there will be more."""
        data = os.read(self.reader, 65536)
        *lines, self.held = (self.held + data).split(b"\n")
        for line in lines:
            self.hear(*json.loads(line))
        return bool(data)

    def hear(self, what: str, state: State) -> None:
        assert what != "failed", state
        if what == "found":
            assert not self.possible or state in self.possible
            self.possible = [state]
        elif what == "begin":
            self.possible = [*self.possible[-1:], state]
        elif what == "done":
            assert state == self.possible[-1]
            self.possible = [state]
            self.done += 1
        elif what == "count":
            self.counting += 1
        elif what == "counted":
            self.counted += 1
            self.done += 1

    def kill(self) -> None:
        """Kill the worker, and hear what it has still said."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        while self.read():
            pass
        os.close(self.reader)
        self.kills += 1


def make(path: bytes) -> None:
    """Make the database: an account for each worker, and the shared one."""
    create(path)
    accounts = Store(path)
    with accounts:
        accounts.add_domain("ex.org")
        for number in range(WORKERS):
            user = b"w%d" % number
            accounts.add(user, None, b"/", b"")
            accounts.set_secret(user, b"first", "md5", clear=True)
            accounts.set_settings(user, {"secret": b"first"})
        accounts.add(b"shared", None, b"/", b"")
        accounts.set_settings(b"shared", {"count": b"0"})
    accounts.close()


def work(seats: list[Seat], chance: random.Random) -> None:
    """Have all work, and kill some, until enough is done."""
    poll = select.poll()
    for seat in seats:
        poll.register(seat.reader, select.POLLIN)
    kills = 0
    while (done := sum(seat.done for seat in seats)) < OPERATIONS:
        ready = dict(poll.poll(PATIENCE_SECONDS * 1000))
        assert ready, "nobody has done anything"
        for seat in seats:
            if seat.reader in ready:
                assert seat.read(), "a worker has left"
        if done > kills * EVERY:
            seat = chance.choice(seats)
            poll.unregister(seat.reader)
            seat.kill()
            seat.start()
            poll.register(seat.reader, select.POLLIN)
            kills += 1


@pytest.mark.slow
def test_what_was_acknowledged_survives_every_kill(tmp_path: Path) -> None:
    path, chance = bytes(tmp_path / "accounts"), random.Random(SEED)
    make(path)
    seats = [Seat(path, number, chance) for number in range(WORKERS)]
    try:
        work(seats, chance)
    finally:
        for seat in seats:
            seat.kill()
    accounts = Store(path)
    for pragma, answer in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
        assert accounts._execute("PRAGMA " + pragma) == answer
    assert len(list(accounts.list())) == WORKERS + 1
    accounts.close()
    for seat in seats:
        assert Worker(path, seat.number, 0, -1).state in seat.possible
    count = int(Store(path).settings(b"shared")["count"])
    acknowledged = sum(seat.counted for seat in seats)
    assert acknowledged <= count <= sum(seat.counting for seat in seats)
    assert acknowledged > OPERATIONS / 10
    assert sum(seat.kills for seat in seats) > OPERATIONS / EVERY
    assert sum(seat.done for seat in seats) >= OPERATIONS
