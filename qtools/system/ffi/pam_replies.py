# SPDX-License-Identifier: ISC
"""Reply to what a module of PAM asks, through C.

The library calls back for every prompt of a module and frees what it gets, so replies
are made with its own malloc; a reply that isn't taken is wiped first. Nothing is
raised through C: a conversation that fails in any way says so with a code.
See: pam_conv(3).
"""

from qtools.system.ffi.native import LONG_OCTETS, Int, Pointer, Text
from qtools.system.ffi.pam import CONVERSATION_ERROR, MOST_MESSAGES, PROMPTS, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.system.ffi.pam import Pam

    Converse = Callable[[int, bytes], bytes | None]


class Replies:
    """Has somebody reply, and hands that over; see Transaction on converse."""

    def __init__(self, library: "Pam", converse: "Converse") -> None:
        self._library = library
        self._converse = converse

    def called(
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
