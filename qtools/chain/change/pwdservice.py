# SPDX-License-Identifier: ISC
"""poppassd --pwd: one conversation of PWD on descriptors 0 and 1.

Everything that may fail is made before a word is said, and everything that a confined
dialogue is going to need is loaded by then.
"""

import posix

from qtools.accounts import quality, registry
from qtools.accounts.db.store import Store
from qtools.chain import front
from qtools.chain.change import errands, outset
from qtools.chain.change.conversation import Conversation
from qtools.chain.change.pwd import FAIL_SECONDS, PwdDesk, Terms
from qtools.errors import Hard
from qtools.protocol import sasl
from qtools.sessions.policy import Policy
from qtools.sessions.pwd import Pwd
from qtools.system import changelog, fdio, logline, options, pwdlog, ucspi
from qtools.system.options import Option
from qtools.system.pwdlog import PwdLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.chain.change.errands import Window
    from qtools.system.options import Values
    from qtools.system.ucspi import TlsControl

USAGE = "poppassd --pwd [options]"
IDLE_SECONDS = 300  # the vendor's client comes again when it was silent for 295
WRITE_SECONDS = 60
LINE_OCTETS = 512  # before login; APOP with the longest name fits

OPTIONS = (
    Option("", "pwd", "", "speak CommuniGate's PWD, with its command line interface"),
    Option("a", "accounts", "KIND[:WHERE]", "who may log in; one of them is db:FILE"),
    Option("t", "timeout", "SECONDS", "longest wait for a line (300)"),
    Option("", "attempts", "N", "refused logins until we hang up (3)"),
    Option("", "fail-delay", "SECONDS", "from a login to its refusal (3)"),
    Option("", "min-length", "N", "characters of a password chosen by NEWPASS (any)"),
    Option("", "apop", "RULE", "APOP and CRAM-MD5: auto (default), yes, no"),
    Option("m", "mechanisms", "LIST", "SASL mechanisms, separated by commas"),
    Option("", "plaintext", "RULE", "passwords without TLS: allow (default), refuse"),
    Option("", "name", "HOST", "our name in the greeting (the host's)"),
    Option("", "log-level", "N", "0 crashes to 5 everything (2)"),
    Option("", "log-stderr", "", "log on descriptor 2, and not to syslog"),
    Option("", "syslog-facility", "NAME", "where lines for syslog go (local4)"),
    Option("u", "user", "NAME", "whom the dialogue runs as when we are root (nobody)"),
    Option("C", "chroot", "DIR", "root directory of the dialogue (a fresh empty one)"),
)


class Numbers:
    """The options that are numbers, each what its name says.

    least_characters: of a new password, None for any. facility: of syslog.
    """

    def __init__(self, values: "Values") -> None:
        """Read them.

        Raises: Hard.
        """
        self.idle_seconds = values.number("timeout", IDLE_SECONDS, 1)
        self.log_level = values.number("log-level", pwdlog.MAJOR, most=pwdlog.ALL)
        facility = values.get("syslog-facility", changelog.FACILITY)
        self.facility = changelog.facility(facility)
        self.fail_seconds = values.number("fail-delay", FAIL_SECONDS, most=3600)
        self.least_characters: int | None = None
        if "min-length" in values:
            least = quality.LEAST_CHARACTERS
            self.least_characters = values.number("min-length", least, most=100)


def run(argv: list[str]) -> int:
    """Converse with one client; give the exit code.

    Raises: Hard, Temporary.
    """
    values, rest = options.parse(argv, OPTIONS, USAGE)
    if rest:
        raise Hard(f"usage: {USAGE}")
    numbers = Numbers(values)
    log = _log(values, numbers, outset.know_client(posix.environ))
    control = ucspi.tls_control(posix.environ)
    desk, session = _prepare(values, numbers, log, control)

    def converse(window: "Window") -> tuple[int, str]:
        wire = fdio.Wire(0, 1, numbers.idle_seconds, WRITE_SECONDS)
        wire.set_nodelay()
        wire.lifeline(window.lifeline)
        return Conversation(session, wire, window).run()

    log.write(pwdlog.ALL, "connected")
    try:
        code, reason = errands.run(desk, control, outset.confining(values), converse)
    finally:
        desk.end()
    level = pwdlog.FAILURES if reason == errands.LOST else pwdlog.ALL
    log.write(level, f"ended: {reason}")
    return code


def check(values: "Values") -> None:
    """Find out what is wrong with options before there is a client to be told.

    Raises: Hard, Temporary.
    """
    Numbers(values)
    _policy(values, has_control=False)


def foresee(argv: list[str]) -> None:
    """Load the libraries of the account sources, to be had behind each fork.

    Raises: Hard.
    """
    values, _ = options.parse(argv, OPTIONS, USAGE)
    registry.load(registry.words(values.every("accounts"), posix.environ))


