# SPDX-License-Identifier: ISC
"""poppassd as inetd starts it, with real PAM modules over a private /etc.

The connection is on descriptors 0, 1 and 2, so that whatever anybody writes to one of
them is seen, and is a failure.
"""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from pwd import getpwnam
from typing import Self

import pytest

from qtools.accounts import hashes
from tests.conftest import Tools
from tests.estate import Estate, module
from tests.support import PATIENCE_SECONDS, need, need_root, wait_for

GREETING = re.compile(rb"200 poppassd v[0-9.]+ hello, who are you\?\r\n")
USER = b"200 Your password please.\r\n"
PASS = b"200 Your new password please.\r\n"
NEWPASS = b"200 Password changed, thank-you.\r\n"
BYE = b"200 Bye.\r\n"
WRONG = b"500 Old password is incorrect.\r\n"
FAILED = b"500 Server error, password not changed"
LATER = b"500 Server error, try again later.\r\n"

OLD, NEW = "correct horse", "battery staple"
UID = 4242
ASKS = "pam_exec.so expose_authtok quiet /bin/cat"  # and takes whatever it gets
QUICK = "--fail-delay=0"
PERMITS = "account required pam_permit.so", "password required pam_permit.so"
FAIL_SECONDS = 1
PAM_SECONDS = 60  # that a module wants to wait for; PAM waits for half of it or more


@pytest.fixture(scope="module")
def stored() -> str:
    return hashes.make(OLD.encode(), "sha512").decode()


@pytest.fixture
def estate(room: Path, stored: str) -> Iterator[Estate]:
    need_root()
    with Estate(room / "estate") as made:
        made.add_user("joe", UID, stored)
        made.add_user("low", 99, stored)
        made.add_user("locked", UID + 9, f"!{stored}")
        made.service(
            "poppassd", "auth required pam_unix.so", "account required pam_unix.so"
        )
        with (made.etc / "pam.d/poppassd").open("a", encoding="ascii") as file:
            file.write("password required pam_unix.so sha512 rounds=5000\n")
        yield made


class Changing:
    """One poppassd, on one TCP connection."""

    def __init__(self, argv: list[str], env: dict[str, str], out: int = -1) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        self.client.settimeout(PATIENCE_SECONDS)
        err = server.fileno() if out < 0 else out
        with server:
            place = server.fileno()
            self.process = subprocess.Popen(
                argv, env=env, stdin=place, stdout=place, stderr=err
            )
        self._file = self.client.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.client.close()

    def send(self, *lines: str) -> None:
        self.client.sendall("".join(line + "\r\n" for line in lines).encode())

    def line(self) -> bytes:
        return self._file.readline()

    def rest(self) -> list[bytes]:
        return self._file.readlines()

    def say(self, *lines: str) -> list[bytes]:
        """Say all at once, stop, and give all that is answered but the greeting."""
        self.send(*lines)
        self.client.shutdown(socket.SHUT_WR)
        greeting, *said = self.rest()
        assert GREETING.fullmatch(greeting), greeting
        return said


class Service:
    """poppassd in an estate."""

    def __init__(self, tools: Tools, estate: Estate) -> None:
        self.tools = tools
        self.estate = estate

    def start(self, *options: str, **environment: str) -> Changing:
        words = self.estate.command(self.tools.poppassd, *options)
        return Changing(words, self.tools.environment(**environment))

    def say(
        self, user: str, old: str, new: str, *options: str, **environment: str
    ) -> tuple[list[bytes], int]:
        """Have a whole conversation; give replies and exit code."""
        with self.start(*options, **environment) as changing:
            said = changing.say(f"user {user}", f"pass {old}", f"newpass {new}", "quit")
            return said, changing.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def service(tools: Tools, estate: Estate) -> Service:
    return Service(tools, estate)


def is_now(estate: Estate, secret: str) -> bool:
    return hashes.matches(secret.encode(), estate.stored("joe").encode())


def test_a_password_is_changed_and_the_log_says_so(service: Service) -> None:
    assert service.say("joe", OLD, NEW) == ([USER, PASS, NEWPASS, BYE], 0)
    assert is_now(service.estate, NEW)
    lines = service.estate.log()
    (ours,) = [line for line in lines if " poppassd[" in line and "POP3" in line]
    assert re.search(r"^<163>.*: changed POP3 password for joe from 127.0.0.1$", ours)
    assert [line for line in lines if "password changed for joe" in line], lines
    assert not [line for line in lines if OLD in line or NEW in line]


