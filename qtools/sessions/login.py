# SPDX-License-Identifier: ISC
"""The AUTHORIZATION state of a POP3 session, without a descriptor, clock or disk.

One session ends in at most one accepted login. It never knows whether a credential is
right: it asks for a verdict and turns that into a reply.
See: RFC 1939 sections 4 and 7, RFC 2449, RFC 2595 section 4 (STLS), RFC 3206 (response
codes), RFC 5034 (AUTH), RFC 6856 (UTF8, LANG).
"""

from qtools.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY
from qtools.protocol import record, replies, sasl, tongue, verbs
from qtools.protocol.lines import BAD_LINE, SASL_OCTETS, Lines
from qtools.protocol.verbs import Verb
from qtools.sessions.actions import (
    Close,
    Log,
    Send,
    StartTls,
    Trace,
    Verify,
    Wait,
    Withdraw,
)
from qtools.sessions.exchange import Exchange
from qtools.sessions.policy import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.sessions.actions import Action

    Actions = list[Action]

# In force before login and after it, whoever serves the mail.
STANDING_CAPABILITIES = (
    b"TOP",
    b"UIDL",
    b"RESP-CODES",
    b"AUTH-RESP-CODE",
    b"PIPELINING",
)

LONGEST_WAIT_SECONDS = 30.0  # well below the patience of a client (RFC 1939: 10 min)
MOST_DOUBLINGS = 16  # from a millisecond to more than the longest


