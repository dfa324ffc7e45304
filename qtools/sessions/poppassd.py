# SPDX-License-Identifier: ISC
"""The dialogue of poppassd: user, pass, newpass, quit, each once and in this order.

There is no command loop and no second chance: what a line means depends on where it
stands, and whatever else stands there is refused and ends the dialogue. Replies are
Debian's, octet by octet, since web clients compare the code, show the text to people,
and wait for the end of the connection after a refusal.
See: poppassd(8).
"""

from qtools import __version__
from qtools.errors import EXIT_DONE, EXIT_REFUSED, EXIT_TEMPORARY
from qtools.protocol.lines import BAD_LINE, Lines
from qtools.sessions.actions import Ask, Close, Send, StartTls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.sessions.actions import Action

    Actions = list[Action]

# Errands: the fields of each behind it.
AUTHENTICATE = 1  # user, old password
CHANGE = 2  # new password

USER_OCTETS = 64  # of the whole line without its end, as ever
PASSWORD_OCTETS = 128  # likewise
MOST_OCTETS = 998  # what is behind it is dropped, and the line refused
TEXT_OCTETS = 400  # of a module's text; a reply is one line that people read

_BLANKS = b" \t\v\f\r"


class PasswordChange:
    """The dialogue.

    user_octets, password_octets: the longest lines of user and pass, without their
    ends. has_stls: "stls" may come first. needs_tls: nothing else may.
    """

    def __init__(
        self,
        *,
        user_octets: int = USER_OCTETS,
        password_octets: int = PASSWORD_OCTETS,
        has_stls: bool = False,
        needs_tls: bool = False,
    ) -> None:
        self._user_octets = user_octets
        self._password_octets = password_octets
        self._has_stls = has_stls
        self._needs_tls = needs_tls
        self._lines = Lines()
        self._user = b""
        self._step = self._take_user
        self._is_waiting = False  # for an answer, or for TLS
        self._is_open = True

    def greet(self) -> "Actions":
        """Open the dialogue, in the shape that tells people and scanners who it is."""
        version = __version__.encode()
        return [_reply(b"200 poppassd v%s hello, who are you?" % version)]

    def feed(self, data: bytes) -> "Actions":
        """Take octets from the client."""
        self._lines.feed(data)
        return self._run()

    def answered(self, code: int, text: bytes) -> "Actions":
        """Take the exit code of the errand, and why a new password was refused."""
        self._is_waiting = False
        if self._step == self._take_newpass:
            return self._authenticated(code) + self._run()
        return self._changed(code, text) + self._run()

    def tls_started(self) -> "Actions":
        """Start afresh: nothing that came before TLS counts."""
        self._lines.forget()
        self._is_waiting = self._has_stls = self._needs_tls = False
        return []

    def tls_failed(self) -> "Actions":
        """End: the client waits for a handshake, so no reply could reach it."""
        return self._close(EXIT_TEMPORARY, "tls-failed")

    def lost(self, why: str) -> "Actions":
        """End a silent dialogue; read the end of the input as an empty line."""
        if why == "eof":
            return self.feed(b"\n")
        reply = _reply(b"421 Timeout, closing connection.")
        return [reply, *self._close(EXIT_TEMPORARY, why)]

    def _run(self) -> "Actions":
        actions: Actions = []
        while self._is_open and not self._is_waiting:
            line = self._lines.next(MOST_OCTETS + 2)
            if line is None:
                break
            actions += self._step(line)
        return actions

    def _take_user(self, line: bytes) -> "Actions":
        if self._has_stls and line[:4].lower() == b"stls":
            self._is_waiting = True
            return [_reply(b"200 Begin TLS negotiation."), StartTls()]
        if self._needs_tls:
            return self._refuse(b"500 Encryption required, start TLS first.")
        if line == BAD_LINE or len(line) > self._user_octets:
            return self._refuse(b"500 Username too long (max %d)." % self._user_octets)
        words = _argument(b"user", line).split(maxsplit=1)
        if not words:
            return self._refuse(b"500 Username required.")
        self._user = words[0]
        self._step = self._take_pass
        return [_reply(b"200 Your password please.")]

    def _take_pass(self, line: bytes) -> "Actions":
        if line == BAD_LINE or len(line) > self._password_octets:
            return self._refuse_length()
        secret = _argument(b"pass", line)
        if not secret:
            return self._refuse(b"500 Password required.")
        self._step = self._take_newpass
        return self._ask(AUTHENTICATE, self._user, secret)

    def _authenticated(self, code: int) -> "Actions":
        if code == EXIT_DONE:
            return [_reply(b"200 Your new password please.")]
        if code == EXIT_REFUSED:
            return self._refuse(b"500 Old password is incorrect.")
        return self._refuse(b"500 Server error, try again later.", EXIT_TEMPORARY)

    def _take_newpass(self, line: bytes) -> "Actions":
        """Take the new password whole or not at all.

        One that is cut would lock its owner out; so would one longer than "pass"
        takes, the next time it is to be changed.
        """
        secret = _argument(b"newpass", line)
        most = self._password_octets - len(b"pass ")
        if line == BAD_LINE or len(secret) > most or b"\r" in line:
            return self._refuse_length()
        if not secret:
            return self._refuse(b"500 New password required.")
        self._step = self._take_quit
        return self._ask(CHANGE, secret)

    def _changed(self, code: int, text: bytes) -> "Actions":
        if code == EXIT_DONE:
            return [_reply(b"200 Password changed, thank-you.")]
        said = b": " + one_line(text) if text else b""
        reply = b"500 Server error, password not changed" + said
        return self._refuse(reply, code)

    def _take_quit(self, line: bytes) -> "Actions":
        if line[:4].lower() != b"quit":
            return self._refuse(b"500 Quit required.")
        return [_reply(b"200 Bye."), *self._close(EXIT_DONE, "quit")]

    def _ask(self, kind: int, *fields: bytes) -> "Actions":
        self._is_waiting = True
        return [Ask(kind, *fields)]

    def _refuse_length(self) -> "Actions":
        most = self._password_octets
        return self._refuse(b"500 Password length exceeded (max %d)." % most)

    def _refuse(self, reply: bytes, code: int = EXIT_REFUSED) -> "Actions":
        code = code if code in (EXIT_REFUSED, EXIT_TEMPORARY) else EXIT_TEMPORARY
        return [_reply(reply), *self._close(code, "refused")]

    def _close(self, code: int, why: str) -> "Actions":
        self._is_open = False
        return [Close(code, why)]


def _argument(keyword: bytes, line: bytes) -> bytes:
    """Give what is behind the keyword and its blanks; empty for another keyword.

    A blank between them was never asked for, and a line ends at a CR.
    """
    line = line.partition(b"\r")[0]
    if line[: len(keyword)].lower() != keyword:
        return b""
    return line[len(keyword) :].lstrip(_BLANKS)


def one_line(text: bytes) -> bytes:
    """Make one line of a text, for people, without what terminals act upon."""
    text = bytes(octet if octet >= 0x20 and octet != 0x7F else 0x20 for octet in text)
    return b" ".join(text.split())[:TEXT_OCTETS]


def _reply(text: bytes) -> Send:
    return Send(text + b"\r\n")
