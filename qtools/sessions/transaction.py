# SPDX-License-Identifier: ISC
"""The TRANSACTION and UPDATE states of a POP3 session, without descriptors or a disk.

Deletion is a mark that lives here until QUIT: whatever else ends the session leaves
the maildrop as it was, unless the administrator asked for the contrary (mdpop3d's -c).
See: RFC 1939 sections 5 to 7, RFC 2449 (CAPA), RFC 1460 (LAST), RFC 6856 section 3
(LANG).
"""

from qtools.errors import EXIT_DONE
from qtools.protocol import replies, tongue, verbs
from qtools.protocol.lines import BAD_LINE, Lines
from qtools.protocol.verbs import Verb
from qtools.sessions.actions import Close, Send, SendMessage, Trace, Update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from qtools.maildrop.interface import Contents
    from qtools.sessions.actions import Action
    from qtools.sessions.style import Style

    Actions = list[Action]

NO_SUCH = b"not that many messages"
UNREADABLE = b"unable to open that message"

# What a server says of itself whoever let the client in.
OWN_CAPABILITIES = (
    b"RESP-CODES",
    b"PIPELINING",
    b"EXPIRE NEVER",
    b"IMPLEMENTATION qtools",
)
# What only holds when the dialogue before login was ours (see style).
FRONT_CAPABILITIES = (b"AUTH-RESP-CODE", b"UTF8 USER")


class _Refusal(Exception):
    """A command that gets -ERR; the text is for the client."""


