# SPDX-License-Identifier: ISC
"""A newcomer's first two minutes: make demo, a message, a wrong password, Control-C."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests import corpus
from tests.conftest import PYTHON
from tests.interop.servers import MARK, marked
from tests.support import OWNER, TOP, need, wait_for

pytestmark = pytest.mark.slow

SECONDS = 5  # by then the server must say how to reach it
LOGIN_DENIED = 67  # curl's exit code
LEFT_OUT = (".*", "__pycache__", "dist")

IDENTITY = {"user": OWNER[0], "group": OWNER[1], "extra_groups": []}


@pytest.fixture
def checkout(room: Path) -> Path:
    """Give a copy of the checkout, in which another user may read and not write."""
    path = room / "qtools"
    shutil.copytree(TOP, path, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return path


@pytest.fixture
def newcomer(room: Path) -> Path:
    """Give a home to somebody who is not root."""
    path = room / "newcomer"
    path.mkdir(mode=0o700)
    os.chown(path, *OWNER)
    return path


@pytest.fixture
def demo(checkout: Path, newcomer: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run make demo as somebody who is not root."""
    # What runs the tests in the background may ignore the signal, and we with it.
    heeding = ["env", "--default-signal=INT"]
    process = subprocess.Popen(
        [*heeding, need("make", "make"), "demo", f"PYTHON={PYTHON}"],
        cwd=checkout,
        env=environment(newcomer),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **(IDENTITY if os.geteuid() == 0 else {}),  # type: ignore[call-overload]
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def mark(home: Path) -> str:
    """Give what marks the processes of one newcomer."""
    return home.parent.name


def environment(home: Path) -> dict[str, str]:
    """Give what stands in the newcomer's environment."""
    path = "/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(home), "TMPDIR": str(home), MARK: mark(home)}


def explanation(out: IO[str]) -> dict[str, str]:
    """Read what the demo says up to the last line; give its "word: text" lines."""
    lines = []
    while (line := out.readline()) and "Control-C" not in line:
        lines.append(line)
    text = "".join(lines)
    assert line, text
    return dict(re.findall(r"(?m)^(\w+): +(.*)$", text))


def shell(command: str, home: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run what the newcomer types."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        ["/bin/sh", "-c", command],
        env=environment(home),
        capture_output=True,
        check=False,
        timeout=30,
        **(IDENTITY if os.geteuid() == 0 else {}),  # type: ignore[call-overload]
    )
    return done


def test_a_day_in_the_life(demo: "subprocess.Popen[str]", newcomer: Path) -> None:
    need("curl", "curl")
    started = time.monotonic()
    assert demo.stdout is not None
    told = explanation(demo.stdout)
    assert time.monotonic() - started < SECONDS

    messages = corpus.messages()
    listing = shell(told["list"], newcomer).stdout.splitlines()
    sizes = [f"{n} {len(each.wire)}".encode() for n, each in enumerate(messages, 1)]
    assert listing == sizes
    assert shell(told["read"], newcomer).stdout == messages[0].wire

    wrong = re.sub(r"(-u '[^:]*:)[^']*", r"\1a guess", told["read"])
    assert wrong != told["read"]
    refused = shell(wrong, newcomer)
    assert (refused.returncode, refused.stdout) == (LOGIN_DENIED, b"")

    # As the terminal does it: to everybody in the foreground.
    os.killpg(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=30)
    assert "Traceback" not in rest
    wait_for(lambda: not marked(mark(newcomer)))
    assert os.listdir(newcomer) == []


def test_the_demo_checks_itself(checkout: Path, newcomer: Path) -> None:
    words = f"cd {checkout} && make demo PYTHON={PYTHON} DEMO=--check"
    done = shell(words, newcomer)
    assert done.returncode == 0, done.stdout
    assert b"as it was stored" in done.stdout
    wait_for(lambda: not marked(mark(newcomer)))
    assert os.listdir(newcomer) == []