class Login:
    """The dialogue up to an accepted login.

    stamp: the APOP and CRAM-MD5 challenge with its angle brackets, which must never
    repeat (RFC 1939 section 7). After Verify call accepted() or verdict(), or, for a
    mechanism that is a dialogue, challenged(), and so again after each Respond; after
    StartTls tls_started() or tls_failed(). Until then nothing held is looked at.
    """

    def __init__(self, stamp: bytes, policy: Policy) -> None:
        self.policy = policy
        self.language = tongue.DEFAULT
        self.is_utf8 = False
        self.is_open = True
        self._stamp = stamp
        self._lines = Lines()
        self.user = b""
        self._exchange: Exchange | None = None
        self._asked: Verify | None = None
        self._is_paused = False
        self._failures = 0
        self._junk = 0

    def greet(self) -> "Actions":
        """Open the dialogue; the stamp shows only where APOP can be accepted."""
        banner = b" " + self._stamp if self.policy.needs_stamp() else b""
        return [Send(b"+OK" + banner + b"\r\n")]

    def feed(self, data: bytes) -> "Actions":
        """Take octets from the client and give what is to be done."""
        self._lines.feed(data)
        return self._run()

    def challenged(self, data: bytes) -> "Actions":
        """Pass on what the verifier says to the client, whose answer is a Respond.

        Takes the message without base64, at most framing.MESSAGE_OCTETS.
        """
        if self._exchange is None:
            return self.verdict(EXIT_TEMPORARY)
        self._is_paused = False
        return self._exchange.challenged(data) + self._run()

    def accepted(self) -> "Actions":
        """Note that the credential asked about was good."""
        asked = self._take_asked()
        self.is_open = False
        return [Log("Accept::AUTH", asked.mechanism, asked.user)]

    def verdict(self, code: int) -> "Actions":
        """Turn the verifier's exit code, negative for a signal, into a reply."""
        return self._judge(code) + self._run()

    def tls_started(self, binding: bytes = b"") -> "Actions":
        """Start afresh inside TLS: nothing said before it counts (RFC 2595).

        binding: its tls-server-end-point, where that is known.
        """
        self.forget()
        self.policy = self.policy.inside_tls(binding)
        self.user, self.language, self.is_utf8 = b"", tongue.DEFAULT, False
        self._is_paused = False
        return []

    def tls_failed(self) -> "Actions":
        """End: the client waits for a handshake, so no reply could reach it."""
        return self._close(EXIT_TEMPORARY, "tls-failed")

    def lost(self, why: str) -> "Actions":
        """End because the client is gone or silent; why is one word for the log."""
        is_awaited = self._asked is not None and not self._is_paused
        withdrawn: Actions = [Withdraw()] if is_awaited else []
        return withdrawn + self._close(EXIT_TEMPORARY, why)

    def forget(self) -> bytes:
        """Give the octets received behind the last line, and drop them here."""
        return self._lines.forget()

    def _run(self) -> "Actions":
        actions: Actions = []
        while self.is_open and not self._is_paused:
            limit = SASL_OCTETS if self._exchange else self.policy.line_octets
            line = self._lines.next(limit)
            if line is None:
                break
            if self.policy.is_traced:
                actions.append(Trace(self._masked(line)))
            actions += self._step(line)
        return actions

    def _masked(self, line: bytes) -> bytes:
        """Give the line as a debug log may show it; SASL's answers are all secret."""
        return b"<hidden>" if self._exchange else verbs.masked(VERBS, line)

    def _step(self, line: bytes) -> "Actions":
        if self._exchange is not None:
            return self._exchange.take(line)
        if line == BAD_LINE:
            return self._junked(b"syntax error")
        keyword, rest = verbs.split(line)
        verb = VERBS.get(keyword)
        if verb is None:
            return self._junked(b"authorization first")
        given = verbs.arguments(verb, rest)
        if given is None:
            return self.err(b"syntax error")
        if verb.offered is not None and not verb.offered(self.policy):
            return self._unavailable(keyword)
        actions: Actions = verb.handler(self, *given)
        return actions

    def _junked(self, text: bytes) -> "Actions":
        """Refuse what is no command; a client that has nothing else has to go."""
        self._junk += 1
        actions = self.err(text)
        if self._junk == self.policy.junk_limit:
            actions += self._close(EXIT_REFUSED, "junk")
        return actions

    def _judge(self, code: int) -> "Actions":
        asked, exchange = self._take_asked(), self._exchange
        label, text = self.policy.verdict(code)
        log = Log("Reject::AUTH", asked.mechanism, asked.user, code)
        if exchange is not None and exchange.is_explained(code):
            return [log, *self._wait(), *exchange.explain(label, text)]
        self.end_exchange()
        return [log, *self._refuse(label, text)]

    def _unavailable(self, keyword: bytes) -> "Actions":
        policy = self.policy
        is_on = {
            b"STLS": False,
            b"APOP": policy.apop,
            b"AUTH": any(map(policy.knows, policy.mechanisms)),
        }.get(keyword, policy.passwords)
        return self.lacks_tls() if is_on else self.err(keyword + b" not available")

    def lacks_tls(self) -> "Actions":
        """Refuse a login that has to wait for TLS, as often as a wrong password."""
        log = Log("Reject::STLS", "Any", b"unknown")
        return [log, *self._refuse(replies.AUTH, b"TLS required but not negotiated")]

    def _refuse(self, label: bytes, text: bytes) -> "Actions":
        return [*self._wait(), *self.reject(label, text)]

    def _wait(self) -> "Actions":
        wait = self.policy.delay_seconds * 2 ** min(self._failures, MOST_DOUBLINGS)
        return [Wait(min(wait, LONGEST_WAIT_SECONDS))] if wait else []

    def reject(self, label: bytes, text: bytes) -> "Actions":
        """Say that a login is refused, the delay having passed, and count it."""
        self._failures += 1
        actions = self.err(text, label)
        if self._failures >= self.policy.attempts:
            actions += self._close(EXIT_REFUSED, "refused")
        return actions

    def ask(
        self,
        user: bytes,
        secret: bytes,
        mechanism: str,
        octets: int = record.RECORD_OCTETS,
    ) -> "Actions":
        """Ask for a verdict on a complete credential; octets: its longest record."""
        self.user = b""
        try:
            packed = record.pack(user, secret, self._stamp, octets)
        except ValueError:
            # No checker takes a longer record; to the client it is a wrong secret.
            return self.deny(user, mechanism)
        self._asked = Verify(packed, mechanism, user)
        self._is_paused = True
        return [self._asked]

    def deny(self, user: bytes, mechanism: str) -> "Actions":
        """Refuse a credential as a verifier would, without asking one."""
        self._asked = Verify(b"", mechanism, user)
        return self._judge(EXIT_REFUSED)

    def pause(self) -> None:
        """Look at nothing until the verifier has spoken."""
        self._is_paused = True

    def withdrawn(self, text: bytes) -> "Actions":
        """Refuse what the client has given up; it counts, as a verifier was asked."""
        asked = self._take_asked()
        self.end_exchange()
        log = Log("Reject::AUTH", asked.mechanism, asked.user, EXIT_REFUSED)
        return [log, *self._refuse(b"", text)]

    def start_tls(self) -> "Actions":
        """Answer STLS; whatever came with it in the clear is dropped unread."""
        self.forget()
        self._is_paused = True
        return [Send(b"+OK starting TLS negotiation\r\n"), StartTls()]

    def begin(self, name: bytes, initial: bytes | None) -> "Actions":
        """Begin a SASL exchange, with the initial response still in base64."""
        mechanism = sasl.MECHANISMS.get(name.upper())
        if mechanism is None or not self.policy.knows(name.upper()):
            return self.err(b"unknown mechanism")
        if self.policy.lacks_tls(is_plaintext=mechanism.is_plaintext):
            return self.lacks_tls()
        if initial is not None and not mechanism.is_client_first:
            return self.err(b"syntax error")
        self._exchange = Exchange(self, mechanism, self._stamp)
        return self._exchange.begin(initial)

    def end_exchange(self) -> None:
        """Have the next line be a command again."""
        self._exchange = None

    def _take_asked(self) -> Verify:
        asked, self._asked = self._asked, None
        self._is_paused = False
        return asked or Verify(b"", "None", b"")

    def _close(self, code: int, why: str) -> "Actions":
        self.is_open = False
        return [Close(code, why)]

    def quit(self) -> "Actions":
        """End in order."""
        return [self.ok(), *self._close(EXIT_DONE, "quit")]

    def ok(self, text: bytes = b"") -> Send:
        """Make one positive reply."""
        return Send(self.policy.ok(text))

    def err(self, text: bytes, label: bytes = b"") -> "Actions":
        """Send one negative reply in the client's language."""
        return [Send(replies.err(tongue.translate(self.language, text), label))]


