# SPDX-License-Identifier: ISC
"""What web mail makes of our poppassd: real passwords, real refusals, real drivers.

Roundcube's and Horde's drivers are run as they are, by PHP, from Debian's packages.
SnappyMail's and Aurora's are played: each sends and reads what these do, and judges
replies by their rules.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from qtools.accounts import hashes
from tests.chain.tls import Certificate, make_certificate
from tests.conftest import Tools
from tests.estate import Estate
from tests.interop.servers import TCPSERVER, Server, Site, Superserver, running
from tests.support import foreign, need_root

HARNESS = str(Path(__file__).with_name("webmail.php"))
ROUNDCUBE = "usr/share/roundcube/plugins/password/drivers/poppassd.php"
HORDE = "usr/share/horde/passwd/lib/Driver/Poppassd.php"
LIBRARIES = (
    *("libargon2-1", "libsodium23", "libxml2", "libpcre2-8-0", "libicu72"),
    *("libedit2", "libbsd0", "libmd0"),
)

OLD, NEW = "correct horse", "battery staple"
UID = 4242
NOT_CHANGED = "Server error, password not changed: "
SHORT = NOT_CHANGED + "the new password is shorter than 8 characters"
LONG = "Password length exceeded (max 128)."
WRONG = "Old password is incorrect."


class Outcome(NamedTuple):
    """What web mail says to its user: whether it was done, and why not."""

    is_done: bool
    text: str = ""


Change = Callable[[Server, str, str, str], Outcome]


def _php() -> list[str]:
    """Give the start of a command with PHP, installed or unpacked."""
    paths = [foreign(name, "usr/share/php") for name in ("php-net-socket", "php-pear")]
    include = f"include_path=.:{':'.join(paths)}"
    if installed := shutil.which("php"):
        return [installed, "-n", "-d", include]
    program = foreign("php8.2-cli", "usr/bin/php8.2")
    folders = set()
    for library in LIBRARIES:
        folders |= {
            str(path.parent) for path in Path(foreign(library, ".")).rglob("*.so*")
        }
    path = f"LD_LIBRARY_PATH={':'.join(sorted(folders))}"
    return ["env", path, program, "-n", "-d", include]


def _by_php(name: str, package: str, driver: str) -> Change:
    def change(server: Server, user: str, old: str, new: str) -> Outcome:
        words = [*_php(), HARNESS, name, _part(package, driver), "127.0.0.1"]
        made = subprocess.run(
            [*words, str(server.port)],
            input=f"{user}\n{old}\n{new}",
            capture_output=True,
            text=True,
            check=True,
        )
        told = json.loads(made.stdout)
        return Outcome(told["code"] == 0, told["message"].strip())

    return change


def _part(package: str, path: str) -> str:
    """Give the place of a file that is no program, in an unpacked package."""
    return str(Path(foreign(package, "."), path))


class Reader:
    """The client's side of a connection, line by line."""

    def __init__(self, held: socket.socket) -> None:
        self._held = held
        self._file = held.makefile("rb")

    def line(self) -> str:
        return self._file.readline().decode()

    def ask(self, line: str) -> str:
        self._held.sendall(f"{line}\r\n".encode())
        return self.line()

    def close(self) -> None:
        self._file.close()
        self._held.close()


def _snappymail(server: Server, user: str, old: str, new: str) -> Outcome:
    """Send three lines and no quit; 2xx or 3xx is good, at the end 2xx only."""
    reader = Reader(server.connect())
    try:
        steps = (
            ("", r"^2\d\d"),
            (f"user {user}", r"^[23]\d\d"),
            (f"pass {old}", r"^[23]\d\d"),
            (f"newpass {new}", r"^2\d\d"),
        )
        for line, wanted in steps:
            reply = reader.ask(line) if line else reader.line()
            if not re.match(wanted, reply):
                return Outcome(is_done=False, text=reply[4:].strip())
    finally:
        reader.close()
    return Outcome(is_done=True)


def _aurora(server: Server, user: str, old: str, new: str) -> Outcome:
    """Read after newpass until a line is 200; keep the text of each that is 500."""
    reader = Reader(server.connect())
    try:
        for line in ("", f"user {user}", f"pass {old}"):
            reply = reader.ask(line) if line else reader.line()
            if reply[:1] not in "23":
                return Outcome(is_done=False, text=reply[4:].strip())
        texts: list[str] = []
        reply = reader.ask(f"newpass {new}")
        while reply.split(" ")[0] != "200":
            if not reply:
                return Outcome(is_done=False, text="".join(texts))
            if reply.split(" ")[0] == "500":
                texts.append(reply[4:].strip())
            reply = reader.line()
        assert reader.ask("quit").startswith("2")
    finally:
        reader.close()
    return Outcome(is_done=True)


def _eudora(server: Server, user: str, old: str, new: str) -> Outcome:
    """Want 200, after a name 300 as well, and nothing else."""
    reader = Reader(server.connect())
    try:
        lines = ("", f"user {user}", f"pass {old}", f"newpass {new}", "quit")
        for line in lines:
            reply = reader.ask(line) if line else reader.line()
            good = ("200 ", "300 ") if line.startswith("user") else ("200 ",)
            if not reply.startswith(good):
                return Outcome(is_done=False, text=reply[4:].strip())
    finally:
        reader.close()
    return Outcome(is_done=True)


