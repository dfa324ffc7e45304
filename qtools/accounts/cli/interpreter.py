# SPDX-License-Identifier: ISC
"""Carry out lines of the Command Line Interface on the account database.

For PWD's privileged side, which is given a line by a dialogue that may have been taken
over, and for popaccount. A line is read here, rights are looked up anew for each, and a
change is on disk before there is an answer.
"""

from qtools.accounts import registry
from qtools.accounts.cli import accounts, domains, names, refused, server
from qtools.accounts.cli.errand import Errand
from qtools.accounts.cli.rights import SERVER_RIGHTS, Caller, master
from qtools.accounts.db.store import Store
from qtools.accounts.refusals import NotAllowed
from qtools.errors import Failure, Refused
from qtools.protocol import codes, commands
from qtools.protocol.values import Malformed, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.accounts.cli.accounts import Done
    from qtools.accounts.cli.errand import Log
    from qtools.accounts.cli.member import Member
    from qtools.accounts.db.secrets import Prepared
    from qtools.protocol.grammar import Call
    from qtools.protocol.values import Value

    Handler = Callable[[Errand], Value | Done]
    Preparation = Callable[[Errand], Prepared | None]

PROBLEMS, MAJOR = 3, 2  # levels of the log

HANDLERS: "dict[str, Handler]" = {
    "NOOP": server.nothing,
    "ListAccounts": domains.list_accounts,
    "ListDomainObjects": domains.list_objects,
    "CreateAccount": accounts.create,
    "RenameAccount": accounts.rename,
    "DeleteAccount": accounts.delete,
    "GetAccountSettings": accounts.get_settings,
    "GetAccountEffectiveSettings": accounts.get_effective,
    "UpdateAccountSettings": accounts.update,
    "SetAccountSettings": accounts.replace,
    "SetAccountPassword": accounts.set_password,
    "VerifyAccountPassword": accounts.verify_password,
    "GetAccountAliases": accounts.get_aliases,
    "SetAccountAliases": accounts.set_aliases,
    "GetAccountInfo": accounts.get_info,
    "GetAccountRights": accounts.get_rights,
    "SetAccountRights": accounts.set_rights,
    "KillAccountSessions": server.kill_sessions,
    "ListDomains": domains.list_domains,
    "MainDomainName": domains.main_name,
    "CreateDomain": domains.create,
    "RenameDomain": domains.rename,
    "DeleteDomain": domains.delete,
    "GetDomainSettings": domains.get_settings,
    "GetDomainEffectiveSettings": domains.get_effective,
    "UpdateDomainSettings": domains.update_settings,
    "GetAccountDefaults": domains.get_defaults,
    "WriteLog": server.write_log,
}
# What is done before the transaction of a command.
PREPARATIONS: "dict[str, Preparation]" = {
    "CreateAccount": accounts.prepare_new,
    "UpdateAccountSettings": accounts.prepare_some,
    "SetAccountSettings": accounts.prepare_all,
    "SetAccountPassword": accounts.prepare_password,
}


class Interpreter:
    """Commands on one database, for one caller.

    member: the caller, None for the administrator of this machine, who may do
    everything. log: takes a level from 0 to 5 and a text. has_changed: since the
    database was opened, so that the hook is to be run. has_guessed: the last line was
    a password that was not right.
    """

    def __init__(self, path: bytes, member: "Member | None", log: "Log") -> None:
        """Open the database.

        Raises: Hard, Temporary.
        """
        self._path = path
        self.member = member
        self._log = log
        self._store = Store(path)
        self.has_changed = False
        self.has_guessed = False

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()

    def run(self, line: bytes) -> bytes:
        """Carry out a line; give the answer as codes.lines() takes it."""
        self.has_guessed = False
        try:
            call = commands.read(line)
            handler = HANDLERS.get(call.command.name)
            if handler is None:
                raise commands.Unknown("a command of the dialogue's", 0)
            if not call.command.changes:
                return _answer(handler(self._errand(call)))
            return self._change(call, handler)
        except Malformed as why:
            return codes.reply(codes.WRONG, str(why).encode("ascii", "replace"))
        except Failure as why:
            level = PROBLEMS if isinstance(why, Refused) else 1
            self._log(level, f"{self._who()}: {why}")
            return refused.answer(why)

    def _change(self, call: "Call", handler: "Handler") -> bytes:
        """Carry out what changes something, and have it on disk."""
        prepared = self._prepare(call)
        member = self.member
        with self._store:
            errand = self._errand(call)
            errand.prepared = prepared
            result = handler(errand)
            if member is not None:
                member = member.renewed(self._store)
        self._log(MAJOR, f"{self._who()}: {call.command.name} {_subject(call)}")
        self.member = member
        self.has_changed = True
        return _answer(result)

    def _prepare(self, call: "Call") -> "Prepared | None":
        """Do what needs no lock, so that nobody waits for what is refused, or hashed.

        Raises: Refused; Temporary, Hard.
        """
        errand = self._errand(call)
        errand.require()
        prepare = PREPARATIONS.get(call.command.name)
        return prepare(errand) if prepare else None

    def _errand(self, call: "Call") -> Errand:
        return Errand(self._store, self._caller(), call, self._log, self._verify)

    def _caller(self) -> Caller:
        """Find out what the caller may by now: rights can be taken away.

        Raises: NotAllowed when the account is gone or another, or may not log in any
        more.
        """
        member = self.member
        if member is None:
            return master()
        member.check(self._store)
        if not self._store.show(member.user).is_enabled:
            raise NotAllowed("your account may not log in any more")
        name = names.account(self._store, member.user)
        rights = set(self._store.rights(member.user))
        if b"@" in name.user:  # its domain is not the main one any more
            rights.difference_update(SERVER_RIGHTS)
        return Caller(name, rights)

    def _verify(self, user: bytes, secret: bytes) -> None:
        """Check a password.

        Raises: Refused; Temporary, Hard.
        """
        where = self._path.decode("utf-8", "surrogateescape")
        (open_source,) = registry.load([f"db:{where}"])
        self.has_guessed = True
        registry.verify([open_source()], user, secret, b"")
        self.has_guessed = False

    def _who(self) -> str:
        if self.member is None:
            return "administrator"
        return self.member.user.decode("utf-8", "surrogateescape")


def _subject(call: "Call") -> str:
    """Give what a change was about, for the log: names, and rights."""
    parts = ("account", "domain", "new", "rights", "aliases")
    shown = b" ".join(
        value if isinstance(value, bytes) else render(value)
        for name in parts
        if (value := call.arguments.get(name)) is not None
    )
    return shown.decode("utf-8", "surrogateescape")


def _answer(result: "Value | Done") -> bytes:
    if isinstance(result, accounts.Done):
        return codes.OK
    return codes.DATA + b" " + render(result)
