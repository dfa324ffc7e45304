# SPDX-License-Identifier: ISC
"""A small UCSPI-TLS server: the TLS side of sslserver or of s6-ucspitlsd.

One connection: popup on a TCP socket, a control socket and two pipes, and a thread that
waits for the request, does the handshake on the same socket and carries octets to and
fro.
"""

import os
import select
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from tests.chain.popup import House, Popup, Wire
from tests.support import PATIENCE_SECONDS, need

DIALECTS = ("sslserver", "s6-ucspitlsd")
PEM = "-----BEGIN CERTIFICATE-----\n" + "QUJD" * 900 + "\n-----END CERTIFICATE-----\n"


class Certificate(NamedTuple):
    """A self-signed certificate for mx.example and its key, as files."""

    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    openssl = need("openssl", "openssl")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=mx.example"]
    words += ["-addext", "subjectAltName=DNS:mx.example"]
    words += ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([openssl, *words], check=True, capture_output=True)
    return made


# Numbers that nothing else in popup has.
NUMBERS = {"SSLCTLFD": "20", "SSLREADFD": "21", "SSLWRITEFD": "22"}


class Descriptors:
    """What a UCSPI-TLS server gives its program, and the other ends."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair()
        self.their_control = theirs.detach()
        self.read, self.to_program = os.pipe()
        self.from_program, self.write = os.pipe()
        self.control.settimeout(PATIENCE_SECONDS)

    def places(self) -> dict[int, int]:
        return {20: self.their_control, 21: self.read, 22: self.write}

    def close_theirs(self) -> None:
        for descriptor in (self.their_control, self.read, self.write):
            os.close(descriptor)

    def close(self) -> None:
        self.control.close()
        os.close(self.to_program)
        os.close(self.from_program)


def dump_of(dialect: str, protocol: str, cipher: str) -> list[bytes]:
    """Give what the server tells of TLS, in pieces as they may come."""
    entries = [f"SSL_PROTOCOL={protocol}", f"SSL_CIPHER={cipher}"]
    if dialect == "sslserver":
        entries.insert(1, "SSL_SESSION_ID=")
        entries += [f"SSL_SERVER_CERT={PEM}"]
    else:
        entries += ["SSL_TLS_SNI_SERVERNAME"]
    dump = "".join(entry + "\0" for entry in entries).encode() + b"\0"
    return [dump[:5], dump[5:-1], dump[-1:]]


class TlsServer(Thread):
    """The TLS side of one connection."""

    def __init__(self, dialect: str, made: Certificate, client: socket.socket) -> None:
        super().__init__()
        self.dialect = dialect
        self.descriptors = Descriptors()
        self.client = client  # the same socket as the program's 0 and 1
        self.program = 0
        self.is_done = False
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(made.certificate, made.key)

    def run(self) -> None:
        """Wait for the request, do the handshake, relay."""
        try:
            if self.descriptors.control.recv(1) == b"Y":
                self._serve()
        finally:
            self.client.close()
            self.descriptors.close()

    def _serve(self) -> None:
        self.client.settimeout(PATIENCE_SECONDS)
        try:
            tls = self._context.wrap_socket(
                self.client, server_side=True, suppress_ragged_eofs=True
            )
        except (ssl.SSLError, OSError):
            if self.dialect == "sslserver":
                os.kill(self.program, signal.SIGTERM)
            return
        cipher = tls.cipher()
        assert cipher
        for piece in dump_of(self.dialect, str(tls.version()), cipher[0]):
            self.descriptors.control.sendall(piece)
        self.is_done = True
        with tls:
            self._relay(tls)

    def _relay(self, tls: ssl.SSLSocket) -> None:
        while True:
            watched: list[int | ssl.SSLSocket] = [self.descriptors.from_program, tls]
            ready = select.select(watched, [], [], PATIENCE_SECONDS)[0]
            if tls in ready:
                data = tls.recv(16384)
                if not data:
                    return
                os.write(self.descriptors.to_program, data)
            if self.descriptors.from_program in ready:
                data = os.read(self.descriptors.from_program, 16384)
                if not data:
                    return
                tls.sendall(data)


def serve_tls(
    house: House,
    made: Certificate,
    *words: str,
    dialect: str,
    dialogue: str,
    env: dict[str, str],
) -> tuple[Popup, TlsServer, socket.socket]:
    """Start popup before its TLS side; give both and the client's socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    client.settimeout(PATIENCE_SECONDS)
    tls = TlsServer(dialect, made, server.dup())
    number = server.detach()
    # The test speaks by its socket; the harness has copies of it.
    ends = Wire(number, os.dup(number), client.fileno(), client.fileno())
    ends = ends._replace(
        client_in=os.dup(client.fileno()), client_out=os.dup(client.fileno())
    )
    popup = house.popup(
        *words,
        dialogue=dialogue,
        wire=ends,
        env={"UCSPITLS": "", **NUMBERS, **env},
        more=tls.descriptors.places(),
    )
    tls.descriptors.close_theirs()
    tls.program = popup.pid
    tls.start()
    return popup, tls, client
