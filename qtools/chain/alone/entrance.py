# SPDX-License-Identifier: ISC
"""One connection of a pop3d that logs in by itself, from the greeting to its end.

Three processes, as with popa3d: a confined one speaks with the client, one that ends
sees hashes or PAM, and ours waits for both, becomes the user and serves. Not root, the
dialogue is held in this process, and a source has to be one that knows the own user.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
import sys

from qtools.accounts import entry
from qtools.chain import split
from qtools.chain.alone import manner
from qtools.chain.alone.checks import Checks
from qtools.chain.alone.desk import Desk
from qtools.chain.alone.speech import Speech
from qtools.chain.dialogue import SERVED_REASON
from qtools.chain.office import speak_for
from qtools.chain.service import (
    MAILDIR,
    Guest,
    Service,
    far_end,
    idle_seconds,
    octets,
    remote_host,
)
from qtools.errors import EXIT_DONE, EXIT_TEMPORARY, Failure
from qtools.protocol import tongue
from qtools.sessions.login import Login
from qtools.system import confine, fdio, guard, privileges, ucspi
from qtools.system.report import LoginReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.interface import Identity
    from qtools.chain.office import Office
    from qtools.system.options import Values


class Terminated(Exception):
    """SIGTERM has come; sslserver sends it when the client has gone."""


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


def run(argv: list[str], given: "Values") -> int:
    """Log somebody in on descriptors 0 and 1, serve him, and give the exit code."""
    language = tongue.DEFAULT
    try:
        entrance = Entrance(argv, given)
        code = entrance.admit()
        guest = entrance.desk.guest
        if guest is None:
            return code
        language = entrance.desk.variables[b"POP3LANG"]
        return entrance.enter(guest).run()
    except Failure as why:
        # There is nobody else to tell the client.
        guard.complain(argv, str(why))
        speak_for(why.code, language)
        return EXIT_DONE


class Entrance:
    """What stands between a client and his mail.

    desk: where it turns out who he is.
    """

    def __init__(self, argv: list[str], given: "Values") -> None:
        """Read options and environment, load what verifying needs.

        Raises: Hard, Temporary.
        """
        environ = posix.environ
        self._argv, self._given = argv, given
        if manner.has_apop(given):
            environ[entry.PAM_APOP] = b"1"  # as mdpop3d hands digests to modules
        words = manner.account_words(given, environ)
        self._idle_seconds = idle_seconds(given, is_bare=True)
        self._control = ucspi.tls_control(environ)
        host = remote_host(given) or far_end()
        self._report = LoginReport(host, is_quiet="quiet" in given)
        self._named = octets(given.get("maildir", "")) or environ.get(b"MAILDIR", b"")
        has_control = self._control is not None
        policy = manner.make_policy(given, environ, has_control=has_control)
        stamp = manner.make_stamp(given)
        sources = manner.sources(words, is_named=bool(self._named))
        checks = Checks(sources, host, self._report)
        self._login = Login(stamp, policy)
        self.desk = Desk(argv, policy, stamp, self._control, checks)

    def admit(self) -> int:
        """Converse until somebody has logged in or the client has gone.

        Gives the exit code for the case that nobody has.
        """
        handler = _signal.signal(_signal.SIGTERM, _terminate)
        try:
            code, reason = self._converse()
        except Terminated:
            code, reason = EXIT_TEMPORARY, "terminated"
        _signal.signal(_signal.SIGTERM, handler)
        if reason != SERVED_REASON:
            self._report.ended(reason)
        return code

    def _converse(self) -> tuple[int, str]:
        """Hold the dialogue, confined when we are root."""

        def converse(clerk: "split.Window | Office") -> tuple[int, str]:
            wire = fdio.Wire(0, 1, self._idle_seconds, self._idle_seconds)
            wire.set_nodelay()
            if clerk.lifeline >= 0:
                wire.lifeline(clerk.lifeline)
            return Speech(self._login, wire, clerk, self._report.trace).run()

        if posix.geteuid():
            return converse(self.desk)
        user = self._given.get("user", confine.USER)
        root = self._given.get("chroot", "").encode(sys.getfilesystemencoding())

        def give_up() -> None:
            if "debug" in self._given:
                self._report.hold()
            confine.confine(user, root)

        unneeded = [self._control.control] if self._control else []
        return split.run(self.desk, self._control, give_up, converse, unneeded)

    def enter(self, who: "Identity") -> Service:
        """Become the user; give what serves him.

        Raises: Temporary.
        """
        privileges.become(who.uid, who.gid, who.groups, who.home)
        entry.set_environment(who)
        posix.environ.update(self.desk.variables)
        maildir = who.maildir or self._named or MAILDIR
        return Service(self._argv, self._given, [], Guest(self.desk.user, maildir))
