# SPDX-License-Identifier: ISC
"""What the store keeps besides secrets: domains, aliases, settings, rights, options."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qtools.accounts import hashes
from qtools.accounts.db import ledger, preparation
from qtools.accounts.db.files import create
from qtools.accounts.db.reader import Database
from qtools.accounts.db.rights import DOMAIN_RIGHTS, SERVER_RIGHTS
from qtools.accounts.db.store import Store
from qtools.accounts.interface import Unknown
from qtools.accounts.refusals import (
    AccountExists,
    DomainExists,
    InUse,
    NoAccount,
    NoDomain,
    Unfit,
)
from qtools.errors import Failure, Refused, Temporary
from qtools.protocol import digests, scram

HASH = b"$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1"  # of secret


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    row = hashes.CRYPT_METHODS["md5"]
    monkeypatch.setitem(hashes.CRYPT_METHODS, hashes.PREFERRED, row)


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    made = bytes(tmp_path / "accounts")
    create(made)
    return made


@pytest.fixture
def store(path: bytes) -> Iterator[Store]:
    """Give a store inside a transaction, with joe and two domains."""
    made = Store(path)
    with made:
        made.add_domain("ex.org")
        made.add_domain("Ex.COM")
        made.add(b"joe", (7, 8), b"/home/joe", b"")
        made.add(b"ann@ex.org", None, b"/", b"")
        yield made
    made.close()


def names(store: Store, domain: str | None = None) -> list[str]:
    return [account.user for account in store.list(domain)]


# --------------------------------------------------------------------------------
# names and domains


def test_accounts_of_a_domain(store: Store) -> None:
    assert store.domains() == ["ex.com", "ex.org"]
    assert store.main_domain() == ""
    assert names(store) == ["ann@ex.org", "joe"]
    assert names(store, "") == ["joe"]
    assert names(store, "EX.org") == ["ann@ex.org"]
    assert names(store, "ex.com") == []
    with pytest.raises(NoDomain, match=r"no domain ex\.net"):
        names(store, "ex.net")


def test_the_main_domain_has_bare_names(store: Store, path: bytes) -> None:
    store.set_secret(b"joe", b"secret")
    store.set_secret(b"ann@ex.org", b"secret")
    store.set_main_domain("ex.org")
    assert store.main_domain() == "ex.org"
    assert names(store, "ex.org") == names(store, "") == ["ann", "joe"]
    store.add(b"bob@EX.org", None, b"/", b"")
    assert store.show(b"bob").user == store.show(b"BOB@ex.ORG").user == "bob"
    store.set_main_domain("ex.com")
    assert names(store) == ["ann@ex.org", "bob@ex.org", "joe@ex.org"]
    store.set_main_domain("")
    assert names(store) == ["ann@ex.org", "bob@ex.org", "joe@ex.org"]
    store.set_main_domain("ex.org")
    store.__exit__(None, None, None)
    database = Database(path)
    for name in (b"ann", b"Ann@ex.org", b"joe@ex.org"):
        assert database.verify(name, b"secret", b"").name in (b"ann", b"joe")
    for name in (b"ann@ex.com", b"@ex.org", b"ann@", b"ann@ex.org@ex.org"):
        with pytest.raises(Unknown):
            database.verify(name, b"secret", b"")


def test_two_accounts_never_get_one_name(store: Store) -> None:
    store.add(b"joe@ex.org", None, b"/", b"")
    with pytest.raises(AccountExists, match="joe"):
        store.set_main_domain("ex.org")
    assert names(store) == ["ann@ex.org", "joe", "joe@ex.org"]
    store.remove(b"joe@ex.org")
    store.set_aliases(b"ann@ex.org", ["joe@ex.org"])
    with pytest.raises(AccountExists, match="joe"):
        store.set_main_domain("ex.org")
    assert store.main_domain() == ""
    with pytest.raises(AccountExists):
        store.add(b"joe@ex.org", None, b"/", b"")
    with pytest.raises(AccountExists):
        store.rename(b"joe", b"joe@ex.org")


def test_an_account_is_renamed_with_all_that_is_its(store: Store) -> None:
    store.set_secret(b"joe", b"secret", clear=True)
    store.set_settings(b"joe", {"RealName": b"Joe"})
    store.set_aliases(b"joe", ["postmaster"])
    store.rename(b"JOE", b"jim@ex.com")
    account = store.show(b"postmaster")
    assert (account.user, account.home, account.uid) == ("jim@ex.com", "/home/joe", 7)
    assert (account.has_clear, account.has_scram) == (True, True)
    assert store.settings(b"jim@ex.com") == {"RealName": b"Joe"}
    with pytest.raises(NoAccount):
        store.show(b"joe")
    with pytest.raises(NoDomain):
        store.rename(b"jim@ex.com", b"jim@ex.net")
    with pytest.raises(AccountExists):
        store.rename(b"jim@ex.com", b"postmaster")
    with pytest.raises(NoAccount):
        store.rename(b"postmaster", b"jim")
    store.rename(b"jim@ex.com", b"Jim@ex.com")


def test_a_domain_is_renamed_with_its_accounts(store: Store) -> None:
    store.set_aliases(b"joe", ["joe@ex.org"])
    store.set_domain_settings("ex.org", {"Limit": b"5"})
    store.rename_domain("ex.org", "example.org")
    assert names(store) == ["ann@example.org", "joe"]
    assert store.aliases(b"joe") == ["joe@example.org"]
    assert store.domain_settings("example.org") == {"Limit": b"5"}
    assert store.domains() == ["ex.com", "example.org"]
    with pytest.raises(DomainExists):
        store.rename_domain("example.org", "ex.com")
    with pytest.raises(NoDomain):
        store.rename_domain("ex.org", "ex.net")
    store.set_main_domain("ex.com")
    store.rename_domain("ex.com", "main.com")
    assert store.main_domain() == "main.com"
    store.add(b"long" * 9, None, b"/", b"")
    store.add(b"long" * 9 + b"@example.org", None, b"/", b"")
    with pytest.raises(Unfit, match="would be called"):
        store.rename_domain("example.org", "x" * 240)
    assert names(store, "main.com") == ["joe", "long" * 9]


def test_a_domain_with_accounts_stays(store: Store) -> None:
    with pytest.raises(InUse, match="has accounts"):
        store.remove_domain("ex.org")
    store.set_aliases(b"joe", ["joe@ex.com"])
    with pytest.raises(InUse, match="has accounts"):
        store.remove_domain("ex.com")
    for domain in ("ex.com", "ex.org"):
        store.remove_domain(domain, force=True)
    assert (store.domains(), names(store)) == ([], ["joe"])
    assert store.aliases(b"joe") == []
    store.add_domain("ex.org")
    store.set_main_domain("ex.org")
    with pytest.raises(InUse, match="main domain"):
        store.remove_domain("ex.org", force=True)
    with pytest.raises(NoDomain):
        store.remove_domain("ex.com")


@pytest.mark.parametrize(
    "name", ["", "a b", "a@b", "a\nb", "\x85", "x" * 241, "\udcff", "\0"]
)
def test_names_that_no_domain_has(store: Store, name: str) -> None:
    with pytest.raises(Unfit):
        store.add_domain(name)
    with pytest.raises(Unfit):
        store.rename_domain("ex.org", name)


@pytest.mark.parametrize("user", [b"@ex.org", b"joe@", b"@", b"a@b@ex.org"])
def test_names_that_no_new_account_has(store: Store, user: bytes) -> None:
    with pytest.raises((Unfit, NoDomain)):
        store.add(user, None, b"/", b"", make_domain=True)
    with pytest.raises((Unfit, NoDomain)):
        store.rename(b"joe", user)
    with pytest.raises((Unfit, NoDomain)):
        store.set_aliases(b"joe", [user.decode()])


def test_a_domain_that_there_is_none_of(store: Store) -> None:
    for call in (
        lambda: store.add(b"joe@ex.net", None, b"/", b""),
        lambda: store.set_aliases(b"joe", ["a@ex.net"]),
        lambda: store.domain_settings("ex.net"),
        lambda: store.set_domain_settings("ex.net", {}),
        lambda: store.set_main_domain("ex.net"),
    ):
        with pytest.raises(NoDomain, match=r"no domain ex\.net"):
            call()
    with pytest.raises(DomainExists):
        store.add_domain("EX.org")


# --------------------------------------------------------------------------------
# aliases, settings, rights, places


def test_an_alias_logs_in(store: Store, path: bytes) -> None:
    store.set_secret(b"joe", b"secret")
    store.set_aliases(b"joe", ["Info@Ex.org", "postmaster", "info@ex.org"])
    assert store.aliases(b"postmaster") == ["info@ex.org", "postmaster"]
    store.__exit__(None, None, None)
    database = Database(path)
    for name in (b"joe", b"INFO@ex.org", b"postmaster"):
        assert database.verify(name, b"secret", b"").name == b"joe"
        assert database.identify(name).name == b"joe"
        assert database.keys(name) == database.keys(b"joe") != b""
    with pytest.raises(Unknown):
        database.keys(b"info")


def test_an_alias_is_nobody_elses(store: Store) -> None:
    store.set_aliases(b"joe", ["info"])
    for taken in ("info", "joe", "ann@ex.org"):
        with pytest.raises(AccountExists):
            store.set_aliases(b"ann@ex.org", [taken])
    with pytest.raises(AccountExists):
        store.add(b"info", None, b"/", b"")
    with pytest.raises(NoAccount):
        store.remove(b"info")
    store.set_aliases(b"joe", [])
    store.add(b"info", None, b"/", b"")


def test_settings_are_merged(store: Store) -> None:
    store.set_settings(b"joe", {"A": b"1", "B": b"\0\xff", "C": b""})
    store.set_settings(b"joe", {"A": None, "B": b"2", "X": None})
    assert store.settings(b"joe") == {"B": b"2", "C": b""}
    assert store.settings(b"ann@ex.org") == {}
    store.set_domain_settings("ex.org", {"A": b"1", "B": b"2"})
    store.set_domain_settings("ex.org", {"A": None})
    assert store.domain_settings("ex.org") == {"B": b"2"}
    assert store.domain_settings("ex.com") == {}


@pytest.mark.parametrize(
    "settings",
    [
        *({"": b"x"}, {"a b": b""}, {"a\n": b""}, {"x" * 129: b""}),
        *({"a": b"x" * 65537}, {"Password": b"secret"}, {"pAsSWORD": b"secret"}),
    ],
)
def test_settings_that_can_not_be(store: Store, settings: dict[str, bytes]) -> None:
    with pytest.raises(Unfit):
        store.set_settings(b"joe", settings)
    with pytest.raises(Unfit):
        store.set_domain_settings("ex.org", dict(settings))


def test_what_is_no_setting_any_more_can_be_taken_away(store: Store) -> None:
    account = store._id(b"joe")
    store._change("INSERT INTO setting VALUES (?, ?, ?)", account, "Password", b"x")
    store.set_settings(b"joe", {"Password": None})
    assert store.settings(b"joe") == {}


def test_there_is_an_end_of_settings(store: Store) -> None:
    store.set_settings(b"joe", {f"a{number}": b"" for number in range(999)})
    store.set_settings(b"joe", {"a1": b"x", "b": b""})
    with pytest.raises(Unfit, match="1000"):
        store.set_settings(b"joe", {"c": b""})
    assert len(store.settings(b"joe")) == 1000


def test_rights_are_words(store: Store) -> None:
    store.set_rights(b"joe", ["Monitor", "canCREATEaccounts", "Monitor", "MONITOR"])
    assert store.rights(b"joe") == ["CanCreateAccounts", "Monitor"]
    for word in ("a b", "King", ""):
        with pytest.raises(Unfit, match="rights"):
            store.set_rights(b"joe", ["Master", word])
    assert store.rights(b"joe") == ["CanCreateAccounts", "Monitor"]
    store.set_rights(b"joe", [])
    assert store.rights(b"joe") == []


def test_rights_over_the_server_are_for_the_main_domain(store: Store) -> None:
    store.set_aliases(b"ann@ex.org", ["ann"])
    for right in SERVER_RIGHTS:
        store.set_rights(b"joe", [right])
        for user in (b"ann@ex.org", b"ann"):
            with pytest.raises(Unfit, match="main domain"):
                store.set_rights(user, [right.lower()])
    store.set_rights(b"ann@ex.org", DOMAIN_RIGHTS)
    assert store.rights(b"ann") == sorted(DOMAIN_RIGHTS)


def give(store: Store, user: bytes, *rights: str) -> None:
    """Give rights as earlier programs did, who didn't look."""
    for right in rights:
        store._change("INSERT INTO privilege VALUES (?, ?)", store._id(user), right)


