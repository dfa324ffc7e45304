# SPDX-License-Identifier: ISC
"""A SASL client by Cyrus' library, which knows channel binding by tls-server-end-point.

Names and numbers are those of its header file, sasl/sasl.h.
"""

import ctypes
from ctypes.util import find_library

import pytest

CONTINUE, INTERACT = 1, 2
PROMPTS = {0x4001: "user", 0x4002: "user", 0x4004: "secret"}  # SASL_CB_...
CHANNEL_BINDING = 21  # of sasl_setprop()


class _Callback(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_ulong),
        ("proc", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
    )


class _Interact(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_ulong),
        ("challenge", ctypes.c_char_p),
        ("prompt", ctypes.c_char_p),
        ("defresult", ctypes.c_char_p),
        ("result", ctypes.c_char_p),
        ("len", ctypes.c_uint),
    )


class _ChannelBinding(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("critical", ctypes.c_int),
        ("len", ctypes.c_ulong),
        ("data", ctypes.c_char_p),
    )


def library() -> ctypes.CDLL:
    """Load the library; skip the test without it."""
    name = find_library("sasl2")
    if name is None:
        pytest.skip("needs libsasl2.so.2: Debian package libsasl2-modules")
    found = ctypes.CDLL(name)
    assert found.sasl_client_init(None) == 0
    return found


class CyrusClient:
    """One exchange: start(), then step() for each challenge."""

    def __init__(self, user: bytes, secret: bytes, binding: bytes = b"") -> None:
        self._library = library()
        self._answers = {"user": user, "secret": secret}
        ids = [*PROMPTS, 0]
        self._callbacks = (_Callback * len(ids))(*(_Callback(id=each) for each in ids))
        self._connection = ctypes.c_void_p()
        made = self._library.sasl_client_new(
            *(b"pop", b"localhost", None, None, self._callbacks, 0),
            ctypes.byref(self._connection),
        )
        assert made == 0
        if binding:
            kind = b"tls-server-end-point"
            self._binding = _ChannelBinding(kind, 0, len(binding), binding)
            done = self._library.sasl_setprop(
                self._connection, CHANNEL_BINDING, ctypes.byref(self._binding)
            )
            assert done == 0

    def start(self, mechanisms: bytes) -> tuple[bytes, bytes]:
        """Choose one of the server's mechanisms; give it and the initial response."""
        chosen = ctypes.c_char_p()
        said = self._run(
            self._library.sasl_client_start, (mechanisms,), (ctypes.byref(chosen),)
        )
        assert chosen.value
        is_plus = said.startswith(b"p=")  # which it leaves out of the name
        return chosen.value + (b"-PLUS" if is_plus else b""), said

    def step(self, challenge: bytes) -> bytes:
        """Answer a challenge.

        Raises: ValueError when the library takes it for wrong.
        """
        words = (challenge, len(challenge))
        return self._run(self._library.sasl_client_step, words, ())

    def _run(
        self, function: object, before: tuple[object, ...], behind: tuple[object, ...]
    ) -> bytes:
        """Call a function, with what it asks for, until it has something to say."""
        prompts = ctypes.POINTER(_Interact)()
        out, octets = ctypes.c_void_p(), ctypes.c_uint()
        given = (ctypes.byref(prompts), ctypes.byref(out), ctypes.byref(octets))
        code = INTERACT
        while code == INTERACT:
            code = function(self._connection, *before, *given, *behind)  # type: ignore[operator]  # of a CDLL
            for number in range(9) if code == INTERACT else ():
                asked = prompts[number]
                if not asked.id:
                    break
                asked.result = answer = self._answers[PROMPTS[asked.id]]
                asked.len = len(answer)
        if code not in (0, CONTINUE):
            raise ValueError(f"libsasl2 says {code}")
        return ctypes.string_at(out, octets.value) if out.value else b""
