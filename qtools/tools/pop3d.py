# SPDX-License-Identifier: ISC
"""pop3d: serve one user's Maildir over POP3, from a login somebody else has checked.

`pop3d maildir` takes over from qmail-pop3d; `pop3d -a` and `pop3d -u user` from mdpop3d
in its pre-authenticated mode, with that program's options and replies; `pop3d -D` from
popa3d as a server, of which nothing is loaded here.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
import sys

from qtools import __version__
from qtools.chain.serve import Conversation
from qtools.errors import EXIT_DONE, Failure, Hard
from qtools.maildrop.maildir import Maildir
from qtools.protocol import replies, tongue
from qtools.sessions.style import JUNK_LIMIT, Style
from qtools.sessions.transaction import Transaction
from qtools.system import guard, options, verdict
from qtools.system.fdio import Wire, peer_address
from qtools.system.options import Option
from qtools.system.report import Report, own_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.system.options import Values

USAGE = "pop3d [options] maildir | pop3d -a|-u user [options] | pop3d -D [options]"

OPTIONS = (
    Option("a", "preauth", "", "the login is done: serve, in the manner of mdpop3d"),
    Option("u", "username", "user", "as -a; user is the name in the log"),
    Option("m", "maildir", "dir", "serve this Maildir; beats $MAILDIR"),
    Option("t", "timeout", "seconds", "idle and write limit; 1200, with -a or -u 60"),
    Option("c", "commit", "", "a lost connection or timeout deletes as QUIT does"),
    Option("n", "no-move", "", "do not move messages from new/ to cur/"),
    Option("r", "rhost", "host", "the client's name in the log"),
    Option("R", "rhost-var", "variable", "the variable that holds it; must be set"),
    Option("q", "quiet", "", "log no start and end of sessions"),
    Option("d", "debug", "", "log what the client sends, secrets hidden"),
    Option("", "syslog", "", "log start and end of sessions without -a or -u, too"),
    Option("", "blank-line", "", "end each message with an empty line more"),
    Option("D", "standalone", "", "be a server, a daemon, with the limits of popa3d"),
    Option("", "listen", "[tls:]HOST:PORT", "with -D: where (0:110); may be repeated"),
    Option("", "foreground", "", "with -D: stay, and log on descriptor 2"),
    Option("V", "version", "", "print the version"),
)

IDLE_SECONDS = 1200  # qmail-pop3d's
MDPOP3D_SECONDS = 60

# What a failure says to the client where nobody else would; the words are popup's.
_PERMANENT = replies.err(b"the server is not set up for you", replies.SYS_PERM)
_TEMPORARY = replies.err(b"temporary failure, try again later", replies.SYS_TEMP)


def main(argv: list[str]) -> int:
    """Serve one session on descriptors 0 and 1.

    A failure before the greeting is silent and told by the exit code: popup speaks for
    us. Behind mdpop3d's options without our popup there is nobody to do that.
    """
    given, rest = options.parse(argv, OPTIONS, USAGE)
    if "version" in given:
        posix.write(1, f"pop3d (qtools) {__version__}\n".encode())
        return EXIT_DONE
    if "standalone" in given:
        from qtools.server import standalone

        return standalone.run(argv, given, rest)
    if "listen" in given or "foreground" in given:
        raise Hard("--listen and --foreground are for -D")
    return Service(argv, given, rest).run()


def read(argv: list[str]) -> "Service":
    """Read the arguments, for who serves many sessions by them.

    Raises: Hard.
    """
    return Service(argv, *options.parse(argv, OPTIONS, USAGE))


class Service:
    """What the arguments ask for; the environment is another one in each session."""

    def __init__(self, argv: list[str], given: "Values", rest: list[str]) -> None:
        self._argv = argv
        self._given = given
        self._rest = rest
        self._is_preauth = "preauth" in given or "username" in given

    def run(self) -> int:
        """Serve one session on descriptors 0 and 1."""
        try:
            if not posix.getuid() or not posix.geteuid():
                raise Hard("refuses to serve as uid 0")
            return self.serve()
        except Failure as why:
            if not self._is_preauth or verdict.is_heard():
                raise
            guard.complain(self._argv, str(why))
            _say(_PERMANENT if isinstance(why, Hard) else _TEMPORARY)
            return EXIT_DONE

    def serve(self) -> int:
        """Open the maildrop, converse, report."""
        given, is_preauth = self._given, self._is_preauth
        style = _style(given, is_preauth=is_preauth)
        seconds = given.number(
            "timeout", MDPOP3D_SECONDS if is_preauth else IDLE_SECONDS, 1
        )
        report = _report(given, is_preauth=is_preauth)
        moves = "no-move" not in given
        path = _path(given, self._rest, is_preauth=is_preauth)
        drop = Maildir(path, moves=moves, needs_cur=not is_preauth)
        wire = Wire(0, 1, seconds, seconds)
        try:
            return _converse(self._argv, drop, style, wire, report)
        finally:
            wire.release()
            drop.close()


def _converse(
    argv: list[str], drop: Maildir, style: Style, wire: Wire, report: Report | None
) -> int:
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    wire.set_nodelay()
    session = Transaction(drop, style)
    trace = report.trace if report and style.is_traced else None
    talk = Conversation(session, drop, wire, blank_line=style.blank_line, trace=trace)
    if report:
        report.started()
    verdict.tell(verdict.GREETED)
    code = talk.run()
    if talk.trouble:
        guard.complain(argv, talk.trouble)
    left, left_octets, deleted, deleted_octets = tally = session.tally()
    counts = (deleted, deleted_octets, left, left_octets)
    verdict.ended(talk.why, (talk.retrieved, talk.octets, *counts))
    if report:
        if talk.trouble:
            report.failed(talk.trouble)
        report.ended(talk.why, tally)
    return code


def _style(given: "Values", *, is_preauth: bool) -> Style:
    environ = posix.environ
    announced = environ.get(b"POP3CAPA")
    return Style(
        is_bare=is_preauth,
        junk_limit=JUNK_LIMIT if is_preauth else 0,
        commits="commit" in given,
        blank_line="blank-line" in given,
        is_traced="debug" in given,
        capabilities=None if announced is None else announced.splitlines(),
        language=tongue.known(environ.get(b"POP3LANG", b"*")) or tongue.DEFAULT,
    )


def _path(given: "Values", rest: list[str], *, is_preauth: bool) -> bytes:
    """Find which Maildir to serve.

    What checkpw says of this very account beats the word that the chain has for all;
    that beats $MAILDIR, which may be left over from the administrator's environment.
    """
    if len(rest) > 1:
        raise Hard(f"too many arguments; usage: {USAGE}")
    if not rest and not is_preauth:
        raise Hard("needs a maildir, or -a or -u: it cannot log anybody in by itself")
    named = _octets(given.get("maildir") or "".join(rest))
    environ = posix.environ
    own = environ.get(b"POP3MAILDIR")
    return own or named or environ.get(b"MAILDIR") or b"Maildir"


def _report(given: "Values", *, is_preauth: bool) -> Report | None:
    """Make the report to syslog, where one is wanted."""
    host = _host(given)
    if not (is_preauth or "syslog" in given or "debug" in given):
        return None
    user = _octets(given.get("username", "")) or posix.environ.get(b"LOGNAME")
    is_quiet = "quiet" in given or not (is_preauth or "syslog" in given)
    return Report(host or peer_address(0), user or own_name(), is_quiet=is_quiet)


def _host(given: "Values") -> bytes:
    """Give the client's name or address; empty when nobody has told."""
    environ = posix.environ
    if "rhost" in given:
        return _octets(given["rhost"])
    if "rhost-var" not in given:
        return environ.get(b"TCPREMOTEIP") or environ.get(b"REMOTE_HOST") or b""
    host = environ.get(_octets(given["rhost-var"]))
    if host is None:
        raise Hard(f"variable {given['rhost-var']} is not set")
    return host


def _octets(text: str) -> bytes:
    return text.encode(sys.getfilesystemencoding(), "surrogateescape")


def _say(reply: bytes) -> None:
    try:
        posix.write(1, reply)
    except OSError:
        return