class Transaction:
    """The dialogue over one maildrop.

    is_open: commands are taken. After Update call updated(); when the client is gone
    or silent, lost().
    """

    def __init__(self, drop: "Contents", style: "Style") -> None:
        self.is_open = True
        self._drop = drop
        self._style = style
        self._ok = b"+OK\r\n" if style.is_bare else replies.OK
        self._extra = 2 if style.blank_line else 0
        self._language = style.language
        self._lines = Lines()
        self._deleted: set[int] = set()
        self._total: int | None = None  # octets of all messages, once summed up
        self._marked_octets = 0  # of those marked; kept from then on
        self._last = 0
        self._junk = 0
        self._is_updated = False
        self._why = ""

    def greet(self) -> "Actions":
        """Open the dialogue; this is also the reply to the login."""
        if not self._style.is_bare:
            return [Send(self._ok)]
        counts = (self._drop.count, self._left())
        return [Send(replies.ok(b"maildir: %d message(s) %d octet(s)" % counts))]

    def feed(self, data: bytes) -> "Actions":
        """Take octets from the client and give what is to be done."""
        self._lines.feed(data)
        actions: Actions = []
        while self.is_open and (line := self._lines.next()) is not None:
            if self._style.is_traced:
                actions.append(Trace(verbs.masked(VERBS, line)))
            actions += self._step(line)
        return actions

    def updated(self, failed: int) -> "Actions":
        """Take how many messages could not be removed and end the session."""
        self._is_updated = True
        note = f", {failed} not removed" if failed else ""
        actions: Actions = [Close(EXIT_DONE, self._why + note)]
        if self._why != "quit":
            return actions
        if failed:
            return [self._err(b"some deleted messages not removed"), *actions]
        return [Send(self._ok), *actions]

    def lost(self, why: str) -> "Actions":
        """End because the client is gone or silent; why is for the log."""
        self.is_open = False
        self._why = why
        if self._style.commits and not self._is_updated:
            return [self._update()]
        return [Close(EXIT_DONE, why)]

    def tally(self) -> tuple[int, int | None, int, int | None]:
        """Give the messages and octets left, then those deleted.

        Octets are None when the client never made us count them: that is no small
        work, and not worth a line in a log.
        """
        count, total, marked = self._drop.count, self._total, self._marked_octets
        if not self._is_updated:
            return count, total, 0, 0
        gone = len(self._deleted)
        if total is None:
            return count - gone, None, gone, None
        return count - gone, total - marked, gone, marked

    def _step(self, line: bytes) -> "Actions":
        keyword, rest = verbs.split(line)
        verb = VERBS.get(keyword)
        try:
            if line == BAD_LINE:
                return self._junked(b"syntax error")
            if verb is None:
                return self._junked(b"unimplemented")
            # Blanks alone are no argument, as qmail-pop3d has it for LIST and UIDL.
            given = verbs.arguments(verb, rest if rest.strip(b" ") else b"")
            if given is None:
                return [self._err(b"syntax error")]
            actions: Actions = verb.handler(self, *given)
        except _Refusal as why:
            return [self._err(why.args[0])]
        return actions

    def _junked(self, text: bytes) -> "Actions":
        """Refuse what is no command; a client that has nothing else has to go."""
        self._junk += 1
        actions: Actions = [self._err(text)]
        if self._junk == self._style.junk_limit:
            self.is_open = False
            self._why = "too many unknown commands"
            actions.append(Close(EXIT_DONE, self._why))
        return actions

    def _err(self, text: bytes) -> Send:
        """Make the one negative reply, in the client's language."""
        return Send(replies.err(tongue.translate(self._language, text)))

    def _number(self, text: bytes) -> int:
        """Read the number of a message that is there and not marked."""
        number = verbs.message_number(text)
        if number is None:
            raise _Refusal(b"syntax error")
        if not number:
            raise _Refusal(b"messages are counted from 1")
        if number > self._drop.count:
            raise _Refusal(NO_SUCH)
        if number in self._deleted:
            raise _Refusal(b"already deleted")
        return number

    def _octets(self, number: int) -> int:
        return self._drop.octets(number) + self._extra

    def _left(self) -> int:
        """Give the octets of all messages that are not marked."""
        if self._total is None:
            self._total = sum(self._drop.all_octets()) + self._extra * self._drop.count
            self._marked_octets = sum(map(self._octets, self._deleted))
        return self._total - self._marked_octets

    def _table(self, row: bytes, values: "Iterable[object]") -> "Actions":
        """List what is not marked, in one piece."""
        marked = self._deleted
        rows = [row % pair for pair in enumerate(values, 1) if pair[0] not in marked]
        return [Send(b"".join((self._ok, *rows, b".\r\n")))]

    def _update(self) -> Update:
        return Update(tuple(sorted(self._deleted)))

    def stat(self) -> "Actions":
        """Count what is not marked; both figures (RFC 1939 section 5)."""
        counts = (self._drop.count - len(self._deleted), self._left())
        return [Send(replies.ok(b"%d %d" % counts))]

    def listing(self, text: bytes = b"") -> "Actions":
        """Give the octets of one message, or of each (LIST)."""
        if text:
            number = self._number(text)
            return [Send(replies.ok(b"%d %d" % (number, self._octets(number))))]
        self._left()
        octets = self._drop.all_octets()
        if self._extra:
            octets = [each + self._extra for each in octets]
        return self._table(b"%d %d\r\n", octets)

    def uidl(self, text: bytes = b"") -> "Actions":
        """Give the unique-id of one message, or of each."""
        if text:
            number = self._number(text)
            return [Send(replies.ok(b"%d %b" % (number, self._drop.uid(number))))]
        return self._table(b"%d %b\r\n", self._drop.all_uids())

    def retrieve(self, text: bytes) -> "Actions":
        """Send a message (RETR).

        LAST counts it even when it turns out that it can't be opened: whoever does that
        tells the client, not us, and the next session begins with 0 all the same.
        """
        number = self._number(text)
        self._last = max(self._last, number)
        return [self._send(number, None)]

    def top(self, text: bytes, count: bytes) -> "Actions":
        """Send a message's header and the first lines of its body."""
        lines = verbs.message_number(count)
        if lines is None:
            raise _Refusal(b"syntax error")
        return [self._send(self._number(text), lines)]

    def _send(self, number: int, lines: int | None) -> SendMessage:
        return SendMessage(number, lines, self._ok, self._err(UNREADABLE).data)

    def delete(self, text: bytes) -> "Actions":
        """Mark a message (DELE)."""
        number = self._number(text)
        if self._total is not None:
            self._marked_octets += self._octets(number)
        self._deleted.add(number)
        self._last = max(self._last, number)
        return [Send(self._ok)]

    def reset(self) -> "Actions":
        """Take all marks back (RSET)."""
        self._deleted.clear()
        self._marked_octets = 0
        self._last = 0
        return [Send(self._ok)]

    def last(self) -> "Actions":
        """Give the highest number RETR or DELE has touched, as popa3d counts it."""
        return [Send(replies.ok(b"%d" % self._last))]

    def noop(self) -> "Actions":
        """Do nothing."""
        return [Send(self._ok)]

    def capabilities(self) -> "Actions":
        """List what holds in both states (CAPA); RFC 2449 wants the two lists agree."""
        lines = [verb.capability for verb in VERBS.values() if verb.capability]
        lines += OWN_CAPABILITIES
        if self._style.capabilities is not None:
            lines += (*FRONT_CAPABILITIES, *self._style.capabilities)
        elif self._style.is_bare:
            lines.append(b"USER")
        status = replies.ok(b"capability list follows")
        status = self._ok if self._style.is_bare else status
        return [Send(replies.multi(status, list(dict.fromkeys(lines))))]

    def change_language(self, wanted: bytes | None = None) -> "Actions":
        """Choose the language of texts, or list those there are (LANG)."""
        reply, self._language = tongue.answer(self._language, wanted)
        return [Send(reply)]

    def quit(self) -> "Actions":
        """Go to the UPDATE state."""
        self.is_open = False
        self._why = "quit"
        return [self._update()]


# keyword: handler, fewest and most arguments, what CAPA says for it.
VERBS = {
    b"STAT": Verb(Transaction.stat, 0, 0),
    b"LIST": Verb(Transaction.listing, 0, 1),
    b"UIDL": Verb(Transaction.uidl, 0, 1, b"UIDL"),
    b"RETR": Verb(Transaction.retrieve, 1, 1),
    b"TOP": Verb(Transaction.top, 2, 2, b"TOP"),
    b"DELE": Verb(Transaction.delete, 1, 1),
    b"RSET": Verb(Transaction.reset, 0, 0),
    b"LAST": Verb(Transaction.last, 0, 0),
    b"NOOP": Verb(Transaction.noop, 0, 0),
    b"CAPA": Verb(Transaction.capabilities, 0, 0),
    b"LANG": Verb(Transaction.change_language, 0, 1, b"LANG"),
    b"QUIT": Verb(Transaction.quit, 0, 0),
}
