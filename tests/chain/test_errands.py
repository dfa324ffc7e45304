# SPDX-License-Identifier: ISC
"""A confined dialogue that has errands done: two processes, a socket, a client.

The session here is a small one that repeats what it hears; the processes, the socket,
the wire and the confinement are the real ones.
"""

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qtools.chain.change import errands, parcels
from qtools.chain.change.conversation import Conversation
from qtools.chain.change.errands import LOST, Window
from qtools.chain.change.parcels import ANSWER, ASK, END, NOTE, START_TLS, Lost, Parcel
from qtools.errors import EXIT_DONE, EXIT_HARD, EXIT_TEMPORARY
from qtools.sessions.actions import Action, Ask, Close, Log, Send, StartTls, Wait
from qtools.system import fdio
from qtools.system.confine import confine
from qtools.system.ucspi import TlsControl
from tests.support import PATIENCE_SECONDS, need_root

ECHO, LONG, WHO, PRINT = 1, 2, 3, 4
LONG_OCTETS = 3_000_000


class Parrot:
    """A session for tests: every line is an order."""

    def greet(self) -> list[Action]:
        return [Send(b"hello\r\n")]

    def feed(self, data: bytes) -> list[Action]:
        word, _, rest = data.rstrip(b"\r\n").partition(b" ")
        orders: dict[bytes, list[Action]] = {
            b"echo": [Ask(ECHO, rest, b"two"), Send(b"then\r\n")],
            b"long": [Ask(LONG, b"x" * 65536)],
            b"print": [Ask(PRINT)],
            b"who": [Ask(WHO), Send(b"%d\r\n" % os.geteuid())],
            b"log": [Log("Reject::X", "None", rest, 3), Send(b"logged\r\n")],
            b"wait": [Send(b"before\r\n"), Wait(0.0), Send(b"after\r\n")],
            b"tls": [StartTls()],
            b"quit": [Send(b"bye\r\n"), Close(EXIT_DONE, "quit"), Send(b"never\r\n")],
        }
        return orders[word]

    def answered(self, code: int, text: bytes) -> list[Action]:
        shown = text if len(text) < 100 else b"%d octets" % len(text)
        return [Send(b"%d %s\r\n" % (code, shown))]

    def tls_started(self) -> list[Action]:
        return [Send(b"tls\r\n")]

    def tls_failed(self) -> list[Action]:
        return [Close(EXIT_TEMPORARY, "tls-failed")]

    def lost(self, why: str) -> list[Action]:
        return [Send(b"lost " + why.encode()), Close(EXIT_TEMPORARY, why)]


class Desk:
    """A desk for tests."""

    def __init__(self) -> None:
        self.notes: list[tuple[bytes, bytes, bytes, int]] = []
        self.settled = 0

    def settle(self) -> None:
        self.settled += 1

    def do(self, kind: int, fields: tuple[bytes, ...]) -> tuple[int, bytes]:
        if kind == ECHO:
            return 1, b"|".join(fields)
        if kind == LONG:
            assert fields == (b"x" * 65536,)
            return 0, b"y" * LONG_OCTETS
        if kind == PRINT:
            for descriptor in (0, 1, 2):
                os.write(descriptor, b"a module that prints\n")
            return 0, b"printed"
        return 77, b"%d" % os.geteuid()  # not a code of ours

    def note(self, event: bytes, mechanism: bytes, user: bytes, code: int) -> None:
        self.notes.append((event, mechanism, user, code))


class Client(socket.socket):
    """The client's end."""

    def lines(self, *sent: bytes) -> list[bytes]:
        """Send all, stop sending, and give what was answered."""
        self.sendall(b"".join(line + b"\n" for line in sent))
        self.shutdown(socket.SHUT_WR)
        return self.rest().split(b"\r\n")

    def rest(self) -> bytes:
        data = b""
        while select.select([self], [], [], PATIENCE_SECONDS)[0]:
            part = self.recv(65536)
            if not part:
                return data
            data += part
        raise TimeoutError


@contextmanager
def served(
    confined: Callable[[], None] = lambda: None,
    told: Path | None = None,
    control: TlsControl | None = None,
) -> Iterator[Client]:
    """Have a Parrot served in a process of its own, its errors with the client."""
    here, there = socket.socketpair()
    client = Client(fileno=here.detach())
    client.settimeout(PATIENCE_SECONDS)
    pid = os.fork()
    if not pid:
        client.close()
        for descriptor in (0, 1, 2):
            os.dup2(there.fileno(), descriptor)
        there.close()
        desk = Desk()
        code, reason = errands.run(desk, control, confined, converse)
        if told:
            told.write_text(f"{code} {reason} {desk.notes}")
        os._exit(code)
    there.close()
    try:
        yield client
    finally:
        client.close()
        os.waitpid(pid, 0)


