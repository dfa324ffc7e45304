# SPDX-License-Identifier: ISC
"""Counters: their rows, the packet between processes, the text, the file."""

import os
import re
import resource
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtools.chain.request import MECHANISMS
from qtools.errors import Temporary
from qtools.server import metrics
from qtools.server.channel import PACKET_OCTETS
from qtools.server.metrics import Counters, render, write
from qtools.server.warm.bulletin import Bulletin
from qtools.server.warm.crew import NURSERY, TLS, VERIFIER, WORKER
from qtools.system.notify import Notifier

# The exposition format, as strict as its description.
HELP = re.compile(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\\n]|\\\\|\\n)+)")
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|summary)")
SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.+)\})? (\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
)
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def labels_of(text: str) -> tuple[tuple[str, str], ...]:
    found = LABEL.findall(text)
    assert LABEL.sub("", text) == "", text
    assert len({name for name, _ in found}) == len(found), text
    return tuple(found)


def parsed(text: bytes) -> dict[str, float]:
    """Give the samples; fail where a line is not as the format wants it.

    Each family is one block of HELP, TYPE and samples, and no sample comes twice.
    """
    assert text.endswith(b"\n")
    values: dict[str, float] = {}
    families: list[str] = []
    lines = iter(text.decode("ascii").removesuffix("\n").split("\n"))
    kind = ""
    for line in lines:
        if told := HELP.fullmatch(line):
            typed = TYPE.fullmatch(next(lines))
            assert typed is not None, line
            assert told[1] == typed[1]
            assert told[1] not in families
            families.append(told[1])
            kind = typed[2]
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        ends = ("_sum", "_count") if kind == "summary" else ("",)
        assert sample[1] in [families[-1] + end for end in ends]
        assert kind != "counter" or sample[1].endswith("_total")
        names = labels_of(sample[2] or "")
        shown = sample[1] + "".join(f"|{name}={value}" for name, value in names)
        assert shown not in values
        values[shown] = float(sample[3])
    return values


NAMES = {
    *("connections_total", "refused_total", "logins_total", "failures_total"),
    *("tls_handshakes_total", "tls_failures_total", "sessions_total"),
    *("session_seconds_sum", "session_seconds_count", "messages_retrieved_total"),
    *("octets_sent_total", "messages_deleted_total", "worker_restarts_total"),
    *("connections", "sessions", "sources", "verifier_queue"),
}


def test_every_name_is_there_from_the_start_and_nothing_else() -> None:
    values = parsed(render(Counters()))
    names = {shown.partition("|")[0] for shown in values}
    assert names == {"qtools_pop_" + name for name in NAMES}
    assert set(values.values()) == {0}
    assert "qtools_pop_refused_total|why=proxy" in values
    assert "qtools_pop_failures_total|mechanism=Cram-Md5|why=temporary" in values
    assert "other" not in "".join(values)


def test_counters_add_up_and_gauges_are_set() -> None:
    counters = Counters()
    counters.add("connections_total")
    counters.add("connections_total", (), 2)
    counters.add("failures_total", ("Plain", "refused"))
    counters.add("octets_sent_total", amount=2**53 - 1)
    counters.set("connections", 7)
    counters.set("connections", 3)
    text = render(counters)
    assert b'qtools_pop_failures_total{mechanism="Plain",why="refused"} 1\n' in text
    assert b"\nqtools_pop_octets_sent_total 9007199254740991\n" in text
    values = parsed(text)
    assert values["qtools_pop_connections_total"] == 3
    assert values["qtools_pop_connections"] == 3


def test_a_session_that_ended_is_counted_with_its_seconds() -> None:
    counters = Counters()
    counters.add("session_seconds_sum", (), 0.25)
    counters.add("session_seconds_sum", (), 0.00001)
    values = parsed(render(counters))
    assert values["qtools_pop_session_seconds_sum"] == 0.25001
    assert values["qtools_pop_session_seconds_count"] == 2