def lasting_capabilities(policy: Policy) -> list[bytes]:
    """Give what CAPA must still list after login, as it held before (RFC 2449)."""
    lasting = (b"USER", b"SASL")
    return [line for line in _announced(policy) if line.startswith(lasting)]


def _announced(policy: Policy) -> list[bytes]:
    lines = list(STANDING_CAPABILITIES)
    for verb in VERBS.values():
        is_offered = verb.offered is None or verb.offered(policy)
        if is_offered and verb.capability == b"SASL":
            lines.append(b" ".join((b"SASL", *policy.usable_mechanisms())))
        elif is_offered and verb.capability:
            lines.append(verb.capability)
    return lines


def _capabilities(session: Login) -> "Actions":
    status = session.policy.ok(b"capability list follows")
    return [Send(replies.multi(status, _announced(session.policy)))]


def _user(session: Login, name: bytes) -> "Actions":
    if name.startswith(b" "):
        return session.err(b"syntax error")
    session.user = name
    return [session.ok()]


def _password(session: Login, secret: bytes) -> "Actions":
    if not session.user:
        return session.err(b"USER first")
    return session.ask(session.user, secret, "User")


def _apop(session: Login, name: bytes, digest: bytes) -> "Actions":
    if not name or not verbs.is_md5_hex(digest):
        return session.err(b"syntax error")
    return session.ask(name, digest, "Apop")


def _auth(
    session: Login, name: bytes | None = None, initial: bytes | None = None
) -> "Actions":
    if name is not None:
        return session.begin(name, initial)
    policy = session.policy
    return [Send(replies.multi(policy.ok(), policy.usable_mechanisms()))]


def _stls(session: Login) -> "Actions":
    return session.start_tls()


def _noop(session: Login) -> "Actions":
    return [session.ok()]


def _quit(session: Login) -> "Actions":
    return session.quit()


def _utf8(session: Login) -> "Actions":
    session.is_utf8 = True
    return [session.ok()]


def _lang(session: Login, wanted: bytes | None = None) -> "Actions":
    reply, session.language = tongue.answer(session.language, wanted)
    return [Send(reply)]


# keyword: handler, fewest and most arguments, what CAPA says for it.
VERBS = {
    b"USER": Verb(_user, 1, 1, b"USER", offered=Policy.can_use_password),
    b"PASS": Verb(_password, 1, 1, offered=Policy.can_use_password, is_secret=True),
    b"APOP": Verb(_apop, 2, 2, b"APOP", offered=Policy.can_apop, is_secret=True),
    b"AUTH": Verb(_auth, 0, 2, b"SASL", offered=Policy.can_auth, is_secret=True),
    b"STLS": Verb(_stls, 0, 0, b"STLS", offered=Policy.can_start_tls),
    b"UTF8": Verb(_utf8, 0, 0, b"UTF8 USER"),
    b"LANG": Verb(_lang, 0, 1, b"LANG"),
    b"CAPA": Verb(_capabilities, 0, 0),
    b"NOOP": Verb(_noop, 0, 0),
    b"QUIT": Verb(_quit, 0, 0),
}
