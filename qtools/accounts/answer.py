# SPDX-License-Identifier: ISC
"""The answer of a verifier: verdict and identity in one record of fixed shape.

It crosses a pipe from the process that has seen hashes to the one that becomes the
user, so it holds a verdict, seven bounded fields and nothing else. A verifier that
crashed, was cut short or went mad can't produce one by accident: total length, count
and every single length have to agree.

    total (2 octets)  magic "qa"  exit code (1)  1 if it is to be ended (1)
    7 x [ length (2)  value ]

The fields are name, uid, gid, groups, home, shell and maildir; numbers in decimal,
groups separated by spaces. Octets of a number: most significant first. What is to be
ended when the session has, the verifier ends, and so lives on until then.
"""

from qtools.accounts.interface import LARGEST_ID, Identity
from qtools.errors import EXIT_DONE

ANSWER_OCTETS = 4096  # one write of this is atomic on a pipe
MAGIC = b"qa"
HEAD_OCTETS = 2 + len(MAGIC) + 2

FIELDS = 7


def pack(code: int, who: Identity | None = None) -> bytes:
    """Write an answer: an exit code, and who it is when the code is 0.

    Raises: ValueError when it would exceed 4096 octets.
    """
    fields = (b"",) * FIELDS
    if who is not None:
        groups = b" ".join(b"%d" % group for group in who.groups)
        numbers = (b"%d" % who.uid, b"%d" % who.gid, groups)
        fields = (who.name, *numbers, who.home, who.shell, who.maildir)
    body = b"".join(len(value).to_bytes(2, "big") + value for value in fields)
    total = HEAD_OCTETS + len(body)
    if total > ANSWER_OCTETS:
        raise ValueError("answer longer than 4096 octets")
    has_ending = who is not None and who.ending is not None
    return total.to_bytes(2, "big") + MAGIC + bytes((code, has_ending)) + body


def unpack(answer: bytes) -> tuple[int, Identity | None]:
    """Read an answer back: the exit code, and who it is when that is 0.

    Raises: ValueError when anything about it is not as pack() writes it.
    """
    magic = answer[2 : 2 + len(MAGIC)]
    total = int.from_bytes(answer[:2], "big")
    if len(answer) < HEAD_OCTETS or total != len(answer) or magic != MAGIC:
        raise ValueError("not an answer")
    fields = _split(answer[HEAD_OCTETS:])
    code, flag = answer[HEAD_OCTETS - 2 : HEAD_OCTETS]
    if flag not in (0, int(code == EXIT_DONE)):
        raise ValueError("an ending of nothing")
    if code != EXIT_DONE:
        return code, None
    name, uid, gid, groups, home, shell, maildir = fields
    if b"\0" in name + home + shell + maildir:
        raise ValueError("a NUL in an identity")
    who = Identity(name, _id(uid), _id(gid), home=home, shell=shell, maildir=maildir)
    who.groups = [_id(group) for group in groups.split(b" ")] if groups else []
    if (who.uid < 0) != (who.gid < 0) or any(group < 0 for group in who.groups):
        raise ValueError("half an identity")
    return code, who


def has_ending(answer: bytes) -> bool:
    """Tell of an answer that could be read whether something is to be ended."""
    return bool(answer[HEAD_OCTETS - 1])


def _split(body: bytes) -> list[bytes]:
    fields = []
    for _ in range(FIELDS):
        octets = int.from_bytes(body[:2], "big")
        if len(body) < 2 + octets:
            raise ValueError("a field is cut short")
        fields.append(body[2 : 2 + octets])
        body = body[2 + octets :]
    if body:
        raise ValueError("octets behind the last field")
    return fields


def _id(text: bytes) -> int:
    """Read a uid or gid: decimal, or -1."""
    if text == b"-1":
        return -1
    if not text.isdigit() or len(text) > 10 or int(text) > LARGEST_ID:
        raise ValueError("not an id")
    return int(text)
