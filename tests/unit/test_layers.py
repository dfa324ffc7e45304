# SPDX-License-Identifier: ISC
"""Imports point down, and only down: read from the sources, none is run.

Imports inside functions and under TYPE_CHECKING count as well: a type that has to come
from above stands in the wrong layer.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import TOP

# A layer, and the layers it may import besides itself and errors.
LAYERS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "linked": (),
    "protocol": (),
    "sessions": ("protocol",),
    "system.ffi": (),
    "system": ("linked", "protocol", "system.ffi"),
    "maildrop": ("protocol", "system"),
    "accounts": ("linked", "protocol", "system", "system.ffi"),
    "chain": ("protocol", "sessions", "system", "maildrop", "accounts"),
    "server": ("protocol", "sessions", "system", "maildrop", "accounts", "chain"),
    "tools": (
        *("linked", "protocol", "sessions", "system", "system.ffi"),
        *("maildrop", "accounts", "chain", "server"),
    ),
}

# Below these nothing but computing: no descriptor, no clock, no chance.
PURE_LAYERS = ("protocol", "sessions")
PURE_MODULES = {
    *("binascii", "_md5", "_operator", "_sha1", "_sha2", "_sha256", "_struct"),
    "_hashlib",
    "re",  # dear: the import budget keeps it out of logins
}

# The shape of what a session is handed. It may be named in annotations, so that mypy
# holds both sides to it; nothing of it is there at run time.
CONTRACTS = {("sessions", "qtools.maildrop.interface")}

# Only these may import under a name that is computed at run time: the stub's word for
# its tool (and through it the next link of the chain), the kind of an account source,
# and what install linked. A module named in a string has to be below like any other.
DYNAMIC = {"qtools.linked", "qtools.system.guard", "qtools.accounts.registry"}
MODULE_IN_STRING = re.compile(r"qtools(\.[a-z_]+)+")

# Only for annotations, and only behind the guard that is never true.
TYPING = {"typing", "collections.abc", "types"}


class Import(NamedTuple):
    """One import: the module it names, its line, whether it is for types only."""

    module: str
    line: int
    is_typing: bool


def layer_of(module: str) -> str:
    """Give the layer of one of our modules; empty for the package itself."""
    parts = module.split(".")[1:]
    if parts[:2] == ["system", "ffi"]:
        return "system.ffi"
    return parts[0] if parts else ""


def _in_strings(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and MODULE_IN_STRING.fullmatch(node.value)
        ):
            yield Import(node.value, node.lineno, is_typing=False)


def _is_guard(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports(tree: ast.AST, *, is_typing: bool = False) -> Iterator[Import]:
    """Give every import below a node, those of functions included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, node.lineno, is_typing)
        elif isinstance(node, ast.ImportFrom):
            yield from _from_imports(node, is_typing=is_typing)
        else:
            yield from imports(node, is_typing=is_typing or _is_guard(node))


def _from_imports(node: ast.ImportFrom, *, is_typing: bool) -> Iterator[Import]:
    """Give what a from-import names: "from qtools.tools import popup" is a module."""
    base = "." * node.level + (node.module or "")
    for name in node.names:
        whole = f"{base}.{name.name}"
        is_module = (TOP / whole.replace(".", "/")).with_suffix(".py").exists()
        is_package = (TOP / whole.replace(".", "/") / "__init__.py").exists()
        module = whole if is_module or is_package else base
        yield Import(module, node.lineno, is_typing)


def wrong_arrow(importer: str, found: Import) -> str:
    """Say what is wrong when one of our modules imports another, or nothing."""
    above, below = layer_of(importer), layer_of(found.module)
    if found.is_typing and (above, found.module) in CONTRACTS:
        return ""
    if below in ("", "errors"):
        return ""
    if above == below == "tools":
        return "tools never import each other"
    if above == below or below in LAYERS.get(above, ()):
        return ""
    return f"{above or 'the package'} may not import {below}"


