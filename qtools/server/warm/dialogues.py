# SPDX-License-Identifier: ISC
"""Dialogues of a verifier with clients, one step at a time: SCRAM.

Between two steps the verifier does other things, so what it knows of each dialogue is
kept here: how many, how much and how long is bounded, whatever a login worker makes of
it. The
nonce is made here, and is good for one answer: what was heard on one connection is
worth nothing on another.
See: RFC 5802 section 5.
"""

from time import monotonic

from qtools.accounts import scram
from qtools.errors import Misuse, Refused, Temporary
from qtools.protocol.record import unpack
from qtools.sessions.exchange import ANSWER_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtools.accounts.interface import Identity, Source
    from qtools.server.warm.asking import Question

# Beyond these the oldest lapse; of usual octets as many have room.
MOST_OPEN = 4096
MOST_OCTETS = 16 << 20
OPEN_SECONDS = 2 * ANSWER_SECONDS + 60.0  # two answers, and a verifier's own time
BOUND = scram.METHODS[1].decode()


class Dialogue:
    """One of them: what it began with, how far it is, when it began."""

    __slots__ = ("began", "exchange", "is_proved", "question")

    def __init__(
        self, question: "Question", exchange: scram.Exchange, began: float
    ) -> None:
        self.question = question
        self.exchange = exchange
        self.began = began
        self.is_proved = False

    @property
    def octets(self) -> int:
        """What was sent to begin it, and is kept."""
        question = self.question
        return sum(map(len, (question.record, question.environment, question.tag)))


class Dialogues:
    """Those that wait for the client, by the connection's id."""

    def __init__(self, clock: "Callable[[], float]" = monotonic) -> None:
        self._clock = clock
        self._open: dict[int, Dialogue] = {}
        self._octets = 0  # of all of them

    def begin(self, question: "Question", sources: "Sequence[Source]") -> bytes:
        """Begin one; give the challenge.

        Raises: Refused, Temporary, Hard; Misuse for a record that is none.
        """
        self.forget(question.identifier)
        try:
            user, message, _ = unpack(question.record)
        except ValueError as why:
            raise Misuse(f"bad record: {why}") from why
        binding = question.binding if question.method == BOUND else b""
        exchange = scram.Exchange(sources, binding)
        challenge = exchange.first(message)
        if exchange.user != user:
            raise Refused("a record about another user than its message")
        now = self._clock()
        self._keep(Dialogue(question, exchange, now))
        self._tidy(now)
        return challenge

    def go_on(
        self, identifier: int, data: bytes
    ) -> "bytes | tuple[Question, Identity]":
        """Take the client's answer; give what to say next, or in the end who it is.

        Raises: Temporary when there is no such dialogue, or none any more, which says
        nothing about the client; Refused, Expired, Temporary, Hard, and then it is
        over.
        """
        self._tidy(self._clock())
        found = self.forget(identifier)
        if found is None:
            raise Temporary("an answer to no challenge, or too late for it")
        if found.is_proved:
            if data:
                raise Refused("the client has more to say than SCRAM has room for")
            return found.question, found.exchange.identity()
        proof = found.exchange.final(data)
        found.is_proved = True
        self._keep(found)
        return proof

    def _keep(self, one: Dialogue) -> None:
        self._open[one.question.identifier] = one
        self._octets += one.octets

    def forget(self, identifier: int) -> Dialogue | None:
        """Drop one, and give it, if there is one."""
        found = self._open.pop(identifier, None)
        if found is not None:
            self._octets -= found.octets
        return found

    def _tidy(self, now: float) -> None:
        """Drop those that nobody goes on with, about in the order they began in."""
        while self._open:
            oldest = next(iter(self._open.values()))
            is_late = now > oldest.began + OPEN_SECONDS
            is_much = len(self._open) > MOST_OPEN or self._octets > MOST_OCTETS
            if not is_late and not is_much:
                return
            self.forget(oldest.question.identifier)
