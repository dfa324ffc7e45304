# SPDX-License-Identifier: ISC
"""How checkpw is asked, and what it decides: who comes in, and as whom.

Apart from the tool, because popserver's verifiers and sessions decide the same.
"""

import posix

from qtools.accounts import registry
from qtools.errors import Misuse, Refused, Temporary
from qtools.protocol.record import BEARER_OCTETS, RECORD_OCTETS, unpack
from qtools.system.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtools.accounts.interface import Identity, Source
    from qtools.system.options import Values

USAGE = "checkpw [options] program [arguments...]"
ROWS = (
    Option(
        "a",
        "accounts",
        "KIND[:WHERE]",
        "where accounts are: system, authuser:FILE, db:FILE, pam[:SERVICE],"
        " command:PROGRAM; several in order, separated by spaces",
    ),
    Option("x", "exec", "", "exec the next program even when it is one of ours"),
    Option("s", "socket", "PATH", "Dovecot's auth socket, for '=' in an authuser file"),
    Option("v", "verbose", "", "say on descriptor 2 why a credential was refused"),
    Option("", "pam-apop", "", "give PAM the digest of an APOP as a password"),
    Option("", "allow-empty", "", "accept empty passwords"),
    Option(
        "",
        "allow-root",
        "",
        "let uid 0 in, and run on as root when an account has no uid",
    ),
)

OWN_MAILDIR = b"POP3MAILDIR"  # for pop3d: not a leftover, as MAILDIR may be
METHOD = b"POP3METHOD"  # from popup: how the client logged in
AUTH_SOCKET = b"QTOOLS_AUTHSOCKET"  # Dovecot's, for authuser
PAM_APOP = b"QTOOLS_PAMAPOP"  # set: PAM's modules know digests, see pam
PLAINTEXT_METHODS = (b"User", b"Plain", b"Login")
BEARER_METHODS = (b"Oauthbearer", b"Xoauth2")  # with a token instead of a secret


def set_context(values: "Values") -> None:
    """Have the sources know what the options say about them; for a verifier."""
    if "socket" in values:
        posix.environ[AUTH_SOCKET] = values["socket"].encode()
    if "pam-apop" in values:
        posix.environ[PAM_APOP] = b"1"


def check(
    record: bytes, sources: "Sequence[Source]", method: bytes, *, allow_empty: bool
) -> "Identity":
    """Say who the record's user is; runs in a verifier.

    method: how the client logged in, as popup tells it, or empty.
    Raises: Misuse, Refused, Temporary, Hard.
    """
    is_token = method in BEARER_METHODS
    try:
        most = BEARER_OCTETS if is_token else RECORD_OCTETS
        user, secret, challenge = unpack(record, most)
    except ValueError as why:
        raise Misuse(f"bad record on descriptor 3: {why}") from why
    if not user or not (secret or allow_empty):
        raise Refused("empty user or password")
    if method in PLAINTEXT_METHODS or is_token:
        challenge = b""  # a digest is neither
    if is_token:  # which is no password
        sources = [s for s in sources if getattr(s, "TAKES_TOKENS", False)]
        if not sources:
            raise Refused("no account source takes a token")
    return registry.verify(sources, user, secret, challenge)


def may_be(who: "Identity", *, allow_root: bool) -> bool:
    """Say whether the next program may run as this user.

    Raises: Temporary when the account says nothing and we are root.
    """
    if allow_root or who.uid > 0:
        return True
    if who.uid < 0 and posix.geteuid() == 0:
        raise Temporary("the account has no uid and this is root; see --allow-root")
    return who.uid < 0


def set_environment(who: "Identity") -> None:
    """Set USER, HOME and SHELL as for a login, and MAILDIR when there is one.

    An account without a name of its own leaves USER, HOME and SHELL as they are. No
    account leaves MAILDIR: what was there before us is somebody else's mail, or
    everybody's.
    """
    environ = posix.environ
    if who.name:
        known = ((b"USER", who.name), (b"HOME", who.home), (b"SHELL", who.shell))
        for name, value in known:
            environ.pop(name, None)
            if value:
                environ[name] = value
    for name in (b"MAILDIR", OWN_MAILDIR):
        environ.pop(name, None)
        if who.maildir:
            environ[name] = who.maildir