def test_without_quit_it_stays_changed(service: Service) -> None:
    with service.start() as changing:
        changing.send("user joe", f"pass {OLD}", f"newpass {NEW}")
        said = [changing.line() for _ in range(4)]
        assert said[-1] == NEWPASS
    assert is_now(service.estate, NEW)


def test_a_client_that_leaves_in_a_hurry_is_served_nevertheless(
    service: Service,
) -> None:
    with service.start() as changing:
        changing.send("user joe", f"pass {OLD}")
        assert [changing.line() for _ in range(3)][-1] == PASS
        changing.send(f"newpass {NEW}")
        changing.close()
        wait_for(lambda: is_now(service.estate, NEW))
        changing.process.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("user", "secret", "line"),
    [
        ("joe", "wrong", "old password is incorrect for user joe"),
        ("locked", OLD, "old password is incorrect for user locked"),
        ("nobody-of-that-name", OLD, "failed attempt to change password for nobody-"),
        ("low", OLD, "failed attempt to change password for low"),
        ("root", OLD, "failed attempt to change password for root"),
        ("joe:x", OLD, "failed attempt to change password for joe:x"),
        ("joe'\x1b[m", OLD, "failed attempt to change password for joe\\x27\\x1b[m"),
    ],
)
def test_every_refusal_has_the_same_words(
    service: Service, user: str, secret: str, line: str
) -> None:
    before = service.estate.stored("joe")
    assert service.say(user, secret, NEW, QUICK) == ([USER, WRONG], 1)
    assert service.estate.stored("joe") == before
    (ours,) = [
        each
        for each in service.estate.log()
        if " poppassd[" in each and ("incorrect" in each or "attempt" in each)
    ]
    assert f": {line}" in ours
    assert ours.startswith("<163>")
    assert ours.endswith(" from 127.0.0.1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("user", "secret"),
    [("joe", "wrong"), ("nobody-such", OLD), ("low", OLD), ("locked", OLD)],
)
def test_a_refusal_comes_late_whatever_modules_want(
    service: Service, user: str, secret: str
) -> None:
    """They would have some wait, and not others; see: test_changes."""
    path = service.estate.etc / "pam.d/poppassd"
    delay = f"auth optional pam_faildelay.so delay={PAM_SECONDS * 1_000_000}\n"
    path.write_text(delay + path.read_text(encoding="ascii"), encoding="ascii")
    with service.start(f"--fail-delay={FAIL_SECONDS}") as changing:
        changing.line()
        changing.send(f"user {user}")
        changing.line()
        began = time.monotonic()
        changing.send(f"pass {secret}")
        assert changing.line() == WRONG
        took = time.monotonic() - began
        assert changing.rest() == [], "closed at once"
    assert FAIL_SECONDS <= took < PAM_SECONDS / 2


def test_pam_is_not_asked_about_those_below(service: Service) -> None:
    service.say("root", OLD, NEW, QUICK)
    assert not [line for line in service.estate.log() if "pam_unix" in line]
    service.say("joe", "wrong", NEW, QUICK)
    (line,) = [line for line in service.estate.log() if "pam_unix" in line]
    assert "authentication failure" in line
    assert " rhost=127.0.0.1 " in line


def test_the_address_is_what_the_server_says(service: Service) -> None:
    service.say("joe", "wrong", NEW, QUICK, TCPREMOTEIP="192.0.2.7")
    lines = service.estate.log()
    assert [line for line in lines if " rhost=192.0.2.7 " in line]
    assert [line for line in lines if line.endswith(" from 192.0.2.7")]


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ("short", b"the new password is shorter than 8 characters"),
        (OLD, b"the new password is the old one"),
        (OLD.upper(), b"the new password is too similar to the old one"),
        ("I am JOE the first", b"the new password holds the user's name"),
        ("my name is eoj", b"the new password holds the user's name"),
        ("with\ta tabulator", b"the new password holds a control character"),
    ],
)
def test_root_has_rules_of_its_own(service: Service, new: str, text: bytes) -> None:
    said, code = service.say("joe", OLD, new)
    assert said == [USER, PASS, FAILED + b": " + text + b"\r\n"]
    assert code == 1
    assert is_now(service.estate, OLD)
    assert [line for line in service.estate.log() if text.decode() in line]


def test_rules_can_be_left_to_pam_which_has_none_for_root(service: Service) -> None:
    assert service.say("joe", OLD, "x", "--any-password")[0][-1] == BYE
    assert is_now(service.estate, "x")


