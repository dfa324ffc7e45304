# SPDX-License-Identifier: ISC
"""What the privileged side answers a confined dialogue: verdicts, messages, TLS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.chain import answers


@given(st.one_of(st.integers(-64, 255), st.binary(max_size=2048)))
def test_unpack_inverts_pack(answer: int | bytes) -> None:
    packet = answers.pack(answer)
    assert len(packet) <= answers.ANSWER_OCTETS
    found = answers.unpack(packet)
    assert type(found) is type(answer)
    assert repr(found) == repr(answer)


@given(st.one_of(st.none(), st.binary(max_size=64)))
def test_tls_and_its_end_point(binding: bytes | None) -> None:
    assert answers.unpack_tls(answers.pack_tls(binding)) == binding


@pytest.mark.parametrize(
    "packet",
    [b"", b"V", b"V\0", b"V\0\1\0", b"x", b"\0\1", b"T", b"N", b"M" + b"x" * 2049],
)
def test_what_is_no_answer_is_try_again_later(packet: bytes) -> None:
    assert answers.unpack(packet) == 111


@pytest.mark.parametrize("packet", [b"", b"N", b"V\0\1", b"x", b"T" + b"x" * 65])
def test_what_does_not_say_tls_is_none(packet: bytes) -> None:
    assert answers.unpack_tls(packet) is None


@given(st.binary(max_size=100))
def test_any_packet_is_an_answer(packet: bytes) -> None:
    assert isinstance(answers.unpack(packet), int | bytes)
