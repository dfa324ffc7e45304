# SPDX-License-Identifier: ISC
"""What the settings come to for a chain of others: one generation, and the next.

Everything that can be wrong with settings is found out here, so that those of before
stay in force as a whole.
"""

from qtools.errors import Hard
from qtools.server.foreign.manner import Manner
from qtools.server.tls import worker
from qtools.system import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from qtools.server.notices import Notices
    from qtools.server.running import Listening
    from qtools.server.settings import Settings

    Listeners = list[tuple[_socket.socket, bool]]


class Premises:
    """One generation of settings.

    listeners: non-blocking sockets by descriptor, each with whether TLS begins there at
    once. has_tls: there is a certificate. launch: starts a TLS worker, see worker.py.
    """

    def __init__(self, settings: "Settings", listeners: "Listeners") -> None:
        """Take settings and the sockets that were opened for them.

        Raises: Hard for settings that can't be.
        """
        self.settings = settings
        self.listeners = {each.fileno(): (each, is_tls) for each, is_tls in listeners}
        self.has_tls = settings.tls is not None
        if not self.has_tls and any(is_tls for _, is_tls in listeners):
            raise Hard("a listener with TLS needs --certificate")
        self.manner = Manner(settings, has_tls=self.has_tls)
        self.launch = worker.launchers(settings, confine.USER)


class Estate:
    """What outlives a generation: the words, the listeners, who is told.

    read: gives the settings as they are by now.
    """

    def __init__(
        self,
        read: "Callable[[], Settings]",
        listening: "Listening",
        notices: "Notices",
    ) -> None:
        self._read = read
        self._listening = listening
        self.notices = notices

    def reread(self) -> Premises:
        """Read the words anew, and the options file they name; open what is missing.

        Raises: Failure, nothing being changed then.
        """
        settings = self._read()
        return Premises(settings, self._listening.open(settings))

    def keep(self) -> None:
        """Close the listeners that are not wanted any more."""
        self._listening.keep()

    def drop(self) -> None:
        """Close the listeners that settings wanted which turned out wrong."""
        self._listening.drop()
