# SPDX-License-Identifier: ISC
"""Import and export: every form there and back, and every line that can't be."""

import tempfile
from binascii import b2a_base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtools.accounts import hashes
from qtools.accounts.authuser import AuthUser
from qtools.accounts.db import ledger
from qtools.accounts.db.exchange import export_accounts, import_accounts
from qtools.accounts.db.exchange.entry import Entry, entries
from qtools.accounts.db.files import create
from qtools.accounts.db.reader import Database
from qtools.accounts.db.rights import DOMAIN_RIGHTS
from qtools.accounts.db.store import Store
from qtools.accounts.refusals import NoDomain, Unfit
from qtools.errors import Failure, Hard, Refused
from qtools.protocol import digests, scram

HASH = b"$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1"  # of secret
KEYS = scram.make_keys(b"secret", b"0123456789abcdef", 4096)
SHA512 = b"$6$rounds=1000$salt$" + b"k" * 86
SHA256 = b"$5$a$" + b"k" * 43
BCRYPT = b"$2y$05$" + b"s" * 21 + b"." + b"k" * 31
DOVECOTS = KEYS.replace(b"$", b"}", 1).replace(b"$", b",").replace(b":", b",")


@pytest.fixture(autouse=True, scope="module")
def _cheap() -> Iterator[None]:
    """Spend nothing on hashes and on a disk that nobody looks at."""
    pragmas = (*ledger.PRAGMAS, "synchronous = OFF")
    with pytest.MonkeyPatch.context() as patch:
        row = hashes.CRYPT_METHODS["md5"]
        patch.setitem(hashes.CRYPT_METHODS, hashes.PREFERRED, row)
        patch.setattr(scram, "make_keys", lambda *_: KEYS)
        patch.setattr(ledger, "PRAGMAS", pragmas)
        yield


