# SPDX-License-Identifier: ISC
"""The promises the repository makes about itself: version, licence, commands, sizes."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import qtools
from tests.support import TOP

NOT_OURS = {".git", ".venv", ".cache", "dist", "__pycache__"}
TOOLS = sorted(path.name for path in (TOP / "bin").iterdir())
MODULES = sorted((TOP / "qtools").rglob("*.py"))
TESTS = sorted((TOP / "tests").rglob("*.py"))
MODULE_LINES = 400


def short(path: Path) -> str:
    """Give a path as seen from the top folder."""
    return str(path.relative_to(TOP))


def sources() -> Iterator[Path]:
    """Give every file that a person wrote as text."""
    for path in sorted(TOP.rglob("*")):
        parts = set(path.relative_to(TOP).parts)
        if path.is_file() and not parts & NOT_OURS and parts.isdisjoint(ignored()):
            yield path


def ignored() -> set[str]:
    """Give the folders that tools leave behind, by .gitignore's last lines."""
    rows = (TOP / ".gitignore").read_text(encoding="utf-8").split()
    return {row.strip("/") for row in rows if row.endswith("/")}


def text_of(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


def test_the_top_entry_of_changes_is_this_version() -> None:
    top = re.search(r"^## (\S+)", text_of("CHANGES.md"), re.MULTILINE)
    assert top
    assert top[1] == qtools.__version__


def test_tests_confuse_no_str_with_bytes() -> None:
    assert sys.flags.bytes_warning == 2, "run the tests by dev/test.sh: python -bb"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sources()
        if path.suffix in (".py", ".sh", ".toml")
        or path.parent.name in ("bin", ".ci")
        or path.name == "Makefile"
    ],
    ids=short,
)
def test_the_licence_is_named_first(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0].startswith("#!") else lines[0]
    assert first == "# SPDX-License-Identifier: ISC"


def test_no_path_of_anybodys_machine() -> None:
    """The examples in the pages have users of their own: Joe is one."""
    homes = re.compile(r"/(?:Users|" + "root" + r")/[a-z]|/home/(?!joe\b)[a-z]")
    found = [
        f"{short(path)}: {match[0]}"
        for path in sources()
        if (match := homes.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_module_is_one_room(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("tool", TOOLS)
def test_stubs_differ_in_the_name_of_the_tool_only(tool: str) -> None:
    """The hand-over knows our programs by that."""
    stub = text_of(f"bin/{tool}")
    assert stub.count(tool) == 2
    assert stub.replace(f'"{tool}"', '"popup"') == text_of("bin/popup")


def test_each_tool_is_a_stub_a_module_a_script_and_a_page() -> None:
    scripts = tomllib.loads(text_of("pyproject.toml"))["project"]["scripts"]
    assert sorted(scripts) == TOOLS
    assert {scripts[tool] for tool in TOOLS} == {
        f"qtools.system.guard:{tool}" for tool in TOOLS
    }
    for tool in TOOLS:
        assert (TOP / f"qtools/tools/{tool}.py").exists()
        assert (TOP / f"man8/{tool}.8").exists()


def test_nothing_is_needed_at_run_time() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert project["dependencies"] == []


def test_every_target_is_phony_and_every_help_line_a_target() -> None:
    makefile = text_of("Makefile")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    targets = set(phony[1].split())
    helped = set(re.findall(r"echo 'make (\w+)", makefile))
    assert helped | {"all", "help", "lint"} == targets


def test_ci_runs_what_the_readme_says() -> None:
    commands = [
        line for line in text_of(".ci/run").splitlines() if not line.startswith("#")
    ]
    assert commands == ["set -eu", "make test"]
    assert "make test" in text_of("README.md")


IDLE = ("#", "say", "if need")


@pytest.mark.parametrize("checker", ["ruff", "mypy", "man.sh lint", "shellcheck"])
def test_lint_calls(checker: str) -> None:
    lines = [line.strip() for line in text_of("dev/lint.sh").splitlines()]
    assert [line for line in lines if checker in line and not line.startswith(IDLE)]


def calls(path: Path, module: str, name: str) -> list[int]:
    """Give the lines on which module.name is written."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Name)
        and node.value.id == module
    ]


@pytest.mark.parametrize(
    "path", [path for path in TESTS if path.name != "support.py"], ids=short
)
def test_tests_wait_for_something(path: Path) -> None:
    """Sleeping is slow when it is long enough and wrong when it is not."""
    assert calls(path, "time", "sleep") == []
