# SPDX-License-Identifier: ISC
"""A chain of our own links that the server has put together itself.

Nobody has to find programs for it: it works where there are none, as in a package that
makes stubs of its own, and whatever the programs are called.
"""

from qtools.accounts import entry
from qtools.chain import front
from qtools.server.warm.chain import WarmChain
from qtools.system import options


def read(argv: list[str], program: str = "popup") -> WarmChain:
    """Give the chain for the words of popup, checkpw and pop3d, which must be right.

    program: the name in the session log.
    Raises: Hard, Misuse.
    """
    values, (hostname, *inner) = options.parse(argv, front.OPTIONS, front.USAGE)
    checker, session = options.parse(inner, entry.ROWS, entry.USAGE)
    return WarmChain(program, (values, hostname), checker, session)
