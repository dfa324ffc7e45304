# SPDX-License-Identifier: ISC
"""command:PROGRAM, any foreign checkpassword: what it becomes, and what it says.

The kernel is asked who a program became, since a user's own hand may be in what runs
as him.
"""

import os
import posix
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qtools.accounts.command import Command, Run, groups_of, identity, open_source
from qtools.accounts.interface import Identity
from qtools.accounts.verifier import Verifier
from qtools.errors import (
    EXIT_MISUSE,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    Hard,
    Misuse,
    Temporary,
)
from tests import support
from tests.chain.checker import own, run
from tests.chain.pamroom import script
from tests.conftest import PYTHON, Tools

# A checkpassword: what to do as the user before the next program, and what instead
CHECKER = """\
#!{python} -IS
import os, sys
record = b""
while part := os.read(3, 9999):
    record += part
os.close(3)
user, secret, challenge = record.split(b"\\0")[:3]
{before}
if os.geteuid() == 0:
    os.setgroups([54322, 54323])
    os.setgid(54322)
    os.setuid(54321)
{after}
os.execvp(sys.argv[1], sys.argv[1:])
"""
UID, GID = support.OWNER
JOE = b"joe\0secret\0<1.2@h>\0"


@pytest.fixture
def checker(room: Path) -> Callable[..., bytes]:
    """Give a maker of checkers."""

    def make(before: str = "pass", after: str = "pass") -> bytes:
        text = CHECKER.format(python=PYTHON, before=before, after=after)
        return bytes(script(room / "checker", text))

    return make


def ask(
    program: bytes, user: bytes = b"joe", secret: bytes = b"secret"
) -> tuple[int, Identity | None]:
    """Verify in a process of its own; what is to be ended is ended at once."""
    verifier = Verifier(
        lambda: Command(program, 5).verify(user, secret, b"<1.2@h>"),
        ["try"],
        is_verbose=True,
    )
    return verifier.wait()


def test_who_a_program_becomes(checker: Callable[..., bytes], room: Path) -> None:
    home = own(room / "home")
    program = checker(
        after=f"os.chdir({str(home)!r})\n"
        "os.environ.update(USER='joey', HOME='/', SHELL='/bin/rc', MAILDIR='Mail')"
    )
    code, who = ask(program)
    assert code == 0
    assert who is not None
    assert (who.name, who.uid, who.gid) == (b"joey", UID, GID)
    if support.IS_ROOT:
        assert sorted(who.groups) == [54322, 54323]
    assert (who.home, who.shell) == (bytes(home), b"/bin/rc")
    assert who.maildir == bytes(home / "Mail")


def test_the_record_is_that_of_the_interface(
    checker: Callable[..., bytes], room: Path
) -> None:
    seen = room / "seen"
    words = "repr(record) + repr(os.environb.get(b'POP3METHOD'))"
    program = checker(before=f"open({str(seen)!r}, 'w').write({words})")
    assert ask(program)[0] == 0
    assert seen.read_text() == repr(JOE) + "None"


def test_the_environment_is_not_that_of_somebody_else(
    checker: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (b"MAILDIR", b"POP3MAILDIR", b"QTOOLS_VERDICT", b"QTOOLS_DIALOGUE"):
        monkeypatch.setitem(posix.environ, name, b"12")
    names = "MAILDIR", "POP3MAILDIR", "QTOOLS_VERDICT", "QTOOLS_DIALOGUE"
    program = checker(before=f"assert not set({names!r}) & set(os.environ), 'one'")
    code, who = ask(program)
    assert code == 0
    assert who is not None
    assert who.maildir == b""


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ("sys.exit(1)", EXIT_REFUSED),
        ("sys.exit(2)", EXIT_MISUSE),
        ("sys.exit(111)", EXIT_TEMPORARY),
        ("sys.exit(3)", EXIT_TEMPORARY),
        ("sys.exit(100)", EXIT_TEMPORARY),
        ("sys.exit(0)", EXIT_TEMPORARY),
        ("os.kill(os.getpid(), 9)", EXIT_TEMPORARY),
        ("os.kill(os.getpid(), 15)", EXIT_TEMPORARY),
        ("os.execvp('true', ['true'])", EXIT_TEMPORARY),
    ],
)
def test_what_an_exit_code_means(
    checker: Callable[..., bytes], before: str, code: int
) -> None:
    assert ask(checker(before=before)) == (code, None)


