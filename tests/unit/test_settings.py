# SPDX-License-Identifier: ISC
"""What popserver is asked for: every default, every contradiction, the options file."""

import posix
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.errors import Failure, Hard
from qtools.server import settings as module
from qtools.server.settings import OPTIONS, Settings, processors, read_words

CHAIN = ("127.0.0.1", "110", "popup", "mx.example", "checkpw", "pop3d")


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """Give an environment that says nothing."""
    kept: dict[bytes, bytes] = {}
    monkeypatch.setattr(posix, "environ", kept)
    return kept


def made(*words: str) -> Settings:
    return Settings(["popserver", *words, *CHAIN])


def put(folder: Path, text: str | bytes) -> str:
    path = folder / "options"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


# Defaults ---------------------------------------------------------------------


DEFAULTS = {
    "program": "popserver",
    "spare": (32, 15),
    "is_demo": False,
    "host": "127.0.0.1",
    "port": "110",
    "chain": ["popup", "mx.example", "checkpw", "pop3d"],
    "listen": [],
    "name": "",
    "backlog": 1024,
    "per_source": 50,
    "min_delay_seconds": 0,
    "login_seconds": 1200,
    "handshake_seconds": 26,
    "drain_seconds": 30,
    "verifiers": 2,
    "verifier_processes": 32,
    "verify_seconds": 60,
    "tls_workers": min(processors(), 4),
    "closes_when_full": False,
    "refusal": b"",
    "proxies": None,
    "rules": "",
    "is_rules_optional": False,
    "is_verbose": False,
    "is_quiet": False,
    "tls": None,
    "is_first_tls": False,
    "prints_port": False,
    "metrics": "",
    "notify_descriptor": 0,
    "uid": -1,
    "gid": -1,
    "clients": "",
    "is_closed": False,
}


def test_every_default() -> None:
    found = vars(made())
    known = {name: found[name] for name in found if name[0] != "_" and name != "words"}
    assert known == DEFAULTS
    assert made().concurrency(is_foreign=False) == 500
    assert made().concurrency(is_foreign=True) == 40


def test_the_help_tells_the_defaults() -> None:
    """Of those that are a number; an option without one has none."""
    told = {
        "concurrency": made().concurrency(is_foreign=False),
        "backlog": DEFAULTS["backlog"],
        "per-source": DEFAULTS["per_source"],
        "min-delay": DEFAULTS["min_delay_seconds"],
        "login-timeout": DEFAULTS["login_seconds"],
        "handshake-timeout": DEFAULTS["handshake_seconds"],
        "drain": DEFAULTS["drain_seconds"],
        "verifiers": DEFAULTS["verifiers"],
    }
    for row in OPTIONS:
        if row.name in told:
            assert f"({told[row.name]})" in row.text, row.name


def test_letters_and_names_are_each_of_one_option() -> None:
    letters = [row.letter for row in OPTIONS if row.letter]
    names = [row.name for row in OPTIONS]
    assert len(set(letters)) == len(letters)
    assert len(set(names)) == len(names)


# What is given ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["-b", "5"], "backlog", 5),
        (["-l", "0"], "name", "0"),
        (["-x", "/r.cdb"], "rules", "/r.cdb"),
        (["-X"], "is_rules_optional", True),
        (["-v"], "is_verbose", True),
        (["-v", "-q"], "is_verbose", False),
        (["-vq"], "is_quiet", True),
        (["-q", "-Q"], "is_quiet", False),
        (["-1"], "prints_port", True),
        (["--listen", "[::1]:110", "--listen=tls:0:995"], "listen", None),
        (["--implicit-tls"], "is_first_tls", True),
        (["--per-source", "0"], "per_source", 0),
        (["--min-delay", "10"], "min_delay_seconds", 10),
        (["--login-timeout", "60"], "login_seconds", 60),
        (["--handshake-timeout", "5"], "handshake_seconds", 5),
        (["--drain", "0"], "drain_seconds", 0),
        (["--clients", "/c"], "clients", "/c"),
        (["-c", "0"], "is_closed", True),
        (["-c", "1"], "is_closed", False),
        (["--verifiers", "9"], "verifiers", 9),
        (["--tls-workers", "3"], "tls_workers", 3),
        (["--metrics", "/m"], "metrics", "/m"),
        (["--notify-fd", "3"], "notify_descriptor", 3),
        (["--refuse", "-ERR [IN-USE]"], "refusal", b"-ERR [IN-USE]"),
        (["--refuse", "\udcff\xe4"], "refusal", b"\xff\xc3\xa4"),
        (["-R", "-H", "-P", "-d", "-o", "-O", "-Q"], "backlog", 1024),
    ],
)
def test_what_is_given(words: list[str], name: str, expected: object) -> None:
    if expected is None:
        expected = ["[::1]:110", "tls:0:995"]
    assert getattr(made(*words), name) == expected


