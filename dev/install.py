# SPDX-License-Identifier: ISC
"""Put the programs, the package and the manual pages in place, or take them away.

Called by the Makefile with the interpreter that the programs are to run under. What was
written is listed in LIBDIR/INSTALLED, so that uninstall removes that and nothing
else. Every file appears under its name by a rename: a login that happens during an
upgrade finds the old file or the new one, never half of one.
"""

import os
import py_compile
import re
import subprocess
import sys

SOURCE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, SOURCE)  # install runs isolated
from dev.link import link  # noqa: E402  # it needs the line above

MANIFEST = "INSTALLED"
PATH_LINE = re.compile(r"^sys\.path\.insert\(0, .*\)$", re.MULTILINE)
# The kernel cuts an interpreter line off behind this many octets (127 before 5.1).
SHEBANG_OCTETS = 255
NOBODY = 65534


class Plan:
    """Where things go, and what has been put there so far.

    Paths are those of the running system; stage() gives where they are written.
    """

    def __init__(self, settings: dict[str, str]) -> None:
        self.dest = settings["DESTDIR"].rstrip("/")
        self.bin = settings["BINDIR"]
        self.lib = settings["LIBDIR"]
        self.man = settings["MANDIR"]
        self.prefix = settings["PROGPREFIX"]
        self.flags = settings["PYFLAGS"]
        self.is_forced = settings["FORCE"] == "1"
        self.files: list[str] = []
        self.folders: list[str] = []
        for path in (self.bin, self.lib, self.man, self.dest or "/"):
            if not path.startswith("/") or any(sign in path for sign in "\"'\\\n"):
                sys.exit(f"install: not an absolute path without quotes: {path}")

    def stage(self, path: str) -> str:
        """Give the path below DESTDIR."""
        return self.dest + path

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it, and remember the ones that are new."""
        if path == "/" or os.path.isdir(self.stage(path)):
            return
        self.make_folder(os.path.dirname(path))
        os.makedirs(self.stage(path), exist_ok=True)
        self.folders.append(path)

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a file at once and remember it."""
        self.make_folder(os.path.dirname(path))
        fresh = self.stage(path) + ".new"
        with open(fresh, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        os.replace(fresh, self.stage(path))
        self.files.append(path)


def interpreter() -> str:
    """Give the path of this interpreter outside any virtual environment."""
    base: str = getattr(sys, "_base_executable", None) or sys.executable
    return base


def closed_part(path: str) -> str:
    """Give the first part of a path that other users can't enter or read, or ""."""
    for whole in (path, os.path.realpath(path)):
        parts = whole.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            part = "/" + "/".join(parts[:count])
            needed = 0o1 if os.path.isdir(part) else 0o4
            if os.path.exists(part) and not os.stat(part).st_mode & needed:
                return part
    return ""


def check_open_to_all(plan: Plan) -> None:
    """Refuse what unprivileged users can't run: checkpw becomes one of them.

    After that an interpreter in somebody's home, say, can be neither exec'd nor asked
    for one more module, and every login would fail. A user who installs for himself
    (not root) is only warned.
    """
    paths = [interpreter(), os.__file__]
    if not plan.dest:
        paths += [plan.bin, plan.lib]
    for path in paths:
        part = closed_part(path)
        if not part:
            continue
        print(f"install: other users cannot reach {path}: see the mode of {part}")
        if os.geteuid() == 0 and not plan.is_forced:
            sys.exit("install: give another PYTHON= or PREFIX=, or FORCE=1")
    if os.geteuid() == 0 and not plan.is_forced:
        check_runs_unprivileged()


def check_runs_unprivileged() -> None:
    """Refuse an interpreter that fails for others, e.g. for a library out of reach."""
    words = [interpreter(), "-IS", "-c", "import _ctypes, _socket"]
    done = subprocess.run(
        words, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False
    )
    if done.returncode:
        sys.exit(
            f"install: {interpreter()} does not run, see above, for other users;"
            " give another PYTHON=, or FORCE=1"
        )


def listing(folder: str, suffix: str) -> list[str]:
    """Give the files of a source folder, below it too, relative to the source."""
    found = []
    for place, folders, names in os.walk(os.path.join(SOURCE, folder)):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [os.path.join(place, name) for name in names if name.endswith(suffix)]
    return sorted(os.path.relpath(path, SOURCE) for path in found)


def content_of(name: str) -> bytes:
    """Read a file of the source."""
    with open(os.path.join(SOURCE, name), "rb") as file:
        return file.read()


def install_package(plan: Plan) -> None:
    """Write the modules and their byte code.

    The byte code is not checked against the source at run time ("unchecked hash"): a
    copy of the stage that loses the times would otherwise make every start compile
    everything anew, unseen and five times slower.
    """
    for name in listing("qtools", ".py"):
        path = f"{plan.lib}/{name}"
        plan.write(path, content_of(name), 0o644)
        cache = os.path.join(
            os.path.dirname(path),
            "__pycache__",
            os.path.basename(path)[:-3] + f".{sys.implementation.cache_tag}.pyc",
        )
        plan.make_folder(os.path.dirname(cache))
        py_compile.compile(
            plan.stage(path),
            cfile=plan.stage(cache),
            dfile=path,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        plan.files.append(cache)
    path = f"{plan.lib}/linked.{sys.implementation.cache_tag}"
    plan.write(path, link(SOURCE, plan.lib), 0o644)


def install_programs(plan: Plan, programs: list[str]) -> None:
    """Write the stubs with their interpreter line and library directory."""
    shebang = f"#!{interpreter()} {plan.flags}".rstrip()
    if len(os.fsencode(shebang)) > SHEBANG_OCTETS or " " in interpreter():
        sys.exit(f"install: not fit for an interpreter line: {interpreter()}")
    for name in programs:
        lines = content_of(f"bin/{name}").decode().split("\n", 1)[1]
        lines, count = PATH_LINE.subn(f'sys.path.insert(0, "{plan.lib}")', lines)
        if count != 1:
            sys.exit(f"install: bin/{name} does not have its one sys.path line")
        path = f"{plan.bin}/{plan.prefix}{name}"
        plan.write(path, f"{shebang}\n{lines}".encode(), 0o755)


def install_pages(plan: Plan, programs: list[str]) -> None:
    """Write the pages, those of programs under the programs' names."""
    names = "|".join(programs)
    macro = re.compile(rf"^(\.(?:Nm|Xr)(?: Nm| Xr)?) ({names})\b", re.MULTILINE)
    title = re.compile(rf"^\.Dt ({names})\b", re.MULTILINE | re.IGNORECASE)
    for page in (*listing("man8", ".5"), *listing("man8", ".8")):
        text = content_of(page).decode()
        name = os.path.basename(page)
        if plan.prefix:
            text = macro.sub(rf"\1 {plan.prefix}\2", text)
            text = title.sub(rf".Dt {plan.prefix.upper()}\1", text)
            if name[:-2] in programs:
                name = plan.prefix + name
        plan.write(f"{plan.man}/man{name[-1]}/{name}", text.encode(), 0o644)


def read_manifest(plan: Plan) -> tuple[list[str], list[str]]:
    """Give the files and folders an earlier install has listed, or two empty lists."""
    try:
        with open(plan.stage(f"{plan.lib}/{MANIFEST}"), encoding="utf-8") as file:
            rows = [line.rstrip("\n").split(" ", 1) for line in file]
    except FileNotFoundError:
        return [], []
    files = [path for kind, path in rows if kind == "f"]
    return files, [path for kind, path in rows if kind == "d"]


def remove(plan: Plan, files: list[str], folders: list[str]) -> None:
    """Remove files, then those folders that are empty thereafter."""
    for path in files:
        if os.path.lexists(plan.stage(path)):
            os.unlink(plan.stage(path))
    for path in sorted(folders, key=len, reverse=True):
        # Byte code that another interpreter has made of our modules goes with them.
        if path.endswith("/__pycache__"):
            for name in os.listdir(plan.stage(path)):
                os.unlink(f"{plan.stage(path)}/{name}")
        if os.path.isdir(plan.stage(path)) and not os.listdir(plan.stage(path)):
            os.rmdir(plan.stage(path))


def install(plan: Plan) -> None:
    """Write everything, then remove what an earlier version had and this has not."""
    check_open_to_all(plan)
    old_files, old_folders = read_manifest(plan)
    programs = [os.path.basename(name) for name in listing("bin", "")]
    install_package(plan)
    install_programs(plan, programs)
    install_pages(plan, programs)
    manifest = f"{plan.lib}/{MANIFEST}"
    folders = sorted({*plan.folders, *old_folders})
    rows = [f"f {path}\n" for path in sorted([*plan.files, manifest])]
    rows += [f"d {path}\n" for path in folders]
    plan.write(manifest, "".join(rows).encode(), 0o644)
    remove(plan, [path for path in old_files if path not in plan.files], [])
    print(f"install: {', '.join(plan.prefix + name for name in programs)}")
    print(f"install: in {plan.stage(plan.bin)}, run by {interpreter()} {plan.flags}")


def uninstall(plan: Plan) -> None:
    """Remove what the manifest lists."""
    files, folders = read_manifest(plan)
    if not files:
        sys.exit(f"uninstall: no {plan.stage(plan.lib)}/{MANIFEST}, nothing removed")
    remove(plan, files, folders)
    print(f"uninstall: removed {len(files)} files")


def main() -> None:
    """Read the command and its settings NAME=VALUE."""
    settings = dict(setting.split("=", 1) for setting in sys.argv[2:])
    # Byte code that users can't read is byte code they don't have.
    os.umask(0o022)
    {"install": install, "uninstall": uninstall}[sys.argv[1]](Plan(settings))


if __name__ == "__main__":
    main()
