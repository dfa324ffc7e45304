# SPDX-License-Identifier: ISC
"""A small mailbox of our own writing, with everything that mail has been seen to do.

Every message is made from the text below, the same octets each time. What a client must
get is computed by wire(), which shares nothing with the product.
"""

import base64
import os
from typing import NamedTuple

# A Monday in September 2001, long past: qmail-pop3d hides what is of this second.
FIRST_SECOND = 1_000_000_000


class Message(NamedTuple):
    """One message: a word for it, the folder and name of its file, its octets."""

    label: str
    folder: str
    name: str
    stored: bytes

    @property
    def wire(self) -> bytes:
        """What the client must hold after RETR."""
        return wire(self.stored)


def wire(stored: bytes) -> bytes:
    """Give the message as the client must see it, after its unstuffing.

    Every line ends with CRLF: a CRLF of the file stays, a bare LF becomes one, and a
    missing one at the end is added. A bare CR is an octet like others.
    """
    *lines, rest = stored.split(b"\n")
    ended = [line.removesuffix(b"\r") + b"\r\n" for line in lines]
    return b"".join(ended) + (rest + b"\r\n" if rest else b"")


def stuffed(octets: bytes) -> bytes:
    """Give the multi-line reply that carries a message in wire form.

    With the dots doubled, and the line of one dot that ends it (RFC 1939 section 3).
    """
    dotted = b"\r\n" + octets
    return dotted.replace(b"\r\n.", b"\r\n..").removeprefix(b"\r\n") + b".\r\n"


def top(octets: bytes, count: int) -> bytes:
    """Give what TOP gives of a message in wire form: header, blank line, lines."""
    lines = octets.split(b"\r\n")[:-1]
    header = lines.index(b"") if b"" in lines else len(lines)
    return b"".join(line + b"\r\n" for line in lines[: header + 1 + count])


def _header(subject: str, sender: str, *more: str) -> str:
    """Give a header as a message store sees it, with what delivery has added."""
    address = sender.rpartition("<")[2].rstrip(">")
    return "\n".join(
        (
            f"Return-Path: <{address}>",
            "Delivered-To: reader@example.org",
            "Received: from relay.example.net (relay.example.net [192.0.2.25])",
            "\tby mx.example.org (Postfix) with ESMTPS id 4XyZ1a2b3cz9",
            "\tfor <reader@example.org>; Mon, 10 Sep 2001 08:15:00 +0200 (CEST)",
            f"From: {sender}",
            "To: The Reader <reader@example.org>",
            f"Subject: {subject}",
            "Date: Mon, 10 Sep 2001 08:14:58 +0200",
            f"Message-ID: <{len(subject)}.{len(sender)}.20010910@example.net>",
            *more,
            "\n",
        )
    )


MIME = "MIME-Version: 1.0"

PLAIN = (
    _header("Lunch on Thursday?", "Ada Marten <ada@example.net>")
    + """Hello,

the place by the canal has a table at half past twelve. Shall I take it?
They want to know by tomorrow.

> last time the soup was cold

That was another place, I believe.
--\x20
Ada
"""
)

ALTERNATIVE = (
    _header(
        "=?UTF-8?Q?Timetable_f=C3=BCr_October?=",
        "The Rowing Club <office@rowing.example>",
        MIME,
        'Content-Type: multipart/alternative; boundary="=_oct_7f3a"',
    )
    + """This is a message in MIME format.
--=_oct_7f3a
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

The boats are in the water from seven o'clock. F=C3=BCr G=C3=A4ste from nine.=
 Please bring the blue cards.

--=_oct_7f3a
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<html><body><p>The boats are in the water from <b>seven</b> o'clock.
<a href=3D"http://rowing.example/?a=3D1&amp;b=3D2">Table</a></p></body></html>

--=_oct_7f3a--
"""
)


