# SPDX-License-Identifier: ISC
"""checkpw against the observed behaviour of checkpassword and qmail-authuser.

Every row of the two matrices that were seen with the originals; where ours differs on
purpose, the row says which and why.
"""

import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.system.ffi.crypt import Crypt
from tests import support
from tests.chain.checker import own, place, run, run_before, system_user
from tests.conftest import PYTHON, Tools

STAMP = b"<1.2@h>"
APOP = b"c348ebb16b71cc519fd7c6e61d63a669"
CRAM = b"63ba8d17b4d0e94c82d3f0557ed5f6b1"
MD5 = b"5ebe2294ecd0e0f08eab7690d2a6ee69"
SHA1 = b"e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4"
SHA256 = b"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"


def hashed(secret: bytes) -> str:
    stored = Crypt().hash(secret, b"$1$abcdefgh$")
    assert stored
    return stored.decode()


@pytest.fixture(scope="module")
def user(session_room: Path) -> Iterator[str]:
    """Give a system user whose password is "secret" and whose home is there."""
    home = own(session_room / "home")
    with system_user(home, hashed(b"secret")) as name:
        os.chown(home, pwd.getpwnam(name).pw_uid, -1)
        yield name


def record(user: str, secret: bytes, *more: bytes) -> bytes:
    return b"".join(part + b"\0" for part in (user.encode(), secret, *more))


def test_a_user_is_become_as_checkpassword_does(tools: Tools, user: str) -> None:
    account = pwd.getpwnam(user)
    outcome = run(
        tools,
        record(user, b"secret", STAMP),
        HOME="/root",
        SHELL="x",
        USER="root",
        MAILDIR="/leftover/Maildir",
    )
    assert outcome.code == 0
    assert outcome.errors == ""
    told = outcome.told
    assert told
    assert (told.uid, told.gid) == (account.pw_uid, account.pw_gid)
    assert told.groups == [account.pw_gid]
    assert told.place == told.home == account.pw_dir
    assert (told.user, told.shell) == (user, "/bin/sh")
    assert (told.maildir, told.logname, told.kept) == ("", "kept", "yes")
    assert told.descriptors == "012"


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (b"%s\0secret\0<1.2@h>\0", 0),
        (b"%s\0secret\0", 0),
        (b"%s\0secret\0<1.2@h>\0and more that is ignored", 0),
        (b"%s\0secret", 2),
        (b"%s\0", 2),
        (b"%s", 2),
        (b"%.0s", 2),
        (b"%s\0secre\0ts\0", 1),
        (b"%snobody\0secret\0ts\0", 1),
        (b"%s\0\0ts\0", 1),
        (b"%.0s\0secret\0ts\0", 1),
        (b"%.0s\0\0\0", 1),
        (b"\xff%s\0secret\0ts\0", 1),
    ],
)
def test_checkpasswords_matrix(tools: Tools, user: str, made: bytes, code: int) -> None:
    outcome = run(tools, made % user.encode())
    assert outcome.code == code
    assert (outcome.told is not None) == (code == 0)
    # what is refused is told to nobody: descriptor 2 may be the network
    assert (outcome.errors != "") == (code == 2)


@pytest.mark.parametrize(("octets", "code"), [(511, 0), (512, 0), (513, 1), (9999, 1)])
def test_512_octets_are_read(tools: Tools, user: str, octets: int, code: int) -> None:
    long = record(user, b"secret")
    assert run(tools, long.ljust(octets, b"x")).code == code


@pytest.mark.parametrize("lock", ["!", "*", "!!"])
def test_a_locked_account_is_refused(tools: Tools, room: Path, lock: str) -> None:
    with system_user(room, lock) as name:
        assert run(tools, record(name, b"secret")).code == 1
        assert run(tools, record(name, b"secret")).errors == ""


def test_a_locked_hash_is_refused(tools: Tools, room: Path) -> None:
    with system_user(room, "!" + hashed(b"secret")) as name:
        assert run(tools, record(name, b"secret")).code == 1


def test_an_empty_hash_lets_nobody_in(tools: Tools, room: Path) -> None:
    with system_user(room, "") as name:
        for secret in (b"", b"secret"):
            for options in ((), ("--allow-empty",)):
                assert run(tools, record(name, secret), *options).code == 1


