# SPDX-License-Identifier: ISC
"""popserver in popup's place: the same tests, the same client, the same log.

A test of popup that takes the fixture `dialogue` runs with popup itself ("split",
"no-split") and behind popserver. "popserver" runs the test's own words, which is the
foreign mode as soon as a stand-in is among them. "warm" puts links of ours in the place
of a stand-in that only accepts or refuses, so that the login worker holds the dialogue.
What can't be had of popserver is listed in NOT_BEHIND_A_SERVER and NOT_WARM.
"""

import os
import re
import select
import socket
import tempfile
import time
from pathlib import Path

from tests.chain import checker, popup
from tests.chain.popup import DIALOGUES, HOSTNAME, PEER, Client, Popup, Wire
from tests.chain.warm import END, OPTIONS, Server, SessionProcess
from tests.pop3 import Ended, Pop3
from tests.support import PATIENCE_SECONDS
from tests.unit.test_cdb import file_of

SERVED = ("popserver", "warm")  # two more ways to run a dialogue

# Tests of popup that are about its process or its descriptors, and where popserver is
# tested on what they mean.
NOT_BEHIND_A_SERVER = {
    # The test is the UCSPI server and plays its TLS: with popserver's there are
    # test_ucspi_tls for programs of others, test_warm_login and tests/faults for ours.
    "test_popup_tls",
    # They look at the processes of one popup: tests/faults at those of popserver.
    "test_popup_split",
    "test_memory",
    # It is the server that makes the connection; a log on it can't be.
    "test_a_log_on_the_client_s_connection_is_none",
    # Its own descriptor 2 is the only witness: test_warm_login has a log that is shut.
    "test_a_descriptor_that_is_not_there",
    # Found out before the first client comes: test_warm_login, words that are wrong.
    "test_a_missing_program_is_no_wrong_password",
}

# Tests whose stand-in does what no link of ours does; test_own_chain and
# test_warm_login ask the same of a warm chain.
NOT_WARM = {
    # Its words are links of ours: under "popserver" that is the warm chain.
    "test_own_chain",
    # It tells what it has inherited, or answers in its own way.
    "test_the_next_program_serves",
    "test_what_the_next_program_inherits",
    "test_the_interpreter_leaves_no_trace_in_the_environment",
    "test_language_and_utf8_are_handed_on",
    "test_an_execd_program_has_the_default_signals",
    "test_pipelined_commands_reach_the_next_program",
    "test_a_hostile_name_is_escaped_in_the_log",
    "test_apop",
    "test_sasl",
    # It plays with notes, exit codes, signals and descriptors.
    "test_a_program_that_reads_on_and_refuses_takes_nothing_from_the_reply",
    "test_accept_is_logged_when_it_happens",
    "test_one_let_in_that_fails_before_it_speaks_gets_one_reply",
    "test_sigterm_is_an_end_for_the_log",
    "test_a_script_without_an_interpreter_is_the_shells",
    "test_one_that_has_greeted_speaks_for_itself",
    "test_the_greeting_note_alone_is_an_accept",
    "test_a_daemon_left_behind_does_not_hold_popup",
    "test_a_log_that_nobody_reads_any_more_costs_nobody_his_mail",
    "test_an_open_descriptor_3_is_replaced",
    "test_stderr_of_the_chain_stays_off_the_network",
    "test_killing_the_child_is_no_accept",
    "test_p1_what_is_pipelined_behind_pass_is_not_lost",
    "test_p6_a_crash_is_no_accept",
    "test_p12_a_warning_of_the_checker_stays_off_the_network",
    "test_p16_a_login_is_logged_when_it_happens",
    "test_p17_attempts_have_a_limit_and_a_delay",
    "test_verdicts_but_for_the_response_code",
    "test_s_qmail_s_log_line",
    "test_our_popup_before_foreign_programs",
    "test_a_foreign_refusal_and_a_second_try",
}

