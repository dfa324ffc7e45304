# SPDX-License-Identifier: ISC
"""What qmail's popup and its descendants did wrong, P1 to P17: one named test each.

Each says in its docstring what the originals do. More on each is in test_popup.py,
test_popup_tls.py and tests/unit/test_login.py.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain.behind import House
from tests.chain.popup import Popup
from tests.chain.tls import NUMBERS, Descriptors, dump_of
from tests.support import wait_for

REFUSED = b"-ERR [AUTH] authorization failed\r\n"
ONCE = "-d0 -a1"


@pytest.fixture
def ends() -> Iterator[Descriptors]:
    made = Descriptors()
    yield made
    made.close()


def start(
    house: House,
    dialogue: str,
    *steps: str,
    options: str = ONCE,
    env: dict[str, str] | None = None,
) -> Popup:
    """Run popup before a stand-in."""
    words = house.play(*steps)
    popup = house.popup(*words, options=options, dialogue=dialogue, env=env)
    assert popup.reply().startswith(b"+OK")
    return popup


def start_tls(
    house: House,
    ends: Descriptors,
    *steps: str,
    env: dict[str, str] | None = None,
    more: dict[int, int] | None = None,
) -> Popup:
    """Run popup before a stand-in, with the test as its TLS side."""
    environ = {"UCSPITLS": "", **NUMBERS, **(env or {})}
    places = {**ends.places(), **(more or {})}
    popup = house.popup(*house.play(*steps), options=ONCE, env=environ, more=places)
    ends.close_theirs()
    assert popup.reply().startswith(b"+OK")
    return popup


def log_in(popup: Popup) -> None:
    popup.send(b"USER joe\r\nPASS secret\r\n")
    assert popup.reply() == b"+OK \r\n"


def capabilities(popup: Popup) -> list[bytes]:
    popup.send(b"CAPA\r\n")
    return popup.listing()[1:]


def test_p1_what_is_pipelined_behind_pass_is_not_lost(
    house: House, dialogue: str, wire: str
) -> None:
    """The originals read 128 octets at a time and drop what lies behind the line."""
    popup = house.popup(*house.play("echo"), dialogue=dialogue, wire=wire)
    popup.send(b"USER joe\r\nPASS x\r\nSTAT\r\nLIST\r\nQUIT\r\n")
    assert popup.rest() == (
        b"+OK\r\n+OK \r\n+OK said STAT\r\n+OK said LIST\r\n+OK said QUIT\r\n"
    )


def test_p2_plaintext_behind_stls_is_not_executed(
    house: House, ends: Descriptors
) -> None:
    """s/qmail's answers it inside TLS, and checks the password for its USER."""
    popup = start_tls(house, ends, "exit:1")
    popup.send(b"STLS\r\nUSER evil\r\nNOOP\r\n")
    assert popup.reply() == b"+OK starting TLS negotiation\r\n"
    assert ends.control.recv(1) == b"Y"
    ends.control.sendall(b"\0\0")
    os.write(ends.to_program, b"PASS x\r\nQUIT\r\n")
    assert popup.code() == 0
    assert os.read(ends.from_program, 1000) == b"-ERR USER first\r\n+OK \r\n"


def test_p3_stls_is_offered_only_where_it_works(house: House, dialogue: str) -> None:
    """s/qmail's offers it without descriptors, and fails after +OK."""
    is_without_stls(start(house, dialogue, env={"UCSPITLS": ""}))


def test_p3_stls_is_not_offered_inside_tls(house: House, ends: Descriptors) -> None:
    """s/qmail's offers it on port 995, and fails after +OK."""
    is_without_stls(start_tls(house, ends, env={"TCPLOCALPORT": "995"}))


def is_without_stls(popup: Popup) -> None:
    assert b"STLS" not in capabilities(popup)
    assert popup.ask(b"STLS") == b"-ERR STLS not available\r\n"
    assert popup.ask(b"NOOP") == b"+OK \r\n"


def test_p4_the_protocol_is_pop3s_at_most(house: House, ends: Descriptors) -> None:
    """s/qmail's says POP3SS after STLS on port 995."""
    popup = start_tls(house, ends, "exit:1", env={"TCPLOCALPORT": "995"})
    popup.ask(b"STLS")
    log_in(popup)
    assert popup.code() == 1
    assert all(" P:POP3S S:" in line for line in popup.log())


def test_p5_a_hostile_name_is_escaped_in_the_log(house: House, dialogue: str) -> None:
    """s/qmail's writes it as it is: forged lines, escape sequences."""
    popup = start(house, dialogue, "exit:1")
    popup.ask(b"USER x popup: Reject::AUTH::User P:POP3 S:192.0.2.1 ")
    popup.ask(b"PASS x")
    line = popup.log()[0]
    assert line == (
        r"Reject::AUTH::User P:POP3 S:192.0.2.7:c.example ?~ "
        r"'x\x20popup:\x20Reject::AUTH::User\x20P:POP3\x20S:192.0.2.1\x20'"
    )


def test_p6_a_crash_is_no_accept(house: House, dialogue: str) -> None:
    """s/qmail's logs Accept for a child that was killed."""
    popup = start(house, dialogue, "kill:9")
    log_in(popup)
    assert popup.reply() == b"-ERR [SYS/TEMP] aack, child crashed\r\n"
    assert popup.code() == 1
    assert not [line for line in popup.log() if "Accept" in line]


