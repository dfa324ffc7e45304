# SPDX-License-Identifier: ISC
"""What the administrator may say about TLS, and what becomes of it.

Certificates are files and made by a program; no connection is made here but inside the
test's own memory.
"""

import hashlib
import os
import re
import select
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Hard
from qtools.server import settings
from qtools.server.tls import dump as tls_dump
from qtools.server.tls import packets as relay_packets
from qtools.server.tls import settings as tls
from qtools.server.tls.connection import ServerContext, TlsSocket
from qtools.server.tls.loop import Loop
from qtools.server.tls.settings import TlsSettings, settings_from
from qtools.system.options import Values, parse
from tests.certificates import Authority, authority
from tests.support import TOP

HOST = "mx.example"


@pytest.fixture(scope="module")
def signer(session_room: Path) -> Authority:
    return authority(session_room / "tls")


def values(*words: str) -> Values:
    return parse(["popserver", *words], settings.OPTIONS, "usage")[0]


def read(*words: str, **environ: str) -> TlsSettings | None:
    variables = {name.encode(): os.fsencode(text) for name, text in environ.items()}
    return settings_from(values(*words), variables)


# Settings --------------------------------------------------------------------


def test_without_a_certificate_there_is_no_tls() -> None:
    assert read() is None
    assert read("--ciphers", "HIGH", CCAFILE="/ca", KEYFILE="/key", CERTFILE="") is None


def test_options() -> None:
    made = read(
        *("--certificate", "/a", "--certificate", "/b", "--key", "/ka", "--key", "/kb"),
        *("--client-ca", "/ca", "--client-certificate", "require"),
        *("--ciphers", "HIGH", "--tls-minimum", "TLSv1.3"),
    )
    assert made
    assert made.certificates == [("/a", "/ka"), ("/b", "/kb")]
    assert (made.client_ca, made.client_certificate) == ("/ca", "require")
    assert (made.ciphers, made.minimum) == ("HIGH", "TLSv1.3")


def test_defaults() -> None:
    made = read("--certificate", "/a")
    assert made
    assert made.certificates == [("/a", "")]
    assert (made.client_ca, made.client_certificate, made.ciphers) == ("", "", "")
    assert made.minimum == "TLSv1.2"


def test_sslserver_s_variables() -> None:
    made = read(CERTFILE="/c", KEYFILE="/k", CCAFILE="/ca", CIPHERS="HIGH")
    assert made
    assert made.certificates == [("/c", "/k")]
    assert (made.client_ca, made.client_certificate) == ("/ca", "ask")
    assert made.ciphers == "HIGH"


def test_a_chain_goes_before_a_certificate() -> None:
    made = read(CERTFILE="/c", CERTCHAINFILE="/chain", CCAFILE="-")
    assert made
    assert made.certificates == [("/chain", "")]
    assert (made.client_ca, made.client_certificate) == ("", "")


def test_options_go_before_variables() -> None:
    made = read(
        *("--certificate", "/a", "--ciphers", "HIGH"),
        CERTFILE="/c",
        KEYFILE="/k",
        CIPHERS="LOW",
    )
    assert made
    assert made.certificates == [("/a", "")]
    assert made.ciphers == "HIGH"


def test_a_path_may_be_any_octets() -> None:
    made = read(CERTFILE=os.fsdecode(b"/\xff"))
    assert made
    assert os.fsencode(made.certificates[0][0]) == b"/\xff"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--key", "/k"], "--key without --certificate"),
        (["--client-ca", "/ca"], "--client-ca without --certificate"),
        (["--certificate", "/a", "--key", "/k", "--key", "/l"], "as many --key"),
        (["--certificate", "/a", "--certificate", "/b", "--key", "/l"], "as many"),
        (["--certificate", "/a", "--client-certificate", "ask"], "needs --client-ca"),
        (["--certificate", "/a", "--client-certificate", "no"], "ask or require"),
        (["--certificate", "/a", "--tls-minimum", "SSLv3"], "TLSv1.2 or TLSv1.3"),
    ],
)
def test_options_that_contradict(words: list[str], complaint: str) -> None:
    with pytest.raises(Hard, match=complaint):
        read(*words)


# Loading ---------------------------------------------------------------------


def load(*pairs: tuple[Path | str, Path | str], **more: str) -> ServerContext:
    made = TlsSettings([(str(certificate), str(key)) for certificate, key in pairs])
    for name, value in more.items():
        setattr(made, name, value)
    return tls.load(made)


def test_the_key_may_be_in_the_same_file(signer: Authority) -> None:
    assert load((signer.combined(HOST), "")).names == [HOST]


