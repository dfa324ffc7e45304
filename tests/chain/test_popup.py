# SPDX-License-Identifier: ISC
"""popup as a process: descriptors, environment, log, exit codes, whoever comes next."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.chain.behind import House
from tests.chain.popup import (
    HOSTNAME,
    PEER,
    Popup,
    make_wire,
    read_some,
)
from tests.conftest import Tools
from tests.support import TOP, wait_for

SOURCE = "P:POP3 S:192.0.2.7:c.example"
STAMP = re.compile(rb"<([0-9]+)\.([0-9]+)\.[0-9a-f]{16}@mx\.example>")


def log_in(popup: Popup, user: bytes = b"joe", secret: bytes = b"secret") -> None:
    assert popup.reply() == b"+OK\r\n"
    assert popup.ask(b"USER " + user) == b"+OK \r\n"
    popup.send(b"PASS " + secret + b"\r\n")


def end(code: int, why: str, what: str = "None", user: str = "") -> str:
    """Give the last line of the log."""
    return f"Info::END::{what} {SOURCE} ?~ '{user}' why={why} code={code} seconds=N"


def test_quit(house: House, dialogue: str, wire: str) -> None:
    popup = house.popup(*house.play(), dialogue=dialogue, wire=wire)
    assert popup.reply() == b"+OK\r\n"
    assert popup.ask(b"QUIT") == b"+OK \r\n"
    assert popup.rest() == b""
    assert popup.code() == 0
    assert popup.errors() == ""
    assert popup.log() == [end(0, "quit")]


def test_the_next_program_serves(house: House, dialogue: str, wire: str) -> None:
    popup = house.popup(
        *house.play("say:+OK \\r\\n", "echo"), dialogue=dialogue, wire=wire
    )
    log_in(popup)
    assert popup.reply() == b"+OK \r\n"
    assert popup.ask(b"STAT") == b"+OK said STAT\r\n"
    assert popup.ask(b"QUIT") == b"+OK said QUIT\r\n"
    assert popup.rest() == b""
    assert popup.code() == 0
    assert popup.errors() == ""
    assert popup.log() == [
        f"Accept::AUTH::User {SOURCE} ?~ 'joe'",
        end(0, "served", "User", "joe"),
    ]


def test_what_the_next_program_inherits(
    house: House, dialogue: str, tools: Tools
) -> None:
    env = {"KEPT": "yes", "UCSPITLS": "-", "LC_ALL": "C"}
    popup = house.popup(*house.play("say:"), dialogue=dialogue, env=env)
    log_in(popup, b"jo e", b" se cret ")
    told = house.told()
    assert popup.code() == 0
    assert told["argv"] == [house.standin, str(house.report), "say:"]
    user, secret, stamp, nothing = told["record"].encode("latin-1").split(b"\0")
    assert (user, secret, nothing) == (b"jo e", b" se cret ", b"")
    found = STAMP.fullmatch(stamp)
    assert found
    assert int(found[1]) == popup.pid
    environ = told["environ"]
    note = int(environ.pop("QTOOLS_VERDICT"))
    assert environ.pop("POP3METHOD") == "User"
    assert environ.pop("POP3LANG") == "en"
    assert environ.pop("POP3UTF8") == "0"
    assert environ.pop("POP3CAPA") == "USER\nSASL PLAIN LOGIN"
    assert environ == popup.environ
    assert environ.items() >= tools.environment(**PEER, **env).items()
    descriptors = {int(number): path for number, path in told["descriptors"].items()}
    assert set(descriptors) == {0, 1, 2, 3, 5, note}
    assert note >= 10
    assert descriptors[0].startswith("socket:")
    assert descriptors[0] == descriptors[1]
    assert descriptors[3].startswith("pipe:")
    assert told["ids"][0] == [os.geteuid()] * 3
    assert told["folder"] == os.getcwd()


@pytest.mark.parametrize("env", [{}, {"LC_CTYPE": "C.UTF-8"}, {"LC_CTYPE": "C"}])
def test_the_interpreter_leaves_no_trace_in_the_environment(
    house: House, dialogue: str, env: dict[str, str]
) -> None:
    popup = house.popup("sh", "-c", "env", dialogue=dialogue, env=env)
    log_in(popup)
    said = popup.rest().split(b"\n")
    expected = [f"LC_CTYPE={word}".encode() for word in env.values()]
    assert [line for line in said if line.startswith(b"LC_")] == expected


def test_language_and_utf8_are_handed_on(house: House, dialogue: str) -> None:
    popup = house.popup(*house.play("say:"), dialogue=dialogue)
    popup.send(b"LANG de\r\nUTF8\r\n")
    assert popup.replies(3)[2] == b"+OK \r\n"
    popup.send(b"USER joe\r\nPASS x\r\n")
    environ = house.told()["environ"]
    assert (environ["POP3LANG"], environ["POP3UTF8"]) == ("de", "1")


def test_an_execd_program_has_the_default_signals(house: House, dialogue: str) -> None:
    popup = house.popup(
        "sh", "-c", 'grep -h SigIgn "/proc/$$/status"; kill -PIPE $$', dialogue=dialogue
    )
    log_in(popup)
    ignored = int(popup.reply().split()[1], 16)
    assert not ignored & 1 << signal.SIGPIPE - 1
    assert not ignored & 1 << signal.SIGXFSZ - 1
    assert popup.reply() == b"-ERR [SYS/TEMP] aack, child crashed\r\n"


@pytest.mark.parametrize("burst", [0, 2000])
def test_pipelined_commands_reach_the_next_program(
    house: House, dialogue: str, wire: str, burst: int
) -> None:
    noops = b"NOOP\r\n" * burst
    popup = house.popup(*house.play("echo"), dialogue=dialogue, wire=wire)
    popup.send(b"USER joe\r\nPASS secret\r\nSTAT\r\n" + noops + b"QUIT\r\n")
    assert popup.replies(2) == [b"+OK\r\n", b"+OK \r\n"]
    answered = b"+OK said STAT\r\n" + b"+OK said NOOP\r\n" * burst
    assert popup.rest() == answered + b"+OK said QUIT\r\n"
    assert popup.code() == 0


def test_pipelined_commands_before_login_are_answered_in_order(
    house: House, dialogue: str, wire: str
) -> None:
    popup = house.popup(*house.play("exit:1"), dialogue=dialogue, wire=wire)
    popup.send(b"NOOP\r\nSTAT\r\nUSER joe\r\nPASS x\r\nNOOP\r\nQUIT\r\n")
    assert popup.rest() == (
        b"+OK\r\n+OK \r\n-ERR authorization first\r\n+OK \r\n"
        b"-ERR [AUTH] authorization failed\r\n+OK \r\n+OK \r\n"
    )


def test_a_program_that_reads_on_and_refuses_takes_nothing_from_the_reply(
    house: House, dialogue: str
) -> None:
    popup = house.popup(*house.play("take:100", "exit:1"), dialogue=dialogue)
    popup.send(b"USER joe\r\nPASS x\r\nNOOP\r\n")
    assert popup.replies(3)[2] == b"-ERR [AUTH] authorization failed\r\n"
    assert popup.ask(b"QUIT") == b"+OK \r\n"


REFUSALS = [
    ("exit:1", b"-ERR [AUTH] authorization failed\r\n", ""),
    ("exit:2", b"-ERR [SYS/PERM] the server is not set up for you\r\n", " code=2"),
    ("exit:100", b"-ERR [SYS/PERM] the server is not set up for you\r\n", " code=100"),
    (
        "exit:111",
        b"-ERR [SYS/TEMP] temporary failure, try again later\r\n",
        " code=111",
    ),
    ("exit:77", b"-ERR [SYS/TEMP] aack, child crashed\r\n", " code=77"),
    ("kill:9", b"-ERR [SYS/TEMP] aack, child crashed\r\n", " code=111"),
    ("kill:11", b"-ERR [SYS/TEMP] aack, child crashed\r\n", " code=111"),
]


@pytest.mark.parametrize(("step", "reply", "note"), REFUSALS)
def test_a_verdict(
    house: House, dialogue: str, step: str, reply: bytes, note: str
) -> None:
    popup = house.popup(*house.play(step), dialogue=dialogue)
    log_in(popup)
    assert popup.reply() == reply
    assert popup.ask(b"QUIT") == b"+OK \r\n"
    assert popup.code() == 0
    assert popup.errors() == ""
    assert popup.log() == [
        f"Reject::AUTH::User {SOURCE} ?~ 'joe'{note}",
        end(0, "quit", "User", "joe"),
    ]


def test_a_refusal_speaks_the_client_s_language(house: House, dialogue: str) -> None:
    popup = house.popup(*house.play("exit:1"), dialogue=dialogue)
    popup.reply()
    popup.ask(b"LANG de")
    popup.ask(b"USER joe")
    assert popup.ask(b"PASS x") == b"-ERR [AUTH] Anmeldung abgelehnt\r\n"


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/etc"])
def test_a_missing_program_is_no_wrong_password(
    house: House, dialogue: str, program: str
) -> None:
    popup = house.popup(program, dialogue=dialogue)
    log_in(popup)
    assert popup.reply() == b"-ERR [SYS/PERM] the server is not set up for you\r\n"
    popup.ask(b"QUIT")
    assert popup.code() == 0
    assert re.fullmatch(rf"popup: unable to run {program}: .*\n", popup.errors())


def test_after_three_refusals_it_is_over(house: House, dialogue: str) -> None:
    popup = house.popup(*house.play("exit:1"), dialogue=dialogue)
    popup.reply()
    for _ in range(3):
        popup.ask(b"USER joe")
        assert popup.ask(b"PASS x") == b"-ERR [AUTH] authorization failed\r\n"
    assert popup.rest() == b""
    assert popup.code() == 1
    reject = f"Reject::AUTH::User {SOURCE} ?~ 'joe'"
    assert popup.log() == [reject] * 3 + [end(1, "refused", "User", "joe")]


@pytest.mark.parametrize("option", ["-a1", "--attempts=1"])
def test_attempts_are_settable(house: House, dialogue: str, option: str) -> None:
    popup = house.popup(
        *house.play("exit:111"), options=f"-d0 {option}", dialogue=dialogue
    )
    log_in(popup)
    assert popup.rest().startswith(b"-ERR [SYS/TEMP]")
    assert popup.code() == 1


def test_the_last_refusal_arrives_whatever_was_sent_behind_it(
    house: House, dialogue: str
) -> None:
    """The kernel answers a close over unread octets with a reset, which is sooner."""
    popup = house.popup(
        *house.play("exit:1"), options="-d0 -a1", dialogue=dialogue, wire="tcp"
    )
    popup.send(b"USER joe\r\nPASS x\r\n" + b"NOOP\r\n" * 1000)
    assert popup.code() == 1
    assert popup.rest() == b"+OK\r\n+OK \r\n-ERR [AUTH] authorization failed\r\n"
    assert not popup.was_reset


@pytest.mark.slow
def test_a_refusal_is_delayed(house: House, dialogue: str) -> None:
    """The log has the line at once; how the delay grows is tested without a clock."""
    popup = house.popup(*house.play("exit:1"), options="-d1", dialogue=dialogue)
    log_in(popup)
    assert popup.log_line() == f"Reject::AUTH::User {SOURCE} ?~ 'joe'"
    assert popup.said == b"+OK\r\n+OK \r\n"
    assert popup.reply() == b"-ERR [AUTH] authorization failed\r\n"


def test_accept_is_logged_when_it_happens(house: House, dialogue: str) -> None:
    popup = house.popup(
        *house.play("note:A", "say:+OK \\r\\n", "wait"), dialogue=dialogue
    )
    log_in(popup)
    assert popup.reply() == b"+OK \r\n"
    assert popup.log_line() == f"Accept::AUTH::User {SOURCE} ?~ 'joe'"
    assert popup.is_running()
    popup.hang_up()
    assert popup.code() == 0
    assert popup.log() == [end(0, "served", "User", "joe")]


@pytest.mark.parametrize(
    ("step", "code", "reply"),
    [
        # Its password was right: a client must not be told to forget it.
        ("exit:1", 1, b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"),
        ("exit:100", 100, b"-ERR [SYS/PERM] the server is not set up for you\r\n"),
        ("exit:111", 111, b"-ERR [SYS/TEMP] temporary failure, try again later\r\n"),
        ("kill:9", 111, b"-ERR [SYS/TEMP] aack, child crashed\r\n"),
    ],
)
def test_one_let_in_that_fails_before_it_speaks_gets_one_reply(
    house: House, dialogue: str, step: str, code: int, reply: bytes
) -> None:
    popup = house.popup(*house.play("note:A", step), dialogue=dialogue)
    log_in(popup)
    assert popup.rest() == reply
    assert popup.code() == code
    assert popup.log() == [
        f"Accept::AUTH::User {SOURCE} ?~ 'joe'",
        end(code, "failed", "User", "joe"),
    ]


def test_sigterm_is_an_end_for_the_log(house: House, dialogue: str) -> None:
    """sslserver sends it when the client has gone."""
    popup = house.popup(*house.play("note:A", "wait"), dialogue=dialogue)
    log_in(popup)
    assert "Accept::AUTH::User" in popup.log_line()
    os.kill(popup.pid, signal.SIGTERM)
    assert popup.code() == 111
    popup.hang_up()
    assert popup.log() == [end(111, "terminated", "User", "joe")]
    assert popup.errors() == ""


def test_a_script_without_an_interpreter_is_the_shells(
    house: House, room: Path, dialogue: str
) -> None:
    """As for execvp, with which the originals run their programs."""
    script = room / "checker"
    script.write_text("echo $1; exit 111\n")
    script.chmod(0o755)
    popup = house.popup(str(script), "+OK", options="-a1 -d0", dialogue=dialogue)
    log_in(popup)
    assert popup.reply() == b"+OK\n"


@pytest.mark.parametrize(("step", "code"), [("exit:111", 111), ("kill:9", 111)])
def test_one_that_has_greeted_speaks_for_itself(
    house: House, dialogue: str, step: str, code: int
) -> None:
    steps = ("note:A", "say:+OK \\r\\n", "note:G", step)
    popup = house.popup(*house.play(*steps), dialogue=dialogue)
    log_in(popup)
    assert popup.rest() == b"+OK \r\n"
    assert popup.code() == code


def test_the_greeting_note_alone_is_an_accept(house: House, dialogue: str) -> None:
    popup = house.popup(*house.play("note:G", "exit:1"), dialogue=dialogue)
    log_in(popup)
    assert popup.rest() == b""
    assert popup.log()[0] == f"Accept::AUTH::User {SOURCE} ?~ 'joe'"


def test_a_daemon_left_behind_does_not_hold_popup(house: House, dialogue: str) -> None:
    popup = house.popup("sh", "-c", "cat <&0 >/dev/null & exit 1", dialogue=dialogue)
    log_in(popup)
    assert popup.reply() == b"-ERR [AUTH] authorization failed\r\n"


@pytest.mark.parametrize("way", ["eof", "half", "reset"])
def test_a_client_that_is_gone(
    house: House, dialogue: str, wire: str, way: str
) -> None:
    popup = house.popup(*house.play(), dialogue=dialogue, wire=wire)
    popup.reply()
    if way == "half":
        popup.send(b"USER jo")
    if way == "reset":
        popup.hang_up()
    else:
        popup.stop_sending()
        assert popup.rest() == b""
    assert popup.code() == 111
    assert popup.errors() == ""
    assert popup.log() == [end(111, "eof")]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"NOOP"])
def test_a_silent_client(house: House, dialogue: str, wire: str, sent: bytes) -> None:
    popup = house.popup(*house.play(), options="-t1", dialogue=dialogue, wire=wire)
    popup.reply()
    popup.send(sent)
    assert popup.rest() == b""
    assert popup.code() == 111
    assert popup.log() == [end(111, "timeout")]


@pytest.mark.slow
def test_a_client_that_does_not_read(house: House, dialogue: str, wire: str) -> None:
    popup = house.popup(*house.play(), options="-w1", dialogue=dialogue, wire=wire)
    os.set_blocking(popup._out, False)

    def fill() -> bool:
        try:
            popup.send(b"LANG\r\n" * 1000)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        return not popup.is_running()

    wait_for(fill)
    assert popup.code() == 111


@pytest.mark.parametrize(
    "words",
    [
        [],
        [HOSTNAME],
        ["-z", HOSTNAME, "x"],
        ["-a0", HOSTNAME, "x"],
        ["-t", "x", HOSTNAME, "y"],
        ["-p", "maybe", HOSTNAME, "x"],
        ["-m", "scram", HOSTNAME, "x"],
        ["-t", "99999999999", HOSTNAME, "x"],
    ],
)
def test_misuse_is_told_to_the_operator_and_not_to_the_network(
    house: House, tools: Tools, words: list[str]
) -> None:
    popup = Popup([tools.popup, *words], tools.environment(), make_wire("unix"))
    house.running.append(popup)
    assert popup.rest() == b""
    assert popup.code() == 100
    assert re.fullmatch(r"popup: [^\n]+\n", popup.errors())


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version(house: House, tools: Tools, word: str) -> None:
    popup = Popup([tools.popup, word], tools.environment(), make_wire("unix"))
    house.running.append(popup)
    assert b"popup" in popup.rest()
    assert popup.code() == 0


HOSTILE = b"x popup: Reject::AUTH::User P:POP3 S:192.0.2.1 "
ESCAPED = r"x\x20popup:\x20Reject::AUTH::User\x20P:POP3\x20S:192.0.2.1\x20"


@pytest.mark.parametrize(
    ("user", "escaped"),
    [
        (HOSTILE, ESCAPED),
        (b"jo'e%\x01\x1b[2J\\", r"jo\x27e%\x01\x1b[2J\x5c"),
        ("j\N{LATIN SMALL LETTER O WITH DIAERESIS}".encode(), r"j\xc3\xb6"),
        (b"\r", r"\x0d"),
    ],
)
def test_a_hostile_name_is_escaped_in_the_log(
    house: House, dialogue: str, user: bytes, escaped: str
) -> None:
    popup = house.popup(*house.play("exit:1"), options="-d0 -a1", dialogue=dialogue)
    log_in(popup, user)
    assert house.told()["record"].encode("latin-1").startswith(user + b"\0")
    assert popup.code() == 1
    assert popup.log() == [
        f"Reject::AUTH::User {SOURCE} ?~ '{escaped}'",
        end(1, "refused", "User", escaped),
    ]


def test_a_hostile_host_name_is_escaped_in_the_log(house: House, dialogue: str) -> None:
    env = {"TCPREMOTEHOST": "x ?~ 'root'\n"}
    popup = house.popup(*house.play(), dialogue=dialogue, env=env)
    popup.reply()
    popup.ask(b"QUIT")
    assert popup.log()[0].startswith(
        r"Info::END::None P:POP3 S:192.0.2.7:x\x20?~\x20\x27root\x27\x0a ?~ '' why="
    )


@pytest.mark.parametrize(
    ("env", "source"),
    [
        ({"TCPLOCALPORT": "995"}, "P:POP3S S:192.0.2.7:c.example"),
        ({"TCP6REMOTEIP": "2001:db8::1"}, "P:POP3 S:2001:db8::1:c.example"),
        ({"TCP6REMOTEIP": "::ffff:192.0.2.9"}, "P:POP3 S:192.0.2.9:c.example"),
        ({"TCPREMOTEIP": "", "TCPREMOTEHOST": ""}, "P:POP3 S:unknown:unknown"),
    ],
)
def test_where_the_client_comes_from(
    house: House, env: dict[str, str], source: str
) -> None:
    popup = house.popup(*house.play(), env=env)
    popup.reply()
    popup.ask(b"QUIT")
    assert popup.log()[0].startswith(f"Info::END::None {source} ?~ '' ")


def test_without_a_log_everything_else_is_the_same(house: House, dialogue: str) -> None:
    popup = house.popup(*house.play("exit:1"), dialogue=dialogue, more={5: -1})
    log_in(popup)
    assert popup.reply() == b"-ERR [AUTH] authorization failed\r\n"
    popup.ask(b"QUIT")
    assert popup.code() == 0
    assert popup.errors() == ""


@pytest.mark.parametrize("side", ["in", "out"])
def test_a_log_on_the_client_s_connection_is_none(
    house: House, dialogue: str, wire: str, side: str
) -> None:
    ends = make_wire(wire)
    copy = ends.server_in if side == "in" else ends.server_out
    popup = house.popup(
        *house.play("exit:1"),
        options="-d0 -a1",
        dialogue=dialogue,
        wire=ends,
        more={5: copy},
    )
    log_in(popup)
    assert popup.rest() == b"-ERR [AUTH] authorization failed\r\n"


def test_a_log_that_nobody_reads_any_more_costs_nobody_his_mail(
    house: House, dialogue: str
) -> None:
    there, here = os.pipe()
    popup = house.popup(
        *house.play("say:+OK \\r\\n", "echo"), dialogue=dialogue, more={5: here}
    )
    os.close(here)
    os.close(there)
    log_in(popup)
    assert popup.reply() == b"+OK \r\n"
    assert popup.ask(b"QUIT") == b"+OK said QUIT\r\n"
    assert popup.code() == 0
    assert popup.errors() == ""


def test_the_log_can_be_elsewhere(house: House, dialogue: str) -> None:
    there, here = os.pipe()
    popup = house.popup(
        *house.play(), options="-d0 -l7", dialogue=dialogue, more={5: -1, 7: here}
    )
    os.close(here)
    popup.reply()
    popup.ask(b"QUIT")
    assert popup.code() == 0
    assert os.read(there, 1000).startswith(b"popup: pid ")
    os.close(there)


@pytest.mark.parametrize("closed", [2, 3])
def test_a_descriptor_that_is_not_there(
    house: House, dialogue: str, closed: int
) -> None:
    steps = house.play("say:+OK \\r\\n", "echo")
    popup = house.popup(*steps, dialogue=dialogue, more={closed: -1})
    log_in(popup)
    assert popup.reply() == b"+OK \r\n"
    assert popup.ask(b"QUIT") == b"+OK said QUIT\r\n"
    assert house.told()["record"].startswith("joe\0secret\0<")
    assert popup.code() == 0


def test_an_open_descriptor_3_is_replaced(house: House, dialogue: str) -> None:
    with open("/dev/null", "rb") as null:
        popup = house.popup(
            *house.play("say:"), dialogue=dialogue, more={3: null.fileno()}
        )
    log_in(popup)
    assert house.told()["record"].startswith("joe\0secret\0<")


def test_stderr_of_the_chain_stays_off_the_network(house: House, dialogue: str) -> None:
    popup = house.popup(
        *house.play("complain:warning\\n", "exit:1"),
        options="-d0 -a1",
        dialogue=dialogue,
    )
    log_in(popup)
    assert popup.rest() == b"-ERR [AUTH] authorization failed\r\n"
    assert popup.errors() == "warning\n"


GREETING = re.compile(rb"\+OK <[0-9]+\.[0-9]+\.[0-9a-f]{16}@mx\.example>\r\n")


def test_apop(house: House, dialogue: str) -> None:
    popup = house.popup(
        *house.play("exit:0"), dialogue=dialogue, env={"POP3AUTH": "+apop"}
    )
    greeting = popup.reply()
    assert GREETING.fullmatch(greeting)
    digest = b"0123456789abcdef" * 2
    popup.send(b"APOP joe " + digest + b"\r\n")
    stamp = greeting[4:-2]
    told = house.told()
    assert told["record"].encode() == b"joe\0" + digest + b"\0" + stamp + b"\0"
    assert told["environ"]["POP3METHOD"] == "Apop"
    assert popup.log()[0] == f"Accept::AUTH::Apop {SOURCE} ?~ 'joe'"


@pytest.mark.parametrize(
    ("lines", "fields", "word"),
    [
        ([b"AUTH PLAIN AGpvZQBzZWNyZXQ="], "joe\0secret", "Plain"),
        ([b"AUTH PLAIN", b"AGpvZQBzZWNyZXQ="], "joe\0secret", "Plain"),
        ([b"AUTH LOGIN", b"am9l", b"c2VjcmV0"], "joe\0secret", "Login"),
    ],
)
def test_sasl(
    house: House, dialogue: str, lines: list[bytes], fields: str, word: str
) -> None:
    popup = house.popup(*house.play(), dialogue=dialogue)
    popup.reply()
    for line in lines[:-1]:
        assert popup.ask(line).startswith(b"+ ")
    popup.send(lines[-1] + b"\r\n")
    told = house.told()
    assert told["record"].startswith(fields + "\0<")
    assert told["environ"]["POP3METHOD"] == word
    assert popup.log()[0] == f"Accept::AUTH::{word} {SOURCE} ?~ 'joe'"


@pytest.mark.parametrize("octets", [255, 256])
def test_a_command_has_255_octets_on_the_wire(
    house: House, dialogue: str, wire: str, octets: int
) -> None:
    popup = house.popup(*house.play(), dialogue=dialogue, wire=wire)
    popup.reply()
    reply = popup.ask(b"USER " + b"u" * (octets - 7))
    assert reply == (b"+OK \r\n" if octets == 255 else b"-ERR syntax error\r\n")
    assert popup.ask(b"x" * 70_000) == b"-ERR syntax error\r\n"
    assert popup.ask(b"NO\0OP") == b"-ERR syntax error\r\n"
    assert popup.ask(b"NOOP") == b"+OK \r\n"


@pytest.mark.parametrize("way", ["option", "environment"])
def test_passwords_without_tls_can_be_refused(
    house: House, dialogue: str, way: str
) -> None:
    popup = house.popup(
        *house.play(),
        options="-d0 -a2 -p refuse" if way == "option" else "-d0 -a2",
        dialogue=dialogue,
        env={"POP3PLAINTEXT": "allow" if way == "option" else "refuse"},
    )
    popup.reply()
    popup.send(b"CAPA\r\n")
    listed = popup.listing()
    assert not {b"USER", b"SASL"} & {line.split()[0] for line in listed}
    refusal = b"-ERR [AUTH] TLS required but not negotiated\r\n"
    assert popup.ask(b"USER joe") == refusal
    assert popup.ask(b"AUTH PLAIN") == refusal
    assert popup.code() == 1
    line = f"Reject::STLS::Any {SOURCE} ?~ 'unknown'"
    assert popup.log() == [line, line, end(1, "refused")]


def test_replies_to_a_burst_leave_in_one_piece(house: House, dialogue: str) -> None:
    """Small writes one by one cost a client 40 ms each: Nagle meets delayed ACK."""
    popup = house.popup(*house.play(), dialogue=dialogue)
    popup.reply()
    popup.send(b"NOOP\r\n" * 30)
    assert read_some(popup._in) == b"+OK \r\n" * 30


# Hand-over -------------------------------------------------------------------


INNER = ["popup", "--no-split", "-l9", "inner.example", "/bin/false"]


def start_inner(
    house: House,
    tools: Tools,
    *,
    stub: str = "",
    env: dict[str, str] | None = None,
    options: str = "-d0",
) -> Popup:
    """Run popup before popup: no other of our programs greets without an account."""
    popup = Popup(
        [stub or tools.popup, *options.split(), "--no-split", HOSTNAME, *INNER],
        {**tools.environment(), **(env or {})},
        make_wire("unix"),
    )
    house.running.append(popup)
    log_in(popup)
    assert popup.reply() == b"+OK\r\n"
    return popup


def arguments_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def innermost(popup: Popup) -> int:
    pid = popup.pid
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[-1])
    return pid


def is_called(popup: Popup) -> bool:
    """Tell whether the next program runs by a call: then it bears popup's own argv."""
    return arguments_of(innermost(popup)) == arguments_of(popup.pid)