FEWER = settings(max_examples=settings().max_examples // 4)  # each makes files

EMPTY: list[bytes] = []  # the octets of an empty database


@contextmanager
def fresh() -> Iterator[Store]:
    """Give an empty database."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "accounts"
        if not EMPTY:
            create(bytes(path))
            EMPTY.append(path.read_bytes())
        path.write_bytes(EMPTY[0])
        path.chmod(0o600)
        store = Store(bytes(path))
        yield store
        store.close()


@pytest.fixture
def store() -> Iterator[Store]:
    with fresh() as made:
        yield made


def take(store: Store, form: str, *lines: bytes) -> Entry:
    """Import lines that make one account, and give it."""
    report = import_accounts(store, form, lines)
    assert report.faults == []
    assert (report.count, report.is_done) == (1, True)
    (entry,) = entries(store)
    return entry


# --------------------------------------------------------------------------------
# what comes in


def test_a_line_of_dovecots(store: Store) -> None:
    line = b"Joe@Ex.org:{MD5-CRYPT}%b:7:8:Joe,,,:/home/joe:/bin/sh:x=y " % HASH
    entry = take(store, "passwd-file", line + b"userdb_mail=maildir:/mail/joe\r\n")
    assert entry.user == b"joe@ex.org"
    assert (entry.ids, entry.home, entry.maildir) == (
        (7, 8),
        b"/home/joe",
        b"/mail/joe",
    )
    assert entry.made == {"hash": HASH}
    assert entry.is_enabled
    database = Database(store._name.encode())
    assert database.verify(b"joe@ex.org", b"secret", b"").uid == 7
    assert database.decoy().startswith(b"$1$")
    assert database.decoy() != HASH


@pytest.mark.parametrize(
    ("password", "made"),
    [
        (HASH, {"hash": HASH}),
        (b"{CRYPT}qtFrQNeTIbABC", {"hash": b"qtFrQNeTIbABC"}),
        (b"{crypt}" + SHA256, {"hash": SHA256}),
        (b"{SHA512-CRYPT}" + SHA512, {"hash": SHA512}),
        (b"{SHA256-CRYPT.b64}" + b2a_base64(SHA256), {"hash": SHA256}),
        (b"{BLF-CRYPT}" + BCRYPT, {"hash": BCRYPT}),
        (b"{" + DOVECOTS, {"scram-sha-256": KEYS}),
        (b"!", {}),
    ],
)
def test_dovecots_schemes(
    store: Store, password: bytes, made: dict[str, bytes]
) -> None:
    assert take(store, "passwd-file", b"joe:" + password).made == made


@pytest.mark.parametrize(
    "password", [b"{PLAIN}secret", b"{CLEARTEXT.hex}736563726574", b"{CLEAR}secret"]
)
def test_a_clear_password_is_kept_and_makes_the_rest(
    store: Store, password: bytes
) -> None:
    entry = take(store, "passwd-file", b"joe:" + password)
    assert entry.made["clear"] == b"secret"
    assert entry.made["scram-sha-256"] == KEYS
    assert hashes.matches(b"secret", entry.made["hash"])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"joe", "between colons"),
        (b":x", "locked, or no hash"),
        (b"j e:" + HASH, "an account's name"),
        (b"\xff:" + HASH, "UTF-8"),
        (b"a@b@c:" + HASH, "user or user@domain"),
        (b"joe:{SSHA}c2VjcmV0", "scheme that can't be"),
        (b"joe:{SSHA512.hex}00", "scheme that can't be"),
        (b"joe:{PLAIN-MD5}00", "scheme that can't be"),
        (b"joe:{ARGON2ID}$argon2id$v=19$m=1$a$b", "scheme that can't be"),
        (b"joe:{}" + HASH, "scheme that can't be"),
        (b"joe:{CRYPT", "end of its scheme"),
        (b"joe:{CRYPT.rot13}" + HASH, "encoding"),
        (b"joe:{PLAIN.b64}?", "encoded"),
        (b"joe:{PLAIN.hex}0", "encoded"),
        (b"joe:{PLAIN}", "empty password"),
        (b"joe:{PLAIN.hex}00", "can't hold NUL"),
        (b"joe:{SHA512-CRYPT}" + HASH, "another method"),
        (b"joe:!" + HASH, "locked, or no hash"),
        (b"joe:$1$abc", "locked, or no hash"),
        (b"joe:secret", "locked, or no hash"),
        (b"joe:$1$a b$c", "no hash"),
        (b"joe:$1$" + b"x" * 600, "no hash"),
        (b"joe:$6$salt$key", "locked, or no hash"),
        (b"joe:" + SHA512.replace(b"1000", b"999999999"), "too long"),
        (b"joe:$sha1$4000000$salt$" + b"k" * 28, "method that can't be"),
        (b"joe:{SCRAM-SHA-256}4096,c2FsdA==,c3RvcmVk", "no keys"),
        (b"joe:{SCRAM-SHA-256}4096,c2FsdA==,c3RvcmVk,c2VydmVy", "no keys"),
        (b"joe:%b:7" % HASH, "two numbers"),
        (b"joe:%b:-1:8" % HASH, "two numbers"),
        (b"joe:%b:mail:mail" % HASH, "two numbers"),
        (b"joe:%b:4294967295:1" % HASH, "two numbers"),
        (b"joe:%b:::::/%b" % (HASH, b"x" * 2000), ""),
        (b"joe:%b:7:8::home/joe:" % HASH, "absolute path"),
        (b"joe:%b:7:8::/home/\x1b[2J:" % HASH, "control character"),
    ],
)
def test_lines_that_can_not_be(store: Store, line: bytes, why: str) -> None:
    report = import_accounts(store, "passwd-file", [b"# comment", b"", line])
    if not why:  # shells may be what they like
        assert report.count == 1
        return
    ((number, text),) = report.faults
    assert number == 3
    assert why in text
    assert text.isprintable()
    assert (report.is_done, report.count) == (False, 0)
    assert list(entries(store)) == []


def test_one_bad_line_spoils_all_unless_it_is_to_be_skipped(store: Store) -> None:
    lines = [b"joe:" + HASH, b"ann:{SSHA}x", b"JOE:" + HASH, b"bob:" + HASH]
    faults = [(2, "a password of a scheme that can't be imported")]
    report = import_accounts(store, "passwd-file", lines)
    assert (report.faults, report.is_done, report.count) == (faults, False, 0)
    assert list(store.list()) == []
    del lines[1]
    faults = [(2, "there is an account joe already")]
    report = import_accounts(store, "passwd-file", lines)
    assert (report.faults, report.is_done, report.count) == (faults, False, 0)
    assert list(store.list()) == []
    report = import_accounts(store, "passwd-file", lines, skip_bad=True)
    assert (report.faults, report.is_done, report.count) == (faults, True, 2)
    assert [account.user for account in store.list()] == ["bob", "joe"]


def test_a_line_that_fails_halfway_leaves_nothing(store: Store) -> None:
    lines = [b"user,password,aliases\n", b"joe,one,postmaster\n", b"ann,two,joe\n"]
    report = import_accounts(store, "csv", lines, skip_bad=True)
    assert report.faults == [(3, "there is an account joe already")]
    assert [account.user for account in store.list()] == ["joe"]
    assert store.aliases(b"joe") == ["postmaster"]


def test_a_vpopmail_domain(store: Store) -> None:
    form = "vpasswd:Ex.org:89:90"
    line = b"Joe:%b:1:3:Joe:/var/vpopmail/joe:NOQUOTA:secret" % HASH
    entry = take(store, form, line)
    assert entry.user == b"joe@ex.org"
    assert entry.made == {"hash": HASH, "clear": b"secret", "scram-sha-256": KEYS}
    assert (entry.may_change, entry.is_enabled) == (False, False)
    assert (entry.ids, entry.home) == ((89, 90), b"/var/vpopmail/joe")
    assert entry.maildir == b"/var/vpopmail/joe/Maildir"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"joe:" + HASH, "seven or eight"),
        (b"joe@x:%b:1:0:J:/d:N" % HASH, "without its domain"),
        (b":%b:1:0:J:/d:N" % HASH, "without its domain"),
        (b"joe:%b:1:x:J:/d:N" % HASH, "flags"),
        (b"joe::1:0:J:/d:N", "locked, or no hash"),
        (b"joe:%b:1:0:J:joe:N" % HASH, "absolute path"),
    ],
)
def test_vpopmail_lines_that_can_not_be(store: Store, line: bytes, why: str) -> None:
    report = import_accounts(store, "vpasswd:ex.org", [line])
    assert [number for number, text in report.faults if why in text] == [1]


def test_an_authuser_file(store: Store) -> None:
    lines = [
        b"joe:old\n",
        b"# comment: with a colon\n",
        b"#:@ex.org:uid=7 gid=8 home=/home/joe/%d/%u\n",
        b"Joe@ex.org:{CRYPT}qtFrQNeTIbABC \n",
        b"JOE:" + HASH,
        b"off:secret",
        b"!off:",
        b"#:off:maildir=/mail/100%%",
    ]
    report = import_accounts(store, "authuser", lines)
    assert report.faults == []
    one, two, three = entries(store)
    assert (one.user, one.made) == (b"joe", {"hash": HASH})
    assert (two.user, two.home) == (b"joe@ex.org", b"/home/joe/ex.org/joe")
    assert two.ids == (7, 8)
    assert two.made == {"hash": b"qtFrQNeTIbABC"}
    assert (three.user, three.made["clear"]) == (b"off", b"secret")
    assert (three.is_enabled, three.home, three.maildir) == (False, b"", b"/mail/100%")


@pytest.mark.parametrize(
    "line",
    [
        *(b"joe:?", b"joe:!", b"joe:+", b"joe:=", b"joe:&"),
        *(b"joe:%5ebe2294ecd0e0f08eab7690d2a6ee69", b"@ex.org:secret", b"@:x", b"*:x"),
        *(b"joe:{CRYPT}x", b"joe:secret\n#:joe:uid=7", b":secret"),
    ],
)
def test_authuser_lines_that_can_not_be(store: Store, line: bytes) -> None:
    report = import_accounts(store, "authuser", line.splitlines())
    assert [number for number, _ in report.faults] == [1]
    assert list(store.list()) == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", [1]),
        ("name,password\njoe,x\n", [1]),
        ("user,colour\njoe,red\n", [1]),
        ("user,hash\njoe\n", [2]),
        ("user,hash\njoe,$1$a$b,\n", [2]),
        ("user,enabled\njoe,maybe\n", [2]),
        ("user,clear\njoe,a\0b\n", [2]),
        ("user,settings\njoe,a=b\n", [2]),
        ("user,settings\njoe,a=eA==\nann,Password=c2VjcmV0\n", [3]),
        ('user,home\njoe,"/a\nb"\n', [3]),
        ("user,home\njoe,a\n", [2]),
        ("user,rights\njoe,Master\nann,Nonsense\n", [3]),
        ("user,rights\njoe,Master\nann@ex.org,Master\n", [3]),
        ("user,password,hash\njoe,x,$1$a$b\n", [2]),
        ('user,password\n"jo"e,x\nann,x\n', [2]),
        ('user,password\n"joe,x\nann,x\n', [3]),
        ("user,password\njoe,x\n\nann,x x\nbob,\x85\x85\n,y", [6]),
    ],
)
def test_tables_that_can_not_be(store: Store, text: str, numbers: list[int]) -> None:
    lines = text.encode().splitlines(keepends=True)
    report = import_accounts(store, "csv", lines)
    assert [number for number, _ in report.faults] == numbers
    assert list(store.list()) == []


def test_a_table_needs_few_columns(store: Store) -> None:
    entry = take(store, "csv", b"\xef\xbb\xbfuser,password\r\n", b'joe,"a, ""b"""\r\n')
    assert hashes.matches(b'a, "b"', entry.made["hash"])
    assert "clear" not in entry.made


def test_strangers_cost_what_most_of_the_newest_accounts_cost(store: Store) -> None:
    with store:
        store.add(b"old", None, b"/", b"")
        store.set_secret(b"old", b"secret", "sha256")
    database = Database(store._name.encode())
    assert database.decoy().startswith(b"$5$")
    lines = [b"a:" + HASH, b"b:" + HASH, b"c:" + SHA512]
    import_accounts(store, "passwd-file", lines)
    assert database.decoy().startswith(b"$1$")
    lines = [b"%d:%b" % (number, SHA512) for number in range(9)]
    import_accounts(store, "passwd-file", lines)
    assert database.decoy().startswith(b"$6$rounds=1000$")
    assert not hashes.matches(b"secret", database.decoy())


@pytest.mark.parametrize("form", ["", "passwd", "csv:x", "passwd-file:ex.org"])
def test_a_form_that_there_is_none_of(store: Store, form: str) -> None:
    with pytest.raises(Hard, match="there are authuser"):
        import_accounts(store, form, [])
    with pytest.raises(Hard, match="there are authuser"):
        list(export_accounts(store, form))


@pytest.mark.parametrize("form", ["vpasswd", "vpasswd:a b", "vpasswd:ex.org:x:y"])
def test_vpopmails_form_needs_a_domain(store: Store, form: str) -> None:
    with pytest.raises(Hard, match="vpasswd:domain"):
        import_accounts(store, form, [])


FORMS = ["authuser", "passwd-file", "vpasswd:ex.org", "csv"]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@FEWER
@given(lines=st.lists(st.binary(max_size=80) | st.from_regex(rb"\A\w:[^\n]*\Z")))
def test_nothing_crashes_an_import(form: str, lines: list[bytes]) -> None:
    with fresh() as store:
        report = import_accounts(store, form, lines, skip_bad=True)
        assert report.is_done
        assert len(list(store.list())) == report.count
        assert all(text.isprintable() for _, text in report.faults)


# --------------------------------------------------------------------------------
# what goes out

TEXT = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1
)
SECRETS = st.binary(min_size=1, max_size=30).filter(
    lambda secret: not {*b"\0\r\n"} & {*secret}
)
PATHS = st.sampled_from(
    [b"", b"/home/joe", b"/h/100%u%%", b"/h/\xff'\"\\,;", b"/\xc3\xbc"]
)
STORED = st.sampled_from([b"", HASH, b"qtFrQNeTIbABC", SHA512])
KEYS_KEPT = TEXT.filter(lambda key: key.isalnum() and key.upper() != "PASSWORD")
ENTRY = st.fixed_dictionaries(
    {
        "ids": st.none() | st.tuples(st.integers(0, 2**32 - 2), st.integers(0, 7)),
        "home": PATHS,
        "maildir": PATHS,
        "hash": STORED,
        "clear": st.just(b"") | SECRETS,
        "scram-sha-256": st.sampled_from([b"", KEYS]),
        "is_enabled": st.booleans(),
        "may_change": st.booleans(),
        "rights": st.lists(st.sampled_from(DOMAIN_RIGHTS), unique=True),
        "settings": st.dictionaries(KEYS_KEPT, st.binary(), max_size=3),
    }
)
USERS = st.sampled_from([b"joe", b"ann@ex.org", b"\xc3\xbc@ex.org", b"a'\",;@ex.com"])


