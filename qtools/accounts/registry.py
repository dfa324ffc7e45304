# SPDX-License-Identifier: ISC
"""Sources of accounts by the words an administrator writes: KIND or KIND:WHERE.

Several words mean several sources, asked in that order: the first that knows the
account decides, so a name can never be tried against a second password. That holds for
whatever proves that one knows it, but for sources that can't check a proof and can't
tell either whether they know the account: see accounts.scram. A source that
fails stops the search, because the next one may hold another account of that name.
"""

import sys

from qtools.accounts.interface import Unknown
from qtools.errors import Hard, Refused
from qtools.linked import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from qtools.accounts.interface import Identity, Source

    Opener = Callable[[], Source]

VARIABLE = b"QTOOLS_ACCOUNTS"
DEFAULT = "system"

# KIND -> its module, which is imported only when it is asked for. It offers prepare(),
# which loads libraries, and open_source(where); what WHERE may be is its business. One
# whose sources need a process for each attempt says IS_SOLITARY.
MODULES = {
    "system": "qtools.accounts.system",
    "authuser": "qtools.accounts.authuser",
    "db": "qtools.accounts.db.reader",
    "pam": "qtools.accounts.pam.source",
    "command": "qtools.accounts.command",
}


def words(given: "Sequence[str]", environ: dict[bytes, bytes]) -> list[str]:
    """Give the words in force: the options', else the environment's, else system.

    Each given value, and the variable, may hold several words separated by spaces.
    Raises: Hard for a word whose KIND doesn't exist.
    """
    variable = environ.get(VARIABLE, b"").decode("utf-8", "surrogateescape")
    found = " ".join(given).split() or variable.split() or [DEFAULT]
    for word in found:
        kind = word.partition(":")[0]
        if kind not in MODULES:
            raise Hard(f"no account source {kind}; there are {', '.join(MODULES)}")
    return found


def load(words: "Sequence[str]") -> "list[Opener]":
    """Load the sources' modules and libraries, give a function for each to open it.

    To be called before a verifier is forked: none of this holds a secret, and pages
    that are touched before a fork are not copied by it.
    Raises: Hard when a library is missing.
    """
    return [_opener(*word.partition(":")[::2]) for word in words]


def is_solitary(words: "Sequence[str]") -> bool:
    """Tell whether one of the sources needs a process for each attempt.

    What it calls may block, crash, print, or hold something until a session ends.
    """
    modules = [_module(word.partition(":")[0]) for word in words]
    return any(getattr(module, "IS_SOLITARY", False) for module in modules)


def _module(kind: str) -> "ModuleType":
    """Give the module of a kind, imported."""
    preload(kind)
    __import__(MODULES[kind])
    return sys.modules[MODULES[kind]]


def _opener(kind: str, where: str) -> "Opener":
    module = _module(kind)
    module.prepare()
    open_source: Callable[[bytes], Source] = module.open_source
    return lambda: open_source(where.encode("utf-8", "surrogateescape"))


def verify(
    sources: "Sequence[Source]", user: bytes, secret: bytes, challenge: bytes
) -> "Identity":
    """Ask the sources in order who this is.

    Raises: Unknown; Refused, unknown accounts and those of a source whose checks cost
    nothing having spent what the checks of the others cost; Temporary, Hard.
    """
    for source in sources:
        try:
            return source.verify(user, secret, challenge)
        except Unknown:
            continue
        except Refused:
            if not source.decoy():
                _burn(sources, secret)
            raise
    _burn(sources, secret)
    raise Unknown("unknown account")


def _burn(sources: "Sequence[Source]", secret: bytes) -> None:
    """Spend what the first of the sources whose checks cost anything spends."""
    from qtools.accounts.hashes import burn

    decoys = (source.decoy() for source in sources)
    burn(secret, next(filter(None, decoys), b""))
