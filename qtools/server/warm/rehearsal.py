# SPDX-License-Identifier: ISC
"""Rehearse sessions before the first fork, so that sessions find everything warm.

The interpreter rewrites code that runs often into code that touches less, and fills
caches on the way. What has not been done before the fork every session does anew, in
pages that are copied for it. So the nursery serves itself some sessions over a socket
pair, as whoever it is, from a Maildir in a directory of its own.
"""

import _socket
import posix
from time import time

from qtools.accounts.interface import Identity
from qtools.server import channel as channels
from qtools.server.warm.session import Session
from qtools.system import privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 32  # the interpreter takes 8 to 16 calls until it is content
SCRIPT = (
    b"CAPA\r\nNOOP\r\nUIDL\r\nLIST\r\nSTAT\r\nRETR 1\r\nTOP 2 1\r\nDELE 1\r\nRSET\r\n"
)
SHORT_SCRIPT = b"STAT\r\nQUIT\r\n"
ENVIRONMENT = b"TCPREMOTEIP=127.0.0.1\0PROTO=TCP\0POP3METHOD=User\0POP3LANG=en"
PLACES = (b"/run", b"/tmp", b"/var/tmp")
PREFIX = b"qtools-rehearsal-"
FORGOTTEN_SECONDS = 60.0  # no rehearsal takes that long
MESSAGES = (b"1.rehearsal.qtools", b"2.rehearsal.qtools,S=14,W=16")
TEXT = b"Subject: a\n\nb\n"
REPLY_OCTETS = 65536
MESSAGE_MODE, FOLDER_MODE = 0o600, 0o700


class Rehearsal(Session):
    """A session that stays what it is."""

    def become(self, who: Identity) -> None:
        """Enter the directory; change to the ids that we have, if we are root."""
        if not posix.geteuid():
            privileges.become(0, posix.getegid(), posix.getgroups(), b"")
        privileges.become(-1, -1, [], who.home)

    def went_well(self) -> bool:
        """Tell whether the session did."""
        return not self._tally.code


def rehearse(serve: "Callable[[], int]", argv: list[str], highest: int) -> None:
    """Serve some sessions; where that can't be done the real ones are slower.

    serve: what a session does between becoming the user and its end. highest: no
    descriptor above it is kept. All else that a session changes about its process is
    as it was when this is over.
    """
    root = _maildir()
    if not root:
        return
    environ = dict(posix.environ)
    here = posix.open(".", posix.O_PATH | posix.O_CLOEXEC)
    kept = [posix.dup(descriptor) for descriptor in (0, 1)]
    try:
        for turn in range(TIMES):
            script = SHORT_SCRIPT if turn % 2 else SCRIPT + SHORT_SCRIPT
            session = _serve_one(serve, argv, script, root, highest)
            for descriptor, copy in enumerate(kept):
                posix.dup2(copy, descriptor)
            posix.environ.clear()
            posix.environ.update(environ)
            if not session.went_well():
                break  # it has complained
    except OSError:
        pass
    finally:
        for descriptor, copy in enumerate(kept):
            posix.dup2(copy, descriptor)
            posix.close(copy)
        posix.environ.clear()
        posix.environ.update(environ)
        posix.fchdir(here)
        posix.close(here)
        _remove(root)


def _serve_one(
    serve: "Callable[[], int]",
    argv: list[str],
    script: bytes,
    root: bytes,
    highest: int,
) -> Rehearsal:
    way, far = channels.pair()
    client, near = _socket.socketpair()
    who = Identity(b"nobody", home=root, maildir=root + b"/Maildir")
    client.send(script)
    taken = (way.descriptor, far.descriptor, client.fileno(), near.fileno(), highest)
    session = Rehearsal(serve, argv, max(taken) + 2)
    own = session.nothing
    settled = session.settle(way.descriptor, near.fileno())
    session.serve_one(settled, who, ENVIRONMENT)
    for held in (settled, way, far, client, near):
        held.close()
    for descriptor in (own, session.nothing):
        posix.close(descriptor)
    return session


def _maildir() -> bytes:
    """Make a Maildir in a directory that nobody else can enter; empty if we can't."""
    name = PREFIX + posix.urandom(12).hex().encode()
    for place in PLACES:
        root = place + b"/" + name
        try:
            posix.mkdir(root, FOLDER_MODE)
        except OSError:
            continue
        _clean(place)
        try:
            _fill(root + b"/Maildir")
        except OSError:
            _remove(root)
            continue
        return root
    return b""


def _clean(place: bytes) -> None:
    """Remove what those left who were killed in the middle of it.

    Only what is our own, which nobody else can enter or put there.
    """
    try:
        names = posix.listdir(place)
    except OSError:
        return
    for name in names:
        if name.startswith(PREFIX):
            root = place + b"/" + name
            try:
                facts = posix.stat(root, follow_symlinks=False)
            except OSError:
                continue
            is_old = facts.st_mtime < time() - FORGOTTEN_SECONDS
            if is_old and facts.st_uid == posix.geteuid():
                _remove(root)


def _fill(maildir: bytes) -> None:
    for folder in (b"", b"/new", b"/cur", b"/tmp"):
        posix.mkdir(maildir + folder, FOLDER_MODE)
    for name in MESSAGES:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        message = posix.open(maildir + b"/cur/" + name, flags, MESSAGE_MODE)
        posix.write(message, TEXT)
        posix.close(message)
    for folder in (b"/new", b"/cur"):
        posix.utime(maildir + folder, (1, 1))  # nothing is going on there


def _remove(root: bytes) -> None:
    """Remove what _maildir() made."""
    maildir = root + b"/Maildir"
    try:
        for name in MESSAGES:
            posix.unlink(maildir + b"/cur/" + name)
        for folder in (b"/new", b"/cur", b"/tmp", b""):
            posix.rmdir(maildir + folder)
    except OSError:
        pass
    try:
        posix.rmdir(root)
    except OSError:
        return
