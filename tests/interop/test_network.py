# SPDX-License-Identifier: ISC
"""What a network does to a server: clients that vanish, guess, hurry and crowd.

That nothing is left running afterwards is checked at the end of every test here, when
the superserver is stopped.
"""

import os
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from tests import corpus
from tests.interop.conftest import SECRET, USER, House, Serve
from tests.interop.servers import HOSTNAME, Server
from tests.interop.talk import Talk
from tests.support import OWNER, wait_for

pytestmark = pytest.mark.slow

HUGE_OCTETS = 30_000_000  # more than the kernel takes from a server unread
SUPERSERVER = ["tcpserver"]

Leave = Callable[[socket.socket], None]


def close(client: socket.socket) -> None:
    """Leave with octets unread: the server's next write is answered by a reset."""
    client.close()


def reset(client: socket.socket) -> None:
    """Leave as a machine does that has lost its power and come back."""
    linger = struct.pack("ii", 1, 0)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.close()


def half_close(client: socket.socket) -> None:
    """Send no more, then read what is left."""
    client.shutdown(socket.SHUT_WR)
    while client.recv(1 << 20):
        pass
    client.close()


def wait_until_alone(server: Server) -> None:
    """Wait until only the superserver itself is there."""
    wait_for(lambda: sorted(server.processes().values()) == SUPERSERVER)


