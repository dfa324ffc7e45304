# SPDX-License-Identifier: ISC
"""What can be stored of an account: what a client can send, and a log can hold.

See: RFC 2449 section 4 (a command line has at most 255 octets).
"""

from qtools.accounts.db.names import fold
from qtools.accounts.interface import LARGEST_ID
from qtools.accounts.refusals import Unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

USER_OCTETS = 248  # "USER " and CRLF fill the 255 octets of a line, see: RFC 2449
SECRET_OCTETS = 248  # likewise after "PASS "
DOMAIN_OCTETS = 240  # so that there is room for a user of it

PATH_OCTETS = 1023  # four of them fit into a verifier's answer, see: answer
SETTING_NAME_OCTETS = 128
SETTING_OCTETS = 65536  # of one value; far more than a rule of a mail server has
PASSWORD = "PASSWORD"  # noqa: S105  # what no setting may be called, in either case
MOST_WORDS = 1000  # settings, rights or aliases of one account


def check_secret(secret: bytes) -> None:
    """Refuse a secret that no client could send.

    Raises: Unfit.
    """
    if not secret:
        raise Unfit("an empty password is no password")
    if len(secret) > SECRET_OCTETS:
        raise Unfit(f"a password has at most {SECRET_OCTETS} octets")
    if any(octet in secret for octet in (b"\0", b"\r", b"\n")):
        raise Unfit("a password can't hold NUL, CR or LF")


def name_of(user: bytes) -> str:
    """Give the name under which an account is kept.

    Raises: Unfit when no client could send it or it would spoil a log line.
    """
    try:
        name = fold(user)
    except UnicodeDecodeError as why:
        raise Unfit("an account's name is UTF-8") from why
    if not name or len(user) > USER_OCTETS or not _is_word(name):
        raise Unfit(
            f"an account's name is 1 to {USER_OCTETS} octets, printable, without blanks"
        )
    return name


def domain_of(name: str) -> str:
    """Give the name under which a domain is kept.

    Raises: Unfit when no account's name could have it.
    """
    try:
        domain = fold(name.encode())
    except UnicodeEncodeError as why:
        raise Unfit("a domain's name is UTF-8") from why
    is_long = len(domain.encode()) > DOMAIN_OCTETS
    if not domain or is_long or not _is_word(domain) or "@" in domain:
        raise Unfit(
            f"a domain's name is 1 to {DOMAIN_OCTETS} octets, printable, without"
            " blanks and @"
        )
    return domain


def check_place(ids: tuple[int, int] | None, home: bytes, maildir: bytes) -> None:
    """Refuse ids and directories that no session could have.

    Raises: Unfit.
    """
    if ids is not None and not all(0 <= number <= LARGEST_ID for number in ids):
        raise Unfit(f"a uid or gid is a number from 0 to {LARGEST_ID}")
    if home and not home.startswith(b"/"):
        raise Unfit("a home is an absolute path")
    for path in (home, maildir):
        if len(path) > PATH_OCTETS or any(o < 32 or o == 127 for o in path):
            raise Unfit(
                f"a directory has at most {PATH_OCTETS} octets, none of them a"
                " control character"
            )


def words_of(words: "Iterable[str]", what: str) -> list[str]:
    """Give words in order, each once, if they can be stored.

    Raises: Unfit.
    """
    found = sorted(set(words))
    if len(found) > MOST_WORDS:
        raise Unfit(f"there can be no more than {MOST_WORDS} of these: {what}")
    for word in found:
        if not 0 < len(word) <= SETTING_NAME_OCTETS or not _is_word(word):
            raise Unfit(
                f"of these each is one printable word of at most {SETTING_NAME_OCTETS}"
                f" letters: {what}"
            )
    return found


def change_settings(
    settings: "Mapping[str, bytes]", changes: "Mapping[str, bytes | None]"
) -> "Iterator[tuple[str, bytes]]":
    """Give the settings of these changes that are to be stored.

    Takes what is there already, whose number counts, too. A password among them would
    be shown to whoever may look at settings.
    Raises: Unfit.
    """
    kept = {key: value for key, value in changes.items() if value is not None}
    if len(settings) + len(kept) > MOST_WORDS:
        raise Unfit(f"there can be no more than {MOST_WORDS} settings")
    words_of(kept, "names of settings")
    if any(key.upper() == PASSWORD for key in kept):
        raise Unfit("a password is no setting")
    for key, value in kept.items():
        if len(value) > SETTING_OCTETS:
            raise Unfit(f"a setting has at most {SETTING_OCTETS} octets")
        yield key, value


def _is_word(text: str) -> bool:
    return text.isprintable() and " " not in text
