# SPDX-License-Identifier: ISC
"""authuser: the search in the file equals a reader of ten lines, and nothing raises.

What each value means is in tests/chain/test_checkpw.py, against the original.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.accounts.authuser import AuthUser, hash_of, keys_of, open_source, placed
from qtools.accounts.interface import Identity, Unknown
from qtools.errors import Failure, Hard, Refused

names = st.sampled_from([b"joe", b"Joe", b"ann", b"joe@Ex.com", b"@ex.com", b"@", b"*"])
values = st.sampled_from(
    [b"one", b"two", b"%zz", b"three:four ", b"", b" x\t", b"a\0b"]
)
lines = st.one_of(
    st.tuples(st.sampled_from([b"", b"!", b"#", b" ", b"#:"]), names, values).map(
        lambda row: row[0] + row[1] + b":" + row[2]
    ),
    st.sampled_from([b"", b"!joe", b"joe", b"#", b":", b"joe\0:x", b"\r", b":joe:x"]),
)
files = st.lists(lines, max_size=8).map(b"\n".join)


def model(data: bytes, key: bytes) -> bytes | None:
    """Read the file as the original does: line by line, the last one wins."""
    found = None
    for line in data.split(b"\n"):
        text = line.partition(b"\0")[0].rstrip(b" \t")
        name, colon, value = text.partition(b":")
        if colon and not text.startswith(b"#") and name.lower() == key.lower():
            found = value
    return found


@given(files, names)
def test_the_search_is_what_reading_finds(data: bytes, key: bytes) -> None:
    # a line whose NUL hides the colon is none to both; see _cut
    assert AuthUser(data).value(key) == model(data, key)
    assert AuthUser(data).value(b"!" + key) == model(data, b"!" + key)


@given(files, names)
def test_whom_it_knows_is_whom_it_decides_about(data: bytes, user: bytes) -> None:
    source = AuthUser(data)
    try:
        source.verify(user, b"a password that is nobody's", b"")
        is_known = True  # as a line without any may be
    except Unknown:
        is_known = False
    except Failure:
        is_known = True
    assert source.knows(user) is is_known


@given(st.binary(max_size=200), st.binary(max_size=20), st.binary(max_size=20))
def test_no_octets_raise_but_failures(data: bytes, user: bytes, secret: bytes) -> None:
    source = AuthUser(data.replace(b"$", b"").replace(b"_", b""))
    assert isinstance(source.decoy(), bytes)
    if any(b":" + mark in data for mark in (b"+", b"&", b"=", b"?", b"!")):
        return  # other programs, other tables
    try:
        source.verify(user, secret, b"<1@h>")
    except Failure:
        pass


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_no_name_matches_what_is_not_its_line(user: bytes, secret: bytes) -> None:
    source = AuthUser(b"# c\n#:joe:uid=1 gid=1 home=/\n!ann:x\n@e.c:\n@:\n*:\njoe\n")
    with pytest.raises(Refused):
        source.verify(user, secret, b"")


@pytest.mark.parametrize(
    "user", [b"!joe", b"@ex.com", b"*", b"#:joe", b"a:b", b"x\njoe", b"joe:one\njoe"]
)
def test_names_that_could_be_other_lines_are_nobodys(user: bytes) -> None:
    with pytest.raises(Unknown):
        keys_of(user)


def test_keys_are_in_order() -> None:
    assert keys_of(b"joe") == [b"joe", b"@", b"*"]
    assert keys_of(b"a@b@c.d") == [b"a@b@c.d", b"@c.d", b"@", b"*"]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (b"$6$salt$key", b"$6$salt$key"),
        (b"{CRYPT}abcdefghijklm", b"abcdefghijklm"),
        (b"{CRYPT}", b"*"),
        (b"{crypt}x", b""),
        (b"$ecret", b""),
        (b"%abc", b""),
    ],
)
def test_a_salted_hash_is_known(value: bytes, stored: bytes) -> None:
    assert hash_of(value) == stored


def place(text: bytes, user: bytes = b"joe@ex.com") -> Identity:
    return placed(Identity(b""), text, user)


def test_a_place_is_read() -> None:
    who = place(b"uid=7 gid=8 home=/srv/%d/%u maildir=/m%%/%u/M")
    assert (who.uid, who.gid, who.groups) == (7, 8, [8])
    assert (who.home, who.maildir) == (b"/srv/ex.com/joe", b"/m%/joe/M")
    assert place(b"maildir=/srv/%u/Maildir", b"ann").home == b"/srv/ann"
    assert place(b"maildir=/Maildir").home == b"/"


@pytest.mark.parametrize("user", [b"joe@ex.com", b"JOE@ex.com", b"Joe@EX.Com"])
def test_one_account_has_one_place_and_name(user: bytes) -> None:
    lines = b"Joe@ex.com:secret\n#:@Ex.com:uid=7 gid=8 maildir=/srv/%d/%u/Maildir\n"
    who = AuthUser(lines).verify(user, b"secret", b"")
    assert who.maildir == b"/srv/ex.com/joe/Maildir"
    assert who.home == b"/srv/ex.com/joe"
    assert who.name == b"joe@ex.com"


@pytest.mark.parametrize(
    "text",
    [
        *(b"uid=7", b"gid=7", b"uid=x gid=1", b"uid=-1 gid=1", b"uid=4294967295 gid=1"),
        *(b"shell=/x", b"home=/%x", b"home=/%", b"word"),
    ],
)
def test_a_place_that_makes_no_sense_is_hard(text: bytes) -> None:
    with pytest.raises(Hard):
        place(text)


@given(st.binary(max_size=12))
def test_a_path_stays_in_its_place(user: bytes) -> None:
    try:
        who = place(b"uid=1 gid=1 home=/srv/%d/%u", user)
    except Refused:
        return
    parts = who.home.split(b"/")
    assert parts[:2] == [b"", b"srv"]
    assert len(parts) == 4
    assert not any(part.startswith(b".") or not part for part in parts[1:])


def test_the_decoy_is_the_last_hash() -> None:
    data = b"a:$1$a$x\nb:{CRYPT}abcdefghijklm\n#c:$1$b$x\nd:a:$1$c$d\ne:plain\n"
    assert AuthUser(data).decoy() == b"abcdefghijklm"
    assert AuthUser(b"a:b\n").decoy() == b""


def test_the_file_name_is_absolute() -> None:
    with pytest.raises(Hard, match="absolute"):
        open_source(b"users/authuser")
