# SPDX-License-Identifier: ISC
"""The dialogue of PWD: log in, change one's password, give commands to the server.

CommuniGate's extension of poppassd's protocol. Before login the words are POP3's; what
comes after it are commands of the Command Line Interface. Nothing is decided here: a
login, a new password and a command are errands, each answered by an exit code and a
text, and the privileged side reads a command again before it carries it out.
See: poppassd(8), RFC 5034 (AUTH, whose framing is taken over with 300 for +).
"""

from qtools.errors import (
    EXIT_DONE,
    EXIT_EXPIRED,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
)
from qtools.protocol import codes, commands, sasl, verbs
from qtools.protocol.codes import BUSY, DONE, REFUSED, WRONG
from qtools.protocol.lines import BAD_LINE, SASL_OCTETS, Lines
from qtools.protocol.values import Malformed, render
from qtools.sessions.actions import Ask, Close, Log, Send, StartTls
from qtools.sessions.pwd_errands import CHANGE, EXECUTE, LINE, LOGIN
from qtools.sessions.pwd_verbs import VERBS
from qtools.sessions.responses import Responses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.protocol.values import Value
    from qtools.sessions.actions import Action
    from qtools.sessions.policy import Policy

    Actions = list[Action]

COMMAND_OCTETS = 65536  # of a line after login; settings are read from one line


