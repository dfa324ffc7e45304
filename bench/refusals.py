# SPDX-License-Identifier: ISC
"""Whether the time of a refusal tells known names from unknown ones.

The same wrong password, the first message of SCRAM, or a wrong proof in its last one,
for names of either kind, at random. Between connections the server is left alone, so
what is timed is one reply of a server that has nothing else to do.
"""

from __future__ import annotations

import random
import time
from binascii import a2b_base64, b2a_base64
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.client import connect
from bench.cost import BenchError
from bench.difference import chance
from bench.table import cell, show

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from bench.contestants import Contestant
    from bench.standing import Daemon

_DIFFERENT = 0.001  # chance below which a difference is one
_SEED = 4
_PROOF = bytes(32)  # nobody's


class Row(NamedTuple):
    """A chain and what it is called in the table."""

    name: str
    server: Contestant | Daemon


def refuse(rows: Sequence[Row], users: Sequence[str], count: int, where: str) -> None:
    """Time what known and unknown names are told, and say whether that differs.

    users: the known ones. count: of refusals of either kind.
    """
    shown = []
    for row in rows:
        server = row.server.start()
        try:
            for what, say in _WAYS.items():
                taken = _series(server.port, say, users, count)
                shown.append([row.name, what, *_verdict(taken[True], taken[False])])
        finally:
            server.stop()
    heads = ("chain", "reply to", "known us", "unknown us", "chance", "verdict")
    show(f"known and unknown names, {count} each, {where}", heads, shown)


def _series(
    port: int,
    say: Callable[[socket.socket, bytes], bytes],
    users: Sequence[str],
    count: int,
) -> dict[bool, list[float]]:
    chance_of = random.Random(_SEED)  # names, no secrets
    taken: dict[bool, list[float]] = {True: [], False: []}
    turns = [True, False] * count
    chance_of.shuffle(turns)  # what comes every other time is not to look like one kind
    for is_known in turns:
        known = chance_of.choice(users)
        user = known if is_known else f"none{chance_of.randrange(10**7):07}"
        taken[is_known].append(_reply_seconds(port, say, user.encode()))
    return taken


def _plain(_client: socket.socket, user: bytes) -> bytes:
    return b"AUTH PLAIN " + b2a_base64(b"\0" + user + b"\0wrong password")


def _first(_client: socket.socket, user: bytes) -> bytes:
    return b"AUTH SCRAM-SHA-256 " + b2a_base64(b"n,,n=" + user + b",r=bench")


def _final(client: socket.socket, user: bytes) -> bytes:
    """Say the first message; give a last one with a wrong proof."""
    client.sendall(_first(client, user))
    challenge = a2b_base64(_line(client).removeprefix(b"+ "))
    nonce = challenge.partition(b",")[0]
    proof = b2a_base64(_PROOF, newline=False)
    return b2a_base64(b"c=biws," + nonce + b",p=" + proof)


# Each gives the line whose reply is timed.
_WAYS = {
    "PLAIN, wrong": _plain,
    "SCRAM, first": _first,
    "SCRAM, wrong proof": _final,
}


def _reply_seconds(
    port: int, say: Callable[[socket.socket, bytes], bytes], user: bytes
) -> float:
    """Give how long the reply to one line takes."""
    with connect(port) as client:
        _line(client)
        line = say(client, user)
        began = time.perf_counter()
        client.sendall(line)
        reply = _line(client)
        taken = time.perf_counter() - began
    if not reply.startswith((b"-ERR [AUTH]", b"+ ")):
        raise BenchError(f"not what was expected: {reply[:80]!r}")
    return taken


def _line(client: socket.socket) -> bytes:
    held = b""
    while not held.endswith(b"\n"):
        data = client.recv(4096)
        if not data:
            raise BenchError(f"the server closed after {held!r}")
        held += data
    return held


def _verdict(known: list[float], unknown: list[float]) -> list[str]:
    found = chance(known, unknown)
    return [
        *(cell(median(values) * 1e6, 0) for values in (known, unknown)),
        cell(found, 3),
        "DIFFERENT" if found < _DIFFERENT else "no difference seen",
    ]
