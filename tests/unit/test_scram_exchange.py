# SPDX-License-Identifier: ISC
"""One SCRAM exchange over sources of accounts, and what must not get through it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts import scram as exchanges
from qtools.accounts.interface import Identity, Unknown
from qtools.accounts.scram import Exchange
from qtools.chain import interview
from qtools.errors import Hard, Misuse, Refused, Temporary
from qtools.protocol import record, scram
from tests.scram import ScramClient

BINDING = b"\x01" * 32
BOUND = b"p=tls-server-end-point,,"
SALT = b"s" * 16
STAMP = b"<1.2@mx>"


class Keyring:
    """A source with keys, in memory."""

    def __init__(self, **passwords: str) -> None:
        self.texts = {
            user.encode(): scram.make_keys(password.encode(), SALT, 7)
            for user, password in passwords.items()
        }
        self.disabled: set[bytes] = set()

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        raise AssertionError((user, secret, challenge))

    def decoy(self) -> bytes:
        return b""

    def keys(self, user: bytes) -> bytes:
        if user not in self.texts:
            raise Unknown
        return self.texts[user]

    def identify(self, user: bytes) -> Identity:
        if user in self.disabled:
            raise Refused("disabled")
        return Identity(user, 7, 8)

    def salt_key(self) -> bytes:
        return b"k" * 32

    def iterations(self, _name: bytes) -> int:
        return 7

    def canonical(self, user: bytes) -> bytes:
        return user.lower()


class Keyless:
    """A source without any, which can't tell whom it knows and is never asked."""

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        raise AssertionError((user, secret, challenge))

    def decoy(self) -> bytes:
        raise AssertionError


class Knowing(Keyless):
    """A source without any that can tell whom it knows."""

    def __init__(self, *users: bytes) -> None:
        self.users = users

    def knows(self, user: bytes) -> bool:
        if user == b"trouble":
            raise Temporary("unable to look")
        return user in self.users


Source = Keyring | Keyless
KEYRING = Keyring(joe="secret", ann="other")


def exchange(*sources: Source, binding: bytes = b"") -> Exchange:
    return Exchange(sources or (KEYRING,), binding)


def prove(client: ScramClient, made: Exchange) -> Identity:
    challenge = made.first(client.first())
    assert challenge.startswith(b"r=" + client.nonce)
    assert made.final(client.final(challenge)) == client.expected
    return made.identity()


def test_somebody_comes_in() -> None:
    who = prove(ScramClient(b"joe", b"secret"), exchange())
    assert (who.name, who.uid, who.gid) == (b"joe", 7, 8)


def test_somebody_comes_in_bound_to_his_channel() -> None:
    client = ScramClient(b"joe", b"secret", BOUND, BINDING)
    assert prove(client, exchange(binding=BINDING)).name == b"joe"


@pytest.mark.parametrize(
    ("client", "binding"),
    [
        (ScramClient(b"joe", b"Secret"), b""),
        (ScramClient(b"joe", b""), b""),
        (ScramClient(b"nobody", b"secret"), b""),
        (ScramClient(b"joe", b"secret", b"n,,", b"x"), b""),
        (ScramClient(b"joe", b"secret", BOUND, BINDING), b""),
        (ScramClient(b"joe", b"secret", BOUND, b""), BINDING),
        (ScramClient(b"joe", b"secret", BOUND, b"\x02" * 32), BINDING),
        (ScramClient(b"joe", b"secret", b"p=tls-unique,,", BINDING), BINDING),
        (ScramClient(b"joe", b"secret", b"n,a=ann,"), b""),
    ],
)
def test_who_is_refused(client: ScramClient, binding: bytes) -> None:
    made = exchange(binding=binding)
    with pytest.raises(Refused):
        prove(client, made)
    with pytest.raises(Refused):
        made.identity()


def changed(message: bytes, place: int, octet: int) -> bytes:
    whole = bytearray(message)
    whole[place % len(whole)] ^= octet
    return bytes(whole)


@pytest.mark.parametrize("message", ["first", "final"])
@pytest.mark.parametrize(("header", "binding"), [(b"n,,", b""), (BOUND, BINDING)])
@given(place=st.integers(0, 200), octet=st.integers(1, 255))
def test_no_octet_of_the_client_can_be_changed(
    message: str, header: bytes, binding: bytes, place: int, octet: int
) -> None:
    """Whoever sits between gets nothing through but what he was given."""
    client = ScramClient(b"joe", b"secret", header, binding)
    made = exchange(binding=binding)
    is_first = message == "first"
    first = changed(client.first(), place, octet) if is_first else client.first()
    with pytest.raises(Refused):  # noqa: PT012  # at whichever message it shows
        final = client.final(made.first(first))
        made.final(final if is_first else changed(final, place, octet))
    with pytest.raises(Refused):
        made.identity()


def test_what_was_heard_can_t_be_played_again() -> None:
    client = ScramClient(b"joe", b"secret")
    made = exchange()
    final = client.final(made.first(client.first()))
    made.final(final)
    again = exchange()
    again.first(client.first())
    with pytest.raises(Refused):
        again.final(final)


