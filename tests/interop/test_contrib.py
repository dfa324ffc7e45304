# SPDX-License-Identifier: ISC
"""What contrib/ offers does what it says: the ban rule, the units, the run files."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.interop.servers import of_systemd
from tests.support import TOP, foreign

FILTER = TOP / "contrib/fail2ban/filter.d/qtools-popup.conf"

FORGED = r"x\x20popup:\x20Reject::AUTH::User\x20P:POP3\x20S:192.0.2.1\x20"

# A line of the session log, and the address that is to be banned for it.
LINES = (
    ("Reject::AUTH::User P:POP3 S:192.0.2.7:c.example ?~ 'joe'", "192.0.2.7"),
    # A name with colons, as popup writes it.
    (r"Reject::AUTH::User P:POP3 S:2001:db8::5:c\x3ax ?~ 'joe'", "2001:db8::5"),
    ("Reject::AUTH::Plain P:POP3S S:2001:db8::1:unknown ?~ 'joe'", "2001:db8::1"),
    ("Reject::STLS::Any P:POP3 S:192.0.2.9:unknown ?~ 'unknown'", "192.0.2.9"),
    # Not the client's fault, and no failure.
    ("Reject::AUTH::User P:POP3 S:192.0.2.10:unknown ?~ 'joe' code=111", None),
    ("Accept::AUTH::User P:POP3 S:192.0.2.12:unknown ?~ 'joe'", None),
    ("Info::END::User P:POP3 S:192.0.2.13:unknown ?~ 'joe' why=refused", None),
    # A name that says it is another's line.
    (
        rf"Reject::AUTH::User P:POP3 S:192.0.2.11:unknown ?~ '{FORGED}'",
        "192.0.2.11",
    ),
)


def test_the_ban_rule_finds_the_guilty_and_nobody_else(tmp_path: Path) -> None:
    program = foreign("fail2ban", "/usr/bin/fail2ban-regex")
    log = tmp_path / "current"
    log.write_text(
        "".join(f"2026-11-20 10:00:00.0 popup: pid 81 {line}\n" for line, _ in LINES)
    )
    library = program.removesuffix("/bin/fail2ban-regex") + "/lib/python3/dist-packages"
    made = subprocess.run(
        ["/usr/bin/python3", program, "-v", log, FILTER],
        env={**os.environ, "PYTHONPATH": library},
        capture_output=True,
        text=True,
        check=False,
    )
    banned = re.findall(r"^\|      (\S+)  \w{3} \w{3}", made.stdout, re.MULTILINE)
    assert banned == [address for _, address in LINES if address], made.stdout


@pytest.mark.slow
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    analyze = of_systemd("systemd-analyze")
    # Ours refer to systemd's own.
    theirs = "" if len(analyze) == 1 else foreign("systemd", "lib/systemd/system")
    for unit in (TOP / "contrib/systemd").iterdir():
        (tmp_path / unit.name).write_bytes(unit.read_bytes())
    made = subprocess.run(
        [*analyze, "verify", "--man=no", tmp_path / "pop3.socket"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:{theirs}"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in made.stderr.splitlines() if "pop3" in line]
    assert (made.returncode, ours) == (0, [])
