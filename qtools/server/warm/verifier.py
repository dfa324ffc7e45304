# SPDX-License-Identifier: ISC
"""A verifier: the only process that sees hashes, and that sees no network.

It takes one record at a time from the login worker, checks it and answers with an exit
code. When the record is good, identity and connection go to the nursery, never back to
the worker: whoever has taken that over can ask, as any client can, and nothing else.
After so many checks it has itself replaced, because every check leaves traces of a
secret in its memory. A source that hangs is the end of it: the kernel's alarm kills it,
and the master starts another.

Where the client has to answer the verifier, the connection comes with each of his
answers, and is closed here until the next one: nothing is held but numbers.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix

from qtools.accounts import answer, entry
from qtools.accounts.registry import words
from qtools.accounts.standing import Standing
from qtools.chain.front import make_stamp
from qtools.errors import (
    EXIT_EXPIRED,
    EXIT_MISUSE,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    Failure,
    Refused,
    Temporary,
)
from qtools.protocol.record import unpack
from qtools.server.channel import close_all
from qtools.server.warm import asking, packets
from qtools.server.warm.asking import Question
from qtools.server.warm.dialogues import Dialogues
from qtools.server.warm.packets import ASK, LAUNCH, RESPOND, WANT, WITHDRAW
from qtools.server.warm.stamps import Stamps
from qtools.system.guard import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from qtools.accounts.interface import Identity, Source
    from qtools.server.channel import Channel
    from qtools.server.warm.chain import WarmChain

    T = TypeVar("T")

MOST_CHECKS = 10_000  # then a fresh process takes its place
MOST_WANTED = 256  # stamps asked for at once: a packet's worth
REFUSED = frozenset((EXIT_REFUSED, EXIT_EXPIRED, EXIT_MISUSE))


class Verifier:
    """What one verifier keeps between records."""

    def __init__(self, chain: "WarmChain", argv: list[str], seconds: int) -> None:
        """Load libraries; nothing is opened yet.

        seconds: the longest check.
        Raises: Hard.
        """
        checker = chain.checker
        self._argv = argv
        self._seconds = seconds
        self._is_verbose = "verbose" in checker
        self._allow_empty = "allow-empty" in checker
        self._allow_root = "allow-root" in checker
        self._words = words(checker.every("accounts"), posix.environ)
        self._sources = Standing(self._words)
        entry.set_context(checker)
        attempts = chain.front.number("attempts", 3, least=1)
        self._stamps = Stamps(lambda: make_stamp(chain.hostname), attempts)
        self._dialogues = Dialogues()
        self._checks = 0
        self._worker: Channel
        self._nursery: Channel
        self._master: Channel

    def attach(self, worker: "Channel", nursery: "Channel", master: "Channel") -> None:
        """Take the ways to those whom it speaks with."""
        self._worker, self._nursery, self._master = worker, nursery, master

    def run(self) -> int:
        """Serve a login worker until it is gone, or a check takes too long."""
        _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGALRM])
        while True:
            received = self._worker.receive(waits=True)
            code = self._hear(*received) if received else 0
            if code is not None:
                return code

    def _hear(self, packet: bytes, descriptors: list[int]) -> int | None:
        """Serve what the login worker sends; give an exit code when this is the end."""
        if not packet:
            return 0
        try:
            self._serve(packet, descriptors)
        except ValueError as why:
            complain(self._argv, f"the login worker sends what it must not: {why}")
            return EXIT_MISUSE
        except BrokenPipeError:
            return 0
        finally:
            close_all(descriptors)
        return None

    def _serve(self, packet: bytes, descriptors: list[int]) -> None:
        kind, identifier, detail = packets.read_head(packet)
        if kind == WANT:
            packets.read_fields(packet, 0)
            stamps = self._stamps.give(min(detail, MOST_WANTED))
            fields = packets.fields(b" ".join(stamps))
            self._worker.send(packets.head(packets.STAMPS) + fields, waits=True)
        elif kind == WITHDRAW:
            packets.read_fields(packet, 0)
            self._dialogues.forget(identifier)
        elif kind not in (ASK, RESPOND) or len(descriptors) != 1:
            raise ValueError("an unknown request")
        elif kind == RESPOND:
            self._go_on(identifier, asking.unpack_answer(packet), descriptors)
        else:
            question = Question(packet)
            if question.method in asking.DIALOGUES:
                self._begin(question)
            else:
                self.consider(question, descriptors)

    def consider(self, question: Question, descriptors: list[int]) -> None:
        """Check a record, and answer."""
        code, who = self._judge(lambda: self._check(question))
        self.settle(question, code, who, descriptors)

    def _begin(self, question: Question) -> None:
        """Begin a dialogue."""
        code, challenge = self._judge(
            lambda: self._dialogues.begin(question, self.holders())
        )
        self._say(question.identifier, code, challenge or b"")

    def holders(self) -> "Sequence[Source]":
        """Give the sources that may know who uses SCRAM.

        Raises: Hard, Temporary.
        """
        return self._sources.sources()

    def _go_on(self, identifier: int, data: bytes, descriptors: list[int]) -> None:
        """Take a client's answer."""
        code, found = self._judge(lambda: self._dialogues.go_on(identifier, data))
        if found is None or isinstance(found, bytes):
            self._say(identifier, code, found or b"")
            return
        question, who = found
        code, known = self._judge(lambda: self.vetted(who))
        self.settle(question, code, known, descriptors)

    def _say(self, identifier: int, code: int, challenge: bytes = b"") -> None:
        """Tell the worker of the next challenge, or of a refusal."""
        if code:
            self._tell(identifier, code)
            return
        head = packets.head(packets.CHALLENGE, identifier)
        self._worker.send(head + packets.fields(challenge), waits=True)

    def settle(
        self,
        question: Question,
        code: int,
        who: "Identity | None",
        descriptors: list[int],
    ) -> None:
        """Have a session begun where the code is 0; tell the worker the code.

        descriptors: the client's, and where there is one the session's lifeline.
        Raises: BrokenPipeError.
        """
        if who is not None:
            try:
                identity = answer.pack(0, who)
            except ValueError as why:
                complain(self._argv, f"{who.name!r}: {why}")
                self._tell(question.identifier, EXIT_TEMPORARY)
                return
            if question.needs_stamp:
                self._stamps.spend(unpack(question.record)[2])
            fields = packets.fields(identity, question.environment, question.tag)
            lifelines = len(descriptors) - 1
            order = packets.head(LAUNCH, question.identifier, lifelines) + fields
            if not self._nursery.send(order, descriptors, waits=True):
                code = EXIT_TEMPORARY
        self._tell(question.identifier, code)

    def _tell(self, identifier: int, code: int) -> None:
        """Answer; after the last check, say that it was that."""
        head = packets.head(packets.ANSWER, identifier, code)
        self._worker.send(head, waits=True)
        self._checks += 1
        if self._checks == MOST_CHECKS:
            for other in (self._master, self._worker):
                other.send(packets.head(packets.TIRED), waits=True)

    def _judge(self, check: "Callable[[], T]") -> "tuple[int, T | None]":
        """Give the exit code, and what the check has found out when that is 0."""
        _signal.alarm(self._seconds)
        try:
            found = check()
        except Failure as why:
            if self._is_verbose or not isinstance(why, Refused):
                complain(self._argv, str(why))
            return (why.code if why.code in REFUSED else EXIT_TEMPORARY), None
        except Exception as why:  # noqa: BLE001  # a bug must read as "try again later"
            complain(self._argv, f"unexpected {type(why).__name__}: {why}")
            return EXIT_TEMPORARY, None
        finally:
            _signal.alarm(0)
        return 0, found

    def _check(self, question: Question) -> "Identity":
        """Say who a record's user is.

        Raises: Failure.
        """
        self.check_stamp(question)
        return self.identified(question, self._sources.sources())

    def check_stamp(self, question: Question) -> None:
        """Make sure that a challenge is one that is out, which is one use of it.

        Raises: Refused.
        """
        if not question.needs_stamp:
            return
        try:
            is_ours = self._stamps.take(unpack(question.record)[2])
        except ValueError:
            is_ours = False
        if not is_ours:
            raise Refused("an answer to a challenge that is not out")

    def identified(self, question: Question, sources: "Sequence[Source]") -> "Identity":
        """Ask sources who a record's user is.

        Raises: Failure.
        """
        method, allow_empty = question.method.encode(), self._allow_empty
        who = entry.check(question.record, sources, method, allow_empty=allow_empty)
        try:
            return self.vetted(who)
        except Exception:
            if who.ending is not None:
                who.ending()  # nobody else hears of what has begun
            raise

    def vetted(self, who: "Identity") -> "Identity":
        """Make sure that somebody may come in.

        Raises: Refused, Temporary.
        """
        if not entry.may_be(who, allow_root=self._allow_root):
            raise Refused("uid 0")
        _find_home(who.home)
        return who


def _find_home(home: bytes) -> None:
    """Make sure that a home is there, if only because nobody is let in without one.

    checkpw enters it before it says that it accepts, and here the session does that
    when all is said. What else can keep a user out of it, only he finds out.
    Raises: Temporary.
    """
    if not home:
        return
    try:
        posix.stat(home)
    except (FileNotFoundError, NotADirectoryError) as why:
        raise Temporary(f"unable to enter {home!r}: {why.strerror}") from why
    except OSError:
        return
