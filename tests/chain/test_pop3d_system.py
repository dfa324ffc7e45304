# SPDX-License-Identifier: ISC
"""pop3d that logs in by itself the users of a system, whose files are a test's own."""

import subprocess
from pathlib import Path
from time import time

import pytest

from tests import corpus
from tests.chain.alone import Alone
from tests.chain.test_checkpw import hashed
from tests.chain.test_pop3d_login import INCORRECT, log_in
from tests.conftest import Tools
from tests.support import OWNER, need, need_root

SECRET = b"secret"
TODAY = int(time()) // 86400

# In /etc/shadow: hash, last change, least, most, warning, grace, end of the account.
USERS = {
    "joe": "HASH:19000:0:99999:7::",
    "locked": "!HASH:19000:0:99999:7::",
    "starred": "*:19000:0:99999:7::",
    "empty": ":19000:0:99999:7::",
    "ended": f"HASH:19000:0:99999:7::{TODAY - 1}",
    "unchanged": "HASH:0:0:99999:7::",
    "stale": "HASH:19000:0:10:7::",
}


SYSTEM = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
NAMES = "passwd: files\nshadow: files\ngroup: files\n"


@pytest.fixture
def before(room: Path) -> tuple[str, ...]:
    """Give the words that run a program where these are the only users.

    All of /etc is another: a file mounted over one of its files would be gone as soon
    as somebody replaces that.
    """
    need_root()
    uid, gid = OWNER
    etc = room / "etc"
    etc.mkdir()
    corpus.write_maildir(str(room / "Maildir"), OWNER)
    people = "".join(f"{name}:x:{uid}:{gid}::{room}:/bin/sh\n" for name in USERS)
    (etc / "passwd").write_text(SYSTEM + people, encoding="ascii")
    rows = {**USERS, "root": USERS["joe"]}
    text = "".join(f"{name}:{row}:\n" for name, row in rows.items())
    (etc / "shadow").touch(0o600)
    stored = hashed(SECRET)
    (etc / "shadow").write_text(text.replace("HASH", stored), encoding="ascii")
    (etc / "nsswitch.conf").write_text(NAMES, encoding="ascii")
    script = 'mount --bind "$0/etc" /etc && exec "$@"'
    words = (need("unshare", "util-linux"), "--mount", "sh", "-c", script, str(room))
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        need("unshare --mount that may mount", "util-linux, outside a container")
    return words


def test_who_may_come_in(tools: Tools, before: tuple[str, ...]) -> None:
    argv = [*before, tools.pop3d, "--accounts", "system"]
    with Alone(argv) as client:
        count = len(corpus.messages())
        assert log_in(client, SECRET).startswith(b"+OK maildir: %d " % count)
        assert client.processes()[0].uid == OWNER[0]


@pytest.mark.parametrize("name", [*(n for n in USERS if n != "joe"), "root", "who"])
def test_who_may_not(tools: Tools, before: tuple[str, ...], name: str) -> None:
    argv = [*before, tools.pop3d, "--accounts", "system", "--delay=0"]
    is_old = name in ("unchanged", "stale")
    with Alone(argv) as client:
        reply = log_in(client, SECRET, name.encode())
        assert reply == (b"-ERR [AUTH] password expired" if is_old else INCORRECT)
    if is_old:  # nobody is told that who does not know the password
        with Alone(argv) as client:
            assert log_in(client, b"wrong", name.encode()) == INCORRECT
