# SPDX-License-Identifier: ISC
"""Answer POP3 commands with ready-made octets: the floor for any server in Python.

It knows no user and opens no mailbox; given a file, each RETR sends that, converted
once before the greeting. What it reaches is what load generator, loopback and a single
interpreter start allow; nothing that does the work can be better. Run by tcpserver with
the same interpreter and flags as our own programs; never on a public address.
"""

import posix
import sys


def write_all(data: bytes) -> None:
    """Write everything, however often the kernel takes only a part."""
    room = memoryview(data)
    while room:
        room = room[posix.write(1, room) :]


def main() -> None:
    """Greet, answer, leave on QUIT or when the client has gone."""
    text = b""
    if len(sys.argv) > 1:
        with open(sys.argv[1], "rb", buffering=0) as file:
            text = file.readall()
    text = text.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
    message = b"+OK\r\n" + text + b".\r\n"
    write_all(b"+OK\r\n")
    while line := posix.read(0, 512):
        write_all(message if line.startswith(b"RETR") else b"+OK\r\n")
        if line.startswith(b"QUIT"):
            break
    posix._exit(0)


main()
