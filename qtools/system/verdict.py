# SPDX-License-Identifier: ISC
"""One-octet notes from a link of the chain back to popup.

An exit code comes too late: popup wants to log a login when it happens, and must not
speak after the session has spoken. QTOOLS_VERDICT names a descriptor on which checkpw
writes ACCEPTED and pop3d GREETED. Programs of others leave it alone, and popup then
goes by the exit code, as qmail-popup does.
"""

import posix

VARIABLE = b"QTOOLS_VERDICT"

ACCEPTED = b"A"  # the credential is good; the next program runs now
GREETED = b"G"  # the session has spoken; every further word is its own


def tell(note: bytes) -> None:
    """Write one note; after GREETED the descriptor is closed and forgotten."""
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
