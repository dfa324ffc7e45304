# SPDX-License-Identifier: ISC
"""SCRAM through a cold chain: popup, its office, checkpw and an account database.

The client is one of the standard library's, and says the wrong things, too. What other
people's clients do is in tests/interop/test_scram_clients.py.
"""

import os
import signal
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qtools.chain import split
from qtools.chain.office import Office
from qtools.chain.request import RESPOND, VERIFY, WITHDRAW, Request
from qtools.chain.split import LOST, Window
from qtools.sessions.policy import Policy
from tests.chain.popup import DIALOGUES, House, Popup
from tests.conftest import Tools
from tests.scram import ScramClient
from tests.support import OWNER, need_root, wait_for

BINDING = bytes(range(32))
IN_TLS = {
    "SSL_PROTOCOL": "TLSv1.3",
    "SSL_SERVER_END_POINT": BINDING.hex(),
    "POP3SASL": "scram-sha-256-plus,scram-sha-256",
}
BOUND = b"p=tls-server-end-point,,"
SOURCE = "P:POP3 S:192.0.2.7:c.example"
REFUSED = b"-ERR [AUTH] authorization failed\r\n"
OPTIONS = "-d0 -m scram-sha-256"

both = pytest.mark.parametrize("dialogue", DIALOGUES)


class Chain(House):
    """A House with accounts in a database."""

    def __init__(self, tools: Tools, room: Path) -> None:
        super().__init__(tools, room)
        self.database = room / "accounts"
        self.first = ""  # a source before the database
        self.popaccount("init")
        (room / "home" / "Maildir").mkdir(parents=True)
        for folder in ("", "Maildir"):
            os.chown(room / "home" / folder, *OWNER)
        for folder in ("tmp", "new", "cur"):
            (room / "home/Maildir" / folder).mkdir()
            os.chown(room / "home/Maildir" / folder, *OWNER)
        for user in ("joe", "ann", "nobody"):
            uid, gid = map(str, OWNER)
            who = ("--home", str(room / "home"), "--uid", uid, "--gid", gid)
            self.popaccount("add", user, "--stdin", "--hash", "md5", *who)

    def popaccount(self, *words: str) -> None:
        """Change the accounts; a new password is always the same."""
        argv = [self.tools.popaccount, "--db", str(self.database), *words]
        subprocess.run(argv, input=b"secret\n", check=True)

    @property
    def checkpw(self) -> list[str]:
        """The middle link."""
        return ["checkpw", "--accounts", f"{self.first} db:{self.database}"]

    def start(
        self,
        *behind: str,
        dialogue: str = "no-split",
        options: str = OPTIONS,
        wire: str = "unix",
        env: dict[str, str] | None = None,
    ) -> Popup:
        """Start the chain; behind: the last link."""
        words = [*self.checkpw, *(behind or ("pop3d", "Maildir"))]
        popup = self.popup(
            *words, options=options, dialogue=dialogue, wire=wire, env=env
        )
        assert popup.reply().startswith(b"+OK")
        return popup


@pytest.fixture
def chain(tools: Tools, room: Path) -> Iterator[Chain]:
    made = Chain(tools, room)
    yield made
    made.close()


def challenge(popup: Popup, line: bytes) -> bytes:
    """Send a line and give the challenge that answers it."""
    return read_challenge(popup.ask(line))


def read_challenge(reply: bytes) -> bytes:
    assert reply.startswith(b"+ "), reply
    return b64decode(reply[2:-2], validate=True)


def begin(popup: Popup, client: ScramClient, name: bytes = b"SCRAM-SHA-256") -> bytes:
    return challenge(popup, b"AUTH " + name + b" " + b64encode(client.first()))


def log_in(popup: Popup, client: ScramClient, name: bytes = b"SCRAM-SHA-256") -> bytes:
    """Go through the whole exchange; give the last reply."""
    final = client.final(begin(popup, client, name))
    assert challenge(popup, b64encode(final)) == client.expected
    return popup.ask(b"")


