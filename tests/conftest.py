# SPDX-License-Identifier: ISC
"""Fixtures for all tests, and the rule that in CI a skip is a failure."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from tests import corpus, support

# CI tries the same examples each time: a red run is one that anybody can repeat.
settings.register_profile(
    "ci",
    max_examples=200,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# Nightly looks for new ones: properties that multiply this number reach a million.
settings.register_profile(
    "nightly",
    max_examples=20_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure() -> None:
    """Refuse to run where a confusion of str and bytes would go unseen."""
    if sys.flags.bytes_warning < 2:
        raise pytest.UsageError("run dev/test.sh, or python -bb -m pytest")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what takes minutes, unless it is night."""
    if support.IS_NIGHTLY:
        return
    left = [item for item in items if item.get_closest_marker("nightly")]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure; an expected failure (wasxfail) is none."""
    if (
        support.IS_CI
        and report.outcome == "skipped"
        and not hasattr(report, "wasxfail")
    ):
        reason = report.longrepr
        if isinstance(reason, tuple):
            reason = reason[2]
        report.outcome = "failed"
        report.longrepr = f"in CI a skip is a failure: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """See: _refuse_skip()."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[
    None, pytest.CollectReport, pytest.CollectReport
]:
    """See: _refuse_skip()."""
    report = yield
    _refuse_skip(report)
    return report


class Tools(NamedTuple):
    """An installation of the product: its prefix, its interpreter, its programs.

    popup, checkpw, pop3d, popaccount, popserver, poppassd are paths. All of it can be
    read and run by every user.
    """

    prefix: Path
    python: str

    @property
    def bin(self) -> Path:
        """The folder of the programs; put it into PATH to name them in a chain."""
        return self.prefix / "bin"

    @property
    def popup(self) -> str:
        """The path of popup."""
        return str(self.bin / "popup")

    @property
    def checkpw(self) -> str:
        """The path of checkpw."""
        return str(self.bin / "checkpw")

    @property
    def pop3d(self) -> str:
        """The path of pop3d."""
        return str(self.bin / "pop3d")

    @property
    def popaccount(self) -> str:
        """The path of popaccount."""
        return str(self.bin / "popaccount")

    @property
    def popserver(self) -> str:
        """The path of popserver."""
        return str(self.bin / "popserver")

    @property
    def poppassd(self) -> str:
        """The path of poppassd."""
        return str(self.bin / "poppassd")

    def environment(self, **more: str) -> dict[str, str]:
        """Give a small environment in which the programs are found by name."""
        return {"PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", **more}


def make_install(prefix: Path, **variables: str) -> None:
    """Run make install into a prefix; -bb and -W error unless PYFLAGS is given."""
    given = {"PREFIX": str(prefix), "PYTHON": PYTHON, "PYFLAGS": "-ISbbWerror"}
    subprocess.run(
        ["make", "install", *(f"{k}={v}" for k, v in {**given, **variables}.items())],
        cwd=support.TOP,
        check=True,
        capture_output=True,
    )


PYTHON = os.environ.get("TEST_PYTHON") or "/usr/bin/python3"


@pytest.fixture(scope="session")
def session_room() -> Iterator[Path]:
    """Give a folder, for the whole run, that every user can enter and read.

    All test files share it: make a folder in it before you make anything with a name.
    """
    # Root's own place for temporary files may be closed to others.
    place = "/tmp" if support.IS_ROOT else None
    path = Path(tempfile.mkdtemp(prefix="qtools-", dir=place))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def room(session_room: Path) -> Iterator[Path]:
    """Give an empty folder that every user can enter and read, unlike tmp_path."""
    path = Path(tempfile.mkdtemp(dir=session_room))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def tools(session_room: Path) -> Tools:
    """Give the product, installed by its own Makefile.

    Its programs run with -bb and -W error, so that a confusion of str and bytes or a
    warning is a failure there, too.
    """
    prefix = session_room / "prefix"
    make_install(prefix)
    return Tools(prefix, PYTHON)


@pytest.fixture
def maildir(room: Path) -> Path:
    """Give a Maildir with the corpus, owned by support.OWNER."""
    path = room / "Maildir"
    corpus.write_maildir(str(path), support.OWNER)
    return path
