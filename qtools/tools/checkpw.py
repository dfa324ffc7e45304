# SPDX-License-Identifier: ISC
"""checkpw: verify the record on descriptor 3, become the user, run the next program.

Takes the place of checkpassword and qmail-authuser. The record is looked at by a
verifier process only; meanwhile this one, which becomes the user, finds and loads the
next program, because our own files may be out of reach once privileges are gone.
Leaves with 1 when the credential is refused, 2 on misuse, 111 on every other failure.
See: cr.yp.to/checkpwd/interface.html.
"""

import posix

from qtools.accounts import entry, registry
from qtools.accounts.entry import ROWS, USAGE
from qtools.accounts.verifier import Verifier
from qtools.chain import handover
from qtools.errors import (
    EXIT_EXPIRED,
    EXIT_MISUSE,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    Failure,
    Hard,
    Misuse,
    Temporary,
)
from qtools.protocol.record import BEARER_OCTETS, RECORD_OCTETS
from qtools.system import privileges, verdict
from qtools.system.options import Values, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtools.accounts.interface import Identity
    from qtools.accounts.registry import Opener

DESCRIPTOR = 3
DIALOGUES = (b"Scram-Sha-256", b"Scram-Sha-256-Plus")  # where the client is asked back


def main(argv: list[str]) -> int:
    """Verify, become the user and run the next program; give its exit code."""
    values, rest = parse(argv, ROWS, USAGE, Misuse)
    if not rest:
        raise Misuse(f"no program to run; usage: {USAGE}")
    try:
        return _run(argv, values, rest)
    except Hard as why:
        # a checker has no code for "configured wrongly": see the interface
        raise Temporary(str(why)) from why


def foresee(argv: list[str]) -> None:
    """Load the account sources and the next program.

    Raises: Failure.
    """
    values, rest = parse(argv, ROWS, USAGE, Misuse)
    registry.load(registry.words(values.every("accounts"), posix.environ))
    if "exec" not in values:
        handover.prepare(rest).foresee()


def _run(argv: list[str], values: Values, rest: list[str]) -> int:
    words = registry.words(values.every("accounts"), posix.environ)
    openers = registry.load(words)
    is_token = posix.environ.get(entry.METHOD) in entry.BEARER_METHODS
    most = BEARER_OCTETS if is_token else RECORD_OCTETS
    record = _read_record(most)
    if len(record) > most:
        return EXIT_REFUSED
    verifier = Verifier(
        lambda: _check(record, openers, values), argv, is_verbose="verbose" in values
    )
    record[:] = bytes(len(record))  # the verifier has its copy
    verdict.hush()
    link = trouble = None
    try:
        link = handover.prepare(rest, force_exec="exec" in values)
    except Failure as why:
        trouble = why  # a wrong password is told first
    code, who = verifier.wait()
    if who is None:
        return _refused(code)
    if link is None:
        raise Temporary(str(trouble))
    if not entry.may_be(who, allow_root="allow-root" in values):
        return EXIT_REFUSED
    privileges.become(who.uid, who.gid, who.groups, who.home)
    entry.set_environment(who)
    verdict.tell(verdict.ACCEPTED)
    return link.run()


def _refused(code: int) -> int:
    """Give the exit code for a verdict; what it can't say popup is told besides."""
    if code == EXIT_EXPIRED:
        verdict.tell(verdict.EXPIRED)
        return EXIT_REFUSED
    return code if code in (EXIT_REFUSED, EXIT_MISUSE) else EXIT_TEMPORARY


def _read_record(most: int) -> bytearray:
    """Read descriptor 3 to its end, or one octet more than is allowed, and close it.

    most: octets allowed.
    Raises: Temporary.
    """
    record = bytearray(most + 1)
    filled = 0
    try:
        with memoryview(record) as view:
            while filled < len(record):
                octets = posix.readv(DESCRIPTOR, [view[filled:]])
                if not octets:
                    break
                filled += octets
        posix.close(DESCRIPTOR)
    except OSError as why:
        raise Temporary(f"unable to read descriptor 3: {why.strerror}") from why
    del record[filled:]
    return record


def _check(
    record: bytearray, openers: "Sequence[Opener]", values: Values
) -> "Identity":
    """Say who the record's user is; runs in the verifier.

    The fields are cut into bytes, which can't be overwritten; they end with the
    process.
    Raises: Misuse, Refused, Temporary, Hard.
    """
    entry.set_context(values)
    method = posix.environ.get(entry.METHOD, b"")
    sources = [open_source() for open_source in openers]
    if method in DIALOGUES:
        from qtools.chain import interview

        return interview.hold(bytes(record), sources, method)
    allow_empty = "allow-empty" in values
    return entry.check(bytes(record), sources, method, allow_empty=allow_empty)
