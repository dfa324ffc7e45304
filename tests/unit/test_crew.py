# SPDX-License-Identifier: ISC
"""A crew and a ward as the master sees them, with processes that do little."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from qtools.server import channel as channels
from qtools.server.channel import Channel
from qtools.server.warm import crew as module
from qtools.server.warm import packets
from qtools.server.warm.crew import TLS, VERIFIER, WORKER, Crew, Ward
from tests.support import wait_for

DRAIN_SECONDS = 60.0
SOON, LATE = DRAIN_SECONDS / 2, DRAIN_SECONDS + module.GRACE_SECONDS + 1


def stays(_master: Channel) -> int:
    """Be a process that heeds nothing."""
    while True:
        signal.pause()


@pytest.fixture
def crew() -> Iterator[Crew]:
    sys.stdout.flush()
    made = Crew(1, DRAIN_SECONDS)
    yield made
    made.kill()
    for descriptor in list(made.members):
        made.lose(descriptor)


def opened() -> set[str]:
    """Give what is open here."""
    return {
        name
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/dev/fd/{name}")
    }


def test_who_does_not_go_in_time_is_killed_but_for_tls_workers(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = crew.join(WORKER, stays)
    relay = crew.join(TLS, stays)
    monkeypatch.setattr(module, "monotonic", lambda: 1000.0)
    assert not crew.expire(1000.0 + LATE)
    crew.retire()
    assert not crew.expire(1000.0 + SOON)
    assert crew.expire(1000.0 + LATE)
    assert not crew.expire(1000.0 + LATE)  # once is enough
    assert crew.lose(worker.channel.descriptor) == (worker, -signal.SIGKILL)
    assert os.waitpid(relay.pid, os.WNOHANG) == (0, 0)


def test_to_be_retired_again_is_no_reprieve(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew.join(WORKER, stays)
    monkeypatch.setattr(module, "monotonic", lambda: 1000.0)
    crew.retire()
    monkeypatch.setattr(module, "monotonic", lambda: 1000.0 + LATE)
    crew.retire()
    assert crew.expire(1000.0 + LATE)


def test_a_verifier_costs_the_master_one_descriptor_and_the_other_end_is_sent(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> int:
        raise OSError("no descriptors are left")

    monkeypatch.setattr("posix.dup", refuse)
    crew.join(WORKER, stays)
    before = opened()
    verifier = crew.add_verifier(lambda *_: stays(_[-2]), Ward(print), 2)
    assert opened() - before == {str(verifier.channel.descriptor)}
    assert crew.members[verifier.channel.descriptor] is verifier
    assert verifier.kind == VERIFIER


def test_what_a_lost_worker_was_to_get_is_closed(crew: Crew) -> None:
    worker = crew.join(WORKER, stays)
    before = opened()
    here, there = channels.pair()
    while worker.channel.send(b"unread"):
        pass
    crew.tell(packets.head(packets.TLS, 0, 1), there.detach())
    here.close()
    assert len(opened()) == len(before) + 1
    os.kill(worker.pid, signal.SIGKILL)
    crew.lose(worker.channel.descriptor)
    assert opened() == before - {str(worker.channel.descriptor)}


def test_a_nursery_that_does_not_read_is_killed_and_complained_of() -> None:
    sys.stdout.flush()
    complaints: list[str] = []
    ward = Ward(complaints.append)
    ward.found(stays)

    def is_complained_of() -> bool:
        ward.tell(packets.head(packets.DRAIN))
        return bool(complaints)

    wait_for(is_complained_of)
    assert complaints == ["the nursery does not read what it is told: killed"]
    assert ward.lose() == -signal.SIGKILL
    assert ward.descriptor == -1
    ward.tell(packets.head(packets.DRAIN))