# Modules whose pop3d is alone on its descriptors: each test is put to a session behind
# popserver, too, but for these.
SESSIONS = ("test_pop3d", "test_pop3d_faults", "test_do_not_copy_d")
NOT_A_SESSION = {
    # They make the descriptors themselves, or limit what a process may have.
    "test_poplib_gets_the_corpus",
    "test_one_write_a_reply_and_one_for_a_pipelined_batch",
    "test_pipes_do_as_well_as_sockets",
    "test_huge_messages_take_no_memory",
    "test_the_client_vanishes_in_retr",
    "test_a_full_disk_behind_the_output",
    "test_many_pipelined_commands_take_no_memory",
    "test_no_descriptor_left_for_the_maildir_is_temporary",
    # They run pop3d inside another program.
    "test_nothing_is_served_as_root",
    "test_behind_a_login_there_is_no_other",
    "test_popup_learns_that_the_session_has_begun",
    "test_kill_behind_a_step_of_quit",
    # They start a server for each of many sessions; tests/faults kills as many in one.
    "test_kill_at_any_time_loses_nothing",
    "test_deliveries_go_on_while_sessions_fetch_and_delete",
    "test_d17_many_sessions_remove_each_message_once",
    # Which messages these are is the maildrop's business, and takes seconds.
    "test_a_message_that_changes_while_it_is_sent",
    # A service manager's SIGTERM to everybody is for the master alone to heed.
    "test_sigterm_commits_nothing",
    # Their environment is popup's or checkpw's to make.
    "test_which_maildir_is_served",
    "test_what_popup_hands_over",
    "test_the_session_as_mdpop3d_has_it",
    # They fail before the greeting, where popup would speak: see test_warm_login.
    "test_a_failure_before_the_greeting_is_silent",
    "test_an_unreadable_maildir_is_silent",
    "test_mdpop3d_speaks_for_itself_where_nobody_else_would",
    "test_d14_a_failure_can_be_told_by_the_exit_code",
    "test_help_and_version",
}

# Where the client is, by the word of a proxy: what PEER tells popup.
HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 110\r\n"
CONNECTION = {
    "PROTO": "TCP",
    "TCPREMOTEIP": PEER["TCPREMOTEIP"],
    "TCP6REMOTEIP": f"::ffff:{PEER['TCPREMOTEIP']}",
    "TCPREMOTEPORT": "4711",
    "TCP6REMOTEPORT": "4711",
    "TCPLOCALIP": "192.0.2.1",
    "TCP6LOCALIP": "::ffff:192.0.2.1",
    "TCPLOCALPORT": PEER["TCPLOCALPORT"],
    "TCP6LOCALPORT": PEER["TCPLOCALPORT"],
    "TCPLOCALHOST": "0",
    "TCP6LOCALHOST": "0",
}

CONNECTED = re.compile(r"Info::CONNECT::None \S+ \S+ \?~ ''")
# What popserver says of a session behind popup's words.
COUNTS = re.compile(
    r" end=[a-z-]+ retrieved=\d+ octets=(\d+|-) deleted=\d+ left=\d+"
    r" left-octets=(\d+|-)( signal=\d+)?(?=$| )"
)
STATUS = re.compile(r"popserver: end \d+ status (\d+)\n")
# tcpserver's lines about what goes well (-v), and what is said once without root.
ORDINARY = re.compile(r"popserver: (status:|pid|ok|end|not root:) .*\n")