@both
@pytest.mark.parametrize("wire", ["unix", "tcp", "pipe"])
@pytest.mark.parametrize("way", ["called", "exec'd"])
def test_a_session(chain: Chain, dialogue: str, wire: str, way: str) -> None:
    env = {"QTOOLS_EXEC": "1"} if way == "exec'd" else {}
    popup = chain.start(dialogue=dialogue, wire=wire, env=env)
    assert log_in(popup, ScramClient(b"joe", b"secret")).startswith(b"+OK")
    assert popup.ask(b"STAT") == b"+OK 0 0\r\n"
    assert popup.ask(b"QUIT").startswith(b"+OK")
    assert popup.rest() == b""
    assert popup.code() == 0
    accepted, ended = popup.log()
    assert accepted.startswith(f"Accept::AUTH::Scram-Sha-256 {SOURCE} ?~ 'joe'")
    assert ended.startswith(f"Info::END::Scram-Sha-256 {SOURCE} ?~ 'joe' why=served")
    assert popup.errors() == ""


@both
def test_without_an_initial_response(chain: Chain, dialogue: str) -> None:
    popup = chain.start(dialogue=dialogue)
    client = ScramClient(b"joe", b"secret")
    assert challenge(popup, b"AUTH SCRAM-SHA-256") == b""
    final = client.final(challenge(popup, b64encode(client.first())))
    assert challenge(popup, b64encode(final)) == client.expected
    assert popup.ask(b"").startswith(b"+OK")


@both
def test_what_is_pipelined_is_not_lost(chain: Chain, dialogue: str) -> None:
    """Whatever comes behind a line waits for whoever is to read it."""
    popup = chain.start(dialogue=dialogue)
    client = ScramClient(b"joe", b"secret")
    popup.send(
        b"CAPA\r\nNOOP\r\nAUTH SCRAM-SHA-256 " + b64encode(client.first()) + b"\r\n"
    )
    assert b"SASL SCRAM-SHA-256" in popup.listing()
    assert popup.reply() == b"+OK \r\n"
    final = client.final(read_challenge(popup.reply()))
    popup.send(b64encode(final) + b"\r\n\r\nSTAT\r\nNOOP\r\nQUIT\r\n")
    assert read_challenge(popup.reply()) == client.expected
    assert [reply[:3] for reply in popup.replies(4)] == [b"+OK"] * 4
    assert popup.rest() == b""


@both
@pytest.mark.parametrize("user", [b"joe", b"stranger", b"JOE\xff", b"j" * 60])
def test_a_refusal(chain: Chain, dialogue: str, user: bytes) -> None:
    popup = chain.start(dialogue=dialogue, options="-d0 -a2 -m scram-sha-256")
    for _ in range(2):
        client = ScramClient(user, b"wrong")
        final = client.final(begin(popup, client))
        assert popup.ask(b64encode(final)) == REFUSED
    assert popup.rest() == b""
    assert popup.code() == 1
    assert [line.split()[0] for line in popup.log()] == [
        *["Reject::AUTH::Scram-Sha-256"] * 2,
        "Info::END::Scram-Sha-256",
    ]
    assert popup.errors() == ""


@both
def test_a_user_of_the_system_is_not_the_database_s(
    chain: Chain, dialogue: str
) -> None:
    """Where that is asked first; he is locked there, and so he is by any way."""
    popup = chain.start(dialogue=dialogue)
    assert log_in(popup, ScramClient(b"nobody", b"secret")).startswith(b"+OK")
    chain.first = "system"
    popup = chain.start(dialogue=dialogue)
    client = ScramClient(b"nobody", b"secret")
    assert popup.ask(b64encode(client.final(begin(popup, client)))) == REFUSED
    assert log_in(popup, ScramClient(b"joe", b"secret")).startswith(b"+OK")


