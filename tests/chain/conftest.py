# SPDX-License-Identifier: ISC
"""What the tests of popup share: a place to run it in, and the ways it can run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.popup import DIALOGUES, House
from tests.conftest import Tools


@pytest.fixture
def house(tools: Tools, room: Path) -> Iterator[House]:
    made = House(tools, room)
    yield made
    made.close()


@pytest.fixture(params=DIALOGUES)
def dialogue(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
