# SPDX-License-Identifier: ISC
"""Random input against what reads the messages of SCRAM and of tokens.

What is taken for a message must be one that a client can have meant: printing what was
read gives the message again. See test_login for how inputs are made and numbered.
"""

from collections.abc import Callable
from random import Random

import pytest

from qtools.protocol import bearer, gs2, scram
from qtools.protocol.framing import Malformed
from tests.scram import saslname
from tests.support import IS_NIGHTLY

INPUTS = 1_000_000 if IS_NIGHTLY else 20_000
PARTS = 4

WORDS = (
    *(b"n", b"y", b"p=tls-server-end-point", b",", b",,", b"a=", b"n=", b"r=", b"m="),
    *(b"joe", b"=2C", b"=3D", b"=2c", b"=", b"x", b"\0", b"\xc3\xa9", b" ", b"!", b"~"),
    *(
        b"n,,n=joe,r=abc",
        b"c=biws",
        b",r=abc",
        b",p=",
        b"A" * 43 + b"=",
        b"QQ==",
        b"z=1",
    ),
    *(
        b"user=",
        b"\1",
        b"\1\1",
        b"auth=Bearer ",
        b"host=h\1",
        b"n,a=joe,\1",
        b"t.o-k==",
    ),
)


GOOD = (
    (b"n,,n=joe", b",r=abc", b",z=1"),
    (b"p=tls-server-end-point", b",a=joe,", b"n=joe", b",r=abc"),
    (b"c=biws", b",r=abc", b",z=1", b",p=", b"A" * 43 + b"="),
    (b"n,a=joe,", b"\1", b"host=h\1", b"auth=Bearer ", b"t.o-k==", b"\1\1"),
    (b"user=", b"joe", b"\1", b"auth=Bearer ", b"t.o-k==", b"\1\1"),
)


def random_message(chance: Random) -> bytes:
    """Give a message with some words put in, left out or exchanged."""
    words = list(chance.choice(GOOD))
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(words) + 1)
        is_word = chance.random() < 0.9
        word = chance.choice(WORDS) if is_word else chance.randbytes(3)
        words[place : place + chance.randrange(2)] = [word] * chance.randrange(2)
    return b"".join(words)


def check_first(message: bytes) -> None:
    first = scram.read_first(message)
    assert message == first.header.text + first.bare
    written = b"n=%b,r=%b" % (saslname(first.user), first.nonce)
    assert first.bare == written or first.bare.startswith(written + b",")
    assert first.header.authorization in (b"", first.user)
    assert b"\0" not in message


def check_final(message: bytes) -> None:
    final = scram.read_final(message)
    assert message.startswith(final.unproved + b",p=")
    assert len(final.proof) == 32
    assert scram.is_nonce(final.nonce)


def check_header(message: bytes) -> None:
    header = gs2.read(message)
    assert header.text + header.rest == message
    name = b"a=" + saslname(header.authorization) if header.authorization else b""
    flag = b"p=" + header.binding if header.binding else header.flag
    assert header.text == flag + b"," + name + b","


def check_token(message: bytes) -> None:
    user, token = bearer.read_oauthbearer(message)
    assert message.startswith((b"n,", b"y,"))
    assert saslname(user) in message
    assert token in message
    assert token.isascii()


def check_xoauth2(message: bytes) -> None:
    user, token = bearer.read_xoauth2(message)
    assert user in message
    assert b" " + token + b"\1" in message


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    "check", [check_first, check_final, check_header, check_token, check_xoauth2]
)
def test_random_octets_are_malformed_or_what_they_say(
    check: Callable[[bytes], None], part: int
) -> None:
    taken = 0
    for number in range(part, INPUTS, PARTS):
        try:
            check(random_message(Random(number)))
        except Malformed:
            continue
        taken += 1
    assert taken  # else nothing has been looked at