def fill(store: Store, accounts: dict[bytes, dict[str, object]]) -> None:
    """Make accounts of what hypothesis has thought of."""
    with store:
        for user, drawn in accounts.items():
            entry = Entry(user)
            vars(entry).update({key: drawn[key] for key in vars(entry) if key in drawn})
            store.add(user, entry.ids, entry.home, entry.maildir, make_domain=True)
            made = {kind: drawn[kind] for kind in ("hash", "clear", "scram-sha-256")}
            store.set_credentials(user, made)  # type: ignore[arg-type]  # octets
            store.set_enabled(user, is_enabled=entry.is_enabled)
            store.set_may_change(user, may_change=entry.may_change)
            store.set_rights(user, entry.rights)
            store.set_settings(user, entry.settings)
            store.set_aliases(user, ["x-" + user.decode()])


def everything(store: Store) -> dict[bytes, dict[str, object]]:
    return {entry.user: vars(entry) for entry in entries(store)}


@pytest.mark.slow
@FEWER
@given(st.dictionaries(USERS, ENTRY, max_size=3))
def test_a_table_says_everything(accounts: dict[bytes, dict[str, object]]) -> None:
    with fresh() as store, fresh() as other:
        fill(store, accounts)
        for entry in accounts.values():  # what an import makes anew, when it is missing
            if entry["clear"] and not (entry["hash"] and entry["scram-sha-256"]):
                return
        report = import_accounts(other, "csv", export_accounts(store, "csv"))
        assert report.faults == []
        before, after = everything(store), everything(other)
        assert after == before


