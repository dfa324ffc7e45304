# SPDX-License-Identifier: ISC
"""An account's own Maildir is served, whatever word the chain has for all accounts."""

import subprocess
from pathlib import Path

import pytest

from tests.chain import checker
from tests.conftest import Tools


@pytest.mark.parametrize("words", [["pop3d", "Maildir"], ["pop3d", "-a"]])
@pytest.mark.parametrize("way", [[], ["--exec"]])
def test_an_accounts_own_maildir_is_served(
    tools: Tools, room: Path, words: list[str], way: list[str]
) -> None:
    home = checker.own(room / "home")
    for name, count in (("Maildir", 1), ("Elsewhere", 2)):
        checker.own(home / name)
        for folder in ("tmp", "new", "cur"):
            checker.own(home / name / folder)
        for number in range(count):
            (home / name / "new" / f"{number}.x").write_bytes(b"A: b\n\nc\n")
    users = room / "users"
    uid, gid = home.stat().st_uid, home.stat().st_gid
    ids = f"uid={uid} gid={gid} home={home}"
    users.write_text(
        f"joe:secret\n#:joe:{ids} maildir={home}/Elsewhere\nann:secret\n#:ann:{ids}\n"
    )
    for user, count in (("joe", 2), ("ann", 1)):
        record = room / "record"
        record.write_bytes(user.encode() + b"\0secret\0\0")
        checkpw = [tools.checkpw, *way, "-a", f"authuser:{users}", *words]
        made = subprocess.run(
            ["sh", "-c", 'exec "$@" 3<"$0"', str(record), *checkpw],
            input=b"STAT\r\nQUIT\r\n",
            # left over, and another's
            env=tools.environment(POP3MAILDIR="/leftover", MAILDIR=f"{home}/Elsewhere"),
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        assert b"+OK %d " % count in made.stdout.split(b"\r\n", 1)[1]