def test_as_the_user_pam_enforces_what_it_is_told_to(service: Service) -> None:
    options = "--any-password", "--as-user"
    said, _ = service.say("joe", OLD, "x", *options)
    assert said[:2] == [USER, PASS]
    assert said[2].startswith(FAILED + b": You must choose a longer password.")
    assert len(said) == 3
    assert is_now(service.estate, OLD)
    assert service.say("joe", OLD, NEW, *options)[0][-1] == BYE
    assert is_now(service.estate, NEW)


def test_modules_that_ask_for_the_old_password_again(service: Service) -> None:
    passdb = service.estate.matrix("poppassd", joe="matrix")
    assert service.say("joe", "matrix", NEW)[0] == [USER, PASS, NEWPASS, BYE]
    assert passdb.read_text(encoding="ascii") == f"joe:{NEW}:poppassd\n"


def test_a_module_s_text_is_part_of_the_one_reply(service: Service) -> None:
    text = service.estate.place / "text"
    text.write_text("No such luck,\n%u.\n", encoding="ascii")
    service.estate.service(
        "poppassd",
        f"auth required {ASKS}",
        "account required pam_permit.so",
        f"password required pam_echo.so file={text}",
        "password required pam_deny.so",
    )
    said, code = service.say("joe", OLD, NEW)
    assert said == [USER, PASS, FAILED + b": No such luck, joe.\r\n"]
    assert code == 1
    (line,) = [each for each in service.estate.log() if "PAM error" in each]
    assert line.endswith(": PAM error: No such luck, joe. (user joe) from 127.0.0.1")


def test_an_expired_password_can_be_changed(service: Service, stored: str) -> None:
    service.estate.add_user("late", UID + 1, stored, "0:0:99999:7:::")
    assert service.say("late", OLD, NEW)[0] == [USER, PASS, NEWPASS, BYE]


@pytest.mark.parametrize("aging", ["19000:0:99999:7::1:", "19000:0:1:7:1::"])
def test_an_expired_account_can_not(service: Service, stored: str, aging: str) -> None:
    service.estate.add_user("gone", UID + 1, stored, aging)
    assert service.say("gone", OLD, NEW, QUICK) == ([USER, WRONG], 1)


@pytest.mark.parametrize("hashed", ["", "!", "*", "!locked"])
def test_nobody_gets_in_without_a_password(service: Service, hashed: str) -> None:
    service.estate.add_user("empty", UID + 1, hashed)
    assert service.say("empty", "x", NEW, QUICK) == ([USER, WRONG], 1)


def test_a_digest_overheard_changes_nothing(service: Service) -> None:
    """A stack that takes APOP for port 110 would take it here as well."""
    service.estate.service("poppassd", f"auth required {ASKS}", *PERMITS)
    again = "APOP 0123456789abcdef0123456789abcdef <1.2@mx.example>"
    assert service.say("joe", again, NEW, QUICK) == ([USER, WRONG], 1)
    assert service.say("joe", "anything", NEW, QUICK)[1] == 0


def test_modules_that_trust_root_change_nothing(service: Service) -> None:
    service.estate.service("poppassd", "auth sufficient pam_rootok.so", *PERMITS)
    assert service.say("joe", "wrong", NEW, QUICK) == ([USER, LATER], 111)
    assert [each for each in service.estate.log() if "no module has asked" in each]


def test_who_is_told_to_end_finishes_what_he_has_begun(service: Service) -> None:
    """Stored, in the log and answered, or nothing of it; a module may take its time."""
    place = service.estate.place
    for name in ("began", "gate"):
        os.mkfifo(place / name)
    slow = place / "slow"
    slow.write_text(f"#!/bin/sh\necho >{place}/began\nread -r word <{place}/gate\n")
    slow.chmod(0o755)
    with (service.estate.etc / "pam.d/poppassd").open("a", encoding="ascii") as file:
        file.write(f"password required pam_exec.so quiet {slow}\n")
    with service.start() as changing:
        changing.send("user joe", f"pass {OLD}", f"newpass {NEW}")
        (place / "began").read_bytes()
        changing.process.send_signal(signal.SIGTERM)
        (place / "gate").write_text("go on\n", encoding="ascii")
        assert changing.rest()[1:4] == [USER, PASS, NEWPASS]
        assert changing.process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
    assert is_now(service.estate, NEW)
    assert [each for each in service.estate.log() if "changed POP3 password" in each]