def test_our_own_next_program_is_called(house: House, tools: Tools) -> None:
    popup = start_inner(house, tools)
    assert is_called(popup)
    assert popup.ask(b"QUIT") == b"+OK \r\n"
    assert popup.code() == 0
    assert popup.errors() == ""


@pytest.mark.parametrize(
    ("options", "env"),
    [("-d0 -x", {}), ("-d0 --exec", {}), ("-d0", {"QTOOLS_EXEC": "1"})],
)
def test_exec_can_be_forced(
    house: House, tools: Tools, options: str, env: dict[str, str]
) -> None:
    popup = start_inner(house, tools, options=options, env=env)
    assert not is_called(popup)
    assert popup.ask(b"QUIT") == b"+OK \r\n"
    assert popup.code() == 0


def first_in_path(tools: Tools, folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}:{tools.environment()['PATH']}"}


def test_a_program_of_the_same_name_is_execd(
    house: House, tools: Tools, room: Path
) -> None:
    foreign = room / "popup"
    foreign.write_text("#!/bin/sh\nprintf '+OK\\r\\n'; read line; exit 0\n")
    foreign.chmod(0o755)
    popup = start_inner(house, tools, env=first_in_path(tools, room))
    assert not is_called(popup)
    popup.send(b"\n")
    assert popup.code() == 0


