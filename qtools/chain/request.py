# SPDX-License-Identifier: ISC
"""What the dialogue asks of the privileged side, and its one fixed shape on a socket.

The privileged side trusts nothing in it: every request is exactly REQUEST_OCTETS long
and every field is checked against what it may be. The user's name is taken from the
record itself, so the name that is logged is the name that was verified.
"""

from qtools.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY
from qtools.protocol import record as records
from qtools.protocol.record import RECORD_OCTETS
from qtools.protocol.tongue import LANGUAGES

VERIFY, START_TLS, LOG, END = range(4)

# What a Log or End can say, by index; nothing else passes. An accepted login is for
# the office to tell.
EVENTS = ("Reject::AUTH", "Reject::STLS")
MECHANISMS = (
    *("None", "User", "Apop", "Plain", "Login", "Cram-Md5", "Any"),
    *("Scram-Sha-256", "Scram-Sha-256-Plus", "Oauthbearer", "Xoauth2"),
)
REASONS = ("quit", "refused", "timeout", "eof", "tls-failed", "junk")
_LANGUAGES = tuple(LANGUAGES)
_END_CODES = (EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY)

HEADER_OCTETS = 8
REQUEST_OCTETS = HEADER_OCTETS + RECORD_OCTETS


class Request:
    """One request.

    kind: VERIFY, START_TLS, LOG or END. detail: the event of a LOG as an index into
    EVENTS, the reason of an END as one into REASONS. code: the verdict a LOG reports
    or the exit code of an END, 0 to 255. record: the fd-3 record of a VERIFY, or what
    a LOG has for the user's name.
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
        self.record = record[:RECORD_OCTETS]
        self.language = language
        self.is_utf8 = is_utf8

    @property
    def user(self) -> bytes:
        """The name the record is about."""
        return self.record.partition(b"\0")[0]

    def pack(self) -> bytes:
        """Give the request in its fixed shape."""
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
        return bytes(header) + self.record.ljust(RECORD_OCTETS, b"\0")


def unpack(packet: bytes) -> Request:
    """Read a request.

    Raises: ValueError for anything pack() can't have made.
    """
    if len(packet) != REQUEST_OCTETS:
        raise ValueError("request of the wrong length")
    kind, detail, code, mechanism, language, is_utf8, high, low = packet[:HEADER_OCTETS]
    length = high << 8 | low
    reasons = (0, 0, len(EVENTS) - 1, len(REASONS) - 1)
    if kind > END or detail > reasons[kind] or is_utf8 > 1 or length > RECORD_OCTETS:
        raise ValueError("request with an impossible field")
    if mechanism >= len(MECHANISMS) or language >= len(_LANGUAGES):
        raise ValueError("request with an unknown word")
    asked = Request(
        kind,
        detail=detail,
        code=code,
        mechanism=MECHANISMS[mechanism],
        record=packet[HEADER_OCTETS : HEADER_OCTETS + length],
        language=_LANGUAGES[language],
        is_utf8=bool(is_utf8),
    )
    if kind == VERIFY and records.pack(*records.unpack(asked.record)) != asked.record:
        raise ValueError("not a record of three fields")
    if (kind == END and code not in _END_CODES) or asked.pack() != packet:
        raise ValueError("request with something behind it")
    return asked
