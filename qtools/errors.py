# SPDX-License-Identifier: ISC
"""The closed set of ways in which a tool can fail, each with its exit code.

Every failure is one of these, because the program before us in the chain sees
nothing but the exit code: it has to tell "wrong password" from "try again later".
"""

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_MISUSE = 2
EXIT_EXPIRED = 3  # between processes of ours; any other program hears EXIT_REFUSED
EXIT_HARD = 100
EXIT_TEMPORARY = 111


class Failure(Exception):
    """Any failure whose text may be shown to the operator, never to the network."""

    code = EXIT_TEMPORARY


class Refused(Failure):
    """The credential was not accepted."""

    code = EXIT_REFUSED


class Expired(Refused):
    """The password was right, and is too old: it has to be changed first."""

    code = EXIT_EXPIRED


class Withdrawn(Refused):
    """The client gave up before it was known whether the credential is good."""


class Misuse(Failure):
    """The checkpassword contract was broken: descriptor 3, its record, no program."""

    code = EXIT_MISUSE


class Hard(Failure):
    """Usage or configuration is wrong; retrying cannot help."""

    code = EXIT_HARD


class Temporary(Failure):
    """The system failed; a retry may help."""

    code = EXIT_TEMPORARY


# On configuration these mean that somebody has to mend something. All others,
# unknown ones included, are temporary: a user should rather read "try later" than
# "wrong password".
_HARD_ERRORS = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def from_os_error(why: OSError, doing: str) -> Failure:
    """Turn an error of the system into Hard or Temporary.

    Takes what was being done, in words, e.g. "open /etc/qtools/users".
    """
    kind = Hard if isinstance(why, _HARD_ERRORS) else Temporary
    return kind(f"unable to {doing}: {why.strerror or why}")