@pytest.mark.parametrize("program", [b"/no/such/program", b"/etc/passwd", b"/"])
def test_a_program_that_can_not_be_run_is_temporary(program: bytes) -> None:
    assert ask(program) == (EXIT_TEMPORARY, None)


def test_a_program_that_hangs_is_killed(
    checker: Callable[..., bytes], room: Path
) -> None:
    pids = room / "pid"
    program = checker(
        before=f"open({str(pids)!r}, 'w').write(str(os.getpid()))\n"
        "import signal\nsignal.pause()"
    )

    def check() -> Identity:
        return Command(program, 0.5).verify(b"joe", b"secret", b"")

    assert Verifier(check, ["try"], is_verbose=True).wait() == (EXIT_TEMPORARY, None)
    assert not Path(f"/proc/{pids.read_text()}").exists()


def test_a_program_can_not_say_who_it_is(checker: Callable[..., bytes]) -> None:
    """Root's ids in a report: what sends it is the user, and the kernel says so."""
    support.need_root()
    program = checker(
        after="os.write(int(sys.argv[-1]), b'/\\0root\\0/bin/sh\\0/var/mail/root')\n"
        "os.read(int(sys.argv[-1]), 1)"
    )
    code, who = ask(program)
    assert code == 0
    assert who is not None
    assert (who.name, who.uid, who.gid) == (b"root", UID, GID)


@pytest.mark.parametrize(
    "report", ["b''", "b'x' * 5000", "b'relative'", "b'/' + b'y' * 4095"]
)
def test_a_report_that_is_none_lets_nobody_in(
    checker: Callable[..., bytes], report: str
) -> None:
    program = checker(
        after=f"os.write(int(sys.argv[-1]), {report})\nos.read(int(sys.argv[-1]), 1)"
    )
    assert ask(program) == (EXIT_TEMPORARY, None)


@pytest.mark.parametrize(
    ("wait", "why"),
    [
        ("os.waitpid(child, 0)", "unable to look"),
        ("os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)", "not all one user"),
    ],
)
def test_a_report_of_somebody_who_has_gone_lets_nobody_in(
    checker: Callable[..., bytes], room: Path, wait: str, why: str
) -> None:
    """His pid may be another's by now, or is nobody's who could be looked at."""
    os.mkfifo(room / "gone")
    program = checker(
        before=f"gone = os.open({str(room / 'gone')!r}, os.O_WRONLY)",
        after="child = os.fork()\n"
        "if child == 0:\n"
        "    os.write(int(sys.argv[-1]), b'/\\0joe\\0\\0')\n"
        "    os._exit(0)\n"
        f"{wait}\n"
        "os.close(gone)\n"
        "os.read(int(sys.argv[-1]), 1)",
    )
    run = Run(program, JOE)
    (room / "gone").read_bytes()
    report, sender = run.report(5)
    assert sender is not None
    with pytest.raises(Temporary, match=why):
        identity(b"joe", report, *sender)
    run.end()


def test_only_a_process_that_is_all_one_user_is_believed() -> None:
    pid = os.getpid()
    uid, gid = os.getuid(), os.getgid()
    assert set(groups_of(pid, uid, gid)) == set(os.getgroups())
    for wrong in ((uid + 1, gid), (uid, gid + 1)):
        with pytest.raises(Temporary, match="not all one user"):
            groups_of(pid, *wrong)
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(Temporary, match="unable to look"):
        groups_of(gone.pid, uid, gid)


def test_what_a_report_leaves_out_is_left_out() -> None:
    ids = os.getpid(), os.getuid(), os.getgid()
    who = identity(b"ann", b"/home", *ids)
    assert (who.name, who.home, who.shell, who.maildir) == (b"ann", b"/home", b"", b"")
    who = identity(b"ann", b"/\0\0\0M", *ids)
    assert who.maildir == b"/M"
    assert identity(b"ann", b"/h\0\0\0/M", *ids).maildir == b"/M"


