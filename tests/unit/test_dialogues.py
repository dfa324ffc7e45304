# SPDX-License-Identifier: ISC
"""Dialogues of a verifier: how many, how long, and what comes of the wrong answers."""

from typing import cast

import pytest

from qtools.accounts.interface import Identity, Unknown
from qtools.chain.request import MECHANISMS
from qtools.errors import Misuse, Refused, Temporary
from qtools.protocol import record
from qtools.server.warm import dialogues as module
from qtools.server.warm import packets
from qtools.server.warm.asking import Question
from qtools.server.warm.dialogues import OPEN_SECONDS, Dialogues
from tests.scram import ScramClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.interface import Source

# Of the password "pencil"; see RFC 7677 section 3.
KEYS = (
    b"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    b"$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    b":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
BINDING = bytes(range(32))


class Keys:
    """A source that knows one user."""

    def keys(self, user: bytes) -> bytes:
        if user != b"user":
            raise Unknown("unknown")
        return KEYS

    def canonical(self, user: bytes) -> bytes:
        return user

    def iterations(self, _name: bytes) -> int:
        return 0

    def salt_key(self) -> bytes:
        return b"salt"

    def identify(self, user: bytes) -> Identity:
        return Identity(user)


SOURCES = [cast("Source", Keys())]


class Office:
    """Dialogues, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.dialogues = Dialogues(lambda: self.now)

    def begin(
        self,
        identifier: int,
        client: ScramClient,
        *,
        user: bytes = b"user",
        method: str = "Scram-Sha-256",
        tag: bytes = b"tag",
    ) -> bytes:
        """Begin one; give what the client would answer."""
        packed = record.pack(user, client.first(), b"<1@mx>")
        environment = b"A=1\0SSL_SERVER_END_POINT=" + BINDING.hex().encode()
        head = packets.head(packets.ASK, identifier, MECHANISMS.index(method))
        question = Question(head + packets.fields(packed, environment, tag))
        return client.final(self.dialogues.begin(question, SOURCES))

    def finish(self, identifier: int, final: bytes) -> Identity:
        """Go through the rest of one."""
        assert isinstance(self.dialogues.go_on(identifier, final), bytes)
        found = self.dialogues.go_on(identifier, b"")
        assert isinstance(found, tuple)
        assert found[0].identifier == identifier
        return found[1]


@pytest.fixture
def office() -> Office:
    return Office()


def joe(**words: bytes) -> ScramClient:
    return ScramClient(b"user", b"pencil", **words)


def test_who_proves_it_is_known(office: Office) -> None:
    assert office.finish(1, office.begin(1, joe())).name == b"user"
    with pytest.raises(Temporary, match="no challenge"):
        office.dialogues.go_on(1, b"")


def test_two_do_not_get_into_each_others_way(office: Office) -> None:
    one, two = office.begin(1, joe()), office.begin(2, joe())
    assert one != two, "each has a nonce of his own"
    assert office.finish(2, two).name == office.finish(1, one).name == b"user"


def test_one_is_bound_to_what_the_worker_tells(office: Office) -> None:
    bound = {"header": b"p=tls-server-end-point,,", "binding": BINDING}
    final = office.begin(1, joe(**bound), method="Scram-Sha-256-Plus")
    assert office.finish(1, final).name == b"user"
    bound["binding"] = BINDING[::-1]
    final = office.begin(1, joe(**bound), method="Scram-Sha-256-Plus")
    with pytest.raises(Refused):
        office.dialogues.go_on(1, final)


def test_a_wrong_answer_is_the_last(office: Office) -> None:
    final = office.begin(1, joe())
    with pytest.raises(Refused):
        office.dialogues.go_on(1, final[:-4])
    with pytest.raises(Temporary):
        office.dialogues.go_on(1, final)


def test_after_the_proof_there_is_nothing_to_say(office: Office) -> None:
    office.dialogues.go_on(1, office.begin(1, joe()))
    with pytest.raises(Refused, match="more to say"):
        office.dialogues.go_on(1, b"more")
    with pytest.raises(Temporary, match="no challenge"):
        office.dialogues.go_on(1, b"")


def test_one_that_is_begun_anew_replaces_the_old(office: Office) -> None:
    old, new = office.begin(1, joe()), office.begin(1, joe())
    with pytest.raises(Refused):
        office.dialogues.go_on(1, old)
    assert new != old


def test_a_late_answer_is_to_no_challenge(office: Office) -> None:
    final = office.begin(1, joe())
    office.now = OPEN_SECONDS
    fresh = office.begin(2, joe())
    office.now += 1
    with pytest.raises(Temporary, match="no challenge"):
        office.dialogues.go_on(1, final)
    assert office.finish(2, fresh).name == b"user"


def test_of_too_many_the_oldest_lapse(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 3)
    finals = [office.begin(number, joe()) for number in range(5)]
    for number in range(2):
        with pytest.raises(Temporary, match="no challenge"):
            office.dialogues.go_on(number, finals[number])
    for number in range(2, 5):
        assert office.finish(number, finals[number]).name == b"user"


LARGE = bytes(packets.FIELD_OCTETS)


def test_of_too_much_the_oldest_lapse(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few they are in which a login worker keeps it."""
    monkeypatch.setattr(module, "MOST_OCTETS", 4 * len(LARGE))
    finals = [office.begin(number, joe(), tag=LARGE) for number in range(5)]
    for number in range(2):
        with pytest.raises(Temporary, match="no challenge"):
            office.dialogues.go_on(number, finals[number])
    for number in range(2, 5):
        assert office.finish(number, finals[number]).name == b"user"


def test_what_has_ended_takes_no_room(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OCTETS", 4 * len(LARGE))
    final = office.begin(0, joe(), tag=LARGE)
    for number in range(1, 10):
        office.finish(number, office.begin(number, joe(), tag=LARGE))
        office.begin(number, joe(), tag=LARGE)
        office.begin(number, joe(), tag=LARGE)
        office.dialogues.forget(number)
    assert office.finish(0, final).name == b"user"


def test_the_record_is_about_who_the_message_is_about(office: Office) -> None:
    with pytest.raises(Refused, match="another user"):
        office.begin(1, joe(), user=b"ann")


def test_what_is_no_record_is_misuse(office: Office) -> None:
    head = packets.head(packets.ASK, 1, MECHANISMS.index("Scram-Sha-256"))
    question = Question(head + packets.fields(b"user", b"", b"tag"))
    with pytest.raises(Misuse):
        office.dialogues.begin(question, SOURCES)
