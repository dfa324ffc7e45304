# SPDX-License-Identifier: ISC
"""Lines of the Command Line Interface: what they ask for, and what a log may show."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.protocol import commands
from qtools.protocol.commands import COMMANDS, TABLE, Unknown, masked, read, written
from qtools.protocol.values import Malformed

SECRET = b"open sesame"


@pytest.mark.parametrize(
    ("line", "name", "arguments"),
    [
        (b"NOOP", "NOOP", {}),
        (b"  inline ", "INLINE", {}),
        (b"NEWPASS  two words ", "NEWPASS", {"password": b" two words "}),
        (b'newpass "a"b', "NEWPASS", {"password": b'"a"b'}),
        (b"ListAccounts", "ListAccounts", {}),
        (b"LISTACCOUNTS a.b", "ListAccounts", {"domain": b"a.b"}),
        (b'CreateAccount "user1"', "CreateAccount", {"account": b"user1"}),
        (
            b"createaccount joe@a.b MultiMailbox external {A=1;}",
            "CreateAccount",
            {
                "account": b"joe@a.b",
                "type": b"MultiMailbox",
                "external": b"",
                "settings": {b"A": b"1"},
            },
        ),
        (
            b"CreateAccount joe EXTERNAL",
            "CreateAccount",
            {"account": b"joe", "external": b""},
        ),
        (
            b"CreateAccount joe {}",
            "CreateAccount",
            {"account": b"joe", "settings": {}},
        ),
        (
            b'RenameAccount "user1" into "user2"',
            "RenameAccount",
            {"account": b"user1", "new": b"user2"},
        ),
        (b"GetAccount joe", "GetAccountSettings", {"account": b"joe"}),
        (
            b'SetAccountPassword joe TO "to be"',
            "SetAccountPassword",
            {"account": b"joe", "password": b"to be"},
        ),
        (
            b"VerifyAccountPassword joe password x",
            "VerifyAccountPassword",
            {"account": b"joe", "password": b"x"},
        ),
        (
            b"SetAccountAliases joe (a,b)",
            "SetAccountAliases",
            {"account": b"joe", "aliases": [b"a", b"b"]},
        ),
        (
            b"GetAccountInfo joe Key StorageUsed",
            "GetAccountInfo",
            {"account": b"joe", "key": b"StorageUsed"},
        ),
        (b"DeleteDomain a.b force", "DeleteDomain", {"domain": b"a.b", "force": b""}),
        (
            b"ListDomainObjects a.b FILTER joe 10 ACCOUNTS ALIASES COOKIE x",
            "ListDomainObjects",
            {
                "domain": b"a.b",
                "filter": b"joe",
                "limit": b"10",
                "accounts": b"",
                "aliases": b"",
                "cookie": b"x",
            },
        ),
        (b"WriteLog 3 it is", "WriteLog", {"level": b"3", "text": b"it is"}),
    ],
)
def test_what_a_line_asks_for(
    line: bytes, name: str, arguments: dict[str, object]
) -> None:
    call = read(line)
    assert call.command.name == name
    assert call.arguments == arguments


@pytest.mark.parametrize(
    "line",
    [
        b"NOOP x",
        b"CreateAccount",
        b"CreateAccount {A=1;}",
        b"CreateAccount joe {A=1;} x",
        b"CreateAccount joe {A=1;}x",
        b"CreateAccount joe (a)",
        b"CreateAccount joe {A=1;B}",
        b"CreateAccount joe a b c",
        b"RenameAccount a b",
        b"RenameAccount a into",
        b"RenameAccount a into b c",
        b"SetAccountPassword joe TO",
        b'SetAccountPassword joe TO "pa"ss"',
        b'SetAccountPassword joe TO pa"ss',
        b'SetAccountPassword joe TO "a\\"',
        b'SetAccountPassword joe TO "a\\b"',
        b'SetAccountPassword joe TO "a" "b"',
        b"SetAccountPassword joe TO {a=1;}",
        b"SetAccountAliases joe a",
        b"SetAccountAliases joe (a",
        b"SetAccountAliases joe " + b"(" * 10_000,
        b"UpdateAccountSettings joe {Password=a\x00b;}",
        b'UpdateAccountSettings joe {Password="a"b";}',
    ],
)
def test_a_line_is_to_the_letter_or_nothing(line: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        read(line)
    assert not isinstance(caught.value, Unknown)
    shown = masked(line)
    assert shown.endswith(commands.HIDDEN)
    assert shown.startswith(line.split()[0])


@pytest.mark.parametrize(
    "line",
    [b"", b" ", b"PASSsecret", b"Foo bar", b'"NOOP"', b"NOOP\x00", b"({[", b"\xff"],
)
def test_there_is_no_such_command(line: bytes) -> None:
    if line == b'"NOOP"':  # a quoted word is a word
        assert read(line).command.name == "NOOP"
        return
    with pytest.raises(Unknown):
        read(line)
    assert masked(line) == commands.HIDDEN


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"NEWPASS open sesame", b"NEWPASS <hidden>"),
        (b" newpass open sesame", b"NEWPASS <hidden>"),
        (
            b'SetAccountPassword joe TO "open sesame"',
            b"SetAccountPassword joe TO <hidden>",
        ),
        (
            b'VerifyAccountPassword joe PASSWORD "open sesame"',
            b"VerifyAccountPassword joe PASSWORD <hidden>",
        ),
        (
            b'CreateAccount joe {Password="open sesame";RealName=Joe;}',
            b'CreateAccount joe {Password="<hidden>";RealName=Joe;}',
        ),
        (
            b'UpdateAccount joe {Pasword="open sesame";}',
            b'UpdateAccountSettings joe {Pasword="<hidden>";}',
        ),
        (b"DeleteDomain a.b FORCE", b'DeleteDomain "a.b" FORCE'),
        (b"CreateAccount joe MailDirMailbox", b"CreateAccount joe MailDirMailbox"),
        (b"CreateAccount joe sesame", b"CreateAccount joe <hidden>"),
        (b"GetAccountInfo joe KEY created", b"GetAccountInfo joe KEY created"),
        (b"GetAccountInfo joe KEY sesame", b"GetAccountInfo joe KEY <hidden>"),
        (
            b"UpdateAccount joe {Home=(sesame);RealName={Password=sesame;};UID=#1;}",
            b'UpdateAccountSettings joe {Home="<hidden>";RealName="<hidden>";UID=#1;}',
        ),
    ],
)
def test_what_a_log_may_show(line: bytes, shown: bytes) -> None:
    assert masked(line) == shown


@pytest.mark.parametrize(
    "line",
    [
        b"ListDomains",
        b'CreateAccount "a:{b@c.d" MailDirMailbox EXTERNAL {A=(x,"-");B=#-1;C=#NULL#;}',
        b"RenameAccount joe INTO into",
        b'SetAccountPassword "INTO" TO "say \\"-\\""',
        b'SetAccountAliases joe (a,"b c")',
        b'GetAccountInfo joe KEY "created"',
        b"DeleteDomain a.b FORCE",
        b'ListDomainObjects a.b FILTER x 10 ACCOUNTS ALIASES COOKIE ""',
        b"WriteLog 1 it is  so ",
    ],
)
def test_what_was_read_can_be_written(line: bytes) -> None:
    call = read(line)
    again = read(written(call))
    assert (again.command, again.arguments) == (call.command, call.arguments)


LINES = [
    b'SetAccountPassword joe TO "open sesame"',
    b'VerifyAccountPassword joe PASSWORD "open sesame"',
    b'CreateAccount joe {Password="open sesame";}',
    b'UpdateAccountSettings joe {Password="open sesame";}',
    b"NEWPASS open sesame",
]


@given(st.sampled_from(LINES), st.data())
def test_a_mistyped_line_shows_no_secret(line: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, line.index(SECRET)))
    junk = data.draw(st.sampled_from([b"", b" ", b"x", b'"', b"{", b"\t", b"\\"]))
    mistyped = line[:place] + junk + line[place + data.draw(st.integers(0, 1)) :]
    with contextlib.suppress(Malformed):
        read(mistyped)
    assert b"sesame" not in masked(mistyped)


@given(st.binary(max_size=80), st.sampled_from(sorted(TABLE)))
def test_any_octets_are_read_or_refused(text: bytes, name: bytes) -> None:
    with contextlib.suppress(Malformed):
        read(name + b" " + text)
    assert masked(name + text)


def test_the_table_is_whole() -> None:
    for name, command in TABLE.items():
        assert name == name.upper()
        assert name.decode() in {
            each.upper() for each in (command.name, *command.aliases)
        }
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
    usage = TABLE[b"CREATEACCOUNT"].usage()
    assert usage == "CreateAccount account [type] [EXTERNAL] [{settings}]"
    assert TABLE[b"RENAMEACCOUNT"].usage() == "RenameAccount account INTO new"
