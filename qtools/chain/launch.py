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

from qtools.protocol.sasl import MESSAGE_OCTETS
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
    reader = _filled_pipe(record)
    opened = [reader]
    try:
        notes, noting = posix.pipe()
        opened += [notes, noting]
        ours, theirs = _channel() if is_dialogue else (-1, -1)
        opened += [ours, theirs] if is_dialogue else []
        pid = posix.fork()
    except OSError:
        for descriptor in opened:
            posix.close(descriptor)
        raise
    if not pid:

        def become(_argv: list[str]) -> int:
            for descriptor in (notes, *unshared):
                posix.close(descriptor)
            if is_dialogue:
                posix.close(ours)
                posix.environ[DIALOGUE] = b"%d" % _keep(theirs)
            _lay_out(reader, noting)
            posix.environ.update(variables)
            return run()

        posix._exit(guard.guarded(become, sys.argv))
    posix.close(reader)
    posix.close(noting)
    if is_dialogue:
        posix.close(theirs)
    return Launched(pid, notes, _socket.socket(fileno=ours) if is_dialogue else None)


def _channel() -> tuple[int, int]:
    """Give both ends of a socket pair that carries whole messages."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return ours.detach(), theirs.detach()


def _filled_pipe(record: bytes) -> int:
    """Give the reading end of a pipe that holds the record and nothing else."""
    reader, writer = posix.pipe()
    posix.write(writer, record)  # 4096 octets fit into any pipe
    posix.close(writer)
    return reader


def _lay_out(reader: int, noting: int) -> None:
    """In the child: put descriptors and signals where the next program expects them."""
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    kept = _keep(noting)
    if reader != RECORD_DESCRIPTOR:
        posix.dup2(reader, RECORD_DESCRIPTOR)
        posix.close(reader)
    posix.set_inheritable(RECORD_DESCRIPTOR, True)
    posix.environ[verdict.VARIABLE] = b"%d" % kept


def _keep(descriptor: int) -> int:
    """Have a descriptor survive the exec, and out of the way of the chain's own."""
    kept = fcntl(descriptor, F_DUPFD, LOWEST)
    posix.close(descriptor)
    return kept
