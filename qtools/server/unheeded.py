# SPDX-License-Identifier: ISC
"""Options that were given and change nothing, so that somebody can be told.

The options of both kinds of chains are parsed by the same rows: a run file may be
shared, and a chain of ours becomes one of others when its program is replaced. That
must not go unnoticed when a log or an encryption was asked for.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtools.server.settings import Settings

# An option, and the one that takes it back.
WARM = (
    *(("metrics", ""), ("syslog", ""), ("journal", "")),
    *(("login-timeout", ""), ("verifiers", ""), ("verify-timeout", "")),
    *(("spare-sessions", ""), ("spare-seconds", "")),
)
FOREIGN = (
    *(("banner", ""), ("ident", "no-ident"), ("lookup", "no-lookup")),
    *(
        ("clients", ""),
        ("paranoid", "not-paranoid"),
        ("ucspi-tls", ""),
        ("tls-environment", ""),
    ),
)


def warnings(settings: "Settings", *, is_foreign: bool, speaks_tls: bool) -> list[str]:
    """Give a line for each option without an effect.

    speaks_tls: TLS begins at once on some listener.
    """
    words = settings.words
    kind = "its own chain" if is_foreign else "chains of others"
    told = [
        f"--{name} has no effect here: it is for {kind} only"
        for name, opposite in (WARM if is_foreign else FOREIGN)
        if words.is_last(name, opposite)
    ]
    if not is_foreign:
        return told
    is_asked = "ucspi-tls" in words or "tls-environment" in words
    if is_asked and settings.tls is None:
        told.append("no TLS: -n and -s need --certificate")
    if settings.tls is not None and not (is_asked or speaks_tls):
        told.append("a certificate, and no TLS: no -n, no -s, no listener that has it")
    return told
