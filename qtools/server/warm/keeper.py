# SPDX-License-Identifier: ISC
"""One attempt, in a process of its own, and what it has begun until that is over.

For sources whose checks may wait, print, crash or hold on to something. The process
checks one record and tells its verifier what it has found. When something is to be
ended later, a PAM session say, it stays: the other end of its lifeline is with the
session process and with nobody else, so whatever becomes of that one, or of verifier
and nursery, is heard of here. See: accounts.interface on Identity.ending.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix

from qtools.accounts import answer
from qtools.accounts.entry import METHOD
from qtools.errors import EXIT_TEMPORARY
from qtools.server import environment
from qtools.server.processes import keep_only
from qtools.server.warm import packets
from qtools.system.guard import complain
from qtools.system.ucspi import CONTROL, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from qtools.accounts.interface import Identity
    from qtools.server.channel import Channel

    Judge = Callable[[], tuple[int, Identity | None]]

READ_OCTETS = 512
# What sources may hear of the client besides how he logs in. Rules of an administrator
# set other variables, and so would a login worker that has been taken over, to choose
# what a program of root's does: LD_PRELOAD, SSL_CERT_FILE, SSLKEYLOGFILE.
FOR_SOURCES = frozenset(
    (
        *(set(environment.NAMES) - {CONTROL, READ, WRITE}),
        *(b"SSL_PROTOCOL", b"SSL_CIPHER", b"SSL_CIPHER_USEKEYSIZE"),
        *(b"SSL_TLS_SNI_SERVERNAME", b"SSL_CLIENT_S_DN", b"SSL_CLIENT_M_SERIAL"),
        *(b"POP3LANG", b"POP3UTF8", b"POP3CAPA"),
    )
)


def put(environ: dict[bytes, bytes], text: bytes, method: str) -> None:
    """Set what is known of a client, and unset what is left of another.

    text: what the login worker tells. method: how the client logs in, which is no
    matter of what is told: a digest would be called a token.
    """
    for name in FOR_SOURCES:
        environ.pop(name, None)
    told = packets.variables(text)
    environ.update({name: told[name] for name in told if name in FOR_SOURCES})
    environ[METHOD] = method.encode()


class Keeper:
    """What the new process does.

    channel: the way to the verifier. kept: descriptors besides this one. seconds: the
    longest that ending may take; for the check that is the judge's business.
    """

    def __init__(
        self, channel: "Channel", kept: list[int], seconds: int, argv: list[str]
    ) -> None:
        self._channel = channel
        self._kept = kept
        self._seconds = seconds
        self._argv = argv

    def run(self, told: bytes, method: str, judge: "Judge") -> "NoReturn":
        """Check, tell, and if need be stay; whatever happens, leave.

        told: what the login worker tells of the client. method: how he logs in.
        """
        try:
            keep_only([0, 1, 2, self._channel.descriptor, *self._kept])
            put(posix.environ, told, method)
            _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGALRM])
            self._attempt(judge)
        finally:
            posix._exit(0)

    def _attempt(self, judge: "Judge") -> None:
        code, who = judge()
        ending = who.ending if who is not None else None
        if ending is None:
            self._tell(code, who, [])
            return
        try:
            lifeline, writer = posix.pipe2(posix.O_CLOEXEC)
            is_told = self._tell(code, who, [writer])
            posix.close(writer)
            if is_told:
                self._wait(lifeline)
        finally:
            self._end(ending)

    def _tell(self, code: int, who: "Identity | None", lifelines: list[int]) -> bool:
        """Tell the verifier; say whether he is there to hear it."""
        try:
            packet = answer.pack(code, who)
        except ValueError as why:
            complain(self._argv, f"an account has too much to it: {why}")
            self._tell(EXIT_TEMPORARY, None, [])
            return False
        try:
            return self._channel.send(packet, lifelines, waits=True)
        except BrokenPipeError:
            return False

    def _wait(self, lifeline: int) -> None:
        """Wait for the end of the session."""
        self._channel.close()
        while posix.read(lifeline, READ_OCTETS):
            continue

    def _end(self, ending: "Callable[[], None]") -> None:
        _signal.alarm(self._seconds)
        try:
            ending()
        except Exception as why:  # noqa: BLE001  # nobody is left who could be told
            text = f"unable to end a session: {type(why).__name__}: {why}"
            complain(self._argv, text)
