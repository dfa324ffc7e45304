# SPDX-License-Identifier: ISC
"""The privileged side of PWD: knows who has logged in, and does what he may.

The dialogue is assumed to be taken over. It can have no more passwords tried than a
client may, and only with this connection's own challenge; once somebody has logged in,
it can have done what he may have done and nothing else. A line is read again here, and
rights are looked up here. The delay before a refusal is made here, too.
"""

import posix
import sys
from time import monotonic, sleep

from qtools.accounts import quality, registry
from qtools.accounts.cli.changer import DatabaseChanger, look_up
from qtools.accounts.cli.interpreter import Interpreter
from qtools.accounts.db.outbox import run_hook
from qtools.accounts.interface import Identity
from qtools.accounts.scram import Exchange
from qtools.accounts.verifier import Verifier
from qtools.errors import (
    EXIT_DONE,
    EXIT_EXPIRED,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    Failure,
    Refused,
    Temporary,
)
from qtools.protocol import codes, scram
from qtools.protocol.framing import Malformed
from qtools.sessions.pwd_errands import (
    CHANGE,
    EXECUTE,
    LINE,
    LOGIN,
    SCRAM_FINAL,
    SCRAM_FIRST,
)
from qtools.system import pwdlog, ucspi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtools.accounts.cli.member import Member
    from qtools.accounts.interface import Source
    from qtools.accounts.registry import Opener
    from qtools.system.pwdlog import PwdLog

    Answer = tuple[int, bytes]

PLAINTEXT = (b"User", b"Plain", b"Login")
DIGESTS = (b"Apop", b"Cram-Md5")
FAIL_SECONDS = 3
FOREIGN = codes.reply(codes.NOT_ALLOWED, b"your account is not in the account database")
NOT_HERE = b"this account has its password elsewhere"


class Terms:
    """What a connection is served by.

    sources: of accounts that may log in. database: the one of them whose accounts may
    do more than that; path: its file. stamp: this connection's challenge. attempts:
    logins that may be refused. fail_seconds: a refusal is not answered before.
    least_characters: of a password that somebody chooses for himself, None for any.
    """

    def __init__(  # noqa: PLR0913  # terms are what their fields say, all by name
        self,
        *,
        sources: "Sequence[Opener]",
        database: "Opener",
        path: bytes,
        stamp: bytes,
        attempts: int = 3,
        fail_seconds: float = FAIL_SECONDS,
        least_characters: int | None = None,
    ) -> None:
        self.sources = sources
        self.database = database
        self.path = path
        self.stamp = stamp
        self.attempts = attempts
        self.fail_seconds = fail_seconds
        self.least_characters = least_characters


