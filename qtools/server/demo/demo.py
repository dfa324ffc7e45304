# SPDX-License-Identifier: ISC
"""popserver --demo: a real POP3 server for a while, to try a client on.

Its accounts, mail, ports and certificate are made for this run and gone after it. It is
the same server as ever: only its settings are made here and not by an administrator.
"""

import json
import posix
import shlex
import signal

from qtools.errors import Hard
from qtools.server import listeners, own_chain
from qtools.server.demo import janitor
from qtools.server.demo.house import House
from qtools.server.running import Listening, master_of
from qtools.server.settings import OPTIONS, USAGE, Settings
from qtools.system import notify
from qtools.system.options import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from qtools.server.demo.house import Resident

    Opened = list[tuple[_socket.socket, bool]]

HOST, PORT = "127.0.0.1", "0"
HOSTNAME = "demo.example"
# All that a client may know: see popup(8). Who refuses a login need not be slow here.
POPUP = (
    *("popup", "--log-fd", "2", "--delay", "0"),
    *("--mechanisms", "plain,login,cram-md5", HOSTNAME),
)
POP3AUTH = b"+apop"
# Tests have one source and no patience: given before the user's own options.
DEFAULTS = ("--per-source", "0", "--drain", "0")
NO_TLS = "no TLS: neither openssl nor the package cryptography is here"


def run(argv: list[str]) -> int:
    """Serve until told to end, or until whoever started us is gone.

    Raises: Hard, Temporary.
    """
    # An interrupt while things are being made ends us; the janitor cleans up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    house = House()
    janitor.engage(house.folder)
    try:
        house.furnish()
        words = _words(argv, house)
        settings = Settings(words)
        opened = _open(settings)
        posix.environ[b"POP3AUTH"] = POP3AUTH
        place = (opened, Listening({}, opened), Announcer(settings, opened, house))
        chain = own_chain.read(settings.chain)
        return master_of(words, settings, chain, place).run()
    finally:
        house.remove()


def _words(argv: list[str], house: House) -> list[str]:
    """Give the command line of a server that is asked for all this.

    Raises: Hard.
    """
    values, rest = parse(argv, OPTIONS, USAGE)
    if len(rest) not in (0, 2):
        raise Hard("usage: popserver --demo [options] [host port]")
    given = argv[1 : len(argv) - len(rest)]
    more: list[str] = []
    if "certificate" not in values and Settings(argv).tls is None:
        made = house.certificate()
        more = ["--certificate", made[0], "--key", made[1]] if made else []
    chain = [*POPUP, "checkpw", "--accounts", f"db:{house.database}", "pop3d"]
    place = rest or [HOST, PORT]
    return [argv[0], *DEFAULTS, *more, *given, *place, *chain, "Maildir"]


def _open(settings: Settings) -> "Opened":
    """Open the listeners: a plain one, and one with TLS where no others are asked for.

    Raises: Hard, Temporary.
    """
    first = listeners.endpoint_of(settings.host, settings.port)
    first.is_tls = settings.is_first_tls
    wanted = [first, *map(listeners.endpoint, settings.listen)]
    if settings.tls is not None and not any(where.is_tls for where in wanted):
        wanted.append(listeners.endpoint_of(settings.host, PORT, is_tls=True))
    return [(listeners.bind(where, settings.backlog), where.is_tls) for where in wanted]


class Announcer(notify.Notifier):
    """Tells the person or the program that has started us, once we serve.

    On what is standard output when this is made; that is closed then.
    """

    def __init__(self, settings: Settings, opened: "Opened", house: House) -> None:
        super().__init__(posix.environ)
        self._settings = settings
        self._residents = house.residents
        self._out: int | None = posix.dup(1)
        self._host, self._port = _place_of(opened, is_tls=False)
        _, self._tls_port = _place_of(opened, is_tls=True)
        tls = settings.tls
        self._certificate = tls.certificates[0][0] if tls is not None else ""

    def ready(self) -> bool:
        """Say how to reach us, the first time; see Notifier."""
        if self._out is not None:
            is_json = "json" in self._settings.words
            text = self._facts() if is_json else self._explanation()
            with open(self._out, "w", encoding="utf-8") as out:
                out.write(text)
            self._out = None
        return super().ready()

    def _facts(self) -> str:
        facts = {
            "host": self._host,
            "ports": {"pop3": self._port, "pop3s": self._tls_port},
            "certificate": self._certificate or None,
            "accounts": [each.fields() for each in self._residents],
            "pid": posix.getpid(),
        }
        return json.dumps(facts) + "\n"

    def _explanation(self) -> str:
        first = self._residents[0]
        plain, tls = (self._url("pop3", self._port), self._url("pop3s", self._tls_port))
        trust = ("--cacert", self._certificate)
        lines = [f"popserver serves on {self._host}, with mail to throw away:", ""]
        lines += [
            f"  {each.user:20} password: {each.password:24} {each.count} messages"
            f"{'' if each.has_clear else ', no APOP'}"
            for each in self._residents
        ]
        lines += ["", f"mail:  {first.maildir}"]
        if plain:
            lines += [f"list:  {_curl(first, plain)}"]
            lines += [f"read:  {_curl(first, plain + '1')}"]
        if plain and self._certificate:
            lines += [f"stls:  {_curl(first, plain + '1', '--ssl-reqd', *trust)}"]
        if tls:
            lines += [f"tls:   {_curl(first, tls + '1', *trust)}"]
        if plain:
            lines += [f"talk:  curl -s telnet://{self._host}:{self._port}"]
        if self._certificate:
            lines += ["", "--insecure does in place of --cacert and its file."]
        else:
            lines += ["", NO_TLS]
        return "\n".join([*lines, "", "Control-C ends it, and nothing is left.", ""])

    def _url(self, scheme: str, port: "int | None") -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return "" if port is None else f"{scheme}://{host}:{port}/"


def _place_of(opened: "Opened", *, is_tls: bool) -> tuple[str, "int | None"]:
    """Give the address of the first listener of a kind; no port when there is none."""
    for held, is_tls_there in opened:
        address = held.getsockname()
        if is_tls_there == is_tls and isinstance(address, tuple):
            return address[0], address[1]
    return HOST, None


def _curl(who: "Resident", url: str, *options: str) -> str:
    """Give what to type to fetch something as somebody."""
    words = ["curl", "-s", *options, "-u", f"{who.user}:{who.password}", url]
    return shlex.join(words)
