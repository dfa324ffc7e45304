# SPDX-License-Identifier: ISC
"""What contrib/ offers does what it says: the ban rule, the units, the run files."""

import os
import poplib
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import corpus
from tests.certificates import authority
from tests.interop.conftest import SECRET, USER, House
from tests.interop.servers import HOST, of_systemd
from tests.support import (
    IS_ROOT,
    PATIENCE_SECONDS,
    TOP,
    foreign,
    free_port,
    need,
    wait_for,
)

CONTRIB = TOP / "contrib"
FILTER = CONTRIB / "fail2ban/filter.d/qtools-popup.conf"

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
    ("Reject::CONNECT::Source P:POP3 S:192.0.2.14:unknown ?~ '' (+3 more)", None),
    ("Accept::AUTH::User P:POP3 S:192.0.2.12:unknown ?~ 'joe'", None),
    ("Info::END::User P:POP3 S:192.0.2.13:unknown ?~ 'joe' why=refused", None),
    # A name that says it is another's line.
    (
        rf"Reject::AUTH::User P:POP3 S:192.0.2.11:unknown ?~ '{FORGED}'",
        "192.0.2.11",
    ),
)

# What stands in front of it, in a file, in syslog's files and in the journal.
PREFIXES = {
    "popup": "2026-11-20 10:00:00.0 popup: pid 81 ",
    "popserver --syslog": "Nov 20 10:00:00 mx popup[81]: pid 81 ",
    "pop3d -D": "2026-11-20T10:00:00.123456+01:00 mx pop3d[80]: pid 81 ",
    "units": "2026-11-20T10:00:00 mx.example pop3[79]: popup: pid 81 ",
}


@pytest.mark.parametrize("kind", PREFIXES)
def test_the_ban_rule_finds_the_guilty_and_nobody_else(
    tmp_path: Path, kind: str
) -> None:
    program = foreign("fail2ban", "/usr/bin/fail2ban-regex")
    log = tmp_path / "current"
    log.write_text("".join(f"{PREFIXES[kind]}{line}\n" for line, _ in LINES))
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


ACCEPTED = re.compile(
    r"^(<\d>)?popup: pid \d+ Accept::AUTH::User P:POP3S ", re.MULTILINE
)

UNITS = (
    "pop3.socket",
    "popserver.socket",
    "popserver.service",
    "popserver-alone.service",
)


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_nothing_to_say_about_the_units(
    unit: str, house: House, tmp_path: Path
) -> None:
    analyze = of_systemd("systemd-analyze")
    # Ours refer to systemd's own.
    theirs = "" if len(analyze) == 1 else foreign("systemd", "lib/systemd/system")
    for path in (CONTRIB / "systemd").iterdir():
        text = path.read_text(encoding="utf-8")
        text = text.replace("/usr/local/bin", str(house.tools.bin))
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    made = subprocess.run(
        [*analyze, "verify", "--man=no", tmp_path / unit],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:{theirs}"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in made.stderr.splitlines() if "pop" in line]
    assert (made.returncode, ours) == (0, [])


class Site:
    """Where a server of contrib's is to run in a test: ports, certificate, chain."""

    def __init__(self, house: House, folder: Path) -> None:
        made = authority(folder)
        self.house = house
        self.both = made.combined("mx.example")
        self.trust = ssl.create_default_context(cafile=str(made.ca))
        self.ports = free_port(), free_port()

    def fit(self, text: str) -> str:
        """Put what is the test's in the place of what is an example."""
        port, tls = self.ports
        places = (
            (r"\btls:[0*]:995\b", f"tls:{HOST}:{tls}"),
            (r"(?<=\s)[0*] 110\b", f"{HOST} {port}"),
            (r"/etc/ssl/pop3\.pem", str(self.both)),
            (r"checkpw pop3d Maildir", shlex.join(self.house.chain[2:])),
        )
        for wanted, found in places:
            assert re.search(wanted, text) or "tls" in wanted, wanted
            text = re.sub(wanted, found, text)
        return text

    def is_open(self) -> bool:
        """Tell whether somebody listens."""
        with socket.socket() as client:
            return client.connect_ex((HOST, self.ports[0])) == 0

    def read_mail(self) -> None:
        """Log in on both ports; all the mail has to be there."""
        port, tls = self.ports
        stls = poplib.POP3(HOST, port, timeout=PATIENCE_SECONDS)
        stls.host = "mx.example"
        stls.stls(self.trust)
        with socket.create_connection((HOST, tls), PATIENCE_SECONDS) as client:
            inside = self.trust.wrap_socket(client, server_hostname="mx.example")
            with inside:
                assert inside.recv(100).startswith(b"+OK")
        stls.user(USER)
        stls.pass_(SECRET)
        octets = sum(len(each.wire) for each in corpus.messages())
        assert stls.stat() == (len(corpus.messages()), octets)
        stls.quit()


@pytest.fixture
def site(house: House, session_room: Path) -> Site:
    return Site(house, session_room / "contrib")


def words_of(unit: str, setting: str) -> list[str]:
    """Give the words of a setting in a unit."""
    text = (CONTRIB / "systemd" / unit).read_text(encoding="utf-8")
    lines = text.replace("\\\n", " ").splitlines()
    return [
        word
        for line in lines
        if line.startswith(f"{setting}=")
        for word in shlex.split(line.partition("=")[2])
    ]


def confined(unit: str) -> list[str]:
    """Give the words that leave root the capabilities that a unit leaves him."""
    if not IS_ROOT:
        return []
    names = words_of(unit, "CapabilityBoundingSet")
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names)
    setpriv = need("setpriv", "util-linux")
    return [setpriv, "--no-new-privs", "--bounding-set", f"-all,{kept}"]


