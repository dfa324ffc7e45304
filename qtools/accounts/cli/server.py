# SPDX-License-Identifier: ISC
"""Commands about the server itself: its log, and sessions that run.

Each takes an errand and gives a datum, or DONE.
"""

import subprocess

from qtools.accounts.cli.accounts import DONE, Done
from qtools.accounts.refusals import Unfit
from qtools.errors import Hard, Temporary
from qtools.protocol import commands
from qtools.protocol.values import Malformed, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.cli.errand import Errand

KILLER = "session-killer"  # the option: a program
KILLER_SECONDS = 30
MOST_TEXT_OCTETS = 1024
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def nothing(_errand: "Errand") -> Done:
    """Do nothing."""
    return DONE


def write_log(errand: "Errand") -> Done:
    """Write a line to the log."""
    errand.caller.require(commands.MASTER, "")
    level = errand.call.text("level")
    if len(level) != 1 or level not in b"012345":
        raise Unfit("a level is a digit from 0 to 5")
    text = errand.call.text("text")
    try:
        datum = parse(text)
    except Malformed:
        datum = text
    shown = datum if isinstance(datum, bytes) else text
    errand.log(int(level), shown[:MOST_TEXT_OCTETS].decode("utf-8", "surrogateescape"))
    return DONE


def kill_sessions(errand: "Errand") -> Done:
    """Have the administrator's program end the sessions of an account.

    What a session is, only he knows: a process of a uid that others may have as well,
    or a connection inside somebody else's server.
    Raises: Unfit when there is no such program; Hard when it may be any of that name;
    Temporary when it fails.
    """
    user = errand.subject().decode("utf-8", "surrogateescape")
    kept = errand.store.option(KILLER)
    if not kept:
        raise Unfit(f"the option {KILLER} names no program that ends sessions")
    program = kept.decode("utf-8", "surrogateescape")
    if not is_program(kept):
        raise Hard(f"the option {KILLER} is no absolute path: {program}")
    errand.store.check_trusted()
    try:
        subprocess.run(
            [program, "--", user],
            check=True,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=KILLER_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as why:
        raise Temporary(f"{program}: {why}") from why
    return DONE


def is_program(path: bytes) -> bool:
    """Tell whether a path is a program's, wherever we are."""
    return path.startswith(b"/") and b"\0" not in path
