# SPDX-License-Identifier: ISC
"""What modules ask, in their own words, and what they get; and what can go wrong in C.

The sequences are those that pam_unix and pam_matrix were seen to have.
"""

import _ctypes
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts.interface import Unknown
from qtools.accounts.pam import source
from qtools.accounts.pam.attempt import check_name, holds_digest
from qtools.accounts.pam.conversation import MOST_CHARACTERS, Conversation, Stopped
from qtools.errors import Refused
from qtools.system.ffi import pam
from qtools.system.ffi.native import LONG_OCTETS, Library, Pointer, Text, longs
from qtools.system.ffi.pam import (
    CONVERSATION_ERROR,
    ECHO_OFF,
    ECHO_ON,
    ERROR,
    INFO,
    SUCCESS,
)
from qtools.system.ffi.pam_replies import Replies

OLD, NEW, NAME = b"sesame", b"open sesame", b"joe"


def changing() -> Conversation:
    made = Conversation(NAME, OLD)
    made.begin_change(NEW)
    return made


@pytest.mark.parametrize(
    ("kind", "prompt", "expected"),
    [
        (ECHO_OFF, b"Password: ", OLD),
        (ECHO_OFF, b"Enter login(LDAP) password: ", OLD),
        (ECHO_OFF, b"Verification code: ", OLD),
        (ECHO_OFF, b"", OLD),
        (ECHO_OFF, b"\xff\xfe", OLD),
        (ECHO_ON, b"login: ", NAME),
        (ECHO_OFF, b"Password for joe@new.example: ", OLD),
        (ECHO_OFF, b"Newspaper password: ", OLD),
        (INFO, b"Your password will expire", None),
        (ERROR, b"Authentication failed", None),
    ],
)
def test_a_login(kind: int, prompt: bytes, expected: bytes | None) -> None:
    user = b"joe@new.example" if b"@" in prompt else NAME
    assert Conversation(user, OLD).answer(kind, prompt) == expected


@pytest.mark.parametrize(
    ("user", "prompt"),
    [
        (b"joe", b"Password for joe@NEW.EXAMPLE.COM: "),
        (b"joe", b"Password for joe@NEW: "),
        (b"joe", b"Password for NEW\\joe: "),
        (b"new", b"Password for user new: "),
        (b"NEW", b"Password of new:"),
        (b"new", b"new's password: "),
    ],
)
def test_somebody_of_a_realm_that_is_new(user: bytes, prompt: bytes) -> None:
    assert Conversation(user, OLD).answer(ECHO_OFF, prompt) == OLD


def test_it_is_known_whether_the_password_was_asked_for() -> None:
    made = Conversation(NAME, OLD)
    assert not made.has_shown_secret
    made.answer(ECHO_ON, b"login: ")
    made.answer(INFO, b"Password: ")
    assert not made.has_shown_secret
    made.answer(ECHO_OFF, b"Password: ")
    assert made.has_shown_secret


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        (ECHO_OFF, b"New password: "),  # a module that forces a change at login
        (5, b"Yes or no?"),
        (7, b"\0"),
        (0, b""),
        (-1, b"Password: "),
    ],
)
def test_a_login_has_no_answer(kind: int, prompt: bytes) -> None:
    with pytest.raises(Stopped):
        Conversation(NAME, OLD).answer(kind, prompt)


