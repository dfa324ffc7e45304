# SPDX-License-Identifier: ISC
"""Replies: bounded, one line, with their response code."""

from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import replies

TEXT = st.binary(max_size=2000).filter(lambda text: not set(text) & set(b"\r\n"))


def test_the_bare_ok_keeps_its_blank() -> None:
    assert replies.OK == replies.ok() == b"+OK \r\n"


def test_a_response_code_stands_in_brackets() -> None:
    reply = replies.err(b"authorization failed", replies.AUTH)
    assert reply == b"-ERR [AUTH] authorization failed\r\n"


def test_no_response_code_no_brackets() -> None:
    assert replies.err(b"USER first") == b"-ERR USER first\r\n"


@given(TEXT, st.sampled_from([b"", replies.AUTH, replies.SYS_TEMP]))
def test_a_status_line_is_one_line_of_at_most_512_octets(
    text: bytes, code: bytes
) -> None:
    for reply in (replies.ok(text), replies.err(text, code)):
        assert len(reply) <= replies.REPLY_OCTETS
        assert reply.endswith(b"\r\n")
        assert reply.count(b"\n") == 1


def test_a_list_ends_with_a_dot() -> None:
    assert replies.multi(b"+OK x\r\n", [b"TOP", b"UIDL"]) == (
        b"+OK x\r\nTOP\r\nUIDL\r\n.\r\n"
    )
    assert replies.multi(replies.OK, []) == b"+OK \r\n.\r\n"