def test_names_are_those_of_the_certificate(signer: Authority) -> None:
    context = load(signer.server("MX.example", "*.pop.example"))
    assert context.names == ["mx.example", "*.pop.example"]
    assert load(signer.unnamed("old.example")).names == ["old.example"]


def test_what_is_never_spoken(signer: Authority) -> None:
    """RFC 9325: no version before 1.2, in that one neither CBC nor plain RSA."""
    context = load(signer.server(HOST))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for cipher in context.get_ciphers():
        assert cipher["aead"], cipher["name"]
        assert cipher["kea"] in ("kx-ecdhe", "kx-any"), cipher["name"]
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_TICKET):
        assert context.options & option
    assert context.num_tickets == 0


def test_version_and_ciphers_can_be_chosen(signer: Authority) -> None:
    context = load(signer.server(HOST), minimum="TLSv1.3", ciphers="AES128-SHA256")
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert "AES128-SHA256" in [cipher["name"] for cipher in context.get_ciphers()]


def complaint(*pairs: tuple[Path | str, Path | str], **more: str) -> str:
    with pytest.raises(Hard) as caught:
        load(*pairs, **more)
    return str(caught.value)


def test_a_file_that_is_missing(signer: Authority) -> None:
    certificate, key = signer.server(HOST)
    assert complaint(("/no/such", key)) == (
        "unable to read /no/such: No such file or directory"
    )
    assert "/no/key: No such file" in complaint((certificate, "/no/key"))
    assert "/no/ca: No such file" in complaint(
        (certificate, key), client_ca="/no/ca", client_certificate="ask"
    )


def test_a_folder_is_no_file(signer: Authority) -> None:
    text = complaint((signer.folder, ""))
    assert text == f"unable to read {signer.folder}: Is a directory"


def test_a_key_of_another_certificate(signer: Authority) -> None:
    ours, theirs = signer.server(HOST), signer.server("other.example")
    assert complaint((ours.certificate, theirs.key)) == (
        f"the key in {theirs.key} does not belong to the certificate {ours.certificate}"
    )


def test_a_file_without_what_it_should_hold(signer: Authority) -> None:
    certificate, key = signer.server(HOST)
    for pair in ((certificate, certificate), (key, key), (certificate, "")):
        assert "no certificate or no key in it" in complaint(pair)
    text = complaint((certificate, key), client_ca=str(key), client_certificate="ask")
    assert text.startswith(f"no CA in {key}: no certificate")


def test_a_key_that_everybody_may_read(signer: Authority, room: Path) -> None:
    certificate, key = signer.server(HOST)
    for mode in (0o604, 0o602, 0o644):
        copy = room / f"{mode:o}"
        copy.write_bytes(key.read_bytes())
        copy.chmod(mode)
        assert "everybody may read or change" in complaint((certificate, copy))
        copy.chmod(0o640)
        assert load((certificate, copy)).names == [HOST]


def test_an_encrypted_key_asks_nobody(signer: Authority) -> None:
    certificate = signer.server(HOST).certificate
    text = complaint((certificate, signer.locked_key(HOST)))
    assert text.endswith("is encrypted, and there is nobody to ask")


def test_a_list_without_ciphers(signer: Authority) -> None:
    text = complaint(signer.server(HOST), ciphers="NONE-SUCH")
    assert text == "no cipher known in this list: NONE-SUCH"


def test_an_expired_certificate_is_a_warning(signer: Authority) -> None:
    certificate, key = signer.server(HOST)
    known = TlsSettings([(str(certificate), str(key))])
    day = 86400
    begin = certificate.stat().st_mtime
    assert tls.warnings(known, begin + day) == []
    (text,) = tls.warnings(known, begin + 3 * day)
    assert text.startswith(f"the certificate {certificate} expired on ")
    (text,) = tls.warnings(known, begin - day)
    assert text.startswith(f"the certificate {certificate} begins on ")


def test_settings_do_not_load_the_library() -> None:
    """The master has no use for it, and would give a copy to every session."""
    code = f"import sys; sys.path.insert(0, {str(TOP)!r})\n"
    code += "from qtools.server.tls import common, packets, pool, settings, worker\n"
    code += "print('ssl' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-ISc", code], capture_output=True, check=True
    )
    assert told.stdout == b"False\n"


# Names -----------------------------------------------------------------------


