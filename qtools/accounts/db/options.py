# SPDX-License-Identifier: ISC
"""What an administrator has chosen for a whole database.

A known option is checked when it is set; others are kept for programs that have a use
for them. An empty value takes an option away.
"""

from qtools.accounts import hashes
from qtools.accounts.db.ledger import Ledger
from qtools.accounts.limits import SETTING_OCTETS, words_of
from qtools.accounts.refusals import Unfit
from qtools.protocol import scram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

METHOD, ITERATIONS, HOOK, HOOK_TIMEOUT = "method", "iterations", "hook", "hook-timeout"

MOST_SECONDS = 3600

# Kept in the same table, and nobody's to see or choose.
_INTERNAL = ("decoy", "salt-key", "key-tally", "hook-busy")


class Options(Ledger):
    """What can be done with options."""

    def option(self, name: str) -> bytes:
        """Give an option, empty when it is not set."""
        return b"" if name in _INTERNAL else self._meta(name)

    def options(self) -> dict[str, bytes]:
        """Give all options that are set."""
        rows = self._execute("SELECT name FROM meta ORDER BY name")
        names = [str(row[0]) for row in rows if row[0] not in _INTERNAL]
        return {name: self._meta(name) for name in names}

    def set_option(self, name: str, value: bytes) -> None:
        """Choose something; empty takes the choice back.

        Raises: Unfit.
        """
        words_of([name], "names of options")
        if name in _INTERNAL or len(value) > SETTING_OCTETS:
            raise Unfit(f"the option {name} can't be set so")
        if value and name in CHECKS and not CHECKS[name](value):
            raise Unfit(f"the option {name} is {MEANINGS[name]}")
        self._change("DELETE FROM meta WHERE name = ?", name)
        if value:
            self._change("INSERT INTO meta VALUES (?, ?)", name, value)
        if name == HOOK and not value:
            self._change("DELETE FROM outbox")
        self._note("option", name)


def _is_method(value: bytes) -> bool:
    return value.decode("ascii", "replace") in hashes.METHODS


def _is_iterations(value: bytes) -> bool:
    is_number = value.isdigit() and len(value) <= len(str(scram.MOST_ITERATIONS))
    return is_number and (
        int(value) == 0 or scram.ITERATIONS <= int(value) <= scram.MOST_ITERATIONS
    )


def _is_hook(value: bytes) -> bool:
    return value.startswith(b"/") and b"\0" not in value


def _is_seconds(value: bytes) -> bool:
    return value.isdigit() and len(value) < 5 and 0 < int(value) <= MOST_SECONDS


# The options that mean something here, and what they may be.
CHECKS: "dict[str, Callable[[bytes], bool]]" = {
    METHOD: _is_method,
    ITERATIONS: _is_iterations,
    HOOK: _is_hook,
    HOOK_TIMEOUT: _is_seconds,
}
MEANINGS = {
    METHOD: f"one of {', '.join(hashes.METHODS)}",
    ITERATIONS: f"0, for no keys, or {scram.ITERATIONS} to {scram.MOST_ITERATIONS}",
    HOOK: "a program's absolute path",
    HOOK_TIMEOUT: f"1 to {MOST_SECONDS} seconds",
}
