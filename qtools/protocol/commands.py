# SPDX-License-Identifier: ISC
"""The commands of the Command Line Interface: a table of rows, and how lines are read.

A row says what a command takes, which right it needs, whether it changes anything and
which of its arguments are secrets. The dialogue reads a line by it before it asks
anybody, the privileged side again before it does anything, popaccount does the same
with what its caller typed, and what a log may show is derived from it.
See: qtools/protocol/values.py for the data that arguments may be.
"""

from qtools.protocol.grammar import Call, Command, Part, keyword_of
from qtools.protocol.values import Malformed, Reader, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from qtools.protocol.values import Value

# Rights. Of an account or a domain means: of the one that is named.
ANYBODY = "anybody"  # who has logged in
OWN = "own"  # look at an account: one's own, or with a right over its domain
ACCOUNTS = "CanCreateAccounts"  # a domain's administrator has these three by name
ALIASES = "CanCreateAliases"
SETTINGS = "BasicSettings"
DOMAIN = "domain"  # look at a domain
DOMAINS = "AllDomains"  # change domains
MASTER = "Master"

HIDDEN = b"<hidden>"
# Keys of settings whose values a log may show; all others' may be secrets, if only
# because a key was mistyped.
HARMLESS_KEYS = frozenset(
    b"RealName PWDAllowed AccessModes RequireAPOP UseAPOP PasswordEncryption"
    b" MaxAccountSize ExternalINBOX Home Maildir UID GID".upper().split()
)
# What a CreateAccount may ask for: accounts here have one INBOX, a Maildir.
TYPES = (b"MULTIMAILBOX", b"MAILDIRMAILBOX")
# What is known of an account besides its settings.
INFO_KEYS = (
    *(b"CREATED", b"CHANGED", b"PASSWORDMETHOD", b"HASAPOPSECRET", b"HASSCRAMKEYS"),
    b"STORAGEUSED",
)


class Unknown(Malformed):
    """There is no such command."""


def read(line: bytes) -> Call:
    """Read a line.

    Raises: Unknown; Malformed for anything that is not to the letter as the row has it.
    """
    reader = Reader(line)
    keyword = keyword_of(reader)
    command = TABLE.get(keyword)
    if command is None:
        raise Unknown("unknown command", reader.position)
    reader.name()
    arguments: dict[str, Value] = {}
    for place, part in enumerate(command.parts, 1):
        later = [each.keyword for each in command.parts[place:]]
        if not part.is_optional or part.is_next(reader, later):
            arguments[part.name] = part.take(reader)
    if not reader.is_at_end():
        reader.fail("too many arguments")
    return Call(command, arguments)


def masked(line: bytes) -> bytes:
    """Give the line as a log may show it.

    Of what is no command to the letter, nothing is shown but the first word, and that
    only if it is a command's: whatever is mistyped may be a secret.
    """
    try:
        call = read(line)
    except Unknown:
        return HIDDEN
    except Malformed:
        return TABLE[keyword_of(Reader(line))].name.encode() + b" " + HIDDEN
    return _joined(call, _shown)


def written(call: Call) -> bytes:
    """Give the line that read() would read so."""
    return _joined(call, _whole)


def _joined(call: Call, show: "Callable[[Call, Part], bytes]") -> bytes:
    words = [call.command.name.encode()]
    for part in call.command.parts:
        if part.name in call:
            words += filter(None, (part.keyword, show(call, part)))
    return b" ".join(words)


def _whole(call: Call, part: Part) -> bytes:
    if part.sign in (b"-", b"*"):
        return call.text(part.name)
    return render(call.arguments[part.name])


def _shown(call: Call, part: Part) -> bytes:
    value = call.arguments[part.name]
    if part.name in call.command.secrets:
        return HIDDEN
    if part.sign == b"-":
        return b""
    if part.known and call.text(part.name).upper() not in part.known:
        return HIDDEN
    if isinstance(value, dict):
        value = {
            key: each if _is_harmless(key, each) else HIDDEN
            for key, each in value.items()
        }
    return render(value)


def _is_harmless(key: bytes, value: "Value") -> bool:
    """Tell whether a value may be shown; one that holds others may hold any."""
    return key.upper() in HARMLESS_KEYS and not isinstance(value, (dict, list))


def _one(name: str) -> Part:
    return Part(name, optional=False)


def _maybe(name: str, keyword: bytes = b"", sign: bytes = b"") -> Part:
    return Part(name, keyword, sign, optional=True)


