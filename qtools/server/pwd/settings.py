# SPDX-License-Identifier: ISC
"""What poppassd --pwd -D was asked for, in CommuniGate's words: channels and listeners.

The server is popserver's, with a chain of one link; so what is here turns the one's
words into the other's, each time they are read.
"""

import os

from qtools.chain.change import pwdservice
from qtools.errors import Hard
from qtools.server import listeners
from qtools.server.settings import Settings, read_words
from qtools.server.standalone import places
from qtools.system.options import Option, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtools.system.options import Values

USAGE = "poppassd --pwd -D [options]"
PLACE = "127.0.0.1:106"  # passwords may cross it in the clear
TLS_PORT = "1106"
CHANNELS = 100  # each is two processes
PER_SOURCE = 20

FULL = "400 too many connections, try again later"

OPTIONS = (
    Option("D", "standalone", "", "be a server"),
    Option("", "foreground", "", "with -D: stay, and log on descriptor 2"),
    Option("", "channels", "N", "connections at once (100); 0: release the ports"),
    Option(
        *("", "listen", "[tls:]HOST:PORT"),
        "where (127.0.0.1:106; with a certificate tls:127.0.0.1:1106, too);"
        " may be repeated, port 0 is no listener",
    ),
    Option("", "clients", "FILE", "addresses that may connect (any)"),
    Option("", "per-source", "N", "connections at once from one address (20); 0: any"),
    Option(
        "", "certificate", "FILE", "certificate and chain in PEM, for STLS and tls:"
    ),
    Option("", "key", "FILE", "its key, when not in the certificate's file"),
    Option("", "config", "FILE", "more options, one a line; read anew at SIGHUP"),
)
ALL = (*OPTIONS, *pwdservice.OPTIONS)

_HANDED_ON = ("certificate", "key", "clients")


def read(argv: "Sequence[str]", home: str) -> "Values":
    """Read the options, and those of the file that they name.

    home: the folder in which we were started, which a daemon leaves.
    Raises: Hard, Temporary.
    """
    values, rest = parse(argv, ALL, USAGE)
    if "config" in values:
        path = os.path.join(home, values["config"])
        both = [argv[0], *read_words(path, ALL), *argv[1:]]
        values, rest = parse(both, ALL, USAGE)
    if rest:
        raise Hard(f"usage: {USAGE}")
    pwdservice.check(values)
    for name in _HANDED_ON:
        if name in values:
            values[name] = os.path.join(home, values[name])
    return values


def settings(program: str, values: "Values") -> Settings:
    """Give popserver's settings for these options.

    program: the path of poppassd.
    Raises: Hard, Temporary.
    """
    return Settings(words(program, values))


def words(program: str, values: "Values") -> list[str]:
    """Give popserver's command line.

    Raises: Hard.
    """
    has_tls = "certificate" in values
    channels = values.number("channels", CHANNELS)
    each = values.number("per-source", PER_SOURCE)
    given = [word for word in values.every("listen") if not _is_none(word)]
    if values.every("listen") and not given:
        channels, given = 0, [PLACE]
    implicit = [f"tls:127.0.0.1:{TLS_PORT}"] if has_tls else []
    chosen = type(values)()
    for word in given or [PLACE, *implicit]:
        chosen["listen"] = word
    handed_on = [f"--{name}={values[name]}" for name in _HANDED_ON if name in values]
    return [
        *(program, f"--concurrency={channels}", f"--refuse={FULL}"),
        *(f"--per-source={each}", *handed_on),
        *(("--ucspi-tls", "--tls-environment") if has_tls else ()),
        *places(chosen, PLACE),
        program,
        *_session_words(values),
    ]


def _is_none(word: str) -> bool:
    """Tell whether a listener is one that has been taken out by its port.

    Raises: Hard.
    """
    where = listeners.endpoint(word)
    return not where.port and not isinstance(where.host, bytes)


def _session_words(values: "Values") -> list[str]:
    """Give the options that each connection's poppassd gets."""
    found = []
    for row in pwdservice.OPTIONS:
        flag = f"--{row.name}"
        if not row.argument:
            found += [flag] * (row.name in values)
        else:
            found += [f"{flag}={value}" for value in values.every(row.name)]
    return found
