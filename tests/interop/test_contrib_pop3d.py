# SPDX-License-Identifier: ISC
"""What contrib/ offers for a pop3d that logs in by itself."""

import os
import subprocess
from pathlib import Path

import pytest

from tests import corpus
from tests.chain.pamroom import module
from tests.interop.conftest import SECRET, USER, House, Serve
from tests.interop.servers import HOST, Site, Superserver, unpacked
from tests.interop.talk import Talk
from tests.support import TOP, foreign, need_root

pytestmark = pytest.mark.slow

FILTER = TOP / "contrib/fail2ban/filter.d/qtools-pop3d.conf"

# A line of the log behind its time, and the address that is to be banned for it.
LINES = (
    ("pop3d[81]: [192.0.2.1] login incorrect for [joe]", "192.0.2.1"),
    ("mx pop3d[81]: [192.0.2.2] user unknown: [joe]", "192.0.2.2"),
    ("mx pop3d[81]: [2001:db8::5] login incorrect for [x\\x5d\\x20]", "2001:db8::5"),
    ("mx pop3d[81]: [192.0.2.3] password expired for [joe]", None),
    ("mx pop3d[81]: [192.0.2.4] quit before login", None),
    ("mx pop3d[81]: [192.0.2.5][joe] quit (1/2 msgs/bytes left, 0/0 deleted)", None),
    # A host and a name that say they are another's line, if they could.
    ("mx pop3d[81]: [h\\x5d] login incorrect for [192.0.2.6]", None),
    ("mx pop3d[81]: [192.0.2.7] login incorrect for [x] [192.0.2.8]", None),
)


def test_the_ban_rule_finds_the_guilty_and_nobody_else(tmp_path: Path) -> None:
    program = foreign("fail2ban", "/usr/bin/fail2ban-regex")
    log = tmp_path / "log"
    time = "Nov 20 10:00:00"
    log.write_text("".join(f"{time} {line}\n" for line, _ in LINES))
    library = program.removesuffix("/bin/fail2ban-regex") + "/lib/python3/dist-packages"
    made = subprocess.run(
        ["/usr/bin/python3", program, "-v", log, FILTER],
        env={**os.environ, "PYTHONPATH": library},
        capture_output=True,
        text=True,
        check=False,
    )
    guilty = [address for _, address in LINES if address]
    found = [
        line.split()[1]
        for line in made.stdout.splitlines()
        if line.startswith("|") and line.split()[1:2] and line.split()[1] in str(LINES)
    ]
    assert sorted(found) == sorted(guilty), made.stdout


def test_the_line_for_inetd(house: House, serve: Serve) -> None:
    need_root()
    text = (TOP / "contrib/inetd/pop3d.conf").read_text(encoding="ascii")
    (row,) = [line for line in text.splitlines() if not line.startswith("#")]

    def argv(site: Site) -> list[str]:
        fitted = row.replace("pop3 ", f"{HOST}:{site.port} ", 1)
        fitted = fitted.replace("/usr/local/bin/pop3d", str(house.tools.pop3d))
        accounts = f" --accounts db:{house.database}\n"
        program = unpacked("openbsd-inetd", "usr/sbin/inetd", "libwrap0")
        return [*program, "-E", "-i", site.write("inetd.conf", fitted + accounts)]

    server = serve([], Superserver("inetd", argv, is_ucspi=False))
    with Talk(server) as talk:
        count = len(corpus.messages())
        reply = talk.login(USER, SECRET)
        assert reply.startswith(b"+OK maildir: %d message(s) " % count)
        assert talk.ask(b"QUIT") == b"+OK\r\n"


def test_the_service_of_pam_s_names_what_is_there() -> None:
    text = (TOP / "contrib/pam.d/pop3").read_text(encoding="ascii")
    module("pam_unix")
    named = [line.split()[1] for line in text.splitlines() if line.startswith("@")]
    assert named
    assert [name for name in named if not Path("/etc/pam.d", name).exists()] == []