def test_after_a_refusal_the_next_one_comes_in(chain: Chain) -> None:
    popup = chain.start(options="-d0 -m scram-sha-256,plain")
    client = ScramClient(b"joe", b"wrong")
    assert popup.ask(b64encode(client.final(begin(popup, client)))) == REFUSED
    assert popup.ask(b"AUTH PLAIN " + b64encode(b"\0joe\0wrong")) == REFUSED
    assert log_in(popup, ScramClient(b"ann", b"secret")).startswith(b"+OK")


def test_a_stranger_sees_the_same_salt_each_time(chain: Chain) -> None:
    salts = []
    for user in (b"zoe", b"zoe", b"zof", b"joe", b"joe"):
        first = begin(chain.start(), ScramClient(user, b""))
        salts.append(first.split(b",", 1)[1])
    assert salts[0] == salts[1] != salts[2]
    assert salts[3] == salts[4]
    assert len({len(salt) for salt in salts}) == 1
    assert len({salt.split(b",i=")[1] for salt in salts}) == 1


@both
def test_what_was_heard_before_is_refused(chain: Chain, dialogue: str) -> None:
    client = ScramClient(b"joe", b"secret")
    final = b64encode(client.final(begin(one := chain.start(), client)))
    assert challenge(one, final) == client.expected
    other = chain.start(dialogue=dialogue)
    begin(other, client)
    assert other.ask(final) == REFUSED


@pytest.mark.parametrize("name", [b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS"])
@pytest.mark.parametrize("place", range(0, 110, 9))
def test_an_altered_message_is_refused(chain: Chain, name: bytes, place: int) -> None:
    is_bound = name.endswith(b"PLUS")
    header, binding = (BOUND, BINDING) if is_bound else (b"n,,", b"")
    client = ScramClient(b"joe", b"secret", header, binding)
    popup = chain.start(env=IN_TLS, options="-d0")
    final = bytearray(client.final(begin(popup, client, name)))
    final[place % len(final)] ^= 1
    assert popup.ask(b64encode(bytes(final))) == REFUSED


@both
def test_a_login_bound_to_its_channel(chain: Chain, dialogue: str) -> None:
    popup = chain.start(dialogue=dialogue, env=IN_TLS, options="-d0")
    popup.send(b"CAPA\r\n")
    assert b"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256" in popup.listing()
    stolen = ScramClient(b"joe", b"secret", BOUND, BINDING[::-1])
    final = stolen.final(begin(popup, stolen, b"SCRAM-SHA-256-PLUS"))
    assert popup.ask(b64encode(final)) == REFUSED
    deceived = ScramClient(b"joe", b"secret", b"y,,")
    first = b64encode(deceived.first())
    assert popup.ask(b"AUTH SCRAM-SHA-256 " + first) == REFUSED
    client = ScramClient(b"joe", b"secret", BOUND, BINDING)
    assert log_in(popup, client, b"SCRAM-SHA-256-PLUS").startswith(b"+OK")


@pytest.mark.parametrize("end_point", ["", "0", "xx", "00" * 65])
def test_without_an_end_point_there_is_no_binding(chain: Chain, end_point: str) -> None:
    env = {**IN_TLS, "SSL_SERVER_END_POINT": end_point}
    popup = chain.start(env=env, options="-d0")
    popup.send(b"CAPA\r\n")
    assert b"SASL SCRAM-SHA-256" in popup.listing()
    client = ScramClient(b"joe", b"secret", BOUND, bytes.fromhex("00" * 65))
    first = b64encode(client.first())
    assert popup.ask(b"AUTH SCRAM-SHA-256-PLUS " + first).startswith(b"-ERR")
    assert log_in(popup, ScramClient(b"joe", b"secret", b"y,,")).startswith(b"+OK")


def test_an_end_point_without_tls_is_somebody_else_s(chain: Chain) -> None:
    env = {**IN_TLS, "SSL_PROTOCOL": ""}
    popup = chain.start(env=env, options="-d0")
    popup.send(b"CAPA\r\n")
    assert b"SASL SCRAM-SHA-256" in popup.listing()


@both
@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"*", b"-ERR authentication cancelled\r\n"),
        (b"junk!", b"-ERR syntax error\r\n"),
        (b"A" * 20000, b"-ERR syntax error\r\n"),
        (b64encode(b"x" * 2049), b"-ERR syntax error\r\n"),
        (b64encode(b"x" * 2048), REFUSED),
        (b"", REFUSED),
    ],
)
def test_what_is_no_answer(
    chain: Chain, dialogue: str, line: bytes, reply: bytes
) -> None:
    popup = chain.start(dialogue=dialogue)
    begin(popup, ScramClient(b"joe", b"secret"))
    assert popup.ask(line) == reply
    own = {"split": 2, "no-split": 1}[dialogue]
    assert wait_for(lambda: len(processes_of(chain)) == own)
    assert log_in(popup, ScramClient(b"joe", b"secret")).startswith(b"+OK")


