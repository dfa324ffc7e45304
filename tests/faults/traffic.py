# SPDX-License-Identifier: ISC
"""People who fetch mail without pause, each in a thread, and judge every answer.

What a server may do to them when its processes die is to close the connection or to
say that they shall try again later; nothing else. Each keeps a book of his mail: what
must lie there, and what he has asked to have deleted without hearing the answer.
"""

import random
import re
import threading
from collections.abc import Callable
from itertools import count, cycle
from typing import Self

from tests.faults.client import WAYS, Client, Gone
from tests.faults.harness import SECRET, Resident
from tests.support import wait_for

STAT = re.compile(rb"\+OK (\d+) \d+")
LATER = b"-ERR [SYS/TEMP]"
MOST_MAIL = 6

Connect = Callable[[str], Client]


class Reader(threading.Thread):
    """One of them. wrong: answers nobody may give; visits, lost: sessions, and cut."""

    def __init__(self, resident: Resident, connect: Connect, seed: int) -> None:
        super().__init__(daemon=True)
        self.resident = resident
        self.wrong: list[str] = []
        self.visits = self.lost = self.later = 0
        self._connect = connect
        self._random = random.Random(seed)
        self._numbers = count()
        self._ways = cycle(WAYS[seed % 3 :] + WAYS[: seed % 3])
        self._is_told = threading.Event()
        self._there: set[bytes] = set()
        self._perhaps: set[bytes] = set()

    def run(self) -> None:
        """Fetch mail until told to stop."""
        while not self._is_told.is_set():
            self._deliver()
            try:
                self._visit(next(self._ways))
            except (Gone, ConnectionError):
                self.lost += 1
            except Exception as why:  # noqa: BLE001  # a thread can't fail a test
                self.wrong.append(f"{type(why).__name__}: {why}")

    def stop(self) -> None:
        """Have it end after the visit it is on."""
        self._is_told.set()

    def _deliver(self) -> None:
        while len(self._there) < MOST_MAIL:
            number = next(self._numbers)
            body = b"x" * self._random.choice((10, 3000, 90_000))
            octets = b"Subject: %d\n\n%d\n%b\n" % (number, number, body)
            self.resident.put(number, octets)
            self._there.add(octets)

    def _visit(self, way: str) -> None:
        with self._connect(way) as client:
            reply = client.log_in(self.resident.name, SECRET)
            if reply.startswith(LATER):
                self.later += 1
                self._part(client)
                return
            if not reply.startswith(b"+OK"):
                self.wrong.append(f"login: {reply!r}")
                return
            self._read(client)
            self.visits += 1

    def _part(self, client: Client) -> None:
        """Leave after a refusal; a second answer to it would be there now."""
        client.send(b"QUIT\r\n")
        rest = client.rest()
        if rest not in (b"", b"+OK \r\n"):
            self.wrong.append(f"after a refusal: {rest!r}")

    def _read(self, client: Client) -> None:
        found = STAT.fullmatch(reply := client.ask(b"STAT"))
        if found is None:
            self.wrong.append(f"STAT: {reply!r}")
            return
        messages = {n: client.retrieve(n) for n in range(1, int(found[1]) + 1)}
        self._compare(set(messages.values()))
        doomed = self._random.sample(sorted(messages), len(messages) // 2)
        for number in doomed:
            if not client.ask(b"DELE %d" % number).startswith(b"+OK"):
                self.wrong.append("DELE")
                return
        self._quit(client, {messages[number] for number in doomed})

    def _compare(self, seen: set[bytes]) -> None:
        """Compare with the book what the server has shown, and settle what was open."""
        if missing := self._there - seen:
            self.wrong.append(f"missing {sorted(each[:20] for each in missing)}")
        if strange := seen - self._there - self._perhaps:
            self.wrong.append(f"strange {sorted(each[:20] for each in strange)}")
        self._there, self._perhaps = seen, set()

    def _quit(self, client: Client, doomed: set[bytes]) -> None:
        self._there -= doomed
        self._perhaps |= doomed
        client.send(b"QUIT\r\n")
        rest = client.rest()
        if rest == b"+OK \r\n":
            self._perhaps -= doomed
        elif rest:
            self.wrong.append(f"QUIT: {rest!r}")
        else:
            self.lost += 1

    def check(self) -> None:
        """Compare the book with what lies in the Maildir."""
        mail = set(self.resident.mail())
        assert not self.wrong, self.wrong[:5]
        assert self._there <= mail <= self._there | self._perhaps


class Traffic:
    """Several of them at once."""

    def __init__(self, residents: list[Resident], connect: Connect) -> None:
        self.readers = [
            Reader(resident, connect, seed) for seed, resident in enumerate(residents)
        ]

    def __enter__(self) -> Self:
        for reader in self.readers:
            reader.start()
        return self

    def __exit__(self, *_why: object) -> None:
        for reader in self.readers:
            reader.stop()
        for reader in self.readers:
            reader.join()

    @property
    def visits(self) -> int:
        """How often all of them have been served."""
        return sum(reader.visits for reader in self.readers)

    def goes_on(self) -> None:
        """Wait until each has been served once more."""
        before = [reader.visits for reader in self.readers]

        def is_served() -> bool:
            now = (reader.visits for reader in self.readers)
            return all(late > early for late, early in zip(now, before, strict=True))

        wait_for(is_served)

    def check(self) -> None:
        """Compare everybody's book."""
        for reader in self.readers:
            reader.check()
