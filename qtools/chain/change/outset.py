# SPDX-License-Identifier: ISC
"""How a conversation by errands begins: with whom, and as whom its dialogue runs."""

import posix
import sys

from qtools.system import confine, fdio, ucspi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.chain.change.errands import Confine
    from qtools.system.options import Values


def know_client(environ: dict[bytes, bytes]) -> bytes:
    """Give the client's address, and leave it where PAM's side looks for it."""
    address, _ = ucspi.peer(environ)
    if address != fdio.UNKNOWN:
        environ[b"TCPREMOTEIP"] = address
    return address


def confining(values: "Values") -> "Confine":
    """Give what the dialogue does to give up its privileges, if there are any.

    Takes the options --user and --chroot.
    """
    user = values.get("user", confine.USER)
    root = values.get("chroot", "").encode(sys.getfilesystemencoding())
    if posix.geteuid():
        return lambda: None
    return lambda: confine.confine(user, root)
