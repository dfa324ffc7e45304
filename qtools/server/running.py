# SPDX-License-Identifier: ISC
"""Start the server: bind, give up what need not be kept, and serve one way or other.

A chain of our own links is served warm, any other as tcpserver would. What is wrong
with the settings is found here, before the first client comes.
"""

import posix

from qtools.errors import Failure, Hard, from_os_error
from qtools.server import environment, listeners, unheeded
from qtools.server.notices import Notices
from qtools.server.settings import Settings
from qtools.server.warm import chain as warm
from qtools.server.warm.bulletin import Bulletin
from qtools.server.warm.chain import NO_LOG
from qtools.server.warm.premises import Premises
from qtools.system import guard, notify, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable

    from qtools.server.warm.chain import WarmChain
    from qtools.server.warm.master import Master

STALE = (
    *(b"SSL_PROTOCOL", b"SSL_CIPHER", b"SSL_CLIENT_", b"SSL_SERVER_"),
    *(b"SSL_SESSION_", b"SSL_TLS_", b"SSL_VERSION_"),
)


class Listening:
    """The listeners, which outlive a reload as far as they are still wanted."""

    def __init__(
        self,
        environ: dict[bytes, bytes],
        opened: "Iterable[tuple[_socket.socket, bool]]" = (),
    ) -> None:
        """Take over sockets from a service manager, if it has opened any.

        opened: sockets that we have opened ourselves, to be kept as long as we run.
        Raises: Hard.
        """
        self._given = list(opened)
        self._activated = notify.activated(environ, posix.getpid())
        self._bound: dict[str, _socket.socket] = {}
        self._fresh: dict[str, _socket.socket] = {}

    def open(self, settings: Settings) -> "list[tuple[_socket.socket, bool]]":
        """Give all listeners, each with whether TLS begins at once.

        Those of before stay open until keep(): other settings may turn out wrong.
        Raises: Hard, Temporary.
        """
        has_tls = settings.tls is not None
        self._given += [
            listeners.adopt(each.descriptor, each.name, has_tls=has_tls)
            for each in self._activated
        ]
        self._activated = []
        if self._given:
            return self._given
        first = listeners.endpoint_of(settings.host, settings.port)
        first.is_tls = settings.is_first_tls
        wanted = [first, *map(listeners.endpoint, settings.listen)]
        if settings.is_closed:
            wanted = []
        self._fresh = {}
        found = []
        for place, where in enumerate(wanted):
            # With port 0 one word can name several sockets.
            name = str(where) if where.port else f"{where} {place}"
            if name in self._fresh:
                raise Hard(f"{where} is named twice")
            held = self._bound.get(name) or listeners.bind(where, settings.backlog)
            self._fresh[name] = held
            is_tls = where.is_tls or (has_tls and where.port == listeners.TLS_PORT)
            found.append((held, is_tls))
        return found

    def keep(self) -> None:
        """Close the listeners of before that are not wanted any more."""
        for name, held in self._bound.items():
            if name not in self._fresh:
                held.close()
        self._bound = self._fresh

    def drop(self) -> None:
        """Close the listeners that only settings wanted which turned out wrong."""
        for name, held in self._fresh.items():
            if self._bound.get(name) is not held:
                held.close()
        self._fresh = self._bound

    def close(self) -> None:
        """Close all that were bound here."""
        self.drop()
        for held in self._bound.values():
            held.close()


def run(argv: list[str], settings: Settings) -> int:
    """Serve until told to end; give the exit code.

    Raises: Hard, Temporary.
    """
    from_starter = fill_standard_descriptors()
    if settings.notify_descriptor and settings.notify_descriptor not in from_starter:
        raise Hard(f"--notify-fd: nobody has opened {settings.notify_descriptor}")
    if settings.is_demo:
        from qtools.server.demo import demo

        return demo.run(argv)
    notifier = notify.Notifier(posix.environ)
    listening = Listening(posix.environ)
    clean(posix.environ)
    chain = warm.read(settings.chain)  # what is wrong with it is known before a port is
    if chain is not None and chain.log_descriptor not in from_starter:
        chain.log_descriptor = NO_LOG  # whatever is there by now is ours
    try:
        opened = listening.open(settings)
        listening.keep()
        if settings.prints_port and opened:
            print_port(opened[0][0])
        _warn(argv, settings, opened, is_foreign=chain is None)
        place = (opened, listening, notifier)
        if chain is None:
            return run_foreign(lambda: Settings(argv), settings, place)
        become(settings.uid, settings.gid)
        return master_of(argv, settings, chain, place).run()
    finally:
        listening.close()