WAITS = """\
child = os.fork()
if child:
    code = os.waitpid(child, 0)[1]
    open({log!r}, "a").write("closed")
    os._exit(0)
"""


def test_a_program_that_waits_has_something_to_wait_for(
    checker: Callable[..., bytes], room: Path
) -> None:
    """As checkpassword-pam does, to close its session."""
    log = room / "log"
    program = checker(before=WAITS.format(log=str(log)))

    def check() -> Identity:
        return Command(program).verify(b"joe", b"secret", b"")

    verifier = Verifier(check, ["try"], is_verbose=True)
    code, who = verifier.wait()
    assert code == 0
    assert who is not None
    assert who.uid == UID
    assert not log.exists()
    verifier.release()
    assert os.waitpid(verifier._pid, 0)[1] == 0
    assert log.read_text() == "closed"


def test_a_program_that_leaves_its_user_nowhere_is_temporary(
    checker: Callable[..., bytes], room: Path
) -> None:
    gone = own(room / "gone")
    program = checker(after=f"os.chdir({str(gone)!r})\nos.rmdir({str(gone)!r})")
    room.chmod(0o777)
    assert ask(program) == (EXIT_TEMPORARY, None)


@pytest.mark.parametrize("where", [b"", b"true", b"./checker"])
def test_a_program_is_named_by_its_whole_path(where: bytes) -> None:
    with pytest.raises(Hard, match="absolute"):
        open_source(where)


def test_checkpw_becomes_whom_the_program_became(
    tools: Tools, checker: Callable[..., bytes], room: Path
) -> None:
    home = own(room / "home")
    program = checker(
        before="secret == b'secret' or sys.exit(1)",
        after=f"os.chdir({str(home)!r})\nos.environ['USER'] = 'joey'",
    )
    words = ("-a", f"command:{os.fsdecode(program)}")
    told = run(tools, JOE, *words).told
    assert told
    assert (told.uid, told.gid, told.place) == (UID, GID, str(home))
    assert (told.user, told.home, told.maildir) == ("joey", str(home), "")
    assert told.descriptors == "012"
    assert run(tools, b"joe\0wrong\0\0", *words).code == 1


def test_a_token_reaches_the_program_and_nobody_else(
    tools: Tools, checker: Callable[..., bytes], room: Path
) -> None:
    seen = room / "seen"
    program = checker(
        before=f"open({str(seen)!r}, 'wb').write(os.environb[b'POP3METHOD'] + secret)"
    )
    token = b"t" * 3900
    record = b"joe\0" + token + b"\0\0"
    accounts = room / "users"
    accounts.write_bytes(b"joe:" + token + b"\n")
    words = ("-a", f"authuser:{accounts} command:{os.fsdecode(program)}")
    outcome = run(tools, record, *words, POP3METHOD="Xoauth2")
    assert outcome.told
    assert seen.read_bytes() == b"Xoauth2" + token
    words = ("-a", f"authuser:{accounts}")
    assert run(tools, record, *words, POP3METHOD="Xoauth2").code == EXIT_REFUSED


def test_the_program_is_not_the_clients(
    tools: Tools, checker: Callable[..., bytes]
) -> None:
    program = checker(before="print('hello'); sys.stdin.read()")
    words = (tools.checkpw, "-a", f"command:{os.fsdecode(program)}", "true")
    made = subprocess.run(
        ["sh", "-c", 'exec "$@" 3<&0', "sh", *words],
        input=JOE,
        env=tools.environment(),
        capture_output=True,
        check=False,
        timeout=support.PATIENCE_SECONDS,
    )
    assert (made.returncode, made.stdout) == (0, b"")


def test_kinds_of_failure_are_those_of_a_checker() -> None:
    failure = Command(b"/c")._failure
    assert isinstance(failure(EXIT_MISUSE), Misuse)
    assert isinstance(failure(-signal.SIGSEGV), Temporary)
    assert "-11" in str(failure(-signal.SIGSEGV))
    assert Command(b"/c").decoy() == b""