def _attachment() -> str:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 120
    return (
        _header(
            "Scan of the contract, two pages",
            '"Ferro, Bruno" <b.ferro@office.example>',
            MIME,
            "Content-Type: multipart/mixed; boundary=scan-20010910",
            "X-Priority: 3 (Normal)",
        )
        + "--scan-20010910\nContent-Type: text/plain; charset=us-ascii\n\n"
        + "Page two has the signatures.\n\n--scan-20010910\n"
        + 'Content-Type: image/png; name="contract 1.png"\n'
        + "Content-Transfer-Encoding: base64\n"
        + 'Content-Disposition: attachment; filename="contract 1.png"\n\n'
        + base64.encodebytes(picture).decode()
        + "\n--scan-20010910--\n"
    )


EIGHT_BIT = (
    _header(
        "Gruesse aus Goerlitz",
        "Jörg Süß <joerg@example.de>",
        MIME,
        "Content-Type: text/plain; charset=ISO-8859-1",
        "Content-Transfer-Encoding: 8bit",
    )
    + "Schöne Grüße! Die Brücke ist wieder offen, für 3½ Stunden am Tag.\n\n"
    + "Ça va être à côté de l'église, où naît l'été.\n"
)

UTF_8 = (
    _header(
        "Καλημέρα — 今日は",
        "Ελένη <ελένη@παράδειγμα.example>",
        MIME,
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Transfer-Encoding: 8bit",
    )
    + "Καλημέρα! 今日は、お元気ですか。 Привет 👋🏽\n"
    + "\u2028 is a line to some, not to us.\n"
)

DOTS = (
    _header("Lines that begin with dots", "Dorothy <dot@example.net>")
    + ".\n..\n.x\n...\n. \n.\t.\n x.\n\n.\n.\n\nrun ./configure\n.SH NAME\n..\n"
)

CRLF_STORED = (
    _header("Copied in from another system", "Carl <carl@example.net>")
    + "This file has CRLF at the end of every line.\n.\n..and dots\n\n"
).replace("\n", "\r\n")

NO_FINAL_NEWLINE = (
    _header("Cut off", "Nora <nora@example.net>")
    + "The last line of this message has no end"
)

LAST_IS_A_DOT = _header("Cut off at a dot", "Nora <nora@example.net>") + "One\n."

NULS = (
    _header("From an old gateway", "Null <null@example.net>")
    + "before\0after\n\0\n\0\0\0 three of them\n.\0\nend\0\n"
)

HEADER_ONLY = _header("No body at all", "Hedda <hedda@example.net>").rstrip("\n") + "\n"

BODY_ONLY = "\nThe first line of this file is blank: there is no header.\n"

LONG_LINE = (
    _header("One paragraph, one line", "Leo <leo@example.net>")
    + "word " * 20_000
    + "end\nA line of 998: "
    + "x" * 983
    + "\n"
)

BARE_CRS = (
    _header("From a Macintosh of 1993", "Mac <mac@example.net>")
    + "one\rtwo\rthree\r\rfour\n\rfive\n.\rsix\nseven\r\r\neight\n"
)

MIXED_ENDS = (
    _header("Half converted", "Max <max@example.net>").replace("\n", "\r\n")
    + "a line with LF\na line with CRLF\r\n.dot LF\n.dot CRLF\r\n\r\n\n\r\n"
)

FROM_LINES = (
    _header("From here and From there", "Fred <fred@example.net>")
    + "From the window you see the harbour.\n>From the roof, too.\n"
    + "From fred@example.net Mon Sep 10 08:14:58 2001\n\nFrom \n"
)

FORWARDED = (
    _header(
        "Fwd: Lunch on Thursday?",
        "Bo <bo@example.net>",
        MIME,
        "Content-Type: multipart/digest; boundary=--",
    )
    + "----\n\n"
    + PLAIN
    + "\n----\n\n"
    + DOTS
    + "\n------\n"
)


