# SPDX-License-Identifier: ISC
"""What a server tells whoever runs it about itself: ready, reading anew, ending.

It outlives a reload: readiness is announced to systemd each time, and to s6 once, on a
descriptor that is closed then.
"""

from qtools.system import notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.settings import Settings

FIRST = 3  # descriptors below are nobody's to be notified on


class Notices:
    """The way to the service manager."""

    def __init__(self, notifier: notify.Notifier) -> None:
        self._notifier = notifier
        self._has_opened = False

    def opened(self, settings: "Settings") -> None:
        """Tell who started us that clients may come.

        A descriptor counts the first time only: what settings name later is ours.
        Raises: Hard when the descriptor for it, named by the settings, is none.
        """
        self._notifier.ready()
        if self._has_opened:
            return
        self._has_opened = True
        if settings.notify_descriptor >= FIRST:
            notify.notification(settings.notify_descriptor)

    def reloading(self) -> None:
        """Tell who started us that settings are read anew."""
        self._notifier.reloading()

    def closing(self) -> None:
        """Tell who started us that we are about to end."""
        self._notifier.stopping()