@pytest.mark.parametrize("is_foreign", [False, True])
def test_a_limit_that_is_given_is_for_both_kinds(*, is_foreign: bool) -> None:
    assert made("-c", "7").concurrency(is_foreign=is_foreign) == 7


def test_an_empty_refusal_closes_as_well() -> None:
    found = made("--refuse", "")
    assert (found.closes_when_full, found.refusal) == (True, b"")


def test_proxies_are_networks() -> None:
    found = made("--proxy-from", "192.0.2.0/24,unix")
    assert found.proxies is not None
    assert found.proxies.holds(b"192.0.2.7")
    assert not found.proxies.holds(b"192.0.3.7")
    assert made("--proxy-from", "").proxies is None


def test_a_certificate_is_one_of_the_settings(environ: dict[bytes, bytes]) -> None:
    found = made("--certificate", "/c.pem").tls
    assert found is not None
    assert found.certificates == [("/c.pem", "")]
    environ[b"CERTFILE"] = b"/e.pem"
    by_environment = made().tls
    assert by_environment is not None
    assert by_environment.certificates == [("/e.pem", "")]


# Ids --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-u", "1000", "-g", "100"], (1000, 100)),
        (["-u0", "-g0"], (0, 0)),
        (["-U"], (77, 78)),
        (["-U", "-u", "5"], (5, 78)),
        (["-u", "5", "-U"], (5, 78)),
    ],
)
def test_ids(
    environ: dict[bytes, bytes], words: list[str], expected: tuple[int, int]
) -> None:
    environ.update({b"UID": b"77", b"GID": b"78"})
    found = made(*words)
    assert (found.uid, found.gid) == expected


@pytest.mark.parametrize("words", [["-u", "5"], ["-g", "5"], ["-U"]])
def test_one_id_alone_is_wrong(words: list[str], environ: dict[bytes, bytes]) -> None:
    environ[b"UID"] = b"77"
    with pytest.raises(Hard, match=r"go together|--gid takes a whole number"):
        made(*words)


# What is wrong ----------------------------------------------------------------


NUMBERS = [
    *("concurrency", "backlog", "uid", "gid", "handshake-timeout", "per-source"),
    *("min-delay", "login-timeout", "tls-workers", "verifiers", "drain", "notify-fd"),
    "verify-timeout",
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", ["", "x", "-1", "1.5", "0x1", "10000000000", "\u0661"]
)
def test_what_is_no_number_is_found_before_anything_is_begun(
    name: str, value: str
) -> None:
    with pytest.raises(Hard, match=f"--{name} takes a whole number"):
        made(f"--{name}={value}")


@pytest.mark.parametrize(
    "name",
    [
        *("backlog", "login-timeout", "handshake-timeout"),
        *("verifiers", "tls-workers", "verify-timeout"),
    ],
)
def test_of_some_there_must_be_one(name: str) -> None:
    with pytest.raises(Hard, match="from 1 to"):
        made(f"--{name}=0")


@pytest.mark.parametrize(
    "words",
    [
        ["--key", "/k.pem"],
        ["--client-ca", "/ca.pem"],
        ["--client-certificate", "ask"],
        ["--certificate", "/c.pem", "--client-certificate", "ask"],
        ["--certificate", "/c.pem", "--client-certificate", "maybe"],
        ["--certificate", "/c.pem", "--tls-minimum", "SSLv3"],
        ["--certificate", "/c.pem", "--key", "/a", "--key", "/b"],
        ["--proxy-from", "192.0.2.1/24"],
        ["--proxy-from", "example.com"],
        ["--no-such"],
        ["-Z"],
    ],
)
def test_contradictions_are_hard(words: list[str]) -> None:
    with pytest.raises(Hard):
        made(*words)