def test_one_challenge_is_good_for_one_answer() -> None:
    made = exchange()
    challenge = made.first(ScramClient(b"joe", b"secret").first())
    with pytest.raises(Refused):
        made.final(ScramClient(b"joe", b"wrong").final(challenge))
    with pytest.raises(Refused, match="came first"):
        made.final(ScramClient(b"joe", b"secret").final(challenge))


def test_the_last_message_can_t_come_first() -> None:
    with pytest.raises(Refused):
        exchange().final(b"c=biws,r=x,p=" + b"A" * 43 + b"=")


def salt_of(user: bytes, *sources: Source) -> bytes:
    challenge = exchange(*sources).first(ScramClient(user, b"").first())
    return challenge.split(b",", 1)[1]


def test_a_stranger_looks_like_anybody() -> None:
    """The same salt each time, as many rounds and octets, whatever case he uses."""
    known, stranger = salt_of(b"joe"), salt_of(b"zoe")
    assert stranger == salt_of(b"zoe") == salt_of(b"ZOE")
    assert stranger != salt_of(b"zof")
    assert stranger != known
    assert len(stranger) == len(known)
    assert stranger.endswith(b",i=7")


def test_one_without_keys_looks_like_a_stranger() -> None:
    keyring = Keyring(joe="secret")
    keyring.texts[b"zoe"] = b""
    assert salt_of(b"zoe", keyring) == salt_of(b"zoe")
    with pytest.raises(Refused, match="without keys"):
        prove(ScramClient(b"zoe", b"secret"), exchange(keyring))


def test_only_the_operator_hears_that_somebody_is_unknown() -> None:
    made = exchange()
    client = ScramClient(b"zoe", b"secret")
    final = client.final(made.first(client.first()))
    with pytest.raises(Unknown):
        made.final(final)


def test_the_first_that_knows_the_account_decides() -> None:
    first, second = Keyring(joe="one"), Keyring(joe="two", ann="two", zoe="two")
    first.texts[b"zoe"] = b""
    sources = (Keyless(), first, second)
    assert prove(ScramClient(b"joe", b"one"), exchange(*sources)).name == b"joe"
    assert prove(ScramClient(b"ann", b"two"), exchange(*sources)).name == b"ann"
    for user in (b"joe", b"zoe"):
        with pytest.raises(Refused):
            prove(ScramClient(user, b"two"), exchange(*sources))


def test_who_is_known_to_a_source_without_keys_is_refused() -> None:
    """He may be locked there; a later source has another password for him."""
    before, after = (Knowing(b"joe"), KEYRING), (KEYRING, Knowing(b"joe"))
    assert prove(ScramClient(b"joe", b"secret"), exchange(*after)).name == b"joe"
    assert prove(ScramClient(b"ann", b"other"), exchange(*before)).name == b"ann"
    with pytest.raises(Refused, match="without keys"):
        prove(ScramClient(b"joe", b"secret"), exchange(*before))
    assert salt_of(b"joe", *before) == salt_of(b"JOE", KEYRING) != salt_of(b"joe")


def test_a_source_that_fails_stops_the_search() -> None:
    made = exchange(Knowing(), Keyring(trouble="secret"))
    with pytest.raises(Temporary):
        made.first(ScramClient(b"trouble", b"secret").first())


def test_without_any_keys_somebody_has_to_mend_something() -> None:
    with pytest.raises(Hard):
        exchange(Keyless(), Knowing()).first(ScramClient(b"joe", b"").first())


def test_keys_that_are_damaged_are_no_wrong_password() -> None:
    keyring = Keyring(joe="secret")
    keyring.texts[b"joe"] = keyring.texts[b"joe"][:-3]
    with pytest.raises(Temporary):
        exchange(keyring).first(ScramClient(b"joe", b"secret").first())


def test_who_is_disabled_gets_no_proof_of_ours() -> None:
    keyring = Keyring(joe="secret")
    keyring.disabled.add(b"joe")
    made = exchange(keyring)
    client = ScramClient(b"joe", b"secret")
    final = client.final(made.first(client.first()))
    with pytest.raises(Refused, match="disabled"):
        made.final(final)


def test_nonces_are_never_the_same_and_fit_into_a_message() -> None:
    nonces = {exchanges.make_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(scram.is_nonce(nonce) and len(nonce) >= 24 for nonce in nonces)


def dialogue(client: ScramClient, user: bytes, *, last: bytes = b"") -> Identity:
    """Hold the verifier's end of a dialogue, the client's being here."""
    packed = record.pack(user, client.first(), STAMP)

    def say(data: bytes) -> bytes:
        return client.final(data) if data.startswith(b"r=") else last

    return interview.converse(packed, (KEYRING,), b"Scram-Sha-256", say)


def test_a_dialogue_ends_with_nothing() -> None:
    client = ScramClient(b"joe", b"secret")
    assert dialogue(client, b"joe").name == b"joe"
    with pytest.raises(Refused, match="more to say"):
        dialogue(client, b"joe", last=b"x")


def test_the_name_in_the_record_is_the_name_in_the_message() -> None:
    """popup logs the one and the verifier lets in the other."""
    with pytest.raises(Refused, match="another user"):
        dialogue(ScramClient(b"joe", b"secret"), b"ann")


def test_a_dialogue_about_no_record() -> None:
    with pytest.raises(Misuse):
        interview.converse(b"joe", (KEYRING,), b"Scram-Sha-256", lambda data: data)
