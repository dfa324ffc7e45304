# SPDX-License-Identifier: ISC
"""The command line of the bench: which comparison, with which options."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from bench import (
    accounts,
    check,
    endure,
    login,
    memory,
    peers,
    poppassd,
    retr,
    secure,
    serve,
)
from bench.cost import BenchError, become_subreaper
from bench.network import leave_for_own_network
from bench.people import sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_PARTS = {
    "login": login,
    "retr": retr,
    "serve": serve,
    "check": check,
    "tls": secure,
    "memory": memory,
    "accounts": accounts,
    "poppassd": poppassd,
    "endure": endure,
}
_ASKED_FOR = ("endure",)  # too long to be part of everything


def main(argv: Sequence[str]) -> int:
    """Run what the arguments say; without any, all but the long run."""
    chosen = _parser().parse_args(argv)
    if os.geteuid() != 0:
        print("bench: needs root: it makes throw-away users and servers drop to them")
        return 100
    signal.signal(signal.SIGTERM, _leave)  # so that users are removed all the same
    if chosen.clean:
        sweep()
        return 0
    peers.unpack()
    become_subreaper()
    leave_for_own_network()
    try:
        everything = [name for name in _PARTS if name not in _ASKED_FOR]
        for name in (chosen.part,) if chosen.part else everything:
            _PARTS[name].run(chosen if chosen.part else _parser().parse_args([name]))
    except BenchError as why:
        print(f"bench: {why}", file=sys.stderr)
        return 111
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    text = "remove the users of an interrupted run and do nothing else"
    parser.add_argument("--clean", action="store_true", help=text)
    parts = parser.add_subparsers(dest="part", metavar="|".join(_PARTS))
    for name, part in _PARTS.items():
        part.options(parts.add_parser(name, description=part.__doc__))
    return parser


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
