# SPDX-License-Identifier: ISC
"""One attempt in a process of its own: what it hears and tells, and when it leaves."""

import os
import posix
from collections.abc import Callable

import pytest

from qtools.accounts import answer
from qtools.accounts.interface import Identity
from qtools.server import channel as channels
from qtools.server import environment
from qtools.server.channel import Channel
from qtools.server.warm.keeper import Keeper, put
from tests.support import wait_for


def test_a_source_hears_of_the_client_and_nothing_else() -> None:
    environ = {
        b"PATH": b"/bin",
        b"TCPREMOTEHOST": b"another's",
        b"SSL_CERT_FILE": b"the administrator's",
        b"POP3METHOD": b"Apop",
    }
    text = b"TCPREMOTEIP=192.0.2.1\0PATH=/evil\0LD_PRELOAD=/evil\0POP3METHOD=Plain"
    text += b"\0POP3MAILDIR=/evil\0SSL_PROTOCOL=TLSv1.3\0\0x\0MAILDIR=y"
    put(environ, text, "User")
    assert environ == {
        b"PATH": b"/bin",
        b"SSL_CERT_FILE": b"the administrator's",
        b"TCPREMOTEIP": b"192.0.2.1",
        b"POP3METHOD": b"User",
        b"SSL_PROTOCOL": b"TLSv1.3",
    }


@pytest.mark.parametrize(
    "name",
    [
        *(b"SSLKEYLOGFILE", b"SSL_CERT_FILE", b"SSL_CERT_DIR", b"SSL_ENGINE", b"SSL"),
        *(b"TCP", b"TCP_WRAPPERS", b"PROTO_X", b"UNIX_X", b"SSLCTLFD", b"POP3CAPAS"),
    ],
)
def test_no_name_that_only_begins_like_one_of_ours(name: bytes) -> None:
    """Libraries for TLS write, or trust, what a variable names."""
    environ: dict[bytes, bytes] = {}
    put(environ, name + b"=/evil", "User")
    assert environ == {b"POP3METHOD": b"User"}


def test_all_that_is_known_of_a_client_is_heard() -> None:
    local, remote = (b"::ffff:192.0.2.9%eth0", 110), (b"::ffff:192.0.2.1", 1234)
    found = environment.variables(local, remote, b"mx", b"client.example", b"joe")
    found |= dict.fromkeys(
        (b"SSL_PROTOCOL", b"SSL_CIPHER", b"SSL_CIPHER_USEKEYSIZE"), b"x"
    )
    heard: dict[bytes, bytes] = {}
    text = b"\0".join(name + b"=" + value for name, value in found.items())
    put(heard, text, "Plain")
    assert heard == found | {b"POP3METHOD": b"Plain"}


Judge = Callable[[], tuple[int, Identity | None]]


def begun(judge: Judge) -> tuple[int, Channel]:
    """Start an attempt; give its pid and the verifier's end."""
    here, there = channels.pair()
    pid = os.fork()
    if not pid:
        Keeper(there, [], 30, ["popserver"]).run(
            b"TCPREMOTEIP=192.0.2.1", "User", judge
        )
    there.close()
    return pid, here


def told(way: Channel) -> tuple[bytes, list[int]]:
    received = wait_for(way.receive)
    assert isinstance(received, tuple)
    return received


def ended(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


def with_ending(ending: Callable[[], None], name: bytes = b"joe") -> Judge:
    def judge() -> tuple[int, Identity]:
        who = Identity(name, 7, 8)
        who.ending = ending
        return 0, who

    return judge


def test_without_an_ending_it_leaves_at_once() -> None:
    pid, way = begun(lambda: (0, Identity(posix.environ[b"TCPREMOTEIP"], 7, 8)))
    packet, lifelines = told(way)
    code, who = answer.unpack(packet)
    assert (code, who and who.name, lifelines) == (0, b"192.0.2.1", [])
    assert ended(pid) == 0
    way.close()


def test_a_refusal_is_a_code() -> None:
    pid, way = begun(lambda: (1, None))
    assert told(way) == (answer.pack(1), [])
    assert ended(pid) == 0
    way.close()


def test_a_check_that_fails_in_no_way_we_know_says_nothing() -> None:
    def judge() -> tuple[int, None]:
        raise RuntimeError("a bug")

    pid, way = begun(judge)
    assert told(way) == (b"", [])
    assert ended(pid) == 0
    way.close()


@pytest.mark.parametrize("is_heard", [True, False])
def test_it_stays_until_its_lifeline_is_cut(*, is_heard: bool) -> None:
    """Or does not begin to, when nobody is there to take it."""
    reader, writer = os.pipe()
    go_on, gate = os.pipe()

    here, there = channels.pair()
    pid = os.fork()
    if not pid:

        def end() -> None:
            os.write(writer, b"ended")

        def wait() -> tuple[int, Identity | None]:
            os.read(go_on, 1)
            return with_ending(end)()

        Keeper(there, [writer, go_on], 30, ["popserver"]).run(b"", "User", wait)
    there.close()
    os.close(writer)
    if not is_heard:
        here.close()
    os.write(gate, b"x")
    if is_heard:
        packet, (lifeline,) = told(here)
        assert answer.unpack(packet)[0] == 0
        os.write(lifeline, b"a session may write there; that is no end")
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        here.close()
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.close(lifeline)
    assert os.read(reader, 100) == b"ended"
    assert ended(pid) == 0
    for descriptor in (reader, go_on, gate):
        os.close(descriptor)


def test_an_account_with_too_much_to_it_is_ended_and_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    pid, way = begun(with_ending(lambda: None, b"x" * 5000))
    packet, lifelines = told(way)
    assert (packet, lifelines) == (answer.pack(111), [])
    assert ended(pid) == 0
    assert "has too much to it" in capfd.readouterr().err
    way.close()
