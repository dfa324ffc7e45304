# SPDX-License-Identifier: ISC
"""What a connection may do before login, and what a verdict tells the client.

See: RFC 2449 section 8, RFC 3206 (response codes), RFC 8314 (passwords and TLS).
"""

from qtools.errors import (
    EXIT_EXPIRED,
    EXIT_HARD,
    EXIT_MISUSE,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
)
from qtools.protocol import replies, sasl
from qtools.protocol.lines import COMMAND_OCTETS

# What a verdict other than "accepted" tells the client. A crashed checker and
# whatever nobody foresaw are the server's trouble, not a wrong password.
REFUSAL = b"authorization failed"
VERDICTS = {
    EXIT_REFUSED: (replies.AUTH, REFUSAL),
    EXIT_EXPIRED: (replies.AUTH, b"password expired"),
    EXIT_MISUSE: (replies.SYS_PERM, b"the server is not set up for you"),
    EXIT_HARD: (replies.SYS_PERM, b"the server is not set up for you"),
    EXIT_TEMPORARY: (replies.SYS_TEMP, b"temporary failure, try again later"),
}
CRASHED = (replies.SYS_TEMP, b"aack, child crashed")


class Policy:
    """What this connection may do before login.

    passwords: USER/PASS at all. apop: APOP at all. mechanisms: SASL names in the order
    to announce. has_stls: STLS can be started. is_tls: TLS is on already.
    tls_for: "all" (nothing without TLS), "passwords" (no clear secret without TLS) or
    "" (no rule). attempts: refused logins until the connection is closed.
    delay_seconds: wait before the first refusal, doubled for each further one.
    line_octets: longest command, line end included. binding: the tls-server-end-point
    of the TLS that is on (RFC 5929), empty where it is not known. refusal: what a wrong
    password is told. is_bare: positive replies without anything behind +OK. junk_limit:
    close at this many unknown commands, 0 for never. is_traced: give a Trace for every
    line.
    """

    __slots__ = (
        "apop",
        "attempts",
        "binding",
        "delay_seconds",
        "has_stls",
        "is_bare",
        "is_tls",
        "is_traced",
        "junk_limit",
        "line_octets",
        "mechanisms",
        "passwords",
        "refusal",
        "tls_for",
    )

    def __init__(  # noqa: PLR0913  # a policy is what its fields say, all by name
        self,
        *,
        passwords: bool = True,
        apop: bool = False,
        mechanisms: tuple[bytes, ...] = (b"PLAIN", b"LOGIN"),
        has_stls: bool = False,
        is_tls: bool = False,
        tls_for: str = "",
        attempts: int = 3,
        delay_seconds: float = 1.0,
        line_octets: int = COMMAND_OCTETS,
        binding: bytes = b"",
        refusal: bytes = REFUSAL,
        is_bare: bool = False,
        junk_limit: int = 0,
        is_traced: bool = False,
    ) -> None:
        self.passwords = passwords
        self.apop = apop
        self.mechanisms = mechanisms
        self.has_stls = has_stls
        self.is_tls = is_tls
        self.tls_for = tls_for
        self.attempts = attempts
        self.delay_seconds = delay_seconds
        self.line_octets = line_octets
        self.binding = binding
        self.refusal = refusal
        self.is_bare = is_bare
        self.junk_limit = junk_limit
        self.is_traced = is_traced

    def inside_tls(self, binding: bytes = b"") -> "Policy":
        """Give the same policy for after STLS; this one may be others', too."""
        inside = Policy.__new__(Policy)
        for name in Policy.__slots__:
            setattr(inside, name, getattr(self, name))
        inside.is_tls = True
        inside.binding = binding
        return inside

    def verdict(self, code: int) -> tuple[bytes, bytes]:
        """Give response code and text for a verifier's exit code."""
        label, text = VERDICTS.get(code, CRASHED)
        return label, self.refusal if code == EXIT_REFUSED else text

    def ok(self, text: bytes = b"") -> bytes:
        """Make a positive status line; a bare one has no text, nor a blank for it."""
        return b"+OK\r\n" if self.is_bare else replies.ok(text)

    def lacks_tls(self, *, is_plaintext: bool) -> bool:
        """Tell whether a way to log in has to wait for TLS."""
        guarded = self.tls_for == "all" or (is_plaintext and bool(self.tls_for))
        return guarded and not self.is_tls

    def can_use_password(self) -> bool:
        """Tell whether USER and PASS are open now."""
        return self.passwords and not self.lacks_tls(is_plaintext=True)

    def can_apop(self) -> bool:
        """Tell whether APOP is open now."""
        return self.apop and not self.lacks_tls(is_plaintext=False)

    def needs_stamp(self) -> bool:
        """Tell whether APOP is open now or will be inside TLS, where none greets."""
        return self.can_apop() or (self.apop and self.can_start_tls())

    def can_start_tls(self) -> bool:
        """Tell whether STLS is open now; TLS inside TLS is not (RFC 2595)."""
        return self.has_stls and not self.is_tls

    def can_auth(self) -> bool:
        """Tell whether AUTH has any mechanism now."""
        return bool(self.usable_mechanisms())

    def knows(self, name: bytes) -> bool:
        """Tell whether a SASL mechanism is one of ours, with or without more TLS."""
        is_bound = name in self.mechanisms and sasl.MECHANISMS[name].is_bound
        return name in self.mechanisms and (bool(self.binding) or not is_bound)

    def allows(self, word: str) -> bool:
        """Tell whether a login by this way, as the log has it, can be asked about."""
        if word == "User":
            return self.can_use_password()
        if word == "Apop":
            return self.can_apop()
        rows = map(sasl.MECHANISMS.__getitem__, self.usable_mechanisms())
        return any(row.word == word for row in rows)

    def usable_mechanisms(self) -> list[bytes]:
        """Give the SASL mechanisms that are open now, in the order announced."""
        return [
            name
            for name in self.mechanisms
            if self.knows(name)
            and not self.lacks_tls(is_plaintext=sasl.MECHANISMS[name].is_plaintext)
        ]
