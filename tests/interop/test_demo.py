# SPDX-License-Identifier: ISC
"""A newcomer's first two minutes with make demo, and popserver --demo under a test."""

import email
import email.policy
import json
import os
import poplib
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from tests import corpus
from tests.conftest import PYTHON, Tools, make_install
from tests.interop.servers import MARK, marked
from tests.support import IS_ROOT, OWNER, PATIENCE_SECONDS, TOP, need, wait_for

pytestmark = pytest.mark.slow

SECONDS = 5  # by then the server must say how to reach it
READY_SECONDS = 2  # ... when it is installed already
LOGIN_DENIED = 67  # curl's exit code
LEFT_OUT = (".*", "__pycache__", "dist")

IDENTITY: dict[str, Any] = (
    {"user": OWNER[0], "group": OWNER[1], "extra_groups": []} if IS_ROOT else {}
)

Process = subprocess.Popen[str]
Facts = dict[str, Any]


@pytest.fixture
def checkout(room: Path) -> Path:
    """Give a copy of the checkout, in which another user may read and not write."""
    path = room / "qtools"
    shutil.copytree(TOP, path, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return path


@pytest.fixture
def newcomer(room: Path) -> Path:
    """Give a home to somebody who is not root."""
    path = room / "newcomer"
    path.mkdir(mode=0o700)
    os.chown(path, *OWNER)
    return path


def mark(home: Path) -> str:
    """Give what marks the processes of one newcomer."""
    return home.parent.name


def environment(home: Path) -> dict[str, str]:
    """Give what stands in the newcomer's environment."""
    path = "/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(home), "TMPDIR": str(home), MARK: mark(home)}


def end(process: Process, home: Path) -> None:
    """End a process and all of its session, and wait for whoever cleans up."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    wait_for(lambda: not marked(mark(home)))


@pytest.fixture
def demo(checkout: Path, newcomer: Path) -> Iterator[Process]:
    """Run make demo as somebody who is not root."""
    # What runs the tests in the background may ignore the signal, and we with it.
    heeding = ["env", "--default-signal=INT"]
    process = subprocess.Popen(
        [*heeding, need("make", "make"), "demo", f"PYTHON={PYTHON}"],
        cwd=checkout,
        env=environment(newcomer),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **IDENTITY,
    )
    yield process
    end(process, newcomer)


def explanation(out: IO[str]) -> dict[str, str]:
    """Read what the demo says up to the last line; give its "word: text" lines."""
    lines = []
    while (line := out.readline()) and "Control-C" not in line:
        lines.append(line)
    text = "".join(lines)
    assert line, text
    return dict(re.findall(r"(?m)^(\w+): +(.*)$", text))


def shell(command: str, home: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run what the newcomer types."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        ["/bin/sh", "-c", command],
        env=environment(home),
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        **IDENTITY,
    )
    return done


def mail(maildir: str) -> list[bytes]:
    """Give the messages of a Maildir in their order, as clients must get them."""
    files = [*Path(maildir).glob("new/*"), *Path(maildir).glob("cur/*")]
    files.sort(key=lambda file: file.name)
    return [corpus.wire(file.read_bytes()) for file in files]


def test_a_day_in_the_life(demo: Process, newcomer: Path) -> None:
    need("curl", "curl")
    started = time.monotonic()
    assert demo.stdout is not None
    told = explanation(demo.stdout)
    assert time.monotonic() - started < SECONDS

    messages = mail(told["mail"])
    listing = shell(told["list"], newcomer).stdout.splitlines()
    sizes = [f"{n} {len(each)}".encode() for n, each in enumerate(messages, 1)]
    assert listing == sizes
    for way in ("read", "stls", "tls"):
        assert shell(told[way], newcomer).stdout == messages[0], way

    wrong = re.sub(r"(-u '[^:]*:)[^']*", r"\1a guess", told["read"])
    assert wrong != told["read"]
    refused = shell(wrong, newcomer)
    assert (refused.returncode, refused.stdout) == (LOGIN_DENIED, b"")

    # As the terminal does it: to everybody in the foreground.
    os.killpg(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=PATIENCE_SECONDS)
    assert "Traceback" not in rest
    assert_gone(newcomer)


def assert_gone(home: Path) -> None:
    """Wait until no process of the newcomer's is left, and find nothing in his home."""
    wait_for(lambda: not marked(mark(home)))
    assert os.listdir(home) == []


def test_the_demo_checks_itself(checkout: Path, newcomer: Path) -> None:
    words = f"cd {checkout} && make demo PYTHON={PYTHON} DEMO=--check"
    done = shell(words, newcomer)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(b"as it was stored") == 3
    assert_gone(newcomer)


Start = Callable[..., tuple[Process, Facts]]


@pytest.fixture
def start(tools: Tools, newcomer: Path) -> Iterator[Start]:
    """Give a function that starts the installed demo as a test of a client would.

    It takes words for popserver, the words in front of it, and who it is to run as,
    root being himself. It gives the process and what that told about itself.
    """
    running: list[Process] = []

    def run(
        *words: str,
        before: tuple[str, ...] = (),
        identity: dict[str, Any] | None = None,
        program: Path = tools.bin / "popserver",
        path: str = "",
    ) -> tuple[Process, Facts]:
        environ = environment(newcomer)
        process = subprocess.Popen(
            [*before, str(program), "--demo", "--json", *words],
            env={**environ, "PATH": path or environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **(IDENTITY if identity is None else identity),
        )
        running.append(process)
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return process, json.loads(line)

    yield run
    for process in running:
        end(process, newcomer)


def connect(facts: Facts) -> poplib.POP3:
    return poplib.POP3("127.0.0.1", facts["ports"]["pop3"], timeout=PATIENCE_SECONDS)


def trust(facts: Facts) -> ssl.SSLContext:
    """Give the context of a client that looks at everything."""
    context = ssl.create_default_context(cafile=facts["certificate"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def accounts(facts: Facts) -> tuple[Facts, Facts, Facts]:
    """Give the account of the examples, the one without APOP, the empty one."""
    reader, hashed, empty = facts["accounts"]
    assert (reader["apop"], hashed["apop"], empty["messages"]) == (True, False, 0)
    return reader, hashed, empty


def test_it_is_ready_soon(start: Start) -> None:
    started = time.monotonic()
    start()
    assert time.monotonic() - started < READY_SECONDS


def test_one_line_is_all_it_prints(start: Start) -> None:
    process, facts = start()
    assert process.stdout
    assert process.stdout.read() == ""  # there is an end, while it serves on
    assert process.poll() is None
    assert facts["pid"] == process.pid


@pytest.mark.parametrize("identity", [IDENTITY, {}], ids=["user", "self"])
def test_every_account_can_log_in_in_every_way(
    start: Start, identity: dict[str, Any]
) -> None:
    _, facts = start(identity=identity)
    tls = poplib.POP3_SSL(
        "localhost", facts["ports"]["pop3s"], context=trust(facts), timeout=30
    )
    stls = connect(facts)
    stls.host = "localhost"  # what the certificate is looked at for
    stls.stls(trust(facts))
    for client, account in zip(
        (tls, stls, connect(facts)), accounts(facts), strict=True
    ):
        client.user(account["user"])
        client.pass_(account["password"])
        messages = mail(account["maildir"])
        assert client.stat() == (account["messages"], sum(map(len, messages)))
        for number, message in enumerate(messages, 1):
            _, lines, _ = client.retr(number)
            assert b"".join(line + b"\r\n" for line in lines) == message
        client.quit()


def test_apop_is_for_those_whose_password_is_kept(start: Start) -> None:
    _, facts = start()
    reader, hashed, _ = accounts(facts)
    client = connect(facts)
    with pytest.raises(poplib.error_proto) as refused:
        client.apop(hashed["user"], hashed["password"])
    assert refused.value.args[0].startswith(b"-ERR [AUTH]")
    client.apop(reader["user"], reader["password"])
    assert client.stat()[0] == reader["messages"]
    client.quit()


def test_a_deleted_message_is_gone_from_the_told_maildir(start: Start) -> None:
    _, facts = start()
    reader, _, _ = accounts(facts)
    before = mail(reader["maildir"])
    client = connect(facts)
    client.user(reader["user"])
    client.pass_(reader["password"])
    client.dele(2)
    client.quit()
    assert mail(reader["maildir"]) == [before[0], *before[2:]]


def test_the_mail_is_mail(start: Start) -> None:
    _, facts = start()
    reader, _, _ = accounts(facts)
    parsed = [
        email.message_from_bytes(each, policy=email.policy.default)
        for each in mail(reader["maildir"])
    ]
    assert [each.defects for each in parsed] == [[]] * len(parsed)
    parts = [part for each in parsed for part in each.walk()]
    assert {"text/html", "image/png", "text/csv"} <= {
        part.get_content_type() for part in parts
    }
    assert all(part.get_content() for part in parts if not part.is_multipart())


def test_limits_are_no_hindrance_to_a_test(start: Start) -> None:
    _, facts = start()
    clients = [connect(facts) for _ in range(60)]
    for client in clients:
        client.quit()


def test_ports_and_certificate_can_be_given(
    start: Start, room: Path, newcomer: Path
) -> None:
    _, first = start()
    given = room / "given.pem"
    key = Path(first["certificate"]).with_name("key.pem")
    given.write_bytes(key.read_bytes() + Path(first["certificate"]).read_bytes())
    given.chmod(0o600)
    os.chown(given, *OWNER)
    process, facts = start("--certificate", str(given), "127.0.0.1", "0")
    assert facts["certificate"] == str(given)
    client = connect(facts)
    client.host = "localhost"
    client.stls(trust(first))
    client.quit()
    process.terminate()
    process.wait(PATIENCE_SECONDS)
    assert given.exists()
    assert str(newcomer) in first["certificate"]


def test_without_a_way_to_make_a_certificate_it_says_so(
    start: Start, room: Path
) -> None:
    prefix = room / "bare"
    make_install(prefix)
    (prefix / "lib/qtools/qtools/server/demo/self_signed.py").unlink()
    program = prefix / "bin/popserver"
    _, facts = start(program=program, path="/nonexistent")
    assert (facts["certificate"], facts["ports"]["pop3s"]) == (None, None)
    client = connect(facts)
    assert "STLS" not in client.capa()
    client.quit()
    told = subprocess.Popen(
        [str(program), "--demo"],
        env={"PATH": "/nonexistent"},
        stdout=subprocess.PIPE,
        text=True,
        **IDENTITY,
    )
    with told:
        assert told.stdout
        text = told.stdout.read()
        told.terminate()
    assert "no TLS: neither openssl nor the package cryptography" in text
    assert "pop3s:" not in text


def assert_served(facts: Facts) -> None:
    client = connect(facts)
    client.quit()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("identity", [IDENTITY, {}], ids=["user", "self"])
def test_a_signal_ends_it_whatever_clients_do(
    start: Start, newcomer: Path, number: int, identity: dict[str, Any]
) -> None:
    process, facts = start(before=("env", "--default-signal=INT"), identity=identity)
    reader, _, _ = accounts(facts)
    inside, outside = connect(facts), connect(facts)
    inside.user(reader["user"])
    inside.pass_(reader["password"])
    process.send_signal(number)
    assert process.wait(PATIENCE_SECONDS) == 0
    wait_for(lambda: not marked(mark(newcomer)))
    assert not Path(reader["maildir"]).exists()
    for client in (inside, outside):
        client.close()


def test_the_end_of_standard_input_ends_it(start: Start, newcomer: Path) -> None:
    process, facts = start()
    assert_served(facts)
    assert process.stdin
    process.stdin.write("nobody reads this\n")
    process.stdin.flush()
    assert_served(facts)
    process.stdin.close()
    assert process.wait(PATIENCE_SECONDS) == 0
    assert_gone(newcomer)


def test_the_end_of_its_parent_ends_it(start: Start, newcomer: Path) -> None:
    """Killed, the parent can't end anybody."""
    waiting = ("sh", "-c", '"$@" 3<&0 0</dev/null; exit', "sh")
    process, facts = start(before=waiting)
    assert facts["pid"] != process.pid
    assert_served(facts)
    process.kill()
    assert_gone(newcomer)


def test_killed_it_leaves_nothing_behind(start: Start, newcomer: Path) -> None:
    """Killed with all of its process group, as a test runner does at a timeout."""
    process, facts = start()
    assert_served(facts)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    wait_for(lambda: not os.listdir(newcomer))
    assert_gone(newcomer)


def test_an_input_that_has_ended_before_is_nobodys_to_end(
    tools: Tools, newcomer: Path
) -> None:
    """A service of a build system often has such a one."""
    reading, writing = os.pipe()
    os.close(writing)
    process = subprocess.Popen(
        [str(tools.bin / "popserver"), "--demo", "--json"],
        env=environment(newcomer),
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        **IDENTITY,
    )
    os.close(reading)
    with process:
        assert process.stdout
        facts = json.loads(process.stdout.readline())
        assert_served(facts)
        process.terminate()
    assert process.returncode == 0
    assert_gone(newcomer)


def test_cryptography_makes_the_same_kind_of_certificate(tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    with_package = [python, "-I", "-c", "import cryptography"]
    if subprocess.run(with_package, capture_output=True, check=False).returncode:
        need("cryptography of /usr/bin/python3", "python3-cryptography")
    script = TOP / "qtools/server/demo/self_signed.py"
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run([python, "-IB", script, certificate, key, "3"], check=True)
    assert key.stat().st_mode & 0o777 == 0o600
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = trust({"certificate": certificate})
    shake_hands(client, server)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Do a TLS handshake in memory, the client looking for 127.0.0.1."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname="127.0.0.1"),
        server.wrap_bio(up, down, server_side=True),
    ]
    while ends:
        for one in list(ends):
            with suppress(ssl.SSLWantReadError):
                one.do_handshake()
                ends.remove(one)


def test_words_it_does_not_know_are_told(tools: Tools) -> None:
    done = subprocess.run(
        [str(tools.bin / "popserver"), "--demo", "127.0.0.1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 100
    assert done.stderr.startswith("popserver: usage: ")
