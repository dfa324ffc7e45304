# SPDX-License-Identifier: ISC
"""A TLS worker in a process of its own, and everybody around it.

As root the worker is confined before it runs, as popserver has it: whatever it would
import or open then fails.
"""

import os
import resource
import signal
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from qtools.server.channel import Channel, pair
from qtools.server.processes import keep_only
from qtools.server.tls import packets as relay_packets
from qtools.server.tls import relay
from qtools.server.tls import settings as tls
from qtools.server.tls.common import Limits
from qtools.server.tls.settings import TlsSettings
from qtools.system.confine import confine
from tests.certificates import Authority
from tests.support import IS_ROOT, PATIENCE_SECONDS, wait_for

HOST = "mx.example"
STILL_LOOKS = 20  # with some milliseconds between them: longer than a tick of the clock

Told = dict[bytes, bytes] | str


class Ends(NamedTuple):
    """What a client and a user hold: the TCP connection, the clear end, control."""

    client: socket.socket
    clear: socket.socket
    control: socket.socket | None


class Worker:
    """One TLS worker; the channel and control are the other ends of what it has."""

    def __init__(
        self,
        settings: TlsSettings,
        limits: Limits | None = None,
        *,
        most_files: int = 0,
    ) -> None:
        self.channel, theirs = pair()
        self._channels = [self.channel]
        self.control, their_control = pair()
        self._numbers = 0
        self._held: list[socket.socket] = []
        self._errors = os.memfd_create("complaints")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.pid = os.fork()
        if not self.pid:
            self._run(settings, limits or Limits(), theirs, their_control, most_files)
        theirs.close()
        their_control.close()
        wait_for(self.is_running)

    def _run(
        self,
        settings: TlsSettings,
        limits: Limits,
        theirs: Channel,
        their_control: Channel,
        most_files: int,
    ) -> None:
        """In the child."""
        code = 1
        try:
            os.dup2(self._errors, 2)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            context = tls.load(settings)
            keep_only([0, 1, 2, theirs.descriptor, their_control.descriptor])
            theirs, their_control = low(theirs, 3), low(their_control, 4)
            if most_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
            if IS_ROOT:
                confine("nobody")
            code = relay.run(context, their_control, [theirs], limits)
        finally:
            os._exit(code)

    def is_running(self) -> bool:
        """Tell whether it has come to its loop, which opens one descriptor."""
        return len(self.descriptors()) >= 6 and self.is_asleep()

    def descriptors(self) -> list[str]:
        return os.listdir(f"/proc/{self.pid}/fd")

    def is_asleep(self) -> bool:
        text = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        return text.rpartition(")")[2].split()[0] == "S"

    def ticks(self) -> int:
        """Give the processor time it has had, in ticks."""
        text = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        return sum(map(int, text.rpartition(")")[2].split()[11:13]))

    def rests(self) -> None:
        """Wait until it uses no time at all; what spins never comes to that."""
        seen: list[int] = []

        def is_still() -> bool:
            seen.append(self.ticks())
            last = seen[-STILL_LOOKS:]
            return len(last) == STILL_LOOKS and len(set(last)) == 1

        wait_for(is_still)

    def memory(self) -> int:
        """Give how many octets of memory are its own."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii")
        rows = [line.split() for line in rollup.splitlines()[1:]]
        private = ("Private_Clean:", "Private_Dirty:")
        return 1024 * sum(int(row[1]) for row in rows if row[0] in private)

    def holds(self, count: int) -> None:
        """Wait until it has so many descriptors."""
        wait_for(lambda: len(self.descriptors()) == count)

    def connect(
        self,
        *,
        is_ucspi: bool = False,
        before_sending: Callable[[socket.socket], None] | None = None,
        keep_raw: list[socket.socket] | None = None,
    ) -> Ends:
        """Make a connection, and hand the worker its part.

        before_sending: what is to happen to the client's side before that. keep_raw:
        where to put the server's side of it, which the worker has besides.
        """
        client = socket.create_connection(self._listener.getsockname())
        client.settimeout(PATIENCE_SECONDS)
        raw, _ = self._listener.accept()
        clear, their_clear = socket.socketpair()
        clear.settimeout(PATIENCE_SECONDS)
        given = [raw, their_clear]
        control = None
        if is_ucspi:
            control, their_control = socket.socketpair()
            control.settimeout(PATIENCE_SECONDS)
            given.append(their_control)
        if before_sending:
            before_sending(client)
        self._numbers += 1
        packet = relay_packets.pack_start(self._numbers, is_ucspi=is_ucspi)
        assert self.channel.send(packet, [each.fileno() for each in given], waits=True)
        if keep_raw is not None:
            keep_raw.append(raw.dup())
            self._held += keep_raw
        for each in given:
            each.close()
        self._held += [client, clear, *([control] if control else [])]
        return Ends(client, clear, control)

    def shake(
        self,
        ends: Ends,
        context: ssl.SSLContext,
        name: str | None = HOST,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """Shake hands as the client of a connection; give its side."""
        made = context.wrap_socket(
            ends.client,
            server_hostname=name,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
            session=session,
        )
        self._held.append(made)
        made.do_handshake()
        return made

    def serve(
        self, context: ssl.SSLContext, name: str = HOST
    ) -> tuple[ssl.SSLSocket, socket.socket]:
        """Make a connection that works; give the client's side and the user's."""
        ends = self.connect()
        made = self.shake(ends, context, name)
        told = self.answer()
        assert isinstance(told, dict), told
        return made, ends.clear

    def add_channel(self, send_octets: int = 0) -> Channel:
        """Give the worker one more channel; give our end of it."""
        mine, theirs = pair()
        if send_octets:
            theirs._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_octets)
        count = len(self.descriptors())
        packet = relay_packets.CHANNEL_PACKET
        assert self.control.send(packet, [theirs.descriptor], waits=True)
        theirs.close()
        self._channels.append(mine)
        self.holds(count + 1)
        return mine

    def answer(self) -> Told:
        """Give the worker's next answer."""
        packet, descriptors = self.channel.receive(waits=True) or (b"", [])
        assert descriptors == []
        return relay_packets.unpack_answer(packet)[1]

    def has_answer(self) -> bool:
        """Tell whether there is one; it is taken then."""
        return self.channel.receive() is not None

    def close_clients(self) -> None:
        """Close the clients' side of everything that has shaken hands, or tried to."""
        for held in self._held:
            if isinstance(held, ssl.SSLSocket):
                held.close()

    def kill(self) -> None:
        """End it, whatever it does, and everything else; it has to be silent."""
        for held in self._held:
            held.close()
        for channel in self._channels:
            channel.close()
        self.control.close()
        self._listener.close()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        complaints = self.complaints()
        os.close(self._errors)
        if complaints:
            pytest.fail(complaints)

    def complaints(self) -> str:
        """Give what it has said on descriptor 2, and forget it."""
        said = os.pread(self._errors, 65536, 0).decode()
        os.ftruncate(self._errors, 0)
        return said

    def wait(self) -> int:
        """Wait for its end; give its exit code."""
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def low(channel: Channel, number: int) -> Channel:
    """Put a channel on a low number, where a limit of files does not matter."""
    if channel.descriptor == number:
        return channel
    os.dup2(channel.descriptor, number, inheritable=False)
    channel.close()
    return Channel.adopt(number)


def settings(*names: str, signer: Authority) -> TlsSettings:
    """Give settings with a certificate for each name."""
    pairs = [signer.server(name) for name in names or (HOST,)]
    return TlsSettings([(str(path), str(key)) for path, key in pairs])


def trust(signer: Authority, version: str = "") -> ssl.SSLContext:
    """Give a client's context; version: "TLSv1_2" or "TLSv1_3", if only that."""
    context = ssl.create_default_context(cafile=str(signer.ca))
    if version:
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    return context


def together(*parts: Callable[[], object]) -> list[object]:
    """Do some things at once; give what they gave."""
    results: list[object] = [None] * len(parts)

    def do(place: int) -> None:
        results[place] = parts[place]()

    threads = [threading.Thread(target=do, args=(n,)) for n in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_SECONDS)
    return results


def reset(held: socket.socket) -> None:
    """Close a TCP connection in the rude way."""
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    held.close()


def drain(held: socket.socket) -> bytes:
    """Read to the end, which may be a reset."""
    parts = []
    try:
        while part := held.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)
