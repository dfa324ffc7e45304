# SPDX-License-Identifier: ISC
"""What popserver was asked for: the options as rows, and their values in one object.

The grammar is tcpserver's, so that a run file changes by one word; what tcpserver has
not has long names only. Each default stands here, with its reason.
See: popserver(8), tcpserver(1).
"""

import posix

from qtools.errors import Hard, from_os_error
from qtools.server.addresses import Networks
from qtools.server.tls import settings as tls
from qtools.server.tls.common import HANDSHAKE_SECONDS
from qtools.system.options import Option, Values, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "popserver [options] host port program [argument ...]"

OPTIONS = (
    Option(
        "c", "concurrency", "N", "connections at once (500); 0: no listener is open"
    ),
    Option("b", "backlog", "N", "connections the kernel may hold for us (1024)"),
    Option("l", "local-name", "NAME", "our name, for TCPLOCALHOST (none)"),
    Option("x", "rules", "FILE", "tcprules(1) file; read anew when it is replaced"),
    Option("X", "no-rules-ok", "", "a missing rules file is no error"),
    Option("u", "uid", "N", "become this uid after binding"),
    Option("g", "gid", "N", "become this gid after binding"),
    Option("U", "ids-from-environment", "", "as -u $UID -g $GID"),
    Option("R", "no-ident", "", "ask no ident server (default)"),
    Option("r", "ident", "", "ask the client's ident server; foreign chains only"),
    Option("H", "no-lookup", "", "look up no host names of clients (default)"),
    Option("h", "lookup", "", "look up the client's host name; foreign chains only"),
    Option("p", "paranoid", "", "drop a host name that does not lead back"),
    Option("P", "not-paranoid", "", "believe host names (default)"),
    Option("t", "ident-timeout", "SECONDS", "longest wait for an ident server (26)"),
    Option("D", "no-delay", "", "set TCP_NODELAY (our own programs do that anyway)"),
    Option("d", "delay", "", "leave TCP_NODELAY alone (default)"),
    Option("q", "quiet", "", "tell errors only"),
    Option("Q", "normal", "", "tell errors and warnings (default)"),
    Option("v", "verbose", "", "tell of every connection, too"),
    Option("o", "ip-options", "", "accepted for tcpserver's sake; no effect"),
    Option("O", "no-ip-options", "", "accepted for tcpserver's sake; no effect"),
    Option("1", "print-port", "", "print the port number on descriptor 1"),
    Option("B", "banner", "TEXT", "send this first; foreign chains only"),
    Option("", "listen", "[tls:]HOST:PORT", "one more listener; may be repeated"),
    Option("", "implicit-tls", "", "the first listener speaks TLS at once"),
    Option("", "certificate", "FILE", "certificate and chain in PEM; one per name"),
    Option("", "key", "FILE", "its key, when not in the certificate's file"),
    Option("", "client-ca", "FILE", "whose client certificates are accepted"),
    Option("", "client-certificate", "RULE", "ask or require"),
    Option("", "ciphers", "LIST", "TLS 1.2 ciphers, in OpenSSL's words"),
    Option("", "tls-minimum", "VERSION", "TLSv1.2 (default) or TLSv1.3"),
    Option("", "handshake-timeout", "SECONDS", "longest TLS handshake (26)"),
    Option("n", "ucspi-tls", "", "foreign chains: TLS when the program asks for it"),
    Option("s", "tls-environment", "", "foreign chains: tell the program about TLS"),
    Option("", "clients", "FILE", "addresses that may connect; foreign chains only"),
    Option("", "per-source", "N", "connections at once from one source (50); 0: any"),
    Option("", "min-delay", "SECONDS", "a connection counts at least so long (0)"),
    Option("", "refuse", "TEXT", "say this to whom a limit keeps out"),
    Option("", "login-timeout", "SECONDS", "longest stay before login (1200)"),
    Option("", "proxy-from", "NETWORKS", "who sends a PROXY header, and must"),
    Option("", "tls-workers", "N", "TLS processes (one a processor, up to 4)"),
    Option("", "verifiers", "N", "processes that check passwords (2)"),
    Option("", "verifier-processes", "N", "of each, for pam and command at once (32)"),
    Option("", "verify-timeout", "SECONDS", "longest check of a password (60)"),
    Option("", "spare-sessions", "N", "session processes kept for the next login (32)"),
    Option("", "spare-seconds", "SECONDS", "how long each of them is kept (15)"),
    Option("", "drain", "SECONDS", "what sessions get to end after SIGTERM (30)"),
    Option("", "metrics", "FILE", "write counters there for Prometheus"),
    Option("", "notify-fd", "N", "write a line there when ready (s6)"),
    Option("", "syslog", "", "session log to syslog"),
    Option("", "journal", "", "session log to descriptor 2 with <N> levels"),
    Option("", "config", "FILE", "more options, one a line; read anew at SIGHUP"),
    Option("", "demo", "", "serve throw-away mail on free ports of the loopback"),
    Option("", "json", "", "with --demo: print ports and accounts as JSON"),
)

CONCURRENCY = 500  # popa3d's; qmail's 40 was for hosts with 16 MB
FOREIGN_CONCURRENCY = 40  # tcpserver's: each is a process or three
BACKLOG = 1024  # one that is full costs a client a second: its SYN is sent again
PER_SOURCE = 50  # popa3d's: an office behind one address, but not a whole flood
MIN_DELAY_SECONDS = 0  # popa3d's 10 would allow 5 logins a second from one source
LOGIN_SECONDS = 1200  # a client that only says NOOP has to go some day
DRAIN_SECONDS = 30
SPARE_SESSIONS = 32  # about a MiB each
SPARE_SECONDS = 15  # a client that comes back at once, not one that comes each minute
MOST_TLS_WORKERS = 4  # unless told: 8 MB each, for hundreds of handshakes a second
VERIFIERS = 2  # while one computes a slow hash another answers
# Modules wait two seconds over each wrong password; a process has some MB of its own.
VERIFIER_PROCESSES = 32
MOST_VERIFIER_PROCESSES = 255  # a packet has one octet for it
# Longer than a directory tries its servers before it fails (LDAP's 30 seconds), shorter
# than a client waits for his answer.
VERIFY_SECONDS = 60
MOST_OPTION_OCTETS = 65536
LARGEST_ID = 2**32 - 2  # the last number means "leave as is"