def test_rights_that_had_no_effect_get_none(store: Store) -> None:
    give(store, b"ann@ex.org", "Master", "CanCreateAccounts")
    store.set_rights(b"joe", ["Master"])
    store.set_main_domain("ex.org")
    assert store.rights(b"ann") == ["CanCreateAccounts"]
    assert store.rights(b"joe") == ["Master"]
    give(store, b"ann", "Directory")
    store.add(b"bob@ex.com", None, b"/", b"")
    give(store, b"bob@ex.com", "Master")
    store.rename(b"bob@ex.com", b"bob")
    assert store.rights(b"bob") == []
    assert store.rights(b"ann") == ["CanCreateAccounts", "Directory"]


def test_who_leaves_the_main_domain_leaves_rights_over_the_server(store: Store) -> None:
    rights = ["AllDomains", "CanCreateAccounts", "Master"]
    store.set_main_domain("ex.org")
    for user in (b"joe", b"ann"):
        store.set_rights(user, rights)
    store.rename(b"ann", b"ann@ex.com")
    assert store.rights(b"ann@ex.com") == ["CanCreateAccounts"]
    assert store.rights(b"joe") == rights
    store.set_main_domain("ex.com")
    assert store.rights(b"joe@ex.org") == ["CanCreateAccounts"]
    store.set_main_domain("ex.org")
    assert store.rights(b"joe") == ["CanCreateAccounts"]


