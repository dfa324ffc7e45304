# SPDX-License-Identifier: ISC
"""What a PWD dialogue knows before login: POP3's words, with replies of its own."""

from qtools.protocol import verbs
from qtools.protocol.codes import DONE, MORE, WRONG
from qtools.protocol.verbs import Verb
from qtools.sessions.policy import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.sessions.actions import Action
    from qtools.sessions.pwd import Pwd

    Actions = list[Action]


def _user(session: "Pwd", name: bytes) -> "Actions":
    name = name.strip(b" ")
    if not name:
        return session.say(WRONG, b"wrong arguments")
    session.user = name
    return session.say(MORE, b"please send the PASS")


def _password(session: "Pwd", secret: bytes) -> "Actions":
    if not session.user:
        return session.say(WRONG, b"send the USER first")
    return session.ask_login("User", session.user, secret)


def _apop(session: "Pwd", name: bytes, digest: bytes) -> "Actions":
    if not name or not verbs.is_md5_hex(digest):
        return session.say(WRONG, b"wrong arguments")
    return session.ask_login("Apop", name, digest)


def _auth(
    session: "Pwd", name: bytes | None = None, initial: bytes | None = None
) -> "Actions":
    if name is not None:
        return session.begin(name, initial)
    return session.show([*session.policy.usable_mechanisms()])


def _stls(session: "Pwd") -> "Actions":
    return session.start_tls()


def _noop(session: "Pwd") -> "Actions":
    return session.say(DONE, b"OK")


def _quit(session: "Pwd") -> "Actions":
    return session.quit()


# keyword: handler, fewest and most arguments.
VERBS = {
    b"USER": Verb(_user, 1, 1, offered=Policy.can_use_password),
    b"PASS": Verb(_password, 1, 1, offered=Policy.can_use_password, is_secret=True),
    b"APOP": Verb(_apop, 2, 2, offered=Policy.can_apop, is_secret=True),
    b"AUTH": Verb(_auth, 0, 2, is_secret=True),
    b"STLS": Verb(_stls, 0, 0, offered=Policy.can_start_tls),
    b"NOOP": Verb(_noop, 0, 0),
    b"QUIT": Verb(_quit, 0, 0),
}