@both
def test_more_than_nothing_behind_the_last_message(chain: Chain, dialogue: str) -> None:
    popup = chain.start(dialogue=dialogue)
    client = ScramClient(b"joe", b"secret")
    final = client.final(begin(popup, client))
    assert challenge(popup, b64encode(final)) == client.expected
    assert popup.ask(b64encode(b"x")) == REFUSED


def processes_of(chain: Chain) -> list[str]:
    """Give the processes that have our database in their words."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if str(chain.database).encode() in words and int(name) != os.getpid():
            found.append(name)
    return found


@both
@pytest.mark.parametrize("end", ["hangs up", "is silent", "SIGTERM"])
def test_a_client_that_leaves_in_the_middle(
    chain: Chain, dialogue: str, end: str
) -> None:
    """Nobody is left waiting for it."""
    popup = chain.start(dialogue=dialogue, options="-d0 -t1 -m scram-sha-256")
    begin(popup, ScramClient(b"joe", b"secret"))
    if end == "hangs up":
        popup.hang_up()
    elif end == "SIGTERM":
        os.kill(popup.pid, signal.SIGTERM)
    assert popup.code() == 111
    assert wait_for(lambda: not processes_of(chain))
    why = {"hangs up": "eof", "is silent": "timeout", "SIGTERM": "terminated"}[end]
    assert f"why={why} " in popup.log()[-1]


@both
def test_popup_s_end_is_the_verifier_s(chain: Chain, dialogue: str) -> None:
    popup = chain.start(dialogue=dialogue)
    begin(popup, ScramClient(b"joe", b"secret"))
    os.kill(popup.pid, signal.SIGKILL)
    assert wait_for(lambda: not processes_of(chain))


@both
def test_the_session_has_nothing_of_the_dialogue(chain: Chain, dialogue: str) -> None:
    tell = 'echo "+OK [$QTOOLS_DIALOGUE] $POP3METHOD"; ls -l /proc/$$/fd; echo .'
    popup = chain.start("sh", "-c", tell, dialogue=dialogue, wire="pipe")
    client = ScramClient(b"joe", b"secret")
    final = client.final(begin(popup, client))
    challenge(popup, b64encode(final))
    popup.send(b"\r\n")
    assert popup.reply() == b"+OK [] Scram-Sha-256\n"
    lines = popup.rest().splitlines()
    assert len(lines) > 4
    assert not any(b"socket:" in line for line in lines)


# A checker of others -----------------------------------------------------------


@both
def test_one_that_knows_nothing_of_it_sees_a_wrong_password(
    chain: Chain, dialogue: str
) -> None:
    popup = chain.popup(*chain.play("exit:1"), options=OPTIONS, dialogue=dialogue)
    popup.reply()
    client = ScramClient(b"joe", b"secret")
    assert popup.ask(b"AUTH SCRAM-SHA-256 " + b64encode(client.first())) == REFUSED
    user, message, stamp, rest = chain.told()["record"].split("\0")
    assert (user, message.encode(), rest) == ("joe", client.first(), "")
    assert stamp.startswith("<")


@both
def test_one_that_knows_it(chain: Chain, dialogue: str) -> None:
    """What qtools-chain(8) says is enough to write a checker by."""
    steps = (
        "challenge:hello",
        "expect:there",
        "challenge:v=",
        "expect:",
        "note:A",
        "echo",
    )
    popup = chain.popup(*chain.play(*steps), options=OPTIONS, dialogue=dialogue)
    popup.reply()
    client = ScramClient(b"joe", b"secret")
    assert begin(popup, client) == b"hello"
    number = chain.told()["environ"]["QTOOLS_DIALOGUE"]
    assert int(number) >= 10
    assert challenge(popup, b64encode(b"there")) == b"v="
    popup.send(b"\r\nSTAT\r\n")
    assert popup.reply() == b"+OK said STAT\r\n"


def test_one_that_is_asked_about_a_password_has_no_dialogue(chain: Chain) -> None:
    env = {"QTOOLS_DIALOGUE": "0"}  # nor one that somebody else has left behind
    popup = chain.popup(*chain.play("exit:1"), options="-d0", env=env)
    popup.reply()
    popup.send(b"USER joe\r\nPASS x\r\n")
    assert popup.replies(2)[1] == REFUSED
    assert "QTOOLS_DIALOGUE" not in chain.told()["environ"]


@both
@pytest.mark.parametrize("step", ["packet:0", "packet:2050", "packet:60000"])
def test_one_that_says_what_is_no_message(
    chain: Chain, dialogue: str, step: str
) -> None:
    """It is heard no more, and its exit decides; a packet of one letter is one, too."""
    popup = chain.popup(*chain.play(step, "exit:1"), options=OPTIONS, dialogue=dialogue)
    popup.reply()
    client = ScramClient(b"joe", b"secret")
    assert popup.ask(b"AUTH SCRAM-SHA-256 " + b64encode(client.first())) == REFUSED


@both
def test_one_that_has_no_end(chain: Chain, dialogue: str) -> None:
    steps = ["challenge:more"] * 9
    popup = chain.popup(*chain.play(*steps), options=OPTIONS, dialogue=dialogue)
    popup.reply()
    assert begin(popup, ScramClient(b"joe", b"x")) == b"more"
    for _ in range(3):
        assert challenge(popup, b64encode(b"more")) == b"more"
    assert popup.ask(b64encode(b"more")).startswith(b"-ERR")


def test_checkpw_without_a_dialogue_refuses(chain: Chain) -> None:
    """Under a popup of others a message of SCRAM is no password."""
    client = ScramClient(b"joe", b"secret")
    record = b"joe\0" + client.first() + b"\0<1@mx>\0"
    for number in ("", "0", "3", "99", "-1", "9" * 5000):
        env = {"POP3METHOD": "Scram-Sha-256", "QTOOLS_DIALOGUE": number}
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" 3<&0', "sh", *chain.checkpw, "true"],
            input=record,
            env=chain.tools.environment(**env),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, b"")


@both
@pytest.mark.parametrize(
    ("steps", "reply", "code"),
    [
        (("note:X", "exit:1"), b"-ERR [AUTH] password expired\r\n", "code=3"),
        (("exit:3",), b"-ERR [SYS/TEMP] aack, child crashed\r\n", "code=255"),
        (
            ("note:X", "exit:111"),
            b"-ERR [SYS/TEMP] temporary failure, try again later\r\n",
            "code=111",
        ),
    ],
)
def test_a_password_that_is_too_old(
    chain: Chain, dialogue: str, steps: tuple[str, ...], reply: bytes, code: str
) -> None:
    """Only a note of ours says so: a 3 of others can mean anything."""
    popup = chain.popup(*chain.play(*steps), options="-a1 -d0", dialogue=dialogue)
    popup.reply()
    popup.send(b"USER joe\r\nPASS x\r\n")
    assert popup.replies(2)[1] == reply
    assert popup.code() == 1
    assert popup.log()[0].endswith(code)


# Tokens ------------------------------------------------------------------------


@both
@pytest.mark.parametrize("octets", [10, 600, 4000])
def test_a_token_reaches_the_checker(chain: Chain, dialogue: str, octets: int) -> None:
    token = b"t" * octets
    options = "-d0 -m oauthbearer,xoauth2"
    popup = chain.popup(*chain.play("echo"), options=options, dialogue=dialogue)
    popup.reply()
    assert challenge(popup, b"AUTH XOAUTH2") == b""
    popup.send(b64encode(b"user=joe\1auth=Bearer " + token + b"\1\1") + b"\r\nhi\r\n")
    assert popup.reply() == b"+OK said hi\r\n"
    told = chain.told()
    assert told["record"].split("\0")[:2] == ["joe", token.decode()]
    assert told["environ"]["POP3METHOD"] == "Xoauth2"
    assert "QTOOLS_DIALOGUE" not in told["environ"]


@both
def test_a_database_takes_no_token(chain: Chain, dialogue: str) -> None:
    """Not even one that is somebody's password."""
    popup = chain.start(dialogue=dialogue, options="-d0 -m oauthbearer")
    answer = b64encode(b"n,a=joe,\1auth=Bearer secret\1\1")
    assert (
        challenge(popup, b"AUTH OAUTHBEARER " + answer) == b'{"status":"invalid_token"}'
    )
    assert popup.ask(b"AQ==") == REFUSED