class Pwd:
    """The dialogue.

    stamp: the APOP and CRAM-MD5 challenge with its angle brackets, shown where APOP is
    open. name: the server's, for the greeting. is_traced: give a Log for every line.
    """

    def __init__(
        self, stamp: bytes, policy: "Policy", name: bytes, *, is_traced: bool = False
    ) -> None:
        self.policy = policy
        self.stamp = stamp
        self.user = b""
        self._name = name
        self._is_traced = is_traced
        self._lines = Lines()
        self._responses: Responses | None = None  # an AUTH that is under way
        self._then: Callable[[int, bytes], Actions] | None = None  # takes the answer
        self._is_paused = False
        self._is_open = True
        self._is_inline = False
        self._has_login = False
        self._failures = 0

    def greet(self) -> "Actions":
        """Open the dialogue; a client takes the first < to the last > for the stamp."""
        text = b"%s PWD Server ready" % self._name.translate(None, b"<>")
        banner = b" " + self.stamp if self.policy.needs_stamp() else b""
        return self.say(DONE, text + banner)

    def feed(self, data: bytes) -> "Actions":
        """Take octets from the client."""
        self._lines.feed(data)
        return self._run()

    def answered(self, code: int, text: bytes) -> "Actions":
        """Take the answer to the errand asked for."""
        then, self._then = self._then, None
        self._is_paused = False
        return (then(code, text) if then else []) + self._run()

    def tls_started(self) -> "Actions":
        """Start afresh inside TLS: nothing said before it counts."""
        self._lines.forget()
        self.policy = self.policy.inside_tls()
        self.user = b""
        self._is_paused = False
        return []

    def tls_failed(self) -> "Actions":
        """End: the client waits for a handshake, so no reply could reach it."""
        return self._close(EXIT_TEMPORARY, "tls-failed")

    def lost(self, why: str) -> "Actions":
        """End because the client is gone or silent."""
        if why == "eof":
            return self._close(EXIT_DONE, why)
        said = self.say(BUSY, b"too long silent, closing the connection")
        return said + self._close(EXIT_TEMPORARY, why)

    def _run(self) -> "Actions":
        actions: Actions = []
        while self._is_open and not self._is_paused:
            line = self._lines.next(self._limit())
            if line is None:
                break
            actions += self._traced("C", self._masked(line)) + self._step(line)
        return actions

    def _limit(self) -> int:
        if self._responses is not None:
            return SASL_OCTETS
        return COMMAND_OCTETS if self._has_login else self.policy.line_octets

    def _step(self, line: bytes) -> "Actions":
        if self._responses is not None:
            return self._responses.take(line)
        if line == BAD_LINE:
            return self.say(WRONG, b"a line too long, or with a NUL in it")
        return self._execute(line) if self._has_login else self._log_in(line)

    def _log_in(self, line: bytes) -> "Actions":
        keyword, rest = verbs.split(line)
        verb = VERBS.get(keyword)
        if verb is None:
            return self.say(WRONG, b"log in first")
        given = verbs.arguments(verb, rest)
        if given is None:
            return self.say(WRONG, b"wrong arguments")
        if verb.offered is not None and not verb.offered(self.policy):
            return self._unavailable(keyword)
        actions: Actions = verb.handler(self, *given)
        return actions

    def _unavailable(self, keyword: bytes) -> "Actions":
        policy = self.policy
        is_on = policy.apop if keyword == b"APOP" else policy.passwords
        is_waiting = (
            keyword != b"STLS" and is_on and policy.lacks_tls(is_plaintext=True)
        )
        text = b"start TLS first" if is_waiting else keyword + b" is not available"
        return self.say(WRONG, text)

    def _execute(self, line: bytes) -> "Actions":
        """Carry out a line after login, or have it carried out."""
        try:
            call = commands.read(line)
        except commands.Unknown:
            keyword = verbs.split(line)[0]
            known = keyword in VERBS
            return self.say(WRONG, b"not now" if known else b"unknown command")
        except Malformed as why:
            return self.say(WRONG, str(why).encode("ascii", "replace"))
        own = OWN_COMMANDS.get(call.command.name)
        if own is not None:
            return own(self, call.text("password"))
        return self.ask(Ask(EXECUTE, line), self._executed)

    def _executed(self, code: int, text: bytes) -> "Actions":
        if code != EXIT_DONE or not text:
            return self._trouble()
        shown = text.partition(b" ")[0]
        answer = Send(codes.lines(text, is_inline=self._is_inline))
        return [*self._traced("S", shown), answer]

    def ask(self, errand: Ask, then: "Callable[[int, bytes], Actions]") -> "Actions":
        """Have an errand done; the answer is for then."""
        self._then = then
        self._is_paused = True
        return [errand]

    def ask_login(self, mechanism: str, user: bytes, secret: bytes) -> "Actions":
        """Have a whole credential verified."""
        self.user = b""
        return self.ask(Ask(LOGIN, mechanism.encode(), user, secret), self.judge)

    def judge(self, code: int, _text: bytes = b"") -> "Actions":
        """Turn a verdict into a reply; the delay before a refusal was the desk's."""
        self._responses = None
        if code == EXIT_DONE:
            self._has_login = True
            return self.say(DONE, b"login OK")
        if code not in (EXIT_REFUSED, EXIT_EXPIRED):
            return self._trouble()
        self._failures += 1
        is_old = code == EXIT_EXPIRED
        words = b"password expired" if is_old else b"incorrect password or account name"
        actions = self.say(REFUSED, words)
        if self._failures >= self.policy.attempts:
            actions += self._close(EXIT_REFUSED, "refused")
        return actions

    def end_responses(self, text: bytes) -> "Actions":
        """End an AUTH that came to nothing."""
        self._responses = None
        return self.say(WRONG, text)

    def begin(self, name: bytes, initial: bytes | None) -> "Actions":
        """Begin a SASL exchange, with the initial response still in base64."""
        mechanism = sasl.MECHANISMS.get(name.upper())
        if mechanism is None or name.upper() not in self.policy.mechanisms:
            return self.say(WRONG, b"unknown mechanism")
        if self.policy.lacks_tls(is_plaintext=mechanism.is_plaintext):
            return self.say(WRONG, b"start TLS first")
        if name.upper() not in self.policy.usable_mechanisms():
            return self.say(WRONG, b"unknown mechanism")
        if initial is not None and not mechanism.is_client_first:
            return self.say(WRONG, b"wrong arguments")
        self._responses = Responses(self, mechanism)
        return self._responses.begin(initial)

    def start_tls(self) -> "Actions":
        """Answer STLS; whatever came with it in the clear is dropped unread."""
        self._lines.forget()
        self._is_paused = True
        return [*self.say(DONE, b"begin TLS negotiation"), StartTls()]

    def use_inline(self) -> "Actions":
        """Give data on the line of their code from now on."""
        self._is_inline = True
        return self.say(DONE, b"OK")

    def change(self, secret: bytes) -> "Actions":
        """Have the password of whoever has logged in changed."""
        return self.ask(Ask(CHANGE, secret), self._changed)

    def _changed(self, code: int, text: bytes) -> "Actions":
        if code == EXIT_DONE:
            return self.say(DONE, b"password changed")
        if code == EXIT_REFUSED:
            return self.say(REFUSED, text or b"password not changed")
        return self.say(REFUSED, b"password not changed, try again later")

    def quit(self) -> "Actions":
        """End in order."""
        said = self.say(DONE, b"PWD connection closed")
        return said + self._close(EXIT_DONE, "quit")

    def say(self, code: bytes, text: bytes) -> "Actions":
        """Give one reply."""
        line = codes.reply(code, text)
        return [*self._traced("S", line), Send(line + b"\r\n")]

    def show(self, value: "Value") -> "Actions":
        """Give a datum."""
        answer = codes.DATA + b" " + render(value)
        return [Send(codes.lines(answer, is_inline=self._is_inline))]

    def _trouble(self) -> "Actions":
        return self.say(BUSY, b"temporary failure, try again later")

    def _traced(self, side: str, line: bytes) -> "Actions":
        return [Log(LINE, side, line)] if self._is_traced else []

    def _masked(self, line: bytes) -> bytes:
        """Give a line as the log may show it."""
        if self._responses is not None or line == BAD_LINE:
            return commands.HIDDEN
        if self._has_login:
            return commands.masked(line)
        keyword, rest = verbs.split(line)
        verb = VERBS.get(keyword)
        if verb is None:
            return commands.HIDDEN
        return line if not verb.is_secret or not rest else keyword + b" <hidden>"

    def _close(self, code: int, why: str) -> "Actions":
        self._is_open = False
        return [Close(code, why)]


# After login, what is not for the interpreter.
OWN_COMMANDS: "dict[str, Callable[[Pwd, bytes], Actions]]" = {
    "NOOP": lambda session, _: session.say(DONE, b"OK"),
    "INLINE": lambda session, _: session.use_inline(),
    "QUIT": lambda session, _: session.quit(),
    "NEWPASS": lambda session, secret: session.change(secret),
}
