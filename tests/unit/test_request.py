# SPDX-License-Identifier: ISC
"""The one fixed shape in which the confined dialogue may ask for something."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.chain import request
from qtools.chain.request import (
    END,
    LOG,
    LONG_REQUEST_OCTETS,
    REQUEST_OCTETS,
    RESPOND,
    START_TLS,
    VERIFY,
    WITHDRAW,
    Request,
)
from qtools.protocol import record

FIELD = st.binary(min_size=1, max_size=150).map(lambda text: text.replace(b"\0", b"x"))
RECORDS = st.tuples(FIELD, FIELD, FIELD).map(lambda fields: record.pack(*fields))
TOKENS = st.integers(1, 4000).map(lambda octets: b"t" * octets)
TOKEN_RECORDS = TOKENS.map(
    lambda token: record.pack(b"joe", token, b"<1@h>", record.BEARER_OCTETS)
)
WORDS = {
    "mechanism": st.sampled_from(request.MECHANISMS),
    "language": st.sampled_from([b"en", b"de"]),
    "is_utf8": st.booleans(),
}
REQUESTS = st.one_of(
    st.builds(Request, st.just(VERIFY), record=RECORDS, **WORDS),
    st.builds(
        Request,
        st.just(VERIFY),
        record=TOKEN_RECORDS,
        **{**WORDS, "mechanism": st.sampled_from(["Oauthbearer", "Xoauth2"])},
    ),
    st.builds(Request, st.just(START_TLS)),
    st.builds(Request, st.just(RESPOND), record=st.binary(max_size=2048)),
    st.builds(Request, st.just(WITHDRAW)),
    st.builds(
        Request,
        st.just(LOG),
        detail=st.integers(0, len(request.EVENTS) - 1),
        code=st.integers(0, 255),
        record=st.binary(max_size=700),
        **WORDS,
    ),
    st.builds(
        Request,
        st.just(END),
        detail=st.integers(0, len(request.REASONS) - 1),
        code=st.sampled_from([0, 1, 111]),
    ),
)


def fields(asked: Request) -> list[object]:
    return [getattr(asked, name) for name in Request.__slots__]


@given(REQUESTS)
def test_unpack_inverts_pack(asked: Request) -> None:
    packet = asked.pack()
    is_long = len(asked.record) > record.RECORD_OCTETS
    assert len(packet) == (LONG_REQUEST_OCTETS if is_long else REQUEST_OCTETS)
    assert fields(request.unpack(packet)) == fields(asked)


def is_accepted(packet: bytes) -> bool:
    """Tell whether a packet is taken; what is taken, pack() must make again."""
    try:
        asked = request.unpack(packet)
    except ValueError:
        return False
    assert asked.pack() == packet
    return True


GOOD_START = Request(LOG, record=b"").pack()[:8]


@given(st.binary(min_size=REQUEST_OCTETS, max_size=REQUEST_OCTETS))
def test_any_packet_is_a_request_or_a_value_error(packet: bytes) -> None:
    is_accepted(packet)


LONGEST = st.integers(0, LONG_REQUEST_OCTETS + 9).map(GOOD_START.ljust)


@given(
    st.one_of(st.binary(max_size=1100), LONGEST).filter(
        lambda packet: len(packet) != REQUEST_OCTETS
    )
)
def test_a_packet_of_another_length_is_none(packet: bytes) -> None:
    assert not is_accepted(packet)


@given(REQUESTS, st.integers(0, REQUEST_OCTETS - 1), st.integers(0, 255))
def test_one_changed_octet_is_a_request_or_a_value_error(
    asked: Request, place: int, octet: int
) -> None:
    packet = bytearray(asked.pack())
    packet[place] = octet
    is_accepted(bytes(packet))


GOOD = Request(VERIFY, mechanism="User", record=b"joe\0x\0<1@h>\0").pack()


def changed(place: int, octet: int) -> bytes:
    packet = bytearray(GOOD)
    packet[place] = octet
    return bytes(packet)


def long(packet: bytes) -> bytes:
    return packet.ljust(LONG_REQUEST_OCTETS, b"\0")


def with_length(kind: int, octets: int, text: bytes) -> bytes:
    """Give the head that a request of so many octets would have, and the octets."""
    head = bytes((kind, 0, 0, 1, 0, 0, octets >> 8, octets & 255))
    return head + text.ljust(octets, b"x")


USER_TOKEN = with_length(VERIFY, 600, b"joe\0" + b"t" * 590 + b"\0<1>\0")[:608]
LOG_NAME = with_length(LOG, 513, b"n")
MESSAGE = with_length(RESPOND, 2049, b"m")


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(changed(0, WITHDRAW + 1), id="kind"),
        pytest.param(long(GOOD), id="a short record in the long shape"),
        pytest.param(long(USER_TOKEN), id="a long record without a token"),
        pytest.param(long(LOG_NAME), id="a long name for the log"),
        pytest.param(long(MESSAGE), id="a message of more than 2048 octets"),
        pytest.param(changed(1, 1), id="detail of a VERIFY"),
        pytest.param(changed(3, len(request.MECHANISMS)), id="mechanism"),
        pytest.param(changed(4, 2), id="language"),
        pytest.param(changed(5, 2), id="utf8"),
        pytest.param(changed(6, 3), id="length"),
        pytest.param(changed(-1, 1), id="padding"),
        pytest.param(GOOD[:-1], id="short"),
        pytest.param(GOOD + b"\0", id="long"),
        pytest.param(b"", id="empty"),
        pytest.param(Request(VERIFY, record=b"joe").pack(), id="record of one field"),
        pytest.param(Request(VERIFY, record=b"joe\0x\0").pack(), id="no challenge"),
        pytest.param(Request(VERIFY, record=b"a\0b\0c\0d\0").pack(), id="four fields"),
        pytest.param(Request(VERIFY, record=b"a\0b\0c\0d").pack(), id="unfinished"),
        pytest.param(Request(END, code=55).pack(), id="a code of nobody's"),
        pytest.param(
            Request(END, detail=len(request.REASONS)).pack(), id="a reason of nobody's"
        ),
        pytest.param(Request(LOG, detail=3).pack(), id="an event of nobody's"),
    ],
)
def test_what_the_dialogue_never_sends_is_refused(packet: bytes) -> None:
    assert is_accepted(GOOD)
    assert not is_accepted(packet)


def test_the_user_is_the_one_of_the_record() -> None:
    assert request.unpack(GOOD).user == b"joe"


def test_a_longer_name_is_cut_for_the_log() -> None:
    packed = Request(LOG, record=b"n" * 600).pack()
    assert request.unpack(packed).user == b"n" * 512
