# SPDX-License-Identifier: ISC
"""A small model of the AUTHORIZATION state, written from the RFCs, not from the code.

It takes a whole line at a time and gives what happens in a few words; so does outcome()
with what a Login answers.
"""

import re
from base64 import b64decode, b64encode
from typing import NamedTuple

from qtools.protocol import record
from qtools.sessions.actions import (
    Action,
    Close,
    Log,
    Respond,
    Send,
    StartTls,
    Verify,
    Wait,
    Withdraw,
)
from qtools.sessions.policy import Policy

Words = list[object]

# What clients say first: SCRAM's of RFC 5802 section 7, the tokens' of RFC 7628.
NAME = rb"((?:[^,=\0]|=2C|=3D)+)"
SCRAM = re.compile(
    rb"(n|y|p=tls-server-end-point),(?:a=" + NAME + rb")?,n=" + NAME + rb",r=[!-+\--~]+"
    rb"(?:,[B-LO-QT-Zb-bd-hj-lo-oq-qt-uw-z]=[^,\0]+)*",
    re.DOTALL,
)
TOKEN = rb"auth=bearer ([!-~]+)"
OAUTHBEARER = re.compile(
    rb"[ny],a="
    + NAME
    + rb",\x01(?:(?:host|port)=[^\x01]*\x01)*"
    + TOKEN
    + rb"\x01\x01",
    re.DOTALL | re.IGNORECASE,
)
XOAUTH2 = re.compile(rb"user=([^\x01]+)\x01" + TOKEN + rb"\x01\x01", re.IGNORECASE)
WORDS = {
    b"SCRAM-SHA-256": "Scram-Sha-256",
    b"SCRAM-SHA-256-PLUS": "Scram-Sha-256-Plus",
    b"OAUTHBEARER": "Oauthbearer",
    b"XOAUTH2": "Xoauth2",
}


def outcome(actions: list[Action]) -> Words:
    """Say in a few words what a session wants done."""
    words: Words = []
    for action in actions:
        if isinstance(action, Send):
            first = action.data.split(b"\r\n")[0]
            is_coded = first.startswith(b"-ERR [")
            words.append(
                first.split(b"]")[0] + b"]" if is_coded else first.split(b" ")[0]
            )
        elif isinstance(action, Verify):
            words.append(("verify", action.mechanism, action.record))
        elif isinstance(action, Close):
            words.append(("close", action.code))
        elif isinstance(action, StartTls):
            words.append(("tls",))
        elif isinstance(action, Respond):
            words.append(("respond", action.data))
        elif isinstance(action, Withdraw):
            words.append(("withdraw",))
        else:
            assert isinstance(action, Log | Wait)
    return words


def unescaped(name: bytes) -> bytes:
    """Undo the escapes of SCRAM's names."""
    return name.replace(b"=2C", b",").replace(b"=3D", b"=")


def decoded(line: bytes) -> bytes | None:
    """Undo base64; None for what an encoder would not have written."""
    try:
        octets = b64decode(line, validate=True)
    except ValueError:
        return None
    return octets if b64encode(octets) == line else None


class Options(NamedTuple):
    """What makes a Policy, in a form that can be generated."""

    passwords: bool = True
    apop: bool = False
    mechanisms: tuple[bytes, ...] = (b"PLAIN", b"LOGIN")
    has_stls: bool = False
    is_tls: bool = False
    tls_for: str = ""
    attempts: int = 3
    binding: bytes = b""

    def policy(self) -> Policy:
        """Make a Policy of its own, as a session changes it."""
        return Policy(**self._asdict(), delay_seconds=0)