class Manager:
    """What systemd is to a service: a socket for its words, and what it has said."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.bind(str(self.path))

    def said(self) -> str:
        """Give the next word."""
        return self.socket.recv(4096).decode().partition("\n")[0]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.socket.close()


@contextmanager
def running(
    argv: list[str], folder: Path, env: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program that writes to a log; at the end it is gone, however that came."""
    with log.open("wb") as out:
        process = subprocess.Popen(argv, cwd=folder, env=env, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["popserver.service", "popserver-alone.service"])
def test_a_unit_serves_reloads_and_ends(
    unit: str, site: Site, manager: Manager, tmp_path: Path
) -> None:
    command = " ".join(words_of(unit, "ExecStart")).replace("%H", "mx.example")
    program, *words = shlex.split(site.fit(command))
    assert program == "/usr/local/bin/popserver"
    argv = [str(site.house.tools.bin / "popserver"), *words]
    env = site.house.tools.environment(NOTIFY_SOCKET=str(manager.path))
    if unit == "popserver.service":
        places = [f"{HOST}:{port}" for port in site.ports]
        activate = of_systemd("systemd-socket-activate")
        activate += ["--fdname=pop3:pop3s", "-E", "NOTIFY_SOCKET", "-E", "PATH"]
        argv = [*activate, "-l", places[0], "-l", places[1], *argv]
    log = tmp_path / "log"
    with running([*confined(unit), *argv], tmp_path, env, log) as process:
        wait_for(lambda: site.is_open() or process.poll() is not None)
        site.read_mail()
        assert manager.said() == "READY=1"
        assert words_of(unit, "ExecReload") == ["/bin/kill", "-HUP", "$MAINPID"]
        process.send_signal(signal.SIGHUP)
        assert [manager.said(), manager.said()] == ["RELOADING=1", "READY=1"]
        site.read_mail()
        process.send_signal(signal.SIGTERM)
        assert manager.said() == "STOPPING=1"
        assert process.wait(PATIENCE_SECONDS) == 0
    accepted = ACCEPTED.search(log.read_text(encoding="utf-8"))
    assert accepted
    assert accepted[1] == "<6>"
    seconds = int(words_of(unit, "TimeoutStopSec")[0])
    assert seconds > 30, "less than --drain"
    assert words_of(unit, "KillMode") == ["mixed"]


def copy(kind: str, site: Site, folder: Path) -> Path:
    """Copy a service directory, fitted to a test; give the run file's path."""
    service = folder / "popserver"
    shutil.copytree(CONTRIB / kind / "popserver", service)
    run = service / "run"
    run.write_text(site.fit(run.read_text(encoding="ascii")), encoding="ascii")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["daemontools", "runit"])
def test_a_run_file_serves_and_logs(kind: str, site: Site, tmp_path: Path) -> None:
    run = copy(kind, site, tmp_path)
    log = tmp_path / "log"
    env = site.house.tools.environment()
    with running([str(run)], run.parent, env, log) as process:
        wait_for(lambda: site.is_open() or process.poll() is not None)
        site.read_mail()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert ACCEPTED.search(log.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_s6_knows_when_it_is_ready(site: Site, tmp_path: Path) -> None:
    supervise = need("s6-supervise", "s6")
    execlineb = need("execlineb", "execline")
    run = copy("s6", site, tmp_path)
    text = run.read_text(encoding="ascii").replace("#!/bin/execlineb", f"#!{execlineb}")
    run.write_text(text, encoding="ascii")
    env = {"PATH": f"{site.house.tools.bin}:{os.environ['PATH']}"}
    log, service = tmp_path / "log", str(run.parent)
    with running([supervise, service], tmp_path, env, log) as process:
        wait_for((run.parent / "supervise/control").exists)
        subprocess.run(["s6-svwait", "-U", "-t", "20000", service], check=True)
        site.read_mail()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert ACCEPTED.search(log.read_text(encoding="utf-8"))
