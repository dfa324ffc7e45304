# SPDX-License-Identifier: ISC
"""What make install, uninstall, dist and the wheel put where, and that it runs."""

import gzip
import os
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

import qtools
from tests.conftest import PYTHON, Tools, make_install
from tests.support import IS_ROOT, TOP, need

pytestmark = pytest.mark.slow

PROGRAMS = ["checkpw", "pop3d", "popaccount", "poppassd", "popserver", "popup"]
PAGES = sorted(path.name for path in (TOP / "man8").glob("*.[58]"))
MODULES = sorted(str(path.relative_to(TOP)) for path in (TOP / "qtools").rglob("*.py"))
TAG = subprocess.run(
    [PYTHON, "-IS", "-c", "import sys; print(sys.implementation.cache_tag)"],
    capture_output=True,
    text=True,
    check=True,
).stdout.strip()
VERSION = f"popup (qtools) {qtools.__version__}\n"


def make(*words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run make in the checkout, as an administrator with a careful umask would."""
    return subprocess.run(
        ["make", f"PYTHON={PYTHON}", *words],
        cwd=TOP,
        env={"PATH": os.environ["PATH"], **more},
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )


def tree(top: Path) -> dict[str, int]:
    """Give every path below with its permissions."""
    return {
        str(path.relative_to(top)): path.lstat().st_mode & 0o7777
        for path in top.rglob("*")
    }


def run(*argv: str, cwd: str = "/", **environment: str) -> str:
    """Give what a program prints; it must succeed."""
    return subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def stage(room: Path) -> Path:
    """Give a staging folder with an installation for /usr."""
    done = make("install", f"DESTDIR={room}", "PREFIX=/usr")
    assert done.returncode == 0, done.stderr
    return room


def test_a_staged_install_puts_these_files_and_no_others(stage: Path) -> None:
    made = tree(stage)
    files = {path for path in made if not (stage / path).is_dir()}
    byte_code = {path for path in files if path.endswith(".pyc")}
    assert files - byte_code == {
        "usr/lib/qtools/INSTALLED",
        f"usr/lib/qtools/linked.{TAG}",
        *(f"usr/bin/{name}" for name in PROGRAMS),
        *(f"usr/lib/qtools/{name}" for name in MODULES),
        *(f"usr/share/man/man{name[-1]}/{name}" for name in PAGES),
    }
    assert len(byte_code) == len(MODULES)


def test_everything_can_be_read_by_everybody(stage: Path) -> None:
    for path, mode in tree(stage).items():
        is_program = (stage / path).is_dir() or path.startswith("usr/bin/")
        assert mode == (0o755 if is_program else 0o644), path


def test_stubs_name_the_interpreter_and_the_final_library(stage: Path) -> None:
    for name in PROGRAMS:
        stub = (stage / "usr/bin" / name).read_text(encoding="utf-8")
        assert stub.startswith(f"#!{PYTHON} -IS\n")
        assert '\nsys.path.insert(0, "/usr/lib/qtools")\n' in stub
        assert str(stage) not in stub
        assert "realpath" not in stub


def test_byte_code_belongs_to_the_final_place_and_is_not_checked(stage: Path) -> None:
    """A copy that loses file times must not make every start compile anew."""
    for path in stage.rglob("*.pyc"):
        content = path.read_bytes()
        assert int.from_bytes(content[4:8], "little") == 1, "unchecked hash"
        assert b"/usr/lib/qtools/qtools/" in content
        assert os.fsencode(stage) not in content


def test_uninstall_leaves_what_was_there(room: Path) -> None:
    (room / "usr/bin").mkdir(parents=True)
    (room / "usr/bin/neighbour").touch()
    before = tree(room)
    places = (f"DESTDIR={room}", "PREFIX=/usr")
    for _ in range(2):  # the second one must not forget what the first one made
        assert make("install", *places).returncode == 0
    assert tree(room) != before
    # Another interpreter may have left byte code of its own beside ours.
    (room / "usr/lib/qtools/qtools/__pycache__/errors.cpython-399.pyc").touch()
    assert make("uninstall", *places).returncode == 0
    assert tree(room) == before


def test_uninstall_touches_nothing_it_has_not_installed(room: Path) -> None:
    (room / "usr/bin").mkdir(parents=True)
    (room / "usr/bin/popup").touch()
    before = tree(room)
    done = make("uninstall", f"DESTDIR={room}", "PREFIX=/usr")
    assert done.returncode != 0
    assert "nothing removed" in done.stderr
    assert tree(room) == before


def test_an_upgrade_removes_modules_that_are_gone(stage: Path) -> None:
    gone = stage / "usr/lib/qtools/qtools/gone.py"
    gone.touch()
    manifest = stage / "usr/lib/qtools/INSTALLED"
    with manifest.open("a", encoding="utf-8") as file:
        file.write("f /usr/lib/qtools/qtools/gone.py\n")
    assert make("install", f"DESTDIR={stage}", "PREFIX=/usr").returncode == 0
    assert not gone.exists()
    assert "gone.py" not in manifest.read_text(encoding="utf-8")


def test_progprefix_renames_programs_and_pages(room: Path) -> None:
    done = make("install", f"PREFIX={room}/p", "PROGPREFIX=q")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (room / "p/bin").iterdir())
    assert names == [f"q{name}" for name in PROGRAMS]
    assert run(f"{room}/p/bin/qpopup", "--version") == "q" + VERSION
    for page in PAGES:
        program = page.removesuffix(".8")
        name = f"q{page}" if program in PROGRAMS else page
        text = (room / f"p/share/man/man{name[-1]}" / name).read_text(encoding="utf-8")
        for other in PROGRAMS:
            assert f"\n.Xr {other} 8" not in text
            assert f"\n.Nm {other}\n" not in text


def test_install_refuses_an_interpreter_others_cannot_reach(room: Path) -> None:
    """After checkpw has become the user, its home is all that is left of root's."""
    (room / "closed").mkdir(mode=0o700)
    python = room / "closed/python3"
    python.symlink_to(PYTHON)
    words = ("install", f"DESTDIR={room}/stage", f"PYTHON={python}")
    done = make(*words)
    assert f"cannot reach {python}" in done.stdout
    assert (done.returncode == 0) == (not IS_ROOT)
    assert make(*words, "FORCE=1").returncode == 0
    stub = (room / "stage/usr/local/bin/popup").read_text(encoding="utf-8")
    assert stub.startswith(f"#!{python} -IS\n")


def test_install_refuses_an_interpreter_that_is_too_old(room: Path) -> None:
    old = room / "python2"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    old.chmod(0o755)
    done = make("install", f"DESTDIR={room}/stage", f"PYTHON={old}")
    assert done.returncode != 0
    assert f"{old} is not Python 3.11 or later" in done.stderr
    assert not (room / "stage").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_says_its_version(tools: Tools, program: str) -> None:
    said = run(f"{tools.bin}/{program}", "--version")
    assert said == f"{program} (qtools) {qtools.__version__}\n"


def test_nothing_of_the_callers_is_imported(tools: Tools, room: Path) -> None:
    """Neither PYTHONPATH and its kin nor what lies in the current folder."""
    for name in (
        "posix",
        "select",
        "errno",
        "sitecustomize",
        "usercustomize",
        "qtools",
    ):
        (room / f"{name}.py").write_text("raise SystemExit(66)\n", encoding="ascii")
    said = run(
        *(tools.popup, "--version"),
        cwd=str(room),
        PYTHONPATH=str(room),
        PYTHONHOME=str(room),
        PYTHONSTARTUP=str(room / "posix.py"),
        PYTHONINSPECT="1",
        HOME=str(room),
    )
    assert said == VERSION


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_checkout_runs_through_symbolic_links(room: Path, depth: int) -> None:
    program = TOP / "bin/popup"
    for number in range(depth):
        link = room / f"{number}" / "popup"
        link.parent.mkdir()
        link.symlink_to(os.path.relpath(program, link.parent))
        program = link
    assert run(PYTHON, "-IS", str(program), "--version") == VERSION


def test_an_installed_program_runs_through_a_symbolic_link(
    tools: Tools, room: Path
) -> None:
    (room / "qmail-popup").symlink_to(tools.popup)
    said = run(str(room / "qmail-popup"), "--version")
    assert said == "qmail-" + VERSION


def test_two_installations_do_not_share_modules(room: Path) -> None:
    make_install(room / "one", PYFLAGS="-IS")
    make_install(room / "two", PYFLAGS="-IS")
    changed = room / "two/lib/qtools/qtools/__init__.py"
    changed.write_text('__version__ = "9"\n', encoding="ascii")
    for path in changed.parent.glob("__pycache__/__init__.*"):
        path.unlink()
    assert run(str(room / "one/bin/popup"), "--version") == VERSION
    assert run(str(room / "two/bin/popup"), "--version") == "popup (qtools) 9\n"


def damage(library: Path, part: str) -> None:
    """Leave half of the linked code, or nothing of it and of a module."""
    linked = library / f"linked.{TAG}"
    if part == linked.name:
        os.truncate(linked, linked.stat().st_size // 2)
        return
    linked.unlink()
    module = library / part
    for path in module.parent.rglob(f"{module.stem}.*py*"):
        path.unlink()


@pytest.mark.parametrize(
    "part",
    [
        f"linked.{TAG}",
        *("qtools/errors.py", "qtools/linked.py"),
        *("qtools/system/guard.py", "qtools/tools/checkpw.py"),
    ],
)
def test_a_damaged_installation_is_no_wrong_password(room: Path, part: str) -> None:
    """Python leaves with 1 when an import fails, and 1 means Refused."""
    make_install(room / "p", PYFLAGS="-IS")
    damage(room / "p/lib/qtools", part)
    done = subprocess.run(
        [room / "p/bin/checkpw", "/bin/true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 111
    assert done.stderr.count("\n") == 1, done.stderr


def test_dist_gives_the_same_octets_each_time() -> None:
    need("git", "git")
    if not (TOP / ".git").exists():
        pytest.skip("needs the git repository: this is a release archive")
    name = f"qtools-{qtools.__version__}"
    archives = []
    for zone in ("UTC", "Asia/Tokyo"):
        done = make("dist", TZ=zone)
        assert done.returncode == 0, done.stderr
        archives.append((TOP / "dist" / f"{name}.tar.gz").read_bytes())
    assert archives[0] == archives[1]
    with tarfile.open(fileobj=BytesIO(gzip.decompress(archives[0]))) as archive:
        names = archive.getnames()
        assert {member.mtime for member in archive} == {archive.getmembers()[0].mtime}
    assert f"{name}/bin/popup" in names
    assert all(path == name or path.startswith(f"{name}/") for path in names)


@pytest.fixture(scope="module")
def wheel(session_room: Path) -> Path:
    """Give the wheel, built without the network."""
    subprocess.run(
        [
            *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
            *("--outdir", str(session_room / "wheel"), str(TOP)),
        ],
        check=True,
        capture_output=True,
    )
    (path,) = (session_room / "wheel").glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (points,) = (name for name in names if name.endswith("/entry_points.txt"))
        scripts = archive.read(points).decode()
    info = points.partition("/")[0]
    assert {name for name in names if not name.startswith(f"{info}/")} == set(MODULES)
    assert f"{info}/licenses/LICENSE" in names
    for program in PROGRAMS:
        assert f"{program}=qtools.system.guard:{program}\n" in scripts


def test_the_wheel_runs_in_a_fresh_environment(wheel: Path, room: Path) -> None:
    subprocess.run([PYTHON, "-m", "venv", room / "venv"], check=True)
    subprocess.run(
        [
            *(room / "venv/bin/python", "-m", "pip", "--quiet"),
            *("--disable-pip-version-check", "install", "--no-index", wheel),
        ],
        check=True,
    )
    for program in PROGRAMS:
        said = run(str(room / "venv/bin" / program), "--version")
        assert said == f"{program} (qtools) {qtools.__version__}\n"