def handshake(
    server: ServerContext, client: ssl.SSLContext, name: str | None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Have both sides shake hands in memory; give the server's and the client's."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return theirs, ours


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("one.example", "one.example"),
        ("TWO.example", "two.example"),
        ("two.example.", "two.example"),
        ("a.two.example", "two.example"),
        ("a.b.two.example", "one.example"),
        ("x.example", "one.example"),
        ("both.example", "one.example"),
        ("-", "one.example"),
        ("", "one.example"),
    ],
)
def test_the_certificate_is_that_of_the_name_asked_for(
    signer: Authority, asked: str, given: str
) -> None:
    server = load(
        signer.server("one.example", "both.example"),
        signer.server("two.example", "*.two.example", "both.example"),
    )
    client = ssl.create_default_context(cafile=str(signer.ca))
    client.check_hostname = False
    _, ours = handshake(server, client, asked or None)
    subject = dict(pair for part in peer(ours)["subject"] for pair in part)
    assert subject["commonName"] == given


def peer(side: ssl.SSLObject) -> dict[str, Any]:
    found = side.getpeercert()
    assert found
    return found


# What is told ----------------------------------------------------------------


def parts(*pairs: tuple[str, str]) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple((pair,) for pair in pairs)


def entries(dump: bytes) -> dict[bytes, bytes]:
    assert dump.endswith(b"\0")
    assert b"\0\0" not in dump
    return dict(entry.split(b"=", 1) for entry in dump[:-1].split(b"\0"))


def test_what_is_told_of_a_certificate(signer: Authority) -> None:
    pair = signer.server(HOST)
    dump = load(pair).dump
    names = [entry.split(b"=")[0] for entry in dump.split(b"\0")[:-1]]
    assert names == [
        b"SSL_SERVER_" + name
        for name in (
            *(b"M_VERSION", b"M_SERIAL", b"S_DN", b"S_DN_O", b"S_DN_CN"),
            *(b"I_DN", b"I_DN_O", b"I_DN_CN", b"V_START", b"V_END", b"CERT"),
        )
    ]
    told = entries(dump)
    assert told[b"SSL_SERVER_M_VERSION"] == b"3"
    assert told[b"SSL_SERVER_M_SERIAL"].isdigit()
    assert told[b"SSL_SERVER_S_DN"] == b"/O=qtools/CN=mx.example"
    assert told[b"SSL_SERVER_I_DN_CN"] == b"Test CA"
    assert told[b"SSL_SERVER_CERT"] == pair.certificate.read_bytes()
    date = rb"\w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} GMT"
    assert re.fullmatch(date, told[b"SSL_SERVER_V_END"])


def test_the_certificate_told_of_is_the_first_in_its_file(
    signer: Authority, room: Path
) -> None:
    pair = signer.server(HOST)
    whole = room / "whole"
    whole.touch(mode=0o600)
    key, certificate = pair.key.read_bytes(), pair.certificate.read_bytes()
    whole.write_bytes(key + certificate + signer.ca.read_bytes())
    assert entries(load((whole, "")).dump)[b"SSL_SERVER_CERT"] == certificate


def test_a_name_on_one_line() -> None:
    name = parts(("countryName", "DE"), ("commonName", "a/CN=b\nc\\\0ü"), ("1.2", "x"))
    assert tls_dump.one_line(name) == (
        b"/C=DE/CN=a\\x2fCN=b\\x0ac\\x5c\\x00\\xc3\\xbc/1.2=x"
    )


@given(st.text())
def test_no_value_makes_another_entry(value: str) -> None:
    text = value.encode(errors="replace").decode()
    assert tls_dump.entry(b"A", text).count(b"\0") == 1
    line = tls_dump.one_line(parts(("commonName", value)))
    assert line.isascii()
    assert line.decode().isprintable()
    assert line.count(b"/") == 1


class Told(TlsSocket):
    """A connection that says what it is told to."""

    asked = "mx.example"

    def __init__(self, decoded: Any) -> None:
        """Make no socket."""
        self.decoded = decoded
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def cipher(self) -> tuple[str, str, int]:
        return "C", "TLSv1.3", 256

    def version(self) -> str:
        return "TLSv1.3"

    def getpeercert(self, binary_form: bool = False) -> Any:  # noqa: FBT001, FBT002
        if binary_form:
            return b""
        if isinstance(self.decoded, Exception):
            raise self.decoded
        return self.decoded


def test_a_connection_is_bound_to_the_certificate_it_got(signer: Authority) -> None:
    told = Told({})
    assert tls_dump.brief(told).count(b"SSL_SERVER_END_POINT") == 0
    bindings = []
    for name in ("mx.example", "other.example"):
        pair = signer.server(name)
        told._context = load(pair)
        der = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
        found = entries(tls_dump.brief(told))[b"SSL_SERVER_END_POINT"]
        assert found.decode() == hashlib.sha256(der).hexdigest()
        bindings.append(found)
    assert bindings[0] != bindings[1]


