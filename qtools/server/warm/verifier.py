# SPDX-License-Identifier: ISC
"""A verifier: the only process that sees hashes, and that sees no network.

It takes one record at a time from the login worker, checks it and answers with an exit
code. When the record is good, identity and connection go to the nursery, never back to
the worker: whoever has taken that over can ask, as any client can, and nothing else.
After so many checks it has itself replaced, because every check leaves traces of a
secret in its memory. A source that hangs is the end of it: the kernel's alarm kills it,
and the master starts another.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix

from qtools.accounts import answer, entry
from qtools.accounts.registry import words
from qtools.accounts.standing import Standing
from qtools.chain.front import make_stamp
from qtools.errors import (
    EXIT_MISUSE,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    Failure,
    Refused,
    Temporary,
)
from qtools.protocol.record import RECORD_OCTETS, unpack
from qtools.server.channel import close_all
from qtools.server.warm import packets
from qtools.server.warm.packets import ASK, LAUNCH, WANT
from qtools.server.warm.stamps import Stamps
from qtools.system.guard import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.interface import Identity
    from qtools.server.channel import Channel
    from qtools.server.warm.chain import WarmChain

MOST_CHECKS = 10_000  # then a fresh process takes its place
MOST_WANTED = 256  # stamps asked for at once: a packet's worth
MOST_ENVIRONMENT = 32768
REFUSED = frozenset((EXIT_REFUSED, EXIT_MISUSE))


class Verifier:
    """What one verifier keeps between records."""

    def __init__(self, chain: "WarmChain", argv: list[str], seconds: int) -> None:
        """Load libraries; nothing is opened yet.

        seconds: the longest check.
        Raises: Hard.
        """
        checker = chain.checker
        self._argv = argv
        self._seconds = seconds
        self._is_verbose = "verbose" in checker
        self._allow_empty = "allow-empty" in checker
        self._allow_root = "allow-root" in checker
        self._sources = Standing(words(checker.every("accounts"), posix.environ))
        if "socket" in checker:
            posix.environ[entry.AUTH_SOCKET] = checker["socket"].encode()
        attempts = chain.front.number("attempts", 3, least=1)
        self._stamps = Stamps(lambda: make_stamp(chain.hostname), attempts)
        self._checks = 0

    def run(self, worker: "Channel", nursery: "Channel", master: "Channel") -> int:
        """Serve a login worker until it is gone, or a check takes too long."""
        _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGALRM])
        while True:
            received = worker.receive(waits=True)
            packet, descriptors = received or (b"", [])
            if not packet:
                return 0
            try:
                self._serve(packet, descriptors, worker, nursery)
                if self._checks == MOST_CHECKS:
                    self._checks += 1
                    for other in (master, worker):
                        other.send(packets.head(packets.TIRED), waits=True)
            except ValueError as why:
                complain(self._argv, f"the login worker sends what it must not: {why}")
                return EXIT_MISUSE
            except BrokenPipeError:
                return 0
            finally:
                close_all(descriptors)

    def _serve(
        self,
        packet: bytes,
        descriptors: list[int],
        worker: "Channel",
        nursery: "Channel",
    ) -> None:
        kind, identifier, detail = packets.read_head(packet)
        if kind == WANT:
            packets.read_fields(packet, 0)
            stamps = self._stamps.give(min(detail, MOST_WANTED))
            fields = packets.fields(b" ".join(stamps))
            worker.send(packets.head(packets.STAMPS) + fields, waits=True)
            return
        if kind != ASK or len(descriptors) != 1:
            raise ValueError("an unknown request")
        record, environment, tag = packets.read_fields(packet, 3)
        if len(record) > RECORD_OCTETS or len(environment) > MOST_ENVIRONMENT:
            raise ValueError("a request with too long a field")
        method = packets.mechanism_of(detail).encode()
        code, who = self._verdict(record, method)
        if who is not None:
            fields = packets.fields(answer.pack(0, who), environment, tag)
            order = packets.head(LAUNCH, identifier) + fields
            if not nursery.send(order, descriptors, waits=True):
                code = EXIT_TEMPORARY
        worker.send(packets.head(packets.ANSWER, identifier, code), waits=True)
        self._checks += 1

    def _verdict(self, record: bytes, method: bytes) -> "tuple[int, Identity | None]":
        """Give the exit code, and who it is when that is 0."""
        _signal.alarm(self._seconds)
        try:
            who = self._check(record, method)
        except Failure as why:
            if self._is_verbose or not isinstance(why, Refused):
                complain(self._argv, str(why))
            return (why.code if why.code in REFUSED else EXIT_TEMPORARY), None
        except Exception as why:  # noqa: BLE001  # a bug must read as "try again later"
            complain(self._argv, f"unexpected {type(why).__name__}: {why}")
            return EXIT_TEMPORARY, None
        finally:
            _signal.alarm(0)
        return 0, who

    def _check(self, record: bytes, method: bytes) -> "Identity":
        if method not in entry.PLAINTEXT_METHODS and not self._is_ours(record):
            raise Refused("an answer to a challenge that is not out")
        sources = self._sources.sources()
        who = entry.check(record, sources, method, allow_empty=self._allow_empty)
        if not entry.may_be(who, allow_root=self._allow_root):
            raise Refused("uid 0")
        _find_home(who.home)
        if method not in entry.PLAINTEXT_METHODS:
            self._stamps.spend(unpack(record)[2])
        return who

    def _is_ours(self, record: bytes) -> bool:
        """Tell whether the record's challenge is one that is out; that is one use."""
        try:
            return self._stamps.take(unpack(record)[2])
        except ValueError:
            return False


def _find_home(home: bytes) -> None:
    """Make sure that a home is there, if only because nobody is let in without one.

    checkpw enters it before it says that it accepts, and here the session does that
    when all is said. What else can keep a user out of it, only he finds out.
    Raises: Temporary.
    """
    if not home:
        return
    try:
        posix.stat(home)
    except (FileNotFoundError, NotADirectoryError) as why:
        raise Temporary(f"unable to enter {home!r}: {why.strerror}") from why
    except OSError:
        return
