# SPDX-License-Identifier: ISC
"""LANG and the translations (RFC 6856 section 3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import replies, tongue


@pytest.mark.parametrize(
    ("wanted", "tag"),
    [
        (b"en", b"en"),
        (b"DE", b"de"),
        (b"de-CH-1996", b"de"),
        (b"*", b"en"),
        (b"fr", None),
        (b"", None),
        (b" de", None),
        (b"i-default", None),
        (b"-", None),
    ],
)
def test_known(wanted: bytes, tag: bytes | None) -> None:
    assert tongue.known(wanted) == tag


def test_an_unknown_language_leaves_the_old_one() -> None:
    assert tongue.answer(b"de", b"fr") == (b"-ERR invalid language\r\n", b"de")


def test_a_known_language_answers_in_itself() -> None:
    assert tongue.answer(b"en", b"DE") == (b"+OK de Sprache gewechselt\r\n", b"de")
    assert tongue.answer(b"de", b"*") == (b"+OK en language changed\r\n", b"en")


def test_the_listing_names_every_language() -> None:
    reply, language = tongue.answer(b"de", None)
    assert language == b"de"
    assert reply.split(b"\r\n")[1:-1] == [b"en English", b"de Deutsch", b"."]


@given(st.binary(max_size=300))
def test_no_wish_raises_and_every_answer_is_one_reply(wanted: bytes) -> None:
    reply, language = tongue.answer(b"en", wanted)
    assert language in tongue.LANGUAGES
    assert reply.count(b"\r\n") == 1
    assert len(reply) <= replies.REPLY_OCTETS


def test_translations_are_seven_bit_lines() -> None:
    for table in tongue._TABLES.values():
        for text in table.values():
            assert text.isascii()
            assert text.decode().isprintable()


def test_a_text_without_translation_stays_english() -> None:
    assert tongue.translate(b"de", b"no such text") == b"no such text"
    assert tongue.translate(b"xx", b"USER first") == b"USER first"