class Served(Popup):
    """A popserver with one client, in the place of one popup."""

    def __init__(
        self, server: Server, environ: dict[str, str], *, is_warm: bool, has_log: bool
    ) -> None:
        """Connect; environ: what popup must find. has_log: the log comes to us."""
        with server.connect() as held:
            held.setblocking(True)
            descriptor = os.dup(held.fileno())
        Client.__init__(self, descriptor, os.dup(descriptor))
        self.server = server
        self.environ = environ
        self._is_warm = is_warm
        self._has_log = has_log
        self._read = 0  # how much of the log was asked for
        self.send(HEADER)

    @property
    def pid(self) -> int:  # type: ignore[override]  # popup has it from the start
        """The process that has taken popup's place for this client."""
        if self._is_warm:
            found = self.server.log.until(r"popup: pid (\d+) Info::CONNECT")
        else:
            found = self.server.errors.until(r"popserver: pid (\d+) from 192\.0\.2\.7")
        return int(found[1])

    def code(self) -> int:
        """Wait for the end; give the exit code, by popserver's word or the log's.

        Where both are silent, it is enough that popserver leaves with this one.
        """
        witnesses = [(self.server.errors, STATUS)]
        if self._has_log:
            witnesses.append((self.server.log, END))
        elif self._is_warm:
            return self.server.stop()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for stream, pattern in witnesses:
                stream.look()
                if found := pattern.search(stream.text):
                    word = int(found[1])
                    is_status = pattern is STATUS
                    return os.waitstatus_to_exitcode(word) if is_status else word
            select.select([each.descriptor for each, _ in witnesses], [], [], 1.0)
        raise TimeoutError(self.server.errors.text, self.server.log.text)

    def is_running(self) -> bool:
        """Tell whether it has not ended yet."""
        self.server.log.look()
        return END.search(self.server.log.text) is None

    def errors(self) -> str:
        """Give what was complained of, after the end."""
        assert self.server.stop() == 0
        return ORDINARY.sub("", self.server.errors.all())

    def log(self) -> list[str]:
        """Give the lines that were not given before, after the end; pids as N."""
        assert self.server.stop() == 0
        self.server.log.all()
        self._check_writer()
        lines = []
        while (end := self.server.log.text.find("\n", self._read)) >= 0:
            line = _plain(self.server.log.text[self._read : end])
            self._read = end + 1
            lines += [line] if line else []
        return lines

    def _check_writer(self) -> None:
        """See that one process has written the log: popup, or one for everybody."""
        text = self.server.log.text
        found = set(re.findall(r"^popup: pid (\d+) ", text, re.MULTILINE))
        assert found == ({str(self.pid)} if text else set()), text

    def log_line(self) -> str:
        """Wait for one line of the log."""
        while True:
            found = self.server.log.until(r".*\n", self._read)
            self._read = found.end()
            if line := _plain(found[0].rstrip("\n")):
                return line

    def close(self) -> None:
        """Let go of everything."""
        self.hang_up()
        self.server.close()


def _plain(line: str) -> str:
    """Give a line of the log as popup has it; empty for one that popup has not."""
    program, _, text = line.partition(" pid ")
    assert program == "popup:", line
    _, _, text = text.partition(" ")
    if CONNECTED.fullmatch(text):
        return ""
    text = COUNTS.sub("", text)
    return re.sub(r"seconds=[0-9]+", "seconds=N", text)


class House(popup.House):
    """Where popups are started, and popservers in their place."""

    def popup(
        self,
        *words: str,
        options: str = "-d0",
        dialogue: str = "no-split",
        wire: str | Wire = "unix",
        env: dict[str, str] | None = None,
        more: dict[int, int] | None = None,
    ) -> Popup:
        if dialogue not in SERVED:
            return super().popup(
                *words,
                options=options,
                dialogue=dialogue,
                wire=wire,
                env=env,
                more=more,
            )
        assert isinstance(wire, str), "popserver makes its own connections"
        chain = self._links_of_ours(words) if dialogue == "warm" else [*words]
        return self._serve([*options.split(), HOSTNAME, *chain], env or {}, more)

    def _serve(
        self, words: list[str], env: dict[str, str], more: dict[int, int] | None
    ) -> Popup:
        """Start popserver; what of env tells of a connection is in its rules."""
        told = {name: v for name, v in {**PEER, **env}.items() if name[:3] in TELLING}
        told = {name: v for name, v in told.items() if CONNECTION.get(name) != v}
        rules = self.room / "rules.cdb"
        rules.write_bytes(cdb_of(told))
        mine = {name: v for name, v in env.items() if name[:3] not in TELLING}
        environ = self.tools.environment(**mine)
        argv = [self.tools.popserver, *OPTIONS, "-x", str(rules)]
        argv += ["--proxy-from", "127.0.0.1", "127.0.0.1", "0"]
        server = Server([*argv, self.tools.popup, *words], environ, more)
        self.running.append(server)  # type: ignore[arg-type]  # all it needs is close()
        assert server.port, server.errors.all()
        is_warm = {"checkpw", "pop3d"} < set(words) and "QTOOLS_EXEC" not in env
        served = Served(
            server,
            {**environ, **CONNECTION, **told},
            is_warm=is_warm,
            has_log=5 not in (more or {}),
        )
        self.running[-1] = served
        return served

    def _links_of_ours(self, words: tuple[str, ...]) -> list[str]:
        """Give a chain of ours that accepts or refuses as a stand-in does."""
        if words[:1] != (self.standin,):
            assert words[0] in ("/bin/false", "x"), f"not to be replaced: {words}"
            return [
                "checkpw",
                "--accounts",
                "authuser:/nonexistent",
                "pop3d",
                "Maildir",
            ]
        steps = words[2:]
        users = self.room / "nobody"
        users.write_text("")
        where = {(): users, ("exit:1",): users, ("exit:111",): "/nonexistent"}[steps]
        return ["checkpw", "--accounts", f"authuser:{where}", "pop3d", "Maildir"]


