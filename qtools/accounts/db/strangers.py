# SPDX-License-Identifier: ISC
"""How many iterations of SCRAM a stranger is told of.

Whoever asks for SCRAM is told that number before he has proved anything. So a stranger
is told one that accounts have, and as often as they do: else each account whose
password is older than the last choice of a number could be told from strangers.
See: tally, where it is kept how often that is.
"""

from qtools.protocol import digests

DRAW_OCTETS = 8


def read(text: bytes) -> dict[int, int]:
    """Read `4096:120 10000:3`: iterations, and how many accounts have such keys."""
    pairs = (word.split(b":") for word in text.split())
    return {int(iterations): int(accounts) for iterations, accounts in pairs}


def drawn(tally: dict[int, int], secret: bytes, user: bytes) -> int:
    """Give the iterations for a stranger's name: 0 when no account has keys.

    They are the same as long as the tally is; when accounts go over from one number to
    another, strangers do so as well, one by one. secret: of the server.
    """
    octets = digests.hmac_sha256(secret, b"iterations\0" + user)[:DRAW_OCTETS]
    place = int.from_bytes(octets, "big") * sum(tally.values()) >> 8 * DRAW_OCTETS
    for iterations, accounts in sorted(tally.items()):
        if place < accounts:
            return iterations
        place -= accounts
    return 0