def test_an_empty_password_has_to_be_allowed(tools: Tools, room: Path) -> None:
    room.chmod(0o777)
    with system_user(room, hashed(b"")) as name:
        assert run(tools, record(name, b"")).code == 1
        assert run(tools, record(name, b""), "--allow-empty").code == 0


@pytest.mark.parametrize(
    ("age", "why"),
    [
        (["-E", "1"], "account has expired"),
        (["-d", "0"], "has to be changed"),
        (["-d", "2000-01-01", "-M", "30"], "password expired"),
        (["-d", "2000-01-01", "-M", "30", "-I", "5"], "account is closed"),
    ],
)
def test_age_is_respected(tools: Tools, room: Path, age: list[str], why: str) -> None:
    with system_user(room, hashed(b"secret")) as name:
        subprocess.run([support.need("chage", "passwd"), *age, name], check=True)
        outcome = run(tools, record(name, b"secret"), "-v")
        assert outcome.code == 1
        assert why in outcome.errors
        # who doesn't know the password isn't told either
        outcome = run(tools, record(name, b"wrong"), "-v")
        assert outcome.code == 1
        assert "wrong password" in outcome.errors


def test_uid_0_has_to_be_allowed(tools: Tools, room: Path) -> None:
    with system_user(room, hashed(b"secret"), "-o", "-u", "0", "-N", "-g", "0") as name:
        outcome = run(tools, record(name, b"secret"))
        assert (outcome.code, outcome.told) == (1, None)
        outcome = run(tools, record(name, b"secret"), "--allow-root")
        assert outcome.told
        assert outcome.told.uid == 0


def test_a_missing_home_is_temporary(tools: Tools, room: Path) -> None:
    with system_user(room / "missing", hashed(b"secret")) as name:
        outcome = run(tools, record(name, b"secret"))
        assert (outcome.code, outcome.told) == (111, None)
        assert "unable to enter" in outcome.errors


def test_a_home_is_entered_as_the_user(tools: Tools, room: Path) -> None:
    (room / "closed").mkdir(mode=0o700)
    with system_user(room / "closed", hashed(b"secret")) as name:
        assert run(tools, record(name, b"secret")).code == 111


def test_supplementary_groups_are_dropped(tools: Tools, room: Path) -> None:
    room.chmod(0o777)
    with system_user(room, hashed(b"secret"), "-G", "mail") as name:
        assert name in grp.getgrnam("mail").gr_mem
        told = run(tools, record(name, b"secret")).told
        assert told
        assert told.groups == [told.gid]


def test_no_program_is_misuse_before_anything_is_read(tools: Tools) -> None:
    made = subprocess.run([tools.checkpw], capture_output=True, check=False)
    assert made.returncode == 2
    assert b"usage: checkpw" in made.stderr


def test_descriptor_3_closed_is_temporary(tools: Tools) -> None:
    made = subprocess.run([tools.checkpw, "true"], capture_output=True, check=False)
    assert made.returncode == 111
    assert made.stderr.startswith(b"checkpw: unable to read descriptor 3")


