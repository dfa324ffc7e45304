# SPDX-License-Identifier: ISC
"""poppassd: let mail clients and web mail change a password.

Takes over from Debian's program of that name: one conversation on descriptors 0 and 1,
started by inetd, tcpserver or a service manager. See: poppassd(8).
"""

import posix

from qtools.accounts import changers, floor, mapping, quality
from qtools.chain.change import changes, errands, outset
from qtools.chain.change.changes import ChangeDesk, Rules
from qtools.chain.change.conversation import Conversation
from qtools.errors import Hard
from qtools.sessions import poppassd
from qtools.sessions.poppassd import PasswordChange
from qtools.system import changelog, fdio, options, ucspi
from qtools.system.changelog import ChangeLog
from qtools.system.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.mapping import Mapping
    from qtools.chain.change.errands import Window
    from qtools.system.options import Values
    from qtools.system.ucspi import TlsControl

USAGE = "poppassd [options]"
IDLE_SECONDS = 60  # people type into a web page, and it speaks when they are done

OPTIONS = (
    Option("a", "accounts", "KIND[:WHERE]", "pam[:SERVICE] (default) or db:FILE"),
    Option("p", "service", "NAME", "PAM's service; the same as --accounts pam:NAME"),
    Option("t", "timeout", "SECONDS", "longest wait for a line (60)"),
    Option("", "min-uid", "N", "lowest uid of those PAM changes (100), never 0"),
    Option("", "as-user", "", "change as that user, for whom PAM's modules have rules"),
    Option("", "fail-delay", "SECONDS", "from the old password to its refusal (3)"),
    Option("", "min-length", "N", "characters of a new password (8)"),
    Option("", "any-password", "", "leave all of a new password's quality to PAM"),
    Option("", "user-octets", "N", "longest line with a name (64)"),
    Option("", "password-octets", "N", "longest line with a password (128)"),
    Option("", "strip-domain", "", "take user@domain for user"),
    Option("", "domain-map", "FILE", "what becomes of user@domain, by domain"),
    Option("", "syslog-facility", "NAME", "where lines for syslog go (local4)"),
    Option("", "pwd", "", "speak CommuniGate's PWD; see --pwd --help"),
    Option("u", "user", "NAME", "whom the dialogue runs as when we are root (nobody)"),
    Option("C", "chroot", "DIR", "root directory of the dialogue (a fresh empty one)"),
)
CONTRARY = (
    ("accounts", "service"),
    ("strip-domain", "domain-map"),
    ("any-password", "min-length"),
)


def foresee(argv: list[str]) -> None:
    """Load what main() is going to need, where one process serves many."""
    if "--pwd" in argv[1:]:
        from qtools.chain.change import pwdservice

        pwdservice.foresee(argv)


def main(argv: list[str]) -> int:
    """Converse with one client; give 0 after quit, 1 after a refusal."""
    if "--pwd" in argv[1:]:
        return _pwd(argv)
    values, rest = options.parse(argv, OPTIONS, USAGE)
    if rest:
        raise Hard(f"usage: {USAGE}")
    address = outset.know_client(posix.environ)
    facility = values.get("syslog-facility", changelog.FACILITY)
    log = ChangeLog(changelog.facility(facility), address)
    desk, session, control = _prepare(values, log)
    idle = values.number("timeout", IDLE_SECONDS, least=1)

    def converse(window: "Window") -> tuple[int, str]:
        wire = fdio.Wire(0, 1, idle, idle)
        wire.set_nodelay()
        wire.lifeline(window.lifeline)
        return Conversation(session, wire, window).run()

    try:
        code, reason = errands.run(desk, control, outset.confining(values), converse)
    finally:
        desk.end()
    if reason == errands.LOST:
        log.failed("the dialogue has ended out of turn")
    return code


def _pwd(argv: list[str]) -> int:
    """Speak PWD, to one client or as a server."""
    if any(word == "--standalone" or word.startswith("-D") for word in argv[1:]):
        from qtools.server.pwd import standalone

        return standalone.run(argv)
    from qtools.chain.change import pwdservice

    return pwdservice.run(argv)


def _prepare(
    values: "Values", log: ChangeLog
) -> "tuple[ChangeDesk, PasswordChange, TlsControl | None]":
    """Make everything that may fail before a word is said.

    Raises: Hard, Temporary.
    """
    word = _word(values)
    least_uid = values.number("min-uid", floor.LEAST_UID, least=1)
    open_changer = changers.load(word, least_uid, is_for_user="as-user" in values)
    rules = Rules(
        _mapping(values).account,
        values.number("fail-delay", changes.FAIL_SECONDS, most=3600),
        None
        if "any-password" in values
        else values.number("min-length", quality.LEAST_CHARACTERS, most=100),
        "PAM" if changers.is_pam(word) else "database",
    )
    control = ucspi.tls_control(posix.environ)
    desk = ChangeDesk(open_changer, rules, log)
    return desk, _session(values, control), control


def _word(values: "Values") -> str:
    """Give the word for where passwords are changed.

    Raises: Hard for options of which one would be ignored: who believes to serve a
    database is not to serve the system's users.
    """
    for pair in CONTRARY:
        if all(name in values for name in pair):
            raise Hard(f"--{pair[0]} and --{pair[1]} contradict each other")
    if "service" in values:
        return f"{changers.PAM}:{values['service']}"
    word = changers.word(values.get("accounts", ""), posix.environ)
    for name in ("min-uid", "as-user"):
        if name in values and not changers.is_pam(word):
            raise Hard(f"--{name} is for PAM, and not for {word}")
    return word


def _session(values: "Values", control: "TlsControl | None") -> PasswordChange:
    stls = posix.environ.get(b"UCSPITLS", b"-")
    is_plain = not ucspi.is_implicit_tls(posix.environ)
    most = poppassd.MOST_OCTETS
    return PasswordChange(
        user_octets=values.number("user-octets", poppassd.USER_OCTETS, 6, most),
        password_octets=values.number(
            "password-octets", poppassd.PASSWORD_OCTETS, 6, most
        ),
        has_stls=control is not None and stls != b"-" and is_plain,
        needs_tls=stls == b"!" and is_plain,
    )


def _mapping(values: "Values") -> "Mapping":
    if "domain-map" in values:
        return mapping.read(values["domain-map"])
    return mapping.strip() if "strip-domain" in values else mapping.Mapping({})
