# SPDX-License-Identifier: ISC
"""A session process: forked warm from the master, becomes the user, serves the mail.

It has never held anybody's password or hash. One whose uid several accounts share may
serve one session after the other: the kernel would not have kept them apart anyway.
"""

import posix
from fcntl import F_DUPFD_CLOEXEC, fcntl

from qtools.accounts import answer, entry
from qtools.chain.office import speak_for
from qtools.errors import EXIT_DONE, EXIT_HARD, EXIT_REFUSED, EXIT_TEMPORARY, Temporary
from qtools.server import packets
from qtools.server.channel import Channel, close_all
from qtools.server.packets import WHYS, Tally
from qtools.system import guard, privileges, verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from qtools.accounts.interface import Identity

    Main = Callable[[list[str]], int]

CHANNEL = 3  # the descriptor of the way to the master; 0 and 1 are the client's
NOT_OURS = frozenset((b"HOME", b"USER", b"SHELL", b"PATH", b"MAILDIR", b"POP3MAILDIR"))
OWN_CODES = (EXIT_DONE, EXIT_REFUSED, EXIT_HARD)


class Session:
    """One process's sessions, one after the other."""

    def __init__(self, main: "Main", argv: list[str], channel: int) -> None:
        """Take pop3d's main() and argv, and the way to the master."""
        self._main = main
        self._argv = argv
        self._channel = channel
        self._ids: tuple[int, int, list[int]] | None = None
        self._base = dict(posix.environ)
        self._has_greeted = False
        self._tally = Tally(0, 0, packets.NOTHING.counts)

    def run(self, packet: bytes, client: int, *, more: bool) -> "NoReturn":
        """Serve what a LAUNCH is about, and more of them, then leave.

        more: wait for another one when a session has ended.
        """
        client = fcntl(client, F_DUPFD_CLOEXEC, CHANNEL + 1)
        posix.dup2(self._channel, CHANNEL, inheritable=False)
        posix.dup2(client, 0)
        posix.dup2(client, 1)
        posix.closerange(CHANNEL + 1, posix.sysconf("SC_OPEN_MAX"))
        channel = Channel.adopt(CHANNEL)
        verdict.listen(self)
        try:
            self._serve_all(packet, channel, more=more)
        finally:
            posix._exit(EXIT_DONE)

    def _serve_all(self, packet: bytes, channel: Channel, *, more: bool) -> None:
        nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        while True:
            self._serve(packet)
            for descriptor in (0, 1):
                posix.dup2(nothing, descriptor)  # the client sees the end
            channel.send(packets.pack_tally(self._tally), waits=True)
            if not more:
                return
            packet, descriptors = channel.receive(waits=True) or (b"", [])
            if not packet or len(descriptors) != 1:
                close_all(descriptors)
                return
            posix.dup2(descriptors[0], 0)
            posix.dup2(descriptors[0], 1)
            posix.close(descriptors[0])

    def _serve(self, packet: bytes) -> None:
        """Serve one session; whatever happens is in the tally."""
        self._has_greeted = False
        self._tally = Tally(0, WHYS.index("failed"), packets.NOTHING.counts)
        code = guard.guarded(lambda _: self._become_and_run(packet), self._argv)
        self._tally.code = code if code in OWN_CODES else EXIT_TEMPORARY
        if code and not self._has_greeted:
            speak_for(code, posix.environ.get(b"POP3LANG", b"en"))

    def _become_and_run(self, packet: bytes) -> int:
        identity, environment, _ = packets.read_fields(packet, 3)
        code, who = answer.unpack(identity)
        if code or who is None:
            raise Temporary("a session for nobody")
        posix.environ.clear()
        posix.environ.update(self._base)
        posix.environ.update(_variables(environment))
        self._become(who)
        entry.set_environment(who)
        return self._main(list(self._argv))

    def _become(self, who: "Identity") -> None:
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
    found = {}
    for item in environment.split(b"\0"):
        name, equals, value = item.partition(b"=")
        if equals and name not in NOT_OURS and not name.startswith(b"QTOOLS"):
            found[name] = value
    return found
