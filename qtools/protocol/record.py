# SPDX-License-Identifier: ISC
"""The record of descriptor 3: user, secret and challenge, each ended by a NUL.

The checkpassword interface: at most 512 octets; the third field and anything after it
may be missing or is ignored. See: the interface's description at
cr.yp.to/checkpwd/interface.html.
"""

RECORD_OCTETS = 512
BEARER_OCTETS = 4096  # with a token for a secret; what any pipe takes at once


def pack(
    user: bytes, secret: bytes, challenge: bytes, most: int = RECORD_OCTETS
) -> bytes:
    """Join the three fields.

    most: octets of the whole record.
    Raises: ValueError when a field holds a NUL or the record would be longer.
    """
    record = b"\0".join((user, secret, challenge, b""))
    if record.count(b"\0") != 3:
        raise ValueError("a field holds a NUL")
    if len(record) > most:
        raise ValueError(f"record longer than {most} octets")
    return record


def unpack(record: bytes, most: int = RECORD_OCTETS) -> tuple[bytes, bytes, bytes]:
    """Cut a record into its three fields; a missing challenge is empty.

    most: octets of the whole record.
    Raises: ValueError when it is longer, or user or secret is not ended by a NUL.
    """
    if len(record) > most:
        raise ValueError(f"record longer than {most} octets")
    fields = record.split(b"\0", 3)
    if len(fields) < 3:
        raise ValueError("user and secret must each end with a NUL")
    return fields[0], fields[1], fields[2]
