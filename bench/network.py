# SPDX-License-Identifier: ISC
"""A network of the bench's own: a loopback that nobody else can reach or use up.

Servers that insist on port 110 of all addresses can run there, nothing that is started
is open to others for a moment, and the ports of ten thousand connections are nobody
else's.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sh22x")  # name and flags, in the 40 octets of an ifreq


def leave_for_own_network() -> None:
    """Enter a new network namespace and bring its loopback up.

    Raises: OSError when the kernel doesn't allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", _IFF_UP))
