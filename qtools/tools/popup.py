# SPDX-License-Identifier: ISC
"""popup: read a POP user name and password, then run the next program.

Takes over from qmail-popup. See: popup(8), qtools-chain(8).
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
import sys
from time import monotonic

from qtools.chain import split
from qtools.chain.dialogue import SERVED_REASON, Dialogue
from qtools.chain.front import OPTIONS, USAGE, make_policy, make_stamp
from qtools.chain.handover import FORCE_EXEC
from qtools.chain.office import Office
from qtools.errors import EXIT_TEMPORARY, Hard
from qtools.sessions.login import Login
from qtools.system import confine, fdio, logline, options, ucspi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.system.options import Values
    from qtools.system.ucspi import TlsControl


class Terminated(Exception):
    """SIGTERM has come; sslserver sends it when the client has gone."""


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


def main(argv: list[str]) -> int:
    """Run popup."""
    values, rest = options.parse(argv, OPTIONS, USAGE)
    if len(rest) < 2:
        raise Hard(f"usage: {USAGE}")
    if "exec" in values:
        posix.environ[FORCE_EXEC] = b"1"
    started = monotonic()
    control = ucspi.tls_control(posix.environ)
    policy = make_policy(values, posix.environ, has_control=control is not None)
    log = _open_log(argv[0], values, control, is_tls=policy.is_tls)
    stamp = make_stamp(rest[0])
    office = Office(rest[1:], policy, stamp, log, control)
    _signal.signal(_signal.SIGTERM, _terminate)
    try:
        code, reason = _converse(values, Login(stamp, policy), office, control)
    except Terminated:
        code, reason = EXIT_TEMPORARY, "terminated"
    office.withdraw()
    if reason == SERVED_REASON:
        code, reason = office.code, office.reason
    note = f"why={reason} code={code} seconds={monotonic() - started:.0f}"
    office.log("Info::END", office.mechanism, office.user, note)
    return code


def _open_log(
    program: str, values: "Values", control: "TlsControl | None", *, is_tls: bool
) -> logline.SessionLog | None:
    descriptor = values.number("log-fd", logline.LOG_DESCRIPTOR)
    taken = {control.control, control.read, control.write} if control else set()
    if not logline.is_usable(descriptor, taken):
        return None
    address, host = ucspi.peer(posix.environ)
    log = logline.SessionLog(descriptor, program.rpartition("/")[2], address, host)
    log.protocol = "POP3S" if is_tls else "POP3"
    return log


def _converse(
    values: "Values",
    login: Login,
    office: Office,
    control: "TlsControl | None",
) -> tuple[int, str]:
    """Hold the dialogue, confined when we are root."""
    idle = values.number("timeout", fdio.IDLE_SECONDS, least=1)
    write = values.number("write-timeout", fdio.IDLE_SECONDS, least=1)

    def converse(clerk: "split.Window | Office") -> tuple[int, str]:
        wire = fdio.Wire(0, 1, idle, write)
        wire.set_nodelay()
        if clerk.lifeline >= 0:
            wire.lifeline(clerk.lifeline)
        return Dialogue(login, wire, clerk).run()

    if posix.geteuid() or "no-split" in values:
        return converse(office)
    user = values.get("user", confine.USER)
    root = values.get("chroot", "").encode(sys.getfilesystemencoding())
    unneeded = [control.control] if control else []
    unneeded += office.log_descriptors()
    return split.run(
        office, control, lambda: confine.confine(user, root), converse, unneeded
    )
