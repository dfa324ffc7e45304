# SPDX-License-Identifier: ISC
"""Run checkpw as popup would: a record on descriptor 3, a program that tells."""

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests import support
from tests.conftest import Tools

# Told by the next program: ids, place, environment, open descriptors.
TELL = (
    'id -u; id -g; id -G; pwd; echo "$USER|$HOME|$SHELL|$MAILDIR|$LOGNAME|$KEPT";'
    " for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && printf $n; done; true"
)


class Told(NamedTuple):
    """What the next program saw."""

    uid: int
    gid: int
    groups: list[int]
    place: str
    user: str
    home: str
    shell: str
    maildir: str
    logname: str
    kept: str
    descriptors: str


class Outcome(NamedTuple):
    """How a run ended: exit code (minus a signal), descriptor 2, what was told."""

    code: int
    errors: str
    told: Told | None


def run(tools: Tools, record: bytes, *options: str, **more: str) -> Outcome:
    """Run checkpw with options before a program that tells what it sees."""
    return run_before(tools, record, [*options, "sh", "-c", TELL], **more)


def run_before(tools: Tools, record: bytes, words: list[str], **more: str) -> Outcome:
    """Run checkpw with these words; more goes into its environment."""
    made = subprocess.run(
        ["sh", "-c", 'exec "$@" 3<&0 </dev/null', "sh", tools.checkpw, *words],
        input=record,
        env=tools.environment(LOGNAME="kept", KEPT="yes", **more),
        capture_output=True,
        cwd="/",
        check=False,
    )
    return Outcome(made.returncode, made.stderr.decode(), _told(made.stdout.decode()))


def _told(text: str) -> Told | None:
    if not text:
        return None
    uid, gid, groups, place, environment, descriptors = text.split("\n")
    user, home, shell, maildir, logname, kept = environment.split("|")
    return Told(
        uid=int(uid),
        gid=int(gid),
        groups=[int(group) for group in groups.split()],
        place=place,
        user=user,
        home=home,
        shell=shell,
        maildir=maildir,
        logname=logname,
        kept=kept,
        descriptors=descriptors,
    )


@contextlib.contextmanager
def system_user(home: Path, stored: str, *options: str) -> Iterator[str]:
    """Give the name of a user of this system that exists for a while."""
    support.need_root()
    useradd = support.need("useradd", "passwd")
    name = f"qt{secrets.token_hex(4)}"
    subprocess.run(
        [useradd, "-M", "-d", home, "-s", "/bin/sh", "-p", stored, *options, name],
        check=True,
        capture_output=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    try:
        yield name
    finally:
        # -f: one with uid 0 "is logged in" forever
        subprocess.run(
            ["/usr/sbin/userdel", "-f", name], check=True, capture_output=True
        )


def own(path: Path) -> Path:
    """Make a folder that belongs to support.OWNER."""
    path.mkdir()
    if support.IS_ROOT:
        os.chown(path, *support.OWNER)
    return path


def place(key: str, home: Path) -> str:
    """Give the line that makes an authuser account usable for POP3."""
    uid, gid = support.OWNER
    return f"#:{key}:uid={uid} gid={gid} home={home}\n"
