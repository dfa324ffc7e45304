# SPDX-License-Identifier: ISC
"""What contrib/ has for poppassd: each file is used, and a password changed by it."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.accounts import hashes
from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from tests.conftest import Tools
from tests.estate import Estate
from tests.interop.servers import HOST, of_systemd, unpacked
from tests.interop.test_contrib import CONTRIB, confined, running, words_of
from tests.support import (
    PATIENCE_SECONDS,
    foreign,
    free_port,
    need,
    need_root,
    wait_for,
)

OLD, NEW = "correct horse", "battery staple"
EXAMPLE = "127.0.0.1 106 poppassd"


@pytest.fixture
def estate(room: Path) -> Iterator[Estate]:
    need_root()
    with Estate(room / "estate") as made:
        made.add_user("joe", 4242, hashes.make(OLD.encode(), "sha512").decode())
        shutil.copy(CONTRIB / "pam.d/poppassd", made.etc / "pam.d/poppassd")
        yield made


class Place:
    """Where a poppassd of contrib's is to run in a test."""

    def __init__(self, tools: Tools, estate: Estate) -> None:
        self.tools = tools
        self.estate = estate
        self.port = free_port()

    def is_open(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex((HOST, self.port)) == 0

    def change(self) -> None:
        """Change a password; it has to be stored."""
        with socket.create_connection((HOST, self.port), PATIENCE_SECONDS) as client:
            words = ("user joe", f"pass {OLD}", f"newpass {NEW}", "quit")
            client.sendall("".join(f"{word}\n" for word in words).encode())
            with client.makefile("rb") as file:
                said = file.readlines()
        assert said[-1] == b"200 Bye.\r\n", said
        assert hashes.matches(NEW.encode(), self.estate.stored("joe").encode())

    def fit(self, text: str) -> str:
        """Put what is the test's in the place of what is an example."""
        assert EXAMPLE in text
        return text.replace(EXAMPLE, f"{HOST} {self.port} poppassd")


@pytest.fixture
def place(tools: Tools, estate: Estate) -> Place:
    return Place(tools, estate)


@pytest.mark.parametrize("kind", ["runit", "s6"])
def test_a_run_file_changes_passwords(kind: str, place: Place, tmp_path: Path) -> None:
    run = tmp_path / "run"
    text = place.fit((CONTRIB / kind / "poppassd/run").read_text(encoding="ascii"))
    if kind == "s6":
        text = text.replace("/bin/execlineb", need("execlineb", "execline"))
        text = text.replace("--notify-fd 3 ", "")  # test_contrib has a supervisor
    run.write_text(text, encoding="ascii")
    run.chmod(0o755)
    argv = place.estate.command(str(run))
    env = place.tools.environment()
    with running(argv, tmp_path, env, tmp_path / "log") as process:
        wait_for(lambda: place.is_open() or process.poll() is not None)
        place.change()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_the_line_for_inetd(place: Place, tmp_path: Path) -> None:
    text = (CONTRIB / "inetd/poppassd.conf").read_text(encoding="ascii")
    text = text.replace("127.0.0.1:106", f"{HOST}:{place.port}")
    text = text.replace("/usr/local/bin", str(place.tools.bin))
    configuration = tmp_path / "inetd.conf"
    configuration.write_text(text, encoding="ascii")
    program = unpacked("openbsd-inetd", "usr/sbin/inetd", "libwrap0")
    argv = place.estate.command(*program, "-i", str(configuration))
    env = place.tools.environment()
    with running(argv, tmp_path, env, tmp_path / "log") as process:
        wait_for(lambda: place.is_open() or process.poll() is not None)
        place.change()


def test_a_unit_has_the_capabilities_it_takes(place: Place, tmp_path: Path) -> None:
    unit = "poppassd@.service"
    assert words_of(unit, "ExecStart") == ["/usr/local/bin/poppassd"]
    activate = of_systemd("systemd-socket-activate")
    activate += ["-l", f"{HOST}:{place.port}", "--accept", "--inetd", "-E", "PATH"]
    argv = place.estate.command(*activate, *confined(unit), place.tools.poppassd)
    env = place.tools.environment()
    with running(argv, tmp_path, env, tmp_path / "log") as process:
        wait_for(lambda: place.is_open() or process.poll() is not None)
        place.change()


@pytest.mark.slow
def test_systemd_has_nothing_to_say_about_the_units(
    tools: Tools, tmp_path: Path
) -> None:
    analyze = of_systemd("systemd-analyze")
    theirs = "" if len(analyze) == 1 else foreign("systemd", "lib/systemd/system")
    for name in ("poppassd.socket", "poppassd@.service"):
        text = (CONTRIB / "systemd" / name).read_text(encoding="utf-8")
        text = text.replace("/usr/local/bin", str(tools.bin))
        (tmp_path / name).write_text(text, encoding="utf-8")
    made = subprocess.run(
        [*analyze, "verify", "--man=no", tmp_path / "poppassd.socket"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:{theirs}"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in made.stderr.splitlines() if "pop" in line]
    assert (made.returncode, ours) == (0, [])


def test_the_ban_rule_finds_who_guesses_and_nobody_else(
    place: Place, tmp_path: Path
) -> None:
    """Over lines that poppassd has written, for names that pretend to be lines."""
    forged = "x from 192.0.2.1".replace(" ", "\t")
    given = [
        ("joe", "wrong", "192.0.2.7"),
        ("root", "x", "2001:db8::5"),
        (forged, "x", "192.0.2.8"),
        ("(given", "x", "192.0.2.9"),
        ("a@b.example", "x", "192.0.2.10"),
    ]
    rule = CONTRIB / "fail2ban/filter.d/qtools-poppassd.conf"
    for row in [*given, ("joe", OLD, "192.0.2.99")]:
        guess(place, *row)
    banned = found(place, rule, tmp_path)
    assert banned == [address for _, _, address in given]
    assert "192.0.2.99" in (tmp_path / "log").read_text(encoding="ascii")


def test_a_second_rule_finds_who_guesses_where_a_program_checks(
    place: Place, tmp_path: Path
) -> None:
    check = "pam_exec.so expose_authtok quiet /bin/false"
    place.estate.service("poppassd", f"auth required {check}")
    guess(place, "joe", "wrong", "192.0.2.7")
    guess(place, "joe@x.example", "wrong", "192.0.2.8")
    rule = CONTRIB / "fail2ban/filter.d/qtools-poppassd.conf"
    log = tmp_path / "log"
    assert found(place, rule, tmp_path) == []
    text = rule.read_text(encoding="ascii").replace("#           ^", "            ^")
    both = tmp_path / "both.conf"
    both.write_text(text, encoding="ascii")
    assert banned_in(log, both) == ["192.0.2.7", "192.0.2.8"]


def test_the_ban_rule_finds_who_guesses_by_pwd(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    create(os.fsencode(path))
    with Store(os.fsencode(path)) as store:
        store.add(b"joe", None, b"/", b"")
        store.set_secret(b"joe", OLD.encode(), "md5")
    forged = "x] login refused: y ([192.0.2.1]) login refused: joe by User"
    given = [
        ("joe", "wrong", "192.0.2.7"),
        ("nobody", "x", "2001:db8::5"),
        (forged.replace(" ", "\t"), "x", "192.0.2.8"),
    ]
    words = [place.tools.poppassd, "--pwd", "--fail-delay=0", "--log-level=3"]
    words += ["-a", f"db:{path}"]
    for user, secret, address in [*given, ("joe", OLD, "192.0.2.99")]:
        lines = f"USER {user}\nPASS {secret}\nNEWPASS {OLD}\nQUIT\n"
        subprocess.run(
            place.estate.command(*words),
            input=lines.encode(),
            env=place.tools.environment(TCPREMOTEIP=address),
            stdout=subprocess.DEVNULL,
            check=False,
        )
    rule = CONTRIB / "fail2ban/filter.d/qtools-poppassd.conf"
    assert found(place, rule, tmp_path) == [address for _, _, address in given]
    assert "192.0.2.99" in (tmp_path / "log").read_text(encoding="ascii")


def test_the_jail_finds_its_log_on_any_system(tmp_path: Path) -> None:
    """As its client reads the configuration, which is what starts jails."""
    client = foreign("fail2ban", "/usr/bin/fail2ban-client")
    top = Path(client).parents[2]
    shutil.copytree(top / "etc/fail2ban", tmp_path / "etc")
    for name in ("filter.d", "jail.d"):
        rule = CONTRIB / "fail2ban" / name / "qtools-poppassd.conf"
        shutil.copy(rule, tmp_path / "etc" / name)
    words = [f"-c{tmp_path}/etc", f"-s{tmp_path}/s", f"-p{tmp_path}/p", "-d"]
    made = subprocess.run(
        ["/usr/bin/python3", client, *words],
        env={**os.environ, "PYTHONPATH": str(top / "usr/lib/python3/dist-packages")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "['start', 'qtools-poppassd']" in made.stdout.splitlines(), made.stderr
    assert "any log file for qtools-poppassd" not in made.stderr


def guess(place: Place, user: str, secret: str, address: str) -> None:
    """Have one conversation from an address."""
    words = [place.tools.poppassd, "--fail-delay=0", "--strip-domain"]
    subprocess.run(
        place.estate.command(*words),
        input=f"user {user}\npass {secret}\nnewpass {NEW}\nquit\n".encode(),
        env=place.tools.environment(TCPREMOTEIP=address),
        stdout=subprocess.DEVNULL,
        check=False,
    )


def found(place: Place, rule: Path, folder: Path) -> list[str]:
    """Write what has been logged to a file; give whom a rule would ban for it."""
    lines = [re.sub(r"^<\d+>(.{15}) ", r"\1 mx ", each) for each in place.estate.log()]
    log = folder / "log"
    log.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return banned_in(log, rule)


def banned_in(log: Path, rule: Path) -> list[str]:
    """Give the addresses that a rule finds in a log."""
    program = foreign("fail2ban", "/usr/bin/fail2ban-regex")
    library = program.removesuffix("/bin/fail2ban-regex") + "/lib/python3/dist-packages"
    made = subprocess.run(
        ["/usr/bin/python3", program, "-v", log, rule],
        env={**os.environ, "PYTHONPATH": library},
        capture_output=True,
        text=True,
        check=False,
    )
    return re.findall(r"^\|      (\S+)  \w{3} \w{3}", made.stdout, re.MULTILINE)
