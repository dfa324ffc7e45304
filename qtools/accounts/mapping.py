# SPDX-License-Identifier: ISC
"""Names as clients send them, turned into names of accounts: user@domain to user.

Web mail sends the whole address; PAM, as a rule, knows the local part only. A map says
for each domain what becomes of it, so that two domains with a "joe" each need not mean
the same joe.

    # domain      form; % stands for the local part
    example.com   %
    example.net   %_net
    *             %@other
"""

from qtools.errors import Hard, from_os_error

MAP_OCTETS = 1 << 20
ANY = b"*"


class Mapping:
    """Forms by domain in lower case; no domain at all, and names stay as they are."""

    def __init__(self, forms: dict[bytes, bytes]) -> None:
        self._forms = forms

    def account(self, name: bytes) -> bytes:
        """Give the account's name; empty for a domain that nobody has.

        A name without a domain stays as it is.
        """
        local, at, domain = name.rpartition(b"@")
        if not at or not self._forms:
            return name
        form = self._forms.get(domain.lower(), self._forms.get(ANY, b""))
        return form.replace(b"%", local) if local else b""


def strip() -> Mapping:
    """Give the mapping that takes any domain away."""
    return Mapping({ANY: b"%"})


def parse(text: bytes) -> Mapping:
    """Read a map.

    Raises: Hard for a line that is none.
    """
    forms = {}
    for number, line in enumerate(text.split(b"\n"), 1):
        words = line.partition(b"#")[0].split()
        if not words:
            continue
        if len(words) != 2 or b"%" not in words[1] or b"@" in words[0]:
            raise Hard(f"line {number} of the domain map is not a domain and a form")
        forms[words[0].lower()] = words[1]
    if not forms:
        raise Hard("the domain map has no domain")
    return Mapping(forms)


def read(path: str) -> Mapping:
    """Read a map from a file.

    Raises: Hard, Temporary.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MAP_OCTETS + 1)
    except OSError as why:
        raise from_os_error(why, f"read {path}") from why
    if len(text) > MAP_OCTETS:
        raise Hard(f"{path} is longer than {MAP_OCTETS} octets")
    return parse(text)
