# SPDX-License-Identifier: ISC
"""How much is stored for an account: what the names and sizes in its Maildir say.

Only looked at: no file is opened, and no symbolic link inside is followed, since all
of it is the user's, who may not be ours to read for.
"""

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.accounts.db.store import Account

MOST_FILES = 1_000_000  # whoever has more than that is told how much those are
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def used(account: "Account") -> int:
    """Give the octets of the messages in new and cur; 0 where there is no Maildir."""
    maildir = os.path.join(account.home, account.maildir or "Maildir")
    if not maildir.startswith("/"):
        return 0
    return sum(_octets(maildir, folder) for folder in ("new", "cur"))


def _octets(maildir: str, folder: str) -> int:
    total = 0
    try:
        above = os.open(maildir, _FOLDER)
    except OSError:
        return 0
    try:
        here = os.open(folder, _FOLDER, dir_fd=above)
    except OSError:
        return 0
    finally:
        os.close(above)
    try:
        with os.scandir(here) as entries:
            for count, entry in enumerate(entries):
                if count >= MOST_FILES:
                    break
                total += _octets_of(entry)
    except OSError:
        return total
    finally:
        os.close(here)
    return total


def _octets_of(entry: "os.DirEntry[str]") -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
