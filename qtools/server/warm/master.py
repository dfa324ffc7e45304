# SPDX-License-Identifier: ISC
"""The master of a warm chain: forks the nursery and the crew, reaps them, and waits.

It never reads an octet that came from the network, and has nothing to do with a login:
verifiers tell the nursery whom to serve. When the nursery is gone its sessions go on,
and a new one comes with a new crew.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
from select import EPOLLIN, epoll
from time import monotonic

from qtools.errors import EXIT_DONE, Failure
from qtools.server import channel as channels
from qtools.server.warm import crew as crews
from qtools.server.warm import packets
from qtools.server.warm.crew import Crew, Member, Ward
from qtools.server.warm.vigil import Vigil
from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.warm.premises import Premises

TICK_SECONDS = 1.0  # between looks at the rules file, idle sessions, the metrics
RESPAWN_SECONDS = 0.5  # not to spin when processes die as soon as they are forked
VIGIL_SECONDS = 5.0  # for those who close PAM sessions, when all sessions are over


class Master:
    """The one loop.

    premises: what the settings come to; given anew by reread() at a reload.
    """

    def __init__(
        self, premises: "Premises", reread: "Callable[[], Premises]", argv: list[str]
    ) -> None:
        self._premises = premises
        self._reread = reread
        self._argv = argv
        self._loop = epoll()
        self._crews: list[Crew] = []
        self._generation = 0
        self._told: list[int] = []  # signals that have come
        self._deadline: float | None = None  # of a drain
        self._respawn_at: float | None = None  # when to look who is missing
        self._respawned_at = 0.0
        self._tick_at = 0.0
        self._wakeup, self._waker = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._nursery = Ward(self.complain)
        self._vigil = Vigil()

    def run(self) -> int:
        """Serve until SIGTERM and a drain."""
        self._catch_signals()
        self._watch(self._wakeup, on=True)
        self._muster()
        self._premises.opened()
        while self._deadline is None or self._is_busy():
            for descriptor, _ in self._loop.poll(self._patience()):
                self._handle(descriptor)
            if self._told:
                self._heed()
            if self._respawn_at is not None and monotonic() >= self._respawn_at:
                self._respawn()
            if monotonic() >= self._tick_at:
                self._tick()
        if not self._vigil.keep(VIGIL_SECONDS):
            self.complain("what sessions have begun does not end in time")
        self._premises.closed()
        return EXIT_DONE

    def _patience(self) -> float:
        """Give how long to wait for events, in seconds."""
        if self._respawn_at is None:
            return TICK_SECONDS
        return min(max(self._respawn_at - monotonic(), 0.0), TICK_SECONDS)

    def _is_busy(self) -> bool:
        """Tell whether a drain has something to wait for, and still time to."""
        has_worker = any(crew.worker for crew in self._crews)
        if self._nursery.descriptor < 0 and not has_worker:
            return False
        if self._deadline is not None and monotonic() < self._deadline:
            return True
        self._nursery.tell(packets.head(packets.DRAIN, 0, 1))
        for crew in self._crews:
            crew.kill()
        return False

    def _catch_signals(self) -> None:
        _signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT):
            _signal.signal(number, lambda told, _: self._told.append(told))
        _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)

    def _watch(self, descriptor: int, on: bool) -> None:  # noqa: FBT001  # on or off
        if on:
            self._loop.register(descriptor, EPOLLIN)
        else:
            self._loop.unregister(descriptor)

    def _handle(self, descriptor: int) -> None:
        if descriptor == self._wakeup:
            posix.read(self._wakeup, 512)
            return
        for crew in self._crews:
            if descriptor in crew.members:
                self._hear(crew, descriptor)
                return
        if descriptor == self._nursery.descriptor:
            self._lose_nursery()

    def _hear(self, crew: Crew, descriptor: int) -> None:
        """Take what a member of a crew has to say, which may be its last."""
        member = crew.members[descriptor]
        received = member.channel.receive()
        if received is None:
            return
        packet, descriptors = received
        try:
            if not packet:
                self._lose(crew, descriptor)
            else:
                self._obey(crew, member, packet)
        except ValueError as why:
            self.complain(f"a {member.kind} sends what it must not: {why}")
            self._lose(crew, descriptor)
        finally:
            channels.close_all(descriptors)

    def _obey(self, crew: Crew, member: Member, packet: bytes) -> None:
        """Do what a packet asks for, if its sender may ask for it."""
        kind = member.kind
        word = packets.read_head(packet)[0]
        if word == packets.TIRED and kind == crews.VERIFIER:
            member.is_tired = True
            self._respawn_soon()
        elif word == packets.COUNTERS and kind == crews.WORKER:
            (packed,) = packets.read_fields(packet, 1)
            self._premises.bulletin.count(crew.generation, packed)
        else:
            raise ValueError("a packet out of place")

    def _lose(self, crew: Crew, descriptor: int) -> None:
        """Take leave of a member; replace who should not have gone."""
        self._watch(descriptor, on=False)
        member, code = crew.lose(descriptor)
        if not crew.members:
            self._crews.remove(crew)
        if member.kind == crews.WORKER:
            self._premises.bulletin.gone(crew.generation)
        if crew.is_retiring or self._deadline is not None:
            return
        if member.kind == crews.WORKER:
            self.complain(f"the login worker ended with {code}; a new one comes")
            crew.retire()
        elif crew.worker is not None and not member.is_tired:
            self.complain(f"a {member.kind} ended with {code}; a new one comes")
        else:
            return
        self._premises.bulletin.replaced(member.kind)
        self._respawn_soon()

    def _respawn_soon(self) -> None:
        """Look who is missing: now, unless that was only just done."""
        self._respawn_at = max(monotonic(), self._respawned_at + RESPAWN_SECONDS)

    def _respawn(self) -> None:
        """Fork those who are missing in the crew that accepts, or a whole new one."""
        self._respawn_at = None
        self._respawned_at = monotonic()
        if self._deadline is not None:
            return
        for crew in self._crews:
            if crew.generation == self._generation and not crew.is_retiring:
                self._fill(crew)
                return
        self._muster()

    def _muster(self) -> None:
        """Fork a new crew, which is the one that accepts from now on."""
        if self._nursery.descriptor < 0 and not self._found_nursery():
            self._respawn_at = monotonic() + RESPAWN_SECONDS
            return
        self._generation += 1
        old = [crew for crew in self._crews if not crew.is_retiring]
        premises = self._premises
        crew = Crew(self._generation, premises.settings.drain_seconds)
        self._crews.append(crew)
        try:
            worker = crew.join(
                crews.WORKER,
                lambda master: premises.work(master, crew.generation),
                *premises.worker_descriptors(),
            )
        except OSError as why:
            self._crews.remove(crew)
            self.complain(f"unable to start a login worker: {why.strerror}")
            self._respawn_at = monotonic() + RESPAWN_SECONDS
            return
        self._watch(worker.channel.descriptor, on=True)
        introduction = packets.head(packets.LIVE, crew.generation)
        self._nursery.tell(introduction, worker.channel.descriptor)
        self._fill(crew)
        premises.hand_rules(crew, is_new=True)
        for each in old:
            each.retire()

    def _fill(self, crew: Crew) -> None:
        """Fork the verifiers and TLS workers that a crew has not got."""
        premises = self._premises
        wanted = {crews.VERIFIER: premises.settings.verifiers}
        wanted[crews.TLS] = premises.tls_count()
        for kind, number in wanted.items():
            for _ in range(crew.count(kind), number):
                self._add(crew, kind)

    def _add(self, crew: Crew, kind: str) -> None:
        try:
            if kind == crews.VERIFIER:
                body, vigil = self._premises.verify, self._vigil.writer
                member = crew.add_verifier(body, self._nursery, vigil)
            else:
                member = crew.add_relay(self._premises.start_relay())
        except (OSError, Failure) as why:
            self.complain(f"unable to start a {kind}: {why}")
            self._respawn_at = monotonic() + RESPAWN_SECONDS
            return
        self._watch(member.channel.descriptor, on=True)

    def _heed(self) -> None:
        """Do what signals ask for."""
        while self._told:
            if self._told.pop(0) == _signal.SIGHUP:
                self._reload()
            else:
                self._drain()

    def _tick(self) -> None:
        """Do what the clock asks for."""
        now = monotonic()
        self._tick_at = now + TICK_SECONDS
        for crew in self._crews:
            crew.flush()
            if crew.expire(now):
                self.complain("a crew of before does not end in time: killed")
            if not crew.is_retiring:
                self._premises.hand_rules(crew, is_new=False)
        self._premises.publish(now)

    def _reload(self) -> None:
        """Take up new settings; what is wrong with them leaves the old ones."""
        if self._deadline is not None:
            return
        before = self._premises
        before.bulletin.reloading()
        try:
            self._premises = self._reread()
        except Failure as why:
            self.complain(f"not reloaded: {why}")
            before.opened()
            return
        before.dismiss()
        self._muster()
        self._premises.opened()

    def _drain(self) -> None:
        """Accept no more; a second time, wait no longer."""
        is_again = self._deadline is not None
        seconds = 0 if is_again else self._premises.settings.drain_seconds
        self._deadline = monotonic() + seconds
        self._premises.closing()
        for crew in self._crews:
            crew.retire(is_last=crew.generation == self._generation)
        self._nursery.tell(packets.head(packets.DRAIN))

    def _found_nursery(self) -> bool:
        """Fork the nursery; tell whether that went well."""
        try:
            self._nursery.found(self._premises.nurse)
        except OSError as why:
            self.complain(f"unable to start a {crews.NURSERY}: {why.strerror}")
            return False
        self._watch(self._nursery.descriptor, on=True)
        return True

    def _lose_nursery(self) -> None:
        """Take leave of the nursery, and unless this is a drain have another one."""
        self._watch(self._nursery.descriptor, on=False)
        code = self._nursery.lose()
        if self._deadline is not None:
            return
        self.complain(f"the {crews.NURSERY} ended with {code}; a new one comes")
        self._premises.bulletin.replaced(crews.NURSERY)
        for crew in self._crews:
            crew.retire()
        self._respawn_soon()

    def complain(self, text: str) -> None:
        """Tell the operator."""
        guard.complain(self._argv, text)
