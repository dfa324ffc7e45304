# SPDX-License-Identifier: ISC
"""The dialogue of a pop3d that logs in by itself: traced, and refused in good time."""

from time import monotonic

from qtools.chain.dialogue import Dialogue
from qtools.sessions.actions import Respond, Trace, Verify, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.chain.dialogue import Clerk
    from qtools.sessions.actions import Action
    from qtools.sessions.login import Login
    from qtools.system.fdio import Wire

    Actions = list[Action]


class Speech(Dialogue):
    """A Dialogue in which a refusal takes its time from the question on.

    What a verifier takes is no hint then at what it has found, and a delay of PAM's
    modules is not had twice.
    """

    def __init__(
        self,
        login: "Login",
        wire: "Wire",
        clerk: "Clerk",
        trace: "Callable[[bytes], None]",
    ) -> None:
        super().__init__(login, wire, clerk)
        self._show = trace
        self._asked_at = 0.0

    def _do(self, action: "Action") -> "Actions":
        if isinstance(action, Trace):
            self._show(action.line)
            return []
        if isinstance(action, Wait):
            action = Wait(self._rest_of(action.seconds))
        return super()._do(action)

    def _rest_of(self, seconds: float) -> float:
        """Give what is left of a wait that began with the question."""
        asked_at, self._asked_at = self._asked_at, 0.0
        passed = monotonic() - asked_at if asked_at else 0.0
        return max(seconds - passed, 0.0)

    def _consult(self, action: "Action") -> "Actions":
        if isinstance(action, Verify | Respond):
            self._asked_at = monotonic()
        return super()._consult(action)
