# SPDX-License-Identifier: ISC
"""Accounts that PAM knows: pam, or pam:SERVICE.

Modules wait, start processes, print, crash and keep what they have opened, so each
attempt needs a process of its own, which stays, as root, until the session it opened
has ended: only there can the session be closed. What session modules do to a process,
its limits or its umask, they do to that one, but for its groups, which are the user's.

A module may let a name in as another user by setting PAM_USER, and say where the mail
is by setting MAILDIR, relative to the home of that user.
See: pam(8), pam_setcred(3), pam_open_session(3).
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear
import posix

from qtools.accounts import users
from qtools.accounts.entry import METHOD, PAM_APOP
from qtools.accounts.interface import Identity, Unknown
from qtools.accounts.pam.attempt import (
    APOP_LETTERS,
    DIGEST_OCTETS,
    Attempt,
    library,
)
from qtools.errors import Hard, Refused, Temporary
from qtools.system.ffi import pam
from qtools.system.ffi.shadow import Tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd

IS_SOLITARY = True

DEFAULT_SERVICE = b"pop3"
SERVICE_SIGNS = b"-._"  # besides letters and digits: a service is a file's name

APOP_PREFIX = APOP_LETTERS + b" "
DIGEST_METHODS = (b"Apop", b"Cram-Md5", b"Scram-Sha-256", b"Scram-Sha-256-Plus")

MAILDIR = b"MAILDIR"

_UNHURRIED = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGINT)

NOTHING_TO_ESTABLISH = pam.PERMISSION_DENIED  # no module's, but the library's own


def prepare() -> None:
    """Load libraries.

    Raises: Hard when there is no PAM.
    """
    library()


def open_source(where: bytes) -> "Source":
    """Open pam or pam:SERVICE.

    Raises: Hard when that is no service's name.
    """
    return Source(service_of(where, DEFAULT_SERVICE))


def service_of(where: bytes, default: bytes) -> bytes:
    """Give the service's name.

    Raises: Hard.
    """
    letters = bytes(sign for sign in where if sign not in SERVICE_SIGNS)
    if where and (not letters.isalnum() or where.startswith(b".")):
        raise Hard("pam: takes the name of a service, pam:pop3")
    return where or default


class Source:
    """The accounts that a service's modules know.

    folder: where services are, instead of the system's place. has_delay: whether a
    refusal may wait as long as the modules want.
    """

    def __init__(
        self,
        service: bytes = DEFAULT_SERVICE,
        *,
        folder: bytes | None = None,
        has_delay: bool = True,
    ) -> None:
        self._service = service
        self._folder = folder
        self._has_delay = has_delay

    def verify(self, user: bytes, secret: bytes, challenge: bytes) -> Identity:
        """Check a password and say who it is; see the interface."""
        shown = password_of(secret, challenge, posix.environ)
        posix.unsetenv(MAILDIR)  # what was there before is nobody's
        place = self._service, user, shown, self._folder
        attempt = Attempt(*place, is_digest=shown != secret)
        session = Session(attempt)
        if not self._has_delay:
            attempt.transaction.drop_delay()
        try:
            attempt.authenticate()
            attempt.step("acct_mgmt", pam.NO_NULL_AUTHTOK)
            known = _find(attempt.transaction.user())
            return session.open(known)
        except BaseException:
            session.end()
            raise

    def decoy(self) -> bytes:
        """Give nothing: what a check costs is the modules' business."""
        return b""


class Session:
    """What has been begun, and in which order to end it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._steps: list[tuple[str, int]] = []
        self._mask: set[int] | None = None  # of signals, before anything was begun

    def open(self, known: "struct_passwd") -> Identity:
        """Establish credentials, open the session, and say who it is.

        Nobody who is in a hurry ends us from here to end(): what has been begun is
        known to nobody else.
        Raises: Failure.
        """
        attempt = self._attempt
        self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _UNHURRIED)
        if posix.geteuid() == 0:
            posix.setgroups([known.pw_gid])  # modules may add to these
        code = attempt.transaction.do("setcred", pam.ESTABLISH)
        if code not in (pam.SUCCESS, NOTHING_TO_ESTABLISH):
            raise attempt.failure("setcred")
        self._steps.append(("setcred", pam.DELETE))
        maildir = attempt.transaction.variable(MAILDIR)
        attempt.step("open_session")
        self._steps.append(("close_session", 0))
        maildir = attempt.transaction.variable(MAILDIR) or maildir
        attempt.conversation.forget()
        return self._identity(known, maildir)

    def _identity(self, known: "struct_passwd", maildir: bytes) -> Identity:
        home = users.octets(known.pw_dir)
        if maildir and not maildir.startswith(b"/"):
            maildir = home.rstrip(b"/") + b"/" + maildir
        who = Identity(
            users.octets(known.pw_name),
            known.pw_uid,
            known.pw_gid,
            home=home,
            shell=users.octets(known.pw_shell),
            maildir=maildir,
        )
        if posix.geteuid() == 0:
            who.groups = posix.getgroups()
        who.ending = self.end
        return who

    def end(self) -> None:
        """Undo the steps that were taken, the last one first, and let PAM go."""
        while self._steps:
            self._attempt.transaction.do(*self._steps.pop())
        self._attempt.transaction.end()
        mask, self._mask = self._mask, None
        if mask is not None:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def password_of(secret: bytes, challenge: bytes, environ: dict[bytes, bytes]) -> bytes:
    """Give what modules get as the password: a digest only if they are said to know it.

    Takes the environment of the attempt. Without a method, as behind other programs,
    a challenge proves nothing, and the secret is taken for a password.
    Raises: Unknown for a digest that no module was asked about; Refused.
    """
    method, is_passed = environ.get(METHOD, b""), PAM_APOP in environ
    if method == b"Apop" and is_passed:
        is_digest = not secret.strip(b"0123456789abcdef")
        if len(secret) != DIGEST_OCTETS or not is_digest or not challenge:
            raise Refused("not an APOP digest")
        return APOP_PREFIX + secret + b" " + challenge
    if method in DIGEST_METHODS:
        raise Unknown("PAM can't check a digest")
    if is_passed and secret.startswith(APOP_PREFIX):
        raise Refused("a digest, sent as a password")
    return secret


def _find(user: bytes) -> "struct_passwd":
    """Give the entry of the user that the modules have settled on.

    Raises: Hard when the system has no such user, Temporary.
    """
    try:
        return users.find(user)
    except KeyError as why:
        Tables().check_user_lookup(user)
        raise Hard(f"PAM lets {user!r} in, who is no user of this system") from why
    except OSError as why:
        raise Temporary(f"unable to look up {user!r}: {why.strerror}") from why
