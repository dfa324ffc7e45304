# SPDX-License-Identifier: ISC
"""Run popserver --demo out of this checkout. No root, no network, no installation.

make demo                    until interrupted
make demo DEMO='0 1100'      any words of popserver's
make demo DEMO=--check       fetch a message in every way, compare it, leave with 0
"""

import json
import os
import poplib
import shutil
import ssl
import subprocess
import sys
from typing import Any

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
SERVER = [sys.executable, "-IS", f"{TOP}/bin/popserver", "--demo"]
SHOWN = 1  # the message that is fetched
PLAIN, STLS, TLS = "plain", "STLS", "implicit TLS"
SECONDS = 30

Facts = dict[str, Any]  # what popserver --demo --json tells


def by_curl(facts: Facts, way: str) -> bytes:
    """Fetch the shown message as the printed lines do."""
    account, scheme = facts["accounts"][0], "pop3s" if way == TLS else "pop3"
    url = f"{scheme}://{facts['host']}:{facts['ports'][scheme]}/{SHOWN}"
    who = f"{account['user']}:{account['password']}"
    trust = [] if way == PLAIN else ["--ssl-reqd", "--cacert", facts["certificate"]]
    words = ["curl", "-sS", "--max-time", str(SECONDS), *trust, "-u", who, url]
    return subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout


def by_poplib(facts: Facts, way: str) -> bytes:
    """Fetch the shown message with the standard library."""
    account, ports = facts["accounts"][0], facts["ports"]
    client: poplib.POP3
    if way == TLS:
        trust = ssl.create_default_context(cafile=facts["certificate"])
        client = poplib.POP3_SSL(
            facts["host"], ports["pop3s"], timeout=SECONDS, context=trust
        )
    else:
        client = poplib.POP3(facts["host"], ports["pop3"], timeout=SECONDS)
    if way == STLS:
        client.stls(ssl.create_default_context(cafile=facts["certificate"]))
    client.user(account["user"])
    client.pass_(account["password"])
    _, lines, _ = client.retr(SHOWN)
    client.quit()
    return b"".join(line + b"\r\n" for line in lines)


def stored(maildir: str) -> bytes:
    """Give the shown message as a client must get it, from its file."""
    places = {
        name: f"{maildir}/{folder}/{name}"
        for folder in ("new", "cur")
        for name in os.listdir(f"{maildir}/{folder}")
    }
    with open(places[sorted(places)[SHOWN - 1]], "rb") as file:
        return b"".join(line.rstrip(b"\r\n") + b"\r\n" for line in file)


def check(facts: Facts) -> None:
    """Fetch the message in every way there is and compare it with its file."""
    name, fetch = ("curl", by_curl)
    if not shutil.which("curl"):
        name, fetch = ("poplib (curl is missing)", by_poplib)
    expected = stored(facts["accounts"][0]["maildir"])
    ways = (PLAIN, STLS, TLS) if facts["certificate"] else (PLAIN,)
    for way in ways:
        found = fetch(facts, way)
        if found != expected:
            text = f"{way}: got {len(found)} octets, expected {len(expected)}"
            sys.exit(f"demo: {text}")
        print(f"{way}: {name} fetched {len(found)} octets, as it was stored")
    print()
    print(expected.decode().replace("\r", ""))


def main() -> None:
    """Run the server, or be its client."""
    words = sys.argv[1:]
    if "--check" not in words:
        os.execv(SERVER[0], [*SERVER, *words])
    words.remove("--check")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*SERVER, "--json", *words], stdin=pipe, stdout=pipe
    ) as process:
        assert process.stdout
        told = process.stdout.readline()
        if not told:
            sys.exit("demo: the server did not start")
        try:
            check(json.loads(told))
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