TELLING = ("PRO", "TCP", "SSL")  # how variables begin that a connection has


def cdb_of(variables: dict[str, str]) -> bytes:
    """Give the rules that let everybody in with these variables.

    tcprules(1) knows no way to write a newline.
    """
    data = "".join(f"+{name}={value}\0" for name, value in variables.items())
    return file_of([(b"", data.encode("latin-1"))])


class WarmPop3(Pop3):
    """A session behind popserver in the place of a pop3d."""

    def __init__(
        self, argv: list[str], folder: Path, env: dict[str, str] | None = None
    ) -> None:
        """Log in as one whose home is this folder; argv: pop3d's."""
        assert env is None, "the environment is what checkpw makes it"
        binaries = Path(argv[0]).parent
        with tempfile.NamedTemporaryFile("w", delete=False) as users:
            users.write("joe:secret\n" + checker.place("joe", folder))
        self._users = users.name
        chain = ["popup", HOSTNAME, "checkpw", "-a", f"authuser:{users.name}"]
        words = [*OPTIONS, "127.0.0.1", "0", *chain, "pop3d", *argv[1:]]
        path = {"PATH": f"{binaries}:/usr/bin:/bin"}
        self.server = Server([str(binaries / "popserver"), *words], path)
        assert self.server.port, self.server.errors.all()
        self.client = self.server.connect()
        self.said = self._unread = b""
        assert self.line() == b"+OK\r\n"
        assert self.ask(b"USER joe") == b"+OK \r\n"
        self.send(b"PASS secret\r\n")
        self.process = SessionProcess(self.server)  # type: ignore[assignment]  # almost

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()
        os.unlink(self._users)

    def end(self, *, shut: bool = True) -> Ended:
        if shut:
            self.client.shutdown(socket.SHUT_WR)
        rest = self._unread
        while part := self._receive():
            rest += part
        code = self.process.wait()
        assert self.server.stop() == 0
        return Ended(rest, code, ORDINARY.sub("", self.server.errors.all()))


def warm_talk(
    argv: list[str], folder: Path, said: bytes, env: dict[str, str] | None = None
) -> Ended:
    """Do as tests.pop3.talk() does, behind popserver."""
    with WarmPop3(argv, folder, env) as client:
        client.send(said)
        return client.end()


def dialogues(module: str, test: str) -> list[str]:
    """Give the ways to run the dialogue that a test of popup is put to."""
    ways = [*DIALOGUES]
    if not {module, test} & NOT_BEHIND_A_SERVER:
        ways.append("popserver")
        if not {module, test} & NOT_WARM:
            ways.append("warm")
    return ways


def can_be_warm(parameters: dict[str, object]) -> bool:
    """Tell whether a row of a test can be played by links of ours, if it has to be."""
    return parameters.get("dialogue") != "warm" or parameters.get("step", "") in ROWS


ROWS = ("", "exit:1")
