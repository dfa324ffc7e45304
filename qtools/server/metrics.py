# SPDX-License-Identifier: ISC
"""Counters of the server, in Prometheus' text format.

All there can ever be is a row below: names are fixed, a label has one of a few values
and whatever else is given counts as "other", so no stranger can make the file grow.
The process that counts is confined and sends its numbers as one packet; the one that
writes the file checks them like anything that comes from there.
See: Prometheus, exposition formats, text format 0.0.4.
"""

import posix
from binascii import crc32
from contextlib import suppress
from itertools import product
from struct import Struct

from qtools.chain.request import MECHANISMS
from qtools.errors import Temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Key = tuple[str, tuple[str, ...]]

PREFIX = "qtools_pop_"
OTHER = "other"
MOST = 10.0**18  # more than any counter gets to; many of them are not yet infinite
FILE_MODE = 0o644  # node_exporter reads it as another user

COUNTER, GAUGE, SUMMARY = "counter", "gauge", "summary"

REFUSALS = ("total", "source", "rules", "proxy")
FAILURES = ("refused", "expired", "misuse", "hard", "temporary")
PROTOCOLS = ("TLSv1.2", "TLSv1.3")
WORKERS = ("login", "tls", "verifier", "nursery")


class Family:
    """Samples that belong together.

    labels: the values each label may have besides OTHER. A summary has two samples,
    whose names end in _sum and _count.
    """

    __slots__ = ("keys", "kind", "labels", "name", "text")

    def __init__(
        self,
        name: str,
        kind: str,
        text: str,
        labels: "Mapping[str, tuple[str, ...]] | None" = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.text = text
        self.labels = dict(labels or {})
        ends = ("_sum", "_count") if kind == SUMMARY else ("",)
        choices = product(*((*values, OTHER) for values in self.labels.values()))
        self.keys: list[Key] = [(name + end, one) for one in choices for end in ends]


FAMILIES = (
    Family("connections_total", COUNTER, "Connections accepted."),
    Family(
        "refused_total",
        COUNTER,
        "Connections kept out by a limit, by the rules or for their PROXY header.",
        {"why": REFUSALS},
    ),
    Family("logins_total", COUNTER, "Logins accepted.", {"mechanism": MECHANISMS}),
    Family(
        "failures_total",
        COUNTER,
        "Logins not accepted.",
        {"mechanism": MECHANISMS, "why": FAILURES},
    ),
    Family(
        "tls_handshakes_total", COUNTER, "TLS handshakes done.", {"protocol": PROTOCOLS}
    ),
    Family("tls_failures_total", COUNTER, "TLS handshakes that failed."),
    Family("sessions_total", COUNTER, "Sessions begun."),
    Family("session_seconds", SUMMARY, "How long ended sessions took, in seconds."),
    Family("messages_retrieved_total", COUNTER, "Messages sent as a whole."),
    Family("octets_sent_total", COUNTER, "Octets sent in sessions."),
    Family("messages_deleted_total", COUNTER, "Messages deleted."),
    Family(
        "worker_restarts_total",
        COUNTER,
        "Processes started anew because they had ended unasked.",
        {"kind": WORKERS},
    ),
    Family("connections", GAUGE, "Connections before login."),
    Family("sessions", GAUGE, "Sessions at present."),
    Family("sources", GAUGE, "Sources whose connections count for the limits."),
    Family("verifier_queue", GAUGE, "Logins waiting for a verifier."),
)

_FAMILY_OF = {key[0]: family for family in FAMILIES for key in family.keys}
_KEYS = [key for family in FAMILIES for key in family.keys]
_PLACES = {key: place for place, key in enumerate(_KEYS)}
_IS_GAUGE = [_FAMILY_OF[name].kind == GAUGE for name, _ in _KEYS]
# Numbers of another version, with other rows, are not taken for ours.
_ROWS = crc32(repr(_KEYS).encode())
_PACKET = Struct(f"<I{len(_KEYS)}d")


class Counters:
    """What one process has counted since it started, and what others have told it.

    A process forked from one that counts has to begin with counters of its own.
    """

    def __init__(self) -> None:
        self._own = [0.0] * len(_KEYS)
        self._told: dict[int, tuple[float, ...]] = {}

    def add(self, name: str, labels: "tuple[str, ...]" = (), amount: float = 1) -> None:
        """Add to a counter, or to a summary's _sum, whose _count then grows by one.

        labels: one value for each label of the row, in its order.
        Raises: ValueError for an unknown name, too many or too few labels, a gauge, an
        amount below 0 or above MOST. No stranger can bring that about.
        """
        place = _place(name, labels)
        if _IS_GAUGE[place] or not 0 <= amount <= MOST:
            raise ValueError(f"{name} can't grow by {amount}")
        # A sum above it would not be taken by who asks for all of them.
        self._own[place] = min(self._own[place] + amount, MOST)
        if _FAMILY_OF[name].kind == SUMMARY:
            self._own[place + 1] += 1

    def set(self, name: str, value: float) -> None:
        """Set a gauge, 0 to MOST.

        Raises: ValueError for a name that is no gauge's, or another value.
        """
        place = _place(name, ())
        if not _IS_GAUGE[place] or not 0 <= value <= MOST:
            raise ValueError(f"{name} can't be set to {value}")
        self._own[place] = float(value)

    def values(self) -> list[float]:
        """Give the sums over this process and the others, by the order of the rows."""
        columns = zip(self._own, *self._told.values(), strict=True)
        return [sum(column) for column in columns]

    def pack(self) -> bytes:
        """Give all values as one packet; the next makes good for one that is lost."""
        return _PACKET.pack(_ROWS, *self.values())

    def merge(self, packet: bytes, origin: int) -> None:
        """Take what another process has counted since it started.

        origin: the generation of the crew whose worker it is. The packet takes the
        place of the last one from there.
        Raises: ValueError for anything pack() can't have made.
        """
        if len(packet) != _PACKET.size:
            raise ValueError("counters of the wrong length")
        rows, *values = _PACKET.unpack(packet)
        if rows != _ROWS:
            raise ValueError("counters of other rows")
        if not all(0 <= value <= MOST for value in values):
            raise ValueError("counters with an impossible value")
        self._told[origin] = tuple(values)

    def forget(self, origin: int) -> None:
        """Keep what an ended process has counted, but not its gauges."""
        values = self._told.pop(origin, (0.0,) * len(_KEYS))
        for place, value in enumerate(values):
            if not _IS_GAUGE[place]:
                self._own[place] += value


def _place(name: str, labels: "tuple[str, ...]") -> int:
    """Find a sample; a label's value that is not foreseen is OTHER."""
    family = _FAMILY_OF.get(name)
    if family is None:
        raise ValueError(f"nothing of the name {name} is counted")
    pairs = zip(labels, family.labels.values(), strict=True)
    chosen = tuple(word if word in allowed else OTHER for word, allowed in pairs)
    return _PLACES[name, chosen]


def render(counters: Counters) -> bytes:
    """Give all of it in the text format; OTHER only where something was counted."""
    values = counters.values()
    lines = []
    for family in FAMILIES:
        name = PREFIX + family.name
        lines += [f"# HELP {name} {family.text}", f"# TYPE {name} {family.kind}"]
        lines += [
            f"{_sample(key)} {_number(values[_PLACES[key]])}"
            for key in family.keys
            if OTHER not in key[1] or values[_PLACES[key]]
        ]
    return ("\n".join(lines) + "\n").encode()


def _sample(key: "Key") -> str:
    """Write a sample's name; no value of a label holds what needs an escape."""
    name, chosen = key
    pairs = zip(_FAMILY_OF[name].labels, chosen, strict=True)
    labels = ",".join(f'{label}="{value}"' for label, value in pairs)
    return PREFIX + name + (f"{{{labels}}}" if labels else "")


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else f"{value:.6f}"


def write(path: bytes, text: bytes) -> None:
    """Put a text into the place of a file, so that readers see the old or the new.

    It is written beside it first, under the name with ".new" behind; what a crash has
    left there is replaced, and a failure leaves nothing.
    Raises: Temporary; the file is then as it was.
    """
    fresh = path + b".new"
    try:
        _unlink(fresh)
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        descriptor = posix.open(fresh, flags, 0o600)
    except OSError as why:
        raise _failed(path, why) from why
    try:
        try:
            _fill(descriptor, text)
        finally:
            posix.close(descriptor)
        posix.rename(fresh, path)
    except OSError as why:
        with suppress(OSError):
            _unlink(fresh)
        raise _failed(path, why) from why


def _fill(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[posix.write(descriptor, rest) :]
    posix.fchmod(descriptor, FILE_MODE)


def _unlink(path: bytes) -> None:
    with suppress(FileNotFoundError):
        posix.unlink(path)


def _failed(path: bytes, why: OSError) -> Temporary:
    shown = path.decode("utf-8", "backslashreplace")
    return Temporary(f"unable to write {shown}: {why.strerror or why}")
