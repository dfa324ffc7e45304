# SPDX-License-Identifier: ISC
"""A SCRAM-SHA-256 client for tests, written from RFC 5802 with the standard library.

It has nothing of ours in it, and says what it is told to say, wrong or not.
"""

import hashlib
import hmac
from base64 import b64decode, b64encode

NONCE = b"rOprNGfwEbeRWgbNEkqO"


def saslname(user: bytes) -> bytes:
    """Write a name as SCRAM has it (RFC 5802 section 5.1)."""
    return user.replace(b"=", b"=3D").replace(b",", b"=2C")


class ScramClient:
    """One exchange; header and binding as RFC 5802 section 7 has them."""

    def __init__(
        self,
        user: bytes,
        password: bytes,
        header: bytes = b"n,,",
        binding: bytes = b"",
        nonce: bytes = NONCE,
    ) -> None:
        self.password = password
        self.header = header
        self.binding = binding
        self.bare = b"n=%b,r=%b" % (saslname(user), nonce)
        self.nonce = nonce
        self.expected = b""  # the server's last message

    def first(self) -> bytes:
        """Give the client-first-message."""
        return self.header + self.bare

    def final(self, challenge: bytes) -> bytes:
        """Answer the server-first-message, whoever it is for."""
        fields = dict(field.split(b"=", 1) for field in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", self.password, b64decode(fields[b"s"]), int(fields[b"i"])
        )
        channel = b64encode(self.header + self.binding)
        unproved = b"c=%b,r=%b" % (channel, fields[b"r"])
        agreed = b",".join((self.bare, challenge, unproved))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored = hashlib.sha256(client_key).digest()
        signature = hmac.digest(stored, agreed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.expected = b"v=" + b64encode(hmac.digest(server_key, agreed, "sha256"))
        return unproved + b",p=" + b64encode(proof)
