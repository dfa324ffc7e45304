# SPDX-License-Identifier: ISC
"""Dovecot, run from its unpacked packages with configurations made for one run.

Its programs look for each other and for their libraries below /usr, whatever the
configuration says; what is missing there is a link while the run lasts.
"""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import peers
from bench.cost import Server, free_port

if TYPE_CHECKING:
    from bench.identity import Identity
    from bench.people import Household

DEFAULT = "dovecot"
TUNED = "dovecot tuned"
ONE_UID = "dovecot one uid"

_OUTSIDE = ("/usr/lib/dovecot", "/usr/bin/doveconf")
_CLIENTS = 12_000
_COMMON = """
protocols = pop3
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/null
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 1000
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = {tls_port}
    ssl = yes
  }}
}}
"""
_SYSTEM_USERS = """
passdb {
  driver = shadow
}
userdb {
  driver = passwd
}
"""
_VIRTUAL_USERS = """
passdb {{
  driver = passwd-file
  args = {passwd}
}}
userdb {{
  driver = passwd-file
  args = {passwd}
}}
service pop3 {{
  service_count = 0
}}
"""
_NO_TLS = "ssl = no\n"
_TLS = """
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_options = no_ticket
"""
# The processes that take connections stay, one for each processor; those that serve
# users are started before they are wanted.
_TUNING = f"""
default_client_limit = {_CLIENTS}
default_vsz_limit = 2G
service pop3-login {{
  service_count = 0
  process_min_avail = 2
  process_limit = 2
  client_limit = {_CLIENTS}
}}
service pop3 {{
  process_min_avail = 8
  process_limit = 4096
}}
"""


class Dovecot(NamedTuple):
    """A dovecot with one configuration, on a port of its own."""

    name: str
    program: str
    configuration: Path
    port: int
    tls_port: int

    def start(self) -> Server:
        """Start it."""
        words = (self.program, "-F", "-c", str(self.configuration))
        return Server(words, {"PATH": "/usr/bin:/bin"}, self.port)


def dovecots(household: Household, identity: Identity | None = None) -> list[Dovecot]:
    """Give dovecot as it comes, tuned, and tuned with all mailboxes under one uid."""
    program = peers.program("BENCH_DOVECOT", "dovecot")
    if program is None:
        print("bench: dovecot left out: not found")
        return []
    household.servant("dovecot")
    household.servant("dovenull")
    for name in _OUTSIDE:
        household.link(name, Path(program).parents[2] / name.lstrip("/"))
    virtual = _VIRTUAL_USERS.format(passwd=_passwd_file(household))
    tls = _NO_TLS if identity is None else _TLS.format(**identity._asdict())
    return [
        _make(household, program, DEFAULT, tls + _SYSTEM_USERS),
        _make(household, program, TUNED, tls + _SYSTEM_USERS + _TUNING),
        _make(household, program, ONE_UID, tls + virtual + _TUNING),
    ]


def _make(household: Household, program: str, name: str, settings: str) -> Dovecot:
    folder = household.folder / name.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    ports = free_port(), free_port()
    common = _COMMON.format(folder=folder, port=ports[0], tls_port=ports[1])
    configuration = folder / "dovecot.conf"
    configuration.write_text(common + settings, encoding="ascii")
    return Dovecot(name, program, configuration, *ports)


def _passwd_file(household: Household) -> Path:
    owner = pwd.getpwnam(household.make_virtual())
    path = household.folder / "dovecot.passwd"
    rows = (
        f"{user}:{{CRYPT}}{household.hash}:{owner.pw_uid}:{owner.pw_gid}::"
        f"{household.virtual_home(user)}::\n"
        for user in household.users
    )
    path.write_text("".join(rows), encoding="ascii")
    return path