CLIENTS = {
    "roundcube": _by_php("roundcube", "roundcube-plugins", ROUNDCUBE),
    "horde": _by_php("horde", "php-horde-passwd", HORDE),
    "snappymail": _snappymail,
    "aurora": _aurora,
    "eudora": _eudora,
}


@pytest.fixture(params=CLIENTS)
def change(request: pytest.FixtureRequest) -> Change:
    return CLIENTS[request.param]


@pytest.fixture
def estate(room: Path) -> Iterator[Estate]:
    need_root()
    with Estate(room / "estate") as made:
        made.add_user("joe", UID, hashes.make(OLD.encode(), "sha512").decode())
        made.service(
            "poppassd",
            "auth required pam_unix.so",
            "account required pam_unix.so",
            "password required pam_unix.so sha512 rounds=5000",
        )
        yield made


class Service(NamedTuple):
    """A poppassd under tcpserver, and its users."""

    estate: Estate
    server: Server

    def is_now(self, secret: str) -> bool:
        return hashes.matches(secret.encode(), self.estate.stored("joe").encode())


@pytest.fixture
def service(tools: Tools, estate: Estate) -> Iterator[Service]:
    chain = estate.command(tools.poppassd, "--fail-delay=0", "--strip-domain")
    place = estate.place / "server"
    with running(TCPSERVER, place, chain, tools.environment()) as server:
        yield Service(estate, server)


@pytest.mark.slow
@pytest.mark.parametrize("user", ["joe", "joe@example.com"])
def test_a_password_is_changed(service: Service, change: Change, user: str) -> None:
    new = 'more "quoted" than\\not, \u00e4h'
    assert change(service.server, user, OLD, new) == Outcome(is_done=True)
    assert service.is_now(new)
    assert change(service.server, user, new, OLD) == Outcome(is_done=True)
    assert service.is_now(OLD)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (("joe", "wrong", NEW), WRONG),
        (("mallory", OLD, NEW), WRONG),
        (("root", OLD, NEW), WRONG),
        (("joe", OLD, "short"), SHORT),
        (("joe", OLD, OLD), NOT_CHANGED + "the new password is the old one"),
        (("joe", OLD, "n" * 124), LONG),
        (("j" * 60, OLD, NEW), "Username too long (max 64)."),
        (("joe", "o" * 124, NEW), LONG),
    ],
)
def test_people_are_told_why_not(
    service: Service, change: Change, typed: tuple[str, str, str], text: str
) -> None:
    user, old, new = typed
    is_done, told = change(service.server, user, old, new)
    assert not is_done
    # Horde puts words and the code before what was said.
    assert told.rpartition("500 ")[2] == text
    assert service.is_now(OLD)


@pytest.mark.slow
def test_a_module_s_reason_is_shown(service: Service, change: Change) -> None:
    text = service.estate.place / "text"
    text.write_text("Not in the first week.\nAsk again.\n", encoding="ascii")
    service.estate.service(
        "poppassd",
        "auth required pam_unix.so",
        "account required pam_unix.so",
        f"password required pam_echo.so file={text}",
        "password required pam_deny.so",
    )
    is_done, told = change(service.server, "joe", OLD, NEW)
    assert not is_done
    assert told.endswith(NOT_CHANGED + "Not in the first week. Ask again.")


def _popserver(tools: Tools, *options: str) -> Superserver:
    def argv(site: Site) -> list[str]:
        where = ["-R", "-H", "-l", "mx.example", *options, "127.0.0.1", str(site.port)]
        return [tools.popserver, *where, *site.chain]

    return Superserver("popserver", argv)


@pytest.fixture
def certificate(room: Path) -> Certificate:
    made = make_certificate(room)
    for path in made:
        os.chmod(path, 0o600)
    return made


def _pem(certificate: Certificate) -> str:
    path = certificate.certificate.with_name("both.pem")
    path.write_bytes(
        certificate.certificate.read_bytes() + certificate.key.read_bytes()
    )
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("rule", ["", "!"])
def test_passwords_need_not_cross_the_wire_in_the_clear(
    tools: Tools, estate: Estate, certificate: Certificate, rule: str
) -> None:
    """By STLS, which is offered where the server offers it, and may be a must."""
    chain = estate.command(tools.poppassd)
    row = _popserver(tools, "-n", "--certificate", _pem(certificate))
    environment = tools.environment(UCSPITLS=rule)
    context = ssl.create_default_context(cafile=str(certificate.certificate))
    with ExitStack() as stack:
        server = stack.enter_context(
            running(row, estate.place / "s", chain, environment)
        )
        plain = stack.enter_context(server.connect())
        plain.recv(100)
        plain.sendall(b"stls\r\n")
        assert plain.recv(100) == b"200 Begin TLS negotiation.\r\n"
        with context.wrap_socket(plain, server_hostname="mx.example") as secure:
            reader = Reader(secure)
            said = [
                reader.ask(line)[:3]
                for line in ("user joe", f"pass {OLD}", f"newpass {NEW}", "quit")
            ]
            assert said == ["200"] * 4
            reader.close()
        other = Reader(server.connect())
        other.line()
        assert other.ask("user joe")[:3] == ("500" if rule else "200")
        other.close()
    assert hashes.matches(NEW.encode(), estate.stored("joe").encode())
