# SPDX-License-Identifier: ISC
"""pop3d -D: a whole POP3 server by one word, as popa3d -D is.

The processes are popserver's and the limits popa3d's. There is no other configuration
than popa3d has; what needs more is a job for popserver.
"""

import posix
from pwd import getpwnam

from qtools.chain.alone import manner
from qtools.errors import EXIT_DONE, Failure, Hard
from qtools.server import daemon, listeners, own_chain, running, syslogger
from qtools.server.daemon import Herald
from qtools.server.settings import Settings
from qtools.system import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.daemon import Opened
    from qtools.system.options import Values

EVERYWHERE, PORT = "0", "110"
IDLE_SECONDS = 600  # popa3d's

# popa3d's limits; a connection that is refused is closed without a word.
LIMITS = ("--concurrency=500", "--per-source=50", "--min-delay=10", "--refuse=")
# One try. What slows guessing down is min-delay: a pause would cost nobody anything.
POPUP = ("popup", "--log-fd=2")
FOR_LOGINS = {"attempts": "1", "delay": "0"}
MORE_FOR_LOGINS = ("mechanisms", "plaintext", "user", "chroot")

# pop3d's options that sessions get, and those of its other lives.
FOR_SESSIONS = ("commit", "no-move", "quiet", "debug", "syslog", "blank-line")
FOREIGN = ("preauth", "username", "rhost", "rhost-var")


def run(argv: list[str], given: "Values", rest: list[str]) -> int:
    """Serve, in the foreground or as a daemon; give the exit code.

    given, rest: pop3d's options and arguments.
    Raises: Hard, Temporary.
    """
    is_daemon = "foreground" not in given
    program = argv[0].rpartition("/")[2]
    try:
        asked = words(argv[0], given, rest)
        _offer_apop(given)
        settings = Settings(asked)
        chain = own_chain.read(settings.chain, program)
        opened, listening = open_listeners(settings)
    except Failure as why:
        if is_daemon:
            syslogger.complain(program, str(why))
        raise
    herald = Herald()
    if is_daemon and not daemon.leave_home(herald, opened):
        return EXIT_DONE
    try:
        if is_daemon:
            kept = [herald.ready_at, *(held.fileno() for held, _ in opened)]
            daemon.settle(program, kept)
        place = (opened, listening, herald)
        master = running.master_of(asked, settings, chain, place)
    except Failure as why:
        herald.tell(str(why).encode("utf-8", "replace"))
        raise
    return master.run()


def words(program: str, given: "Values", rest: list[str]) -> list[str]:
    """Give the command line of the popserver that is asked for.

    Raises: Hard.
    """
    for name in FOREIGN:
        if name in given:
            raise Hard(f"--{name} is for one session whose login is done, not for -D")
    if len(rest) > 1:
        raise Hard("too many arguments: -D takes one Maildir")
    log = [] if "foreground" in given else ["--journal"]
    seconds = given.number("timeout", IDLE_SECONDS, 1)
    limits = [f"--timeout={seconds}", f"--write-timeout={seconds}"]
    session = [f"--{name}" for name in FOR_SESSIONS if name in given]
    maildir = "".join(rest) or given.get("maildir", "") or "Maildir"
    return [
        *(program, *LIMITS, *log, *places(given, f"{EVERYWHERE}:{PORT}")),
        *(*POPUP, *_login_words(given), *limits, manner.host_name(given)),
        *("checkpw", *_account_words(given)),
        *("pop3d", *session, limits[0], "--", maildir),
    ]


def _login_words(given: "Values") -> list[str]:
    """Give popup's options that pop3d has as well."""
    words = {**FOR_LOGINS}
    for name in (*FOR_LOGINS, *MORE_FOR_LOGINS):
        if name in given:
            words[name] = given[name]
    return [f"--{name}={word}" for name, word in words.items()]


def _account_words(given: "Values") -> list[str]:
    """Give checkpw's options: what was said, or the environment's word or its default.

    Raises: Hard.
    """
    words = ["--pam-apop"] if manner.has_apop(given) else []
    if "accounts" not in given and "service" not in given:
        return words
    named = manner.account_words(given, posix.environ)
    return [*words, *(f"--accounts={word}" for word in named)]


def _offer_apop(given: "Values") -> None:
    """Have the dialogue take APOP, where -A or -T ask for it.

    A variable that has it taken alone has the last word: no password in the clear.
    """
    said = posix.environ.get(manner.POP3AUTH, b"").lower()
    if manner.has_apop(given) and not said.startswith(b"apop"):
        posix.environ[manner.POP3AUTH] = b"+apop"


def places(given: "Values", default: str) -> list[str]:
    """Give the words that say where to listen; default: unless that is said.

    Raises: Hard.
    """
    first, *more = given.every("listen") or [default]
    listeners.endpoint(first)  # or raises
    place = first.removeprefix(listeners.TLS_PREFIX)
    implicit = [] if place == first else ["--implicit-tls"]
    host, _, port = place.rpartition(":")
    if place.startswith(listeners.UNIX_PREFIX):
        host, port = place, "0"
    return [*(f"--listen={word}" for word in more), *implicit, host, port]


def open_listeners(settings: Settings) -> "tuple[Opened, running.Listening]":
    """Open the listeners, and what keeps them.

    Raises: Hard, Temporary.
    """
    _check(settings)
    running.fill_standard_descriptors()
    running.clean(posix.environ)
    listening = running.Listening(posix.environ)
    opened = listening.open(settings)
    listening.keep()
    return opened, listening


def _check(settings: Settings) -> None:
    """Make sure of what would otherwise be found out when nobody looks any more.

    Raises: Hard.
    """
    has_tls = settings.is_first_tls or any(
        word.startswith(listeners.TLS_PREFIX) for word in settings.listen
    )
    if has_tls and settings.tls is None:
        raise Hard("a listener is to speak TLS, and CERTFILE names no certificate")
    if posix.geteuid():
        return
    try:
        getpwnam(confine.USER)  # who talks to strangers
    except KeyError:
        raise Hard(f"no such user: {confine.USER}") from None
