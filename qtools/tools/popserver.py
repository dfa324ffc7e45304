# SPDX-License-Identifier: ISC
"""popserver: accept connections and run a chain for each, our own one without exec.

Takes over from tcpserver and sslserver, and runs popup, checkpw and pop3d in processes
that stay. See: popserver(8), qtools-chain(8).
"""

from qtools.server import running
from qtools.server.settings import Settings


def main(argv: list[str]) -> int:
    """Run popserver."""
    return running.run(argv, Settings(argv))
