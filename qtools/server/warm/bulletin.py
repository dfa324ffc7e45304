# SPDX-License-Identifier: ISC
"""What a warm server tells whoever runs it: notices, and what it has counted.

It outlives a reload: what was counted under other settings was counted all the same.
"""

from qtools.errors import Failure
from qtools.server import metrics
from qtools.server.notices import Notices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.system import notify

METRICS_SECONDS = 10.0


class Bulletin(Notices):
    """The master's voice."""

    def __init__(self, notifier: "notify.Notifier") -> None:
        super().__init__(notifier)
        self._counters = metrics.Counters()
        self._publish_at = 0.0

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
