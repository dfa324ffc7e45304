# SPDX-License-Identifier: ISC
"""How many iterations strangers are told of, and how many accounts have so many."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from qtools.accounts.db.strangers import drawn, read
from qtools.accounts.db.tally import NOTHING, TALLY
from qtools.accounts.refusals import InUse, NoAccount, NoDomain
from qtools.protocol import scram

TALLIES = st.dictionaries(
    st.integers(1, scram.MOST_ITERATIONS), st.integers(1, 10**7), min_size=1, max_size=9
)


@given(TALLIES, st.binary(max_size=40), st.binary(max_size=40))
def test_what_is_drawn_is_in_use_and_always_the_same(
    tally: dict[int, int], secret: bytes, user: bytes
) -> None:
    assert drawn(tally, secret, user) in tally
    assert drawn(tally, secret, user) == drawn({**tally}, secret, user)
    assert drawn({}, secret, user) == 0


@given(st.integers(0, 100), st.binary(max_size=40))
def test_strangers_go_over_as_accounts_do(share: int, user: bytes) -> None:
    """A name that is told a new number is never told the old one again."""
    found = [drawn({4096: 100 - n, 9000: n}, b"key", user) for n in (share, 100)]
    earlier = [drawn({4096: 100 - n, 9000: n}, b"key", user) for n in range(share)]
    assert [*earlier, *found] == sorted([*earlier, *found])


def test_strangers_are_told_each_number_as_often_as_accounts() -> None:
    tally = {4096: 700, 10000: 250, 20000: 50}
    names = [b"user%d" % number for number in range(2000)]
    found = Counter(drawn(tally, b"key", name) for name in names)
    for iterations, accounts in tally.items():
        assert accounts * 2 * 0.7 < found[iterations] < accounts * 2 * 1.3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    create(bytes(tmp_path / "accounts"))
    made = Store(bytes(tmp_path / "accounts"))
    yield made
    made.close()


def keys(iterations: int) -> dict[str, bytes]:
    text = scram.make_keys(b"secret", b"0123456789abcdef", 1)
    return {"scram-sha-256": text.replace(b"$1:", b"$%d:" % iterations)}


def add(store: Store, *accounts: tuple[bytes, int]) -> None:
    with store:
        for user, iterations in accounts:
            store.add(user, None, b"/", b"", make_domain=True)
            store.set_credentials(user, keys(iterations) if iterations else {})


def tally(store: Store) -> dict[int, int]:
    """Give what is kept, having looked whether it is what there is."""
    kept = read(store._meta(TALLY))
    every = [store.credentials(each.user.encode()) for each in store.list()]
    there = Counter(
        scram.read_keys(made["scram-sha-256"]).iterations
        for made in every
        if "scram-sha-256" in made
    )
    assert {number: count for number, count in kept.items() if count} == there
    return dict(there)


def test_keys_are_counted(store: Store) -> None:
    add(store, (b"joe", 5), (b"ann", 5), (b"bob@x", 7), (b"zoe@x", 9), (b"off", 0))
    assert tally(store) == {5: 2, 7: 1, 9: 1}
    with store:
        store.set_credentials(b"ann", keys(9))
        store.set_aliases(b"joe", ["jo"])
    assert tally(store) == {5: 1, 7: 1, 9: 2}
    with store:
        store.set_credentials(b"ann", {})
        store.rename(b"bob@x", b"bob")
    assert tally(store) == {5: 1, 7: 1, 9: 1}
    with store:
        store.remove_domain("x", force=True)
        store.remove(b"joe")
    assert tally(store) == {7: 1}
    with store:
        store.set_secret(b"bob", b"secret", "md5")
    assert tally(store) == {scram.ITERATIONS: 1}
    with store:
        store.remove(b"bob")
    assert tally(store) == {}
    assert store._meta(TALLY) == NOTHING


def change_and_fail(store: Store) -> None:
    with store:
        store.set_credentials(b"joe", keys(9))
        store.remove(b"nobody")


def test_what_did_not_happen_is_not_counted(store: Store) -> None:
    add(store, (b"joe", 5), (b"ann@x", 7))
    with store:
        store.set_aliases(b"joe", ["jo"])
        with pytest.raises(NoAccount):
            store.remove(b"jo")
        with pytest.raises(InUse):
            store.remove_domain("x")
        with pytest.raises(NoDomain):
            store.remove_domain("y", force=True)
    assert tally(store) == {5: 1, 7: 1}
    with pytest.raises(NoAccount):
        change_and_fail(store)
    assert tally(store) == {5: 1, 7: 1}


def test_a_file_without_a_tally_gets_one_with_the_next_keys(store: Store) -> None:
    add(store, (b"joe", 5), (b"ann@x", 7))
    with store:
        store._change("DELETE FROM meta WHERE name = ?", TALLY)
    assert store._meta(TALLY) == b""
    add(store, (b"bob", 9))
    assert tally(store) == {5: 1, 7: 1, 9: 1}


def test_keys_that_are_damaged_count_nowhere(store: Store) -> None:
    with store:
        store.add(b"joe", None, b"/", b"")
        store.set_credentials(b"joe", {"scram-sha-256": b"SCRAM-SHA-256$x"})
    assert store._meta(TALLY) == NOTHING
    assert store.option(TALLY) == b""
    assert TALLY not in store.options()
