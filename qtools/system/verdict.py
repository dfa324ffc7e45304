# SPDX-License-Identifier: ISC
"""One-octet notes from a link of the chain back to popup.

An exit code comes too late: popup wants to log a login when it happens, and must not
speak after the session has spoken. QTOOLS_VERDICT names a descriptor on which checkpw
writes ACCEPTED, or EXPIRED before it refuses, and pop3d GREETED. Programs of others
leave it alone, and popup then goes by the exit code, as qmail-popup does.

A server that runs these programs in its own processes asks to be told directly.
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Listener(Protocol):
        """Who is told in this process."""

        def note(self, note: bytes) -> None:
            """Take ACCEPTED or GREETED."""

        def ended(self, why: str, counts: "tuple[int | None, ...]") -> None:
            """Take how a session ended and what it did, as the function below."""


VARIABLE = b"QTOOLS_VERDICT"
DIALOGUE = b"QTOOLS_DIALOGUE"  # a descriptor on which a verifier speaks with the client

LOWEST = 10  # of our descriptors; what is below belongs to the chain

ACCEPTED = b"A"  # the credential is good; the next program runs now
EXPIRED = b"X"  # the credential is good but for its age; an exit code of 1 follows
GREETED = b"G"  # the session has spoken; every further word is its own


_listeners: "list[Listener]" = []


def listen(listener: "Listener") -> None:
    """Have a listener told from now on, instead of one before him."""
    _listeners[:] = [listener]


def is_heard() -> bool:
    """Tell whether somebody is told, who would speak for a session that can't begin."""
    return bool(_listeners) or VARIABLE in posix.environ


def ended(why: str, counts: "tuple[int | None, ...]") -> None:
    """Tell a listener how a session ended.

    counts: messages retrieved, octets sent of messages, messages deleted, their
    octets, messages left, their octets; None for octets that nobody has counted.
    """
    for listener in _listeners:
        listener.ended(why, counts)


def dialogue() -> int:
    """Give the descriptor on which a verifier may speak; -1 when there is none."""
    number = posix.environ.get(DIALOGUE, b"")
    descriptor = int(number) if number.isdigit() and len(number) < 10 else -1
    try:
        posix.fstat(descriptor)
    except OSError:
        return -1  # somebody else's variable
    return descriptor if descriptor >= LOWEST else -1


def hush() -> None:
    """Let go of the dialogue: only the verifier, who has it already, speaks there."""
    descriptor = dialogue()
    posix.environ.pop(DIALOGUE, None)
    if descriptor >= 0:
        posix.close(descriptor)


def tell(note: bytes) -> None:
    """Write one note; after GREETED the descriptor is closed and forgotten."""
    for listener in _listeners:
        listener.note(note)
    number = posix.environ.get(VARIABLE, b"")
    if not number.isdigit():
        return
    descriptor = int(number)
    try:
        posix.write(descriptor, note)
        if note == GREETED:
            posix.close(descriptor)
    except OSError:
        pass  # popup has gone; the session itself is unharmed
    if note == GREETED:
        del posix.environ[VARIABLE]
