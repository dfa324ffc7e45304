# SPDX-License-Identifier: ISC
"""Run a tool's main() and turn whatever happens into an exit code and one line.

The only place that prints an exception: program name, colon, reason, on descriptor 2.
Nothing of it ever goes to the network.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import gc
import posix
import sys

from qtools.errors import EXIT_TEMPORARY, Failure
from qtools.linked import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import NoReturn

    Main = Callable[[list[str]], int]


FILE_TYPE, SOCKET = 0o170000, 0o140000  # the module stat is not for free

_errors_are_lost = False  # descriptor 2 was the client's, and leads nowhere now


def load(tool: str) -> "ModuleType":
    """Import a tool by its name and give its module, which has a main().

    A tool may also have foresee(argv), which loads what main(argv) is going to need.
    """
    preload(tool)
    module = "qtools.tools." + tool
    __import__(module)
    return sys.modules[module]


def run(tool: str) -> "NoReturn":
    """Run the tool with this process's arguments and leave.

    Leaves by _exit: an orderly shutdown of the interpreter costs as much as the
    login itself and has nothing left to flush.
    """
    gc.disable()  # a process this short has nothing to collect
    # A starter that ignores it would have our children leave without a status.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    posix._exit(guarded(lambda argv: load(tool).main(argv), sys.argv))


def guarded(main: "Main", argv: list[str]) -> int:
    """Call main and give its exit code, reporting a failure as one line."""
    try:
        return main(argv)
    except SystemExit as done:  # --help and --version have answered
        if sys.stdout is not None:
            sys.stdout.flush()  # popaccount's argparse prints
        return int(done.code or 0)
    except Failure as why:
        complain(argv, str(why))
        return why.code
    except Exception as why:  # noqa: BLE001  # a bug must read as "try again later"
        complain(argv, f"unexpected {type(why).__name__}: {why}")
        if b"QTOOLS_DEBUG" in posix.environ:
            import traceback

            traceback.print_exc()
        return EXIT_TEMPORARY


def complain(argv: list[str], text: str) -> None:
    """Write one line about this program for the operator, if that is possible.

    On descriptor 2, unless that is the client's connection, as inetd has it; then to
    the system's log, as far as that can be reached.
    """
    name = argv[0].rpartition("/")[2] if argv else "qtools"
    line = text.encode("ascii", "backslashreplace")
    line = line.replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    try:
        if _errors_are_lost or _is_connection(2):
            _complain_to_syslog(name, line.decode())
        else:
            # Here, since it costs; a confined process has it already.
            from qtools.system import fdio

            fdio.write_line(2, name.encode("ascii", "replace") + b": " + line + b"\n")
    except (ImportError, OSError):
        return


def let_go() -> None:
    """Have the client's descriptors lead nowhere: nothing here may speak to him.

    For a process that calls other people's libraries, which may print what they like.
    Descriptor 2 stays where it is not the client's. To be called twice does no harm.
    """
    global _errors_are_lost  # noqa: PLW0603  # as global as the descriptor is
    _errors_are_lost = _errors_are_lost or _is_connection(2)
    nowhere = posix.open("/dev/null", posix.O_RDWR)
    for descriptor in (0, 1, 2) if _errors_are_lost else (0, 1):
        posix.dup2(nowhere, descriptor)
    if nowhere > 2:
        posix.close(nowhere)


def _is_connection(descriptor: int) -> bool:
    """Tell whether the client is there: on the socket of 0, or on any of the internet.

    The latter is how it looks after STLS, when 0 is something else; a socket of
    another family may well be the journal's.
    """
    try:
        here = posix.fstat(descriptor)
        if here.st_mode & FILE_TYPE != SOCKET:
            return False
        import _socket

        held = _socket.socket(fileno=posix.dup(descriptor))
        family = held.family
        held.close()
        client = posix.fstat(0)
    except OSError:
        return False
    is_same = (here.st_dev, here.st_ino) == (client.st_dev, client.st_ino)
    return is_same or family in (_socket.AF_INET, _socket.AF_INET6)


def _complain_to_syslog(name: str, text: str) -> None:
    import syslog

    syslog.openlog(name, syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_ERR, text)


def popup() -> "NoReturn":
    """Run popup; for an installer that makes its own stubs."""
    run("popup")


def checkpw() -> "NoReturn":
    """Run checkpw; for an installer that makes its own stubs."""
    run("checkpw")


def pop3d() -> "NoReturn":
    """Run pop3d; for an installer that makes its own stubs."""
    run("pop3d")


def popaccount() -> "NoReturn":
    """Run popaccount; for an installer that makes its own stubs."""
    run("popaccount")


def popserver() -> "NoReturn":
    """Run popserver; for an installer that makes its own stubs."""
    run("popserver")


def poppassd() -> "NoReturn":
    """Run poppassd; for an installer that makes its own stubs."""
    run("poppassd")
