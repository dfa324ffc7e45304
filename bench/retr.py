# SPDX-License-Identifier: ISC
"""What fetching costs: one message of 50 MB, and a hundred of 20 KB one by one.

The first shows how fast a server turns a file into lines of the network, the second
what it does to the latency of a reply: a reply in two small writes waits for the
client's delayed acknowledgement, unless the listener has set TCP_NODELAY.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from bench.client import Reader
from bench.contestants import (
    C_CHAIN,
    C_CHAIN_NODELAY,
    POPA3D,
    POPA3D_NODELAY,
    c_chain,
    debian,
    qtools,
    ready,
)
from bench.cost import BenchError
from bench.people import Household
from bench.table import Figures, cell, rotated, show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence

    from bench.contestants import Contestant

_MEGABYTE = 1_000_000
_SMALL_MESSAGES = 100
_SMALL_OCTETS = 20_000
_LINES_A_DOT = 37  # one line in so many begins with a dot and has to be stuffed
_HEADS = (
    "contestant",
    "MB/s",
    "rate/C",
    "rate/C -D",
    "rate/popa3d",
    "rate/popa3d -D",
    "CPU ms/MB",
    "CPU/C",
)


class Mailbox(NamedTuple):
    """A user and the messages that lie in the user's mailbox, as files hold them."""

    user: str
    texts: Sequence[bytes]


class _Results:
    """All figures of one mailbox."""

    def __init__(self) -> None:
        self.rate = Figures()
        self.cpu_milliseconds = Figures()

    def row(self, name: str) -> list[str]:
        rate, cpu = self.rate, self.cpu_milliseconds
        return [
            name,
            cell(rate.median(name)),
            rate.ratio(name, C_CHAIN),
            rate.ratio(name, C_CHAIN_NODELAY),
            rate.ratio(name, POPA3D),
            rate.ratio(name, POPA3D_NODELAY),
            cell(cpu.median(name)),
            cpu.ratio(name, C_CHAIN),
        ]


def message(octets: int, number: int) -> bytes:
    """Make a message of about so many octets in the file, a dot line now and then."""
    head = b"From: bench@example\nSubject: message %d\n\n" % number
    line = b"The quick brown fox jumps over the lazy dog %04d times, and then again.\n"
    block = b"".join(
        (b"." if at % _LINES_A_DOT == 0 else b"") + line % at for at in range(1000)
    )
    whole = block * (octets // len(block) + 1)
    return head + whole[: whole.rindex(b"\n", 0, octets) + 1]


def on_the_wire(text: bytes) -> bytes:
    """Give the message as RFC 1939 wants it sent, with the final dot."""
    return text.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n") + b".\r\n"


def options(parser: ArgumentParser) -> None:
    """Add what can be chosen on the command line."""
    parser.add_argument("--megabytes", type=int, default=50, help="of the one message")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="a session, at least"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names that contain this word")


def run(chosen: Namespace) -> None:
    """Make two users with mail, run all rounds, print a table for each mailbox."""
    with Household(2, "des") as household:
        found = [*c_chain(), *debian(household), *qtools(household, every_way=False)]
        rows = [row for row in found if chosen.only in row.name or row.name == C_CHAIN]
        swift = [row.with_nodelay() for row in rows if row.name != "solid-pop3d"]
        large, small = household.users
        text = message(chosen.megabytes * _MEGABYTE, 1)
        floor = ready(household.deliver(large, [text])[0]).with_nodelay()
        _compare([floor, *rows, *swift], Mailbox(large, [text]), chosen)
        texts = [message(_SMALL_OCTETS, at) for at in range(_SMALL_MESSAGES)]
        floor = ready(household.deliver(small, texts)[0]).with_nodelay()
        _compare([floor, *rows, *swift], Mailbox(small, texts), chosen)
        with one_processor():
            print("\nThe same again, -D only, client and server on one processor:")
            _compare([floor, *swift], Mailbox(small, texts), chosen)


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Keep us and all we start on one processor.

    With two, a reply of 20 KB takes less time than the interrupt by which one processor
    wakes the other (40 of 55 microseconds in a virtual machine), and that is the same
    for everybody.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _compare(rows: Sequence[Contestant], mailbox: Mailbox, chosen: Namespace) -> None:
    """Check that all send the same, then time them in turns and print a table."""
    fit = [row for row in rows if _is_fit(row, mailbox)]
    results = _Results()
    for number in range(chosen.rounds):
        for row in rotated(fit, number):
            _measure_one(row, mailbox, chosen.seconds, results)
    title = f"RETR of {len(mailbox.texts)} x {len(mailbox.texts[0]):,} octets"
    title += f", one by one, {chosen.rounds} rounds"
    show(title, _HEADS, [results.row(row.name) for row in fit])


def _is_fit(row: Contestant, mailbox: Mailbox) -> bool:
    """Leave out a server that fails or sends something else than the message.

    qmail-pop3d ends each message with a blank line more; that alone is let pass.
    """
    server = row.start()
    try:
        with Reader(server.port, mailbox.user) as reader:
            came = reader.fetch_text(1)
            reader.quit()
    except (BenchError, OSError) as why:
        print(f"bench: left out: {row.name}: {why}")
        return False
    finally:
        server.stop()
    wanted = on_the_wire(mailbox.texts[0])
    if came not in (wanted, wanted[:-3] + b"\r\n.\r\n"):
        print(f"bench: left out: {row.name}: not the message that is in the mailbox")
        return False
    return True


def _measure_one(
    row: Contestant, mailbox: Mailbox, least_seconds: float, results: _Results
) -> None:
    """Put one contestant through one round: a session of whole passes.

    The rate counts from the first RETR to the last octet; the CPU time is that of the
    whole session with its login.
    """
    octets = wall_seconds = 0.0
    server = row.start()
    try:
        with Reader(server.port, mailbox.user) as reader:
            began = time.perf_counter()
            while wall_seconds < least_seconds:
                for number, text in enumerate(mailbox.texts, 1):
                    reader.fetch(number)
                    octets += len(text)
                wall_seconds = time.perf_counter() - began
            reader.quit()
    except (BenchError, OSError) as why:
        raise BenchError(f"{row.name}: {why}") from why
    finally:
        cpu_seconds = server.stop()
    results.rate.add(row.name, octets / _MEGABYTE / wall_seconds)
    results.cpu_milliseconds.add(row.name, cpu_seconds * 1000 * _MEGABYTE / octets)
