# SPDX-License-Identifier: ISC
"""The verifier's end of a dialogue with the client: SCRAM over a socket of popup's.

Each message is one packet: a letter, and the message without its base64. The record on
descriptor 3 has brought the client's first; what goes out and comes in here is the
rest. A verdict is no message: it goes its usual way.
See: qtools-chain(8), RFC 5802 section 5.
"""

import _socket
import posix

from qtools.accounts import scram
from qtools.chain.launch import CHALLENGE, RESPONSE
from qtools.errors import Misuse, Refused, Temporary, Withdrawn
from qtools.protocol.framing import MESSAGE_OCTETS
from qtools.protocol.record import unpack
from qtools.system import ucspi, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtools.accounts.interface import Identity, Source

    Say = Callable[[bytes], bytes]

BOUND = scram.METHODS[1]


def hold(record: bytes, sources: "Sequence[Source]", method: bytes) -> "Identity":
    """Say who the record's user is, once the client has proved it; in a verifier.

    Raises: Misuse, Refused, Expired, Withdrawn, Temporary, Hard.
    """
    channel = _open()
    try:
        return converse(record, sources, method, lambda data: _ask(channel, data))
    finally:
        channel.close()


def converse(
    record: bytes, sources: "Sequence[Source]", method: bytes, say: "Say"
) -> "Identity":
    """Hold the dialogue; say() sends a message and gives the client's answer.

    Raises: Misuse, Refused, Expired, Temporary, Hard, and what say() raises.
    """
    try:
        user, message, _ = unpack(record)
    except ValueError as why:
        raise Misuse(f"bad record on descriptor 3: {why}") from why
    binding = ucspi.end_point(posix.environ) if method == BOUND else b""
    exchange = scram.Exchange(sources, binding)
    challenge = exchange.first(message)
    if exchange.user != user:
        raise Refused("a record about another user than its message")
    proof = exchange.final(say(challenge))
    if say(proof):
        raise Refused("the client has more to say than SCRAM has room for")
    return exchange.identity()


def _open() -> _socket.socket:
    """Take over the descriptor that popup has named.

    Raises: Refused, as for a wrong password, when there is none.
    """
    try:
        return _socket.socket(fileno=verdict.dialogue())
    except (OSError, ValueError) as why:
        raise Refused("nobody to hold a dialogue with") from why


def _ask(channel: _socket.socket, data: bytes) -> bytes:
    """Send a message and give what the client answers, which may be nothing.

    Raises: Withdrawn, Temporary.
    """
    try:
        channel.send(CHALLENGE + data)
        packet = channel.recv(len(RESPONSE) + MESSAGE_OCTETS)
    except OSError as why:
        raise Temporary(f"unable to speak with the client: {why.strerror}") from why
    if not packet.startswith(RESPONSE):
        raise Withdrawn("the client has withdrawn")
    return packet[1:]
