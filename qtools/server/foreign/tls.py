# SPDX-License-Identifier: ISC
"""TLS for a foreign chain: at once, or when the program asks for it (UCSPI-TLS).

Either way a TLS worker gets the client's connection, one end of a socket pair for
cleartext and one of another for control. At once means that we ask for it ourselves and
that the program finds cleartext on 0 and 1. Otherwise the program has the client
there, and finds the other ends by SSLCTLFD, SSLREADFD and SSLWRITEFD.
See: qtools/system/ucspi.py, which is the program's side of it.
"""

import _socket
from fcntl import F_DUPFD, fcntl

from qtools.errors import Temporary, from_os_error
from qtools.system.ucspi import CONTROL, READ, WRITE, TlsControl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.tls.pool import Pool

GRACE_SECONDS = 5  # for a TLS worker that has much to do
LOWEST = 10  # 3 to 9 are the chain's: 3 for the password, 5 for the session log
OFFER = b"UCSPITLS"  # tells a program that it may offer TLS


def at_once(
    pool: "Pool", serial: int, client: _socket.socket, seconds: float
) -> dict[bytes, bytes | None]:
    """Have TLS done and put its cleartext on 0 and 1, in place of the client.

    serial: the connection's. seconds: for the handshake, after which the TLS worker is
    the one to give up. Gives what there is to tell about TLS; None is for a
    variable to be unset. The client's socket is the TLS worker's alone afterwards.
    Raises: Temporary when there is no TLS, TlsFailed when the handshake fails.
    """
    clear, control = _hand_over(pool, serial, client)
    client.close()
    asking = TlsControl(control.detach(), *[clear.detach()] * 2)
    dump = asking.start(seconds + GRACE_SECONDS)
    asking.give_up()
    asking.switch()
    return dump


def on_demand(pool: "Pool", serial: int, client: _socket.socket) -> dict[bytes, bytes]:
    """Give the variables by which the program can ask for TLS.

    Cleartext has two numbers, since programs close both.
    Raises: Temporary.
    """
    clear, control = _hand_over(pool, serial, client)
    ends = {CONTROL: control, READ: clear, WRITE: clear}
    found = {
        name: b"%d" % fcntl(end.fileno(), F_DUPFD, LOWEST) for name, end in ends.items()
    }
    clear.close()
    control.close()
    return found


def _hand_over(
    pool: "Pool", serial: int, client: _socket.socket
) -> tuple[_socket.socket, _socket.socket]:
    """Give a TLS worker its ends; give the others, for cleartext and for control."""
    try:
        clear, their_clear = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        control, their_control = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_STREAM
        )
    except OSError as why:
        raise from_os_error(why, "make sockets for TLS") from why
    ends = [client.fileno(), their_clear.fileno(), their_control.fileno()]
    if not pool.send(serial, ends):
        raise Temporary("no TLS worker takes it")
    their_clear.close()
    their_control.close()
    return clear, control
