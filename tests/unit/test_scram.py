# SPDX-License-Identifier: ISC
"""SCRAM-SHA-256: messages, arithmetic, and the header it shares with OAUTHBEARER."""

import hashlib
import hmac
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import gs2, scram
from qtools.protocol.framing import Malformed
from tests.scram import ScramClient, saslname

# The example of RFC 7677 section 3.
USER, PASSWORD = b"user", b"pencil"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
NONCE = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SERVER_FIRST = b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=" + NONCE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

ONE_KEY = scram.read_keys(scram.make_keys(PASSWORD, SALT))


def test_the_example_of_rfc_7677() -> None:
    first, final = scram.read_first(FIRST), scram.read_final(FINAL)
    assert (first.user, first.nonce) == (USER, b"rOprNGfwEbeRWgbNEkqO")
    assert scram.server_first(NONCE, ONE_KEY) == SERVER_FIRST
    assert final.nonce == NONCE
    assert final.binding == first.header.text == b"n,,"
    agreed = scram.agreed_on(first, SERVER_FIRST, final)
    assert scram.is_proof(ONE_KEY, agreed, final.proof)
    assert scram.server_final(ONE_KEY, agreed) == SERVER_FINAL
    assert not scram.is_proof(ONE_KEY, agreed + b"x", final.proof)


def test_our_own_test_client_gives_the_example_too() -> None:
    client = ScramClient(USER, PASSWORD)
    assert client.first() == FIRST
    assert client.final(SERVER_FIRST) == FINAL
    assert client.expected == SERVER_FINAL


@pytest.mark.parametrize("octets", [0, 1, 63, 64, 65, 200])
def test_keys_are_those_of_the_standard_library(octets: int) -> None:
    """Passwords longer than a block of SHA-256 are hashed first (RFC 2104)."""
    password = b"p" * octets
    keys = scram.read_keys(scram.make_keys(password, SALT, 5))
    salted = hashlib.pbkdf2_hmac("sha256", password, SALT, 5)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    assert keys.stored == hashlib.sha256(client_key).digest()
    assert keys.server == hmac.digest(salted, b"Server Key", "sha256")
    assert (keys.iterations, keys.salt) == (5, SALT)


def test_keys_as_text_are_those_of_rfc_5803_without_blanks() -> None:
    text = scram.make_keys(PASSWORD, SALT)
    method, cost, keys = text.split(b"$")
    assert method == b"SCRAM-SHA-256"
    assert cost == b"4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    assert [len(b64decode(key)) for key in keys.split(b":")] == [32, 32]


GOOD_KEYS = scram.make_keys(PASSWORD, SALT, 4096)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        GOOD_KEYS[:-4],
        GOOD_KEYS + b"AAAA",
        GOOD_KEYS.replace(b"256", b"512"),
        GOOD_KEYS.replace(b"4096", b"0"),
        GOOD_KEYS.replace(b"4096", b"-1"),
        GOOD_KEYS.replace(b"4096", b"99999999"),
        GOOD_KEYS.replace(b"4096", b"4" * 5000),
        GOOD_KEYS.replace(b"W22ZaJ0SNY7soEsUEjb6gQ==", b""),
        GOOD_KEYS.replace(b"W22ZaJ0SNY7soEsUEjb6gQ==", b"*"),
    ],
)
def test_what_no_keys_are(text: bytes) -> None:
    with pytest.raises(ValueError, match="keys"):
        scram.read_keys(text)


def test_a_stranger_has_the_same_keys_each_time_and_others_than_others() -> None:
    one, again = (scram.invent_keys(b"k" * 32, b"joe", 4096) for _ in range(2))
    assert (one.salt, one.stored, one.server) == (
        again.salt,
        again.stored,
        again.server,
    )
    others = [
        scram.invent_keys(b"k" * 32, b"ann", 4096),
        scram.invent_keys(b"l" * 32, b"joe", 4096),
        scram.invent_keys(b"l" * 320, b"joe", 4096),
    ]
    salts = {one.salt, *(other.salt for other in others)}
    assert len(salts) == 4
    assert {len(salt) for salt in salts} == {scram.SALT_OCTETS}


NAMES = st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"\0", b"0"))


@given(NAMES)
def test_a_name_is_escaped_and_nothing_else(name: bytes) -> None:
    assert gs2.read_name(saslname(name)) == name
    assert scram.read_first(b"n,,n=" + saslname(name) + b",r=x").user == name


@pytest.mark.parametrize(
    "name", [b"", b"a,b", b"a=b", b"=2c", b"=3d", b"a=", b"a=2", b"=00", b"==3D", b"\0"]
)
def test_what_no_name_is(name: bytes) -> None:
    with pytest.raises(Malformed):
        gs2.read_name(name)


@given(st.binary(max_size=60))
def test_only_one_writing_leads_to_a_name(text: bytes) -> None:
    try:
        name = gs2.read_name(text)
    except Malformed:
        return
    assert saslname(name) == text