@pytest.mark.slow
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=20))
def test_what_is_not_foreseen_is_other(pairs: list[tuple[str, str]]) -> None:
    counters = Counters()
    for pair in pairs:
        counters.add("failures_total", pair)
    values = parsed(render(counters))
    assert sum(values.values()) == len(pairs)
    assert len(values) <= len(metrics._KEYS)


@pytest.mark.parametrize("kind", [WORKER, VERIFIER, TLS, NURSERY])
def test_a_process_that_is_replaced_is_counted_by_its_kind(
    kind: str, tmp_path: Path
) -> None:
    bulletin = Bulletin(Notifier({}))
    bulletin.replaced(kind)
    path = tmp_path / "pop.prom"
    bulletin.publish_now(str(path), print)
    values = parsed(path.read_bytes())
    found = [name for name, value in values.items() if value]
    word = {WORKER: "login", TLS: "tls"}.get(kind, kind)
    assert found == [f"qtools_pop_worker_restarts_total|kind={word}"]


def test_only_the_foreign_value_becomes_other() -> None:
    counters = Counters()
    counters.add("failures_total", ("User", 'x"} 1\nevil'))
    values = parsed(render(counters))
    assert values["qtools_pop_failures_total|mechanism=User|why=other"] == 1


@pytest.mark.parametrize(
    ("name", "labels", "amount"),
    [
        ("nothing", (), 1),
        ("connections", (), 1),
        ("session_seconds", (), 1),
        ("connections_total", ("x",), 1),
        ("refused_total", (), 1),
        ("connections_total", (), -1),
        ("connections_total", (), float("nan")),
        ("connections_total", (), float("inf")),
    ],
)
def test_a_fault_of_the_caller_is_found(
    name: str, labels: tuple[str, ...], amount: float
) -> None:
    counters = Counters()
    with pytest.raises(ValueError, match=r"grow|name|zip") as caught:
        counters.add(name, labels, amount)
    assert type(caught.value) is ValueError
    assert set(counters.values()) == {0}


@pytest.mark.parametrize(
    ("name", "value"), [("sessions_total", 1), ("nothing", 1), ("sessions", -1)]
)
def test_only_gauges_are_set(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Counters().set(name, value)


def test_the_mechanisms_are_those_that_a_request_can_name() -> None:
    counters = Counters()
    for mechanism in MECHANISMS:
        counters.add("logins_total", (mechanism,))
    assert b"other" not in render(counters)


AMOUNTS = st.one_of(st.integers(0, 2**53), st.floats(0, 1e15))
ADDED = st.lists(
    st.tuples(
        st.sampled_from(
            [
                ("connections_total", ()),
                ("logins_total", ("User",)),
                ("failures_total", ("odd", "hard")),
                ("session_seconds_sum", ()),
            ]
        ),
        AMOUNTS,
    ),
    max_size=20,
)
Added = list[tuple[tuple[str, tuple[str, ...]], float]]


def counted(added: Added, gauge: float = 0) -> Counters:
    counters = Counters()
    for (name, labels), amount in added:
        counters.add(name, labels, amount)
    counters.set("sessions", gauge)
    return counters


@pytest.mark.slow
@given(ADDED, AMOUNTS)
def test_merge_inverts_pack(added: Added, gauge: float) -> None:
    there = counted(added, gauge)
    packet = there.pack()
    assert len(packet) <= PACKET_OCTETS
    here = Counters()
    here.merge(packet, 7)
    assert here.values() == there.values()


def test_a_process_tells_what_it_has_not_what_was_new() -> None:
    worker, master = counted([(("connections_total", ()), 5)], 2), Counters()
    master.add("connections_total")
    master.merge(worker.pack(), 7)
    worker.add("connections_total")
    worker.pack()  # lost on its way
    worker.add("connections_total")
    master.merge(worker.pack(), 7)
    values = parsed(render(master))
    assert values["qtools_pop_connections_total"] == 8
    assert values["qtools_pop_sessions"] == 2


def test_processes_add_up_and_what_an_ended_one_counted_stays() -> None:
    master = Counters()
    master.merge(counted([(("connections_total", ()), 5)], 2).pack(), 7)
    master.merge(counted([(("connections_total", ()), 1)], 1).pack(), 8)
    assert parsed(render(master))["qtools_pop_sessions"] == 3
    master.forget(7)
    master.forget(7)
    values = parsed(render(master))
    assert values["qtools_pop_connections_total"] == 6
    assert values["qtools_pop_sessions"] == 1


GOOD = counted([(("connections_total", ()), 5)]).pack()
HEADER_OCTETS = 4


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="empty"),
        pytest.param(GOOD[:-1], id="short"),
        pytest.param(GOOD + b"\0", id="long"),
        pytest.param(b"\0" * len(GOOD), id="other rows"),
        *[
            pytest.param(GOOD[:-8] + struct.pack("<d", value), id=str(value))
            for value in (float("nan"), float("inf"), -1.0, 1.1e18)
        ],
    ],
)
def test_what_pack_never_makes_is_refused(packet: bytes) -> None:
    counters = Counters()
    counters.merge(GOOD, 7)
    before = counters.values()
    with pytest.raises(ValueError, match="counters"):
        counters.merge(packet, 7)
    assert counters.values() == before


