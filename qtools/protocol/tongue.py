# SPDX-License-Identifier: ISC
"""The languages replies can be written in, chosen by LANG.

See: RFC 6856 section 3. English is what every text is written in at its place; a
further language is a column here, and a text that lacks a translation stays English.
Translations keep to 7 bits, since a client may ask for a language without UTF8.
"""

from qtools.protocol import replies

DEFAULT = b"en"

LANGUAGES = {b"en": b"English", b"de": b"Deutsch"}

_GERMAN = {
    b"language changed": b"Sprache gewechselt",
    b"authorization failed": b"Anmeldung abgelehnt",
    b"login incorrect": b"Anmeldung abgelehnt",
    b"authorization first": b"zuerst anmelden",
    b"password expired": b"Passwort abgelaufen",
    b"authentication cancelled": b"Anmeldung abgebrochen",
    b"USER first": b"zuerst USER",
    b"syntax error": b"Syntaxfehler",
    b"unimplemented": b"unbekannter Befehl",
    b"messages are counted from 1": b"Nachrichten werden ab 1 gezaehlt",
    b"not that many messages": b"so viele Nachrichten sind nicht da",
    b"already deleted": b"schon geloescht",
    b"unable to open that message": b"diese Nachricht ist nicht lesbar",
    b"some deleted messages not removed": b"nicht alle Nachrichten entfernt",
    b"TLS required but not negotiated": b"zuerst STLS",
    b"temporary failure, try again later": b"Stoerung, bitte spaeter erneut",
    b"the server is not set up for you": b"der Server ist dafuer nicht eingerichtet",
    b"aack, child crashed": b"Stoerung, ein Programm ist abgebrochen",
}

_TABLES = {b"de": _GERMAN}


def known(language: bytes) -> bytes | None:
    """Give the tag to use for what a client asked for, None when we lack it.

    A longer tag falls back to its first part (RFC 4647 section 3.4), "*" is for the
    server to choose.
    """
    if language == b"*":
        return DEFAULT
    primary = language.lower().partition(b"-")[0]
    return primary if primary in LANGUAGES else None


def translate(language: bytes, text: bytes) -> bytes:
    """Give the text in the language, or as it is."""
    return _TABLES.get(language, {}).get(text, text)


def answer(language: bytes, wanted: bytes | None) -> tuple[bytes, bytes]:
    """Give the reply to LANG and the language in force after it."""
    if wanted is None:
        lines = [tag + b" " + name for tag, name in LANGUAGES.items()]
        return replies.multi(replies.ok(b"language listing follows"), lines), language
    tag = known(wanted)
    if tag is None:
        return replies.err(b"invalid language"), language
    return replies.ok(tag + b" " + translate(tag, b"language changed")), tag
