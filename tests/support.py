# SPDX-License-Identifier: ISC
"""What tests share besides fixtures: waiting, ports, missing programs, an owner.

A test never sleeps: it waits for what it expects, until a deadline far beyond it.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

TOP = Path(__file__).parent.parent
IS_CI = os.environ.get("CI") == "true"
IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
IS_ROOT = os.geteuid() == 0

# A user and group that own nothing else; no name is needed for them.
UNPRIVILEGED = (54321, 54322)
OWNER = UNPRIVILEGED if IS_ROOT else (os.geteuid(), os.getegid())

# Much more than anything takes on a busy machine; reached only by what hangs.
PATIENCE_SECONDS = 30.0
BETWEEN_LOOKS_SECONDS = 0.005


def wait_for(
    what: Callable[[], T | bool | None], seconds: float = PATIENCE_SECONDS
) -> T | bool:
    """Call until the result is true, and give it; fail the test at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        if result := what():
            return result
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} seconds in vain for {what}")
        time.sleep(BETWEEN_LOOKS_SECONDS)


def need(program: str, package: str) -> str:
    """Give the path of a program; skip the test, naming its package, without it.

    In CI a skip is a failure: see conftest.
    """
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"needs {program}: Debian package {package}")
    return path


def need_root() -> None:
    """Skip the test unless it runs as root."""
    if not IS_ROOT:
        pytest.skip("needs root: it changes users")


def foreign(package: str, program: str) -> str:
    """Give the path of a program in a package that is unpacked, not installed."""
    made = subprocess.run(
        [TOP / "dev/foreign.sh", package], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"needs {program}: Debian package {package}: {made.stderr[-200:]}")
    path = os.path.join(made.stdout.strip(), program.lstrip("/"))
    assert os.access(path, os.X_OK), path
    return path


def free_port() -> int:
    """Give a port of the loopback on which nobody listens just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
