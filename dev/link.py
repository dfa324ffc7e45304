# SPDX-License-Identifier: ISC
"""Link the modules of the hot path into one file: see qtools/linked.py.

Part of install, which calls it under the interpreter that the programs will use.
"""

import marshal
import os
import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from types import CodeType

from qtools.linked import INDEX_OCTETS

# What preload() can be asked for, and the module behind it.
ROOTS = {
    "popup": "qtools.tools.popup",
    "checkpw": "qtools.tools.checkpw",
    "pop3d": "qtools.tools.pop3d",
    "popserver": "qtools.tools.popserver",
    "poppassd": "qtools.tools.poppassd",
    "alone": "qtools.chain.alone.entrance",
    "system": "qtools.accounts.system",
    "authuser": "qtools.accounts.authuser",
    "db": "qtools.accounts.db.reader",
    "pam": "qtools.accounts.pam.source",
    "pam-change": "qtools.accounts.pam.change",
    "command": "qtools.accounts.command",
}


def needed(source: str, module: str) -> list[str]:
    """Give our modules that importing one runs, in the order they are complete."""
    code = f"import sys; sys.path.insert(0, {source!r}); import {module}"
    command = [sys.executable, "-ISBXimporttime", "-c", code]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    names = [line.rpartition("|")[2].strip() for line in made.stderr.splitlines()]
    return [name for name in names if name.partition(".")[0] == "qtools"]


def compiled(source: str, library: str, name: str) -> tuple[str, bool, CodeType]:
    """Give a module's name, whether it is a package, and its code."""
    relative = name.replace(".", "/")
    is_package = os.path.isdir(f"{source}/{relative}")
    relative += "/__init__.py" if is_package else ".py"
    with open(f"{source}/{relative}", "rb") as file:
        code = compile(
            file.read(),
            f"{library}/{relative}",
            "exec",
            dont_inherit=True,
            optimize=2,  # a docstring is read here, not there
        )
    return name, is_package, code


def link(source: str, library: str) -> bytes:
    """Give the linked file for the package below source, to be put into library."""
    orders = {root: needed(source, module) for root, module in ROOTS.items()}
    units: dict[frozenset[str], list[str]] = {}
    for order in orders.values():
        for name in order:
            roots = frozenset(root for root in ROOTS if name in orders[root])
            if name not in units.setdefault(roots, []):
                units[roots].append(name)
    index, code = [], b""
    for roots, names in sorted(units.items(), key=lambda unit: -len(unit[0])):
        part = marshal.dumps([compiled(source, library, name) for name in names])
        index.append((roots, INDEX_OCTETS + len(code), len(part)))
        code += part
    head = MAGIC_NUMBER + marshal.dumps(index)
    if len(head) > INDEX_OCTETS:
        raise ValueError("the index of linked modules has grown: see qtools/linked.py")
    return head.ljust(INDEX_OCTETS, b"\0") + code
