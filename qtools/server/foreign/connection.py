# SPDX-License-Identifier: ISC
"""One connection of a foreign chain, in its own process: all that tcpserver does there.

The order is tcpserver's: banner, names, ident, environment, rules, a line for the log,
descriptors, program. What costs time or comes from strangers happens here and never in
the loop.
See: tcpserver(1).
"""

import _socket
import posix

from qtools.errors import EXIT_HARD, EXIT_TEMPORARY, Failure, Temporary
from qtools.server import environment
from qtools.server.addresses import plain
from qtools.server.foreign import lookup, proxy, tls
from qtools.server.foreign.report import harmless
from qtools.server.rules import Decision, Rules
from qtools.system.cdb import Cdb
from qtools.system.fdio import UNKNOWN
from qtools.system.ucspi import END_POINT, TlsFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from qtools.server.environment import End
    from qtools.server.foreign.manner import Manner
    from qtools.server.foreign.report import Report
    from qtools.server.tls.pool import Pool


def remote_end(address: "Any") -> "End":
    """Give the client's end as address and port, from what accept() says.

    A client on a UNIX socket may bind his end to any name: it proves nothing.
    """
    if not isinstance(address, tuple):
        return UNKNOWN, 0
    bare, _, _ = address[0].partition("%")
    return plain(bare.encode("ascii")), address[1]


def local_end(address: "Any") -> "End":
    """Give our end, from what getsockname() says; of a UNIX socket its path."""
    if isinstance(address, tuple):
        return plain(address[0].encode("ascii", "replace")), address[1]
    if isinstance(address, str):
        address = address.encode("utf-8", "surrogateescape")
    return address or UNKNOWN, 0


