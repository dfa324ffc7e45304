# SPDX-License-Identifier: ISC
"""Write the request to have a record verified, and a session begun if it is good.

With it goes all that the session will know of its client: what popup would have put
into the environment of its chain.
"""

from qtools.chain.request import MECHANISMS
from qtools.server.warm import packets
from qtools.sessions.login import lasting_capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.warm.connection import Connection
    from qtools.sessions.actions import Verify

PLAINTEXT = frozenset(("User", "Plain", "Login"))  # those without a challenge


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
