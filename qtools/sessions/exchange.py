# SPDX-License-Identifier: ISC
"""One AUTH command of a login: the lines between it and its last reply.

Mechanisms differ in who has a say: PLAIN is one answer and a verdict; of SCRAM's
messages all but the first go to the verifier and come from it; a refused token is
explained in a challenge before it is refused.
See: RFC 5034 section 4, RFC 5802 section 5, RFC 7628 section 3.2.3.
"""

from qtools.errors import EXIT_EXPIRED, EXIT_REFUSED
from qtools.protocol import framing, replies, sasl
from qtools.protocol.framing import Malformed
from qtools.sessions.actions import Respond, Send, Withdraw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.sessions.actions import Action
    from qtools.sessions.login import Login

    Actions = list[Action]

CANCEL = b"*"

# For an answer to a verifier, which is a process or two more that wait, as root: what
# computes one answers at once.
ANSWER_SECONDS = 120.0


class Exchange:
    """What an AUTH command is about and who takes the client's next line."""

    def __init__(self, login: "Login", mechanism: sasl.Mechanism, stamp: bytes) -> None:
        self._login = login
        self._mechanism = mechanism
        self._answers = mechanism.exchange(stamp)
        self._refusal = replies.AUTH, b""
        self.take: Callable[[bytes], Actions] = self._answer

    def begin(self, initial: bytes | None) -> "Actions":
        """Give the first challenge, or what an initial response in base64 leads to."""
        challenge = next(self._answers)
        if initial is None:
            return [Send(framing.challenge_line(challenge))]
        return self._proceed(framing.decode_initial, initial)

    def challenged(self, data: bytes) -> "Actions":
        """Show the client what the verifier says; the next line is for the verifier."""
        self.take = self._relay
        return [Send(framing.challenge_line(data))]

    def is_explained(self, code: int) -> bool:
        """Say whether this verdict is to be explained first; one is so only once."""
        is_wrong = code in (EXIT_REFUSED, EXIT_EXPIRED)
        return is_wrong and bool(self._mechanism.refusal)

    def explain(self, label: bytes, text: bytes) -> "Actions":
        """Explain a refusal; its reply is for the line that answers to this."""
        self._refusal = label, text
        self.take = self._acknowledge
        return [Send(framing.challenge_line(self._mechanism.refusal))]

    def _answer(self, line: bytes) -> "Actions":
        """Take an answer to the mechanism's own challenge."""
        if line == CANCEL:
            self._login.end_exchange()
            return self._login.err(b"authentication cancelled")
        return self._proceed(framing.decode, line)

    def _proceed(self, decode: "Callable[[bytes], bytes]", line: bytes) -> "Actions":
        try:
            return [Send(framing.challenge_line(self._answers.send(decode(line))))]
        except Malformed:
            self._login.end_exchange()
            return self._login.err(b"syntax error")
        except StopIteration as done:
            user, secret, _ = done.value
            return self._ask(user, secret)

    def _ask(self, user: bytes, secret: bytes) -> "Actions":
        """Ask for a verdict, unless the client has been told of less than we offer."""
        login, mechanism = self._login, self._mechanism
        if mechanism.is_dialogue and sasl.is_deceived(secret):
            for name in login.policy.usable_mechanisms():
                if sasl.MECHANISMS[name].is_bound:
                    return login.deny(user, mechanism.word)
        return login.ask(user, secret, mechanism.word, mechanism.octets)

    def _relay(self, line: bytes) -> "Actions":
        """Take an answer for the verifier; what can't be one ends the matter."""
        try:
            data = framing.decode(line) if line != CANCEL else b""
        except Malformed:
            return [Withdraw(), *self._login.withdrawn(b"syntax error")]
        if line == CANCEL:
            return [Withdraw(), *self._login.withdrawn(b"authentication cancelled")]
        if len(data) > framing.MESSAGE_OCTETS:
            return [Withdraw(), *self._login.withdrawn(b"syntax error")]
        self._login.pause()
        return [Respond(data)]

    def _acknowledge(self, _line: bytes) -> "Actions":
        """Take the empty answer to an explanation, whatever it is."""
        self._login.end_exchange()
        return self._login.reject(*self._refusal)