def _warn(
    argv: list[str],
    settings: Settings,
    opened: "list[tuple[_socket.socket, bool]]",
    *,
    is_foreign: bool,
) -> None:
    """Tell of options that change nothing, unless -q."""
    speaks_tls = any(is_tls for _, is_tls in opened)
    for text in unheeded.warnings(
        settings, is_foreign=is_foreign, speaks_tls=speaks_tls
    ):
        if not settings.is_quiet:
            guard.complain(argv, text)


def master_of(
    argv: list[str],
    settings: Settings,
    chain: "WarmChain",
    place: "tuple[list[tuple[_socket.socket, bool]], Listening, notify.Notifier]",
) -> "Master":
    """Give the master of a warm chain, ready to run.

    place: the open listeners, what opens them anew at a reload, who is told. There is
    /dev/null on 0 and 1 from here on.
    Raises: Hard.
    """
    from qtools.server.warm.master import Master

    opened, listening, notifier = place
    bulletin = Bulletin(notifier)

    def premises(
        anew: Settings, found: "Iterable[tuple[_socket.socket, bool]]"
    ) -> Premises:
        table = {held.fileno(): (held, is_tls) for held, is_tls in found}
        made = Premises(anew, chain, table, bulletin)
        made.prepare()
        return made

    def reread() -> Premises:
        anew = Settings(argv)
        try:
            made = premises(anew, listening.open(anew))
        except Failure:
            listening.drop()
            raise
        listening.keep()
        return made

    _let_go()
    if posix.geteuid():
        text = f"not root: everything runs as uid {posix.geteuid()}"
        guard.complain(argv, text)
    return Master(premises(settings, opened), reread, argv)


def _let_go() -> None:
    """Have nothing on 0 and 1.

    A chain has its client there, so a log that is also one of these is taken for him;
    and who reads what was printed up to the end need not wait for ours.
    Raises: Temporary.
    """
    try:
        nothing = posix.open("/dev/null", posix.O_RDWR)
        for descriptor in (0, 1):
            posix.dup2(nothing, descriptor)
        posix.close(nothing)
    except OSError as why:
        raise from_os_error(why, "open /dev/null") from why


def run_foreign(
    read: "Callable[[], Settings]",
    settings: Settings,
    place: "tuple[list[tuple[_socket.socket, bool]], Listening, notify.Notifier]",
) -> int:
    """Serve a chain of others; read: gives the settings at a reload.

    place: as for master_of().
    Raises: Hard, Temporary.
    """
    from qtools.server.foreign import premises as foreign_premises
    from qtools.server.foreign import server as foreign
    from qtools.server.tls.pool import Pool

    opened, listening, notifier = place
    premises = foreign_premises.Premises(settings, opened)
    pool = None
    if premises.has_tls:
        pool = Pool(settings.tls_workers, premises.launch)  # reads the keys
    become(settings.uid, settings.gid)
    _let_go()
    estate = foreign_premises.Estate(read, listening, Notices(notifier))
    return foreign.run(premises, estate, pool)


def clean(environ: dict[bytes, bytes]) -> None:
    """Take away what a server before us has said of another connection."""
    for name in list(environ):
        is_known = name in environment.NAMES or name == verdict.VARIABLE
        if is_known or name.startswith(STALE):
            del environ[name]


def become(uid: int, gid: int) -> None:
    """Become what -u and -g say, with no other groups, as tcpserver does.

    Raises: Hard, Temporary.
    """
    if uid < 0:
        return
    from qtools.system import privileges

    privileges.become(uid, gid, [gid], b"")


def print_port(held: "_socket.socket") -> None:
    """Print the port that the first listener got (-1)."""
    address = held.getsockname()
    port = address[1] if isinstance(address, tuple) else 0
    posix.write(1, b"%d\n" % port)


def fill_standard_descriptors() -> frozenset[int]:
    """Have something on 0, 1 and 2, so that no connection can come to be there.

    Gives the descriptors that whoever started us has opened, these included. To be
    called before anything else is opened.
    Raises: Temporary.
    """
    found = {0, 1, 2}
    try:
        for name in posix.listdir("/proc/self/fd"):
            found.add(int(name))
        while (opened := posix.open("/dev/null", posix.O_RDWR)) <= 2:
            posix.set_inheritable(opened, True)
        posix.close(opened)
    except OSError as why:
        raise from_os_error(why, "open /dev/null") from why
    return frozenset(filter(_is_open, found))  # not the one that listdir() had


def _is_open(descriptor: int) -> bool:
    try:
        posix.fstat(descriptor)
    except OSError:
        return False
    return True
