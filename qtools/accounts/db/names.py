# SPDX-License-Identifier: ISC
"""Names of accounts: how they are folded, and which domain is in them.

An account of the main domain is called `user`, one of another domain `user@domain`;
the domain begins behind the last @.
"""


def fold(user: bytes) -> str:
    """Give the name under which an account is kept: ASCII letters in lower case.

    Raises: UnicodeDecodeError when it isn't UTF-8, as no account's name is.
    """
    return user.lower().decode()


def split(name: str) -> tuple[str, str]:
    """Give the user's part and the domain of a name, the latter empty without one."""
    local, at, domain = name.rpartition("@")
    return (local, domain) if at else (name, "")


def join(local: str, domain: str) -> str:
    """Give the name of a user of a domain; empty for the main one."""
    return f"{local}@{domain}" if domain else local
