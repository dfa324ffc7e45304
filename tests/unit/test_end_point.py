# SPDX-License-Identifier: ISC
"""What a certificate is bound by, against what the openssl command says of it."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.server.tls import der
from qtools.server.tls.end_point import binding
from tests.support import need

RSA = ("-newkey", "rsa:2048")
PSS = ("-sigopt", "rsa_padding_mode:pss")
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")

# How it is signed; what openssl calls that; the hash that RFC 5929 takes.
KINDS = {
    "rsa-md5": ((*RSA, "-md5"), "md5WithRSAEncryption", "sha256"),
    "rsa-sha1": ((*RSA, "-sha1"), "sha1WithRSAEncryption", "sha256"),
    "rsa-sha224": ((*RSA, "-sha224"), "sha224WithRSAEncryption", "sha224"),
    "rsa-sha256": ((*RSA, "-sha256"), "sha256WithRSAEncryption", "sha256"),
    "rsa-sha384": ((*RSA, "-sha384"), "sha384WithRSAEncryption", "sha384"),
    "rsa-sha512": ((*RSA, "-sha512"), "sha512WithRSAEncryption", "sha512"),
    "rsa-sha3": ((*RSA, "-sha3-256"), "RSA-SHA3-256", "sha3_256"),
    "pss-sha1": ((*RSA, "-sha1", *PSS), "rsassaPss", "sha256"),
    "pss-sha256": ((*RSA, "-sha256", *PSS), "rsassaPss", "sha256"),
    "pss-sha384": ((*RSA, "-sha384", *PSS), "rsassaPss", "sha384"),
    "pss-sha512": ((*RSA, "-sha512", *PSS), "rsassaPss", "sha512"),
    "pss-both": (
        (*RSA, "-sha384", *PSS, "-sigopt", "rsa_mgf1_md:sha256"),
        "rsassaPss",
        "",
    ),
    "ec-sha1": ((*EC, "-sha1"), "ecdsa-with-SHA1", "sha256"),
    "ec-sha256": ((*EC, "-sha256"), "ecdsa-with-SHA256", "sha256"),
    "ec-sha384": ((*EC, "-sha384"), "ecdsa-with-SHA384", "sha384"),
    "ec-sha512": ((*EC, "-sha512"), "ecdsa-with-SHA512", "sha512"),
    "ec-sha3": ((*EC, "-sha3-512"), "ecdsa_with_SHA3-512", "sha3_512"),
    "ed25519": (("-newkey", "ed25519"), "ED25519", ""),
    "ed448": (("-newkey", "ed448"), "ED448", ""),
}


def openssl(*words: str) -> bytes:
    return subprocess.run(
        [need("openssl", "openssl"), *words], check=True, capture_output=True
    ).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


def made(folder: Path, kind: str) -> bytes:
    """Give a certificate in PEM."""
    words, _, _ = KINDS[kind]
    place = folder / f"{kind}.pem"
    if not place.exists():
        out = ("-keyout", str(folder / f"{kind}.key"), "-out", str(place))
        common = ("-nodes", "-days", "2", "-subj", "/CN=mx.example")
        openssl("req", "-x509", *words, *common, *out)
    return place.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_hash_is_that_of_the_signature(keys: Path, kind: str) -> None:
    _, name, digest = KINDS[kind]
    pem = made(keys, kind)
    place = str(keys / f"{kind}.pem")
    text = openssl("x509", "-in", place, "-noout", "-text").decode()
    assert re.search(rf"Signature Algorithm: {name}$", text, re.MULTILINE)
    whole = openssl("x509", "-in", place, "-outform", "DER")
    wanted = hashlib.new(digest, whole).digest() if digest else b""
    assert binding(pem) == wanted


@pytest.mark.slow
def test_what_openssl_trusts_is_bound_like_the_certificate(keys: Path) -> None:
    pem = made(keys, "ec-sha256")
    place = str(keys / "ec-sha256.pem")
    trusted = openssl("x509", "-in", place, "-trustout", "-setalias", "ours")
    assert b"BEGIN TRUSTED CERTIFICATE" in trusted
    assert binding(trusted) == binding(pem) != b""


NO_CERTIFICATES = [
    b"",
    b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    b"-----BEGIN CERTIFICATE-----\nM\n-----END CERTIFICATE-----\n",
]


@pytest.mark.parametrize("pem", NO_CERTIFICATES)
def test_what_is_no_certificate_has_none(pem: bytes) -> None:
    assert binding(pem) == b""


@pytest.mark.slow
def test_no_part_of_a_certificate_is_one(keys: Path) -> None:
    made(keys, "ec-sha256")
    whole = openssl("x509", "-in", str(keys / "ec-sha256.pem"), "-outform", "DER")
    assert der.certificate(whole)[:2] == (whole, "1.2.840.10045.4.3.2")
    for octets in range(len(whole)):
        with pytest.raises(der.Malformed):
            der.certificate(whole[:octets])


@given(st.binary(max_size=64) | st.binary(max_size=60).map(lambda d: b"\x30\x3c" + d))
def test_any_octets_are_a_certificate_or_malformed(data: bytes) -> None:
    try:
        alone, signature, _ = der.certificate(data)
    except der.Malformed:
        return
    assert data.startswith(alone)
    assert signature


@pytest.mark.parametrize(
    "data",
    [
        b"\x30",
        b"\x30\x80\x00\x00",  # of indefinite length, which DER has not
        b"\x30\x81\x01\x00",
        b"\x30\x82\x00\x81" + bytes(0x81),
        b"\x30\x85\x00\x00\x00\x00\x01\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x82\x01",
        b"\x31\x00",
    ],
)
def test_a_length_is_the_shortest_and_not_beyond_the_end(data: bytes) -> None:
    with pytest.raises(der.Malformed):
        der.Reader(data).take(der.SEQUENCE)


def test_a_long_length_is_read() -> None:
    reader = der.Reader(b"\x30\x82\x01\x00" + bytes(256) + b"\x02\x01\x05")
    assert reader.take(der.SEQUENCE) == bytes(256)
    assert reader.take_whole(der.INTEGER) == b"\x02\x01\x05"
    assert reader.is_done


@pytest.mark.parametrize(
    ("content", "dotted"),
    [
        (bytes.fromhex("2a864886f70d01010b"), "1.2.840.113549.1.1.11"),
        (bytes.fromhex("2b6570"), "1.3.101.112"),
        (bytes.fromhex("608648016503040201"), "2.16.840.1.101.3.4.2.1"),
        (bytes.fromhex("883703"), "2.999.3"),
    ],
)
def test_an_object_identifier_has_arcs(content: bytes, dotted: str) -> None:
    assert der.object_of(content) == dotted


@pytest.mark.parametrize("content", [b"", b"\x2a\x86", b"\x2a\x80\x01"])
def test_an_object_identifier_that_is_none(content: bytes) -> None:
    with pytest.raises(der.Malformed):
        der.object_of(content)
