# SPDX-License-Identifier: ISC
"""The ssl module's two classes, with what we want to know of each besides."""

import ssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


class TlsSocket(ssl.SSLSocket):
    """One connection; asked: the host name the client wants, or empty."""

    asked = ""


class ServerContext(ssl.SSLContext):
    """What a server's connection is made with.

    names: host names of its certificate, in lower case. dump: what is told about that
    certificate, see dump.about(). binding: see end_point; empty where there is none.
    """

    sslsocket_class = TlsSocket
    names: list[str]
    dump: bytes
    binding: bytes = b""

    def begin(self, raw: "socket.socket") -> TlsSocket:
        """Begin TLS on a client's connection, which must not block.

        The descriptor belongs to what is given back. A reset is told as an error, not
        as an end.
        Raises: OSError when the client is gone.
        """
        raw.getpeername()  # raises before the library has lost hold of the socket
        made = self.wrap_socket(
            raw,
            server_side=True,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        assert isinstance(made, TlsSocket)  # noqa: S101  # for the type checker
        return made
