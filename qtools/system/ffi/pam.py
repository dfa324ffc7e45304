# SPDX-License-Identifier: ISC
"""PAM, the system's pluggable authentication: its library's functions and numbers.

What is made of them is elsewhere: a transaction in pam_transaction, the answers to
what modules ask in pam_replies. The numbers are those of Linux-PAM.
See: pam(3), security/_pam_types.h.
"""

from qtools.system.ffi.native import Int, Library, Pointer, Text, Word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SONAMES = ("libpam.so.0", "libpam.so", "libpam.dylib")

# Kinds of a message; others ask for what no protocol of ours can ask
ECHO_OFF, ECHO_ON, ERROR, INFO = 1, 2, 3, 4
PROMPTS = (ECHO_OFF, ECHO_ON)

USER, TTY, RHOST, FAIL_DELAY = 2, 3, 4, 10  # items

NO_NULL_AUTHTOK = 1  # flags of authenticate and acct_mgmt
ESTABLISH, DELETE = 2, 4  # and of setcred

# Codes
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
