# SPDX-License-Identifier: ISC
"""When TLS workers that died are replaced, and how often that is spoken of."""

from collections.abc import Iterator

import pytest

from qtools.errors import Failure, Temporary
from qtools.server import channel as channels
from qtools.server.tls import pool as tls_pool
from qtools.server.tls.pool import CALM_SECONDS, MOST_PAUSE_SECONDS, Pool
from qtools.server.tls.worker import READY_SECONDS, TlsProcess


class Factory:
    """Starts workers that are none, unless it is broken; has the clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.is_broken = False
        self.tries: list[float] = []
        self.complaints: list[str] = []
        self.made: list[TlsProcess] = []
        self.confirmed: list[tuple[int, float]] = []  # when: tries before, seconds left

    def start(self) -> TlsProcess:
        self.tries.append(self.now)
        if self.is_broken:
            raise Temporary("no key")
        made = TlsProcess.__new__(TlsProcess)
        made.handle = len(self.tries)
        made.control, made.channel = channels.pair()
        self.made.append(made)
        return made

    def confirm(self, _process: TlsProcess, deadline: float) -> None:
        self.confirmed.append((len(self.tries), deadline - self.now))

    def tends(self, pool: Pool, seconds: int) -> list[float]:
        """Let time pass, and give how long after its start there was a try."""
        begun, before = self.now, len(self.tries)
        for passed in range(seconds):
            self.now = begun + passed
            pool.tend()
        return [each - begun for each in self.tries[before:]]


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Factory]:
    made = Factory()
    monkeypatch.setattr(tls_pool, "monotonic", lambda: made.now)
    monkeypatch.setattr(tls_pool, "end", lambda _process: None)
    monkeypatch.setattr(tls_pool, "confirm", made.confirm)
    yield made
    for process in made.made:
        process.control.close()
        process.channel.close()


def pool_of(factory: Factory, count: int = 1) -> Pool:
    made = Pool(count, factory.start)
    made.attend(lambda _descriptor, _on: None, factory.complaints.append)
    return made


def test_all_read_their_keys_at_once(factory: Factory) -> None:
    pool_of(factory, 3)
    assert factory.confirmed == [(3, READY_SECONDS)] * 3


def test_who_dies_is_replaced_at_once_and_again_after_a_pause(factory: Factory) -> None:
    pool = pool_of(factory)
    pool.handle(1)
    assert factory.tends(pool, 1) == [0]
    pool.handle(2)
    assert factory.tends(pool, 3) == [1]
    pool.handle(3)
    assert factory.tends(pool, 3) == [2]
    assert len(factory.complaints) == 3


def test_after_calm_it_is_at_once_again(factory: Factory) -> None:
    pool = pool_of(factory)
    for handle in (1, 2):
        pool.handle(handle)
        factory.now += CALM_SECONDS + 1
        pool.tend()
    pool.handle(3)
    assert factory.tends(pool, 1) == [0]


def test_many_that_die_together_are_one_loss(factory: Factory) -> None:
    pool = pool_of(factory, 3)
    for handle in (1, 2, 3):
        pool.handle(handle)
    assert factory.tends(pool, 1) == [0, 0, 0]
    assert len(factory.complaints) == 1


def test_who_can_not_be_replaced_is_spoken_of_once_a_minute(factory: Factory) -> None:
    pool = pool_of(factory)
    factory.is_broken = True
    pool.handle(1)
    assert factory.tends(pool, 60) == [0, 1, 3, 7, 15, 31]
    assert factory.complaints[1:] == ["unable to start a TLS worker: no key"]
    tries = factory.tends(pool, 3600)
    assert tries[-2:] == [tries[-1] - MOST_PAUSE_SECONDS, tries[-1]]
    assert len(factory.complaints) <= 2 + 60
    factory.is_broken = False
    assert factory.tends(pool, 70)
    assert not pool.is_short


def test_a_renewal_that_fails_leaves_who_is_there(factory: Factory) -> None:
    pool = pool_of(factory, 2)
    factory.is_broken = True
    with pytest.raises(Failure, match="no key"):
        pool.renew(3, factory.start)
    assert not pool.is_short
