# SPDX-License-Identifier: ISC
"""How a foreign chain's connections are received: the settings, read once and checked.

The chain itself is looked up here, too. When its first program is one of ours, its
main() is called in the connection's process instead of starting an interpreter.
"""

from qtools.chain import handover
from qtools.server import clients

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.chain.handover import Link
    from qtools.server.settings import Settings

IDENT_SECONDS = 26  # tcpserver's
MOST_SECONDS = 1200  # nobody's client waits longer for a greeting


class Manner:
    """What is done for every connection.

    name: ours, for TCPLOCALHOST. banner: sent first. networks: who sends a PROXY
    header, None when nobody may. is_delayed: TLS when the program asks for it.
    is_at_once: TLS before the program starts, whatever the listener. is_telling: the
    program gets the variables about TLS.
    """

    def __init__(self, settings: "Settings", *, has_tls: bool) -> None:
        """Read the settings; has_tls: whether there is a certificate.

        Raises: Hard for a value that can't be.
        """
        words = settings.words
        self.chain = settings.chain
        self.name = _octets(settings.name)
        self.banner = _octets(words.get("banner", ""))
        self.is_nodelay = words.is_last("no-delay", "delay")
        self.is_looked_up = words.is_last("lookup", "no-lookup")
        self.is_paranoid = words.is_last("paranoid", "not-paranoid")
        self.is_ident_asked = words.is_last("ident", "no-ident")
        seconds = words.number("ident-timeout", IDENT_SECONDS)
        self.ident_seconds = min(seconds, MOST_SECONDS)
        self.rules = _octets(settings.rules)
        self.is_rules_optional = settings.is_rules_optional
        self.networks = settings.proxies
        self.clients = clients.read(settings.clients) if settings.clients else None
        self.handshake_seconds = settings.handshake_seconds
        self.is_delayed = has_tls and "ucspi-tls" in words
        self.is_telling = "tls-environment" in words
        self.is_at_once = has_tls and self.is_telling and not self.is_delayed
        self._link = _foreseen(self.chain)

    def link(self) -> "Link":
        """Give the first program of the chain, ready to run.

        Raises: Failure when there is none.
        """
        return self._link or handover.prepare(self.chain)


def _foreseen(chain: list[str]) -> "Link | None":
    """Load what the chain is going to need; what can't be is each child's to report."""
    try:
        link = handover.prepare(chain)
        link.foresee()
    except Exception:  # noqa: BLE001  # it will fail there as it did here
        return None
    return link


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
