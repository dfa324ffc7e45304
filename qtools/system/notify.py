# SPDX-License-Identifier: ISC
"""What a service manager hears from us, and the sockets it hands over.

systemd wants datagrams on NOTIFY_SOCKET and passes listening sockets from descriptor 3
on; s6 wants a newline on a descriptor. All are a few lines each, and each takes its
variables away, so that no program started by us speaks in our name.
See: sd_notify(3), sd_listen_fds_with_names(3), systemd.service(5) on notify-reload, and
s6's page on notification-fd.
"""

import _socket
import posix
from time import monotonic_ns

from qtools.errors import Hard

NOTIFY_SOCKET = b"NOTIFY_SOCKET"
LISTEN_PID, LISTEN_FDS = b"LISTEN_PID", b"LISTEN_FDS"
LISTEN_FDNAMES = b"LISTEN_FDNAMES"
LISTEN_VARIABLES = (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, b"LISTEN_PIDFDID")

PATIENCE_SECONDS = 2.0  # a manager that does not read must not hold up the server
FIRST = 3  # SD_LISTEN_FDS_START; s6 takes no smaller number either
MOST_SOCKETS = 256  # nobody has that many listeners; a typing error may
NAME_OCTETS = 255  # FDNAME_MAX
UNNAMED = b"unknown"  # sd_listen_fds_with_names() says so


class Notifier:
    """The way to systemd, or nowhere when it does not listen.

    Takes the environment, and NOTIFY_SOCKET out of it. Each method tells whether the
    message was delivered; nothing depends on it.
    """

    def __init__(self, environ: dict[bytes, bytes]) -> None:
        self._address = environ.pop(NOTIFY_SOCKET, b"")

    def ready(self) -> bool:
        """Say that we serve, after the start or after reloading."""
        return self._send("READY=1")

    def reloading(self) -> bool:
        """Say that the configuration is read anew; ready() has to follow."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self) -> bool:
        """Say that we are about to end."""
        return self._send("STOPPING=1")

    def _send(self, message: str) -> bool:
        address = self._address
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        elif not address.startswith(b"/"):
            return False  # none, or a kind that this machine's systemd does not use
        try:
            made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0)
        except OSError:
            return False
        try:
            made.settimeout(PATIENCE_SECONDS)
            made.connect(address)
            made.send(message.encode())
        except OSError:
            return False
        finally:
            made.close()
        return True


def notification(descriptor: int) -> None:
    """Tell s6 that we serve: a newline on the descriptor it waits on, and no more.

    Raises: Hard when the descriptor is not open for writing, or below 3.
    """
    if descriptor < FIRST:
        raise Hard(f"descriptor {descriptor} can't be for notification: take 3 or more")
    try:
        posix.write(descriptor, b"\n")
    except BrokenPipeError:
        pass  # the supervisor has gone and will find out by itself
    except OSError as why:
        raise Hard(f"unable to notify on {descriptor}: {why.strerror}") from why
    posix.close(descriptor)


class Activated:
    """A socket that systemd has opened for us: its descriptor, and its name there."""

    __slots__ = ("descriptor", "name")

    def __init__(self, descriptor: int, name: bytes) -> None:
        self.descriptor = descriptor
        self.name = name


def activated(environ: dict[bytes, bytes], pid: int) -> list[Activated]:
    """Give the sockets that were handed over to this process, if any.

    environ: the variables are taken out of it, whomever they are for. pid: ours.
    What is given is closed when a program is executed.
    Raises: Hard when the variables make no sense or a descriptor is not open.
    """
    words = {name: environ.pop(name, b"") for name in LISTEN_VARIABLES}
    if not words[LISTEN_PID] or not words[LISTEN_FDS]:
        return []
    if _number(LISTEN_PID, words[LISTEN_PID]) != pid:
        return []
    many = _number(LISTEN_FDS, words[LISTEN_FDS])
    if not 1 <= many <= MOST_SOCKETS:
        raise Hard(f"LISTEN_FDS is not 1 to {MOST_SOCKETS}, but {many}")
    names = _names(words[LISTEN_FDNAMES]) or [UNNAMED] * many
    if len(names) != many:
        raise Hard(f"LISTEN_FDS speaks of {many}, LISTEN_FDNAMES of {len(names)}")
    found = [Activated(FIRST + place, name) for place, name in enumerate(names)]
    for each in found:
        try:
            posix.set_inheritable(each.descriptor, False)
        except OSError as why:
            text = f"LISTEN_FDS speaks of descriptor {each.descriptor}: {why.strerror}"
            raise Hard(text) from why
    return found


def _number(name: bytes, word: bytes) -> int:
    if not word.isdigit() or len(word) > len(str(2**31)):
        raise Hard(f"{name.decode()} is no number: {word!r}")
    return int(word)


def _names(word: bytes) -> list[bytes]:
    """Cut names apart; none when the variable was not there."""
    names = word.split(b":") if word else []
    for name in names:
        if len(name) > NAME_OCTETS or not all(0x20 <= octet < 0x7F for octet in name):
            raise Hard(f"LISTEN_FDNAMES has an impossible name: {name!r}")
    return names
