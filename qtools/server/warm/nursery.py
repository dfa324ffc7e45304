# SPDX-License-Identifier: ISC
"""The nursery: the process from which session processes are forked.

It is the master's child and root as he is; verifiers tell it whom to serve, it tells
the login worker who has gone, and the master only hears when it ends. It has rehearsed
before it forks, and does little between two forks: each page that is written to in
between is copied for the next session.

    master -> nursery    LIVE      (a login worker: tell it who is here); its generation
                         VERIFIER  (the way to one)
                         DRAIN     end with the last session; a detail: end them now

the first two with a descriptor.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import gc
import sys
from collections import deque
from select import EPOLLIN, epoll
from time import monotonic

from qtools.errors import EXIT_DONE
from qtools.server import channel as channels
from qtools.server.channel import Channel
from qtools.server.warm import packets
from qtools.server.warm.rehearsal import rehearse
from qtools.server.warm.session import Session
from qtools.server.warm.sessions import Sessions
from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from qtools.server.warm.sessions import Limits, Order

TICK_SECONDS = 1.0
MOST_UNSENT = 20_000  # notes to a login worker that does not read, or is to come


class Nursery:
    """The loop."""

    def __init__(self, argv: list[str], master: Channel, limits: "Limits") -> None:
        """Load and rehearse.

        argv: pop3d's. limits: of sessions.
        """
        self._loop = epoll()
        tool = guard.load("pop3d")
        plain = tool.read(["pop3d", "Maildir"])
        rehearse(plain.serve, argv, max(master.descriptor, self._loop.fileno()))
        self._session = Session(tool.read(argv).run, argv)
        self._master = master
        self._is_draining = False
        self._worker: Channel | None = None
        self._generation = 0  # that worker's
        self._verifiers: dict[int, Channel] = {}
        self._unsent: deque[bytes] = deque(maxlen=MOST_UNSENT)
        self._watch(master.descriptor, True)
        self._sessions = Sessions(self._begin, self._watch, self._tell, limits)
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
        gc.collect()
        gc.freeze()

    def run(self) -> int:
        """Serve until there is nobody who could send anybody, and nobody left."""
        tick_at = 0.0
        sessions = self._sessions
        while not self._is_draining or self._verifiers or sessions.busy:
            for descriptor, _ in self._loop.poll(TICK_SECONDS):
                verifier = self._verifiers.get(descriptor)
                if verifier is not None:
                    self._hear_verifier(verifier)
                elif descriptor == self._master.descriptor:
                    self._hear_master()
                elif sessions.holds(descriptor):
                    sessions.hear(descriptor)
            if monotonic() >= tick_at:
                tick_at = monotonic() + TICK_SECONDS
                sessions.tidy()
                self._flush()
        return EXIT_DONE

    def _watch(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on or off
        if on:
            self._loop.register(descriptor, EPOLLIN)
        else:
            self._loop.unregister(descriptor)

    def _begin(self, way: int, client: int, order: "Order") -> "NoReturn":
        """In a child: be a session process."""
        self._session.run(way, client, order)

    def _hear_verifier(self, verifier: Channel) -> None:
        received = verifier.receive()
        if received is None:
            return
        packet, descriptors = received
        try:
            kind, identifier, _ = packets.read_head(packet)
            if kind == packets.LAUNCH:
                self._sessions.launch(packet, descriptors)
                if identifier >> packets.GENERATION_SHIFT != self._generation:
                    self._tell_of(identifier)
                return
        except ValueError:
            pass
        finally:
            channels.close_all(descriptors)
        # It has ended, or has lost its mind.
        self._watch(verifier.descriptor, False)
        del self._verifiers[verifier.descriptor]
        verifier.close()

    def _hear_master(self) -> None:
        received = self._master.receive()
        if received is None:
            return
        packet, descriptors = received
        if not packet:  # he is gone; sessions need him no more than we do
            self._watch(self._master.descriptor, False)
            self._is_draining = True
            self._sessions.tidy(everything=True)
            if self._worker is not None:
                self._worker.close()  # it is to see the master's end, too
                self._worker = None
            return
        kind, number, detail = packets.read_head(packet)
        if kind in (packets.VERIFIER, packets.LIVE) and not descriptors:
            # No number was left for it: who is at the other end sees that, and another
            # comes.
            guard.complain(sys.argv, "out of descriptors for what the master sent")
        elif kind == packets.VERIFIER:
            verifier = Channel.adopt(descriptors[0])
            self._verifiers[verifier.descriptor] = verifier
            self._watch(verifier.descriptor, True)
        elif kind == packets.LIVE:
            self._adopt_worker(Channel.adopt(descriptors[0]), number)
        elif kind == packets.DRAIN:
            self._is_draining = True
            self._sessions.tidy(everything=True)
            if detail:
                self._sessions.kill_all()

    def _adopt_worker(self, worker: Channel, generation: int) -> None:
        """Tell a new login worker who is here, and from now on who has gone.

        Of those who have gone while there was none it hears, too: it keeps the log.
        """
        if self._worker is not None:
            self._worker.close()
        self._worker = worker
        self._generation = generation
        unsent = list(self._unsent)
        self._unsent.clear()
        self._unsent += [each for each in unsent if each[0] == packets.ENDED]
        self._sessions.tidy(everything=True)
        for identifier, tag in self._sessions.live():
            self._tell(_live(identifier, tag))

    def _tell_of(self, launched: int) -> None:
        """Tell of a session that a crew of before has let in, if it has begun."""
        for identifier, tag in self._sessions.live():
            if identifier == launched:
                self._tell(_live(identifier, tag))

    def _tell(self, packet: bytes) -> None:
        """Tell the login worker, never waiting for it."""
        self._unsent.append(packet)
        self._flush()

    def _flush(self) -> None:
        while self._unsent and self._worker is not None:
            try:
                if not self._worker.send(self._unsent[0]):
                    break
            except BrokenPipeError:
                self._worker.close()
                self._worker = None
                break
            self._unsent.popleft()
        if self._worker is None and self._is_draining:
            self._unsent.clear()  # no other comes


def _live(identifier: int, tag: bytes) -> bytes:
    return packets.head(packets.LIVE, identifier) + packets.fields(tag)
