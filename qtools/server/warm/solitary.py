# SPDX-License-Identifier: ISC
"""A verifier for sources that need a process for each attempt: PAM, foreign programs.

It forks one for each record and goes on listening, so that a module that waits, as
they do over a wrong password, holds up nobody. How many there may be at once the login
worker is told, and no more are made whatever it sends. Each gets nothing of the others:
no connection, no lifeline. Challenges and SCRAM, which need no such process, are dealt
with here. Those that stay until a session has ended outlive this process, too.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import gc
import posix
from select import EPOLLIN, epoll
from time import monotonic

from qtools.accounts import answer, registry
from qtools.errors import EXIT_DONE, EXIT_TEMPORARY
from qtools.server import channel as channels
from qtools.server.channel import close_all
from qtools.server.warm import momentary, packets
from qtools.server.warm.keeper import Keeper
from qtools.server.warm.verifier import Verifier
from qtools.system.guard import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from qtools.accounts.interface import Identity, Source
    from qtools.accounts.registry import Opener
    from qtools.server.channel import Channel
    from qtools.server.warm.asking import Question
    from qtools.server.warm.chain import WarmChain

GRACE_SECONDS = 2  # for an attempt to end by its own alarm


class Attempt:
    """A process, from the verifier's side.

    channel: where it answers. client: a descriptor of the connection. deadline: for the
    answer, by the monotonic clock.
    """

    __slots__ = ("channel", "client", "deadline", "pid", "question")

    def __init__(
        self, pid: int, channel: "Channel", question: "Question", deadline: float
    ) -> None:
        self.pid = pid
        self.channel = channel
        self.question = question
        self.client = -1
        self.deadline = deadline


class SolitaryVerifier(Verifier):
    """What it keeps besides: attempts under way, and those who stay."""

    def __init__(
        self, chain: "WarmChain", argv: list[str], seconds: int, most: int
    ) -> None:
        """Load libraries; nothing is opened yet.

        seconds: the longest check. most: attempts at once.
        Raises: Hard.
        """
        super().__init__(chain, argv, seconds)
        self._most = most
        self._openers: list[Opener] = registry.load(self._words)
        self._loop = epoll()
        self._attempts: dict[int, Attempt] = {}  # by channel, the oldest first
        self._processes: dict[int, int] = {}  # pid by handle, those who stay included
        self.kept: list[int] = []  # descriptors that attempts are to keep, too

    def holders(self) -> "Sequence[Source]":
        """Give sources that are not open while a process is forked; see Verifier."""
        words = [word for word in self._words if not registry.is_solitary([word])]
        return momentary.of(registry.load(words))

    def run(self) -> int:
        """Serve a login worker until it is gone."""
        gc.collect()
        gc.freeze()  # what isn't looked at isn't copied
        worker = self._worker
        self._loop.register(worker.descriptor, EPOLLIN)
        try:
            worker.send(packets.head(packets.ROOM, 0, self._most), waits=True)
            while True:
                for descriptor, _ in self._loop.poll(self._patience()):
                    code = self._attend(descriptor)
                    if code is not None:
                        return code
                self._expire()
        except BrokenPipeError:
            return EXIT_DONE

    def _attend(self, descriptor: int) -> int | None:
        """Take what has come; give an exit code when this is the end.

        Raises: BrokenPipeError.
        """
        if descriptor == self._worker.descriptor:
            received = self._worker.receive()
            return self._hear(*received) if received else None
        attempt = self._attempts.get(descriptor)
        if attempt is None:
            self._bury(descriptor)
        else:
            self._hear_attempt(attempt)
        return None

    def _patience(self) -> float | None:
        """Give how long to wait for events, in seconds; None for any time at all."""
        for oldest in self._attempts.values():
            return max(oldest.deadline - monotonic(), 0.0)
        return None

    def consider(self, question: "Question", descriptors: list[int]) -> None:
        """Have a record checked in a process of its own; see Verifier."""
        code, _ = self._judge(lambda: self.check_stamp(question))
        if not code and len(self._attempts) >= self._most:
            code = EXIT_TEMPORARY
        if not code:
            code = self._begin_attempt(question, descriptors)
        if code:
            self._tell(question.identifier, code)

    def _begin_attempt(self, question: "Question", descriptors: list[int]) -> int:
        """Fork, and take the client's descriptor; give 0, or what to refuse with."""
        try:
            here, there = channels.pair()
        except OSError as why:
            return self._lack(why)
        try:
            pid, handle = self._forked(there, question)
        except OSError as why:
            here.close()
            return self._lack(why)
        finally:
            there.close()
        deadline = monotonic() + self._seconds + GRACE_SECONDS
        attempt = Attempt(pid, here, question, deadline)
        attempt.client = descriptors.pop()
        self._attempts[here.descriptor] = attempt
        self._processes[handle] = pid
        for descriptor in (here.descriptor, handle):
            self._loop.register(descriptor, EPOLLIN)
        return EXIT_DONE

    def _lack(self, why: OSError) -> int:
        """Complain of what the system has not got; give the code to refuse with."""
        complain(self._argv, f"unable to start a process: {why.strerror}")
        return EXIT_TEMPORARY

    def _forked(self, way: "Channel", question: "Question") -> tuple[int, int]:
        """Fork an attempt; give its pid and a handle that is readable when it ends.

        Raises: OSError.
        """
        pid = posix.fork()
        if not pid:
            self._attempt(way, question)
        try:
            return pid, posix.pidfd_open(pid)
        except OSError:
            posix.kill(pid, _signal.SIGKILL)
            posix.waitpid(pid, 0)
            raise

    def _attempt(self, way: "Channel", question: "Question") -> "NoReturn":
        """In the child: be the attempt."""

        def check() -> "Identity":
            sources = [open_source() for open_source in self._openers]
            return self.identified(question, sources)

        keeper = Keeper(way, self.kept, self._seconds, self._argv)
        told, method = question.environment, question.method
        keeper.run(told, method, lambda: self._judge(check))

    def _hear_attempt(self, attempt: Attempt) -> None:
        """Take an attempt's answer, which may be that there is none.

        Raises: BrokenPipeError.
        """
        received = attempt.channel.receive()
        if received is None:
            return  # told of another one that had this number
        packet, lifelines = received
        held = [attempt.client, *lifelines]
        self._forget(attempt)
        try:
            code, who = answer.unpack(packet)
        except ValueError:
            complain(self._argv, "a check has ended without an answer")
            code, who = EXIT_TEMPORARY, None
        try:
            self.settle(attempt.question, code, who, held)
        finally:
            close_all(held)

    def _forget(self, attempt: Attempt) -> None:
        """Expect no answer any more."""
        del self._attempts[attempt.channel.descriptor]
        self._loop.unregister(attempt.channel.descriptor)
        attempt.channel.close()

    def _bury(self, handle: int) -> None:
        """Take leave of a process that has ended."""
        pid = self._processes.get(handle)
        if pid is None or not posix.waitpid(pid, posix.WNOHANG)[0]:
            return  # told of another one that had this number
        del self._processes[handle]
        self._loop.unregister(handle)
        posix.close(handle)

    def _expire(self) -> None:
        """End attempts that take too long; their own alarm may have been taken away.

        Raises: BrokenPipeError.
        """
        now = monotonic()
        for attempt in list(self._attempts.values()):
            if attempt.deadline > now:
                return
            posix.kill(attempt.pid, _signal.SIGKILL)
            self._forget(attempt)
            posix.close(attempt.client)
            complain(self._argv, f"a check took longer than {self._seconds} seconds")
            self._tell(attempt.question.identifier, EXIT_TEMPORARY)