GOOD_FIRSTS = [
    (b"n,,n=joe,r=x", "n", b"", b"joe", b"x"),
    (b"y,,n=joe,r=x", "y", b"", b"joe", b"x"),
    (b"n,a=joe,n=joe,r=x", "n", b"joe", b"joe", b"x"),
    (b"p=tls-server-end-point,,n=joe,r=x", "p", b"", b"joe", b"x"),
    (b"n,,n=a=2Cb=3D,r=!~+/", "n", b"", b"a,b=", b"!~+/"),
    (b"n,,n=joe,r=x,z=more,Q=a=b", "n", b"", b"joe", b"x"),
    (b"n,,n=\xc3\xa9\xff,r=x", "n", b"", b"\xc3\xa9\xff", b"x"),
]


@pytest.mark.parametrize(("message", "flag", "for_whom", "user", "nonce"), GOOD_FIRSTS)
def test_first_messages(
    message: bytes, flag: str, for_whom: bytes, user: bytes, nonce: bytes
) -> None:
    first = scram.read_first(message)
    assert first.header.flag == flag.encode()
    assert first.header.authorization == for_whom
    assert (first.user, first.nonce) == (user, nonce)
    assert first.header.text + first.bare == message


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"n", b"n,", b"n,,", b",,n=joe,r=x", b"N,,n=joe,r=x", b"x,,n=joe,r=x"),
        *(b"n=,,n=joe,r=x", b"n=x,,n=joe,r=x", b"y=x,,n=joe,r=x", b"p,,n=joe,r=x"),
        *(b"p=,,n=joe,r=x", b"p=tls-unique,,n=joe,r=x", b"p=TLS-server-end-point,,"),
        *(b"n,ann,n=joe,r=x", b"n,a=,n=joe,r=x", b"n,a=ann,n=joe,r=x"),
        *(b"n,b=joe,n=joe,r=x", b"n,a=JOE,n=joe,r=x", b"n,a=j=oe,n=joe,r=x"),
        *(b"n,,m=x,n=joe,r=x", b"n,,n=joe,m=x,r=x", b"n,,n=joe,r=x,m=x"),
        *(b"n,,joe,r=x", b"n,,n=,r=x", b"n,,n=joe", b"n,,n=joe,", b"n,,n=joe,x"),
        *(b"n,,r=x,n=joe", b"n,,n=joe,r=", b"n,,n=joe,r=a b", b"n,,n=joe,r=\x7f"),
        *(
            b"n,,n=joe,r=\xe4",
            b"n,,n=joe,r=x,",
            b"n,,n=joe,r=x,y",
            b"n,,n=joe,r=x,zz=1",
        ),
        *(
            b"n,,n=joe,r=x,1=2",
            b"n,,n=joe,r=x,z=",
            b"n,,n=joe,r=x,z=\0",
            b"n,,n=a=b,r=x",
        ),
        *(b"n,,n=joe,r=x,r=y", b"n,,n=joe,r=x,n=ann", b"n,,n=joe,r=x,a=ann"),
    ],
)
def test_what_no_first_message_is(message: bytes) -> None:
    with pytest.raises(Malformed):
        scram.read_first(message)


PROOF = b64encode(b"p" * 32)


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"c=biws", b"c=biws,r=x", b"c=biws,p=" + PROOF, b"r=x,p=" + PROOF),
        *(b"r=x,c=biws,p=" + PROOF, b"c=biws,r=x,p=", b"c=biws,r=x,p=AAAA"),
        *(b"c=biws,r=x,p=" + PROOF[:-1], b"c=biws,r=x,p=" + PROOF + b"=="),
        *(b"c=biws,r=x,p=" + PROOF + b",z=1", b"c=*,r=x,p=" + PROOF),
        *(b"c=biws,r=,p=" + PROOF, b"c=biws,r=\x1b,p=" + PROOF),
        *(b"c=biws,r=x,m=1,p=" + PROOF, b"c=biws,r=x,r=y,p=" + PROOF),
        *(b"c=biws,r=x,z,p=" + PROOF, b"c=biws,r=x,p=" + b64encode(b"p" * 33)),
        b"c=biws,r=x,p=" + PROOF[:-2] + b"B=",  # other bits behind the last octet
    ],
)
def test_what_no_final_message_is(message: bytes) -> None:
    with pytest.raises(Malformed):
        scram.read_final(message)


def test_a_final_message_with_an_extension() -> None:
    final = scram.read_final(b"c=biws,r=x,z=p=1,p=" + PROOF)
    assert final.unproved == b"c=biws,r=x,z=p=1"
    assert final.proof == b"p" * 32


@given(st.binary(max_size=80))
def test_any_octets_are_a_message_or_malformed(message: bytes) -> None:
    for read in (scram.read_first, scram.read_final, gs2.read):
        try:
            read(message)
        except Malformed:
            continue


PASSWORDS = st.binary(max_size=80)


@given(PASSWORDS, PASSWORDS, NAMES)
def test_a_proof_is_good_for_one_password(
    password: bytes, other: bytes, user: bytes
) -> None:
    keys = scram.read_keys(scram.make_keys(password, SALT, 2))
    client = ScramClient(user, other)
    first = scram.read_first(client.first())
    challenge = scram.server_first(first.nonce + b"abc", keys)
    final = scram.read_final(client.final(challenge))
    agreed = scram.agreed_on(first, challenge, final)
    # HMAC pads keys with NULs, so passwords that differ in those alone are one.
    is_same = hmac.digest(password, b"", "sha256") == hmac.digest(other, b"", "sha256")
    assert scram.is_proof(keys, agreed, final.proof) is is_same
    assert (scram.server_final(keys, agreed) == client.expected) is is_same
