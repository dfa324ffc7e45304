# SPDX-License-Identifier: ISC
"""Rules for connections: tcprules compiles them, tcprulescheck knows what they say.

Both dialects of Debian's are compared, the one without and the one with IPv6. There is
no package with ucspi-tcp6: how it writes networks was read off its own functions.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Hard
from qtools.server.rules import Decision, Rules
from qtools.system.cdb import LONGEST_VALUE_OCTETS, Cdb
from tests.support import foreign, need
from tests.unit.test_cdb import descriptor_of, file_of, opened


class Who(NamedTuple):
    """Somebody who connects."""

    address: bytes
    host: bytes | None = None
    info: bytes | None = None


class Compiler(NamedTuple):
    """Programs of one dialect, and a folder for their files."""

    tcprules: str
    tcprulescheck: str
    folder: Path

    def compile(self, text: str) -> Path:
        path = self.folder / "rules.cdb"
        subprocess.run(
            [self.tcprules, path, self.folder / "rules.tmp"],
            input=text.encode(),
            check=True,
        )
        return path

    def check(self, path: Path, who: Who) -> tuple[bool, dict[bytes, bytes]]:
        """Ask tcprulescheck; it prints a line for each variable until it denies."""
        environment = {b"TCPREMOTEIP": who.address}
        if who.host is not None:
            environment[b"TCPREMOTEHOST"] = who.host
        if who.info is not None:
            environment[b"TCPREMOTEINFO"] = who.info
        done = subprocess.run(
            [self.tcprulescheck, path], env=environment, capture_output=True, check=True
        )
        *lines, verdict = done.stdout.splitlines()
        assert verdict in (b"allow connection", b"deny connection"), done
        mark = b"set environment variable "
        pairs = [line[len(mark) :].split(b"=", 1) for line in lines if mark in line]
        return verdict == b"deny connection", dict(pairs)


@contextmanager
def rules_of(*records: tuple[bytes, bytes]) -> Iterator[Rules]:
    with opened(file_of(list(records))) as database:
        yield Rules(database)


def said(decision: Decision) -> tuple[bool, dict[bytes, bytes]]:
    """Give what tcprulescheck would show; it stops where it denies."""
    return decision.is_denied, {} if decision.is_denied else decision.variables


def decide(path: Path, who: Who) -> tuple[bool, dict[bytes, bytes]]:
    with descriptor_of(path.read_bytes()) as descriptor:
        return said(Rules(Cdb(descriptor)).decide(*who))


@pytest.fixture
def plain(tmp_path: Path) -> Compiler:
    """Give Debian's ucspi-tcp."""
    check = need("tcprulescheck", "ucspi-tcp")
    return Compiler(need("tcprules", "ucspi-tcp"), check, tmp_path)


@pytest.fixture
def ipv6(tmp_path: Path) -> Compiler:
    """Give Debian's ucspi-tcp-ipv6."""
    check = foreign("ucspi-tcp-ipv6", "usr/bin/tcprulescheck")
    return Compiler(foreign("ucspi-tcp-ipv6", "usr/bin/tcprules"), check, tmp_path)


EVERY_KIND = """\
# Every kind of rule, and every step of the search.
joe@127.0.0.1:allow,N="info and address"
joe@=mx.example:allow,N="info and host"
ann@10.1.:allow,N="never: a prefix has no info"
127.0.0.1:allow,N="address",EMPTY="",QUOTED=/a "b",c/
192.0.2.1-9:deny
192.0.2.1:allow,N="never: the first one counts"
=mx.example:allow,N="host"
=denied.example:deny
10.1.2.:allow,N="longer prefix"
10.:allow,N="shorter prefix"
10.20-22.:deny
=.sub.example:allow,N="longer domain"
=.example:allow,N="shorter domain"
=:allow,N="any host"
:deny,N="default"
"""
ADDRESSES = [
    *(b"127.0.0.1", b"127.0.0.2", b"192.0.2.1", b"192.0.2.9", b"192.0.2.10"),
    *(b"10.1.2.3", b"10.1.3.3", b"10.21.0.1", b"10.23.0.1", b"101.2.3.4", b"0"),
]
HOSTS = [
    *(None, b"mx.example", b"denied.example", b"a.b.sub.example", b"sub.example"),
    *(b"example", b"other.test", b".", b"..example", b".example"),
]