class Settings:
    """The command line, read and checked.

    program: our name. words: the options as they were given, for what only others
    need. host, port: of
    the first listener; listen: words of the others. proxies: who sends a PROXY header,
    None for nobody. clients: the file that names who may connect, empty for everybody.
    is_closed: nobody may, and no listener is open. chain: the program and its
    arguments.
    """

    def __init__(self, argv: "Sequence[str]") -> None:
        """Read a command line and the options file it names.

        Raises: Hard, Temporary.
        """
        values, rest = _parse(argv)
        self.program = argv[0].rpartition("/")[2]
        self.words = values
        self.is_demo = "demo" in values
        if len(rest) < 3 and not (self.is_demo and len(rest) in (0, 2)):
            raise Hard(f"usage: {USAGE}")
        self.host, self.port = rest[:2] if rest else ("127.0.0.1", "0")
        self.chain = rest[2:]
        self.listen = values.every("listen")
        self.name = values.get("local-name", "")
        self.backlog = values.number("backlog", BACKLOG, 1)
        self.per_source = values.number("per-source", PER_SOURCE)
        self.min_delay_seconds = values.number("min-delay", MIN_DELAY_SECONDS)
        self.login_seconds = values.number("login-timeout", LOGIN_SECONDS, 1)
        self.handshake_seconds = values.number(
            "handshake-timeout", HANDSHAKE_SECONDS, 1
        )
        self.drain_seconds = values.number("drain", DRAIN_SECONDS)
        self.spare = (
            values.number("spare-sessions", SPARE_SESSIONS),
            values.number("spare-seconds", SPARE_SECONDS),
        )
        self.verifiers = values.number("verifiers", VERIFIERS, 1)
        self.verifier_processes = values.number(
            "verifier-processes", VERIFIER_PROCESSES, 1, MOST_VERIFIER_PROCESSES
        )
        self.verify_seconds = values.number("verify-timeout", VERIFY_SECONDS, 1)
        self.tls_workers = values.number(
            "tls-workers", min(processors(), MOST_TLS_WORKERS), 1
        )
        self.closes_when_full = "refuse" in values  # else the kernel holds them
        self.refusal = values.get("refuse", "").encode("utf-8", "surrogateescape")
        proxies = values.get("proxy-from", "")
        self.proxies = Networks(proxies) if proxies else None
        self.clients = values.get("clients", "")
        self.rules = values.get("rules", "")
        self.is_rules_optional = "no-rules-ok" in values
        self.is_verbose = values.is_last("verbose", "quiet", "normal")
        self.is_quiet = values.is_last("quiet", "verbose", "normal")
        self.tls = tls.settings_from(values, posix.environ)
        self.is_first_tls = "implicit-tls" in values
        self.prints_port = "print-port" in values
        self.metrics = values.get("metrics", "")
        self.notify_descriptor = values.number("notify-fd", 0)
        self.uid, self.gid = _ids(values)
        self._concurrency = values.number("concurrency", 0)
        self.is_closed = "concurrency" in values and not self._concurrency

    def concurrency(self, *, is_foreign: bool) -> int:
        """Give how many connections there may be at once."""
        default = FOREIGN_CONCURRENCY if is_foreign else CONCURRENCY
        return self._concurrency or default


def processors() -> int:
    """Give how many processors this process may use."""
    return len(posix.sched_getaffinity(0))


def _parse(argv: "Sequence[str]") -> tuple[Values, list[str]]:
    """Parse; options of the file count as if they stood before the given ones."""
    values, rest = parse(argv, OPTIONS, USAGE)
    if "config" not in values:
        return values, rest
    words = read_words(values["config"])
    both = [argv[0], *words, *argv[1:]]
    return parse(both, OPTIONS, USAGE)


def read_words(path: str, options: "Sequence[Option]" = OPTIONS) -> list[str]:
    """Read an options file: one option a line, `name` or `name value`; # comments.

    options: that it may hold.
    Raises: Hard for a file that is missing, too long or holds what is no option;
    Temporary.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_OPTION_OCTETS + 1)
    except OSError as why:
        raise from_os_error(why, f"read {path}") from why
    if len(text) > MOST_OPTION_OCTETS:
        raise Hard(f"{path} is longer than {MOST_OPTION_OCTETS} octets")
    words = []
    # A file that named another would only seem to have it read.
    rows = {row.name: row for row in options if row.name != "config"}
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        name, *values = line.split(None, 1)
        row = rows.get(name)
        if row is None or bool(row.argument) != bool(values):
            raise Hard(f"{path} line {number}: no such option, or its value: {line}")
        words.append("=".join((f"--{name}", *values)))
    return words


def _ids(values: Values) -> tuple[int, int]:
    """Give uid and gid to become, -1 for none."""
    if "ids-from-environment" in values:
        for name, variable in (("uid", b"UID"), ("gid", b"GID")):
            values.setdefault(name, posix.environ.get(variable, b"").decode("latin-1"))
    uid, gid = (values.number(name, -1, 0, LARGEST_ID) for name in ("uid", "gid"))
    if (uid >= 0) != (gid >= 0):
        raise Hard("-u and -g go together")
    return uid, gid
