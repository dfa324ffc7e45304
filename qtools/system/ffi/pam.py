# SPDX-License-Identifier: ISC
"""PAM, the system's pluggable authentication: one transaction from start to end.

The library calls back for every prompt of a module and frees what it gets, so replies
are made with its own malloc; a reply that isn't taken is wiped first. The callback
and the structure that points to it live as long as the transaction. Nothing is raised
through C: a conversation that fails in any way says so with a code.
See: pam_start(3), pam_conv(3), pam_set_item(3), pam_fail_delay(3).
"""

from qtools.errors import Hard
from qtools.system.ffi.native import (
    LONG_OCTETS,
    Int,
    Library,
    Pointer,
    Text,
    Word,
    byref,
    callback,
    longs,
    pointer_to,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Converse = Callable[[int, bytes], bytes | None]

SONAMES = ("libpam.so.0", "libpam.so", "libpam.dylib")

# Kinds of a message; others ask for what no protocol of ours can ask
ECHO_OFF, ECHO_ON, ERROR, INFO = 1, 2, 3, 4
PROMPTS = (ECHO_OFF, ECHO_ON)

USER, TTY, RHOST, FAIL_DELAY = 2, 3, 4, 10  # items

NO_NULL_AUTHTOK = 1  # flags of authenticate and acct_mgmt
ESTABLISH, DELETE = 2, 4  # and of setcred

# Codes, of Linux-PAM
SUCCESS = 0
OPEN_ERROR = 1
SYMBOL_ERROR = 2
SYSTEM_ERROR = 4
PERMISSION_DENIED = 6
AUTHENTICATION_ERROR = 7
USER_UNKNOWN = 10
TRIES_EXCEEDED = 11
NEW_SECRET_REQUIRED = 12
ACCOUNT_EXPIRED = 13
CREDENTIALS_EXPIRED = 16
CONVERSATION_ERROR = 19
SECRET_ERROR = 20
SECRET_EXPIRED = 27
MODULE_UNKNOWN = 28

MOST_MESSAGES = 32  # at once; PAM_MAX_NUM_MSG

STEPS = (
    *("authenticate", "acct_mgmt", "setcred"),
    *("open_session", "close_session", "chauthtok"),
)


class Pam:
    """The library, loaded.

    Raises: Hard when there is none.
    """

    def __init__(self, *sonames: str) -> None:
        self._library = Library(*(sonames or SONAMES))
        bind = self._library.function
        self.start = bind("pam_start", Int, Text, Text, Pointer, Pointer)
        self.end = bind("pam_end", Int, Pointer, Int)
        self.set_text = bind("pam_set_item", Int, Pointer, Int, Text)
        self.set_pointer = bind("pam_set_item", Int, Pointer, Int, Pointer)
        self.get_item = bind("pam_get_item", Int, Pointer, Int, Pointer)
        self.variable = bind("pam_getenv", Text, Pointer, Text)
        self.strerror = bind("pam_strerror", Text, Pointer, Int)
        self.steps = {name: bind(f"pam_{name}", Int, Pointer, Int) for name in STEPS}
        libc = Library("").function
        self.calloc = libc("calloc", Pointer, Word, Word)
        self.copy = libc("strdup", Pointer, Text)
        self.free = libc("free", None, Pointer)
        self.wipe = libc("memset", Pointer, Pointer, Int, Word)
        self.variable_of_process = libc("getenv", Text, Text)

    def start_from(self) -> "Callable[..., int]":
        """Give pam_start_confdir, which looks for services in a folder of its own.

        Raises: Hard where the library is older than 1.4.
        """
        kinds = (Text, Text, Pointer, Text, Pointer)
        return self._library.function("pam_start_confdir", Int, *kinds)


class Transaction:
    """One conversation with the modules of a service, about one user."""

    def __init__(
        self,
        library: Pam,
        service: bytes,
        user: bytes,
        converse: "Converse",
        folder: bytes | None = None,
    ) -> None:
        """Start it.

        converse: takes the kind and text of a message, and gives the reply to a
        prompt, None for none; whatever it raises ends the conversation. folder: where
        services are, instead of the system's place.
        Raises: Hard when there is no such service, and no "other".
        """
        self._library = library
        self._converse = converse
        kinds = (Int, Pointer, Pointer, Pointer)
        # they and we hold each other until the end
        self._kept = [callback(self._called, Int, *kinds)]
        self._conversation = longs(2)  # struct pam_conv: the callback, and its data
        self._conversation[0] = pointer_to(self._kept[0])
        self._handle = Pointer(None)
        places = byref(self._conversation), byref(self._handle)
        if folder is None:
            self.code = library.start(service, user, *places)
        else:
            start = library.start_from()
            self.code = start(service, user, places[0], folder, places[1])
        if self.code != SUCCESS:
            why = self.text()
            self._handle = Pointer(None)
            raise Hard(f"PAM has no service {service!r}: {why}")

    def set(self, item: int, value: bytes) -> None:
        """Set TTY, RHOST or another item that is text; one that can't be stays."""
        self._library.set_text(self._handle, item, value)

    def drop_delay(self) -> None:
        """Don't wait after a failure: whoever asks does that himself."""
        self._kept.append(callback(lambda *_: None, None, Int, Int, Pointer))
        address = pointer_to(self._kept[-1])
        self._library.set_pointer(self._handle, FAIL_DELAY, address)

    def user(self) -> bytes:
        """Give the user's name as the modules have it by now, empty for none."""
        found = Pointer(None)
        self._library.get_item(self._handle, USER, byref(found))
        return Text.from_buffer(found).value or b""

    def variable(self, name: bytes) -> bytes:
        """Give a variable that a module has set, empty for none.

        Some have no way but to set it in the process itself.
        """
        value: bytes | None = self._library.variable(self._handle, name)
        return value or self._library.variable_of_process(name) or b""

    def do(self, step: str, flags: int = 0) -> int:
        """Take one of the STEPS; give its code."""
        code: int = self._library.steps[step](self._handle, flags)
        self.code = code
        return code

    def text(self) -> str:
        """Give what the library says the last code means."""
        said: bytes = self._library.strerror(self._handle, self.code) or b""
        return said.decode("utf-8", "replace") or f"code {self.code}"

    def end(self) -> None:
        """Let go of everything; may be called twice."""
        handle, self._handle = self._handle, Pointer(None)
        if handle.value:
            self._library.end(handle, self.code)
            self._kept.clear()

    def _called(
        self, count: int, messages: int | None, replies: int | None, _data: int | None
    ) -> int:
        """Be called by a module: converse, and hand over what it is to free.

        Takes the addresses of an array of pointers to messages, and of where to leave
        the address of an array of replies, which some modules leave out when they
        only tell something.
        """
        made: list[int] = []
        try:
            if 0 < count <= MOST_MESSAGES and messages:
                answers = [self._answer(messages, place) for place in range(count)]
                if self._reply(answers, replies, made):
                    return SUCCESS
        except BaseException:  # noqa: BLE001  # C would print it, and take it for success
            self._withdraw(made)
            return CONVERSATION_ERROR
        self._withdraw(made)
        return CONVERSATION_ERROR

    def _reply(
        self, answers: list[bytes | None], replies: int | None, made: list[int]
    ) -> bool:
        """Hand answers over; tell whether that was done.

        made: gets the address of the array, and then of each reply.
        """
        if not replies:
            return not any(answer is not None for answer in answers)
        array = self._library.calloc(len(answers), 2 * LONG_OCTETS)
        made.append(array or 0)
        for place, answer in enumerate(answers):
            if array and answer is not None:
                made.append(self._library.copy(answer) or 0)
                # struct pam_response: a pointer, and an int that is not used
                slot = Pointer.from_address(array + 2 * place * LONG_OCTETS)
                slot.value = made[-1]
        if all(made):
            Pointer.from_address(replies).value = array
            return True
        return False

    def _answer(self, messages: int, place: int) -> bytes | None:
        """Converse about one message: an int, its kind, and a pointer to its text."""
        message = Pointer.from_address(messages + place * LONG_OCTETS).value
        kind = Int.from_address(message).value
        text = Text.from_address(message + LONG_OCTETS).value or b""
        answer = self._converse(kind, text)
        if (answer is None) == (kind in PROMPTS) or b"\0" in (answer or b""):
            raise ValueError("no reply to this")
        return answer

    def _withdraw(self, made: list[int]) -> None:
        """Wipe and free replies that are not handed over, and their array."""
        for reply in filter(None, made[1:]):
            octets = len(Text.from_buffer(Pointer(reply)).value or b"")
            self._library.wipe(reply, 0, octets)
            self._library.free(reply)
        if made and made[0]:
            self._library.free(made[0])
