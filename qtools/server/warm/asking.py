# SPDX-License-Identifier: ISC
"""The request to have a record verified, and a session begun if it is good.

With it goes all that the session will know of its client: what popup would have put
into the environment of its chain. A verifier reads it as something that was written by
somebody who has been taken over.
"""

from qtools.chain.request import MECHANISMS
from qtools.protocol import framing, sasl
from qtools.protocol.record import RECORD_OCTETS
from qtools.server.warm import packets
from qtools.sessions.login import lasting_capabilities
from qtools.system.ucspi import end_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.warm.connection import Connection
    from qtools.sessions.actions import Verify

MOST_ENVIRONMENT = 32768

_SASL = {row.word: row for row in sasl.MECHANISMS.values()}
DIALOGUES = frozenset(word for word, row in _SASL.items() if row.is_dialogue)
_PLAINTEXT = frozenset(word for word, row in _SASL.items() if row.is_plaintext)
# Those that answer no stamp of a verifier's; a dialogue has challenges of its own.
UNSTAMPED = DIALOGUES | _PLAINTEXT | {"User"}


def pack(connection: "Connection", asked: "Verify", name: bytes) -> bytes:
    """Give the ASK.

    name: our host's, for TCPLOCALHOST.
    Raises: ValueError when it does not fit into a packet.
    """
    login = connection.login
    assert login is not None  # noqa: S101  # for the type checker
    environ = connection.guest.environ(name)
    environ[b"POP3METHOD"] = asked.mechanism.encode()
    environ[b"POP3LANG"] = login.language
    environ[b"POP3UTF8"] = b"%d" % login.is_utf8
    environ[b"POP3CAPA"] = b"\n".join(lasting_capabilities(login.policy))
    entries = [key + b"=" + value for key, value in environ.items()]
    # What a proxy tells of TLS may hold any octet; a NUL would begin another variable.
    items = b"\0".join([entry for entry in entries if b"\0" not in entry])
    tag = connection.guest.tag(asked.mechanism, asked.user)
    mechanism = MECHANISMS.index(asked.mechanism)
    head = packets.head(packets.ASK, connection.identifier, mechanism)
    return head + packets.fields(asked.record, items, tag)


def pack_answer(identifier: int, data: bytes) -> bytes:
    """Give the RESPOND."""
    return packets.head(packets.RESPOND, identifier) + packets.fields(data)


def unpack_answer(packet: bytes) -> bytes:
    """Read a RESPOND: what the client has said.

    Raises: ValueError.
    """
    (data,) = packets.read_fields(packet, 1)
    if len(data) > framing.MESSAGE_OCTETS:
        raise ValueError("an answer too long")
    return data


class Question:
    """An ASK as the verifier reads it.

    method: the mechanism's word. environment: NAME=VALUE entries with a NUL between
    them. tag: what the nursery tells of the session, without a meaning here.
    """

    __slots__ = ("environment", "identifier", "method", "record", "tag")

    def __init__(self, packet: bytes) -> None:
        """Read one.

        Raises: ValueError.
        """
        _, self.identifier, detail = packets.read_head(packet)
        self.method = packets.mechanism_of(detail)
        self.record, self.environment, self.tag = packets.read_fields(packet, 3)
        row = _SASL.get(self.method)
        most = row.octets if row is not None else RECORD_OCTETS
        if len(self.record) > most or len(self.environment) > MOST_ENVIRONMENT:
            raise ValueError("a request with too long a field")

    @property
    def needs_stamp(self) -> bool:
        """Tell whether it has to answer a stamp of ours."""
        return self.method not in UNSTAMPED

    @property
    def binding(self) -> bytes:
        """What it can be bound to; empty for nothing."""
        return end_point(packets.variables(self.environment))