def converse(window: Window) -> tuple[int, str]:
    wire = fdio.Wire(0, 1, PATIENCE_SECONDS, PATIENCE_SECONDS)
    wire.lifeline(window.lifeline)
    return Conversation(Parrot(), wire, window).run()


def test_errands_are_answered_in_order(tmp_path: Path) -> None:
    with served(told=tmp_path / "told") as client:
        said = client.lines(b"echo one", b"wait", b"quit")
    assert said == [
        *(b"hello", b"1 one|two", b"then", b"before", b"after", b"bye", b""),
    ]
    assert (tmp_path / "told").read_text() == "0 quit []"


def test_long_fields_and_answers_come_whole() -> None:
    with served() as client:
        said = client.lines(b"long", b"quit")
    assert said == [b"hello", b"0 %d octets" % LONG_OCTETS, b"bye", b""]


def test_a_code_that_is_not_ours_is_temporary() -> None:
    with served() as client:
        assert client.lines(b"who", b"quit")[1].startswith(b"111 ")


def test_who_asks_is_confined_and_who_answers_is_not() -> None:
    need_root()
    with served(lambda: confine("nobody")) as client:
        said = client.lines(b"who", b"quit")
    assert said[1] == b"111 0"
    assert int(said[2]) > 0


def test_nothing_that_is_printed_by_the_privileged_side_gets_out() -> None:
    with served() as client:
        said = client.lines(b"print", b"quit")
    assert said == [b"hello", b"0 printed", b"bye", b""]


def test_a_note_is_handed_on(tmp_path: Path) -> None:
    with served(told=tmp_path / "told") as client:
        client.lines(b"log joe", b"quit")
    notes = [(b"Reject::X", b"None", b"joe", 3)]
    assert (tmp_path / "told").read_text() == f"0 quit {notes}"


def test_the_end_of_the_input_is_told(tmp_path: Path) -> None:
    with served(told=tmp_path / "told") as client:
        assert client.lines() == [b"hello", b"lost eof"]
    assert (tmp_path / "told").read_text() == "111 eof []"


def test_tls_without_a_control_socket_fails() -> None:
    with served() as client:
        assert client.lines(b"tls") == [b"hello", b""]


def test_tls_is_started_by_the_server_and_goes_on_in_cleartext_behind_it() -> None:
    """The UCSPI server's part is played here: it is another socket that goes on."""
    ours, control = socket.socketpair()
    inside, cleartext = socket.socketpair()
    places = control.detach(), cleartext.fileno(), os.dup(cleartext.fileno())
    with served(control=TlsControl(*places)) as client:
        for place in places:
            os.close(place)
        cleartext.detach()
        client.sendall(b"tls\nquit\n")
        assert ours.recv(10) == b"Y"
        ours.sendall(b"SSL_PROTOCOL=TLSv1.3\0\0")
        with Client(fileno=inside.detach()) as secure:
            assert secure.lines(b"echo x", b"quit")[:2] == [b"tls", b"1 x|two"]
        assert ours.recv(10) == b"", "somebody still holds the control socket"
        # What came in the clear behind the command was never looked at.
        assert client.recv(100) == b"hello\r\n"
    ours.close()


def test_who_can_not_be_confined_says_nothing(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with served(lambda: confine("root"), told=told) as client:
        assert client.rest() == b""
    assert told.read_text() == f"{EXIT_HARD} {LOST} []"


@pytest.mark.parametrize(
    "told",
    [
        Parcel(ANSWER, 0, (b"",)),
        Parcel(START_TLS, 0, (b"x",)),
        Parcel(NOTE, 0, (b"x",)),
        Parcel(END, 0, ()),
        Parcel(END, 77, (b"quit",)),
        Parcel(END, 0, (b"with blanks",)),
        Parcel(END, 0, (b"x" * 33,)),
        Parcel(END, 0, (b"",)),
    ],
)
def test_what_no_dialogue_of_ours_says_ends_it(told: Parcel) -> None:
    here, there = parcels.pair()
    there.send(told)
    assert errands.serve(here, Desk(), None) == (EXIT_TEMPORARY, LOST)
    here.close()
    there.close()


@pytest.mark.parametrize(
    "answer", [Parcel(ASK, 0, (b"",)), Parcel(ANSWER), Parcel(ANSWER, 0, (b"", b""))]
)
def test_what_no_desk_of_ours_answers_is_not_taken(answer: Parcel) -> None:
    here, there = parcels.pair()
    here.send(answer)
    with pytest.raises(Lost):
        Window(there, None).ask(1, ())
    here.close()
    there.close()