@pytest.mark.slow
@pytest.mark.parametrize("info", [None, b"joe", b"ann", b"a@b=c"])
def test_tcprulescheck_agrees(plain: Compiler, info: bytes | None) -> None:
    path = plain.compile(EVERY_KIND)
    everybody = [Who(address, host, info) for address in ADDRESSES for host in HOSTS]
    ours = {who: decide(path, who) for who in everybody}
    assert ours == {who: plain.check(path, who) for who in everybody}
    assert len({str(answer) for answer in ours.values()}) >= 8


def some_rules(chance: Random, addresses: list[bytes]) -> str:
    """Make rules about parts of addresses and hosts, each with its own variable."""
    lines = []
    for number in range(chance.randrange(30)):
        key = chance.choice([*addresses, *filter(None, HOSTS), b""]).decode()
        key = key[: chance.randrange(len(key) + 1)] if chance.random() < 0.6 else key
        key = chance.choice(["", "", "=", "=.", "joe@", "joe@="]) + key
        verdict = chance.choice(["deny", "allow", f'allow,N="{number}",M=""'])
        lines.append(f"{key}:{verdict}\n")
    return "".join(lines)


def compare(compiler: Compiler, chance: Random, addresses: list[bytes]) -> None:
    path = compiler.compile(some_rules(chance, addresses))
    for _ in range(12):
        info = chance.choice([None, b"joe", b"ann"])
        who = Who(chance.choice(addresses), chance.choice(HOSTS), info)
        assert decide(path, who) == compiler.check(path, who), who


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_tcprulescheck_agrees_about_any_rules(plain: Compiler, seed: int) -> None:
    compare(plain, Random(seed), ADDRESSES)


IPV6_ADDRESSES = [
    *(b"::1", b"2001:db8::1", b"2001:db8::7", b"2001:db8:0:1::5", b"2001:db9::1"),
    *(b"fe80::1", b"fe80::abcd", b"127.0.0.1", b"10.1.2.3", b"::", b"fec0::"),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_the_one_with_ipv6_agrees(ipv6: Compiler, seed: int) -> None:
    compare(ipv6, Random(seed), IPV6_ADDRESSES)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"2001:db8::7", b"whole"),
        (b"2001:DB8:0::7", b"whole"),
        (b"2001:db8::8", b"two colons"),
        (b"2001:db8:1::8", b"one colon"),
        (b"2001:db9::8", b"first group"),
        (b"2002::1", None),
    ],
)
def test_ipv6_as_text(ipv6: Compiler, address: bytes, expected: bytes | None) -> None:
    """A prefix ends in a colon, and behind each key stands one more."""
    path = ipv6.compile(
        '2001:db8::7:allow,N="whole"\n'
        '2001:db8:::allow,N="two colons"\n'
        '2001:db8::allow,N="one colon"\n'
        '2001::allow,N="first group"\n'
    )
    assert decide(path, Who(address)) == (False, {b"N": expected} if expected else {})


def test_a_mapped_address_is_ipv4(plain: Compiler) -> None:
    path = plain.compile("10.1.2.3:deny\n10.:allow,N=/net/\njoe@192.0.2.1:deny\n")
    assert decide(path, Who(b"::ffff:10.1.2.3"))[0]
    assert decide(path, Who(b"::ffff:a01:204")) == (False, {b"N": b"net"})
    assert decide(path, Who(b"::FFFF:192.0.2.1", info=b"joe"))[0]


# Networks and addresses as ucspi-tcp6 has them in its keys.
WRITTEN = [
    (b"10.0.0.0/8", b"_0000e0g0"),
    (b"192.0.2.0/24", b"_ab00000000000000000000w0"),
    (b"128.0.0.0/1", b"_a"),
    (b"255.255.255.255/32", b"_abcdefghijklmnopqrstuvwxyz123456"),
    (b"fe80::/10", b"^`abcdef0g0"),
    (b"2001:db8::/32", b"^00`000000000000a0000bc0de0fgh000"),
    (b"8000::/1", b"^`"),
    (b"ffff:ffff::/32", b"^" + bytes(range(0x60, 0x80))),
    (b"2001:db8::a", b"2001:0DB8:0000:0000:0000:0000:0000:000A"),
]


@pytest.mark.parametrize(("address", "key"), WRITTEN)
def test_networks_bit_by_bit(address: bytes, key: bytes) -> None:
    inside, _, _ = address.partition(b"/")
    with rules_of((key, b"D\0")) as rules:
        assert rules.decide(inside).is_denied
        assert not rules.decide(b"63.255.255.255").is_denied
        assert not rules.decide(b"3fff::").is_denied