def test_a_place_can_change(store: Store) -> None:
    store.set_place(b"joe", None, b"", b"/m/\xff")
    account = store.show(b"joe")
    assert (account.uid, account.gid, account.home) == (None, None, "")
    assert account.maildir == "/m/\udcff"
    store.set_may_change(b"joe", may_change=False)
    assert not store.show(b"joe").may_change


@pytest.mark.parametrize(
    ("ids", "home"),
    [
        ((-1, 0), b"/"),
        ((0, 2**32 - 1), b"/"),
        (None, b"/a\0b"),
        (None, b"/a\nb"),
        (None, b"/a\x1b[2J"),
        (None, b"/\x7f"),
        (None, b"/" + b"x" * 1023),
        (None, b"home/joe"),
        (None, b"~joe"),
    ],
)
def test_places_that_can_not_be(
    store: Store, ids: tuple[int, int] | None, home: bytes
) -> None:
    with pytest.raises(Unfit):
        store.add(b"bob", ids, home, b"")
    with pytest.raises(Unfit):
        store.set_place(b"joe", ids, home, b"")
    if home.startswith(b"/") and ids is None:
        with pytest.raises(Unfit):
            store.set_place(b"joe", ids, b"", home)


def test_an_account_goes_with_all_that_is_its(store: Store) -> None:
    store.set_secret(b"joe", b"secret", clear=True)
    store.set_aliases(b"joe", ["info"])
    store.set_settings(b"joe", {"A": b"1"})
    store.set_rights(b"joe", ["Master"])
    store.remove(b"joe")
    for table in ("credential", "alias", "setting", "privilege"):
        assert store._execute(f"SELECT * FROM {table}") == []  # ours