def test_p7_descriptor_5_is_looked_at_before_it_is_used(
    house: House, ends: Descriptors
) -> None:
    """s/qmail's writes log lines to whatever is there, SSLWRITEFD for one."""
    places = ends.places()
    env = {**NUMBERS, "SSLWRITEFD": "5"}
    popup = start_tls(house, ends, "exit:1", env=env, more={5: places[22]})
    log_in(popup)
    assert popup.reply() == REFUSED
    assert popup.code() == 1
    assert os.read(ends.from_program, 1000) == b""


@pytest.mark.parametrize(
    ("pop3auth", "has_user", "has_apop"),
    [("", True, False), ("apop", False, True), ("+apop", True, True)],
)
def test_p8_capa_tells_the_truth(
    house: House, dialogue: str, pop3auth: str, *, has_user: bool, has_apop: bool
) -> None:
    """s/qmail's lists APOP always, and UIDL only when APOP is on."""
    popup = start(house, dialogue, "exit:1", options="-d0", env={"POP3AUTH": pop3auth})
    listed = capabilities(popup)
    assert b"UIDL" in listed
    assert (b"USER" in listed) is has_user
    assert (b"APOP" in listed) is has_apop
    reply = popup.ask(b"APOP joe " + b"0" * 32)
    assert (reply == REFUSED) is has_apop
    assert (popup.ask(b"USER joe") == b"+OK \r\n") is has_user


def test_p9_apop_that_is_off_is_off(house: House, dialogue: str) -> None:
    """s/qmail's hides the stamp and still runs the child."""
    popup = start(house, dialogue)
    reply = popup.ask(b"APOP joe " + b"0" * 32)
    assert reply == b"-ERR APOP not available\r\n"
    assert popup.ask(b"QUIT") == b"+OK \r\n"
    assert popup.code() == 0
    assert not house.report.exists()


def test_p10_a_temporary_failure_is_no_wrong_password(
    house: House, dialogue: str
) -> None:
    """The originals say "authorization failed" whatever the exit code."""
    popup = start(house, dialogue, "exit:111")
    log_in(popup)
    assert popup.reply().startswith(b"-ERR [SYS/TEMP] ")


@pytest.mark.parametrize("end", [b" ", b"", b"  ", b" 0"])
def test_p11_an_empty_digest_is_none(house: House, dialogue: str, end: bytes) -> None:
    """The originals run the child for "APOP joe " with an empty secret."""
    popup = start(house, dialogue, env={"POP3AUTH": "apop"})
    assert popup.ask(b"APOP joe" + end) == b"-ERR syntax error\r\n"
    popup.ask(b"QUIT")
    assert popup.code() == 0
    assert not house.report.exists()


def test_p12_a_warning_of_the_checker_stays_off_the_network(
    house: House, dialogue: str
) -> None:
    """The originals (not notqmail) give the chain the network as descriptor 2."""
    popup = start(house, dialogue, "complain:warning\\n", "exit:1")
    log_in(popup)
    assert popup.rest() == REFUSED
    assert popup.errors() == "warning\n"


def test_p13_a_line_has_a_limit(house: House, dialogue: str) -> None:
    """The originals take a name of any length, until memory is gone."""
    popup = start(house, dialogue)
    for _ in range(50):
        popup.send(b"U" * 60_000)
    resident = Path(f"/proc/{popup.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+([0-9]+) kB", resident)
    assert found
    assert int(found[1]) < 40_000
    assert popup.ask(b"") == b"-ERR syntax error\r\n"


@pytest.mark.parametrize(
    ("lines", "code"),
    [(b"QUIT\r\n", 0), (b"USER joe\r\nPASS x\r\n", 1), (b"", 111)],
)
def test_p14_the_exit_code_tells(
    house: House, dialogue: str, lines: bytes, code: int
) -> None:
    """The originals leave with 1, whatever happened."""
    popup = start(house, dialogue, "exit:1")
    popup.send(lines)
    popup.stop_sending()
    assert popup.code() == code


def test_p15_what_the_tls_side_tells_is_read_and_handed_on(
    house: House, ends: Descriptors
) -> None:
    """s/qmail's asks for the variables and never reads them."""
    popup = start_tls(house, ends, "say:")
    popup.ask(b"STLS")
    assert ends.control.recv(1) == b"Y"
    for piece in dump_of("sslserver", "TLSv1.3", "TLS_AES_128_GCM_SHA256"):
        ends.control.sendall(piece)
    os.write(ends.to_program, b"USER joe\r\nPASS x\r\n")
    environ = house.told()["environ"]
    assert environ["SSL_CIPHER"] == "TLS_AES_128_GCM_SHA256"
    assert environ["SSL_SERVER_CERT"].count("\n") == 3


def test_p16_a_login_is_logged_when_it_happens(house: House, dialogue: str) -> None:
    """s/qmail's writes the line when the session is over."""
    popup = start(house, dialogue, "note:A", "wait")
    log_in(popup)
    assert popup.log_line().startswith("Accept::AUTH::User ")
    assert popup.is_running()


@pytest.mark.slow
def test_p17_attempts_have_a_limit_and_a_delay(house: House, dialogue: str) -> None:
    """The originals know neither; one attempt a connection is their only brake."""
    popup = start(house, dialogue, "exit:1", options="-d1 -a1")
    log_in(popup)
    wait_for(house.report.exists)
    assert popup.log_line().startswith("Reject::AUTH::User ")
    assert popup.said.endswith(b"+OK \r\n")
    assert popup.rest() == REFUSED
    assert popup.code() == 1
