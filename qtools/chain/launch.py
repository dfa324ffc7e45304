# SPDX-License-Identifier: ISC
"""Start the rest of the chain on a record; wait for its end, heeding its notes.

Where the record begins a dialogue, the chain gets one end of a socket pair as well, on
which the verifier may speak with the client: each message is one packet, and the
descriptor's number is in QTOOLS_DIALOGUE. See: qtools-chain(8).
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import _socket
import posix
import sys
from fcntl import F_DUPFD, fcntl
from select import POLLIN, poll

from qtools.protocol.framing import MESSAGE_OCTETS
from qtools.system import guard, verdict
from qtools.system.verdict import DIALOGUE, LOWEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RECORD_DESCRIPTOR = 3
CHALLENGE, RESPONSE = b"C", b"R"  # before what goes to the client and what comes back
MOST_MESSAGES = 4  # from the verifier; SCRAM has two, and no client waits for more


class Launched:
    """The next program, running."""

    def __init__(
        self, pid: int, notes: int, channel: "_socket.socket | None" = None
    ) -> None:
        """Take the child and the descriptor on which it may tell of its progress.

        channel: to its verifier, if that may speak with the client.
        Raises: OSError, the child being gone then.
        """
        self._pid = pid
        self._notes = notes
        self._channel = channel
        self._messages = 0
        try:
            self._handle = posix.pidfd_open(pid)
        except OSError:
            posix.kill(pid, _signal.SIGKILL)
            posix.waitpid(pid, 0)
            posix.close(notes)
            raise

    def wait(self, heed: "Callable[[bytes], None]") -> "int | bytes":
        """Wait for its end; give its exit code, negative for a signal.

        Or give what its verifier says to the client; after that answer it or kill it.
        heed: called with each note, until the session has spoken.
        """
        waiting = poll()
        waiting.register(self._notes, POLLIN)
        waiting.register(self._handle, POLLIN)
        spoken = -1 if self._channel is None else self._channel.fileno()
        if spoken >= 0:
            waiting.register(spoken, POLLIN)
        is_open = True
        while is_open:
            # What came between the two looks of one poll() is seen by the next.
            ready = dict(waiting.poll()) and dict(waiting.poll(0))
            note = posix.read(self._notes, 1) if self._notes in ready else b""
            if spoken in ready and not note:
                message = self._hear()
                if message:
                    return message
            else:
                is_open = bool(note) and note != verdict.GREETED
            if spoken >= 0:
                # Who has been let in, or falls silent, has no more to say to it.
                waiting.unregister(spoken)
                self._hang_up()
                spoken = -1
            if note:
                heed(note)
        return self._end()

    def answer(self, message: bytes) -> None:
        """Send its verifier what the client answers; one that has gone needs none."""
        try:
            if self._channel is not None:
                self._channel.send(RESPONSE + message, _socket.MSG_DONTWAIT)
        except OSError:
            self._hang_up()

    def kill(self) -> None:
        """End it: the client has gone, or wants no more of it."""
        self._hang_up()
        posix.kill(self._pid, _signal.SIGKILL)
        self._end()

    def _hear(self) -> bytes:
        """Give a message of the verifier's; empty when it has nothing to say."""
        assert self._channel is not None  # noqa: S101  # for the type checker
        self._messages += 1
        try:
            packet = self._channel.recv(len(CHALLENGE) + MESSAGE_OCTETS + 1)
        except OSError:
            return b""
        kind, message = packet[:1], packet[1:]
        is_short = len(message) <= MESSAGE_OCTETS
        is_good = kind == CHALLENGE and is_short and self._messages <= MOST_MESSAGES
        return message if is_good else b""

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _end(self) -> int:
        self._hang_up()
        posix.close(self._notes)
        posix.close(self._handle)
        return posix.waitstatus_to_exitcode(posix.waitpid(self._pid, 0)[1])


class _Ends:
    """Both ends of what is between here and the next program."""

    def __init__(self, record: bytes, *, is_dialogue: bool) -> None:
        """Open them, with the record on its way.

        Raises: OSError, nothing being left behind then.
        """
        self._is_dialogue = is_dialogue
        self._opened: list[int] = []
        try:
            self._reader = self._fill(record)
            self.notes, self._noting = self._open(posix.pipe())
            if is_dialogue:
                self._channel, self._dialogue = self._open(_make_channel())
        except OSError:
            self.close()
            raise

    def _open(self, ends: tuple[int, int]) -> tuple[int, int]:
        self._opened += ends
        return ends

    def _fill(self, record: bytes) -> int:
        """Give the reading end of a pipe that holds the record and nothing else."""
        reader, writer = posix.pipe()
        self._opened.append(reader)
        posix.write(writer, record)  # 4096 octets fit into any pipe
        posix.close(writer)
        return reader

    def close(self) -> None:
        """Close all of them."""
        for descriptor in self._opened:
            posix.close(descriptor)

    def keep(self) -> "_socket.socket | None":
        """Close what is the child's; give the channel to its verifier."""
        posix.close(self._reader)
        posix.close(self._noting)
        if not self._is_dialogue:
            return None
        posix.close(self._dialogue)
        return _socket.socket(fileno=self._channel)

    def lay_out(self) -> None:
        """In the child: put them where the next program expects them."""
        posix.close(self.notes)
        posix.environ[verdict.VARIABLE] = b"%d" % _move_up(self._noting)
        if self._is_dialogue:
            posix.close(self._channel)
            posix.environ[DIALOGUE] = b"%d" % _move_up(self._dialogue)
        if self._reader != RECORD_DESCRIPTOR:
            posix.dup2(self._reader, RECORD_DESCRIPTOR)
            posix.close(self._reader)
        posix.set_inheritable(RECORD_DESCRIPTOR, True)


def launch(
    run: "Callable[[], int]",
    record: bytes,
    variables: dict[bytes, bytes],
    unshared: "Iterable[int]",
    *,
    is_dialogue: bool = False,
) -> Launched:
    """Start a program with the record on descriptor 3.

    run: called in the child, becomes the program. variables: added to its
    environment. unshared: descriptors it must not have. is_dialogue: its verifier may
    have more to say than a verdict.
    Raises: OSError, nothing being left behind then.
    """
    ends = _Ends(record, is_dialogue=is_dialogue)
    try:
        pid = posix.fork()
    except OSError:
        ends.close()
        raise
    if not pid:

        def become(_argv: list[str]) -> int:
            for descriptor in unshared:
                posix.close(descriptor)
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
            ends.lay_out()
            posix.environ.update(variables)
            return run()

        posix._exit(guard.guarded(become, sys.argv))
    return Launched(pid, ends.notes, ends.keep())


def _make_channel() -> tuple[int, int]:
    """Give both ends of a socket pair that carries whole messages."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return ours.detach(), theirs.detach()


def _move_up(descriptor: int) -> int:
    """Have a descriptor survive the exec, and out of the way of the chain's own."""
    kept = fcntl(descriptor, F_DUPFD, LOWEST)
    posix.close(descriptor)
    return kept