CALLS: list[Callable[[Store, bytes], object]] = [
    lambda store, user: store.settings(user),
    lambda store, user: store.set_settings(user, {}),
    lambda store, user: store.rights(user),
    lambda store, user: store.set_rights(user, []),
    lambda store, user: store.aliases(user),
    lambda store, user: store.set_aliases(user, []),
    lambda store, user: store.set_place(user, None, b"/", b""),
    lambda store, user: store.set_may_change(user, may_change=True),
    lambda store, user: store.rename(user, b"other"),
    lambda store, user: store.credentials(user),
    lambda store, user: store.set_credentials(user, {}),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_needs_an_account(
    store: Store, call: Callable[[Store, bytes], object]
) -> None:
    with pytest.raises(NoAccount, match="no account bob"):
        call(store, b"Bob")
    with pytest.raises(Unfit):
        call(store, b"b b")


# --------------------------------------------------------------------------------
# secrets


def test_keys_for_scram_are_made_with_the_secret(store: Store, path: bytes) -> None:
    store.set_secret(b"joe", b"pencil")
    store.__exit__(None, None, None)
    keys = scram.read_keys(Database(path).keys(b"joe"))
    assert (keys.iterations, len(keys.salt)) == (scram.ITERATIONS, 16)
    again = scram.make_keys(b"pencil", keys.salt, keys.iterations)
    assert again == Database(path).keys(b"joe")
    with Store(path) as accounts:
        accounts.set_option("iterations", b"5000")
        accounts.set_secret(b"joe", b"pencil")
    database = Database(path)
    assert scram.read_keys(database.keys(b"joe")).iterations == 5000
    assert database.iterations(b"zoe") == 5000
    with Store(path) as accounts:
        accounts.set_option("iterations", b"0")
        accounts.set_secret(b"joe", b"pencil")
        assert not accounts.show(b"joe").has_scram
    assert Database(path).keys(b"joe") == b""
    with pytest.raises(Unknown):
        Database(path).keys(b"bob")


@pytest.mark.parametrize("secret", [b"\xff\xfe", b"bell\7", "\u0627a".encode()])
def test_a_secret_that_nobody_can_send_by_scram_has_no_keys(
    store: Store, secret: bytes
) -> None:
    store.set_secret(b"joe", secret)
    assert store.credentials(b"joe").keys() == {"hash"}


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", None),
        ("\u0627\u0031", None),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("a\u00a0b", "a b"),
        ("\u00ad", None),
        ("\u0221", None),
        ("\ue000", None),
    ],
)
def test_passwords_are_prepared(typed: str, sent: str | None) -> None:
    """The first seven are those of RFC 4013 section 3."""
    made = preparation.prepared(typed.encode())
    assert made == (None if sent is None else sent.encode())


