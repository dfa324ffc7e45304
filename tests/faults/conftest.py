# SPDX-License-Identifier: ISC
"""A village with two people, a certificate, and what starts servers for them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Pair, authority
from tests.conftest import Tools
from tests.faults.harness import NAME, Servers, Village


@pytest.fixture
def village(room: Path) -> Village:
    made = Village(room)
    made.settle("joe", 3)
    made.settle("ann", 2)
    return made


@pytest.fixture
def servers(tools: Tools, village: Village) -> Iterator[Servers]:
    made = Servers(tools, village)
    yield made
    made.close()


@pytest.fixture(scope="module")
def standing(session_room: Path, tools: Tools) -> Iterator[Servers]:
    """Give what starts servers for a whole file, in a village of its own."""
    room = Path(tempfile.mkdtemp(dir=session_room))
    room.chmod(0o755)
    village = Village(room)
    village.settle("joe", 3)
    village.settle("ann", 2)
    made = Servers(tools, village)
    yield made
    made.close()


@pytest.fixture(scope="session")
def pair(session_room: Path) -> Pair:
    return authority(session_room / "faults").server(NAME)
