# SPDX-License-Identifier: ISC
"""Drive a Transaction over a connection and a maildrop.

The one place where a session's actions meet descriptors. Replies are gathered and leave
in one write when the client's commands have been answered: a reply in two small writes
waits 40 ms for the client's delayed acknowledgement.
"""

import posix

from qtools.errors import EXIT_DONE, Failure
from qtools.maildrop.interface import Gone
from qtools.protocol.message import CHUNK_OCTETS, Encoder, TopCutter
from qtools.sessions.actions import Close, Send, SendMessage, Trace, Update
from qtools.system.fdio import PeerLost, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.maildrop.interface import Maildrop
    from qtools.sessions.actions import Action
    from qtools.sessions.transaction import Transaction
    from qtools.system.fdio import Wire

BATCH_OCTETS = 65536  # gathered at most before a write, but for one chunk
READ_OCTETS = 8192  # some hundred pipelined commands


class Conversation:
    """One Transaction, its wire and its maildrop.

    why: how it ended, in words for the report. trouble: what went wrong here, else
    empty. retrieved, octets: messages sent, whole or by TOP, and their octets. trace:
    takes each line of the client, masked.
    """

    def __init__(
        self,
        session: "Transaction",
        drop: "Maildrop",
        wire: "Wire",
        *,
        blank_line: bool = False,
        trace: "Callable[[bytes], None] | None" = None,
    ) -> None:
        self.code = EXIT_DONE
        self.why = ""
        self.trouble = ""
        self.retrieved = self.octets = 0
        self._session = session
        self._drop = drop
        self._wire = wire
        self._blank_line = blank_line
        self._trace = trace
        self._held: list[bytes] = []
        self._held_octets = 0

    def run(self) -> int:
        """Converse to the end and give the exit code."""
        try:
            self._perform(self._session.greet())
            self._flush()
            while self._session.is_open:
                data = self._wire.read(READ_OCTETS)
                if not data:
                    self._lose("connection closed")
                self._feed(data)
        except TimedOut:
            self._lose("timeout")
        except PeerLost:
            self._lose("connection lost")
        except _Broken as why:
            # Without the final dot no client takes the message for a whole one.
            self.why, self.trouble = "read error", str(why)
        self._drop.tidy()
        return self.code

    def _feed(self, data: bytes) -> None:
        """Answer what came in.

        Line by line: the replies to many pipelined commands must not all be in memory
        at once.
        """
        for line in data.splitlines(keepends=True):
            self._perform(self._session.feed(line))
        self._flush()

    def _lose(self, why: str) -> None:
        """End without the client."""
        self._held, self._held_octets = [], 0
        if not self.why:
            self._perform(self._session.lost(why))

    def _perform(self, actions: "list[Action]") -> None:
        for action in actions:
            if isinstance(action, Send):
                self._put(action.data)
            elif isinstance(action, SendMessage):
                self._send_message(action)
            elif isinstance(action, Update):
                # What cannot be delivered now was not received: then keep the mail.
                self._flush()
                failed = self._drop.update(action.deleted)
                self._perform(self._session.updated(failed))
            elif isinstance(action, Close):
                self.code, self.why = action.code, action.why
            elif isinstance(action, Trace) and self._trace is not None:
                self._trace(action.line)

    def _send_message(self, action: SendMessage) -> None:
        try:
            descriptor = self._drop.open(action.number)
        except (Gone, Failure):
            self._put(action.failure)
            return
        try:
            chunk = _read(descriptor)
        except _Broken:
            self._put(action.failure)
        else:
            self._put(action.status)
            self._copy(descriptor, chunk, action.body_lines)
        finally:
            posix.close(descriptor)

    def _copy(self, descriptor: int, chunk: bytes, body_lines: int | None) -> None:
        """Send a message, one chunk behind, so that the dot leaves with the last."""
        encoder = Encoder()
        cutter = None if body_lines is None else TopCutter(body_lines)
        ready = b""
        while chunk:
            self._put(ready)
            self.octets += len(ready)
            if cutter is not None:
                chunk = cutter.feed(chunk)
            ready = encoder.feed(chunk)
            if cutter is not None and cutter.is_done:
                break
            chunk = _read(descriptor)
        self._put(ready + encoder.finish(blank_line=self._blank_line))
        self.octets += len(ready)
        self.retrieved += 1

    def _put(self, data: bytes) -> None:
        """Gather output; send it when there is much."""
        self._held.append(data)
        self._held_octets += len(data)
        if self._held_octets >= BATCH_OCTETS:
            self._flush()

    def _flush(self) -> None:
        held, self._held, self._held_octets = self._held, [], 0
        if held:
            self._wire.write(b"".join(held))


class _Broken(Exception):
    """A message could not be read to its end."""


def _read(descriptor: int) -> bytes:
    try:
        return posix.read(descriptor, CHUNK_OCTETS)
    except OSError as why:
        raise _Broken(f"unable to read a message: {why.strerror}") from why
