# SPDX-License-Identifier: ISC
"""What a name promises about a message's length, and when it is believed."""

import os
from pathlib import Path

import pytest

from qtools.maildrop import octets
from tests import corpus


@pytest.mark.parametrize(
    ("base", "file_octets", "expected"),
    [
        (b"1.x.h,S=10,W=12", 10, 12),
        (b"1.x.h,W=12", 10, 12),
        (b"1.x.h,W=12,S=10", 10, 12),
        (b"1.x.h,W=0", 0, 0),
        (b"1.x.h,W=22", 10, 22),
        (b"1.x.h", 10, octets.UNKNOWN),
        (b"1.x.h,S=10", 10, octets.UNKNOWN),
        (b"1.x.h,W=9", 10, octets.UNKNOWN),
        (b"1.x.h,W=23", 10, octets.UNKNOWN),
        (b"1.x.h,S=11,W=12", 10, octets.UNKNOWN),
        (b"1.x.h,W=-12", 10, octets.UNKNOWN),
        (b"1.x.h,W=12x", 10, octets.UNKNOWN),
        (b"1.x.h,W=", 10, octets.UNKNOWN),
        (b"1.x.h,W=" + b"9" * 60, 10, octets.UNKNOWN),
    ],
)
def test_only_a_plausible_promise_is_believed(
    base: bytes, file_octets: int, expected: int
) -> None:
    assert octets.promised(base, file_octets) == expected


@pytest.mark.parametrize("message", corpus.messages(), ids=lambda each: each.label)
def test_counting_a_file(message: corpus.Message, tmp_path: Path) -> None:
    place = tmp_path / "message"
    place.write_bytes(message.stored)
    descriptor = os.open(place, os.O_RDONLY)
    try:
        assert octets.count(descriptor) == len(message.wire)
    finally:
        os.close(descriptor)