def foreign_fault(importer: str, found: Import) -> str:
    """Say what is wrong when one of our modules imports one of others, or nothing."""
    name, layer = found.module, layer_of(importer)
    if name.startswith("."):
        return "relative import: write the whole name"
    if found.is_typing and name in TYPING:
        return ""
    if name.split(".")[0] in ("ctypes", "_ctypes") and layer != "system.ffi":
        return "ctypes stays in system/ffi"
    if name.split(".")[0] == "importlib" and importer not in DYNAMIC:
        return "dynamic import"
    if layer in PURE_LAYERS and name not in PURE_MODULES:
        return f"{layer} is pure and may not import {name}"
    return ""


def faults(module: str, source: str) -> list[str]:
    """Give a line for each import of a module's source that must not be."""
    tree = ast.parse(source)
    found = []
    for one in [*imports(tree), *_in_strings(tree)]:
        is_ours = one.module.split(".")[0] == "qtools"
        why = wrong_arrow(module, one) if is_ours else foreign_fault(module, one)
        if why:
            found.append(f"{module}:{one.line}: {why}")
    if module not in DYNAMIC:
        found += [
            f"{module}:{node.lineno}: dynamic import"
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id in ("__import__", "exec", "eval")
        ]
    return found


def module_name(path: Path) -> str:
    """Give the dotted name of a source file."""
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted((TOP / "qtools").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    assert faults(module_name(path), path.read_text(encoding="utf-8")) == []


def test_every_module_stands_in_a_layer() -> None:
    layers = {layer_of(module_name(path)) for path in SOURCES}
    assert layers <= {"", *LAYERS}


def test_layers_have_no_circle() -> None:
    done: set[str] = set()
    while left := {name for name in LAYERS if name not in done}:
        ready = {name for name in left if set(LAYERS[name]) <= done}
        assert ready, f"a circle among {left}"
        done |= ready


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("qtools.protocol.x", "import qtools.sessions.login", "may not import"),
        ("qtools.protocol.x", "import posix", "pure"),
        ("qtools.protocol.x", "from time import monotonic", "pure"),
        ("qtools.sessions.x", "def f():\n from qtools.system import fdio", "may not"),
        ("qtools.sessions.x", "import random", "pure"),
        ("qtools.sessions.x", "if TYPE_CHECKING:\n import socket", "pure"),
        ("qtools.sessions.x", "import qtools.maildrop.interface", "may not import"),
        ("qtools.system.x", "import qtools.accounts.interface", "may not import"),
        ("qtools.system.x", "from qtools.sessions import login", "may not import"),
        ("qtools.system.x", "from qtools import sessions", "may not import"),
        ("qtools.system.x", "import ctypes.util", "ctypes"),
        ("qtools.system.ffi.x", "import qtools.system.fdio", "may not import"),
        ("qtools.maildrop.x", "import qtools.accounts.interface", "may not import"),
        ("qtools.chain.x", "import qtools.server.settings", "may not import"),
        ("qtools.chain.x", "import qtools.tools", "may not import"),
        ("qtools.chain.x", "__import__(name)", "dynamic"),
        ("qtools.accounts.registry", "T = 'qtools.tools.popup'", "may not import"),
        ("qtools.chain.x", "from importlib import import_module", "dynamic"),
        ("qtools.tools.x", "from qtools.tools import popup", "each other"),
        ("qtools.tools.x", "from . import popup", "relative"),
        ("qtools.errors", "import qtools.protocol", "may not import"),
        ("qtools", "import qtools.protocol", "may not import"),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str, complaint: str) -> None:
    (fault,) = faults(module, source)
    assert complaint in fault


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qtools.protocol.x", "import binascii\nfrom qtools.errors import Refused"),
        ("qtools.sessions.x", "from qtools import __version__"),
        ("qtools.sessions.x", "if TYPE_CHECKING:\n from typing import Any"),
        ("qtools.sessions.x", "if TYPE_CHECKING:\n import qtools.maildrop.interface"),
        ("qtools.system.ffi.x", "import ctypes"),
        ("qtools.tools.x", "import posix\nfrom qtools.chain import handover"),
    ],
)
def test_a_right_arrow_is_left_alone(module: str, source: str) -> None:
    assert faults(module, source) == []
