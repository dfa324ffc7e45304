# SPDX-License-Identifier: ISC
"""The record of descriptor 3: user, secret and challenge, each ended by a NUL.

The checkpassword interface: at most 512 octets; the third field and anything after it
may be missing or is ignored. See: the interface's description at
cr.yp.to/checkpwd/interface.html.
"""

RECORD_OCTETS = 512


def pack(user: bytes, secret: bytes, challenge: bytes) -> bytes:
    """Join the three fields.

    Raises: ValueError when a field holds a NUL or the record would exceed 512 octets.
    """
    record = b"\0".join((user, secret, challenge, b""))
    if record.count(b"\0") != 3:
        raise ValueError("a field holds a NUL")
    if len(record) > RECORD_OCTETS:
        raise ValueError("record longer than 512 octets")
    return record


def unpack(record: bytes) -> tuple[bytes, bytes, bytes]:
    """Cut a record into its three fields; a missing challenge is empty.

    Raises: ValueError when it is longer than 512 octets, or user or secret is not
    ended by a NUL.
    """
    if len(record) > RECORD_OCTETS:
        raise ValueError("record longer than 512 octets")
    fields = record.split(b"\0", 3)
    if len(fields) < 3:
        raise ValueError("user and secret must each end with a NUL")
    return fields[0], fields[1], fields[2]
