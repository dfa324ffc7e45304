# SPDX-License-Identifier: ISC
"""pop3d: serve Maildirs over POP3.

`pop3d maildir` takes over from qmail-pop3d, from a login somebody else has checked;
`pop3d -a` and `pop3d -u user` from mdpop3d where it is used like that; `pop3d` from
mdpop3d where it logs in by itself, and `pop3d -D` from popa3d as a server. Of the last
two nothing is loaded here.
"""

import posix

from qtools import __version__
from qtools.chain.service import OPTIONS, USAGE, Service
from qtools.errors import EXIT_DONE, Hard
from qtools.linked import preload
from qtools.system import options, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.system.options import Values


def main(argv: list[str]) -> int:
    """Serve one session on descriptors 0 and 1.

    A failure before the greeting is silent and told by the exit code where there is
    popup to speak for us.
    """
    given, rest = options.parse(argv, OPTIONS, USAGE)
    if "version" in given:
        return _tell_version()
    if "standalone" in given:
        from qtools.server import standalone

        return standalone.run(argv, given, rest)
    if "listen" in given or "foreground" in given:
        raise Hard("--listen and --foreground are for -D")
    if _is_alone(given, rest):
        preload("alone")
        from qtools.chain.alone import entrance

        return entrance.run(argv, given)
    return Service(argv, given, rest).run()


def read(argv: list[str]) -> Service:
    """Read the arguments, for who serves many sessions by them.

    Raises: Hard.
    """
    return Service(argv, *options.parse(argv, OPTIONS, USAGE))


def _is_alone(given: "Values", rest: list[str]) -> bool:
    """Tell whether the login is still to be done, and nobody in front has done it."""
    is_done = rest or "preauth" in given or "username" in given
    return not is_done and not verdict.is_heard()


def _tell_version() -> int:
    """Say which version this is and what it has, as mdpop3d does."""
    from qtools.chain.alone import manner

    features = ", ".join(manner.features())
    posix.write(1, f"pop3d (qtools) {__version__} ({features})\n".encode())
    return EXIT_DONE
