# SPDX-License-Identifier: ISC
"""A session process: forked warm from the nursery, becomes the user, serves the mail.

It has never held anybody's password or hash. It may serve one session after the
other, but only as the very user that it has become for the first one.

Each page of memory that is written to here is copied for this one session, and to use
an object is to write its reference count. So what can be done before the fork is.
"""

import posix
from fcntl import F_DUPFD_CLOEXEC, fcntl

from qtools.accounts import answer, entry
from qtools.chain.office import speak_for
from qtools.errors import EXIT_DONE, EXIT_HARD, EXIT_REFUSED, EXIT_TEMPORARY, Temporary
from qtools.server.channel import Channel, close_all
from qtools.server.processes import HIGHEST
from qtools.server.warm import packets
from qtools.server.warm.packets import WHYS, Tally
from qtools.system import guard, privileges, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from qtools.accounts.interface import Identity
    from qtools.server.warm.sessions import Order

CHANNEL = 3  # the descriptor of the way to the nursery; 0 and 1 are the client's
NOT_OURS = frozenset((b"HOME", b"USER", b"SHELL", b"PATH", b"MAILDIR", b"POP3MAILDIR"))
OWN_CODES = (EXIT_DONE, EXIT_REFUSED, EXIT_HARD)
NOTHING = b"/dev/null"


class Session:
    """One process's sessions, one after the other."""

    def __init__(
        self, serve: "Callable[[], int]", argv: list[str], place: int = CHANNEL
    ) -> None:
        """Take what serves a client on 0 and 1, and in whose name to complain.

        place: where the way to the nursery is to be. Above it only nothing is kept,
        which is open on /dev/null.
        """
        self._serve = serve
        self._argv = argv
        self._place = place
        self.nothing = posix.open(NOTHING, posix.O_RDWR | posix.O_CLOEXEC)
        self._lifeline = -1  # who waits for the end of this session sees it closed
        self._ids: tuple[int, int, list[int]] | None = None
        self._base = dict(posix.environ)
        self._has_greeted = False
        self._tally = Tally(0, 0, packets.NOTHING.counts)
        verdict.listen(self)

    def run(self, way: int, client: int, order: "Order") -> "NoReturn":
        """Serve a client, and more of them while more are sent, then leave.

        way: a descriptor of the way to the nursery. order: what a LAUNCH says of the
        first client.
        """
        try:
            channel = self.settle(way, client, order.lifeline)
            self.serve_one(channel, order.who, order.environment)
            self._serve_more(channel)
        finally:
            posix._exit(EXIT_DONE)

    def settle(self, way: int, client: int, lifeline: int = -1) -> Channel:
        """Put descriptors where they belong, and close all others.

        lifeline: a descriptor to be open as long as the first session, -1 for none.
        """
        above = self._place + 2
        if lifeline >= 0:
            above += 1
            self._lifeline = fcntl(lifeline, F_DUPFD_CLOEXEC, above)
        client = fcntl(client, F_DUPFD_CLOEXEC, above)
        nothing = fcntl(self.nothing, F_DUPFD_CLOEXEC, above)
        posix.dup2(way, self._place, False)  # not inheritable
        posix.dup2(client, 0)
        posix.dup2(client, 1)
        self.nothing = posix.dup2(nothing, self._place + 1, False)
        if lifeline >= 0:
            self._lifeline = posix.dup2(self._lifeline, above - 1, False)
        posix.closerange(above, HIGHEST)
        return Channel.adopt(self._place)

    def _serve_more(self, channel: Channel) -> None:
        """Serve until nobody is sent any more."""
        while True:
            packet, descriptors = channel.receive(waits=True) or (b"", [])
            lifelines = packets.read_head(packet)[2] if packet else 0
            if not packet or len(descriptors) != 1 + lifelines:
                close_all(descriptors)
                return
            client, *rest = descriptors
            posix.dup2(client, 0)
            posix.dup2(client, 1)
            posix.close(client)
            self._lifeline = rest[0] if rest else -1
            identity, environment, _ = packets.read_fields(packet, 3)
            _, who = answer.unpack(identity)
            if who is None:
                return
            posix.environ.clear()
            posix.environ.update(self._base)
            self.serve_one(channel, who, environment)

    def serve_one(self, channel: Channel, who: "Identity", environment: bytes) -> None:
        """Serve one session; whatever happens is in the tally that is sent."""
        self._has_greeted = False
        self._tally = Tally(0, WHYS.index("failed"), packets.NOTHING.counts)
        code = guard.guarded(lambda _: self._begin(who, environment), self._argv)
        self._tally.code = code if code in OWN_CODES else EXIT_TEMPORARY
        if code and not self._has_greeted:
            speak_for(code, posix.environ.get(b"POP3LANG", b"en"))
        posix.dup2(self.nothing, 0)  # the client sees the end
        posix.dup2(self.nothing, 1)
        if self._lifeline >= 0:
            posix.close(self._lifeline)
            self._lifeline = -1
        channel.send(packets.pack_tally(self._tally), waits=True)

    def _begin(self, who: "Identity", environment: bytes) -> int:
        posix.environ.update(_variables(environment))
        self.become(who)
        entry.set_environment(who)
        return self._serve()

    def become(self, who: "Identity") -> None:
        """Become the user; later sessions of this process can only be the same.

        Raises: Temporary.
        """
        ids = (who.uid, who.gid, who.groups)
        if self._ids is None:
            privileges.become(*ids, who.home)
        elif ids != self._ids:
            raise Temporary("a session for another user")
        else:
            privileges.become(-1, -1, [], who.home)
        self._ids = ids

    def note(self, note: bytes) -> None:
        """Take what pop3d has to tell; see verdict."""
        self._has_greeted |= note == verdict.GREETED

    def ended(self, why: str, counts: "tuple[int | None, ...]") -> None:
        """Take how the session ended; see verdict."""
        word = why.partition(",")[0]
        self._tally.why = WHYS.index(word) if word in WHYS else 0
        self._tally.counts = counts


def _variables(environment: bytes) -> dict[bytes, bytes]:
    """Read NAME=VALUE entries; those that checkpw sets are not the client's to give."""
    found = packets.variables(environment)
    return {
        name: value
        for name, value in found.items()
        if name not in NOT_OURS and not name.startswith(b"QTOOLS")
    }