def test_a_directory_on_descriptor_3_is_temporary(tools: Tools) -> None:
    made = subprocess.run(
        ["sh", "-c", 'exec "$@" 3</', "sh", tools.checkpw, "true"],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 111


@pytest.mark.parametrize("program", ["no-such-program", "/", "/etc/passwd"])
def test_a_program_that_does_not_run_is_temporary(
    tools: Tools, room: Path, program: str
) -> None:
    accounts = file(room, f"joe:secret\n{place('joe', room)}")
    outcome = run_before(tools, b"joe\0secret\0", ["-a", accounts, program])
    assert outcome.code == 111
    assert program in outcome.errors
    # a wrong password comes first
    outcome = run_before(tools, b"joe\0wrong\0", ["-a", accounts, program])
    assert outcome.code == 1


@pytest.mark.parametrize("words", [["-Z", "true"], ["--what", "true"], ["-a"]])
def test_a_wrong_option_is_misuse(tools: Tools, words: list[str]) -> None:
    outcome = run_before(tools, b"joe\0secret\0", words)
    assert outcome.code == 2
    assert outcome.errors.startswith("checkpw: ")


@pytest.mark.parametrize(
    "word", ["nis", "db", "db:relative", "authuser:relative", "system:x", "db:/no/file"]
)
def test_a_wrong_source_is_temporary(tools: Tools, word: str) -> None:
    outcome = run(tools, b"joe\0secret\0", "-a", word)
    assert (outcome.code, outcome.told) == (111, None)
    assert outcome.errors.startswith("checkpw: ")


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_are_answered_first(tools: Tools, word: str) -> None:
    made = subprocess.run(
        [tools.checkpw, word], capture_output=True, check=True, text=True
    )
    assert "checkpw" in made.stdout
    assert made.stderr == ""


# --------------------------------------------------------------------------------
# qmail-authuser


def file(room: Path, lines: str | bytes) -> str:
    """Write an authuser file and give the word for it."""
    path = room / "authuser"
    path.write_bytes(lines.encode() if isinstance(lines, str) else lines)
    return f"authuser:{path}"


@pytest.mark.parametrize(
    ("lines", "made", "code"),
    [
        # joe@ex.com:secret
        (b"joe@ex.com:secret", b"joe@ex.com\0secret\0%s\0", 0),
        (b"joe@ex.com:secret", b"JOE@EX.COM\0secret\0%s\0", 0),
        (b"joe@ex.com:secret", b"joe@ex.com\0wrong\0%s\0", 1),
        (b"joe@ex.com:secret", b"joe@ex.com\0" + APOP + b"\0%s\0", 0),  # was 1: A1
        (b"joe@ex.com:secret", b"joe@ex.com\0" + CRAM + b"\0%s\0", 0),
        (b"joe@ex.com:secret", b"joe@ex.com\0secret\0", 0),
        # was 0: an empty password is none, whatever the file says
        (b"joe@ex.com:", b"joe@ex.com\0\0%s\0", 1),
        # unsalted hashes
        (b"joe@ex.com:%%" + MD5, b"joe@ex.com\0secret\0%s\0", 0),
        (b"joe@ex.com:%%" + MD5, b"joe@ex.com\0%%" + MD5 + b"\0%s\0", 1),  # was 0: A2
        (b"joe@ex.com:%%" + MD5.upper(), b"joe@ex.com\0secret\0%s\0", 0),  # was 1
        (b"joe@ex.com:%%" + SHA1, b"joe@ex.com\0secret\0%s\0", 0),  # was 1: a stub
        (b"joe@ex.com:%%" + SHA256, b"joe@ex.com\0secret\0%s\0", 0),  # was 1: a stub
        (b"joe@ex.com:%%" + MD5[1:], b"joe@ex.com\0secret\0%s\0", 1),
        (b"joe@ex.com:%%secret", b"joe@ex.com\0%%secret\0%s\0", 1),
        # no prefix for literal passwords
        (b"joe@ex.com:=secret", b"joe@ex.com\0secret\0%s\0", 1),
        (b"joe@ex.com:=secret", b"joe@ex.com\0=secret\0%s\0", 0),
        # barred
        (b"!joe@ex.com:\njoe@ex.com:secret", b"joe@ex.com\0secret\0%s\0", 1),
        (b"!joe@ex.com\njoe@ex.com:secret", b"joe@ex.com\0secret\0%s\0", 0),
        (b"!@ex.com:\njoe@ex.com:secret", b"joe@ex.com\0secret\0%s\0", 1),
        # was 0: such a name is nobody's
        (b"!joe@ex.com:secret", b"!joe@ex.com\0secret\0%s\0", 1),
        (b"joe@ex.com:z", b"joe@ex.com\0z\0%s\0", 2),
        # catch-alls
        (b"@ex.com:secret", b"joe@ex.com\0secret\0%s\0", 0),
        (b"@:secret", b"joe@ex.com\0secret\0%s\0", 0),
        (b"@:secret", b"joe\0secret\0%s\0", 0),
        (b"*:secret", b"joe\0secret\0%s\0", 0),
        (b"*:secret", b"joe@ex.com\0secret\0%s\0", 0),
        (b"@other.com:secret", b"joe@ex.com\0secret\0%s\0", 1),
        (b"joe@ex.com:one\n@ex.com:secret", b"joe@ex.com\0secret\0%s\0", 1),
        # lines
        (b"joe:one\njoe:secret", b"joe\0secret\0%s\0", 0),
        (b"joe:one\njoe:secret", b"joe\0one\0%s\0", 1),
        (b" joe@ex.com: x", b"joe@ex.com\0x\0%s\0", 1),
        (b" joe@ex.com: x", b"joe@ex.com\0 x\0%s\0", 1),
        (b"joe@ex.com :x", b"joe@ex.com\0x\0%s\0", 1),
        (b"joe: secret \t ", b"joe\0 secret\0%s\0", 0),
        (b"joe:se:cr et#", b"joe\0se:cr et#\0%s\0", 0),
        (b"#joe:secret", b"joe\0secret\0%s\0", 1),
        (b"#joe:secret", b"#joe\0secret\0%s\0", 1),
        (b"joe:secret\r\n", b"joe\0secret\0%s\0", 1),
        (b"joe:secret\r\n", b"joe\0secret\r\0%s\0", 0),
        (b"joe:secret\0more", b"joe\0secret\0%s\0", 0),
        (b"joe\n\n:\nsecret", b"joe\0secret\0%s\0", 1),
        # records
        (b"@:secret", b"", 2),
        (b"@:secret", b"joe", 2),
        (b"@:secret", b"joe\0", 2),
        (b"@:secret", b"joe\0x", 2),
        (b"@:secret", b"joe\0x\0", 1),
        (b"@:secret", (b"joe\0secret\0" + b"x" * 501).replace(b"%", b"%%"), 0),
        # was 2: checkpassword says 1, and one program says one thing
        (b"@:secret", b"joe\0secret\0" + b"x" * 502, 1),
        # ours: salted hashes, and nobody in by what is in the file
        (b"joe:$1$abcdefgh$BYMb", b"joe\0$1$abcdefgh$BYMb\0%s\0", 1),
        (b"joe:{CRYPT}secret", b"joe\0secret\0%s\0", 1),
        (b"joe:{CRYPT}", b"joe\0{CRYPT}\0%s\0", 1),
    ],
)
def test_authusers_matrix(
    tools: Tools, room: Path, lines: bytes, made: bytes, code: int
) -> None:
    more = "".join(place(key, room) for key in ("*", "#joe"))
    word = file(room, lines.replace(b"%%", b"%") + b"\n" + more.encode())
    sent = made % STAMP if b"%s" in made else made
    outcome = run(tools, sent, "--accounts", word)
    assert outcome.code == code, outcome.errors
    assert (outcome.told is not None) == (code == 0)


@pytest.mark.parametrize("stored", ["{CRYPT}%s", "%s"])
def test_salted_hashes_are_checked(tools: Tools, room: Path, stored: str) -> None:
    line = f"joe:{stored % hashed(b'secret')}\n{place('joe', room)}"
    assert run(tools, b"joe\0secret\0", "-a", file(room, line)).code == 0
    assert run(tools, b"joe\0Secret\0", "-a", file(room, line)).code == 1


def test_an_account_without_ids_does_not_run_as_root(tools: Tools, room: Path) -> None:
    word = file(room, "joe:secret\n")
    outcome = run(tools, b"joe\0secret\0", "-a", word, USER="u", HOME="h")
    if not support.IS_ROOT:
        assert outcome.told
        return
    assert outcome.code == 111
    assert "no uid" in outcome.errors
    # qmail-authuser's way, for SMTP AUTH: nothing is changed, nothing is set
    told = run(
        tools, b"joe\0secret\0", "-a", word, "--allow-root", USER="u", HOME="h"
    ).told
    assert told
    assert (told.uid, told.place, told.user, told.home) == (0, "/", "u", "h")


def test_a_maildir_left_over_is_nobodys(tools: Tools, room: Path) -> None:
    word = file(room, "joe:secret\n")
    outcome = run(
        tools, b"joe\0secret\0", "-a", word, "--allow-root", MAILDIR="/m", HOME="h"
    )
    assert outcome.told
    assert (outcome.told.maildir, outcome.told.home) == ("", "h")


def test_a_place_makes_it_usable_for_pop3(tools: Tools, room: Path) -> None:
    own(room / "ex.com")
    own(room / "ex.com" / "joe")
    uid, gid = support.OWNER
    word = file(
        room,
        "joe@ex.com:secret\n"
        f"#:@ex.com:uid={uid} gid={gid} maildir={room}/%d/%u/Maildir\n",
    )
    told = run(tools, b"joe@EX.com\0secret\0", "-a", word).told
    assert told
    assert (told.uid, told.gid) == support.OWNER
    assert told.place == told.home == f"{room}/ex.com/joe"
    assert told.maildir == f"{room}/ex.com/joe/Maildir"
    assert told.user == "joe@ex.com"


@pytest.mark.parametrize(
    ("name", "code"),
    [(b"../x", 1), (b"a/b", 1), (b".", 1), (b"@ex.com", 1), (b"b", 111)],
)
def test_no_name_leads_out_of_its_place(
    tools: Tools, room: Path, name: bytes, code: int
) -> None:
    uid, gid = support.OWNER
    word = file(room, f"@:secret\n#:@:uid={uid} gid={gid} home={room}/no/%u\n")
    assert run(tools, name + b"\0secret\0", "-a", word).code == code


@pytest.mark.parametrize("mark", ["?", "!"])
def test_system_users_by_an_authuser_file(
    tools: Tools, room: Path, user: str, mark: str
) -> None:
    word = file(room, f"{user}:{mark}\n")
    outcome = run(tools, record(user, b"secret"), "-a", word, "--allow-root")
    assert outcome.code == 0
    assert outcome.told
    account = pwd.getpwnam(user)
    is_become = mark == "!"
    assert outcome.told.uid == (account.pw_uid if is_become else 0)
    assert outcome.told.place == (account.pw_dir if is_become else "/")
    assert outcome.told.user == (user if is_become else "")
    assert run(tools, record(user, b"wrong"), "-a", word).code == 1


def test_every_address_of_a_system_user(tools: Tools, room: Path, user: str) -> None:
    word = file(room, "*:!\n")
    address = f"{user}@any.where"
    assert run(tools, record(address, b"secret"), "-a", word).code == 0
    assert run(tools, record(address, b"wrong"), "-a", word).code == 1  # was 11: A5
    assert run(tools, b"no.such.user@any.where\0x\0", "-a", word).code == 1


# --------------------------------------------------------------------------------
# sources in order, the environment, privileges


def test_sources_are_asked_in_order(tools: Tools, room: Path) -> None:
    (room / "a").write_text(f"ann:one\n!eve:\n{place('ann', room)}")
    (room / "b").write_text(
        f"ann:two\nben:two\neve:two\n{place('ann', room)}{place('ben', room)}"
    )
    first, second = f"authuser:{room}/a", f"authuser:{room}/b"
    for options in (["-a", first, "--accounts", second], ["-a", f"{first} {second}"]):
        assert run(tools, b"ann\0one\0", *options).code == 0
        assert run(tools, b"ann\0two\0", *options).code == 1
        assert run(tools, b"ben\0two\0", *options).code == 0
        assert run(tools, b"eve\0two\0", *options).code == 1
        assert run(tools, b"tom\0two\0", *options).code == 1
    words = f"{first} {second}"
    assert run(tools, b"ben\0two\0", QTOOLS_ACCOUNTS=words).code == 0
    assert run(tools, b"ben\0two\0", "-a", first, QTOOLS_ACCOUNTS=words).code == 1


def test_a_source_that_fails_stops_the_search(tools: Tools, room: Path) -> None:
    word = file(room, f"joe:secret\n{place('joe', room)}")
    outcome = run(tools, b"joe\0secret\0", "-a", "db:/no/such/file", "-a", word)
    assert outcome.code == 111


@pytest.mark.parametrize("shift", [(1, 1), (0, 1), (1, 0)])
def test_without_root_nobody_else_is_become(
    tools: Tools, room: Path, shift: tuple[int, int]
) -> None:
    uid, gid = (own + more for own, more in zip(support.OWNER, shift, strict=True))
    word = file(room, f"joe:secret\n#:joe:uid={uid} gid={gid} home=/\n")
    made = subprocess.run(
        ["sh", "-c", 'exec "$@" 3<&0', "sh", tools.checkpw, "-a", word, "true"],
        input=b"joe\0secret\0",
        capture_output=True,
        check=False,
        **(
            {"user": 54321, "group": 54322, "extra_groups": []}
            if support.IS_ROOT
            else {}
        ),  # type: ignore[call-overload]
    )
    assert made.returncode == 111
    why = b"unable to become uid %d, gid %d: not started as root" % (uid, gid)
    assert made.stderr == b"checkpw: " + why + b"\n"


def test_without_root_one_is_what_one_is(tools: Tools, room: Path) -> None:
    word = file(room, f"joe:secret\n{place('joe', room)}")
    uid, gid = support.OWNER
    made = subprocess.run(
        ["sh", "-c", 'exec "$@" 3<&0', "sh", tools.checkpw, "-a", word, "id", "-u"],
        input=b"joe\0secret\0",
        capture_output=True,
        check=True,
        **({"user": uid, "group": gid, "extra_groups": []} if support.IS_ROOT else {}),  # type: ignore[call-overload]
    )
    assert made.stdout == b"%d\n" % uid


def test_without_root_no_system_account_is_called_locked(
    tools: Tools, room: Path
) -> None:
    options = {}
    if support.IS_ROOT:
        options = {"user": 54321, "group": 54322, "extra_groups": []}
    made = subprocess.run(
        ["sh", "-c", 'exec "$@" 3<&0', "sh", tools.checkpw, "true"],
        input=b"root\0secret\0",
        capture_output=True,
        check=False,
        cwd=room,
        **options,  # type: ignore[call-overload]
    )
    assert made.returncode == 111
    assert b"not root" in made.stderr


# --------------------------------------------------------------------------------
# hand-over, and what is left in memory


@pytest.mark.parametrize("options", [[], ["--exec"]])
def test_pop3d_is_handed_the_session(
    tools: Tools, maildir: Path, options: list[str]
) -> None:
    word = file(maildir.parent, f"joe:secret\n{place('joe', maildir.parent)}")
    script = 'exec "$@" 3<&0 </dev/null'
    made = subprocess.run(
        [
            *("sh", "-c", script, "sh", tools.checkpw, *options, "-a", word),
            *("pop3d", "Maildir"),
        ],
        input=b"joe\0secret\0",
        env=tools.environment(),
        capture_output=True,
        check=False,
    )
    assert made.stdout.startswith(b"+OK"), made.stderr


# Runs checkpw with a next link that writes out all memory of the process.
DUMP = """
import sys
sys.path.insert(0, sys.argv[1])
from qtools.tools import checkpw
from qtools.chain import handover

maps, memory = open("/proc/self/maps"), open("/proc/self/mem", "rb", 0)
dump = open(sys.argv[3], "wb", 0)

class Link:
    def run(self):
        for line in maps:
            where, rights = line.split()[:2]
            if rights.startswith("r") and "[v" not in line:
                start, end = (int(place, 16) for place in where.split("-"))
                memory.seek(start)
                dump.write(memory.read(end - start))
        return 0

handover.prepare = lambda *_, **__: Link()
sys.exit(checkpw.main(["checkpw", "-a", sys.argv[2], "pop3d"]))
"""


def test_the_user_has_no_secret_in_memory(tools: Tools, room: Path) -> None:
    secret, other = (f"{os.urandom(8).hex()}-{word}" for word in ("own", "other"))
    word = file(
        room,
        f"joe:{hashed(secret.encode())}\nann:{other}\nben:{hashed(other.encode())}\n"
        f"{place('joe', room)}",
    )
    lib = tools.prefix / "lib" / "qtools"
    script = 'exec "$@" 3<&0 </dev/null'
    words = ["-c", DUMP, str(lib), word, str(room / "dump")]
    made = subprocess.run(
        ["sh", "-c", script, "sh", PYTHON, "-IS", *words],
        input=f"joe\0{secret}\0".encode(),
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    dumped = (room / "dump").read_bytes()
    assert b"QTOOLS_ACCOUNTS" in dumped
    for word in (secret, other, hashed(secret.encode()), hashed(other.encode())):
        # without its first letters: memory that was freed may have lost them
        assert word[8:].encode() not in dumped