def _log(values: "Values", numbers: Numbers, address: bytes) -> PwdLog:
    """Open the log.

    Raises: Hard.
    """
    is_here = "log-stderr" in values
    if is_here and not logline.is_usable(2, set()):
        raise Hard("--log-stderr: descriptor 2 is not there, or the client's")
    return PwdLog(numbers.log_level, None if is_here else numbers.facility, address)


def _database(values: "Values") -> tuple[list[str], bytes, int]:
    """Give the words of all sources, the database's file, which word names it.

    Raises: Hard.
    """
    words = registry.words(values.every("accounts"), posix.environ)
    for place, word in enumerate(words):
        kind, _, where = word.partition(":")
        if kind == "db" and where:
            return words, where.encode("utf-8", "surrogateescape"), place
    raise Hard("--pwd needs an account database: --accounts db:FILE")


def _prepare(
    values: "Values", numbers: Numbers, log: PwdLog, control: "TlsControl | None"
) -> tuple[PwdDesk, Pwd]:
    """Make both sides of the conversation.

    Raises: Hard, Temporary.
    """
    words, path, place = _database(values)
    sources = registry.load(words)
    name = values.get("name") or posix.uname().nodename
    stamp = front.make_stamp(name)
    policy = _policy(values, has_control=control is not None)
    terms = Terms(
        sources=sources,
        database=sources[place],
        path=path,
        stamp=stamp,
        attempts=policy.attempts,
        fail_seconds=numbers.fail_seconds,
        least_characters=numbers.least_characters,
    )
    is_traced = log.level >= pwdlog.LOW_LEVEL
    session = Pwd(stamp, policy, name.encode("ascii", "replace"), is_traced=is_traced)
    return PwdDesk(terms, log), session


def _policy(values: "Values", *, has_control: bool) -> Policy:
    """Derive what the connection may do from the options and the environment.

    Raises: Hard, Temporary.
    """
    environ = posix.environ
    stls = environ.get(b"UCSPITLS", b"-")
    is_tls = ucspi.is_implicit_tls(environ)
    rule = values.get("plaintext", "allow")
    if rule not in ("allow", "refuse"):
        raise Hard(f"passwords without TLS: allow or refuse, not {rule}")
    guarded = "passwords" if rule == "refuse" else ""
    binding = ucspi.end_point(environ) if is_tls else b""
    _, path, place = _database(values)
    apop = _has_apop(values, path)
    mechanisms = _mechanisms(values, has_apop=apop, is_bound=bool(binding))
    if place:
        mechanisms = _without_scram(values, mechanisms)
    return Policy(
        apop=apop,
        mechanisms=mechanisms,
        has_stls=stls != b"-" and has_control and not is_tls,
        is_tls=is_tls,
        tls_for="all" if stls == b"!" else guarded,
        attempts=values.number("attempts", 3, least=1),
        line_octets=LINE_OCTETS,
        binding=binding,
    )


def _has_apop(values: "Values", path: bytes) -> bool:
    """Say whether to show a stamp: a client that sees one may try nothing else.

    Raises: Hard, Temporary.
    """
    rule = values.get("apop", "auto")
    if rule not in ("auto", "yes", "no"):
        raise Hard(f"APOP: auto, yes or no, not {rule}")
    store = Store(path)  # in any case: it is known now whether it can be opened
    try:
        return rule == "yes" or (rule == "auto" and store.has_clear_secrets())
    finally:
        store.close()


def _mechanisms(
    values: "Values", *, has_apop: bool, is_bound: bool
) -> tuple[bytes, ...]:
    """Give the SASL mechanisms to offer, loaded.

    Raises: Hard.
    """
    given = values.get("mechanisms", "plain,login,scram-sha-256")
    words = given.encode("ascii", "replace").upper().split(b",")
    names = [word for word in words if word != b"NONE"]
    if "mechanisms" not in values:
        names = [b"CRAM-MD5"] * has_apop + [b"SCRAM-SHA-256-PLUS"] * is_bound + names
    for name in names:
        found = sasl.MECHANISMS.get(name)
        if found is None or found.refusal:
            raise Hard(f"unknown SASL mechanism in {given}")
    sasl.load(names)
    return tuple(names)


def _without_scram(values: "Values", names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Give mechanisms for a database behind another source, which decides before it.

    That one could not be asked in a dialogue, and would be passed over.
    Raises: Hard when somebody wants it all the same.
    """
    left = tuple(name for name in names if not sasl.MECHANISMS[name].is_dialogue)
    if left != names and "mechanisms" in values:
        raise Hard("SCRAM needs the database to be the first of the account sources")
    return left
