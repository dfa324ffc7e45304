# SPDX-License-Identifier: ISC
"""Run PWD as a server: channels, listeners, and a reload at SIGHUP."""

import os

from qtools.errors import EXIT_DONE, Failure
from qtools.server import daemon, running, syslogger
from qtools.server.daemon import Herald
from qtools.server.pwd.settings import read, settings
from qtools.server.standalone import open_listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.settings import Settings


def run(argv: list[str]) -> int:
    """Serve, in the foreground or as a daemon; give the exit code.

    Raises: Hard, Temporary.
    """
    program = argv[0].rpartition("/")[2]
    path = os.path.abspath(argv[0]) if "/" in argv[0] else argv[0]
    is_daemon = not {"--foreground", "--help", "--version"}.intersection(argv)

    home = os.getcwd()

    def reread() -> "Settings":
        return settings(path, read(argv, home))

    try:
        first = reread()
        opened, listening = open_listeners(first)
    except Failure as why:
        if is_daemon:
            syslogger.complain(program, str(why))
        raise
    herald = Herald()
    if is_daemon and not daemon.leave_home(herald, opened):
        return EXIT_DONE
    try:
        if is_daemon:
            kept = [herald.ready_at, *(held.fileno() for held, _ in opened)]
            daemon.settle(program, kept)
        return running.run_foreign(reread, first, (opened, listening, herald))
    except Failure as why:
        herald.tell(str(why).encode("utf-8", "replace"))
        raise
    finally:
        listening.close()
