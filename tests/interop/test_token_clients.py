# SPDX-License-Identifier: ISC
"""Tokens for passwords: mpop, and a checker of others that knows a token."""

import stat
import sys
from pathlib import Path

import pytest

from tests.interop.clients import Errand
from tests.interop.conftest import USER, House, Serve
from tests.interop.servers import Server
from tests.support import OWNER, need, wait_for

pytestmark = pytest.mark.slow

TOKEN = "ya29." + "vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg" * 40 + "=="
NOT_ALLOWED, PROTOCOL = 77, 76  # EX_NOPERM and EX_PROTOCOL
WORDS = {"oauthbearer": "Oauthbearer", "xoauth2": "Xoauth2"}

CHECKER = """#!{python} -IS
import os, sys
record = os.read(3, 5000)
user, token, stamp = record.split(b"\\0")[:3]
method = os.environ["POP3METHOD"]
if (user, token) != ({user!r}, {token!r}) or method not in ("Oauthbearer", "Xoauth2"):
    os._exit(1)
if not os.geteuid():
    os.setgroups([])
    os.setgid({gid})
    os.setuid({uid})
os.chdir({home!r})
os.environ["USER"] = user.decode()
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def server(house: House, serve: Serve, room: Path) -> Server:
    checker = room / "checker"
    uid, gid = OWNER
    text = CHECKER.format(
        python=sys.executable,
        user=USER.encode(),
        token=TOKEN.encode(),
        home=str(house.home),
        uid=uid,
        gid=gid,
    )
    checker.write_text(text, encoding="ascii")
    checker.chmod(checker.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    options = ["--delay", "0", "--line-octets", "4096", "-m", ",".join(WORDS)]
    popup = [house.popup[0], *options, *house.popup[1:]]
    checkpw = ["checkpw", "--accounts", f"command:{checker}"]
    return serve([*popup, *checkpw, *house.pop3d])


def fetch(server: Server, place: Path, how: str, token: str, *codes: int) -> Path:
    """Run mpop; give where its mail is."""
    errand = Errand(server.port, USER, token, place, how, is_kept=True)
    maildir = errand.maildir()
    kept = errand.write("token", token + "\n")  # a line of mpop's holds 500 characters
    rows = (
        f"account default\nhost {errand.host}\nport {errand.port}\nauth {how}",
        f"user {USER}\npasswordeval cat {kept}\ndelivery maildir {maildir}\n",
    )
    given = errand.write("mpoprc", "\n".join(rows))
    errand.run(need("mpop", "mpop"), "-C", given, codes=codes)
    wait_for(lambda: any("Info::END" in line for line in server.log))
    return maildir


@pytest.mark.parametrize("how", WORDS)
def test_a_good_token(how: str, house: House, server: Server, place: Path) -> None:
    sent = house.move_in()
    maildir = fetch(server, place, how, TOKEN, 0)
    assert len(list((maildir / "new").iterdir())) == len(sent)
    assert f"Accept::AUTH::{WORDS[how]} " in server.log[0]


@pytest.mark.parametrize("how", WORDS)
def test_a_wrong_token(how: str, server: Server, place: Path) -> None:
    maildir = fetch(server, place, how, TOKEN[:-1], NOT_ALLOWED, PROTOCOL)
    assert list((maildir / "new").iterdir()) == []
    assert f"Reject::AUTH::{WORDS[how]} " in server.log[0]
    assert not any("Accept" in line for line in server.log)
