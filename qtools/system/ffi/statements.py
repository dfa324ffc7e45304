# SPDX-License-Identifier: ISC
"""Statements of SQLite with values of every kind, for those who write.

A value is None, an int, a str (text) or bytes (a blob). Statements are kept prepared,
since an import runs the same few a million times. Not for the hot path: this loads all
of ctypes. See: sqlite.org/c3ref/stmt.html.
"""

import ctypes

from qtools.system.ffi.native import Int, Library, Pointer, Text, byref
from qtools.system.ffi.sqlite import DONE, ROW, SONAMES, Connection, Sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Value = int | str | bytes | None
    Row = tuple[Value, ...]

MOST_KEPT = 64  # prepared statements; the program has fewer
TRANSIENT = Pointer(-1)  # "make a copy of the value", SQLITE_TRANSIENT

INTEGER, TEXT, NULL = 1, 3, 5  # of sqlite3_column_type; a number with a point is none


class _More:
    """The functions that reading alone does not need."""

    def __init__(self, *sonames: str) -> None:
        bind = Library(*(sonames or SONAMES)).function
        wide = ctypes.c_int64
        texts = (Pointer, Int, Text, Int, Pointer)
        self.bind_blob = bind("sqlite3_bind_blob", Int, *texts)
        self.bind_text = bind("sqlite3_bind_text", Int, *texts)
        self.bind_integer = bind("sqlite3_bind_int64", Int, Pointer, Int, wide)
        self.bind_null = bind("sqlite3_bind_null", Int, Pointer, Int)
        self.type = bind("sqlite3_column_type", Int, Pointer, Int)
        self.integer = bind("sqlite3_column_int64", wide, Pointer, Int)
        self.blob = bind("sqlite3_column_blob", Pointer, Pointer, Int)
        self.octets = bind("sqlite3_column_bytes", Int, Pointer, Int)
        self.reset = bind("sqlite3_reset", Int, Pointer)
        self.forget = bind("sqlite3_clear_bindings", Int, Pointer)
        self.changes = bind("sqlite3_changes", Int, Pointer)


_loaded: list[_More] = []


class Writable(Connection):
    """One database file, opened, with values of every kind."""

    def __init__(
        self, library: Sqlite, path: bytes, flags: int, busy_seconds: float
    ) -> None:
        """Open it; see Connection."""
        self._kept: dict[str, int] = {}
        super().__init__(library, path, flags, busy_seconds)
        if not _loaded:
            _loaded.append(_More())
        self._more = _loaded[0]

    def close(self) -> None:
        """Close the file; once more does nothing."""
        for statement in self._kept.values():
            self._library.finalize(statement)
        self._kept.clear()
        super().close()

    def run(self, query: str, *values: "Value") -> "list[Row]":
        """Run one statement; give all its rows.

        Raises: Failed.
        """
        return list(self.rows(query, *values))

    def rows(self, query: str, *values: "Value") -> "Iterator[Row]":
        """Run one statement; give its rows as they are asked for.

        Raises: Failed.
        """
        statement = self._prepared(query)
        try:
            for place, value in enumerate(values, 1):
                if self._bind(statement, place, value):
                    raise self.failed()
            count = self._library.column_count(statement)
            while (code := self._library.step(statement)) == ROW:
                yield tuple(self._column(statement, at) for at in range(count))
            if code != DONE:
                raise self.failed()
        finally:
            self._keep(query, statement)

    @property
    def changes(self) -> int:
        """Give how many rows the last statement has changed."""
        count: int = self._more.changes(self._handle)
        return count

    def _prepared(self, query: str) -> int:
        """Give a statement that nobody else is using."""
        if query in self._kept:
            return self._kept.pop(query)
        statement = Pointer(None)
        code = self._library.prepare(
            self._handle, query.encode(), -1, byref(statement), None
        )
        if code:
            raise self.failed()
        return statement.value or 0

    def _keep(self, query: str, statement: int) -> None:
        """Keep a statement that is done; what was bound to it is forgotten."""
        self._more.reset(statement)
        self._more.forget(statement)
        is_open = bool(self._handle.value)
        if is_open and query not in self._kept and len(self._kept) < MOST_KEPT:
            self._kept[query] = statement
        else:
            self._library.finalize(statement)

    def _bind(self, statement: int, place: int, value: "Value") -> int:
        more = self._more
        code: int
        if value is None:
            code = more.bind_null(statement, place)
        elif isinstance(value, int):
            code = more.bind_integer(statement, place, value)
        elif isinstance(value, str):
            text = value.encode()
            code = more.bind_text(statement, place, text, len(text), TRANSIENT)
        else:
            code = more.bind_blob(statement, place, value, len(value), TRANSIENT)
        return code

    def _column(self, statement: int, at: int) -> "Value":
        kind = self._more.type(statement, at)
        if kind == NULL:
            return None
        if kind == INTEGER:
            number: int = self._more.integer(statement, at)
            return number
        found = self._more.blob(statement, at)
        octets = self._more.octets(statement, at)
        data = ctypes.string_at(found, octets) if found else b""
        return data.decode("utf-8", "surrogateescape") if kind == TEXT else data