@pytest.mark.slow
@given(st.binary(min_size=len(GOOD) - HEADER_OCTETS, max_size=len(GOOD) + 1))
def test_any_packet_is_refused_or_leaves_a_text_that_is_valid(rest: bytes) -> None:
    counters = Counters()
    try:
        counters.merge(GOOD[:HEADER_OCTETS] + rest, 7)
    except ValueError:
        assert set(counters.values()) == {0}
    assert parsed(render(counters))


# The file.

TEXT = render(Counters())


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "pop.prom"
    mask = os.umask(0o077)
    try:
        write(bytes(path), b"old\n")
        old = path.open("rb")
        write(bytes(path), TEXT)
    finally:
        os.umask(mask)
    with old:
        assert old.read() == b"old\n", "who reads sees one text, not two halves"
    assert path.read_bytes() == TEXT
    assert path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["pop.prom"]


def test_what_a_crash_has_left_is_replaced(tmp_path: Path) -> None:
    path, other = tmp_path / "pop.prom", tmp_path / "other"
    other.write_bytes(b"somebody's")
    (tmp_path / "pop.prom.new").symlink_to(other)
    write(bytes(path), TEXT)
    assert path.read_bytes() == TEXT
    assert other.read_bytes() == b"somebody's"
    assert sorted(os.listdir(tmp_path)) == ["other", "pop.prom"]


def test_what_comes_there_at_the_last_moment_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"somebody's")

    def overtaken(fresh: bytes) -> None:
        os.symlink(other, fresh)

    monkeypatch.setattr(metrics, "_unlink", overtaken)
    with pytest.raises(Temporary, match="File exists"):
        write(bytes(tmp_path / "pop.prom"), TEXT)
    assert other.read_bytes() == b"somebody's"


@pytest.mark.parametrize("octets", [0, 100])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, octets: int
) -> None:
    path = tmp_path / "pop.prom"
    write(bytes(path), b"old\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, limits[1]))
    try:
        with pytest.raises(Temporary, match=r"unable to write .*pop\.prom: File too"):
            write(bytes(path), TEXT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old\n"
    assert os.listdir(tmp_path) == ["pop.prom"]


def test_a_name_that_is_taken_by_a_folder_is_temporary(tmp_path: Path) -> None:
    (tmp_path / "pop.prom").mkdir()
    with pytest.raises(Temporary, match="Is a directory"):
        write(bytes(tmp_path / "pop.prom"), TEXT)
    assert os.listdir(tmp_path) == ["pop.prom"]


def test_a_missing_folder_is_temporary_and_shown_without_harm() -> None:
    with pytest.raises(Temporary, match=r"/nowhere-\\xff/pop: No such file"):
        write(b"/nowhere-\xff/pop", TEXT)