def test_our_stub_of_another_installation_is_execd(
    house: House, tools: Tools, room: Path
) -> None:
    text = Path(tools.popup).read_text()
    library = re.search(r'sys\.path\.insert\(0, "(.*)"\)', text)
    assert library
    other = room / "lib"
    shutil.copytree(library[1], other)
    stub = room / "popup"
    stub.write_text(text.replace(library[1], str(other)))
    stub.chmod(0o755)
    popup = start_inner(house, tools, env=first_in_path(tools, room))
    assert not is_called(popup)
    assert popup.ask(b"QUIT") == b"+OK \r\n"


def test_a_symlink_to_our_own_is_called(house: House, tools: Tools, room: Path) -> None:
    (room / "popup").symlink_to(tools.popup)
    env = first_in_path(tools, room)
    popup = start_inner(house, tools, env=env)
    assert is_called(popup)
    linked = start_inner(house, tools, stub=str(room / "popup"), env=env)
    assert is_called(linked)


def test_a_symlink_to_a_checkout_works(house: House, tools: Tools, room: Path) -> None:
    (room / "popup").symlink_to(TOP / "bin/popup")
    env = first_in_path(tools, room)
    popup = start_inner(house, tools, stub=str(room / "popup"), env=env)
    assert is_called(popup)
    foreign = start_inner(house, tools, stub=str(room / "popup"))
    assert not is_called(foreign)


def test_killing_the_child_is_no_accept(house: House, dialogue: str) -> None:
    popup = house.popup(*house.play("wait"), options="-d0 -a1", dialogue=dialogue)
    log_in(popup)
    os.kill(house.told()["pid"], signal.SIGKILL)
    assert popup.rest() == b"-ERR [SYS/TEMP] aack, child crashed\r\n"
    assert popup.log()[0] == f"Reject::AUTH::User {SOURCE} ?~ 'joe' code=111"
