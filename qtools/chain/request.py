# SPDX-License-Identifier: ISC
"""What the dialogue asks of the privileged side, and its fixed shapes on a socket.

The privileged side trusts nothing in it: every request has one of two lengths, the
longer only where a record or message needs it, and every field is checked against what
it may be. The user's name is taken from the record itself, so the name that is logged
is the name that was verified.
"""

from qtools.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY
from qtools.protocol import record as records
from qtools.protocol.framing import MESSAGE_OCTETS
from qtools.protocol.record import BEARER_OCTETS, RECORD_OCTETS
from qtools.protocol.tongue import LANGUAGES

VERIFY, START_TLS, LOG, END, RESPOND, WITHDRAW = range(6)

# What a Log or End can say, by index; nothing else passes. An accepted login is for
# the office to tell.
EVENTS = ("Reject::AUTH", "Reject::STLS")
MECHANISMS = (
    *("None", "User", "Apop", "Plain", "Login", "Cram-Md5", "Any"),
    *("Scram-Sha-256", "Scram-Sha-256-Plus", "Oauthbearer", "Xoauth2"),
)
REASONS = ("quit", "refused", "timeout", "eof", "tls-failed", "junk")
_BEARERS = ("Oauthbearer", "Xoauth2")  # whose records may be longer
_LANGUAGES = tuple(LANGUAGES)
_MOST_DETAIL = (0, 0, len(EVENTS) - 1, len(REASONS) - 1, 0, 0)  # by kind
_END_CODES = (EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY)

HEADER_OCTETS = 8
REQUEST_OCTETS = HEADER_OCTETS + RECORD_OCTETS
LONG_REQUEST_OCTETS = HEADER_OCTETS + BEARER_OCTETS


class Request:
    """One request.

    kind: VERIFY, START_TLS, LOG, END, RESPOND or WITHDRAW. detail: the event of a LOG
    as an index into EVENTS, the reason of an END as one into REASONS. code: the verdict
    a LOG reports or the exit code of an END, 0 to 255. record: the fd-3 record of a
    VERIFY, the client's message of a RESPOND, or what a LOG has for the user's name.
    """

    __slots__ = (
        "code",
        "detail",
        "is_utf8",
        "kind",
        "language",
        "mechanism",
        "record",
    )

    def __init__(  # noqa: PLR0913  # the fields of one wire format
        self,
        kind: int,
        *,
        detail: int = 0,
        code: int = 0,
        mechanism: str = "None",
        record: bytes = b"",
        language: bytes = b"en",
        is_utf8: bool = False,
    ) -> None:
        self.kind = kind
        self.detail = detail
        self.code = code
        self.mechanism = mechanism
        self.record = record[: _most(kind, mechanism)]
        self.language = language
        self.is_utf8 = is_utf8

    @property
    def user(self) -> bytes:
        """The name the record is about."""
        return self.record.partition(b"\0")[0]

    def pack(self) -> bytes:
        """Give the request in its shape."""
        length = len(self.record)
        header = (
            self.kind,
            self.detail,
            self.code,
            MECHANISMS.index(self.mechanism),
            _LANGUAGES.index(self.language),
            int(self.is_utf8),
            length >> 8,
            length & 0xFF,
        )
        room = RECORD_OCTETS if length <= RECORD_OCTETS else BEARER_OCTETS
        return bytes(header) + self.record.ljust(room, b"\0")


def _most(kind: int, mechanism: str) -> int:
    """Give how many octets a request's record may have."""
    if kind == VERIFY and mechanism in _BEARERS:
        return BEARER_OCTETS
    return MESSAGE_OCTETS if kind == RESPOND else RECORD_OCTETS


def unpack(packet: bytes) -> Request:
    """Read a request.

    Raises: ValueError for anything pack() can't have made.
    """
    if len(packet) not in (REQUEST_OCTETS, LONG_REQUEST_OCTETS):
        raise ValueError("request of the wrong length")
    kind, detail, code, mechanism, language, is_utf8, high, low = packet[:HEADER_OCTETS]
    length = high << 8 | low
    if kind > WITHDRAW or detail > _MOST_DETAIL[kind] or is_utf8 > 1:
        raise ValueError("request with an impossible field")
    if mechanism >= len(MECHANISMS) or language >= len(_LANGUAGES):
        raise ValueError("request with an unknown word")
    if length > _most(kind, MECHANISMS[mechanism]):
        raise ValueError("request with too long a record")
    asked = Request(
        kind,
        detail=detail,
        code=code,
        mechanism=MECHANISMS[mechanism],
        record=packet[HEADER_OCTETS : HEADER_OCTETS + length],
        language=_LANGUAGES[language],
        is_utf8=bool(is_utf8),
    )
    if kind == VERIFY and not _is_record(asked.record):
        raise ValueError("not a record of three fields")
    if (kind == END and code not in _END_CODES) or asked.pack() != packet:
        raise ValueError("request with something behind it")
    return asked


def _is_record(record: bytes) -> bool:
    fields = records.unpack(record, BEARER_OCTETS)
    return records.pack(*fields, BEARER_OCTETS) == record
