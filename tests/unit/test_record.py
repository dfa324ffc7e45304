# SPDX-License-Identifier: ISC
"""The record of descriptor 3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import record

FIELD = st.binary(max_size=200).map(lambda field: field.replace(b"\0", b""))


def test_the_record_is_three_fields_each_ended_by_a_nul() -> None:
    assert record.pack(b"joe", b"se cret ", b"<1.2@h>") == b"joe\0se cret \0<1.2@h>\0"


@given(FIELD, FIELD, FIELD)
def test_unpack_inverts_pack(user: bytes, secret: bytes, challenge: bytes) -> None:
    try:
        packed = record.pack(user, secret, challenge)
    except ValueError:
        assert len(user + secret + challenge) + 3 > record.RECORD_OCTETS
        return
    assert len(packed) <= record.RECORD_OCTETS
    assert record.unpack(packed) == (user, secret, challenge)


@given(st.binary(max_size=600))
def test_any_octets_are_a_record_or_a_value_error(octets: bytes) -> None:
    try:
        fields = record.unpack(octets)
    except ValueError:
        assert len(octets) > record.RECORD_OCTETS or octets.count(b"\0") < 2
        return
    assert octets.startswith(b"\0".join(fields))
    assert not any(b"\0" in field for field in fields)


@pytest.mark.parametrize("octets", [512, 513])
def test_512_octets_and_no_more(octets: int) -> None:
    user = b"u" * (octets - 3)
    if octets > record.RECORD_OCTETS:
        with pytest.raises(ValueError, match="512"):
            record.pack(user, b"", b"")
        with pytest.raises(ValueError, match="512"):
            record.unpack(user + b"\0\0\0")
    else:
        assert record.unpack(record.pack(user, b"", b"")) == (user, b"", b"")


@pytest.mark.parametrize("place", range(3))
def test_a_field_with_a_nul_is_refused(place: int) -> None:
    first, second, third = (b"x\0y" if place == each else b"a" for each in range(3))
    with pytest.raises(ValueError, match="NUL"):
        record.pack(first, second, third)


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        (b"joe\0x\0", (b"joe", b"x", b"")),
        (b"joe\0x\0<1@h>", (b"joe", b"x", b"<1@h>")),
        (b"joe\0x\0<1@h>\0more\0", (b"joe", b"x", b"<1@h>")),
        (b"\0\0\0", (b"", b"", b"")),
    ],
)
def test_the_third_field_may_be_missing_or_followed(
    octets: bytes, fields: tuple[bytes, bytes, bytes]
) -> None:
    assert record.unpack(octets) == fields


@pytest.mark.parametrize("octets", [b"", b"joe", b"joe\0", b"joe\0x"])
def test_user_and_secret_must_be_ended(octets: bytes) -> None:
    with pytest.raises(ValueError, match="NUL"):
        record.unpack(octets)
