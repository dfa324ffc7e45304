# SPDX-License-Identifier: ISC
"""What the tests of popup share: a place to run it in, and the ways it can run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.behind import (
    NOT_A_SESSION,
    SERVED,
    SESSIONS,
    House,
    WarmPop3,
    can_be_warm,
    dialogues,
    warm_talk,
)
from tests.chain.popup import WIRES
from tests.conftest import Tools


@pytest.fixture
def house(tools: Tools, room: Path) -> Iterator[House]:
    made = House(tools, room)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def pop3d(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have a test of pop3d speak to pop3d alone, or to a session behind popserver."""
    way: str = getattr(request, "param", "alone")
    if way == "warm":
        monkeypatch.setattr(request.module, "Pop3", WarmPop3)
        monkeypatch.setattr(request.module, "talk", warm_talk)
    return way


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the dialogue in all the ways it can, over all the wires it can.

    popserver's clients come over TCP. A test says otherwise by parametrizing itself.
    """
    named = {
        name
        for mark in metafunc.definition.iter_markers("parametrize")
        for name in str(mark.args[0]).split(",")
    }
    wanted = {"dialogue", "wire"} & set(metafunc.fixturenames) - named
    module = metafunc.module.__name__.rpartition(".")[2]
    test = metafunc.function.__name__
    if module in SESSIONS and test not in NOT_A_SESSION:
        metafunc.parametrize("pop3d", ("alone", "warm"), indirect=True)
    ways = dialogues(module, test)
    if wanted == {"dialogue", "wire"}:
        pairs = [
            (way, wire)
            for way in ways
            for wire in (("tcp",) if way in SERVED else WIRES)
        ]
        metafunc.parametrize(("dialogue", "wire"), pairs)
    elif wanted == {"dialogue"}:
        metafunc.parametrize("dialogue", ways)
    elif wanted == {"wire"}:
        metafunc.parametrize("wire", WIRES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the rows of a table that a warm chain has no stand-in for."""
    items[:] = [
        item
        for item in items
        if not isinstance(item, pytest.Function)
        or not hasattr(item, "callspec")
        or can_be_warm(item.callspec.params)
    ]