def secret_of(entry: dict[str, object], kinds: tuple[str, ...]) -> object:
    """Give the first of these credentials that an account has."""
    made = entry["made"]
    assert isinstance(made, dict)
    return next(((kind, made[kind]) for kind in kinds if kind in made), None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "kinds", "names"),
    [
        (
            "passwd-file",
            ("clear", "hash", "scram-sha-256"),
            ("user", "ids", "home", "maildir", "is_enabled"),
        ),
        ("authuser", (), ("user", "ids", "home", "maildir", "is_enabled")),
        ("vpasswd:ex.org", ("clear", "hash"), ("user", "is_enabled", "may_change")),
    ],
)
@FEWER
@given(accounts=st.dictionaries(USERS, ENTRY, max_size=3))
def test_other_forms_say_what_they_can(
    form: str,
    kinds: tuple[str, ...],
    names: tuple[str, ...],
    accounts: dict[bytes, dict[str, object]],
) -> None:
    with fresh() as store, fresh() as other:
        fill(store, accounts)
        with store:
            if "ex.org" not in store.domains():
                store.add_domain("ex.org")
        report = import_accounts(other, form, export_accounts(store, form))
        assert report.faults == []
        before, after = everything(store), everything(other)
        if form.startswith("vpasswd"):
            before = {user: row for user, row in before.items() if b"@ex.org" in user}
        assert after.keys() == before.keys()
        for user, entry in before.items():
            for name in names:
                assert after[user][name] == entry[name]
            assert secret_of(after[user], kinds) == secret_of(entry, kinds)


