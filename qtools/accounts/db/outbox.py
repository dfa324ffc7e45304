# SPDX-License-Identifier: ISC
"""Tell a program of the administrator's what was committed: the hook.

What is to be told lies in the database, written by the transaction that it is about, so
that it is told even if we are killed in between, and never if there was no commit. It
is deleted when the program has taken it; until then it is told again, in order, so the
program may hear a thing twice. One process tells at a time.
"""

import os
import signal
import subprocess
import time

from qtools.accounts.db.options import HOOK, HOOK_TIMEOUT, Options
from qtools.errors import Failure

TIMEOUT_SECONDS = 10
SPARE_SECONDS = 5  # until somebody else may tell, beyond what the program may take
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BUSY = "hook-busy"  # until when somebody is telling, in seconds since 1970

TYPE_CHECKING = False
if TYPE_CHECKING:
    Event = tuple[int, str, str, str]  # serial number, what, whose, and another name


def run_hook(path: bytes) -> str:
    """Tell the configured program what has been committed and not yet been told.

    To be called after a commit, when nobody waits any more. It is not run where
    another process is telling just now; that one tells this, too.
    Gives: nothing, or for the log why something is still to be told.
    """
    try:
        outbox = Outbox(path)
    except Failure as why:
        return str(why)
    try:
        while (event := outbox.next()) is not None:
            trouble = _tell(outbox, path, event)
            outbox.finish(event, is_told=not trouble)
            if trouble:
                return trouble
    except Failure as why:
        return str(why)
    finally:
        outbox.close()
    return ""


class Outbox(Options):
    """What is to be told."""

    def next(self) -> "Event | None":
        """Give what is to be told next, and keep others from telling it.

        None when there is nothing, or when somebody else is telling.
        Raises: Temporary, Hard.
        """
        if not self.option(HOOK):
            return None
        with self:
            rows = self._execute("SELECT id, event, name, other FROM outbox LIMIT 1")
            now = int(time.time())
            ends = now + self.timeout() + SPARE_SECONDS
            # an end far ahead was written before somebody has set the clock back
            if not rows or now < int(self._meta(BUSY) or 0) <= ends:
                return None
            self._change("REPLACE INTO meta VALUES (?, ?)", BUSY, b"%d" % ends)
        number, event, name, other = rows[0]
        return int(number or 0), str(event), str(name), str(other)

    def finish(self, event: "Event", *, is_told: bool) -> None:
        """Let others tell, and forget what has been told.

        Raises: Temporary, Hard.
        """
        with self:
            self._change("DELETE FROM meta WHERE name = ?", BUSY)
            if is_told:
                self._change("DELETE FROM outbox WHERE id = ?", event[0])

    def timeout(self) -> int:
        """Give how long the program may take, in seconds."""
        return int(self.option(HOOK_TIMEOUT) or TIMEOUT_SECONDS)


def _tell(outbox: Outbox, path: bytes, event: "Event") -> str:
    """Run the program for one event; give why it was in vain, or nothing.

    It is a whole process group that is killed when it takes too long. It has no
    descriptor of ours: those may be a client.
    """
    hook = os.fsdecode(outbox.option(HOOK))
    try:
        outbox.check_trusted()
        process = subprocess.Popen(
            [hook, *event[1:]],
            env=_environment(path, event),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except Failure as why:
        return str(why)
    except (OSError, ValueError) as why:
        return f"unable to run the hook {hook}: {why}"
    try:
        status = process.wait(outbox.timeout())
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"the hook {hook} took longer than {outbox.timeout()} seconds"
    return f"the hook {hook} ended with {status}" if status else ""


def _environment(path: bytes, event: "Event") -> dict[str, str]:
    """Give all of the program's environment."""
    number, what, name, other = event
    return {
        "PATH": PATH,
        "QTOOLS_EVENT": what,
        "QTOOLS_ACCOUNT": name,
        "QTOOLS_OTHER": other,
        "QTOOLS_SERIAL": str(number),
        "QTOOLS_DATABASE": os.fsdecode(path),
    }
