# SPDX-License-Identifier: ISC
"""Mailboxes that are full again before each round, as if new mail had come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.people import SPOOL, mbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.people import Household

_OLDEST_SECONDS = 1_000_000  # before now; each message is a second younger


class Refill:
    """The same number of messages in every Maildir and mbox of a household."""

    def __init__(self, household: Household, messages: Sequence[bytes]) -> None:
        """Take the messages of a full mailbox; all have about the same length."""
        self._household = household
        self._messages = messages
        self._mbox = mbox(messages)
        self._owner = household.make_virtual()
        self._count = 0

    def __call__(self) -> None:
        """Put a new message into each place where one is missing."""
        household = self._household
        for user in household.users:
            self._fill(household.home(user) / "Maildir", user)
            self._fill(household.virtual_home(user) / "Maildir", self._owner)
            if (SPOOL / user).stat().st_size != len(self._mbox):
                household.put(SPOOL / user, self._mbox, user)

    def _fill(self, maildir: Path, owner: str) -> None:
        there = sum(1 for part in ("cur", "new") for _ in (maildir / part).iterdir())
        for text in self._messages[there:]:
            self._count += 1
            name = f"{1_000_000_000 + self._count}.bench{self._count}.host"
            age = _OLDEST_SECONDS - self._count
            self._household.put(maildir / "new" / name, text, owner, age)
