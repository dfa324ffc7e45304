# SPDX-License-Identifier: ISC
"""Options of a database that mean something to commands, and what they may be.

Those that mean something to the database itself it checks by itself.
"""

from qtools.accounts.cli import defaults, server
from qtools.accounts.refusals import Unfit
from qtools.protocol.values import Malformed, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def check(name: str, value: bytes) -> None:
    """Make sure that an option may be set so; empty takes it away.

    Raises: Unfit.
    """
    if value and name in CHECKS:
        CHECKS[name](value)


def _defaults(value: bytes) -> None:
    try:
        pairs = parse(value)
    except Malformed as why:
        raise Unfit(f"{defaults.KEY}: {why}") from None
    if not isinstance(pairs, dict):
        raise Unfit(f"{defaults.KEY} is a dictionary of settings")
    defaults.check(pairs)


def _killer(value: bytes) -> None:
    if not server.is_program(value):
        raise Unfit(f"the option {server.KILLER} is a program's absolute path")


CHECKS: "dict[str, Callable[[bytes], None]]" = {
    defaults.KEY: _defaults,
    server.KILLER: _killer,
}
