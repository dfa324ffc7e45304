# SPDX-License-Identifier: ISC
"""Read a PROXY header in a connection's own process, and nothing behind it.

What is peeked at and is not a whole header yet is all part of one, and taken. Of the
rest exactly the header's octets are: what follows is the client's, and may be a TLS
handshake.
"""

import _socket
from select import POLLIN, poll
from time import monotonic

from qtools.errors import Temporary
from qtools.protocol import proxy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.protocol.proxy import Header

HEADER_SECONDS = 10  # proxies send it with their first packet


def read(client: _socket.socket, seconds: float = HEADER_SECONDS) -> "Header":
    """Take the header that must be there.

    Raises: Temporary for one that is malformed or does not come in time.
    """
    deadline = monotonic() + seconds
    ready = poll()
    ready.register(client.fileno(), POLLIN)
    taken = b""
    try:
        while True:
            left = deadline - monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                raise Temporary("no PROXY header in time")
            seen = client.recv(proxy.LONGEST, _socket.MSG_PEEK)
            if not seen:
                raise Temporary("no PROXY header before the end")
            header = proxy.parse(taken + seen)
            if header is not None:
                client.recv(header.octets - len(taken))
                return header
            taken += client.recv(len(seen))
    except proxy.Malformed:
        raise Temporary("malformed PROXY header") from None
    except OSError as why:
        raise Temporary(f"unable to read the PROXY header: {why.strerror}") from why
