# SPDX-License-Identifier: ISC
"""Run the next program of the chain: call it when it is ours, exec it otherwise.

An interpreter's start costs more than a whole login. So when the next word names a
program of this very installation, its main() is called with the same argv,
descriptors and environment that an exec would have given it. A name proves nothing:
the file that PATH leads to must be a stub that says, word for word, what the stub of
this process says, but for the program's name.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix
import sys

from qtools.errors import Hard, from_os_error
from qtools.system import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

OURS = ("checkpw", "pop3d", "poppassd", "popup")
FORCE_EXEC = b"QTOOLS_EXEC"  # in the environment: exec every link from here on
DEFAULT_PATH = b"/bin:/usr/bin"  # when PATH is unset, as execvp has it

FILE_TYPE, REGULAR_FILE = 0o170000, 0o100000  # the stat module is not for free

ENOEXEC = 8  # everywhere; the module errno is dear

STUB_OCTETS = 1024  # ours are shorter
ENVIRON_OCTETS = 1 << 18
COERCED = b"C.UTF-8"  # what the interpreter puts into LC_CTYPE when it finds C


class Link:
    """The next program, found and ready to run."""

    def __init__(self, argv: list[str], path: bytes, tool: "ModuleType | None") -> None:
        self.argv = argv
        self.path = path
        self._tool = tool

    def foresee(self) -> None:
        """Load what the program is going to load, as far as that can be told.

        What is loaded before a fork need not be loaded, or copied, behind it.
        """
        foresee = getattr(self._tool, "foresee", None)
        if foresee is not None:
            foresee(self.argv)

    def run(self) -> int:
        """Become the next program; give its exit code if it was called.

        Raises: Failure when it can't be run.
        """
        if self._tool is not None:
            return guard.guarded(self._tool.main, self.argv)
        # The interpreter ignores them, and that would outlive the exec.
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
            _signal.signal(number, _signal.SIG_DFL)
        try:
            _execute(self.path, self.argv)
        except OSError as why:
            raise from_os_error(why, f"run {self.argv[0]}") from why


def _execute(path: bytes, argv: list[str]) -> "NoReturn":
    """Exec a program, or the shell on it when it is a script that names none.

    As execvp does, with which the originals run their programs.
    Raises: OSError.
    """
    try:
        posix.execve(path, argv, posix.environ)
    except OSError as why:
        if why.errno != ENOEXEC:
            raise
    words: list[bytes | str] = ["sh", path, *argv[1:]]
    posix.execve(b"/bin/sh", words, posix.environ)


def prepare(argv: list[str], *, force_exec: bool = False) -> Link:
    """Find the program and, if it is ours, import it now.

    To be called before privileges go: afterwards our files may be out of reach.
    Raises: Hard when there is no such program.
    """
    if not argv:
        raise Hard("no program to run")
    if force_exec:
        posix.environ[FORCE_EXEC] = b"1"
    path = find(argv[0])
    tool = None if FORCE_EXEC in posix.environ else _ours(path)
    if not tool:
        _restore_locale()
    return Link(argv, path, guard.load(tool) if tool else None)


def recognise(program: str) -> str:
    """Give the name of our tool that a word of a chain leads to, or "".

    Raises: Hard when there is no such program.
    """
    path = find(program)
    return "" if FORCE_EXEC in posix.environ else _ours(path) or ""


def _restore_locale() -> None:
    """Hand the environment on as it came (PEP 538 has the interpreter change it)."""
    if posix.environ.get(b"LC_CTYPE") != COERCED:
        return
    for entry in _read(b"/proc/self/environ", ENVIRON_OCTETS).split(b"\0"):
        if entry.startswith(b"LC_CTYPE="):
            posix.environ[b"LC_CTYPE"] = entry.partition(b"=")[2]
            return
    del posix.environ[b"LC_CTYPE"]


def find(program: str) -> bytes:
    """Give the path of a program as exec would find it.

    Raises: Hard when PATH holds no such executable.
    """
    name = program.encode(sys.getfilesystemencoding(), "surrogateescape")
    if b"/" in name:
        return name
    for folder in posix.environ.get(b"PATH", DEFAULT_PATH).split(b":"):
        path = (folder or b".") + b"/" + name
        try:
            is_file = posix.stat(path).st_mode & FILE_TYPE == REGULAR_FILE
            if is_file and posix.access(path, posix.X_OK):
                return path
        except OSError:
            continue
    raise Hard(f"unable to run {program}: no such program in PATH")


def _ours(path: bytes) -> str | None:
    """Give the name of our tool if the file is its stub, else None."""
    mine = _read(sys.argv[0].encode(sys.getfilesystemencoding(), "surrogateescape"))
    theirs = _read(path)
    own = _tool_of(mine)
    tool = _tool_of(theirs)
    if not own or tool not in OURS or theirs != _renamed(mine, own, tool):
        return None
    # An installed stub names its library; that of a checkout finds it by its own
    # place, so two checkouts have the same words.
    is_elsewhere = b"__file__" in theirs and _root(path) != sys.path[0]
    return None if is_elsewhere else tool


def _root(stub: bytes) -> str:
    from os.path import realpath  # a checkout only: too dear for an installed chain

    return realpath(stub + b"/../..").decode(
        sys.getfilesystemencoding(), "surrogateescape"
    )


def _tool_of(stub: bytes) -> str:
    """Give the tool a stub says it runs: the word in its last line's run("...")."""
    last = stub.rstrip().rpartition(b"\n")[2]
    if last.startswith(b'run("') and last.endswith(b'")'):
        return last[5:-2].decode("ascii", "replace")
    return ""


def _renamed(stub: bytes, own: str, tool: str) -> bytes:
    return stub.replace(f'"{own}"'.encode(), f'"{tool}"'.encode())


def _read(path: bytes, octets: int = STUB_OCTETS) -> bytes:
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return posix.read(descriptor, octets)
    except OSError:
        return b""
    finally:
        posix.close(descriptor)
