# SPDX-License-Identifier: ISC
"""Serve a mailbox on the loopback, to see the chain at work. No root, no network.

    make demo                  until interrupted
    make demo DEMO=--check     fetch one message, compare it, leave with 0

Installs into a folder of its own, makes an account database and a Maildir there, and
starts the chain for each connection, as tcpserver would: this file's listener is a few
lines, for want of one of ours. Everything is gone afterwards.
"""

import argparse
import os
import poplib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, TOP)

from tests import corpus  # noqa: E402 (found by the line above)

USER = "reader@example.org"
SECRET = "an easy demo password"
HOST = "127.0.0.1"
# As root the mail has to belong to somebody else: pop3d serves nothing as uid 0.
OWNER = (os.getuid(), os.getgid()) if os.getuid() else (65534, 65534)
SHOWN = 1  # the message that is fetched
# Root's own place for temporary files may be closed to the owner of the mail.
PLACE = None if os.getuid() else "/tmp"


class Demo:
    """An installation, an account and a Maildir in one throw-away folder."""

    def __init__(self, folder: str) -> None:
        self.bin = f"{folder}/bin"
        self.database = f"{folder}/accounts"
        self.home = f"{folder}/home"
        self.messages = self._make_home()
        self._install(folder)
        self._make_account()

    def _make_home(self) -> list[corpus.Message]:
        os.mkdir(self.home, 0o700)
        os.chown(self.home, *OWNER)
        return corpus.write_maildir(f"{self.home}/Maildir", OWNER)

    def _install(self, folder: str) -> None:
        words = [
            *(f"PYTHON={sys.executable}", f"PREFIX={folder}", "FORCE=1"),
            *(f"MANDIR={folder}/man", f"BINDIR={self.bin}", f"LIBDIR={folder}/lib"),
        ]
        run("make", "--no-print-directory", "-C", TOP, "install", *words)

    def _make_account(self) -> None:
        popaccount = (f"{self.bin}/popaccount", "--db", self.database)
        uid, gid = OWNER
        run(*popaccount, "init")
        run(
            *(*popaccount, "add", USER, "--stdin", "--apop", "--home", self.home),
            *("--uid", str(uid), "--gid", str(gid)),
            said=SECRET + "\n",
        )

    def chain(self) -> list[str]:
        """Give the words an administrator would write behind tcpserver's."""
        return [
            *("popup", "mx.example.org"),
            *("checkpw", "--accounts", f"db:{self.database}"),
            *("pop3d", "Maildir"),
        ]

    def serve(self, listener: socket.socket) -> None:
        """Start the chain for each connection, with a UCSPI server's environment."""
        while True:
            try:
                connection, (address, port, *_) = listener.accept()
            except OSError:  # closed: the end
                return
            environ = {
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "PROTO": "TCP",
                "TCPLOCALIP": HOST,
                "TCPLOCALPORT": str(listener.getsockname()[1]),
                "TCPREMOTEIP": address,
                "TCPREMOTEPORT": str(port),
                # Tells apart who is who in the log, and stands for "who may come".
                "POP3AUTH": "+apop",
            }
            words = self.chain()
            words[0] = f"{self.bin}/{words[0]}"
            with connection:
                subprocess.Popen(
                    words,
                    stdin=connection.fileno(),
                    stdout=connection.fileno(),
                    env=environ,
                    cwd="/",
                )


def run(*words: str, said: str = "") -> None:
    """Run a program; show what it said only if it failed."""
    done = subprocess.run(
        words,
        input=said,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        sys.exit(f"demo: {' '.join(words)}:\n{done.stdout}")


def curl(port: int, path: str = "") -> list[str]:
    """Give the words that let curl fetch something."""
    return ["curl", "-s", "-u", f"{USER}:{SECRET}", f"pop3://{HOST}:{port}/{path}"]


def fetch(port: int) -> bytes:
    """Fetch the shown message, by curl if it is there."""
    if shutil.which("curl"):
        words = curl(port, str(SHOWN))
        return subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    client = poplib.POP3(HOST, port, timeout=30)
    client.user(USER)
    client.pass_(SECRET)
    _, lines, _ = client.retr(SHOWN)
    client.quit()
    return b"".join(line + b"\r\n" for line in lines)


def check(demo: Demo, port: int) -> None:
    """Fetch a message and compare it with what was put there."""
    expected = demo.messages[SHOWN - 1].wire
    found = fetch(port)
    if found != expected:
        sys.exit(f"demo: got {len(found)} octets, expected {len(expected)}")
    client = "curl" if shutil.which("curl") else "poplib (curl is missing)"
    print(f"{client} fetched message {SHOWN}, {len(found)} octets, as it was stored:\n")
    print(found.decode().replace("\r", ""))


def explain(demo: Demo, port: int) -> None:
    """Print what to type."""
    print(f"{len(demo.messages)} messages are served on {HOST} port {port} by")
    print(f"  {' '.join(demo.chain())}")
    print(f"user {USER}, password: {SECRET}\n")
    for title, path in (("list", ""), ("read", str(SHOWN))):
        words = " ".join(f"'{w}'" if " " in w else w for w in curl(port, path))
        print(f"{title}:  {words}")
    print(f"talk:  curl -s telnet://{HOST}:{port}", flush=True)


def main() -> None:
    """Set up, explain, serve or check, and clean up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", "--once", action="store_true", help="read and leave")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    given = parser.parse_args()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A background job of a shell is born with it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        tempfile.TemporaryDirectory(prefix="qtools-demo-", dir=PLACE) as folder,
        socket.create_server((HOST, given.port)) as listener,
    ):
        os.chmod(folder, 0o755)
        demo = Demo(folder)
        threading.Thread(target=demo.serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        explain(demo, port)
        if given.check:
            check(demo, port)
            return
        print("\nControl-C ends it.", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