@given(st.binary(min_size=1, max_size=20))
def test_what_is_prepared_stays_so(secret: bytes) -> None:
    made = preparation.prepared(secret)
    assert made is None or preparation.prepared(made) == made


def test_the_salt_of_strangers_is_always_the_same(path: bytes, tmp_path: Path) -> None:
    first = Database(path).salt_key()
    assert len(first) == 64
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
        accounts.set_secret(b"joe", b"secret")
    assert Database(path).salt_key() == first
    create(bytes(tmp_path / "other"))
    assert Database(bytes(tmp_path / "other")).salt_key() != first


def test_the_clear_secret_is_kept_as_before_unless_told(store: Store) -> None:
    for clear, is_kept in ((None, False), (True, True), (None, True), (False, False)):
        store.set_secret(b"joe", b"secret", clear=clear)
        assert store.show(b"joe").has_clear == is_kept
        assert (store.credentials(b"joe").get("clear") == b"secret") == is_kept


def test_credentials_of_a_kind_that_there_is_none_of(store: Store) -> None:
    with pytest.raises(Unfit):
        store.set_credentials(b"joe", {"otp": b"x"})


# --------------------------------------------------------------------------------
# options, and hashes made anew


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("method", [b"md5", b"scrypt", b""], [b"rot13", b"\xff", b"yescrypt "]),
        ("iterations", [b"0", b"4096"], [b"1", b"-1", b"1e5", b"9" * 9, b"x"]),
        ("hook", [b"/bin/true"], [b"true", b"/a\0b"]),
        ("hook-timeout", [b"1", b"3600"], [b"0", b"3601", b"1.5"]),
        ("of-somebody-else", [b"\xff", b"x" * 65536], [b"x" * 65537]),
        ("decoy", [], [b"x"]),
        ("salt-key", [], [b"x", b""]),
        ("two words", [], [b"x"]),
    ],
)
def test_options_are_checked(
    store: Store, name: str, good: list[bytes], bad: list[bytes]
) -> None:
    for value in good:
        store.set_option(name, value)
        assert store.option(name) == value
    for value in bad:
        with pytest.raises(Unfit):
            store.set_option(name, value)
    assert store.option(name) == (good[-1] if good else b"")
    known = {name: good[-1]} if good and good[-1] else {}
    assert store.options() == known


