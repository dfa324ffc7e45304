# SPDX-License-Identifier: ISC
"""What a session asks its driver to do, as small values.

A session never touches a descriptor: feed() returns a list of these and the driver
performs them in order. Two sessions that return equal lists behave equally, which is
what the tests compare.
"""


class Action:
    """Base of all actions: equal when kind and fields are equal."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Compare kind and fields."""
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]  # values are compared, never keyed

    def __repr__(self) -> str:
        """Show kind and fields."""
        fields = ", ".join(repr(getattr(self, name)) for name in self.__slots__)
        return f"{type(self).__name__}({fields})"


class Send(Action):
    """Send these octets to the client."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class SendMessage(Action):
    """Send a status line, a message (stuffed, CRLF) and the final dot as one reply.

    number: 1-based message-number. body_lines: None for the whole message (RETR),
    else how many lines of the body follow the header (TOP). status: the positive
    status line. failure: the whole reply to send instead when the message cannot be
    opened.
    """

    __slots__ = ("body_lines", "failure", "number", "status")

    def __init__(
        self, number: int, body_lines: int | None, status: bytes, failure: bytes
    ) -> None:
        self.number = number
        self.body_lines = body_lines
        self.status = status
        self.failure = failure


class Wait(Action):
    """Let this many seconds pass before the next action."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class StartTls(Action):
    """Start TLS now, then call tls_started() or tls_failed()."""

    __slots__ = ()


class Verify(Action):
    """Have a credential verified, then call verdict() unless the chain has served.

    record: user, secret or digest, and challenge as the fd-3 record. mechanism: the
    word for the log, e.g. User, Apop, Plain. user: the name as the client gave it.
    """

    __slots__ = ("mechanism", "record", "user")

    def __init__(self, record: bytes, mechanism: str, user: bytes) -> None:
        self.record = record
        self.mechanism = mechanism
        self.user = user


class Respond(Action):
    """Hand the client's answer to a verifier's challenge on to the verifier.

    Follows a Verify whose mechanism is a dialogue, after challenged(). Then call
    challenged() with what the verifier says next, or accepted() or verdict().
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Withdraw(Action):
    """Give up the verification that is under way: the client wants no more of it."""

    __slots__ = ()


class Ask(Action):
    """Have the privileged side do an errand, then call answered(code, text).

    kind: one octet, the session's own numbering. fields: what it is about; each may
    be secret, none is ever logged.
    """

    __slots__ = ("fields", "kind")

    def __init__(self, kind: int, *fields: bytes) -> None:
        self.kind = kind
        self.fields = fields


class Update(Action):
    """Enter the UPDATE state: remove these messages, then call updated()."""

    __slots__ = ("deleted",)

    def __init__(self, deleted: tuple[int, ...]) -> None:
        self.deleted = deleted


class Log(Action):
    """Write one line to the session log.

    event: what happened to what, e.g. Reject::AUTH. mechanism and user as in Verify.
    code: the verifier's exit code, negative for a signal.
    """

    __slots__ = ("code", "event", "mechanism", "user")

    def __init__(self, event: str, mechanism: str, user: bytes, code: int = 0) -> None:
        self.event = event
        self.mechanism = mechanism
        self.user = user
        self.code = code


class Trace(Action):
    """Show one line of the client, secrets masked, to whoever debugs."""

    __slots__ = ("line",)

    def __init__(self, line: bytes) -> None:
        self.line = line


class Close(Action):
    """End the connection; the tool exits with this code (see errors)."""

    __slots__ = ("code", "why")

    def __init__(self, code: int, why: str) -> None:
        self.code = code
        self.why = why