def test_a_long_name_is_cut_for_the_log() -> None:
    subject = parts(("commonName", "n" * 9999))
    told = Told({"subject": subject, "serialNumber": "FF"})
    dump = entries(tls_dump.brief(told))
    assert len(dump[b"SSL_CLIENT_S_DN"]) == 1024
    assert dump[b"SSL_CLIENT_M_SERIAL"] == b"255"


def test_a_certificate_that_can_not_be_read_is_none() -> None:
    told = Told(UnicodeDecodeError("utf-8", b"\xff", 0, 1, ""))
    assert b"SSL_CLIENT_S_DN" not in entries(tls_dump.brief(told))


# Packets ---------------------------------------------------------------------

NUMBERS = st.integers(0, 2**64 - 1)


@given(NUMBERS, st.booleans())
def test_a_start_is_read_as_written(number: int, is_ucspi: bool) -> None:  # noqa: FBT001
    packet = relay_packets.pack_start(number, is_ucspi=is_ucspi)
    assert len(packet) == 10
    assert relay_packets.unpack_start(packet) == (number, is_ucspi)


@given(NUMBERS)
def test_an_answer_is_read_as_written(number: int) -> None:
    told = relay_packets.pack_started(number, b"A=b=c\0B=\0")
    answer = relay_packets.unpack_answer(told)
    assert answer == (number, {b"A": b"b=c", b"B": b""})
    failed = relay_packets.pack_failed(number, "why")
    assert relay_packets.unpack_answer(failed) == (number, "why")


@pytest.mark.parametrize(
    "packet",
    [b"", b"\1", b"\1" + bytes(8), b"\1" + bytes(10), b"\2" + bytes(9), b"\1\2" * 5],
)
def test_what_is_no_start(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r"packet|start"):
        relay_packets.unpack_start(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"\2",
        b"\1" + bytes(9),
        b"\2\1" + bytes(8),
        b"\2" + bytes(9) + b"A=b",
        b"\2" + bytes(9) + b"A\0",
        b"\2" + bytes(9) + b"\0",
        b"\3" + bytes(9) + b"\xff",
    ],
)
def test_what_is_no_answer(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r"packet|answer|variables|ascii"):
        relay_packets.unpack_answer(packet)


# Deadlines -------------------------------------------------------------------


class Timer:
    """Somebody with a deadline."""

    def __init__(self, when: float) -> None:
        self.when = when
        self.is_over = self.was_late = False

    def deadline(self) -> float:
        return self.when

    def late(self) -> None:
        self.was_late = True


def test_who_is_over_is_not_held_on_to() -> None:
    loop = Loop()
    lasting = Timer(loop.now + 3600)
    loop.time(lasting)
    for _ in range(10_000):
        timer = Timer(loop.now + 3600)
        loop.time(timer)
        timer.is_over = True
        loop.ended()
    assert len(loop._heap) < 200
    assert lasting in [entry[2] for entry in loop._heap]


def test_a_deadline_that_moved_away_is_not_missed() -> None:
    loop = Loop()
    past, moved, over = Timer(loop.now - 2), Timer(loop.now - 1), Timer(loop.now - 3)
    for timer in (past, moved, over):
        loop.time(timer)
    moved.when = loop.now + 3600
    over.is_over = True
    loop.turn()
    assert (past.was_late, moved.was_late, over.was_late) == (True, False, False)
    assert [entry[2] for entry in loop._heap] == [moved]


class Faulty(Timer):
    """Somebody whose every turn goes wrong."""

    is_closable = False

    def late(self) -> None:
        raise ZeroDivisionError

    def ready(self, _descriptor: int, _events: int) -> None:
        raise ZeroDivisionError

    def close(self) -> None:
        if not self.is_closable:
            raise KeyError


def test_a_fault_at_a_deadline_is_not_the_end(
    capfd: pytest.CaptureFixture[str],
) -> None:
    loop = Loop()
    past = Timer(loop.now - 1)
    loop.time(Faulty(loop.now - 2))
    loop.time(past)
    loop.turn()
    assert past.was_late
    assert "unexpected ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("is_closable", [False, True])
def test_a_fault_in_closing_is_not_the_end(
    capfd: pytest.CaptureFixture[str], *, is_closable: bool
) -> None:
    loop = Loop()
    reader, writer = os.pipe()
    os.write(writer, b"x")
    faulty = Faulty(0)
    faulty.is_closable = is_closable
    loop.watch(faulty, reader, select.EPOLLIN)
    for _ in range(2):  # who can't be closed is not told again
        loop.time(Timer(0))
        loop.turn()
    os.close(reader)
    os.close(writer)
    said = capfd.readouterr().err
    assert said.count("ZeroDivisionError") == 1 + is_closable
    assert said.count("KeyError") == (not is_closable)
