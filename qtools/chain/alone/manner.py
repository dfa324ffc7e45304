# SPDX-License-Identifier: ISC
"""How a pop3d that logs in by itself is asked: its policy, challenge and accounts.

The words are mdpop3d's as far as that had any, and else those of popup and checkpw.
See: pop3d(8).
"""

import posix
from time import time

from qtools.accounts import registry
from qtools.chain import front
from qtools.errors import Failure, Hard
from qtools.sessions.style import JUNK_LIMIT
from qtools.system.options import Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.interface import Identity, Source
    from qtools.accounts.registry import Opener
    from qtools.sessions.policy import Policy

PAM, SYSTEM = "pam", "system"
POP3AUTH = b"POP3AUTH"  # of popup

# mdpop3d's: one login, its refusal after three seconds, in these words.
ATTEMPTS, DELAY_SECONDS = "1", "3"
REFUSAL = b"login incorrect"

TAG_OCTETS = 64


def make_policy(
    given: Values, environ: dict[bytes, bytes], *, has_control: bool
) -> "Policy":
    """Derive what the connection may do before login.

    Raises: Hard for a word that means nothing.
    """
    words = Values()
    for name in ("mechanisms", "plaintext"):
        if name in given:
            words[name] = given[name]
    words["attempts"] = given.get("attempts", ATTEMPTS)
    words["delay"] = given.get("delay", DELAY_SECONDS)
    policy = front.make_policy(words, environ, has_control=has_control)
    policy.apop |= has_apop(given)
    policy.refusal = REFUSAL
    policy.is_bare = True
    policy.junk_limit = JUNK_LIMIT
    policy.is_traced = "debug" in given
    return policy


def make_stamp(given: Values) -> bytes:
    """Make the challenge <PID.TIME@HTAG>, unique and not to be guessed.

    Digits of chance stand behind the seconds, so that it has mdpop3d's shape and what
    RFC 1939 section 7 wants of it.
    """
    name = host_name(given)
    tag = "".join(c for c in name if "!" <= c <= "~" and c not in "<>@")[:TAG_OCTETS]
    chance = int.from_bytes(posix.urandom(8), "big")
    stamp = f"<{posix.getpid()}.{int(time())}{chance:020d}@{tag or 'localhost'}>"
    return stamp.encode()


def has_apop(given: Values) -> bool:
    """Tell whether -A or -T ask for APOP."""
    return "apop" in given or "apop-tag" in given


def host_name(given: Values) -> str:
    """Give what stands behind the @ of a challenge."""
    return given.get("apop-tag") or posix.uname().nodename


def account_words(given: Values, environ: dict[bytes, bytes]) -> list[str]:
    """Give the words for the account sources in force.

    PAM where nobody has said anything, and the system's own files where there is no
    PAM.
    Raises: Hard.
    """
    said = given.every("accounts")
    if not (" ".join(said).split() or environ.get(registry.VARIABLE, b"").split()):
        said = [PAM if has_pam() else SYSTEM]
    words = registry.words(said, environ)
    if "service" not in given:
        return words
    if not any(is_pam(word) for word in words):
        raise Hard("--service is for PAM, which is not where the accounts are")
    named = f"{PAM}:{given['service']}"
    return [named if word == PAM else word for word in words]


def sources(words: list[str], *, is_named: bool) -> "list[Opener]":
    """Load the sources; give a function for each to open it.

    is_named: -m or $MAILDIR say where mail is, and PAM is not to be asked.
    Raises: Hard.
    """
    openers = registry.load(words)
    return [
        _modest(opener) if is_named and is_pam(word) else opener
        for word, opener in zip(words, openers, strict=True)
    ]


def _modest(open_source: "Opener") -> "Opener":
    return lambda: Modest(open_source())


class Modest:
    """A source that does not say where an account's Maildir is."""

    def __init__(self, source: "Source") -> None:
        self._source = source
        self.decoy = source.decoy

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> "Identity":
        """Check a secret and say who it is; see the interface."""
        who = self._source.verify(user, secret, challenge)
        who.maildir = b""
        return who


def is_pam(word: str) -> bool:
    """Tell whether a word names PAM."""
    return word.partition(":")[0] == PAM


def has_pam() -> bool:
    """Tell whether PAM can be used here."""
    if PAM not in registry.MODULES:
        return False
    try:
        registry.load([PAM])
    except Failure:
        return False
    return True


def features() -> list[str]:
    """Name what is built in, as mdpop3d's -V does."""
    return [*(["PAM"] if has_pam() else []), "APOP"]
