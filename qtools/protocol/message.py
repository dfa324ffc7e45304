# SPDX-License-Identifier: ISC
"""Messages on their way to the client: line ends, dots, octets, the part TOP shows.

All of it works on chunks cut anywhere, in memory that depends on the chunk alone: a
message of 30 MB or a line without end costs no more than a short one. A bare LF becomes
CRLF, a CRLF stays one, a bare CR is an octet like others.
See: RFC 1939 section 3 (multi-line responses, byte-stuffing), section 7 (TOP), section
11 (octets).
"""

# Larger chunks fall out of the processor's cache and take twice as long.
CHUNK_OCTETS = 131072

# Indexing octets gives numbers.
_LF = 10


class Encoder:
    """Turn a stored message into the body of a multi-line reply."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b"\n"  # the octet before the next one; a message begins a line

    def feed(self, chunk: bytes) -> bytes:
        """Give the chunk with CRLF line ends and dots doubled."""
        if not chunk:
            return b""
        last, self._last = self._last, chunk[-1:]
        head = b""
        if last == b"\r" and chunk[0] == _LF:  # a CRLF cut in two: the CR is out
            head, last, chunk = b"\n", b"\n", chunk[1:]
        if last == b"\n" and chunk[:1] == b".":
            head += b"."
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n")
        if b"\n." not in chunk:
            return head + chunk.replace(b"\n", b"\r\n")
        parts = [part.replace(b"\n", b"\r\n") for part in chunk.split(b"\n.")]
        return head + b"\r\n..".join(parts)

    def finish(self, *, blank_line: bool = False) -> bytes:
        """Give what ends the reply: a line end that was missing, then the dot.

        blank_line: put an empty line before the dot, as qmail-pop3d does.
        """
        end = b"" if self._last == b"\n" else b"\r\n"
        return end + (b"\r\n.\r\n" if blank_line else b".\r\n")


class Counter:
    """Count the octets a message has with CRLF line ends, before stuffing."""

    __slots__ = ("_last", "_octets")

    def __init__(self) -> None:
        self._last = b"\n"
        self._octets = 0

    def feed(self, chunk: bytes) -> None:
        """Count a chunk."""
        if not chunk:
            return
        # As long as the text stays in the cache this is faster than count().
        self._octets += len(chunk.replace(b"\n", b"\r\n"))
        if b"\r" in chunk:
            self._octets -= chunk.count(b"\r\n")
        if self._last == b"\r" and chunk[0] == _LF:
            self._octets -= 1
        self._last = chunk[-1:]

    def total(self) -> int:
        """Give the octets, with those of a final line end that is missing."""
        return self._octets + (0 if self._last == b"\n" else 2)


class TopCutter:
    """Let a stored message pass up to the given line of its body."""

    __slots__ = ("_left", "_tail", "is_done")

    def __init__(self, body_lines: int) -> None:
        self.is_done = False
        self._left = body_lines
        self._tail: bytes | None = b"\n"  # the last octets of the header; then None

    def feed(self, chunk: bytes) -> bytes:
        """Give the part of the chunk that belongs to TOP's answer."""
        start = 0
        if self._tail is not None:
            start = self._header_end(chunk, self._tail)
            if not start:
                self._tail = (self._tail + chunk[-2:])[-2:]
                return chunk
            self._tail = None
        return chunk[: start + self._body(chunk[start:])]

    def _header_end(self, chunk: bytes, tail: bytes) -> int:
        """Find where the body begins: behind the first empty line, 0 if not here."""
        text = tail + chunk
        ends = [
            at + len(mark)
            for mark in (b"\n\n", b"\n\r\n")
            if (at := text.find(mark)) >= 0
        ]
        return min(ends) - len(tail) if ends else 0

    def _body(self, text: bytes) -> int:
        """Give how many octets of the body may still pass."""
        lines = text.count(b"\n")
        if lines < self._left:
            self._left -= lines
            return len(text)
        self.is_done = True
        return len(text) - len(text.split(b"\n", self._left)[-1])
