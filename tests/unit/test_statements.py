# SPDX-License-Identifier: ISC
"""statements: values of every kind there and back, and statements in the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtools.errors import Hard
from qtools.system.ffi import sqlite, statements
from qtools.system.ffi.statements import Writable

CREATE = 0x4  # SQLITE_OPEN_CREATE


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    return bytes(tmp_path / "file")


def opened(path: bytes) -> Writable:
    flags = sqlite.READ_WRITE | CREATE
    return Writable(sqlite.Sqlite(), path, flags, 0.0)


@pytest.fixture
def connection(path: bytes) -> Iterator[Writable]:
    made = opened(path)
    made.run("CREATE TABLE t (a, b)")
    yield made
    made.close()


VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=300)
    | st.text(st.characters(codec="utf-8"), max_size=100)
)


@given(a=VALUES, b=VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_come_back_as_they_were(
    connection: Writable, a: "statements.Value", b: "statements.Value"
) -> None:
    assert connection.run("SELECT ?, ?2", a, b) == [(a, b)]


def test_rows_are_counted_and_given_in_order(connection: Writable) -> None:
    for number in range(5):
        connection.run("INSERT INTO t VALUES (?, ?)", number, b"x\0y")
    assert connection.changes == 1
    assert connection.run("SELECT a FROM t ORDER BY a DESC") == [
        (number,) for number in (4, 3, 2, 1, 0)
    ]
    connection.run("DELETE FROM t WHERE a > ?", 1)
    assert connection.changes == 3
    assert connection.run("SELECT a FROM t WHERE a > 9") == []


def test_one_statement_can_run_inside_itself(connection: Writable) -> None:
    for number in range(3):
        connection.run("INSERT INTO t VALUES (?, NULL)", number)
    query = "SELECT a FROM t ORDER BY a"
    pairs = [
        (one, two)
        for (one,) in connection.rows(query)
        for (two,) in connection.rows(query)
    ]
    assert pairs == [(one, two) for one in range(3) for two in range(3)]


def test_what_was_bound_is_forgotten(connection: Writable) -> None:
    assert connection.run("SELECT ?, ?", 1, 2) == [(1, 2)]
    assert connection.run("SELECT ?, ?", 3) == [(3, None)]


@pytest.mark.parametrize("query", ["SELEC", "SELECT * FROM none", "INSERT INTO t"])
def test_what_is_wrong_is_said(connection: Writable, query: str) -> None:
    with pytest.raises(sqlite.Failed) as caught:
        connection.run(query)
    assert caught.value.code == 1
    assert str(caught.value)


def test_a_value_too_many_is_said(connection: Writable) -> None:
    with pytest.raises(sqlite.Failed):
        connection.run("SELECT ?", 1, 2)


def test_a_constraint_is_said_at_the_step(connection: Writable) -> None:
    connection.run("CREATE UNIQUE INDEX i ON t (a)")
    connection.run("INSERT INTO t VALUES (1, 1)")
    with pytest.raises(sqlite.Failed) as caught:
        connection.run("INSERT INTO t VALUES (1, 1)")
    assert caught.value.code & 0xFF == 19


def test_closing_in_the_middle_is_no_harm(path: bytes, connection: Writable) -> None:
    for number in range(3):
        connection.run("INSERT INTO t VALUES (?, NULL)", number)
    rows = connection.rows("SELECT a FROM t")
    assert next(rows) == (0,)
    connection.close()
    connection.close()
    rows.close()  # type: ignore[attr-defined]  # a generator
    other = opened(path)
    assert other.run("SELECT count(*) FROM t") == [(3,)]
    other.close()


def test_more_statements_than_are_kept(connection: Writable) -> None:
    for number in range(statements.MOST_KEPT + 10):
        assert connection.run(f"SELECT {number}") == [(number,)]  # ours
    assert len(connection._kept) == statements.MOST_KEPT


def test_companions_stay_when_the_last_one_leaves(path: bytes) -> None:
    connection = opened(path)
    connection.run("PRAGMA journal_mode = WAL")
    connection.run("CREATE TABLE t (a)")
    connection.close()
    names = sorted(entry.name for entry in Path(path.decode()).parent.iterdir())
    assert names == ["file", "file-shm", "file-wal"]


def test_a_file_that_is_not_there_is_not_made(path: bytes) -> None:
    with pytest.raises(sqlite.Failed) as caught:
        Writable(sqlite.Sqlite(), path, sqlite.READ_WRITE, 0.0)
    assert caught.value.code == 14


def test_a_library_that_is_missing_is_named() -> None:
    with pytest.raises(Hard, match="no library libnowhere"):
        sqlite.Sqlite("libnowhere.so")