class Model:
    """One connection; line() takes a line without its end."""

    def __init__(self, options: Options, stamp: bytes) -> None:
        self.options = options
        self.is_tls = options.is_tls
        self.stamp = stamp
        self.user = b""
        self.refused = 0
        self.is_over = False
        self.fields: list[bytes] | None = None  # of a SASL exchange under way
        self.mechanism = b""
        self.binding = options.binding
        self.is_token = False  # what the verifier has been asked about
        self.is_asked = False  # by the verifier, in a dialogue
        self.is_explained = False  # a refusal, which is still to come
        self.refusal = b""

    def is_open(self, *, is_plaintext: bool) -> bool:
        rule = {"": (), "passwords": (True,), "all": (True, False)}[
            self.options.tls_for
        ]
        return self.is_tls or is_plaintext not in rule

    def usable(self) -> list[bytes]:
        """Give the SASL mechanisms open now."""
        return [
            name
            for name in self.options.mechanisms
            if self.is_open(is_plaintext=not name.startswith((b"CRAM", b"SCRAM")))
            and (self.binding or not name.endswith(b"-PLUS"))
        ]

    def known(self) -> list[bytes]:
        """Give the SASL mechanisms that TLS alone may be in the way of."""
        return [
            name
            for name in self.options.mechanisms
            if self.binding or not name.endswith(b"-PLUS")
        ]

    def refuse(self, code: bytes) -> Words:
        """Count a refused login."""
        self.refused += 1
        if self.refused < self.options.attempts:
            return [b"-ERR [" + code + b"]"]
        self.is_over = True
        return [b"-ERR [" + code + b"]", ("close", 1)]

    def verify(self, user: bytes, secret: bytes, mechanism: str) -> Words:
        """Ask, or refuse what is too long to be asked."""
        self.user = b""
        whole = user + b"\0" + secret + b"\0" + self.stamp + b"\0"
        is_token = mechanism in ("Oauthbearer", "Xoauth2")
        if len(whole) > (4096 if is_token else record.RECORD_OCTETS):
            return self.explain(b"AUTH") if is_token else self.refuse(b"AUTH")
        self.is_token = is_token
        return [("verify", mechanism, whole)]

    def verdict(self, code: int) -> Words:
        """Say what the client hears of an exit code."""
        label = {1: b"AUTH", 2: b"SYS/PERM", 3: b"AUTH", 100: b"SYS/PERM"}
        is_token, self.is_token = self.is_token, False
        if is_token and code in (1, 3):
            return self.explain(b"AUTH")
        return self.refuse(label.get(code, b"SYS/TEMP"))

    def explain(self, label: bytes) -> Words:
        """Tell of a refusal that comes with the next line."""
        self.refusal, self.is_explained = label, True
        return [b"+"]

    def challenged(self) -> Words:
        """Show what a verifier says."""
        self.is_asked = True
        return [b"+"]

    def respond(self, line: bytes, *, is_bad: bool) -> Words:
        """Take what the client says to a verifier."""
        self.is_asked = False
        answer = decoded(line)
        if is_bad or answer is None or len(answer) > 2048:
            refused = self.refuse(b"AUTH")
            refused[0] = b"-ERR"
            return [("withdraw",), *refused]
        return [("respond", answer)]

    def tls(self) -> None:
        """Begin anew inside TLS."""
        self.is_tls, self.user, self.binding = True, b"", b""

    def line(self, line: bytes) -> Words:
        """Give what one line leads to."""
        if self.is_explained:
            self.is_explained = False
            return self.refuse(self.refusal)
        if self.is_asked:
            return self.respond(line, is_bad=b"\0" in line or len(line) > 12286)
        if self.fields is not None:
            return self.sasl(line, is_bad=b"\0" in line or len(line) > 12286)
        if b"\0" in line or len(line) > 253:
            return [b"-ERR"]
        name, space, rest = line.partition(b" ")
        command = getattr(self, "do_" + name.decode("latin-1").lower(), None)
        if command is None or not name.isalnum():
            return [b"-ERR"]
        words: Words = command(rest if space else b"")
        return words

    def gate(self, *, has_it: bool, is_plaintext: bool) -> Words:
        """Give the refusal of what is off, or has to wait for TLS; else nothing."""
        if not has_it:
            return [b"-ERR"]
        return [] if self.is_open(is_plaintext=is_plaintext) else self.refuse(b"AUTH")

    def do_user(self, rest: bytes) -> Words:
        if not rest:
            return [b"-ERR"]
        refusal = self.gate(has_it=self.options.passwords, is_plaintext=True)
        if refusal or rest[:1] == b" ":
            return refusal or [b"-ERR"]
        self.user = rest
        return [b"+OK"]

    def do_pass(self, rest: bytes) -> Words:
        if not rest:
            return [b"-ERR"]
        refusal = self.gate(has_it=self.options.passwords, is_plaintext=True)
        if refusal or not self.user:
            return refusal or [b"-ERR"]
        return self.verify(self.user, rest, "User")

    def do_apop(self, rest: bytes) -> Words:
        user, space, digest = rest.partition(b" ")
        if not space:
            return [b"-ERR"]
        refusal = self.gate(has_it=self.options.apop, is_plaintext=False)
        if refusal:
            return refusal
        is_digest = len(digest) == 32 and set(digest) <= set(b"0123456789abcdef")
        return self.verify(user, digest, "Apop") if user and is_digest else [b"-ERR"]

    def do_auth(self, rest: bytes) -> Words:
        name, space, initial = rest.partition(b" ")
        name = name.upper()
        usable, known = self.usable(), self.known()
        if known and (not usable or (name in known and name not in usable)):
            return self.refuse(b"AUTH")
        if usable and not rest:
            return [b"+OK"]
        if name not in usable or (space and name == b"CRAM-MD5"):
            return [b"-ERR"]
        self.fields, self.mechanism = [], name
        if not space:
            return [b"+"]
        return self.sasl(b"" if initial == b"=" else initial, is_bad=initial == b"*")

    def sasl(self, line: bytes, *, is_bad: bool) -> Words:
        """Take one answer of the client."""
        before, self.fields = self.fields or [], None
        answer = decoded(line)
        if is_bad or answer is None:
            return [b"-ERR"]
        if self.mechanism == b"LOGIN" and not before:
            self.fields = [answer]
            return [b"+"]
        if self.mechanism == b"LOGIN":
            return self.complete(before[0], answer, "Login")
        takes = {b"PLAIN": self.plain, b"CRAM-MD5": self.cram_md5}
        if self.mechanism.startswith(b"SCRAM"):
            return self.scram(answer)
        return takes.get(self.mechanism, self.token)(answer)

    def plain(self, answer: bytes) -> Words:
        """Take a name and a password."""
        parts = answer.split(b"\0")
        is_own = len(parts) == 3 and parts[0] in (b"", parts[1])
        return self.complete(parts[1], parts[2], "Plain") if is_own else [b"-ERR"]

    def cram_md5(self, answer: bytes) -> Words:
        """Take a name and a digest."""
        user, _, digest = answer.rpartition(b" ")
        is_digest = len(digest) == 32 and set(digest) <= set(b"0123456789abcdef")
        return self.complete(user, digest, "Cram-Md5") if is_digest else [b"-ERR"]

    def token(self, answer: bytes) -> Words:
        """Take a token."""
        form = XOAUTH2 if self.mechanism == b"XOAUTH2" else OAUTHBEARER
        found = form.fullmatch(answer)
        if not found:
            return [b"-ERR"]
        user = unescaped(found[1]) if form is OAUTHBEARER else found[1]
        return self.complete(user, found[2], WORDS[self.mechanism])

    def scram(self, answer: bytes) -> Words:
        """Take the first message of SCRAM."""
        found = SCRAM.fullmatch(answer)
        is_plus = self.mechanism.endswith(b"-PLUS")
        if not found or (found[1][:1] == b"p") is not is_plus:
            return [b"-ERR"]
        if found[2] not in (None, found[3]):
            return [b"-ERR"]
        if found[1] == b"y" and b"SCRAM-SHA-256-PLUS" in self.usable():
            return self.refuse(b"AUTH")
        return self.complete(unescaped(found[3]), answer, WORDS[self.mechanism])

    def complete(self, user: bytes, secret: bytes, mechanism: str) -> Words:
        """Verify what an exchange has led to, if it can be a credential."""
        if not user or not secret or b"\0" in user + secret:
            return [b"-ERR"]
        return self.verify(user, secret, mechanism)

    def do_stls(self, rest: bytes) -> Words:
        is_offered = self.options.has_stls and not self.is_tls
        return [b"+OK", ("tls",)] if is_offered and not rest.strip(b" ") else [b"-ERR"]

    def do_lang(self, rest: bytes) -> Words:
        tag = rest.lower().split(b"-")[0]
        return [b"+OK"] if rest in (b"", b"*") or tag in (b"en", b"de") else [b"-ERR"]

    def do_capa(self, rest: bytes) -> Words:
        return [b"-ERR"] if rest.strip(b" ") else [b"+OK"]

    do_utf8 = do_noop = do_capa

    def do_quit(self, rest: bytes) -> Words:
        if rest.strip(b" "):
            return [b"-ERR"]
        self.is_over = True
        return [b"+OK", ("close", 0)]