# The privileged side alone, with a dialogue that has been taken over -------------


class Siege:
    """An office whose dialogue is the test's."""

    def __init__(self, chain: Chain, *steps: str) -> None:
        self.stamp = b"<1.2.abc@mx.example>"
        policy = Policy(mechanisms=(b"SCRAM-SHA-256",))
        words = chain.play(*steps)
        self.office = Office(words, policy, self.stamp, None, None)

    def ask(self) -> Request:
        """Give a request to verify."""
        record = b"joe\0n,,n=joe,r=x\0" + self.stamp + b"\0"
        return Request(VERIFY, mechanism="Scram-Sha-256", record=record)

    def run(self, hostile: Callable[[Window], bool]) -> tuple[int, str]:
        """Run the dialogue in the child; it never comes back into the test."""

        def converse(window: Window) -> tuple[int, str]:
            try:
                return (0, "quit") if hostile(window) else (1, "refused")
            except BaseException:  # noqa: BLE001  # the child must not run the tests
                os._exit(99)

        return split.run(self.office, None, lambda: None, converse, [])


ENDLESS = ("challenge:more",) * 20


@pytest.mark.parametrize("kind", [RESPOND, WITHDRAW])
def test_to_answer_nobody_ends_it_all(chain: Chain, kind: int) -> None:
    need_root()

    def hostile(window: Window) -> bool:
        window.send(Request(kind))
        return bool(window._channel.recv(1))

    assert Siege(chain).run(hostile) == (111, LOST)


def test_to_ask_while_a_verifier_waits_ends_it_all(chain: Chain) -> None:
    need_root()
    siege = Siege(chain, *ENDLESS)

    def hostile(window: Window) -> bool:
        assert window.verify(siege.ask()) == b"more"
        window.verify(siege.ask())
        return True

    assert siege.run(hostile) == (111, LOST)
    assert not siege.office.is_waiting


def test_no_more_answers_than_a_client_may_give(chain: Chain) -> None:
    need_root()
    siege = Siege(chain, *ENDLESS)

    def hostile(window: Window) -> bool:
        answers = [window.verify(siege.ask())]
        while isinstance(answers[-1], bytes):
            answers.append(window.respond(b"more"))
        return len(answers) == 5

    assert siege.run(hostile) == (0, "quit")


def test_no_more_dialogues_than_attempts(chain: Chain) -> None:
    need_root()
    siege = Siege(chain, *ENDLESS)

    def hostile(window: Window) -> bool:
        for _ in range(3):
            assert window.verify(siege.ask()) == b"more"
            window.withdraw()
        return [window.verify(siege.ask()) for _ in range(5)] == [1] * 5

    assert siege.run(hostile) == (0, "quit")
