# SPDX-License-Identifier: ISC
"""How pop3d is asked, and how it serves one session by what was said.

Apart from the tool, because a pop3d that logs in by itself serves the same way, and
popserver's sessions do, too.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
import sys

from qtools.chain.serve import Conversation
from qtools.errors import EXIT_DONE, Failure, Hard
from qtools.maildrop.maildir import Maildir
from qtools.protocol import replies, tongue
from qtools.sessions.style import JUNK_LIMIT, Style
from qtools.sessions.transaction import Transaction
from qtools.system import guard, verdict
from qtools.system.fdio import Wire, peer_address
from qtools.system.options import Option
from qtools.system.report import Report, own_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.system.options import Values

USAGE = (
    "pop3d [options] maildir | pop3d -a|-u user [options] | pop3d [options]"
    " | pop3d -D [options]"
)

OPTIONS = (
    Option("a", "preauth", "", "the login is done: serve, in the manner of mdpop3d"),
    Option("u", "username", "user", "as -a; user is the name in the log"),
    Option("m", "maildir", "dir", "serve this Maildir; beats $MAILDIR"),
    Option("t", "timeout", "seconds", "idle and write limit; 60, with a maildir 1200"),
    Option("c", "commit", "", "a lost connection or timeout deletes as QUIT does"),
    Option("n", "no-move", "", "do not move messages from new/ to cur/"),
    Option("r", "rhost", "host", "the client's name in the log, and for PAM"),
    Option("R", "rhost-var", "variable", "the variable that holds it; must be set"),
    Option("q", "quiet", "", "log no start and end of sessions"),
    Option("d", "debug", "", "log what the client sends, secrets hidden"),
    Option("", "syslog", "", "with a maildir: log start and end of sessions, too"),
    Option("", "blank-line", "", "end each message with an empty line more"),
    Option("p", "service", "service", "the service name for PAM (pop3)"),
    Option("A", "apop", "", "take APOP"),
    Option("T", "apop-tag", "tag", "as -A; what stands behind the @ in the greeting"),
    Option("", "accounts", "KIND[:WHERE]", "where accounts are, as for checkpw"),
    Option("", "attempts", "N", "refused logins until we hang up (1)"),
    Option("", "delay", "SECONDS", "how long a refusal takes at least (3)"),
    Option("", "mechanisms", "LIST", "SASL mechanisms, comma-separated (plain,login)"),
    Option("", "plaintext", "RULE", "passwords without TLS: allow (default), refuse"),
    Option("", "user", "NAME", "whom the dialogue before login runs as (nobody)"),
    Option("", "chroot", "DIR", "its root directory (a fresh empty one)"),
    Option("D", "standalone", "", "be a server, a daemon, with the limits of popa3d"),
    Option("", "listen", "[tls:]HOST:PORT", "with -D: where (0:110); may be repeated"),
    Option("", "foreground", "", "with -D: stay, and log on descriptor 2"),
    Option("V", "version", "", "print the version, and what there is of PAM and APOP"),
)

# Options that make no sense once somebody else has done the login; mdpop3d has the
# first three, and does not mind.
MDPOP3D_LOGIN = ("service", "apop", "apop-tag")
OWN_LOGIN = ("accounts", "attempts", "delay", "mechanisms", "plaintext")
FOR_LOGIN = (*MDPOP3D_LOGIN, *OWN_LOGIN, "user", "chroot")

IDLE_SECONDS = 1200  # qmail-pop3d's
MDPOP3D_SECONDS = 60
MAILDIR = b"Maildir"

# What a failure says to the client where nobody else would; the words are popup's.
_PERMANENT = replies.err(b"the server is not set up for you", replies.SYS_PERM)
_TEMPORARY = replies.err(b"temporary failure, try again later", replies.SYS_TEMP)


class Guest:
    """Somebody who was let in by ourselves: his name for the log, his Maildir."""

    __slots__ = ("maildir", "user")

    def __init__(self, user: bytes, maildir: bytes) -> None:
        self.user = user
        self.maildir = maildir


class Service:
    """What the arguments ask for; the environment is another one in each session."""

    def __init__(
        self,
        argv: list[str],
        given: "Values",
        rest: list[str],
        guest: Guest | None = None,
    ) -> None:
        self._argv = argv
        self._given = given
        self._rest = rest
        self._guest = guest
        self._is_preauth = "preauth" in given or "username" in given
        self._is_bare = self._is_preauth or guest is not None  # in mdpop3d's manner

    def run(self) -> int:
        """Serve one session on descriptors 0 and 1.

        Raises: Failure, unless nobody but us could tell the client.
        """
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
        given, is_bare = self._given, self._is_bare
        style = _style(given, is_bare=is_bare)
        seconds = idle_seconds(given, is_bare=is_bare)
        report = self._report()
        moves = "no-move" not in given
        drop = Maildir(self._path(), moves=moves, needs_cur=not is_bare)
        wire = Wire(0, 1, seconds, seconds)
        try:
            return _converse(self._argv, drop, style, wire, report)
        finally:
            wire.release()
            drop.close()

    def _path(self) -> bytes:
        """Find which Maildir to serve.

        What checkpw says of this very account beats the word that the chain has for
        all; that beats $MAILDIR, which may be left over from the administrator's
        environment.
        """
        if self._guest is not None:
            return self._guest.maildir
        rest = self._rest
        if len(rest) > 1:
            raise Hard(f"too many arguments; usage: {USAGE}")
        if not rest and not self._is_preauth:
            raise Hard("needs a maildir, or -a or -u: the login is done already")
        self._refuse_login_options()
        environ = posix.environ
        own = environ.get(b"POP3MAILDIR")
        named = octets(self._given.get("maildir") or "".join(rest))
        return own or named or environ.get(b"MAILDIR") or MAILDIR

    def _refuse_login_options(self) -> None:
        for name in FOR_LOGIN:
            is_borne = self._is_preauth and name in MDPOP3D_LOGIN
            if name in self._given and not is_borne:
                raise Hard(f"--{name} is for logins, and this one is done already")

    def _report(self) -> Report | None:
        """Make the report to syslog, where one is wanted."""
        given = self._given
        host = remote_host(given)  # which may raise, whether it is needed or not
        if not (self._is_bare or "syslog" in given or "debug" in given):
            return None
        user = self._guest.user if self._guest else octets(given.get("username", ""))
        user = user or posix.environ.get(b"LOGNAME") or own_name()
        is_quiet = "quiet" in given or not (self._is_bare or "syslog" in given)
        return Report(host or far_end(), user, is_quiet=is_quiet)


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


def _style(given: "Values", *, is_bare: bool) -> Style:
    environ = posix.environ
    announced = environ.get(b"POP3CAPA")
    return Style(
        is_bare=is_bare,
        junk_limit=JUNK_LIMIT if is_bare else 0,
        commits="commit" in given,
        blank_line="blank-line" in given,
        is_traced="debug" in given,
        capabilities=None if announced is None else announced.splitlines(),
        language=tongue.known(environ.get(b"POP3LANG", b"*")) or tongue.DEFAULT,
    )


def idle_seconds(given: "Values", *, is_bare: bool) -> int:
    """Give the limit for silence, and for a client that does not read.

    Raises: Hard.
    """
    return given.number("timeout", MDPOP3D_SECONDS if is_bare else IDLE_SECONDS, 1)


def remote_host(given: "Values") -> bytes:
    """Give the client's name or address; empty when nobody has told.

    Raises: Hard.
    """
    environ = posix.environ
    if "rhost" in given:
        return octets(given["rhost"])
    if "rhost-var" not in given:
        return environ.get(b"TCPREMOTEIP") or environ.get(b"REMOTE_HOST") or b""
    host = environ.get(octets(given["rhost-var"]))
    if host is None:
        raise Hard(f"variable {given['rhost-var']} is not set")
    return host


def far_end() -> bytes:
    """Give the address of whoever is connected, or "unknown"."""
    return peer_address(0).removeprefix(b"::ffff:")


def octets(text: str) -> bytes:
    """Give a word of the command line as it came."""
    return text.encode(sys.getfilesystemencoding(), "surrogateescape")


def _say(reply: bytes) -> None:
    try:
        posix.write(1, reply)
    except OSError:
        return
