# SPDX-License-Identifier: ISC
"""Cut a stream of octets into bounded lines.

A line that holds a NUL or is too long must get one error reply and nothing else, so
it is reported once, as BAD_LINE, when its end has been seen. The octets of an
over-long line are dropped as they come: a client cannot make us hold more than the
limit. See: RFC 2449 section 4 (255 octets a command), RFC 5034 section 4.
"""

COMMAND_OCTETS = 255  # RFC 2449 section 4, line end included
SASL_OCTETS = 12288  # RFC 4422 clients send long tokens; what Dovecot and Cyrus take

BAD_LINE = b"\0"  # never a good line, as no good line holds a NUL


class Lines:
    """Octets received but not yet consumed as lines."""

    __slots__ = ("_dropping", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._dropping = False

    def feed(self, data: bytes) -> None:
        """Take octets from the network."""
        self._held += data

    def next(self, limit: int = COMMAND_OCTETS) -> bytes | None:
        """Give the next line without its CRLF or LF, BAD_LINE, or None for "not yet".

        Takes the limit in octets, line end included.
        """
        end = self._held.find(b"\n")
        if end < 0:
            # One CR more may belong to the line end that is still to come.
            if len(self._held) >= limit or self._dropping:
                self._held, self._dropping = b"", True
            return None
        line, self._held = self._held[:end], self._held[end + 1 :]
        if self._dropping or end >= limit or b"\0" in line:
            self._dropping = False
            return BAD_LINE
        return line[:-1] if line.endswith(b"\r") else line

    def forget(self) -> bytes:
        """Drop everything held and give it to the caller."""
        held, self._held, self._dropping = self._held, b"", False
        return held
