# SPDX-License-Identifier: ISC
"""How popup is asked: its options, the policy they make and the challenge.

Apart from the tool, because popserver reads the same words and holds the same dialogue
without running popup for each connection.
"""

import posix
from binascii import hexlify
from time import time

from qtools.errors import Hard
from qtools.protocol import sasl
from qtools.sessions.policy import Policy
from qtools.system import ucspi
from qtools.system.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.system.options import Values

USAGE = "popup [options] hostname subprogram [argument ...]"

OPTIONS = (
    Option("a", "attempts", "N", "refused logins until we hang up (3)"),
    Option("d", "delay", "SECONDS", "wait before the first refusal (1), then doubled"),
    Option("t", "timeout", "SECONDS", "longest wait for a command (1200)"),
    Option(
        "w", "write-timeout", "SECONDS", "longest wait for the client to read (1200)"
    ),
    Option("L", "line-octets", "N", "longest command with its line end (255)"),
    Option("m", "mechanisms", "LIST", "SASL mechanisms, comma-separated (plain,login)"),
    Option("p", "plaintext", "RULE", "passwords without TLS: allow (default), refuse"),
    Option("l", "log-fd", "N", "descriptor of the session log (5)"),
    Option("u", "user", "NAME", "whom the dialogue runs as when we are root (nobody)"),
    Option("C", "chroot", "DIR", "root directory of the dialogue (a fresh empty one)"),
    Option("n", "no-split", "", "as root, keep the dialogue in this process"),
    Option("x", "exec", "", "always exec the next programs, never call our own"),
)


def make_policy(
    values: "Values", environ: dict[bytes, bytes], *, has_control: bool
) -> Policy:
    """Derive what the connection may do from the options and the environment.

    The environment counts where no option is given, so that a rule of the UCSPI
    server can decide for each network.
    Raises: Hard for a word that means nothing.
    """
    pop3auth = environ.get(b"POP3AUTH", b"").lower()
    has_apop = pop3auth.startswith((b"apop", b"+apop"))
    is_apop_only = pop3auth.startswith(b"apop")
    stls = environ.get(b"UCSPITLS", b"-")
    is_tls = ucspi.is_implicit_tls(environ)
    given = values.get("mechanisms", environ.get(b"POP3SASL", b"").decode("latin-1"))
    return Policy(
        passwords=not is_apop_only,
        apop=has_apop,
        mechanisms=_mechanisms(given, is_apop_only=is_apop_only),
        has_stls=stls != b"-" and has_control and not is_tls,
        is_tls=is_tls,
        tls_for="all" if stls == b"!" else _tls_for(values, environ),
        attempts=values.number("attempts", 3, least=1),
        delay_seconds=values.number("delay", 1),
        line_octets=values.number("line-octets", 255, least=64),
        binding=ucspi.end_point(environ) if is_tls else b"",
    )


def _tls_for(values: "Values", environ: dict[bytes, bytes]) -> str:
    named = environ.get(b"POP3PLAINTEXT", b"").decode("latin-1")
    rule = values.get("plaintext", named) or "allow"
    if rule not in ("allow", "refuse"):
        raise Hard(f"passwords without TLS: allow or refuse, not {rule}")
    return "passwords" if rule == "refuse" else ""


def _mechanisms(given: str, *, is_apop_only: bool) -> tuple[bytes, ...]:
    """Read the list of SASL mechanisms; "none" and "" are explicit and default.

    Loads what they need, as a confined dialogue can't.
    """
    if not given:
        return () if is_apop_only else (b"PLAIN", b"LOGIN")
    words = given.encode("ascii", "replace").upper().split(b",")
    names = tuple(word for word in words if word != b"NONE")
    for name in names:
        if name not in sasl.MECHANISMS:
            raise Hard(f"unknown SASL mechanism in {given}")
    sasl.load(names)
    return names


def make_stamp(hostname: str) -> bytes:
    """Make the challenge: unique and not to be guessed (RFC 1939 section 7).

    The host name is cut down to what can stand between angle brackets.
    """
    host = "".join(c for c in hostname if "!" <= c <= "~" and c not in "<>@")[:64]
    unique = hexlify(posix.urandom(8)).decode()
    return f"<{posix.getpid()}.{int(time())}.{unique}@{host or 'localhost'}>".encode()