@pytest.mark.slow
@FEWER
@given(clear=SECRETS, is_hashed=st.booleans())
def test_an_authuser_file_of_ours_lets_in_by_the_same_secret(
    clear: bytes, *, is_hashed: bool
) -> None:
    made = {"clear": clear}
    if is_hashed:
        made["hash"] = hashes.make(clear, "md5")
    with fresh() as store:
        with store:
            store.add(b"joe", (7, 8), b"/home/joe", b"")
            store.set_credentials(b"joe", made)
        source = AuthUser(b"".join(export_accounts(store, "authuser")))
    try:
        who = source.verify(b"joe", clear, b"")
    except Refused:
        assert not is_hashed, "or it can't be said in that form"
        return
    assert (who.uid, who.home) == (7, b"/home/joe")
    if not digests.equal(clear, b"x"):
        with pytest.raises(Failure):
            source.verify(b"joe", clear + b"x", b"")


@pytest.mark.parametrize(
    ("form", "home", "user"),
    [
        ("passwd-file", b"/a:b", b"joe"),
        ("passwd-file", b"/a\nb", b"joe"),
        ("passwd-file", b"/a", b"j:e"),
        ("passwd-file", b"/a", b"#joe"),
        ("authuser", b"/a b", b"joe"),
        ("authuser", b"/a\rb", b"joe"),
        ("authuser", b"/a", b"!joe"),
        ("authuser", b"/a", b"j:e"),
        ("vpasswd:ex.org", b"/a:b", b"joe@ex.org"),
    ],
)
def test_what_a_form_can_not_say_is_named(
    store: Store, form: str, home: bytes, user: bytes
) -> None:
    with store:
        store.add(user, None, b"/", b"", make_domain=True)
        # as it may be in a file of earlier days
        store._change("UPDATE account SET home = ?", home.decode())
    with pytest.raises(Unfit, match="can't be said"):
        list(export_accounts(store, form))
    assert user in b"".join(export_accounts(store, "csv"))


