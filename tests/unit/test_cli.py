# SPDX-License-Identifier: ISC
"""Commands on the account database: transcripts of each, and who may give which."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qtools.accounts import hashes, registry
from qtools.accounts.cli.interpreter import HANDLERS, Interpreter
from qtools.accounts.cli.member import member_of
from qtools.accounts.db import opening
from qtools.accounts.db.files import create
from qtools.accounts.db.store import Store
from qtools.errors import Refused, Temporary
from qtools.protocol import values
from qtools.protocol.commands import COMMANDS, INFO_KEYS
from qtools.protocol.values import parse
from tests.support import need_root

NOT_ALLOWED = "510 you do not have the required access rights"
TAKEN = "520 another account has its mail where this one's would be"
OK = "200 OK"

Say = Callable[..., str]


class House:
    """A database with the main domain a.b, and those who give commands."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.log: list[tuple[int, str]] = []
        self.opened: list[Interpreter] = []
        create(path)
        with Store(path) as store:
            store.set_option("method", b"md5")  # quick
            store.set_option("iterations", b"0")
            store.add_domain("a.b")
            store.set_main_domain("a.b")
            store.add_domain("c.d")
            for user in (b"postmaster", b"joe", b"adm@c.d", b"ann@c.d", b"all", b"eye"):
                store.add(user, None, b"/home", b"")
                store.set_secret(user, b"secret")
            store.set_rights(b"postmaster", ["Master"])
            store.set_rights(b"all", ["AllDomains"])
            store.set_rights(b"eye", ["DomainsRead"])
            keys = ["CanCreateAccounts", "CanCreateAliases", "BasicSettings"]
            store.set_rights(b"adm@c.d", keys)

    def by(self, user: str) -> Say:
        """Give a function that has somebody's line carried out."""
        log = self.log

        def note(level: int, text: str) -> None:
            log.append((level, text))

        member = member_of(self.store(), user.encode()) if user else None
        self.opened.append(Interpreter(self.path, member, note))
        interpreter = self.opened[-1]

        def say(line: str | bytes) -> str:
            text = line.encode() if isinstance(line, str) else line
            return interpreter.run(text).decode()

        return say

    def store(self) -> Store:
        return Store(self.path)

    def knows(self, user: str, secret: str) -> bool:
        """Tell whether somebody can log in by a password."""
        (opener,) = registry.load([f"db:{os.fsdecode(self.path)}"])
        try:
            registry.verify([opener()], user.encode(), secret.encode(), b"")
        except Refused:
            return False
        return True

    def dump(self) -> list[str]:
        """Give all that is in the database, to see whether it has changed."""
        store = self.store()
        return [
            repr((vars(account), store.settings(user), store.rights(user)))
            + repr((store.aliases(user), store.credentials(user)))
            for account in store.list()
            for user in [account.user.encode()]
        ] + [repr((name, store.domain_settings(name))) for name in store.domains()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(os.fsencode(tmp_path / "accounts"))
    yield made
    for each in made.opened:
        each.close()


@pytest.fixture
def master(house: House) -> Say:
    return house.by("")


def test_every_command_is_somebodys() -> None:
    dialogue = {"INLINE", "QUIT", "NEWPASS"}
    names = {command.name for command in COMMANDS}
    assert HANDLERS.keys() == names - dialogue


def test_the_guides_own_session(master: Say, house: House) -> None:
    assert master('CreateAccount "user1"') == OK
    again = master('CreateAccount "user1"')
    assert again == "520 account with this name already exists"
    assert master('RenameAccount "user1" into "user2"') == OK
    assert master("ListDomains") == '201 ("a.b","c.d")'
    assert (2, "administrator: RenameAccount user1 user2") in house.log
    assert master("SetAccountRights joe (basicsettings)") == OK
    assert house.log[-1] == (2, "administrator: SetAccountRights joe (basicsettings)")


# A line of the administrator's, and its answer, one behind the other.
TRANSCRIPT = [
    ("NOOP", OK),
    ("MainDomainName", '201 "a.b"'),
    ("ListDomains", '201 ("a.b","c.d")'),
    (
        "ListAccounts",
        "201 {all=macnt;eye=macnt;joe=macnt;postmaster=macnt;}",
    ),
    ("ListAccounts c.d", "201 {adm=macnt;ann=macnt;}"),
    ("ListAccounts e.f", "512 unknown domain"),
    ("ListDomainObjects c.d 10", "201 (#2,{adm=macnt;ann=macnt;},{},{},{})"),
    (
        'ListDomainObjects c.d FILTER a 1 ACCOUNTS COOKIE ""',
        "201 (#2,{adm=macnt;},{},{},{},adm)",
    ),
    (
        "ListDomainObjects c.d 1 ACCOUNTS COOKIE adm",
        '201 (#2,{ann=macnt;},{},{},{},"")',
    ),
    ("ListDomainObjects c.d x", "501 the limit is a number up to 1000000"),
    ("CreateAccount bob@c.d MailDirMailbox {RealName=Bob;}", OK),
    ("CreateAccount bob@c.d", "520 account with this name already exists"),
    ("CreateAccount bob@e.f", "512 unknown domain"),
    (
        "CreateAccount x TextMailbox",
        "501 accounts of this type are not supported",
    ),
    (
        "CreateAccount x external",
        "501 accounts with an external INBOX are not supported",
    ),
    (
        "CreateAccount @c.d",
        "501 an account's name is a word, or a word, @ and its domain",
    ),
    ('CreateAccount ""', "501 an account's name is 1 to 248 octets, printable,"),
    ("GetAccountSettings bob@c.d", "201 {RealName=Bob;}"),
    ("GetAccount BOB@C.D", "201 {RealName=Bob;}"),
    ("GetAccountSettings nobody", "513 unknown account"),
    (
        'UpdateAccountSettings bob@c.d {Home="/srv/bob";UID=1001;GID=#1001;}',
        OK,
    ),
    (
        "GetAccountSettings bob@c.d",
        '201 {GID=#1001;Home="/srv/bob";RealName=Bob;UID=#1001;}',
    ),
    ("UpdateAccount bob@c.d {RealName=default;PWDAllowed=no;}", OK),
    ("UpdateAccount bob@c.d {RealName=#NULL#;MaxAccountSize=10M;}", OK),
    (
        "GetAccount bob@c.d",
        '201 {GID=#1001;Home="/srv/bob";MaxAccountSize=10M;PWDAllowed=NO;UID=#1001;}',
    ),
    ("SetAccountSettings bob@c.d {City=Bern;}", OK),
    ("GetAccount bob@c.d", "201 {City=Bern;}"),
    (
        "GetAccountEffectiveSettings bob@c.d",
        (
            "201 {AccessModes=All;City=Bern;PWDAllowed=YES;"
            "PasswordEncryption=crypt;RequireAPOP=NO;}"
        ),
    ),
    ("UpdateAccount bob@c.d {AccessModes=None;}", OK),
    ("GetAccount bob@c.d", "201 {AccessModes=None;City=Bern;}"),
    ("UpdateAccount bob@c.d {AccessModes=(Mail,POP);}", OK),
    ("UpdateAccount bob@c.d {UID=-1;}", "501 UID and GID are numbers"),
    ("UpdateAccount bob@c.d {UID=#5;}", "501 UID and GID go together"),
    ("UpdateAccount bob@c.d {Home=x;}", "501 Home takes an absolute path"),
    ("UpdateAccount bob@c.d {PWDAllowed=perhaps;}", "501 YES or NO"),
    ("UpdateAccount bob@c.d {UseAppPassword=NO;}", "501 an account here has no other"),
    (
        "UpdateAccount bob@c.d {MaxAccountSize=big;}",
        "501 MaxAccountSize is a number of octets, or unlimited",
    ),
    ("UpdateAccount bob@c.d {PasswordEncryption=rot13;}", "501 PasswordEncryption is"),
    ("UpdateAccount bob@c.d {UID=#1;uid=#2;}", "501 UID is there twice"),
    ("UpdateAccount bob@c.d {AccessModes={};}", "501 AccessModes are All, None or"),
    ("UpdateAccount nobody {City=Bern;}", "513 unknown account"),
    ('SetAccountPassword bob@c.d TO "new one"', OK),
    ('VerifyAccountPassword bob@c.d PASSWORD "new one"', OK),
    ("VerifyAccountPassword bob@c.d PASSWORD old", "500 incorrect password"),
    ("VerifyAccountPassword nobody PASSWORD x", "513 unknown account"),
    ('SetAccountPassword bob@c.d TO ""', "501 an empty password is no password"),
    (
        'SetAccountPassword bob@c.d TO "a\\nb"',
        "501 a password can't hold NUL, CR or LF",
    ),
    ("SetAccountAliases bob@c.d (robert,rob@c.d)", OK),
    ("GetAccountAliases bob@c.d", "201 (rob,robert)"),
    ("SetAccountAliases ann@c.d (rob)", "520 account with this name already exists"),
    (
        "SetAccountAliases bob@c.d (x@a.b)",
        "501 an alias is of the domain of its account",
    ),
    ("SetAccountAliases bob@c.d (#1)", "501 an alias is a string"),
    ("GetAccount rob@c.d", "201 {AccessModes=(Mail,POP);City=Bern;}"),
    (
        "ListDomainObjects c.d 10 ALIASES",
        "201 (#3,{},{rob=bob;robert=bob;},{},{})",
    ),
    ("GetAccountInfo bob@c.d Key StorageUsed", "201 #0"),
    ("GetAccountInfo bob@c.d Key HasAPOPSecret", "201 NO"),
    ("GetAccountInfo bob@c.d Key Colour", "201 #NULL#"),
    ("SetAccountRights joe (master, DomainsRead)", OK),
    ("GetAccountRights joe", "201 (DomainsRead,Master)"),
    ("SetAccountRights joe ()", OK),
    ("SetAccountRights joe (King)", "501 rights are Master, AllDomains"),
    (
        "SetAccountRights bob@c.d (Master)",
        "501 rights over the server are for accounts of the main domain",
    ),
    ("SetAccountRights bob@c.d (BasicSettings)", OK),
    (
        "RenameAccount postmaster INTO pm@c.d",
        "501 rights over the server are for accounts of the main domain",
    ),
    ("RenameAccount bob@c.d into ann@c.d", "520 account with this name already"),
    ("RenameAccount rob@c.d into new@c.d", "513 unknown account"),
    ("RenameAccount bob@c.d into bob@e.f", "512 unknown domain"),
    ("RenameAccount bob@c.d into bobby@c.d", OK),
    ("DeleteAccount rob@c.d", "513 unknown account"),
    ("DeleteAccount bobby@c.d", OK),
    ("DeleteAccount bobby@c.d", "513 unknown account"),
    ("KillAccountSessions joe", "501 the option session-killer names no program"),
    ("KillAccountSessions nobody", "513 unknown account"),
    ("CreateDomain e.f {Colour=blue;}", OK),
    ("CreateDomain e.f", "500 domain with this name already exists"),
    ('CreateDomain "a b"', "501 a domain's name is"),
    ("GetDomainSettings e.f", "201 {Colour=blue;}"),
    ("UpdateDomainSettings e.f {Colour=default;Size=#1;}", OK),
    ("GetDomainSettings e.f", "201 {Size=#1;}"),
    ("UpdateDomainSettings g.h {}", "512 unknown domain"),
    (
        'UpdateDomainSettings e.f {AccountDefaults={Home="/srv/%d/%n";UID=5;GID=5;};}',
        OK,
    ),
    ("GetAccountDefaults e.f", '201 {GID=5;Home="/srv/%d/%n";UID=5;}'),
    (
        "GetDomainEffectiveSettings e.f",
        '201 {AccountDefaults={GID=5;Home="/srv/%d/%n";UID=5;};Size=#1;}',
    ),
    ("CreateAccount sue@e.f {PWDAllowed=NO;}", OK),
    ("GetAccount sue@e.f", '201 {GID=#5;Home="/srv/e.f/sue";PWDAllowed=NO;UID=#5;}'),
    ("CreateAccount ../x@e.f", "501 no path can be made of this name"),
    (
        "UpdateDomainSettings e.f {AccountDefaults={Password=x;};}",
        "501 a password is nobody's default",
    ),
    ("UpdateDomainSettings e.f {AccountDefaults=x;}", "501 AccountDefaults is a"),
    ("RenameDomain e.f into c.d", "500 domain with this name already exists"),
    ("RenameDomain e.f into g.h", OK),
    ("ListAccounts g.h", "201 {sue=macnt;}"),
    ("DeleteDomain g.h", "555 it is in use"),
    ("DeleteDomain g.h force", OK),
    ("DeleteDomain g.h", "512 unknown domain"),
    ("DeleteDomain a.b force", "555 it is in use"),
    ("WriteLog 3 it is late", OK),
    ("WriteLog 6 x", "501 a level is a digit from 0 to 5"),
    ("Foo", "501 unknown command at octet 0"),
    ("QUIT", "501 a command of the dialogue's at octet 0"),
]


def test_a_transcript_of_every_command(master: Say, house: House) -> None:
    for line, answer in TRANSCRIPT:
        said = master(line)
        assert said.startswith(answer), line
        assert said == answer or not answer.startswith("20"), line
    given = {line.split()[0].upper() for line, _ in TRANSCRIPT}
    assert given >= {name.upper() for name in HANDLERS}
    assert (3, "it is late") in house.log


@pytest.mark.parametrize(
    "line",
    [
        b'SetAccountPassword joe TO "pa"ss"',
        b'UpdateAccountSettings joe {Password="pa"ss";}',
        b'UpdateAccountSettings joe {Password="a\\z";}',
        b"UpdateAccountSettings joe {Password=x;Password=y;}",
        b"UpdateAccountSettings joe {Password=x;password=y;}",
        b"UpdateAccountSettings joe {Password=x;City=" + b"(" * 10_000 + b"}",
        b"UpdateAccountSettings joe {Password=x;} x",
        b"UpdateAccountSettings joe {Password=default;}",
        b"UpdateAccountSettings joe {Password=#NULL#;}",
        b"UpdateAccountSettings joe {Password=(x);}",
        b"UpdateAccountSettings joe {Password=x;PWDAllowed=maybe;}",
        b'UpdateAccountSettings joe {Password=x;"a b"=c;}',
        b'UpdateAccountSettings joe {Password=x;"a\\nb"=c;}',
        b"UpdateAccountSettings joe {Password=x;City=" + b"y" * 70_000 + b";}",
        b"UpdateAccountSettings joe {Password=" + b"y" * 1_000_000 + b";}",
        b'UpdateAccountSettings joe {Password="\\999";}',
        b'CreateAccount new {Password="' + b"y" * 300 + b'";}',
        b"CreateAccount new {UID=#1;}",
        b"SetAccountAliases joe (x,y,x y)",
        b"SetAccountAliases joe (new,joe)",
        b"SetAccountRights joe (DomainsRead,Kaiser)",
        b"RenameAccount joe into all",
        b"CreateDomain e.f {AccountDefaults={UID=x;};}",
    ],
)
def test_what_is_refused_changes_nothing(
    master: Say, house: House, line: bytes
) -> None:
    before = house.dump()
    answer = master(line)
    assert answer[:4] in ("501 ", "520 "), answer
    assert house.dump() == before
    assert house.knows("joe", "secret")


def test_passwords_are_never_told(master: Say, house: House) -> None:
    assert master("UpdateAccount joe {PASSWORD=sesame;RequireAPOP=YES;}") == OK
    assert house.knows("joe", "sesame")
    told = master("GetAccount joe") + master("GetAccountEffectiveSettings joe")
    told += master("GetAccountInfo joe") + repr(house.log)
    assert "sesame" not in told
    assert "$" not in told
    store = house.store()
    assert store.credentials(b"joe")["clear"] == b"sesame"
    assert "RequireAPOP=YES" in told


def test_clear_secrets_are_where_they_are_asked_for(master: Say, house: House) -> None:
    store = house.store()

    def has_clear() -> bool:
        return store.show(b"joe").has_clear

    assert master("SetAccountPassword joe TO one") == OK
    assert not has_clear()
    assert master("UpdateAccount joe {UseAPOP=YES;PasswordEncryption=sha512;}") == OK
    assert not has_clear()
    assert master("SetAccountPassword joe TO two") == OK
    assert has_clear()
    assert store.show(b"joe").method == "$6$"
    assert master("UpdateAccount joe {UseAPOP=NO;}") == OK
    assert not has_clear()
    assert house.knows("joe", "two")
    assert master("UpdateAccount joe {PasswordEncryption=U-crpt;Password=three;}") == OK
    assert store.show(b"joe").method == "$1$"


@pytest.mark.parametrize(
    ("standing", "change", "is_kept"),
    [
        ("{RequireAPOP=YES;}", "UpdateAccount joe {RequireAPOP=default;}", False),
        ("{RequireAPOP=YES;}", "SetAccount joe {}", False),
        ("{RequireAPOP=YES;}", "UpdateAccount joe {UseAPOP=NO;}", True),
        ("{RequireAPOP=YES;}", "UpdateAccount joe {City=x;}", True),
        ("{RequireAPOP=YES;UseAPOP=YES;}", "SetAccount joe {UseAPOP=YES;}", True),
        ("{}", "SetAccount joe {City=x;}", True),
    ],
)
def test_a_clear_secret_goes_with_the_last_wish_for_it(
    master: Say, house: House, standing: str, change: str, *, is_kept: bool
) -> None:
    with house.store() as store:
        store.set_secret(b"joe", b"secret", clear=True)
    assert master(f"UpdateAccount joe {standing}") == OK
    assert house.store().show(b"joe").has_clear
    assert master(change) == OK
    assert house.store().show(b"joe").has_clear == is_kept
    assert house.knows("joe", "secret")
    assert master("SetAccountPassword joe TO other") == OK
    assert house.store().show(b"joe").has_clear == is_kept


@pytest.mark.parametrize(
    "line",
    [
        "SetAccountPassword joe TO other",
        "CreateAccount new {Password=other;}",
        "UpdateAccount joe {Password=other;City=x;}",
        "SetAccount joe {Password=other;PasswordEncryption=sha512;}",
    ],
)
def test_others_may_write_while_a_password_is_hashed(
    master: Say, house: House, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    made: list[bytes] = []

    def make(secret: bytes, method: str = "") -> bytes:
        with house.store() as store:
            store.set_option("meanwhile", b"%d" % len(made))
        made.append(hash_of(secret, method))
        return made[-1]

    hash_of = hashes.make
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(hashes, "make", make)
    assert master(line) == OK
    assert made
    user = b"new" if "new" in line else b"joe"
    assert house.store().credentials(user)["hash"] == made[0]


def test_what_is_refused_waits_for_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = house.by("joe")
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.0)
    with house.store() as store:
        store.set_option("held", b"for writing")
        for line in (
            "DeleteAccount ann@c.d",
            "CreateAccount new",
            "RenameAccount joe INTO new",
            "SetAccountRights joe (Master)",
            "UpdateAccount joe {Password=x;}",
            "CreateDomain e.f",
            "UpdateDomainSettings c.d {}",
        ):
            assert said(line) == NOT_ALLOWED
        assert house.by("")("DeleteAccount joe").startswith("400 ")


def test_access_is_logging_in(master: Say, house: House) -> None:
    assert master("UpdateAccount joe {AccessModes=(Mail,IMAP);}") == OK
    assert not house.knows("joe", "secret")
    assert master("UpdateAccount joe {AccessModes=default;}") == OK
    assert house.knows("joe", "secret")


# Who, what he says, whether he may.
RIGHTS = [
    ("joe", "NOOP", True),
    ("joe", "MainDomainName", True),
    ("joe", "GetAccountSettings joe", True),
    ("joe", "GetAccountSettings joe@a.b", True),
    ("joe", "GetAccountEffectiveSettings joe", True),
    ("joe", "GetAccountAliases joe", True),
    ("joe", "GetAccountInfo joe", True),
    ("joe", "GetAccountSettings ann@c.d", False),
    ("joe", "GetAccountSettings nobody", False),
    ("joe", "UpdateAccountSettings joe {City=x;}", False),
    ("joe", "SetAccountPassword joe TO x", False),
    ("joe", "VerifyAccountPassword joe PASSWORD secret", False),
    ("joe", "GetAccountRights joe", False),
    ("joe", "SetAccountRights joe (Master)", False),
    ("joe", "ListAccounts", False),
    ("joe", "ListDomains", False),
    ("joe", "ListDomainObjects a.b 1", False),
    ("joe", "GetDomainSettings", False),
    ("joe", "GetDomainEffectiveSettings a.b", False),
    ("joe", "GetAccountDefaults a.b", False),
    ("joe", "CreateAccount x", False),
    ("joe", "DeleteAccount joe", False),
    ("joe", "RenameAccount joe into x", False),
    ("joe", "SetAccountAliases joe (x)", False),
    ("joe", "KillAccountSessions joe", False),
    ("joe", "CreateDomain e.f", False),
    ("joe", "RenameDomain c.d into e.f", False),
    ("joe", "DeleteDomain c.d", False),
    ("joe", "UpdateDomainSettings a.b {}", False),
    ("joe", "WriteLog 1 x", False),
    ("adm@c.d", "ListAccounts", True),
    ("adm@c.d", "ListAccounts c.d", True),
    ("adm@c.d", "ListAccounts a.b", False),
    ("adm@c.d", "ListDomains", True),
    ("adm@c.d", "GetDomainSettings c.d", True),
    ("adm@c.d", "UpdateDomainSettings c.d {x=y;}", False),
    ("adm@c.d", "CreateAccount x", True),
    ("adm@c.d", "CreateAccount x@a.b", False),
    ("adm@c.d", "CreateAccount x@e.f", False),
    ("adm@c.d", "GetAccountSettings ann", True),
    ("adm@c.d", "GetAccountSettings joe@a.b", False),
    ("adm@c.d", "UpdateAccountSettings ann {City=x;}", True),
    ("adm@c.d", "SetAccountPassword ann TO x", True),
    ("adm@c.d", "SetAccountAliases ann (x)", True),
    ("adm@c.d", "RenameAccount ann into anna", True),
    ("adm@c.d", "RenameAccount ann into anna@a.b", False),
    ("adm@c.d", "DeleteAccount ann", True),
    ("adm@c.d", "SetAccountPassword joe@a.b TO x", False),
    ("adm@c.d", "SetAccountRights ann (BasicSettings)", False),
    ("adm@c.d", "DeleteDomain c.d force", False),
    ("eye", "ListDomains", True),
    ("eye", "ListAccounts c.d", True),
    ("eye", "GetAccountSettings ann@c.d", True),
    ("eye", "SetAccountPassword ann@c.d TO x", False),
    ("eye", "CreateAccount x", False),
    ("all", "CreateAccount x@c.d", True),
    ("all", "SetAccountPassword adm@c.d TO x", True),
    ("all", "SetAccountPassword postmaster TO x", False),
    ("all", "VerifyAccountPassword postmaster PASSWORD secret", False),
    ("all", "DeleteAccount postmaster", False),
    ("all", "RenameAccount postmaster into x", False),
    ("all", "SetAccountAliases postmaster (x)", False),
    ("all", "CreateDomain e.f", True),
    ("all", "CreateDomain e.f {AccountDefaults={City=x;};}", True),
    ("all", "CreateDomain e.f {AccountDefaults={UID=#0;GID=#0;};}", False),
    ("all", "DeleteDomain c.d force", True),
    ("all", "SetAccountRights all (Master)", False),
    ("all", "WriteLog 1 x", False),
    ("postmaster", "SetAccountPassword all TO x", True),
    ("postmaster", "SetAccountRights all (Master)", True),
    ("postmaster", "WriteLog 1 x", True),
]


@pytest.mark.parametrize(("user", "line", "is_allowed"), RIGHTS)
def test_who_may_say_what(
    house: House, user: str, line: str, *, is_allowed: bool
) -> None:
    before = house.dump()
    answer = house.by(user)(line)
    if is_allowed:
        assert answer[:3] in ("200", "201")
    else:
        assert answer == NOT_ALLOWED
        assert house.dump() == before


def test_each_sees_his_own_domains(house: House) -> None:
    assert house.by("adm@c.d")("ListDomains") == '201 ("c.d")'
    assert house.by("eye")("ListDomains") == '201 ("a.b","c.d")'


def test_nobody_but_the_master_says_where_mail_is(house: House) -> None:
    pairs = '{UID=#0;GID=#0;Home="/root";Maildir=x;ExternalINBOX=YES;City=x;}'
    for user, name in (("adm@c.d", "ann"), ("all", "ann@c.d")):
        assert house.by(user)(f"UpdateAccount {name} {pairs}") == OK
        shown = house.by(user)(f"GetAccount {name}")
        assert shown == '201 {City=x;Home="/home";}'
        assert house.by(user)(f"SetAccount {name} {pairs}") == OK
        assert house.by(user)(f"GetAccount {name}") == shown
    assert house.by("adm@c.d")(f"CreateAccount new {pairs}") == OK
    assert house.by("adm@c.d")("GetAccount new") == "201 {City=x;}"
    assert house.by("postmaster")(f"UpdateAccount ann@c.d {pairs}") == OK
    assert house.store().show(b"ann@c.d").uid == 0


def test_a_domain_with_an_alias_of_a_master_is_the_master_s(house: House) -> None:
    with house.store() as store:
        store.set_aliases(b"postmaster", ["postmaster@c.d"])
    before = house.dump()
    assert house.by("all")("DeleteDomain c.d force") == NOT_ALLOWED
    assert house.dump() == before
    assert house.by("postmaster")("DeleteDomain c.d force") == OK


def test_an_alias_gives_no_right_over_another_domain(house: House) -> None:
    with house.store() as store:
        store.set_aliases(b"joe", ["joe@c.d"])
    before = house.dump()
    assert house.by("adm@c.d")("SetAccountPassword joe TO x") == NOT_ALLOWED
    assert house.by("adm@c.d")("GetAccountSettings joe") == NOT_ALLOWED
    assert house.by("joe")("GetAccountSettings joe@c.d") == NOT_ALLOWED
    assert house.by("adm@c.d")("DeleteAccount joe@c.d") == NOT_ALLOWED
    assert house.dump() == before


def test_rights_are_those_of_the_moment(house: House) -> None:
    said = house.by("all")
    assert said("ListAccounts c.d").startswith("201")
    with house.store() as store:
        store.set_rights(b"all", [])
    assert said("ListAccounts c.d") == NOT_ALLOWED
    with house.store() as store:
        store.set_enabled(b"all", is_enabled=False)
    assert said("GetAccount all") == NOT_ALLOWED
    with house.store() as store:
        store.remove(b"all")
    assert said("NOOP") == NOT_ALLOWED


def test_rights_over_the_server_end_with_the_main_domain(house: House) -> None:
    with house.store() as store:
        store.set_main_domain("c.d")
    assert house.by("postmaster@a.b")("WriteLog 1 x") == NOT_ALLOWED


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_a_list_in_pieces_is_the_whole_list(master: Say, limit: int) -> None:
    names = {"joe", "joe1", "joe2", "joe.a", "joe-b", "zed"}
    for name in names:
        assert master(f"CreateAccount {name}@c.d") == OK
    found: list[bytes] = []
    cookie = b'""'
    for _ in range(20):
        line = b"ListDomainObjects c.d %d ACCOUNTS COOKIE %b" % (limit, cookie)
        answer = parse(master(line).removeprefix("201 ").encode())
        assert isinstance(answer, list)
        assert isinstance(answer[1], dict)
        assert answer[0] == len(names) + 2
        found += answer[1]
        if not answer[-1]:
            break
        cookie = values.render(answer[-1])
    assert sorted(found) == sorted(name.encode() for name in names | {"adm", "ann"})


def test_what_a_log_may_show_is_what_can_be_asked(master: Say) -> None:
    known = parse(master("GetAccountInfo joe").removeprefix("201 ").encode())
    assert isinstance(known, dict)
    assert {key.upper() for key in known} == set(INFO_KEYS)


@pytest.mark.parametrize(
    ("pattern", "place", "is_free"),
    [
        ('{Home="/m/%d/%n";}', '{Home="/m/c.d/vic/";Maildir=Maildir;}', False),
        ('{Home="/m/%d/%n";}', '{Maildir="/m/c.d/vic/Maildir";}', False),
        ('{Home="/m/%d/%n";}', '{Home="/m/c.d/vic";Maildir=other;}', True),
        ('{Home="/m";Maildir="%n";}', '{Home="/m/vic";Maildir=default;}', True),
        ('{Home="/m";Maildir="%n";}', '{Home="/m";Maildir=vic;}', False),
        ('{Home="/\\255/%n";}', '{Home="/\\255/vic";}', False),
        ('{Home="/m";}', '{Home="/m";}', True),  # meant for everybody
    ],
)
def test_no_account_gets_the_mail_of_another_by_its_name(
    master: Say, house: House, pattern: str, place: str, *, is_free: bool
) -> None:
    assert master("CreateAccount old@c.d") == OK
    assert master(f"UpdateAccount old@c.d {place}") == OK
    assert master(f"UpdateDomainSettings c.d {{AccountDefaults={pattern};}}") == OK
    before = house.dump()
    said = house.by("adm@c.d")("CreateAccount vic {Password=minemine;}")
    assert said == (OK if is_free else TAKEN)
    if not is_free:
        assert house.dump() == before
        assert master('CreateAccount vic@c.d {Home="/own";Maildir="x";}') == OK


def test_who_had_a_name_keeps_his_mail_for_himself(master: Say, house: House) -> None:
    assert master('UpdateDomainSettings c.d {AccountDefaults={Home="/m/%n";};}') == OK
    administrator = house.by("adm@c.d")
    assert administrator("CreateAccount vic {Password=x;}") == OK
    assert administrator("RenameAccount vic INTO vic2") == OK
    assert administrator("CreateAccount vic {Password=x;}") == TAKEN
    assert administrator("CreateAccount vic3 {Password=x;}") == OK


def test_storage_is_what_lies_in_the_maildir(master: Say, tmp_path: Path) -> None:
    for folder in ("new", "cur", "tmp"):
        (tmp_path / "Maildir" / folder).mkdir(parents=True)
        (tmp_path / "Maildir" / folder / "1").write_bytes(b"x" * 10)
    (tmp_path / "Maildir/new/link").symlink_to("/bin/sh")
    assert master(f'UpdateAccount joe {{Home="{tmp_path}";}}') == OK
    assert master("GetAccountInfo joe Key storageused") == "201 #20"
    info = parse(master("GetAccountInfo joe").partition(" ")[2].encode())
    assert isinstance(info, dict)
    assert info[b"StorageUsed"] == 20


def test_sessions_are_killed_by_the_administrators_program(
    master: Say, house: House, tmp_path: Path
) -> None:
    program = tmp_path / "killer"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/told\n', encoding="ascii")
    program.chmod(0o755)
    with house.store() as store:
        store.set_option("session-killer", os.fsencode(program))
    assert master("KillAccountSessions joe@a.b") == OK
    assert (tmp_path / "told").read_text(encoding="ascii") == "-- joe\n"
    program.write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    answer = "400 temporary failure, try again later"
    assert master("KillAccountSessions joe") == answer
    with house.store() as store:
        store.set_option("session-killer", b"true")  # which is in PATH
    assert master("KillAccountSessions joe") == answer


def test_root_runs_no_program_that_others_have_chosen(
    house: House, master: Say, tmp_path: Path
) -> None:
    need_root()
    program = tmp_path / "kill"
    program.write_text(f"#!/bin/sh\n>{tmp_path}/told\n", encoding="ascii")
    program.chmod(0o755)
    with house.store() as store:
        store.set_option("session-killer", os.fsencode(program))
    Path(os.fsdecode(house.path)).chmod(0o660)
    assert master("KillAccountSessions joe").startswith("400 ")
    assert "others than root" in house.log[-1][1]
    assert not (tmp_path / "told").exists()
    Path(os.fsdecode(house.path)).chmod(0o640)
    assert master("KillAccountSessions joe") == OK
    assert (tmp_path / "told").exists()


@pytest.mark.parametrize("kept", [b"{UID=#1001 GID=#1001}", b"{passWord=sesame;}"])
def test_defaults_that_are_none_make_no_accounts(
    master: Say, house: House, kept: bytes
) -> None:
    with house.store() as store:
        store.set_option("AccountDefaults", kept)
    before = house.dump()
    assert master("CreateAccount new").startswith("400 ")
    assert "AccountDefaults" in house.log[-1][1]
    assert master("GetDomainEffectiveSettings a.b").startswith("400 ")
    assert house.dump() == before


def test_trouble_of_ours_is_not_told(
    house: House, master: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Temporary("the disk is full of secrets")

    monkeypatch.setattr(Store, "set_settings", fail)
    answer = master("UpdateAccount joe {City=x;}")
    assert answer == "400 temporary failure, try again later"
    assert (1, "administrator: the disk is full of secrets") in house.log