def test_all_bits_of_an_address_are_a_network() -> None:
    """The 128th bit that is set has the octet 0x60 + 127."""
    everything = b"^" + bytes(range(0x60, 0x60 + 128))
    with rules_of((everything, b"D\0"), (everything[:-1], b"+N=127\0")) as rules:
        assert rules.decide(b":".join([b"ffff"] * 8)).is_denied
        almost = rules.decide(b":".join([b"ffff"] * 7) + b":fffe")
        assert said(almost) == (False, {b"N": b"127"})


def test_the_search_in_one_file_of_all_dialects() -> None:
    """Take the key away that counted most, and the next one decides."""
    ipv6 = [
        *(b"joe@2001:db8::1", b"joe@2001:0DB8:0000:0000:0000:0000:0000:0001"),
        *(b"joe@=mx.example", b"2001:db8::1"),
        *(b"2001:0DB8:0000:0000:0000:0000:0000:0001", b"=mx.example"),
        *(b"2001:db8::", b"2001:db8:", b"2001:", b"^00`000000000000a", b"^00`", b"^0"),
        *(b"=.example", b"=", b""),
    ]
    ipv4 = [
        *(b"joe@192.0.2.1", b"joe@=mx.example", b"192.0.2.1", b"=mx.example"),
        *(b"192.0.2.", b"192.0.", b"192.", b"_ab00000000000000000000w00000000"),
        *(b"_ab", b"_a", b"=.example", b"=", b""),
    ]
    for address, keys in ((b"2001:db8::1", ipv6), (b"192.0.2.1", ipv4)):
        for first in range(len(keys)):
            records = [(key, b"+KEY=%b\0" % key) for key in reversed(keys[first:])]
            with rules_of(*records) as rules:
                decision = rules.decide(address, b"mx.example", b"joe")
                assert decision.variables == {b"KEY": keys[first]}


def test_what_no_rule_is_about_is_allowed() -> None:
    with rules_of((b"10.", b"D\0"), (b"=", b"D\0")) as rules:
        assert said(rules.decide(b"192.0.2.1")) == (False, {})


@pytest.mark.parametrize("nothing", [None, b""])
def test_what_is_not_known_has_no_rule(nothing: bytes | None) -> None:
    """An empty name is none: else "=:allow" would let in who has no name."""
    with rules_of((b"=", b"D\0"), (b"@10.1.2.3", b"D\0"), (b"@=", b"D\0")) as rules:
        assert not rules.decide(b"10.1.2.3", nothing, nothing).is_denied
        assert rules.decide(b"10.1.2.3", b"x", nothing).is_denied


def test_a_host_is_the_same_in_all_letters() -> None:
    with rules_of((b"=mx.example", b"D\0"), (b"=.test", b"D\0")) as rules:
        assert rules.decide(b"192.0.2.1", b"MX.Example").is_denied
        assert rules.decide(b"192.0.2.1", b"a.TEST").is_denied


def test_a_peer_without_an_address_has_the_default() -> None:
    with rules_of((b"", b"D\0"), (b"_0", b"+N=net\0")) as rules:
        assert rules.decide(b"unknown").is_denied
        assert rules.decide(b"").is_denied


def test_variables_keep_their_order_and_deny_does_not_hide_them() -> None:
    with rules_of((b"", b"+Z=1\0+A=\0D\0+M=a=b\0")) as rules:
        decision = rules.decide(b"10.1.2.3")
    assert decision.is_denied
    assert list(decision.variables.items()) == [
        (b"Z", b"1"),
        (b"A", b""),
        (b"M", b"a=b"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        *(b"D", b"+A=1", b"D\0+A=1", b"\0", b"D\0\0", b"X\0", b"DD\0", b"d\0"),
        *(b"+A\0", b"+=1\0", b"+\0", b"A=1\0", b"+A=1\0Xx\0", b" D\0"),
    ],
)
def test_a_record_of_another_shape_is_damage(data: bytes) -> None:
    with (
        rules_of((b"", data)) as rules,
        pytest.raises(Hard, match=r"^rules\.cdb is damaged: a rule with"),
    ):
        rules.decide(b"10.1.2.3")


def test_a_record_is_not_read_without_limit() -> None:
    with (
        rules_of((b"", b"+A=" + b"x" * LONGEST_VALUE_OCTETS + b"\0")) as rules,
        pytest.raises(Hard, match="damaged"),
    ):
        rules.decide(b"10.1.2.3")


words = st.binary(max_size=20)


@given(words, words, words)
def test_anybody_gets_an_answer(address: bytes, host: bytes, info: bytes) -> None:
    with rules_of((b"", b"+N=1\0"), (b"=", b"+N=1\0")) as rules:
        assert said(rules.decide(address, host, info)) == (False, {b"N": b"1"})
