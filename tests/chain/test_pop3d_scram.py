# SPDX-License-Identifier: ISC
"""SCRAM with a pop3d that logs in by itself: a verifier that speaks with the client."""

import os
import signal
import socket
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from tests import corpus
from tests.chain.alone import Alone, is_there, kill
from tests.chain.test_pop3d_login import INCORRECT, INFO, TEMPORARY
from tests.chain.test_standalone import Log
from tests.conftest import Tools
from tests.scram import ScramClient
from tests.support import OWNER, need_root, wait_for

USER, SECRET = b"joe", b"sesame"


@pytest.fixture
def database(room: Path) -> Path:
    """Give a database with an account that has mail and keys."""
    corpus.write_maildir(str(room / "Maildir"), OWNER)
    path = room / "accounts"
    create(bytes(path))
    with Store(bytes(path)) as store:
        store.add(USER, OWNER, bytes(room), b"")
        store.set_secret(USER, SECRET, "md5")
    return path


@pytest.fixture
def log(room: Path) -> Iterator[Log]:
    need_root()
    made = Log(room / "dev")
    yield made
    made.socket.close()


@pytest.fixture
def argv(tools: Tools, database: Path) -> list[str]:
    words = ["--accounts", f"db:{database}", "--mechanisms", "scram-sha-256"]
    return [tools.pop3d, *words, "--delay=0", "--attempts=2"]


@pytest.fixture
def client(argv: list[str]) -> Iterator[Alone]:
    with Alone(argv) as started:
        assert started.line() == b"+OK"
        yield started


def begin(client: Alone, scram: ScramClient) -> bytes:
    """Send the first message, give the answer to it."""
    reply = client.ask(b"AUTH SCRAM-SHA-256 " + b64encode(scram.first()))
    assert reply.startswith(b"+ ")
    return b64decode(reply[2:], validate=True)


def log_in(client: Alone, user: bytes = USER, secret: bytes = SECRET) -> bytes:
    """Go through all of it, give the last reply."""
    scram = ScramClient(user, secret)
    reply = client.ask(b64encode(scram.final(begin(client, scram))))
    if not reply.startswith(b"+ "):
        return reply
    assert b64decode(reply[2:], validate=True) == scram.expected
    return client.ask(b"")


def test_who_proves_it_comes_in(client: Alone) -> None:
    count = len(corpus.messages())
    assert log_in(client).startswith(b"+OK maildir: %d " % count)
    assert client.ask(b"NOOP", b"QUIT") == b"+OK"
    assert client.end() == (0, "")


@pytest.mark.parametrize(
    ("user", "secret"), [(USER, b"a guess"), (b"nobody-at-all", SECRET)]
)
def test_who_does_not_is_refused_and_may_try_again(
    client: Alone, user: bytes, secret: bytes
) -> None:
    assert log_in(client, user, secret) == INCORRECT
    assert log_in(client).startswith(b"+OK maildir: ")


def test_a_client_may_want_no_more_of_it(client: Alone) -> None:
    begin(client, ScramClient(USER, SECRET))
    assert client.ask(b"*") == b"-ERR authentication cancelled"
    assert log_in(client).startswith(b"+OK maildir: ")


@pytest.mark.parametrize("is_proved", [True, False])
def test_who_gives_up_has_typed_no_wrong_password(
    argv: list[str], log: Log, *, is_proved: bool
) -> None:
    """A client on a bad line, say, that a ban rule would count."""
    with Alone([*log.before(), *argv]) as client:
        assert client.line() == b"+OK"
        scram = ScramClient(USER, SECRET)
        challenge = begin(client, scram)
        if is_proved:
            assert client.ask(b64encode(scram.final(challenge))).startswith(b"+ ")
        client.client.shutdown(socket.SHUT_WR)
        told = {log.line(), log.line()}
    assert told == {
        f"{INFO} pop3d[N]: [N.N.N.N] login given up by [joe]",
        f"{INFO} pop3d[N]: [N.N.N.N] eof before login",
    }


def test_only_the_user_s_process_is_left(client: Alone) -> None:
    need_root()
    log_in(client)
    wait_for(lambda: len(client.processes()) == 1)
    (only,) = client.processes()
    assert (only.uid, only.capabilities) == (OWNER[0], 0)


def test_who_is_in_between_dies(client: Alone) -> None:
    need_root()
    scram = ScramClient(USER, SECRET)
    challenge = begin(client, scram)
    _, *others = [each for each in client.processes() if each.root == "/"]
    kill(others[0])
    # The verifier has not heard of it yet, and may speak once more.
    reply = client.ask(b64encode(scram.final(challenge)))
    assert (client.ask(b"") if reply.startswith(b"+ ") else reply) == TEMPORARY
    wait_for(lambda: not any(is_there(each.pid) for each in others))


def test_the_verifier_dies(client: Alone) -> None:
    need_root()
    scram = ScramClient(USER, SECRET)
    challenge = begin(client, scram)
    parents = {each.pid: each.parent for each in client.processes()}
    (verifier,) = [p for p in parents if parents[p] in parents and _is_last(p, parents)]
    os.kill(verifier, signal.SIGKILL)
    assert client.ask(b64encode(scram.final(challenge))) == TEMPORARY


def test_the_one_that_was_started_dies(client: Alone) -> None:
    """Nobody is left who would hear of an answer, and nobody complains of that."""
    need_root()
    begin(client, ScramClient(USER, SECRET))
    others = client.processes()[1:]
    client.process.kill()
    assert client.end() == (-signal.SIGKILL, "")
    wait_for(lambda: not any(is_there(each.pid) for each in others))


def _is_last(pid: int, parents: dict[int, int]) -> bool:
    """Tell whether a process comes from one that comes from another."""
    return parents.get(parents[pid], 0) in parents
