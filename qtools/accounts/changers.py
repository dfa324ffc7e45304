# SPDX-License-Identifier: ISC
"""Where passwords are changed, by the words an administrator writes: pam, db:FILE.

The words are those of sources (see registry), but only some of these can change what
they hold; of the variable's, the first one that can is meant.
"""

from qtools.accounts.floor import is_above
from qtools.accounts.refusals import NotAllowed
from qtools.accounts.registry import VARIABLE
from qtools.errors import Hard
from qtools.linked import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.accounts.interface import Changer
    from qtools.accounts.pam.change import PamChanger

    Opener = Callable[[], Changer]

PAM, DATABASE = "pam", "db"
KINDS = (PAM, DATABASE)


def word(given: str, environ: dict[bytes, bytes]) -> str:
    """Give the word in force: the option's, else one of the environment's, else pam.

    Raises: Hard for a kind whose passwords can't be changed.
    """
    variable = environ.get(VARIABLE, b"").decode("utf-8", "surrogateescape")
    can_change = [each for each in variable.split() if _kind(each) in KINDS]
    found = given or (can_change[0] if can_change else PAM)
    if _kind(found) not in KINDS:
        raise Hard(f"no passwords can be changed in {found}; {' and '.join(KINDS)} can")
    return found


def is_pam(word: str) -> bool:
    """Tell whether a word means PAM, and not a database."""
    return _kind(word) == PAM


def load(word: str, least_uid: int, *, is_for_user: bool = False) -> "Opener":
    """Load the libraries of a word, and give a function to open a changer.

    least_uid, is_for_user: see FloorChanger and PamChanger; for PAM only.
    Raises: Hard when a library is missing, or the word says where wrongly.
    """
    name = word.partition(":")[2]
    where = name.encode("utf-8", "surrogateescape")
    if not is_pam(word):
        from qtools.accounts.cli import changer

        opener = changer.load(name)
        return lambda: changer.DatabaseChanger(opener, where)
    preload(PAM)
    preload("pam-change")
    from qtools.accounts.pam import attempt, source
    from qtools.accounts.pam import change as pam

    attempt.library()
    service = source.service_of(where, pam.DEFAULT_SERVICE)
    return lambda: FloorChanger(
        pam.PamChanger(service, is_for_user=is_for_user), least_uid
    )


class FloorChanger:
    """PAM's changer for those who are above a uid, before PAM is asked and after.

    Before, because root's password is not to be guessed here; after, since a module
    may have settled on another user than was asked for.
    """

    def __init__(self, changer: "PamChanger", least_uid: int) -> None:
        self._changer = changer
        self._least_uid = least_uid

    def authenticate(self, user: bytes, secret: bytes, challenge: bytes) -> None:
        """Check the old password; see the interface."""
        if not is_above(user, self._least_uid):
            raise NotAllowed("no such user, or one below the lowest uid")
        self._changer.authenticate(user, secret, challenge)
        settled = self._changer.user()
        if settled != user and not is_above(settled, self._least_uid):
            self._changer.end()
            raise NotAllowed("a module takes him for one below the lowest uid")

    def change(self, new: bytes) -> None:
        """Have the new password stored; see the interface."""
        self._changer.change(new)

    def end(self) -> None:
        """Let go of PAM."""
        self._changer.end()


def _kind(word: str) -> str:
    return word.partition(":")[0]