def test_pam_that_is_not_there_is_no_wrong_password(service: Service) -> None:
    service.estate.service("poppassd", "auth required pam_of_nobody.so")
    assert service.say("joe", OLD, NEW, QUICK) == ([USER, LATER], 111)
    assert [line for line in service.estate.log() if "unable to check a pass" in line]


def test_another_service_and_another_floor(service: Service) -> None:
    service.estate.matrix("other-one", low="matrix")
    options = "--min-uid=99", "--service=other-one"
    assert service.say("low", "matrix", NEW, *options)[1] == 0
    service.estate.matrix("third", low="matrix")
    assert service.say("low", "matrix", NEW, "-apam:third", "--min-uid=99")[1] == 0
    assert service.say("low", "matrix", NEW, "-apam:third", QUICK)[1] == 1


def test_a_module_may_not_make_him_somebody_below(service: Service) -> None:
    """The name that counts is the one that the modules have settled on."""
    unwrapped = module("pam_wrapper/pam_set_items.so")
    service.estate.service(
        "poppassd",
        f"auth required {unwrapped}",
        f"auth required {ASKS}",
        "account required pam_permit.so",
        "password required pam_permit.so",
    )
    said, _ = service.say("joe", OLD, NEW, QUICK, PAM_USER="root")
    assert said == [USER, WRONG]
    assert service.say("joe", OLD, NEW, QUICK, PAM_USER="joe")[1] == 0


def test_addresses_are_mapped_to_users(service: Service, room: Path) -> None:
    said, _ = service.say("joe@any.example", OLD, NEW, "--strip-domain")
    assert said[-1] == BYE
    table = room / "domains"
    table.write_text("# ours\nexample.com %\nexample.net %_net\n", encoding="ascii")
    options = f"--domain-map={table}", QUICK
    assert service.say("joe@Example.COM", NEW, OLD, *options)[1] == 0
    assert service.say("joe@example.net", OLD, NEW, *options)[1] == 1
    assert service.say("joe@example.org", OLD, NEW, *options)[1] == 1
    assert service.say("joe", "wrong", NEW, *options)[1] == 1
    attempts = [line for line in service.estate.log() if "failed attempt" in line]
    assert len(attempts) == 2
    assert "for joe_net (given as joe@example.net) from" in attempts[0]
    assert "for joe@example.org from" in attempts[1]


@pytest.mark.parametrize("options", [[], ["--as-user"]])
def test_without_root_s_privileges_one_user_can_change_his_own(
    service: Service, stored: str, options: list[str]
) -> None:
    passdb = service.estate.matrix("poppassd", joe=OLD, ann=OLD)
    service.estate.add_user("ann", UID + 1, stored)
    for path in (passdb, passdb.parent):  # which is written anew, beside itself
        os.chown(path, UID, UID)
    setpriv = need("setpriv", "util-linux")
    who = f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"
    words = service.estate.command(setpriv, *who, service.tools.poppassd, QUICK)
    words += options
    said = []
    for user in ("ann", "joe"):
        with Changing(words, service.tools.environment()) as changing:
            changing.send(f"user {user}", f"pass {OLD}", f"newpass {NEW}", "quit")
            said.append(changing.rest()[1:])
    assert said == [[USER, WRONG], [USER, PASS, NEWPASS, BYE]]
    assert f"joe:{NEW}:" in passdb.read_text(encoding="ascii")
    assert f"ann:{OLD}:" in passdb.read_text(encoding="ascii")


def test_accounts_of_a_database(service: Service, room: Path) -> None:
    file = room / "accounts"
    popaccount = [service.tools.popaccount, "--db", str(file)]
    subprocess.run([*popaccount, "init"], check=True)
    for user in ("ann@example.com", "bob@example.com"):
        add = ["add", user, "--home", "/nonexistent", "--uid", "1", "--gid", "1"]
        made = [*popaccount, *add]
        subprocess.run(made, input=OLD.encode() + b"\n", check=True)
    options = f"--accounts=db:{file}", QUICK
    user = "Ann@example.com"
    assert service.say(user, OLD, NEW, *options) == ([USER, PASS, NEWPASS, BYE], 0)
    assert service.say(user, OLD, NEW, *options) == ([USER, WRONG], 1)
    assert service.say("cat@example.com", OLD, NEW, *options) == ([USER, WRONG], 1)
    said = service.say(user, NEW, "ann is back again", *options)[0]
    assert said[-1] == FAILED + b": the new password holds the user's name\r\n"
    variable = {"QTOOLS_ACCOUNTS": f"system db:{file}"}
    assert service.say("bob@example.com", OLD, NEW, **variable)[1] == 0
    lines = [line for line in service.estate.log() if " poppassd[" in line]
    assert "changed POP3 password for Ann@example.com" in lines[0]
    assert "old password is incorrect for user Ann@example.com" in lines[1]
    assert "failed attempt to change password for cat@example.com" in lines[2]


