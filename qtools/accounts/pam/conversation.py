# SPDX-License-Identifier: ISC
"""Answer the prompts of PAM's modules with what a mail client has sent.

A module says what it wants in words for people. There are but three things to give:
the name, the present secret, the new one; which one it is, the prompt's words tell, as
each module has its own. What has been told instead of asked is kept, because it says
why something was refused. Once an error was told in a change of password, no prompt
is answered any more: the module asks for a better one, and we would send the same.
See: pam_conv(3).
"""

from qtools.system.ffi.pam import ECHO_OFF, ECHO_ON, ERROR, INFO

NEW = b"new"
OLD_WORDS = frozenset((b"current", b"old", b"existing"))
NAMING_WORDS = frozenset((b"for", b"of", b"user", b"account"))
ADDRESS_SIGNS = b"@\\"  # in a token: joe@REALM, or DOMAIN\joe
AGAIN_WORDS = frozenset((b"retype", b"reenter", b"verify", b"again"))
RE_ENTER = b"re-enter"

MOST_TEXTS = 8
MOST_CHARACTERS = 400  # of all that is told at once: it is to fit into a line

AUTHENTICATION, CHANGE = range(2)


class Stopped(Exception):
    """There is no answer to this."""


class Conversation:
    """What is said between a client, of whom we know all there is, and some modules.

    secret: the present one. new: the one it is to be changed to, None for no change.
    errors, notes: what modules have told, each on one line. has_shown_secret: whether
    a module has asked for the present secret, and so can have looked at it.
    """

    def __init__(self, user: bytes, secret: bytes) -> None:
        self._user = user
        self._secret = secret
        self._phase = AUTHENTICATION
        self._new = b""
        self._has_stopped = False
        self._is_old_expected = True  # by a change's first prompt, if that is plain
        self.has_shown_secret = False
        self.errors: list[str] = []
        self.notes: list[str] = []

    def begin_change(self, new: bytes) -> None:
        """Go on with the change to a new secret; what was told before is forgotten."""
        self._phase = CHANGE
        self._new = new
        self.errors, self.notes = [], []

    def forget(self) -> None:
        """Let go of the secrets; a prompt from now on has no answer."""
        self._secret = self._new = b""

    def answer(self, kind: int, text: bytes) -> bytes | None:
        """Take a message of a module; give the reply to a prompt, None for none.

        Raises: Stopped.
        """
        if kind in (ERROR, INFO):
            self._note(self.errors if kind == ERROR else self.notes, text)
            return None
        if kind not in (ECHO_OFF, ECHO_ON):
            raise Stopped("a prompt of an unknown kind")
        reply = self._reply(words_of(text, self._user), is_open=kind == ECHO_ON)
        if not reply:
            self._has_stopped = True
            raise Stopped("nothing to give to this prompt")
        return reply

    def _note(self, kept: list[str], text: bytes) -> None:
        """Keep what a module tells; not what it says to our having stopped."""
        line = one_line(text)
        if line and len(kept) < MOST_TEXTS and not self._has_stopped:
            kept.append(line)

    def _reply(self, words: frozenset[bytes], *, is_open: bool) -> bytes:
        """Give the name or one of the secrets, or nothing."""
        if self._phase == AUTHENTICATION:
            if NEW in words and not words & OLD_WORDS:
                return b""
            if is_open:
                return self._user
            self.has_shown_secret = bool(self._secret)
            return self._secret
        if self.errors:
            return b""
        is_old = bool(words & OLD_WORDS)
        is_new = NEW in words or (bool(words & AGAIN_WORDS) and not is_old)
        is_old = is_old or self._is_old_expected
        self._is_old_expected = False
        return self._secret if is_old and not is_new else self._new

    def said(self) -> str:
        """Give on one line why something failed: errors, or else notes; or nothing."""
        return " ".join(self.errors or self.notes)[:MOST_CHARACTERS]


def words_of(prompt: bytes, user: bytes) -> frozenset[bytes]:
    """Give the words of a prompt in lower case, without those that name somebody.

    joe, of a realm NEW.EXAMPLE, is asked for a "Password for joe@NEW.EXAMPLE" that is
    not new, and a user "new" for a "Password for user new" that is his old one.
    """
    text, name = prompt.lower(), user.lower()
    for named in (b"for " + name, name + b"'s"):
        text = text.replace(named, b" ")
    text = text.replace(RE_ENTER, b"reenter")
    words: list[bytes] = []
    before = b""
    for token in text.split():
        bare = token.strip(b":,;.?!()[]<>'\"")
        is_name = bare == name and before in NAMING_WORDS
        if not is_name and not any(sign in bare for sign in ADDRESS_SIGNS):
            words += _letters(token).split()
        before = bare
    return frozenset(words)


def _letters(text: bytes) -> bytes:
    """Give a text with blanks for all that are no letters."""
    return bytes(octet if chr(octet).isalpha() else 32 for octet in text)


def one_line(text: bytes) -> str:
    """Give a module's text as one line that nothing can hide in."""
    line = " ".join(text.decode("utf-8", "replace").split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)