@pytest.mark.parametrize("good", [b"ann@x", b"joe@x"])  # before and after the other
@pytest.mark.parametrize("form", ["authuser", "passwd-file", "vpasswd:x"])
def test_what_can_not_be_said_can_be_left_out(
    store: Store, form: str, good: bytes
) -> None:
    bad = b"bad@x" if form == "authuser" else b"b:d@x"
    with store:
        for user, maildir in ((bad, b"/a b"), (good, b"")):
            store.add(user, (7, 8), b"/home", maildir, make_domain=True)
            store.set_enabled(user, is_enabled=False)
    faults: list[Unfit] = []
    lines = list(export_accounts(store, form, faults))
    assert [str(why) for why in faults] == [
        f"the account {bad.decode()} can't be said in this form"
    ]
    assert lines
    assert all(good.partition(b"@")[0] in line for line in lines)


def test_a_vpopmail_domain_that_there_is_none_of(store: Store) -> None:
    with pytest.raises(NoDomain):
        list(export_accounts(store, "vpasswd:ex.org"))


def test_an_export_is_of_one_moment(store: Store) -> None:
    with store:
        for number in range(100):
            store.add(b"user%d" % number, None, b"/", b"")
    lines = export_accounts(store, "csv")
    next(lines)
    next(lines)
    other = Store(store._name.encode())
    with other:
        for number in range(50, 100):
            other.remove(b"user%d" % number)
    other.close()
    assert len(list(lines)) == 99