@pytest.fixture
def huge(house: House) -> int:
    """Put one more message behind the others; give its number."""
    path = house.maildir / "cur/1500000000.huge.mx:2,"
    line = b"x" * 77 + b"\n"
    path.write_bytes(b"Subject: huge\n\n" + line * (HUGE_OCTETS // len(line)))
    os.chown(path, *OWNER)
    os.utime(path, (1_500_000_000,) * 2)
    return len(corpus.messages()) + 1


@pytest.mark.parametrize("leave", [close, reset, half_close])
@pytest.mark.parametrize("force_exec", ["", "1"], ids=["hand-over", "exec"])
def test_a_client_that_vanishes_during_retr_leaves_nothing_behind(
    leave: Leave, force_exec: str, house: House, huge: int, serve: Serve
) -> None:
    server = serve(**({"QTOOLS_EXEC": force_exec} if force_exec else {}))
    before = house.files()
    with Talk(server) as talk:
        assert talk.login(USER, SECRET) == b"+OK \r\n"
        assert talk.ask(b"DELE 2") == b"+OK \r\n"
        assert talk.ask(b"RETR %d" % huge) == b"+OK \r\n"
        leave(talk.socket)
    wait_until_alone(server)
    assert house.files() == before
    assert server.log[-1].startswith("popup: pid ")
    assert "Info::END" in server.log[-1]


@pytest.mark.parametrize("leave", [close, reset, half_close])
@pytest.mark.parametrize(
    "said",
    [b"", b"US", b"USER x\r\n", b"AUTH PLAIN\r\n", b"CAPA\r\nCAPA\r\n" * 500],
    ids=["nothing", "half a word", "user", "half of AUTH", "much"],
)
def test_a_client_that_vanishes_before_login_leaves_nothing_behind(
    leave: Leave, said: bytes, serve: Serve
) -> None:
    server = serve()
    with Talk(server) as talk:
        assert talk.line() == b"+OK\r\n"
        talk.send(said)
        leave(talk.socket)
    wait_until_alone(server)


def test_a_wrong_password_is_told_as_such_and_another_try_is_free(
    house: House, serve: Serve
) -> None:
    server = serve([house.popup[0], "--delay", "0", *house.chain[1:]])
    with Talk(server) as talk:
        reply = talk.login(USER, "warm tea, no sugar")
        assert reply.startswith(b"-ERR [AUTH] ")
        assert talk.ask(b"STAT").startswith(b"-ERR ")
        assert talk.ask(b"USER nobody-here@example.org") == b"+OK \r\n"
        # Word for word: a name tells nobody whether there is such an account.
        assert talk.ask(b"PASS " + SECRET.encode()) == reply
        assert talk.ask(b"USER " + USER.encode()) == b"+OK \r\n"
        assert talk.ask(b"PASS " + SECRET.encode()) == b"+OK \r\n"
        assert talk.ask(b"STAT").startswith(b"+OK 20 ")
        assert talk.ask(b"QUIT") == b"+OK \r\n"


def test_three_wrong_passwords_end_the_connection(house: House, serve: Serve) -> None:
    server = serve([house.popup[0], "--delay", "0", *house.chain[1:]])
    with Talk(server) as talk:
        talk.line()
        for _ in range(3):
            assert talk.ask(b"USER " + USER.encode()) == b"+OK \r\n"
            assert talk.ask(b"PASS guess").startswith(b"-ERR [AUTH] ")
        assert talk.rest() == b""
    wait_for(lambda: len(server.log) == 4)
    words = [line.split()[3] for line in server.log]
    assert words == ["Reject::AUTH::User"] * 3 + ["Info::END::User"]
    assert "why=refused code=1" in server.log[-1]


def test_a_refusal_comes_late(serve: Serve) -> None:
    """One second before the first, by default: the only test that waits for it."""
    server = serve()
    with Talk(server) as talk:
        talk.line()
        talk.ask(b"USER " + USER.encode())
        talk.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            talk.ask(b"PASS guess")
        talk.socket.settimeout(30)
        assert talk.line().startswith(b"-ERR [AUTH] ")


def test_a_whole_session_in_one_packet(house: House, serve: Serve) -> None:
    server = serve()
    said = (b"CAPA", b"USER " + USER.encode(), b"PASS " + SECRET.encode())
    more = (b"STAT", b"RETR 1", b"DELE 1", b"QUIT")
    with Talk(server) as talk:
        talk.send(b"\r\n".join([*said, *more, b""]))
        whole = talk.rest()
    message = corpus.messages()[0]
    _greeting, _, replies = whole.partition(b"\r\n")
    _capabilities, _, replies = replies.partition(b"\r\n.\r\n")
    octets = sum(len(each.wire) for each in corpus.messages())
    assert replies == b"".join(
        (
            b"+OK \r\n+OK \r\n",
            b"+OK %d %d\r\n" % (len(corpus.messages()), octets),
            b"+OK \r\n" + corpus.stuffed(message.wire),
            b"+OK \r\n+OK \r\n",
        )
    )
    assert len(house.files()) == len(corpus.messages()) - 1


def test_two_clients_at_once_see_the_mailbox_they_opened(
    house: House, serve: Serve
) -> None:
    server = serve()
    first_wire, second_wire = (each.wire for each in corpus.messages()[:2])
    with Talk(server) as one, Talk(server) as other:
        assert one.login(USER, SECRET) == b"+OK \r\n"
        assert other.login(USER, SECRET) == b"+OK \r\n"
        assert one.ask(b"DELE 1") == b"+OK \r\n"
        assert other.ask_long(b"RETR 1")[6:] == corpus.stuffed(first_wire)
        assert one.ask(b"QUIT") == b"+OK \r\n"

        # The numbers stay; the message is gone, the ones that moved are found.
        assert other.ask(b"RETR 1").startswith(b"-ERR ")
        assert other.ask_long(b"RETR 2")[6:] == corpus.stuffed(second_wire)
        assert other.ask(b"STAT").startswith(b"+OK 20 ")
        assert other.ask(b"DELE 2") == b"+OK \r\n"
        assert other.ask(b"QUIT") == b"+OK \r\n"
    assert len(house.files()) == len(corpus.messages()) - 2


def test_both_of_two_clients_delete_the_same_message(
    house: House, serve: Serve
) -> None:
    server = serve()
    with Talk(server) as one, Talk(server) as other:
        for talk in (one, other):
            assert talk.login(USER, SECRET) == b"+OK \r\n"
            assert talk.ask(b"DELE 1") == b"+OK \r\n"
        assert one.ask(b"QUIT") == b"+OK \r\n"
        # What it asked for has come true, whoever did it.
        assert other.ask(b"QUIT") == b"+OK \r\n"
        assert other.rest() == b""
    assert len(house.files()) == len(corpus.messages()) - 1


def test_a_crowd_is_served(serve: Serve) -> None:
    """All of them are connected before the first logs in."""
    server = serve()
    found: list[bytes] = []
    crowd = [Talk(server) for _ in range(12)]

    def converse(talk: Talk) -> None:
        with talk:
            talk.login(USER, SECRET)
            found.append(talk.ask_long(b"RETR 19"))
            talk.ask(b"QUIT")

    threads = [threading.Thread(target=converse, args=(talk,)) for talk in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = b"+OK \r\n" + corpus.stuffed(corpus.messages()[18].wire)
    assert found == [expected] * len(crowd)


def test_every_greeting_is_another_one(serve: Serve) -> None:
    server = serve(POP3AUTH="+apop")
    with Talk(server) as one, Talk(server) as other:
        stamps = {one.line(), other.line()}
    assert len(stamps) == 2
    for stamp in stamps:
        assert stamp.startswith(b"+OK <")
        assert stamp.endswith(f"@{HOSTNAME}>\r\n".encode())