class PwdDesk:
    """Does the errands of one Pwd.

    member: the account in the database that has logged in, None for nobody's. now,
    wait: a clock in seconds, and what waits by it.
    """

    def __init__(
        self,
        terms: Terms,
        log: "PwdLog",
        now: "Callable[[], float]" = monotonic,
        wait: "Callable[[float], None]" = sleep,
    ) -> None:
        self.member: Member | None = None
        self._now = now
        self._wait = wait
        self._terms = terms
        self._log = log
        self._attempts_left = terms.attempts
        self._has_login = False
        self._secret = b""  # of the login, where it was shown
        self._exchange: Exchange | None = None
        self._before: Member | None = None  # of the exchange
        self._interpreter: Interpreter | None = None
        self._has_changed = False
        self._has_guessed = False  # a password by a command, and wrongly
        self._errands: dict[int, tuple[int, Callable[..., Answer]]] = {
            LOGIN: (3, self._log_in),
            SCRAM_FIRST: (2, self._begin),
            SCRAM_FINAL: (1, self._prove),
            EXECUTE: (1, self._execute),
            CHANGE: (1, self._change),
        }

    def do(self, kind: int, fields: tuple[bytes, ...]) -> "Answer":
        """Do an errand; a refusal comes when it is due and no earlier."""
        count, errand = self._errands.get(kind, (-1, None))
        if errand is None or len(fields) != count:
            return EXIT_TEMPORARY, b""
        due = self._now() + self._terms.fail_seconds
        self._has_guessed = False
        code, text = errand(*fields)
        is_late = code == EXIT_REFUSED or self._has_guessed
        if is_late and (left := due - self._now()) > 0:
            self._wait(left)
        return code, text

    def settle(self) -> None:
        """Tell the hook what has changed; nobody waits for that."""
        if not self._has_changed:
            return
        self._has_changed = False
        trouble = run_hook(self._terms.path)
        if trouble:
            self._log.write(pwdlog.PROBLEMS, trouble)

    def note(self, event: bytes, mechanism: bytes, user: bytes, _code: int) -> None:
        """Log a line of the protocol, which the dialogue has masked."""
        if event == LINE.encode():
            self._log.write(pwdlog.LOW_LEVEL, f"{_text(mechanism)}: {_text(user)}")

    def end(self) -> None:
        """Let go of the database, once the hook knows what has changed."""
        self.settle()
        if self._interpreter is not None:
            self._interpreter.close()

    def _log_in(self, method: bytes, user: bytes, secret: bytes) -> "Answer":
        is_known = method in (*PLAINTEXT, *DIGESTS)
        if not self._may_try() or not is_known or b"\0" in user + secret:
            return EXIT_REFUSED, b""
        challenge = self._terms.stamp if method in DIGESTS else b""

        def check() -> Identity:
            return self._check(user, secret, challenge)

        try:
            before = look_up(self._terms.path, user)
            code, who = Verifier(check, sys.argv, is_verbose=False).wait()
            if who is None:
                self._refused(user, method, code)
                return code, b""
            member = self._same(user, before) if who.name else None
        except Failure as why:
            return self._failed(why), b""
        if method in PLAINTEXT:
            self._secret = secret
        return self._accept(member, user, method)

    def _same(self, user: bytes, before: "Member | None") -> "Member":
        """Give the account, that has to be the one whose password was checked.

        Raises: Temporary when it may be another by now; Hard.
        """
        member = look_up(self._terms.path, user)
        if member is None or not member.is_as(before):
            raise Temporary("the account has changed while it logged in")
        return member

    def _check(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """In the verifier: give a name, empty when it isn't the database's account.

        Raises: Refused, Temporary, Hard.
        """
        if not user or not secret:
            raise Refused("empty user or password")
        sources = [_Noted(open_source()) for open_source in self._terms.sources]
        who = registry.verify(sources, user, secret, challenge)
        if who.ending is not None:
            who.ending()  # nobody's session begins
        (accepting,) = (each for each in sources if each.has_accepted)
        place = sources.index(accepting)
        is_ours = self._terms.sources[place] is self._terms.database
        return Identity(user if is_ours else b"")

    def _begin(self, method: bytes, message: bytes) -> "Answer":
        """Take a client's first message of SCRAM; see accounts/scram.

        Only the database can be asked, so it has to be the one that is asked first.
        """
        if not self._may_try() or self._terms.sources[0] is not self._terms.database:
            return EXIT_REFUSED, b""
        is_bound = method == b"Scram-Sha-256-Plus"
        binding = ucspi.end_point(posix.environ) if is_bound else b""
        if is_bound and not binding:
            return EXIT_REFUSED, b""
        try:
            self._exchange = Exchange([self._terms.database()], binding)
            self._before = look_up(self._terms.path, scram.read_first(message).user)
            return EXIT_DONE, self._exchange.first(message)
        except Malformed:
            return EXIT_REFUSED, b""
        except Failure as why:
            return self._failed(why), b""

    def _prove(self, message: bytes) -> "Answer":
        """Take a client's final message of SCRAM, which is all that it has to do."""
        exchange, self._exchange = self._exchange, None
        if exchange is None or self._has_login:
            return EXIT_REFUSED, b""
        user = exchange.user
        try:
            answer = exchange.final(message)
            member = self._same(user, self._before)
        except Failure as why:
            self._refused(user, b"Scram-Sha-256", why.code)
            return self._failed(why), b""
        code, _ = self._accept(member, user, b"Scram-Sha-256")
        return code, answer

    def _may_try(self) -> bool:
        self._attempts_left -= 1
        return self._attempts_left >= 0 and not self._has_login

    def _accept(self, member: "Member | None", given: bytes, method: bytes) -> "Answer":
        self._has_login = True
        self.member = member
        text = f"{_text(given)} has logged in by {_text(method)}"
        self._log.write(pwdlog.LOW_LEVEL, text)
        return EXIT_DONE, b""

    def _refused(self, user: bytes, method: bytes, code: int) -> None:
        why = {EXIT_REFUSED: "refused", EXIT_EXPIRED: "password expired"}
        text = f"login {why.get(code, 'failed')}: {_text(user)} by {_text(method)}"
        self._log.write(pwdlog.PROBLEMS, text)

    def _failed(self, why: Failure) -> int:
        """Log what is not the client's fault; give the exit code."""
        if not isinstance(why, Refused):
            self._log.write(pwdlog.FAILURES, str(why))
        return why.code

    def _execute(self, line: bytes) -> "Answer":
        if not self._has_login:
            return EXIT_TEMPORARY, b""
        if self.member is None:
            return EXIT_DONE, FOREIGN
        try:
            if self._interpreter is None:
                path, log = self._terms.path, self._log.write
                self._interpreter = Interpreter(path, self.member, log)
            self._interpreter.member = self.member
            answer = self._interpreter.run(line)
        except Failure as why:
            return self._failed(why), b""
        self.member = self._interpreter.member
        self._has_changed |= self._interpreter.has_changed
        self._interpreter.has_changed = False
        self._has_guessed = self._interpreter.has_guessed
        return EXIT_DONE, answer

    def _change(self, new: bytes) -> "Answer":
        """Change the password of whoever has logged in."""
        if self.member is None:
            return EXIT_REFUSED, NOT_HERE if self._has_login else b""
        terms, user = self._terms, self.member.user
        changer = DatabaseChanger(terms.database, terms.path, self.member)
        try:
            if terms.least_characters is not None:
                quality.check(user, self._secret, new, terms.least_characters)
            changer.change(new)
        except Refused as why:
            text = f"{_text(user)}: password not changed: {why}"
            self._log.write(pwdlog.PROBLEMS, text)
            return EXIT_REFUSED, str(why).encode("ascii", "replace")
        except Failure as why:
            return self._failed(why), b""
        self.member = changer.member
        self._has_changed = True
        self._secret = b""
        self._log.write(pwdlog.MAJOR, f"{_text(user)}: password changed")
        return EXIT_DONE, b""


class _Noted:
    """A source that remembers whether it was the one to accept."""

    def __init__(self, source: "Source") -> None:
        self._source = source
        self.has_accepted = False

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """Verify; see the interface."""
        who = self._source.verify(user, secret, challenge)
        self.has_accepted = True
        return who

    def decoy(self) -> bytes:
        """Give a decoy; see the interface."""
        return self._source.decoy()


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