def _many_lines() -> str:
    rows = [f"{row:4}  {'=' * (row % 67)}\n" for row in range(1, 2001)]
    rows[::10] = ["." + row for row in rows[::10]]
    return _header("Report of 2,000 lines", "cron <root@example.org>") + "".join(rows)


def _block_borders() -> str:
    """Put line ends and dots across every multiple of 4 KiB up to 256 KiB.

    Those are where a reader's blocks end, whichever power of two it has chosen.
    """
    text = _header("Borders", "Blo <blo@example.net>").replace("\n", "\r\n")
    # In turn CR|LF, CRLF|dot, CRLF dot|CR, LF|dot: what stands left of the border.
    turns = (("\r", "\n"), ("\r\n", ".\r\n"), ("\r\n.", "\r\n"), ("\n", "..\n"))
    for border in range(4096, 262_144 + 1, 4096):
        left, right = turns[border // 4096 % len(turns)]
        text += "-" * (border - len(text) - len(left)) + left + right
    return text


def _latin(text: str) -> bytes:
    return text.encode("iso-8859-1")


_MESSAGES: tuple[tuple[str, str, str, bytes], ...] = (
    ("plain", "new", "", PLAIN.encode()),
    ("alternative", "cur", ":2,S", ALTERNATIVE.encode()),
    ("attachment", "cur", ",S={S},W={W}:2,FS", _attachment().encode()),
    ("iso-8859-1", "cur", ":2,", _latin(EIGHT_BIT)),
    ("utf-8", "cur", ":2,RS", UTF_8.encode()),
    ("dots", "cur", ":2,S", DOTS.encode()),
    ("crlf-stored", "cur", ",S={S}:2,S", CRLF_STORED.encode()),
    ("no-final-newline", "cur", ":2,S", NO_FINAL_NEWLINE.encode()),
    ("last-is-a-dot", "cur", ":2,", LAST_IS_A_DOT.encode()),
    ("nuls", "cur", ":2,S", NULS.encode()),
    ("empty", "cur", ":2,S", b""),
    ("header-only", "cur", ":2,T", HEADER_ONLY.encode()),
    ("body-only", "cur", ":2,S", BODY_ONLY.encode()),
    ("long-line", "cur", ",W={W}:2,S", LONG_LINE.encode()),
    ("bare-crs", "cur", ":2,S", BARE_CRS.encode()),
    ("mixed-ends", "cur", ":2,DFPRS", MIXED_ENDS.encode()),
    ("from-lines", "cur", ":2,S", FROM_LINES.encode()),
    ("forwarded", "cur", ":2,P", FORWARDED.encode()),
    ("many-lines", "cur", ":2,S", _many_lines().encode()),
    ("block-borders", "cur", "", _block_borders().encode()),
)


def messages() -> list[Message]:
    """Give the messages in the order in which pop3d has to number them."""
    found = []
    for number, (label, folder, tail, stored) in enumerate(_MESSAGES):
        second = FIRST_SECOND + number
        ending = tail.format(S=len(stored), W=len(wire(stored)))
        name = f"{second}.M{number:06}P{4000 + number}.mx.example.org{ending}"
        found.append(Message(label, folder, name, stored))
    return found


def write_maildir(path: str, owner: tuple[int, int] | None = None) -> list[Message]:
    """Make a Maildir that holds the messages; give them in their order.

    owner: the uid and gid that all of it is to belong to.
    """
    for folder in ("", "/tmp", "/new", "/cur"):
        os.mkdir(path + folder, 0o700)
        if owner:
            os.chown(path + folder, *owner)
    for number, message in enumerate(messages()):
        place = f"{path}/{message.folder}/{message.name}"
        with open(place, "xb") as file:
            file.write(message.stored)
            os.fchmod(file.fileno(), 0o600)
            if owner:
                os.fchown(file.fileno(), *owner)
        os.utime(place, (FIRST_SECOND + number,) * 2)
    return messages()