def test_the_method_is_the_one_that_is_chosen(store: Store) -> None:
    store.set_option("method", b"sha256")
    store.set_secret(b"joe", b"secret")
    assert store.show(b"joe").method == "$5$"
    store.set_secret(b"joe", b"secret", "md5")
    assert store.show(b"joe").method == "$1$"


@pytest.mark.parametrize(
    ("stored", "method", "is_weaker"),
    [
        (b"$1$a$b", "sha512", True),
        (b"qtFrQNeTIbABC", "md5", True),
        (b"$6$a$b", "md5", False),
        (b"$6$a$b", "sha512", False),
        (b"$6$rounds=1000$a$b", "sha512", True),
        (b"$6$rounds=9000$a$b", "sha512", False),
        (b"$2b$05$abc", "bcrypt", True),
        (b"$2y$10$abc", "bcrypt", False),
        (b"$2y$12$abc", "bcrypt", False),
        (b"$2b$10$abc", "scrypt", True),
        (b"$scrypt$ln=13,r=8,p=1$a$b", "scrypt", True),
        (b"$scrypt$ln=14,r=8,p=1$a$b", "scrypt", False),
        (b"$scrypt$ln=14,r=8,p=1$a$b", "gost-yescrypt", True),
        (b"$y$j8T$a$b", "gost-yescrypt", False),
        (b"$gy$j8T$a$b", "gost-yescrypt", True),
        (b"$gy$j9T$a$b", "gost-yescrypt", False),
        (b"$zz$a$b", "sha512", False),
        (b"!$1$a$b", "sha512", False),
        (b"", "sha512", False),
        (b"$1$a$b", "rot13", False),
    ],
)
def test_which_hash_is_weaker(stored: bytes, method: str, *, is_weaker: bool) -> None:
    assert hashes.is_weaker(stored, method) == is_weaker


def stored(path: bytes) -> bytes:
    accounts = Store(path)
    made = accounts.credentials(b"joe")["hash"]
    accounts.close()
    return made


@pytest.fixture
def weak(path: bytes) -> bytes:
    """Give a database that wants SHA-512 and has an MD5 hash of joe's."""
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
        accounts.set_secret(b"joe", b"secret", "md5", clear=True)
        accounts.set_option("method", b"sha512")
    return path


def test_a_login_makes_a_weak_hash_anew(weak: bytes) -> None:
    before = Store(weak).credentials(b"joe")
    database = Database(weak)
    database.verify(b"joe", b"secret", b"")
    after = Store(weak).credentials(b"joe")
    assert after["hash"].startswith(b"$6$")
    assert {**after, "hash": before["hash"]} == before
    database.verify(b"joe", b"secret", b"")
    assert stored(weak) == after["hash"], "once is enough"
    with pytest.raises(Refused):
        database.verify(b"joe", b"guess", b"")
    assert before["hash"] not in Path(weak.decode()).read_bytes()
    assert Path(weak.decode() + "-wal").read_bytes() == b""


def test_what_shows_no_secret_makes_nothing_anew(weak: bytes) -> None:
    before = stored(weak)
    database = Database(weak)
    database.verify(b"joe", digests.apop(b"<1@h>", b"secret"), b"<1@h>")
    with pytest.raises(Refused):
        database.verify(b"joe", b"guess", b"")
    with Store(weak) as accounts:
        accounts.set_enabled(b"joe", is_enabled=False)
    with pytest.raises(Refused):
        database.verify(b"joe", b"secret", b"")
    assert stored(weak) == before