def _flag(keyword: bytes) -> Part:
    return Part(keyword.decode().lower(), keyword, b"-", optional=True)


_ACCOUNT, _DOMAIN = _one("account"), _one("domain")
_INTO = Part("new", b"INTO", optional=False)
_PAIRS = Part("settings", sign=b"{", optional=False)
_PAIRS_MAYBE = _maybe("settings", sign=b"{")
_TYPE = Part("type", optional=True, known=TYPES)
_KEY = Part("key", b"KEY", optional=True, known=INFO_KEYS)
_NEW_ACCOUNT = (_ACCOUNT, _TYPE, _flag(b"EXTERNAL"), _PAIRS_MAYBE)
_OBJECTS = (
    *(_DOMAIN, _maybe("filter", b"FILTER"), _one("limit"), _flag(b"ACCOUNTS")),
    *(_flag(b"ALIASES"), _flag(b"GROUPS"), _flag(b"FORWARDERS")),
    _maybe("cookie", b"COOKIE"),
)
_VERIFIED = Part("password", b"PASSWORD", optional=False)
_TO = Part("password", b"TO", optional=False)

# name, what it takes, the right it needs. The dialogue carries INLINE, NOOP, QUIT and
# NEWPASS out, or asks in its own way.
COMMANDS = (
    Command("NOOP", (), ANYBODY),
    Command("INLINE", (), ANYBODY),
    Command("QUIT", (), ANYBODY),
    Command(
        "NEWPASS",
        (Part("password", sign=b"*", optional=False),),
        ANYBODY,
        changes=True,
    ),
    Command("ListAccounts", (_maybe("domain"),), DOMAIN),
    Command("ListDomainObjects", _OBJECTS, DOMAIN),
    Command("CreateAccount", _NEW_ACCOUNT, ACCOUNTS, changes=True),
    Command("RenameAccount", (_ACCOUNT, _INTO), ACCOUNTS, changes=True),
    Command("DeleteAccount", (_ACCOUNT,), ACCOUNTS, changes=True),
    Command("GetAccountSettings", (_ACCOUNT,), OWN, aliases=("GetAccount",)),
    Command("GetAccountEffectiveSettings", (_ACCOUNT,), OWN),
    Command(
        "UpdateAccountSettings",
        (_ACCOUNT, _PAIRS),
        SETTINGS,
        changes=True,
        aliases=("UpdateAccount",),
    ),
    Command(
        "SetAccountSettings",
        (_ACCOUNT, _PAIRS),
        SETTINGS,
        changes=True,
        aliases=("SetAccount",),
    ),
    Command("SetAccountPassword", (_ACCOUNT, _TO), SETTINGS, changes=True),
    Command("VerifyAccountPassword", (_ACCOUNT, _VERIFIED), SETTINGS),
    Command("GetAccountAliases", (_ACCOUNT,), OWN),
    Command(
        "SetAccountAliases",
        (_ACCOUNT, Part("aliases", sign=b"(", optional=False)),
        ALIASES,
        changes=True,
    ),
    Command("GetAccountInfo", (_ACCOUNT, _KEY), OWN),
    Command("GetAccountRights", (_ACCOUNT,), MASTER),
    Command(
        "SetAccountRights",
        (_ACCOUNT, Part("rights", sign=b"(", optional=False)),
        MASTER,
        changes=True,
    ),
    Command("KillAccountSessions", (_ACCOUNT,), ACCOUNTS),
    Command("ListDomains", (), DOMAIN),
    Command("MainDomainName", (), ANYBODY),
    Command("CreateDomain", (_DOMAIN, _PAIRS_MAYBE), DOMAINS, changes=True),
    Command("RenameDomain", (_DOMAIN, _INTO), DOMAINS, changes=True),
    Command("DeleteDomain", (_DOMAIN, _flag(b"FORCE")), DOMAINS, changes=True),
    Command("GetDomainSettings", (_maybe("domain"),), DOMAIN),
    Command("GetDomainEffectiveSettings", (_maybe("domain"),), DOMAIN),
    Command("UpdateDomainSettings", (_DOMAIN, _PAIRS), DOMAINS, changes=True),
    Command("GetAccountDefaults", (_maybe("domain"),), DOMAIN),
    Command(
        "WriteLog",
        (_one("level"), Part("text", sign=b"*", optional=False)),
        MASTER,
    ),
)

TABLE = {
    name.upper().encode(): command
    for command in COMMANDS
    for name in (command.name, *command.aliases)
}
