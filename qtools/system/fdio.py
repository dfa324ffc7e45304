# SPDX-License-Identifier: ISC
"""Reading and writing the client's descriptors, with limits in time.

Two ways to read: read() takes what is there; read_line() never takes an octet past
the line end, so that whoever gets the descriptor next finds every later command
unread, and plaintext sent behind STLS can't be mistaken for what TLS brought.
"""

import _socket
import posix
from select import POLLIN, POLLOUT, poll
from time import monotonic

IDLE_SECONDS = 1200  # what qmail's tools allow; RFC 1939 asks for 10 minutes at least
PEEK_OCTETS = 512  # more than one command; what follows it stays in the kernel
READ_OCTETS = 65536
MOST_DROPPED = 1 << 20  # of what a client sends who is not listened to any more
LONGEST_SECONDS = 2_000_000  # poll() counts milliseconds in 31 bits
UNKNOWN = b"unknown"  # an address nobody can tell
PIPE_OCTETS = 4096  # a pipe that polls as writable takes this much without blocking


class TimedOut(Exception):
    """The peer did not move for too long."""


class PeerLost(Exception):
    """The peer is gone."""


class Wire:
    """The two descriptors on which the client is.

    Takes both limits in seconds: idle_seconds for the wait for input (a whole line in
    read_line), write_seconds for output that makes no progress.
    """

    def __init__(
        self,
        in_fd: int = 0,
        out_fd: int = 1,
        idle_seconds: float = IDLE_SECONDS,
        write_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.idle_seconds = min(idle_seconds, LONGEST_SECONDS)
        self.write_seconds = min(write_seconds, LONGEST_SECONDS)
        self.has_line = False  # one more is known to wait behind what read_line gave
        self._lifeline = -1
        self._in, self._in_socket = in_fd, _socket_on(in_fd)
        self._out, self._out_socket = out_fd, _socket_on(out_fd)
        self._readable = poll()
        self._readable.register(in_fd, POLLIN)
        self._writable = poll()
        self._writable.register(out_fd, POLLOUT)

    def lifeline(self, descriptor: int) -> None:
        """Take the peer for lost when the far end of this descriptor is closed."""
        self._lifeline = descriptor
        self._readable.register(descriptor, 0)  # a hang-up is told without asking

    def release(self) -> None:
        """Let go of the descriptors without closing them."""
        for held in (self._in_socket, self._out_socket):
            if held is not None:
                held.detach()
        self._in_socket = self._out_socket = None

    def again(self) -> "Wire":
        """Give a wire on the same numbers after something else was put there."""
        self.release()
        limits = self.idle_seconds, self.write_seconds
        wire = Wire(self._in, self._out, *limits)
        if self._lifeline >= 0:
            wire.lifeline(self._lifeline)
        return wire

    def set_nodelay(self) -> None:
        """Have small replies leave at once where the output is a TCP connection."""
        if self._out_socket is not None:
            try:
                self._out_socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            except OSError:
                return  # a socket of another kind has no such delay

    def read(self, octets: int = READ_OCTETS) -> bytes:
        """Give what the client has sent, empty when it has closed its side.

        Raises: TimedOut after idle_seconds without anything; PeerLost.
        """
        deadline = monotonic() + self.idle_seconds
        while True:
            self._await(deadline)
            try:
                return posix.read(self._in, octets)
            except BlockingIOError:
                continue
            except OSError as why:
                raise PeerLost from why

    def read_line(self, seconds: float = LONGEST_SECONDS) -> bytes:
        """Give octets up to and with the next LF, or fewer, but never any beyond it.

        An empty answer means that the client has closed its side. The deadline is
        one for the whole line: a client that drips is a client that idles. seconds:
        the longest wait where that is less than idle_seconds.
        Raises: TimedOut, PeerLost.
        """
        deadline = monotonic() + min(self.idle_seconds, seconds)
        parts = b""
        while not parts.endswith(b"\n") and len(parts) < READ_OCTETS:
            self._await(deadline)
            try:
                part = self._take()
            except BlockingIOError:
                continue
            except OSError as why:
                raise PeerLost from why
            if not part:
                break
            parts += part
        return parts

    def _take(self) -> bytes:
        """Read some octets of the present line, none beyond; empty at the end."""
        if self._in_socket is None:
            return posix.read(self._in, 1)
        seen = self._in_socket.recv(PEEK_OCTETS, _socket.MSG_PEEK)
        self.has_line = seen.count(b"\n") > 1
        return posix.read(self._in, seen.find(b"\n") + 1 or len(seen)) if seen else b""

    def drain(self, octets: int = MOST_DROPPED) -> None:
        """Drop what has come in already, up to so many octets.

        The kernel answers a close with a reset where something is left unread, and a
        reset can overtake the last reply.
        """
        while octets > 0 and (self._in, POLLIN) in self._readable.poll(0):
            try:
                dropped = len(posix.read(self._in, min(octets, READ_OCTETS)))
            except OSError:
                return
            octets -= dropped or octets

    def _await(self, deadline: float) -> None:
        left = deadline - monotonic()
        ready = self._readable.poll(left * 1000) if left > 0 else []
        if not ready:
            raise TimedOut
        if ready[-1][0] == self._lifeline:
            raise PeerLost

    def write(self, data: bytes) -> None:
        """Send all of it.

        Raises: TimedOut when write_seconds pass without progress; PeerLost.
        """
        sent = self._send(data)
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while rest:
            if not self._writable.poll(self.write_seconds * 1000):
                raise TimedOut
            rest = rest[self._send(rest) :]

    def _send(self, rest: "bytes | memoryview") -> int:
        """Send what fits now; never block, or no deadline could be kept."""
        try:
            if self._out_socket is not None:
                return self._out_socket.send(rest, _socket.MSG_DONTWAIT)
            if self._writable.poll(0):
                return posix.write(self._out, rest[:PIPE_OCTETS])
        except BlockingIOError:
            return 0
        except OSError as why:
            raise PeerLost from why
        return 0


def _socket_on(descriptor: int) -> "_socket.socket | None":
    """Give the socket on a descriptor, or None when it holds something else."""
    try:
        return _socket.socket(fileno=descriptor)
    except OSError:
        return None


def write_line(descriptor: int, line: bytes) -> int:
    """Write a line of a log if that can be done at once; give how many octets went.

    line: with its end, which stays when the rest is cut to PIPE_OCTETS. A log that is
    full, stuck or gone holds up nobody.
    """
    if len(line) > PIPE_OCTETS:
        line = line[: PIPE_OCTETS - 1] + b"\n"
    room = poll()
    room.register(descriptor, POLLOUT)
    try:
        return posix.write(descriptor, line) if room.poll(0) else 0
    except OSError:
        return 0


def peer_address(descriptor: int) -> bytes:
    """Give the address of whoever is on the other side, or "unknown"."""
    held = None
    try:
        held = _socket.socket(fileno=posix.dup(descriptor))
        address = held.getpeername()
    except OSError:  # a pipe, a file, nobody
        return UNKNOWN
    finally:
        if held is not None:
            held.close()
    # Other families than the internet's give a path or nothing.
    return address[0].encode() if isinstance(address, tuple) else UNKNOWN
