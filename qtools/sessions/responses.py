# SPDX-License-Identifier: ISC
"""One AUTH of a PWD dialogue: the lines between it and its last reply.

As in POP3 but for the reply that carries a challenge, which has the code 300. Of
SCRAM's messages those of the server come from the privileged side.
See: RFC 5034 section 4, RFC 5802 section 5.
"""

from binascii import b2a_base64

from qtools.errors import EXIT_DONE
from qtools.protocol import codes, framing, sasl
from qtools.sessions.actions import Ask, Send
from qtools.sessions.pwd_errands import SCRAM_FINAL, SCRAM_FIRST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.sessions.actions import Action
    from qtools.sessions.pwd import Pwd

    Actions = list[Action]

CANCEL = b"*"


class Responses:
    """What an AUTH command is about, and who takes the client's next line."""

    def __init__(self, session: "Pwd", mechanism: sasl.Mechanism) -> None:
        self._session = session
        self._mechanism = mechanism
        self._answers = mechanism.exchange(session.stamp)
        self._take: Callable[[bytes], Actions] = self._answer

    def begin(self, initial: bytes | None) -> "Actions":
        """Give the first challenge, or what an initial response in base64 leads to."""
        challenge = next(self._answers)
        if initial is None:
            return [_challenge(challenge)]
        return self._decoded(framing.decode_initial, initial, self._answer)

    def take(self, line: bytes) -> "Actions":
        """Take a line of the client."""
        if line == CANCEL:
            return self._session.end_responses(b"authentication cancelled")
        return self._decoded(framing.decode, line, self._take)

    def _decoded(
        self,
        decode: "Callable[[bytes], bytes]",
        line: bytes,
        take: "Callable[[bytes], Actions]",
    ) -> "Actions":
        try:
            return take(decode(line))
        except framing.Malformed:
            return self._session.end_responses(b"not a response of this mechanism")

    def _answer(self, data: bytes) -> "Actions":
        """Take an answer to the mechanism's own challenge."""
        try:
            return [_challenge(self._answers.send(data))]
        except StopIteration as done:
            user, secret, _ = done.value
        word = self._mechanism.word
        if not self._mechanism.is_dialogue:
            return self._session.ask_login(word, user, secret)
        if sasl.is_deceived(secret) and self._is_binding_offered():
            return self._session.end_responses(b"somebody has taken an offer away")
        errand = Ask(SCRAM_FIRST, word.encode(), secret)
        return self._session.ask(errand, self._challenged)

    def _is_binding_offered(self) -> bool:
        names = self._session.policy.usable_mechanisms()
        return any(sasl.MECHANISMS[name].is_bound for name in names)

    def _challenged(self, code: int, text: bytes) -> "Actions":
        """Show the client the server's first message."""
        if code != EXIT_DONE:
            return self._session.judge(code)
        self._take = self._prove
        return [_challenge(text)]

    def _prove(self, data: bytes) -> "Actions":
        """Take the client's last message."""
        return self._session.ask(Ask(SCRAM_FINAL, data), self._proved)

    def _proved(self, code: int, text: bytes) -> "Actions":
        """Show the client that we know its password, too."""
        if code != EXIT_DONE:
            return self._session.judge(code)
        self._take = self._acknowledge
        return [_challenge(text)]

    def _acknowledge(self, data: bytes) -> "Actions":
        """Take the client's consent, which is empty."""
        if data:
            raise framing.Malformed
        return self._session.judge(EXIT_DONE)


def _challenge(data: bytes) -> Send:
    return Send(codes.MORE + b" " + b2a_base64(data, newline=False) + b"\r\n")
