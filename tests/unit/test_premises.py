# SPDX-License-Identifier: ISC
"""A TLS worker that is started ahead ends with the settings it was started for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.errors import Hard
from qtools.server import own_chain
from qtools.server.settings import Settings
from qtools.server.warm import premises as module
from qtools.server.warm.bulletin import Bulletin
from qtools.server.warm.master import Master
from qtools.server.warm.premises import Premises
from qtools.system.notify import Notifier
from tests.certificates import authority

CHAIN = ("popup", "mx.example", "checkpw", "pop3d", "Maildir")


@pytest.fixture
def before(session_room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Premises]:
    """Give what settings with a certificate come to, with one TLS worker ahead."""
    monkeypatch.setattr(module, "dump_no_core", lambda: None)
    pair = authority(session_room / "authority").server("localhost")
    files = ("--certificate", str(pair.certificate), "--key", str(pair.key))
    settings = Settings(["popserver", *files, "127.0.0.1", "0", *CHAIN])
    chain = own_chain.read(settings.chain)
    made = Premises(settings, chain, {}, Bulletin(Notifier({})))
    made.prepare()
    yield made
    made.dismiss()


def children() -> set[str]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(path.read_text(encoding="ascii").split())


def ahead(premises: Premises) -> str:
    (process,) = premises._prepared
    return str(process.pid)


def master_of(before: Premises, after: Premises | None) -> Master:
    """Give a master who has not begun, and what he gets when he reads anew."""

    def reread() -> Premises:
        if after is None:
            raise Hard("settings that are wrong")
        return after

    return Master(before, reread, ["popserver"])


def test_it_is_the_first_of_the_crew(before: Premises) -> None:
    worker = ahead(before)
    process = before.start_relay()
    assert str(process.pid) == worker
    before._prepared.append(process)


def test_a_reload_that_has_no_use_for_it_ends_it(
    before: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = ahead(before)
    assert worker in children()
    after = Premises(before.settings, before.chain, {}, before.bulletin)
    master = master_of(before, after)
    monkeypatch.setattr(master, "_muster", lambda: None)
    master._reload()
    assert worker not in children()


def test_settings_that_are_wrong_leave_it(before: Premises) -> None:
    worker = ahead(before)
    master_of(before, None)._reload()
    assert worker in children()
    assert ahead(before) == worker


def test_a_drain_ends_it(before: Premises) -> None:
    worker = ahead(before)
    before.closing()
    assert worker not in children()