def test_without_a_choice_nothing_is_made_anew(weak: bytes) -> None:
    before = stored(weak)
    with Store(weak) as accounts:
        accounts.set_option("method", b"")
    Database(weak).verify(b"joe", b"secret", b"")
    assert stored(weak) == before


def test_a_login_waits_for_no_writer(weak: bytes) -> None:
    before = stored(weak)
    with Store(weak) as holder:
        holder.set_enabled(b"joe", is_enabled=True)
        assert Database(weak).verify(b"joe", b"secret", b"").name == b"joe"
        # and a password that was set meanwhile stays
        holder.set_secret(b"joe", b"another", "md5")
    assert stored(weak).startswith(b"$1$")
    assert stored(weak) != before
    Database(weak).verify(b"joe", b"another", b"")


def test_a_password_that_was_set_meanwhile_stays(
    weak: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = hashes.make

    def late(secret: bytes, method: str) -> bytes:
        monkeypatch.setattr(hashes, "make", make)
        with Store(weak) as accounts:
            accounts.set_secret(b"joe", b"another", "sha512")
        return make(secret, method)

    monkeypatch.setattr(hashes, "make", late)
    Database(weak).verify(b"joe", b"secret", b"")
    with pytest.raises(Refused):
        Database(weak).verify(b"joe", b"secret", b"")
    Database(weak).verify(b"joe", b"another", b"")


# --------------------------------------------------------------------------------
# transactions


def test_nothing_is_changed_outside_of_a_transaction(path: bytes) -> None:
    accounts = Store(path)
    with pytest.raises(RuntimeError, match="outside"):
        accounts.add(b"joe", None, b"/", b"")
    with accounts, pytest.raises(RuntimeError, match="already"):
        accounts.__enter__()


def test_a_hash_is_made_before_anybody_has_to_wait(
    path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(path) as accounts:
        accounts.add(b"joe", None, b"/", b"")
    other = Store(path)
    make = hashes.make

    def busy(secret: bytes, method: str) -> bytes:
        with other:
            other.set_enabled(b"joe", is_enabled=True)
        return make(secret, method)

    monkeypatch.setattr(hashes, "make", busy)
    with Store(path) as accounts:
        accounts.set_secret(b"joe", b"secret", "md5", clear=False)


def test_a_commit_that_fails_changes_nothing(
    path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = Store(path)
    execute = ledger.Ledger._execute

    def fail(self: ledger.Ledger, query: str, *values: object) -> object:
        if query == "COMMIT":
            query = "COMMIT AND KEEP"
        return execute(self, query, *values)  # type: ignore[arg-type]  # as they came

    with monkeypatch.context() as patch:
        patch.setattr(ledger.Ledger, "_execute", fail)
        accounts.__enter__()
        accounts.add(b"joe", None, b"/", b"")
        with pytest.raises(Failure):
            accounts.__exit__(None, None, None)
    assert list(accounts.list()) == []
    with accounts:
        accounts.add(b"ann", None, b"/", b"")
    assert names(accounts) == ["ann"]


def test_a_full_disk_changes_nothing(path: bytes) -> None:
    accounts = Store(path)
    with accounts:
        accounts.add(b"joe", None, b"/", b"")
    pages = accounts._execute("PRAGMA page_count")[0][0]
    accounts._execute(f"PRAGMA max_page_count = {pages!s}")
    with pytest.raises(Temporary, match="full"), accounts:
        add_until_full(accounts)
    assert names(accounts) == ["joe"]
    with accounts:
        accounts.set_enabled(b"joe", is_enabled=False)
    assert not accounts.show(b"joe").is_enabled


def add_until_full(accounts: Store) -> None:
    for number in range(1000):
        accounts.add(b"user%d" % number, None, b"/" + b"x" * 500, b"")
        accounts.set_aliases(b"user%d" % number, [f"alias{number}"])


LOCALS = st.sampled_from(["joe", "ann", "bob"])
DOMAINS = st.sampled_from(["", "ex.org", "ex.com", "ex.net"])


class Names(RuleBasedStateMachine):
    """Names of accounts, aliases and domains against a model of dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        path = bytes(Path(self.folder.name) / "accounts")
        create(path)
        self.store = Store(path)
        self.store.__enter__()
        self.domains: set[str] = set()
        self.main = ""
        self.owners: dict[tuple[str, str], int] = {}  # account's name -> its number
        self.count = 0

    def teardown(self) -> None:
        self.store.__exit__(None, None, None)
        self.store.close()
        self.folder.cleanup()

    def key(self, local: str, domain: str) -> tuple[str, str]:
        return (local, "" if domain == self.main else domain)

    def name(self, local: str, domain: str) -> bytes:
        return (f"{local}@{domain}" if domain else local).encode()

    def expect(self, call: Callable[[], object], *, is_good: bool) -> None:
        if is_good:
            call()
            return
        with pytest.raises(Refused):
            call()

    @rule(domain=DOMAINS.filter(bool))
    def add_domain(self, domain: str) -> None:
        is_good = domain not in self.domains
        self.expect(lambda: self.store.add_domain(domain), is_good=is_good)
        self.domains.add(domain)

    @rule(local=LOCALS, domain=DOMAINS)
    def add(self, local: str, domain: str) -> None:
        key = self.key(local, domain)
        is_good = key not in self.owners and key[1] in self.domains | {""}
        name = self.name(local, domain)
        self.count += 1
        self.expect(
            lambda: self.store.add(name, (self.count, 0), b"/", b""), is_good=is_good
        )
        if is_good:
            self.owners[key] = self.count

    @rule(local=LOCALS, domain=DOMAINS)
    def remove(self, local: str, domain: str) -> None:
        key = self.key(local, domain)
        name = self.name(local, domain)
        self.expect(lambda: self.store.remove(name), is_good=key in self.owners)
        self.owners.pop(key, None)

    @rule(old=st.tuples(LOCALS, DOMAINS), new=st.tuples(LOCALS, DOMAINS))
    def rename(self, old: tuple[str, str], new: tuple[str, str]) -> None:
        before, after = self.key(*old), self.key(*new)
        is_free = after not in self.owners and after[1] in self.domains | {""}
        is_good = before in self.owners and (is_free or before == after)
        self.expect(
            lambda: self.store.rename(self.name(*old), self.name(*new)), is_good=is_good
        )
        if is_good:
            self.owners[after] = self.owners.pop(before)

    @rule(domain=DOMAINS)
    def choose_main(self, domain: str) -> None:
        owners: dict[tuple[str, str], list[int]] = {}
        for (local, of), number in self.owners.items():
            whole = of or self.main
            place = "" if whole == domain and domain else whole
            owners.setdefault((local, place), []).append(number)
        is_good = domain in self.domains | {""} and (
            all(len(each) == 1 for each in owners.values()) or domain == self.main
        )
        self.expect(lambda: self.store.set_main_domain(domain), is_good=is_good)
        if is_good and domain != self.main:
            self.owners = {key: each[0] for key, each in owners.items()}
            self.main = domain

    @rule(domain=DOMAINS.filter(bool), force=st.booleans())
    def remove_domain(self, domain: str, *, force: bool) -> None:
        held = [key for key in self.owners if key[1] == domain]
        is_good = domain in self.domains - {self.main} and (force or not held)
        self.expect(
            lambda: self.store.remove_domain(domain, force=force), is_good=is_good
        )
        if is_good:
            self.domains.remove(domain)
            for key in held:
                del self.owners[key]

    @invariant()
    def agree(self) -> None:
        assert self.store.domains() == sorted(self.domains)
        assert self.store.main_domain() == self.main
        found = {account.user: account.uid for account in self.store.list()}
        assert found == {
            self.name(*key).decode(): number for key, number in self.owners.items()
        }


TestNames = Names.TestCase
TestNames.settings = settings(max_examples=settings().max_examples // 5)