SEQUENCES = {
    "pam_unix as root": [(b"New password: ", NEW), (b"Retype new password: ", NEW)],
    "pam_unix": [
        (b"Current password: ", OLD),
        (b"New password: ", NEW),
        (b"Retype new password: ", NEW),
    ],
    "pam_unix of old": [
        (b"(current) UNIX password: ", OLD),
        (b"Enter new UNIX password: ", NEW),
        (b"Retype new UNIX password: ", NEW),
    ],
    "pam_matrix": [
        (b"Old password: ", OLD),
        (b"New Password :", NEW),
        (b"Verify New Password :", NEW),
    ],
    "words left out": [
        (b"Password: ", OLD),
        (b"Password: ", NEW),
        (b"Password again: ", NEW),
    ],
    "only a new one": [(b"Re-enter password: ", NEW), (b"Password: ", NEW)],
    "both in one": [(b"New password (not the old one): ", NEW)],
    "twice the old one": [
        (b"Existing password: ", OLD),
        (b"Verify existing password: ", OLD),
        (b"Password: ", NEW),
    ],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_change(name: str) -> None:
    conversation = changing()
    for prompt, expected in SEQUENCES[name]:
        assert conversation.answer(ECHO_OFF, prompt) == expected, prompt


@pytest.mark.parametrize("user", [b"new", b"old", b"e", b"password", b""])
def test_a_users_name_is_not_what_is_asked_for(user: bytes) -> None:
    conversation = Conversation(user, OLD)
    conversation.begin_change(NEW)
    prompt = b"Current password for %s: " % user
    assert conversation.answer(ECHO_OFF, prompt) == OLD
    assert conversation.answer(ECHO_OFF, b"New password for %s: " % user) == NEW


def test_nothing_more_is_said_after_an_error_in_a_change() -> None:
    """pam_unix asks three times, and would get three times the same."""
    conversation = changing()
    assert conversation.answer(INFO, b"Changing password for joe.") is None
    assert conversation.answer(ECHO_OFF, b"Current password: ") == OLD
    assert conversation.answer(ECHO_OFF, b"New password: ") == NEW
    conversation.answer(ERROR, b"You must choose a longer password.")
    with pytest.raises(Stopped):
        conversation.answer(ECHO_OFF, b"New password: ")
    conversation.answer(ERROR, b"Password change has been aborted.")
    assert conversation.said() == "You must choose a longer password."


def test_an_error_at_login_does_not_end_the_change() -> None:
    conversation = Conversation(NAME, OLD)
    conversation.answer(ERROR, b"Your password has expired.")
    conversation.begin_change(NEW)
    assert conversation.said() == ""
    assert conversation.answer(ECHO_OFF, b"New password: ") == NEW


def test_what_is_told_is_one_line_of_some_length() -> None:
    conversation = changing()
    for _ in range(1000):
        conversation.answer(ERROR, b"BAD\r\nPASSWORD:\t\x1b[31m it is \xe4\0 " * 9)
    said = conversation.said()
    assert said.startswith("BAD PASSWORD: ?[31m it is \ufffd? BAD")
    assert len(said) == MOST_CHARACTERS
    assert said.isprintable()


def test_notes_are_told_only_without_errors() -> None:
    made = changing()
    made.answer(INFO, b"one")
    assert made.said() == "one"
    made.answer(ERROR, b"two")
    made.answer(ERROR, b" ")
    made.answer(ERROR, b"three")
    assert made.said() == "two three"


def test_secrets_can_be_forgotten() -> None:
    made = changing()
    made.forget()
    for prompt in (b"Current password: ", b"New password: "):
        with pytest.raises(Stopped):
            made.answer(ECHO_OFF, prompt)


@given(st.integers(-9, 9), st.binary(max_size=60))
def test_any_message_gets_one_of_three_answers(kind: int, text: bytes) -> None:
    for made in (changing(), Conversation(NAME, OLD)):
        try:
            answer = made.answer(kind, text)
        except Stopped:
            continue
        assert answer in ((OLD, NEW, NAME) if kind in (ECHO_OFF, ECHO_ON) else (None,))


@pytest.mark.parametrize(
    "user", [b"", b"a/b", b"../x", b"a:b", b"-x", b".x", b"a\nb", b"a\0b", b"\x7f"]
)
def test_a_name_that_modules_could_misunderstand_is_nobodys(user: bytes) -> None:
    with pytest.raises(Unknown):
        check_name(user)


@pytest.mark.parametrize("user", [b"joe", b"joe@x.example", b"J\xc3\xb6", b"EX\\joe"])
def test_names_that_may_be_somebodys(user: bytes) -> None:
    check_name(user)


DIGEST = b"0123456789abcdef0123456789abcdef"
STAMP = b"<12.3456@host>"
APOP_ON = {b"QTOOLS_PAMAPOP": b"1"}


@pytest.mark.parametrize("method", [b"", b"User", b"Plain", b"Login"])
def test_a_password_is_a_password(method: bytes) -> None:
    environ = {b"POP3METHOD": method}
    assert source.password_of(b"secret", STAMP, environ) == b"secret"
    assert source.password_of(DIGEST, STAMP, environ) == DIGEST
    assert source.password_of(b"APOP me", STAMP, environ) == b"APOP me"


@pytest.mark.parametrize(
    "method", [b"Apop", b"Cram-Md5", b"Scram-Sha-256", b"Scram-Sha-256-Plus"]
)
def test_a_digest_is_no_password_and_the_next_sources_business(
    method: bytes,
) -> None:
    with pytest.raises(Unknown, match="digest"):
        source.password_of(DIGEST, STAMP, {b"POP3METHOD": method})


def test_a_digest_is_passed_where_modules_know_it() -> None:
    environ = {b"POP3METHOD": b"Apop", **APOP_ON}
    made = source.password_of(DIGEST, STAMP, environ)
    assert made == b"APOP 0123456789abcdef0123456789abcdef <12.3456@host>"
    for secret in (b"", DIGEST[:-1], DIGEST + b"0", DIGEST.upper(), b"g" * 32):
        with pytest.raises(Refused, match="not an APOP digest"):
            source.password_of(secret, STAMP, environ)
    with pytest.raises(Refused):
        source.password_of(DIGEST, b"", environ)
    with pytest.raises(Refused):
        source.password_of(DIGEST, STAMP, {b"POP3METHOD": b"Cram-Md5", **APOP_ON})


@pytest.mark.parametrize("method", [b"", b"User", b"Plain", b"Login"])
def test_a_digest_overheard_can_not_be_sent_as_a_password(method: bytes) -> None:
    """It brings its own stamp along, so that it would be good for ever."""
    environ = {b"POP3METHOD": method, **APOP_ON}
    with pytest.raises(Refused):
        source.password_of(b"APOP %s %s" % (DIGEST, STAMP), b"", environ)


@pytest.mark.parametrize(
    ("secret", "is_digest"),
    [
        (b"APOP %s %s" % (DIGEST, STAMP), True),
        (b"apop  %s\t%s" % (DIGEST.upper(), STAMP), True),
        (b" APOP%s" % DIGEST, True),
        (b"APOP me", False),
        (b"APOP %s" % DIGEST[1:], False),
        (b"APOP %sg" % DIGEST[1:], False),
        (DIGEST, False),
        (b"APOP", False),
        (b"", False),
    ],
)
def test_what_modules_may_take_for_a_digest(secret: bytes, *, is_digest: bool) -> None:
    assert holds_digest(secret) is is_digest


class Module:
    """Calls a conversation as a module does, through C."""

    def __init__(self, answer: Callable[[int, bytes], bytes | None]) -> None:
        self._library = pam.Pam()
        self._replies = Replies(self._library, answer)
        self.array = Pointer(None)
        self._free = Library("").function("free", None, Pointer)

    def say(self, *told: tuple[int, bytes], count: int | None = None) -> int:
        """Tell or ask; give the code."""
        return self._call(told, count, byref_of=self.array)

    def tell(self, *told: tuple[int, bytes]) -> int:
        """Do without a place for replies, as pam_matrix does."""
        return self._call(told, None, byref_of=None)

    def _call(
        self,
        told: tuple[tuple[int, bytes], ...],
        count: int | None,
        byref_of: Pointer | None,
    ) -> int:
        self._kept: list[Any] = [Text(text) for _, text in told]
        pointers = longs(max(len(told), 1))
        for place, (kind, _) in enumerate(told):
            message = longs(2)
            message[0] = kind & 0xFFFFFFFF
            message[1] = Pointer.from_buffer(self._kept[place]).value or 0
            self._kept.append(message)
            pointers[place] = address_of(message)
        where = address_of(byref_of) if byref_of is not None else None
        number = len(told) if count is None else count
        return self._replies.called(number, address_of(pointers), where, None)

    def replies(self, count: int) -> list[bytes | None]:
        """Give what was replied, and free it as a module does."""
        array = self.array.value
        assert array
        texts = []
        for place in range(count):
            slot = Pointer.from_address(array + 2 * place * LONG_OCTETS)
            texts.append(Text.from_buffer(slot).value)
            self._free(slot.value)
        self._free(array)
        return texts


def address_of(held: Any) -> int:
    """Give where something of C's is."""
    return _ctypes.addressof(held)


def test_replies_are_of_the_librarys_own_memory() -> None:
    module = Module(lambda kind, text: text + b"!" if kind == ECHO_OFF else None)
    told = [(ECHO_OFF, b"one"), (INFO, b"two"), (ECHO_OFF, b"three")]
    assert module.say(*told) == SUCCESS
    assert module.replies(3) == [b"one!", None, b"three!"]


def test_a_module_may_tell_without_a_place_for_replies() -> None:
    heard: list[bytes] = []

    def answer(kind: int, text: bytes) -> bytes | None:
        heard.append(text)
        return OLD if kind == ECHO_OFF else None

    module = Module(answer)
    assert module.tell((INFO, b"hello"), (ERROR, b"bad")) == SUCCESS
    assert heard == [b"hello", b"bad"]
    assert module.tell((ECHO_OFF, b"Password: ")) == CONVERSATION_ERROR


@pytest.mark.parametrize("count", [0, -1, 33, 2**31 - 1])
def test_no_number_of_messages_leads_astray(count: int) -> None:
    module = Module(lambda *_: OLD)
    assert module.say((ECHO_OFF, b"x"), count=count) == CONVERSATION_ERROR
    assert not module.array.value


@pytest.mark.parametrize("kind", [ValueError, MemoryError, KeyboardInterrupt, OSError])
def test_an_exception_is_an_error_and_not_a_success(
    kind: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    def answer(_kind: int, text: bytes) -> bytes:
        if text == b"two":
            raise kind
        return OLD

    module = Module(answer)
    assert module.say((ECHO_OFF, b"one"), (ECHO_OFF, b"two")) == CONVERSATION_ERROR
    assert not module.array.value, "left alone"
    assert capfd.readouterr() == ("", ""), "descriptor 2 may be the client's"


@pytest.mark.parametrize("answer", [None, b"a\0b"])
def test_a_prompt_needs_a_reply_that_c_can_hold(answer: bytes | None) -> None:
    assert Module(lambda *_: answer).say((ECHO_OFF, b"x")) == CONVERSATION_ERROR
    assert Module(lambda *_: OLD).say((INFO, b"x")) == CONVERSATION_ERROR


def test_a_reply_that_is_not_taken_is_wiped_and_freed() -> None:
    module = Module(lambda *_: OLD)
    library = module._library
    freed: list[int] = []
    seen: list[int] = []
    copy, free, calloc = library.copy, library.free, library.calloc

    def release(address: int) -> None:
        freed.append(address)
        if address in seen:
            assert Text.from_buffer(Pointer(address)).value == b""
        free(address)

    def duplicate(secret: bytes) -> int:
        if seen:
            return 0  # out of memory at the second one
        seen.append(copy(secret))
        return seen[-1]

    library.copy, library.free = duplicate, release
    assert module.say((ECHO_OFF, b"a"), (ECHO_OFF, b"b")) == CONVERSATION_ERROR
    assert len(freed) == 2
    assert freed[0] == seen[0]
    library.calloc = lambda *_: None
    assert module.say((ECHO_OFF, b"a")) == CONVERSATION_ERROR
    assert len(freed) == 2
    library.calloc = calloc
