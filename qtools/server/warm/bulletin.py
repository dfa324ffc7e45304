# SPDX-License-Identifier: ISC
"""What a server tells whoever runs it: that it is ready, and what it has counted.

It outlives a reload: readiness is announced to s6 once, on a descriptor that is closed
then, and what was counted under other settings was counted all the same.
"""

from qtools.errors import Failure
from qtools.server import metrics
from qtools.system import notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.server.settings import Settings

METRICS_SECONDS = 10.0
FIRST = 3  # descriptors below are nobody's to be notified on


class Bulletin:
    """The master's voice."""

    def __init__(self, notifier: notify.Notifier) -> None:
        self._notifier = notifier
        self._has_notified = False
        self._counters = metrics.Counters()
        self._publish_at = 0.0

    def opened(self, settings: "Settings") -> None:
        """Tell who started us that clients may come.

        Raises: Hard when the descriptor for it, named by the settings, is none.
        """
        self._notifier.ready()
        descriptor = settings.notify_descriptor
        if descriptor >= FIRST and not self._has_notified:
            self._has_notified = True
            notify.notification(descriptor)

    def reloading(self) -> None:
        """Tell who started us that settings are read anew."""
        self._notifier.reloading()

    def closing(self) -> None:
        """Tell who started us that we are about to end."""
        self._notifier.stopping()

    def count(self, generation: int, packed: bytes) -> None:
        """Take what a login worker has counted.

        Raises: ValueError.
        """
        self._counters.merge(packed, generation)

    def gone(self, generation: int) -> None:
        """Have a login worker's gauges count no more, now that it has ended."""
        self._counters.forget(generation)

    def replaced(self, kind: str) -> None:
        """Count a process that had to be replaced."""
        word = {"login worker": "login", "TLS worker": "tls"}.get(kind, kind)
        self._counters.add("worker_restarts_total", (word,))

    def publish(self, path: str, now: float, complain: "Callable[[str], None]") -> None:
        """Write the metrics file, when it is time to."""
        if not path or now < self._publish_at:
            return
        self._publish_at = now + METRICS_SECONDS
        self.publish_now(path, complain)

    def publish_now(self, path: str, complain: "Callable[[str], None]") -> None:
        """Write the metrics file, if there is to be one."""
        if not path:
            return
        try:
            place = path.encode("utf-8", "surrogateescape")
            metrics.write(place, metrics.render(self._counters))
        except Failure as why:
            complain(str(why))