def test_a_silent_client_is_left(service: Service) -> None:
    with service.start("--timeout=1") as changing:
        changing.send("user joe")
        said = changing.rest()
        assert said[1:] == [USER, b"421 Timeout, closing connection.\r\n"]
        assert changing.process.wait(PATIENCE_SECONDS) == 111


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text(encoding="ascii").split()]


def status(pid: int, name: str) -> list[str]:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[1:]
    raise KeyError(name)


def test_who_speaks_has_no_privileges_and_who_has_them_does_not_speak(
    service: Service,
) -> None:
    with service.start() as changing:
        changing.line()
        pid = changing.process.pid
        (child,) = children(pid)
        assert status(child, "Uid") == [str(getpwnam("nobody").pw_uid)] * 4
        assert set("".join(status(child, "CapEff"))) == {"0"}
        assert os.listdir(f"/proc/{child}/root") == []
        nothing = os.stat("/dev/null").st_rdev
        found = [os.stat(f"/proc/{pid}/fd/{number}") for number in range(3)]
        assert [each.st_rdev for each in found] == [nothing] * 3
        connection = os.readlink(f"/proc/{child}/fd/0")
        assert connection.startswith("socket:")
        held = [
            os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")
        ]
        assert connection not in held


def test_no_process_leaves_a_password_in_a_core_file(service: Service) -> None:
    limited = need("prlimit", "util-linux"), "--core=4096:4096"
    words = service.estate.command(*limited, service.tools.poppassd)
    with Changing(words, service.tools.environment()) as changing:
        changing.line()
        pid = changing.process.pid
        for each in (pid, *children(pid)):
            limits = Path(f"/proc/{each}/limits").read_text(encoding="ascii")
            assert re.search(r"^Max core file size +0 +4096 ", limits, re.MULTILINE)


def test_an_interrupt_is_no_exception_inside_a_module(service: Service) -> None:
    with service.start() as changing:
        changing.line()
        (caught,) = status(changing.process.pid, "SigCgt")
        assert not int(caught, 16) & 1 << (signal.SIGINT - 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_one_process_goes_both_do(
    service: Service, number: signal.Signals
) -> None:
    with service.start() as changing:
        changing.line()
        (child,) = children(changing.process.pid)
        os.kill(child, number)
        assert changing.rest() == []
        assert changing.process.wait(PATIENCE_SECONDS) == 111
    with service.start() as changing:
        changing.line()
        changing.process.send_signal(number)
        assert changing.rest() == []


@pytest.mark.parametrize(
    "options",
    [
        ["--min-uid=0"],
        ["--accounts=system"],
        ["--accounts=pam:../x"],
        ["--syslog-facility=kern"],
        ["--domain-map=/no/such"],
        ["--user=root"],
        ["--service=poppassd", "--accounts=db:/no/such"],
        ["--as-user", "--accounts=db:/no/such"],
        ["--min-uid=500", "--accounts=db:/no/such"],
        ["--strip-domain", "--domain-map=/etc/pam.d/poppassd"],
        ["--any-password", "--min-length=9"],
        ["word"],
        ["--nonsense"],
    ],
)
def test_a_wrong_configuration_says_nothing_to_the_client(
    service: Service, options: list[str]
) -> None:
    with service.start(*options) as changing:
        assert changing.rest() == []
        assert changing.process.wait(PATIENCE_SECONDS) == 100
    assert service.estate.log(), "and nothing to the operator"


def test_complaints_go_to_descriptor_2_where_that_is_a_log(
    service: Service, room: Path
) -> None:
    with (room / "errors").open("wb") as errors:
        words = service.estate.command(service.tools.poppassd, "--min-uid=0")
        with Changing(words, service.tools.environment(), errors.fileno()) as changing:
            assert changing.rest() == []
    text = (room / "errors").read_text(encoding="ascii")
    assert text.startswith("poppassd: --min-uid takes a whole number")
