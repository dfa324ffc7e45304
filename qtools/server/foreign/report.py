# SPDX-License-Identifier: ISC
"""What is told on descriptor 2 about foreign chains: tcpserver's lines, in our name.

A line is one write, and one that can't be written at once is lost: a log that is full,
gone or not read costs nobody his connection. What strangers chose - host names, an
ident server's answer - is made harmless as tcpserver does it, by question marks.
See: tcpserver(1) on -q, -Q and -v.
"""

from qtools.system import fdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.errors import Failure

DROPPING = "warning: dropping connection, "
MOST_OCTETS = 100  # of one stranger's word

_HARMLESS = frozenset(range(0x21, 0x7F)) - frozenset(b"%:")


def harmless(word: bytes) -> str:
    """Write a stranger's word so that it can't be taken for anything else in a line."""
    text = "".join(
        chr(octet) if octet in _HARMLESS else "?" for octet in word[:MOST_OCTETS]
    )
    return text + "..." * (len(word) > MOST_OCTETS)


class Report:
    """The lines, as many of them as were asked for, each in a program's name."""

    def __init__(self, program: str, *, is_verbose: bool, is_quiet: bool) -> None:
        self._program = program.encode("utf-8", "surrogateescape")
        self._is_verbose = is_verbose
        self._is_quiet = is_quiet

    def tell(self, text: str) -> None:
        """Write a line about what goes well: -v only."""
        if self._is_verbose:
            self._write(text)

    def warn(self, text: str) -> None:
        """Write a line about what does not: not with -q."""
        if not self._is_quiet:
            self._write(text)

    def drop(self, why: "Failure | str") -> None:
        """Say why a connection is closed without being served."""
        self.warn(f"{DROPPING}{why}")

    def status(self, count: int, limit: int) -> None:
        """Say how many connections there are and may be."""
        self.tell(f"status: {count}/{limit}")

    def _write(self, text: str) -> None:
        line = text.encode("ascii", "backslashreplace")
        line = line.replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        fdio.write_line(2, self._program + b": " + line + b"\n")