class Connection:
    """A client.

    serial: the connection's number. is_tls: the listener's TLS begins at once.
    """

    def __init__(
        self, manner: "Manner", report: "Report", client: int, remote: "End"
    ) -> None:
        self._manner = manner
        self._report = report
        self._client = _socket.socket(fileno=client)
        self._remote = remote
        self._local: End = (UNKNOWN, 0)
        self._host: bytes | None = None
        self._info: bytes | None = None
        self._is_proxied = False
        self._tls_told: dict[bytes, bytes] = {}  # by a proxy that speaks TLS for us

    def run(self, pool: "Pool | None", serial: int, *, is_tls: bool) -> "NoReturn":
        """Serve the client, then leave."""
        code = EXIT_TEMPORARY
        try:
            code = self._serve(pool, serial, is_tls=is_tls)
        except Failure as why:
            self._report.drop(why)
        except Exception as why:  # noqa: BLE001  # a bug must not return to the loop
            self._report.drop(f"unexpected {type(why).__name__}: {why}")
        finally:
            posix._exit(code)

    def _serve(self, pool: "Pool | None", serial: int, *, is_tls: bool) -> int:
        manner = self._manner
        self._meet()
        is_at_once = is_tls or manner.is_at_once
        if not is_at_once:
            self._greet(self._client.fileno())
        self._find_out()
        has_tls = pool is not None and (is_at_once or manner.is_delayed)
        self._tell(has_tls=has_tls)
        decision = self._judge()
        self._log(is_denied=decision.is_denied)
        if decision.is_denied:
            return EXIT_HARD
        posix.environ.update(decision.variables)
        if pool is None:
            self._lay_out()
        elif is_at_once:
            self._start_tls(pool, serial)
            self._greet(1)
        else:
            self._offer_tls(pool, serial)
        return manner.link().run()

    def _meet(self) -> None:
        """Find out who is there: by the socket, or by a proxy's word."""
        networks = self._manner.networks
        try:
            self._local = local_end(self._client.getsockname())
        except OSError as why:
            raise Temporary(f"unable to get local address: {why.strerror}") from why
        if networks is not None and networks.holds(self._remote[0]):
            self._take_word()
        address = self._remote[0].decode("ascii", "replace")
        self._report.tell(f"pid {posix.getpid()} from {address}")
        if self._manner.is_nodelay:
            _set_nodelay(self._client)

    def _take_word(self) -> None:
        """Take a PROXY header for the truth."""
        header = proxy.read(self._client)
        self._is_proxied = True
        if header.source and header.destination:
            self._remote = plain(header.source[0]), header.source[1]
            self._local = plain(header.destination[0]), header.destination[1]
        self._tls_told = environment.of_proxied_tls(header)

    def _greet(self, descriptor: int) -> None:
        banner = self._manner.banner
        try:
            while banner:
                banner = banner[posix.write(descriptor, banner) :]
        except OSError as why:
            raise Temporary(f"unable to print banner: {why.strerror}") from why

    def _find_out(self) -> None:
        """Ask for name and user, where that is wanted.

        A proxy's clients are asked nothing: their ident servers know the connection to
        the proxy, and only there.
        """
        manner, client = self._manner, self._client.fileno()
        if self._remote[0] == UNKNOWN:
            return
        if manner.is_looked_up:
            self._host = lookup.host_name(
                self._remote[0], (client,), is_paranoid=manner.is_paranoid
            )
        if manner.is_ident_asked and not self._is_proxied:
            self._info = lookup.ident(self._local, self._remote, manner.ident_seconds)

    def _tell(self, *, has_tls: bool) -> None:
        """Put into the environment what is known."""
        name, host, info = self._manner.name, self._host, self._info
        found = environment.variables(self._local, self._remote, name, host, info)
        if has_tls:
            found = environment.with_tls_names(found)
        environment.put(posix.environ, found | self._tls_told)

    def _judge(self) -> Decision:
        """Ask the rules, which are read anew for each connection.

        Raises: Failure when they can't be read.
        """
        path, clients = self._manner.rules, self._manner.clients
        if clients is not None and not clients.holds(self._remote[0]):
            denied = Decision()
            denied.is_denied = True
            return denied
        if not path:
            return Decision()
        try:
            descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError as why:
            if isinstance(why, FileNotFoundError) and self._manner.is_rules_optional:
                return Decision()
            name = path.decode("utf-8", "replace")
            raise Temporary(f"unable to read {name}: {why.strerror}") from why
        try:
            rules = Rules(Cdb(descriptor, path.decode("utf-8", "replace")))
            return rules.decide(self._remote[0], self._host, self._info)
        finally:
            posix.close(descriptor)

    def _log(self, *, is_denied: bool) -> None:
        """Write tcpserver's line about who was let in, or not."""
        (here, port), (there, client_port) = self._local, self._remote
        self._report.tell(
            f"{'deny' if is_denied else 'ok'} {posix.getpid()}"
            f" {harmless(self._manner.name)}:{here.decode('ascii', 'replace')}:{port}"
            f" {harmless(self._host or b'')}:{there.decode('ascii', 'replace')}"
            f":{harmless(self._info or b'')}:{client_port}"
        )

    def _lay_out(self) -> None:
        """Put the client on 0 and 1."""
        posix.dup2(self._client.fileno(), 0)
        posix.dup2(0, 1)
        self._client.close()

    def _start_tls(self, pool: "Pool", serial: int) -> None:
        try:
            seconds = self._manner.handshake_seconds
            dump = tls.at_once(pool, serial, self._client, seconds)
        except TlsFailed:
            address = self._remote[0].decode("ascii", "replace")
            raise Temporary(f"TLS handshake failed with {address}") from None
        pool.leave()
        for name, value in dump.items():
            if self._manner.is_telling or name == END_POINT:
                posix.environ.pop(name, None)
                if value is not None:
                    posix.environ[name] = value

    def _offer_tls(self, pool: "Pool", serial: int) -> None:
        """Let the program ask for TLS, unless the client has it already."""
        if self._manner.is_delayed and not self._tls_told:
            posix.environ.update(tls.on_demand(pool, serial, self._client))
            posix.environ.setdefault(tls.OFFER, b"")
        pool.leave()
        self._lay_out()


def _set_nodelay(client: _socket.socket) -> None:
    try:
        client.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    except OSError:
        return  # a UNIX socket has no such delay
