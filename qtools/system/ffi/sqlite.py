# SPDX-License-Identifier: ISC
"""The few calls of SQLite's library that a login needs.

The module _sqlite3 makes hundreds of constants and a dozen types when it is loaded,
2.5 ms of each login; these few functions are a tenth of that. All values come as
text, which is what the library makes of a number, too. What writers need besides is in
statements; they go through this library as well, since two copies of it in one process
would take each other's locks away (a POSIX lock goes with any descriptor of its file).
See: sqlite.org/c3ref/funclist.html, sqlite.org/howtocorrupt.html section 2.2.
"""

from qtools.system.ffi.native import Int, Library, Pointer, Text, byref

SONAMES = ("libsqlite3.so.0", "libsqlite3.so", "libsqlite3.dylib")

READ_ONLY = 0x1
READ_WRITE = 0x2
NO_MUTEX = 0x8000  # a connection has one thread

# Leave the files -wal and -shm where they are when the last connection is closed: a
# reader that may not write could not make them. See: sqlite.org/c3ref/c_fcntl.
PERSIST_WAL = 10

ROW = 100
DONE = 101


class Failed(Exception):
    """SQLite reports an error: its extended result code and its text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Sqlite:
    """The library, loaded.

    Raises: Hard when there is none.
    """

    def __init__(self, *sonames: str) -> None:
        bind = Library(*(sonames or SONAMES)).function
        self.open = bind("sqlite3_open_v2", Int, Text, Pointer, Int, Pointer)
        self.close = bind("sqlite3_close_v2", Int, Pointer)
        self.busy_timeout = bind("sqlite3_busy_timeout", Int, Pointer, Int)
        self.prepare = bind(
            "sqlite3_prepare_v2", Int, Pointer, Text, Int, Pointer, Pointer
        )
        self.bind_text = bind(
            "sqlite3_bind_text", Int, Pointer, Int, Text, Int, Pointer
        )
        self.step = bind("sqlite3_step", Int, Pointer)
        self.column_count = bind("sqlite3_column_count", Int, Pointer)
        self.column_text = bind("sqlite3_column_text", Text, Pointer, Int)
        self.finalize = bind("sqlite3_finalize", Int, Pointer)
        self.code = bind("sqlite3_extended_errcode", Int, Pointer)
        self.text = bind("sqlite3_errmsg", Text, Pointer)
        self.control = bind("sqlite3_file_control", Int, Pointer, Text, Int, Pointer)


class Connection:
    """One database file, opened."""

    def __init__(
        self, library: Sqlite, path: bytes, flags: int, busy_seconds: float
    ) -> None:
        """Open it.

        Takes READ_ONLY or READ_WRITE, and how long to wait for a writer.
        Raises: Failed; much that is wrong with a file is found at the first query.
        """
        self._library = library
        self._handle = Pointer(None)
        code = library.open(path, byref(self._handle), flags | NO_MUTEX, None)
        if code:
            failed = self.failed()
            self.close()
            raise failed
        self.wait_for_others(busy_seconds)
        if flags & READ_WRITE:
            library.control(self._handle, None, PERSIST_WAL, byref(Int(1)))

    def __del__(self) -> None:
        """Close the file: who stays reopens it, and would run out of descriptors."""
        self.close()

    def close(self) -> None:
        """Close the file; once more does nothing."""
        if self._handle.value:
            self._library.close(self._handle)
            self._handle = Pointer(None)

    def wait_for_others(self, seconds: float) -> None:
        """Say how long to wait for a lock that somebody else has."""
        self._library.busy_timeout(self._handle, int(seconds * 1000))

    def row(self, query: bytes, *values: bytes) -> list[bytes | None] | None:
        """Give the first row of a query, or None; the values are bound as text.

        Raises: Failed.
        """
        library, statement = self._library, Pointer(None)
        code = library.prepare(self._handle, query, -1, byref(statement), None)
        try:
            for place, value in enumerate(values, 1):
                # no destructor: the value outlives the statement
                code = code or library.bind_text(
                    statement, place, value, len(value), None
                )
            code = code or library.step(statement)
            if code not in (ROW, DONE):
                raise self.failed()
            if code == DONE:
                return None
            columns = range(library.column_count(statement))
            return [library.column_text(statement, column) for column in columns]
        finally:
            library.finalize(statement)

    def failed(self) -> Failed:
        """Give what the last call has failed with."""
        text: bytes = self._library.text(self._handle) or b"out of memory"
        code: int = self._library.code(self._handle)
        return Failed(code, text.decode("utf-8", "replace"))
