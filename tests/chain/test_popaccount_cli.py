# SPDX-License-Identifier: ISC
"""popaccount: the words of the command line interface, and the upkeep of a database."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qtools.accounts.db.store import Store
from qtools.accounts.shell.lines import LINE_OCTETS
from tests.chain.pwdclient import SECRET, Bureau
from tests.chain.test_popaccount import converse
from tests.conftest import Tools
from tests.support import OWNER

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def bureau(tools: Tools, room: Path) -> Bureau:
    return Bureau(tools, room)


@pytest.fixture
def run(bureau: Bureau) -> Run:
    """Give a function that runs popaccount, whose complaints are one line."""

    def popaccount(
        *words: str, said: bytes = b"", code: int = 0
    ) -> subprocess.CompletedProcess[bytes]:
        made = subprocess.run(
            [bureau.tools.popaccount, "-d", str(bureau.file), *words],
            input=said,
            capture_output=True,
            check=False,
        )
        assert made.returncode == code, made.stderr
        assert made.stderr.count(b"\n") == (code != 0), made.stderr
        return made

    return popaccount


def test_commands_are_given_in_the_words_of_the_wire(run: Run, bureau: Bureau) -> None:
    assert run("CreateAccount", "user1").stdout == b""
    why = run("createaccount", "user1", code=1).stderr
    assert why == b"popaccount: 520 account with this name already exists\n"
    assert run("ListDomains").stdout == b'("a.b","c.d")\n'
    run("RenameAccount", "user1", "into", "user2")
    run("UpdateAccountSettings", "user2", '{RealName="User Two";}')
    assert run("GetAccount", "user2").stdout == b'{RealName="User Two";}\n'
    assert run('GetAccount "user2"').stdout == b'{RealName="User Two";}\n'
    assert b"513 unknown account" in run("DeleteAccount", "x", code=1).stderr
    assert b"501 a level" in run("WriteLog", "9", "it is", code=1).stderr
    assert b"no INTO" in run("RenameAccount", "a", "b", code=100).stderr
    assert bureau.store().show(b"user2").user == "user2"


def test_a_database_may_be_named_from_here(tools: Tools, bureau: Bureau) -> None:
    for words, code in (("", 0), ("x", 1)):
        made = subprocess.run(
            [
                *(tools.popaccount, "-d", bureau.file.name),
                *("VerifyAccountPassword", "joe", "PASSWORD", "-"),
            ],
            input=(SECRET + words + "\n").encode(),
            cwd=bureau.file.parent,
            capture_output=True,
            check=False,
        )
        assert made.returncode == code, made.stderr


def test_passwords_are_read_and_never_argued_about(run: Run, bureau: Bureau) -> None:
    for words in (
        ["SetAccountPassword", "joe", "TO", "geheim"],
        ["VerifyAccountPassword", "joe", "PASSWORD", "geheim"],
        ["UpdateAccountSettings", "joe", "{password=geheim;}"],
        ["CreateAccount", "new", "{Password=geheim;}"],
    ):
        why = run(*words, code=100).stderr
        assert b"write - to be asked" in why
        assert b"geheim" not in why
    assert bureau.knows("joe", SECRET)
    run("SetAccountPassword", "joe", "TO", "-", said=b'say "\\"\n')
    assert bureau.knows("joe", 'say "\\"')
    run("VerifyAccountPassword", "joe", "PASSWORD", "-", said=b'say "\\"\n')
    run("VerifyAccountPassword", "joe", "PASSWORD", "-", said=b"x\n", code=1)
    uid, gid = OWNER
    pairs = f"{{Password=-;Home=/;UID={uid};GID={gid};}}"
    pairs = pairs.replace("=/;", '="/";').replace("=-;", '="-";')
    run("CreateAccount", "new", pairs, said=b"{x=y;}\n")
    assert bureau.knows("new", "{x=y;}")


def test_a_password_is_asked_for_on_the_terminal(tools: Tools, bureau: Bureau) -> None:
    words = [tools.popaccount, "-d", str(bureau.file)]
    words += ["SetAccountPassword", "joe", "TO", "-"]
    code, seen = converse(words, ["one", "one"])
    assert (code, "one" in seen) == (0, False)
    assert bureau.knows("joe", "one")
    code, seen = converse(words, ["two", "three"])
    assert code == 1
    assert "differ" in seen
    assert bureau.knows("joe", "one")


def test_lines_are_answered_as_a_clients_are(run: Run, bureau: Bureau) -> None:
    lines = (
        *('CreateAccount "user1"', 'CreateAccount "user1"', "ListDomains", "INLINE"),
        *("ListDomains", "SetAccountPassword joe TO changed", "NEWPASS x", "Foo"),
        *('SetAccountPassword joe TO "a"b"', "QUIT", "CreateAccount never"),
    )
    said = "".join(f"{line}\r\n" for line in lines).encode()
    assert run("cli", said=said).stdout.split(b"\r\n") == [
        b"200 OK",
        b"520 account with this name already exists",
        b"200 data follow",
        b'("a.b","c.d")',
        b"200 OK",
        b'201 ("a.b","c.d")',
        b"200 OK",
        b"501 a command of the dialogue's at octet 0",
        b"501 unknown command at octet 0",
        b"501 no blank behind an argument at octet 29",
        b"200 closed",
        b"",
    ]
    assert bureau.knows("joe", "changed")
    assert run("cli", said=b"DeleteAccount never").stdout == b"513 unknown account\r\n"


@pytest.mark.parametrize("more", [-1, 0, 1, 2 * LINE_OCTETS])
def test_the_end_of_a_long_line_is_no_command(
    run: Run, bureau: Bureau, more: int
) -> None:
    said = b"SetAccountPassword joe TO ".ljust(LINE_OCTETS + more, b"A")
    answers = run("cli", said=said + b"DeleteAccount joe\nNOOP\n").stdout
    first, second, rest = answers.split(b"\r\n")
    assert first == b"501 a line too long, or with a NUL in it"
    assert (second, rest) == (b"200 OK", b"")
    assert bureau.knows("joe", SECRET)


def test_a_line_is_as_long_as_it_may_be(run: Run) -> None:
    line = b"SetAccountPassword joe TO ".ljust(LINE_OCTETS - 1, b"A")
    for said in (line + b"\n", line):
        assert run("cli", said=said).stdout.startswith(b"501 a password has at most")


@pytest.mark.parametrize(
    "word",
    [
        '"evil" {UID=#0;GID=#0;Home="/root";}',
        "{evil=x;} x",
        "evil x",
        'evil" {UID=#0;}',
        "(evil",
        '"evil',
    ],
)
def test_a_word_is_one_argument_whatever_is_in_it(
    run: Run, bureau: Bureau, word: str
) -> None:
    is_name = " " not in word
    run("CreateAccount", word, code=0 if is_name else 1)
    names = {account.user for account in bureau.store().list("")}
    assert names == {"joe", "postmaster", *([word] if is_name else [])}


def test_a_password_is_read_wherever_its_hyphen_stands(
    run: Run, bureau: Bureau
) -> None:
    run('SetAccountPassword joe TO "-"', said=b"second -\n")
    assert bureau.knows("joe", "second -")
    run('SetAccountPassword "joe" TO -', said=b"third\n")
    assert bureau.knows("joe", "third")
    uid, gid = OWNER
    settings = f'{{Password="-";Home="/";UID=#{uid};GID=#{gid};}}'
    run("CreateAccount", "a{b", settings, said=b"fourth\n")
    assert bureau.knows("a{b", "fourth")


def test_the_hook_is_told_whatever_the_words(run: Run, room: Path) -> None:
    hook, told = room / "hook", room / "told"
    hook.write_text(f'#!/bin/sh\necho "$1 $2" >>{told}\n', encoding="ascii")
    hook.chmod(0o755)
    run("option", "hook", str(hook))
    run("CreateAccount", "user1")
    run("cli", said=b"CreateAccount user2\n")
    run("disable", "user1")
    run("may-change", "user1", "no")
    heard = told.read_text().splitlines()
    for event in ("add user1", "add user2", "disable user1", "may-change user1"):
        assert event in heard


def test_details_are_shown_and_set(run: Run, bureau: Bureau) -> None:
    run("may-change", "joe", "no")
    assert not bureau.store().show(b"joe").may_change
    assert b"may-change: no\n" in run("show", "joe").stdout
    run("may-change", "joe", "yes")
    assert bureau.store().show(b"joe").may_change
    run("aliases", "joe", "joseph", "jo")
    assert run("aliases", "joe").stdout == b"jo\njoseph\n"
    run("aliases", "joe", "--none")
    assert run("aliases", "joe").stdout == b""
    run("rights", "joe", "master", "domainsread")
    assert run("rights", "joe").stdout == b"DomainsRead\nMaster\n"
    assert b"no right King" in run("rights", "joe", "King", code=100).stderr
    assert b"no names" in run("rights", "joe", "Master", "--none", code=100).stderr
    assert b"no account" in run("aliases", "nobody", "x", code=1).stderr


def test_domains_are_kept(run: Run, bureau: Bureau) -> None:
    run("domain", "add", "e.f")
    assert run("domain", "list").stdout == b"a.b  (main)\nc.d\ne.f\n"
    assert b"already" in run("domain", "add", "e.f", code=1).stderr
    run("domain", "rename", "e.f", "g.h")
    run("domain", "remove", "g.h")
    assert b"accounts" in run("domain", "remove", "c.d", code=1).stderr
    run("domain", "remove", "c.d", "--force")
    run("domain", "main")
    assert bureau.store().main_domain() == ""
    run("domain", "main", "a.b")
    assert bureau.store().main_domain() == "a.b"
    for words in (["add"], ["rename", "a.b"], ["list", "x"], ["main", "a", "b"]):
        assert b"--help" in run("domain", *words, code=100).stderr


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("AccountDefaults", "{UID=#1001 GID=#1001}", b"no ;"),
        ("AccountDefaults", "(x)", b"is a dictionary"),
        ("AccountDefaults", "{Password=foofoofoo;}", b"nobody's default"),
        ("AccountDefaults", "{Home=relative;}", b"an absolute path"),
        ("session-killer", "kill-them", b"absolute path"),
    ],
)
def test_an_option_that_would_do_harm_is_refused(
    run: Run, name: str, value: str, why: bytes
) -> None:
    assert why in run("option", name, value, code=1).stderr
    assert run("option", name).stdout == b"\n"


def test_options_that_commands_heed_are_kept(run: Run) -> None:
    for name, value in (
        ("AccountDefaults", '{UID=#1001;GID=#1001;Home="/var/mail/%n";}'),
        ("session-killer", "/bin/true"),
        ("another", "{"),
    ):
        run("option", name, value)
        assert run("option", name).stdout == value.encode() + b"\n"
        run("option", name, "")
        assert run("option", name).stdout == b"\n"


def test_options_are_kept(run: Run) -> None:
    assert run("option").stdout == b"method md5\n"
    run("option", "method", "sha512")
    assert run("option", "method").stdout == b"sha512\n"
    assert b"method is one of" in run("option", "method", "rot13", code=1).stderr
    run("option", "method", "")
    assert run("option").stdout == b""


def test_what_is_exported_can_be_imported(run: Run, room: Path, tools: Tools) -> None:
    for form in ("csv", "passwd-file", "vpasswd:c.d"):
        text = run("export", form).stdout
        assert b"ann" in text
        other = room / f"other-{form}"
        words = [tools.popaccount, "-d", str(other)]
        subprocess.run([*words, "init"], check=True)
        file = room / "exported"
        file.write_bytes(text)
        made = subprocess.run(
            [*words, "import", form, str(file)], check=True, capture_output=True
        )
        count = text.count(b"\n") - (form == "csv")
        assert made.stdout == b"%d accounts imported\n" % count
        store = Store(os.fsencode(other))
        assert store.show(b"ann@c.d").user == "ann@c.d"


def test_an_import_is_of_all_or_of_what_is_asked_for(run: Run, bureau: Bureau) -> None:
    lines = b"user,password\nnew,x\na b,x\nnewer,y\n"
    made = subprocess.run(
        [bureau.tools.popaccount, "-d", str(bureau.file), "import", "csv"],
        input=lines,
        capture_output=True,
        check=False,
    )
    assert made.returncode == 1
    first, second = made.stderr.splitlines()
    assert first.startswith(b"popaccount: line 3: ")
    assert b"nothing was imported" in second
    assert len(list(bureau.store().list())) == 4
    made = subprocess.run(
        [*made.args, "--skip-bad"], input=lines, capture_output=True, check=True
    )
    assert made.stdout == b"2 accounts imported\n"
    assert b"no form" in run("import", "xml", code=100).stderr
    assert b"nowhere" in run("import", "csv", "/nowhere", code=100).stderr


def test_a_backup_is_a_database_of_its_own(
    run: Run, room: Path, bureau: Bureau
) -> None:
    copy = room / "copy"
    run("backup", str(copy))
    assert copy.stat().st_mode & 0o777 == 0o600
    run("DeleteAccount", "joe")
    assert Store(os.fsencode(copy)).show(b"joe").user == "joe"
    assert b"exists" in run("backup", str(copy), code=1).stderr
    assert run("migrate").stdout == b"up to date\n"
    assert b"joe" not in run("list").stdout
    assert bureau.file.exists()
