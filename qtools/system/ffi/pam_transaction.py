# SPDX-License-Identifier: ISC
"""One transaction with PAM, from start to end.

The callback for what modules ask, and the structure that points to it, live as long as
the transaction.
See: pam_start(3), pam_set_item(3), pam_fail_delay(3).
"""

from qtools.errors import Hard
from qtools.system.ffi.native import (
    Int,
    Pointer,
    Text,
    byref,
    callback,
    longs,
    pointer_to,
)
from qtools.system.ffi.pam import FAIL_DELAY, SUCCESS, USER
from qtools.system.ffi.pam_replies import Replies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.system.ffi.pam import Pam
    from qtools.system.ffi.pam_replies import Converse


class Transaction:
    """One conversation with the modules of a service, about one user."""

    def __init__(
        self,
        library: "Pam",
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
        kinds = (Int, Pointer, Pointer, Pointer)
        self._kept = [callback(Replies(library, converse).called, Int, *kinds)]
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