@pytest.mark.parametrize(
    "words", [[], ["0"], ["0", "110"], ["--demo", "0"], ["-v", "0", "110"]]
)
def test_too_few_words_are_a_usage(words: list[str]) -> None:
    with pytest.raises(Hard, match="usage: popserver"):
        Settings(["popserver", *words])


def test_a_demo_needs_no_words() -> None:
    found = Settings(["popserver", "--demo", "--json"])
    assert (found.host, found.port, found.chain) == ("127.0.0.1", "0", [])
    assert Settings(["popserver", "--demo", "::1", "1110"]).port == "1110"


# The options file -------------------------------------------------------------


def test_a_file_of_options(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "# popserver's\n\nverifiers 4\n  metrics   /var/lib/a b  \r\nverbose\n"
        "listen tls:0:995\nlisten\t[::1]:110\nrefuse -ERR [IN-USE] try again\n"
        "no-rules-ok",
    )
    assert read_words(path) == [
        "--verifiers=4",
        "--metrics=/var/lib/a b",
        "--verbose",
        "--listen=tls:0:995",
        "--listen=[::1]:110",
        "--refuse=-ERR [IN-USE] try again",
        "--no-rules-ok",
    ]
    found = made("--config", path)
    assert (found.verifiers, found.metrics, found.is_verbose) == (
        4,
        "/var/lib/a b",
        True,
    )
    assert found.listen == ["tls:0:995", "[::1]:110"]
    assert found.host == "127.0.0.1"


def test_the_command_line_counts_more(tmp_path: Path) -> None:
    path = put(tmp_path, "verifiers 4\nverbose\nlisten 0:1\n")
    found = made("--verifiers", "3", "--config", path, "-q", "--listen", "0:2")
    assert (found.verifiers, found.is_verbose, found.is_quiet) == (3, False, True)
    assert found.listen == ["0:1", "0:2"], "what may be repeated adds up"


def test_a_file_is_octets(tmp_path: Path) -> None:
    path = put(tmp_path, b"metrics /\xff\xc2\x85\xe2\x80\xa8x\nrefuse \xc3\xa4\n")
    words = read_words(path)
    assert words == ["--metrics=/\udcff\x85\u2028x", "--refuse=ä"]


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    for text in ("", "\n", "#", "\n\n# x\n"):
        assert read_words(put(tmp_path, text)) == []


@pytest.mark.parametrize(
    "line",
    [
        *("nonsense", "verifiers", "verbose yes", "-v", "--verbose", "verifiers=4"),
        *("config /other", "c 5", "verifiers", "help", "version"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    path = put(tmp_path, f"# one\n\n{line}\nverbose\n")
    with pytest.raises(Hard, match="options line 3: no such option, or its value"):
        made("--config", path)


def test_a_wrong_value_in_a_file_is_wrong(tmp_path: Path) -> None:
    path = put(tmp_path, "verifiers none\n")
    with pytest.raises(Hard, match="--verifiers takes a whole number"):
        made("--config", path)


def test_a_file_that_is_none_is_hard(tmp_path: Path) -> None:
    with pytest.raises(Hard, match="unable to read /no/such: No such file"):
        made("--config", "/no/such")
    with pytest.raises(Hard, match="Is a directory"):
        made("--config", str(tmp_path))


def test_a_file_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    path = put(tmp_path, "#" * module.MOST_OPTION_OCTETS)
    assert read_words(path) == []
    with pytest.raises(Hard, match="longer than 65536 octets"):
        made("--config", "/dev/zero")


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused(text: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        try:
            words = read_words(file.name)
        except Failure:
            return
        assert all(word.startswith("--") for word in words)
        assert len(words) <= text.count(b"\n") + 1


def test_many_processors_are_not_many_tls_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posix, "sched_getaffinity", lambda _: set(range(64)))
    assert Settings(["popserver", "127.0.0.1", "0", "cat"]).tls_workers == 4
