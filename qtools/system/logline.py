# SPDX-License-Identifier: ISC
"""The session log: one line an event, in s/qmail's shape, safe to act upon.

The shape is `popup: pid N Accept::AUTH::User P:POP3 S:address:host ?~ 'user'` with
notes behind it. Whatever a stranger chose - a user name, a host name - is escaped, so
that nobody can write a line that a ban rule takes for another's.
"""

import posix

LOG_DESCRIPTOR = 5  # where s/qmail's tools log

_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b"'\\\"")


def escape(text: bytes) -> str:
    r"""Write octets so that a log can hold them.

    Everything but visible ASCII, and the blank, both quotes and the backslash, becomes
    a backslash, an x and two hex digits.
    """
    if text.isalnum():
        return text.decode()
    return "".join(
        chr(octet) if octet in _PLAIN else f"\\x{octet:02x}" for octet in text
    )


class SessionLog:
    """Where the lines of this connection go, and what stands in each of them."""

    def __init__(
        self, descriptor: int, program: str, address: bytes, host: bytes
    ) -> None:
        self.descriptor = descriptor
        self._program = program
        # A colon in the name would make part of it look like the address's end.
        name = escape(host).replace(":", "\\x3a")
        self._source = f"S:{escape(address)}:{name}"
        self.protocol = "POP3"

    def line(self, event: str, user: bytes, note: str = "") -> bytes:
        """Give one line with its end; event is Action::Type::Condition."""
        line = (
            f"{self._program}: pid {posix.getpid()} {event} P:{self.protocol}"
            f" {self._source} ?~ '{escape(user)}'"
        )
        return (line + " " + note).rstrip().encode() + b"\n"

    def write(self, event: str, user: bytes, note: str = "") -> None:
        """Write one line.

        A log that can't be written costs nobody his mail: the error is dropped.
        """
        try:
            posix.write(self.descriptor, self.line(event, user, note))
        except OSError:
            return


def is_usable(descriptor: int, taken: set[int]) -> bool:
    """Tell whether a descriptor can be a log: open, and nobody else's.

    Takes the descriptors known to be in use besides the client's. One that leads to
    the same file as one of these is not a log, whatever its number.
    """
    try:
        there = _identity(descriptor)
        return there not in [_identity(other) for other in {0, 1, *taken}]
    except OSError:
        return False


def _identity(descriptor: int) -> tuple[int, int]:
    status = posix.fstat(descriptor)
    return status.st_dev, status.st_ino
