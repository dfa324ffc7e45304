# SPDX-License-Identifier: ISC
"""A TLS worker: handshakes, and then carries octets, for thousands of connections.

It holds the private keys and nothing else: no user's name, no mail, no privileges.
Connections come as descriptors from login workers, or, for foreign chains, from each
connection's own process; packets.py has the words. One process, one loop, no threads.
After run() has begun nothing is imported and no file is opened, so it can live in an
empty root directory, with the context loaded before.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import gc
import sys

from qtools.server.tls.common import Common, Limits
from qtools.server.tls.users import Master, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from qtools.server.channel import Channel
    from qtools.server.tls.connection import ServerContext


def run(
    context: "ServerContext",
    control: "Channel",
    channels: "Iterable[Channel]",
    limits: Limits,
) -> int:
    """Serve channels until they are gone; give the exit code.

    Ends when the master has said so or is gone, all channels are at their end, and so
    is the last connection. A handful of descriptors a connection is all that limits
    them: the caller sees to that.
    """
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)  # the library writes as it likes
    sys.unraisablehook = _unraisable
    gc.freeze()  # collecting what was loaded before would copy its pages
    common = Common(context, limits)
    master = Master(common, control)
    for channel in channels:
        User(common, channel)
    while common.stages or common.users or not master.is_retired:
        common.loop.turn()
    return 0


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """Say nothing of a host name that is not ASCII: the handshake has failed by it."""
    if what.exc_type is not UnicodeDecodeError:
        sys.__unraisablehook__(what)
