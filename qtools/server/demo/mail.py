# SPDX-License-Identifier: ISC
"""A handful of messages for the demo: what real mail does to a client, in small.

Lines that begin with dots, text in MIME and in two alphabets, an attachment, a long
report, a file without a line end. They are the same octets each time, so that a test
may know them.
"""

import base64
import os

FIRST_SECOND = 1_000_000_000  # of their file names and times: a day in September 2001
HOST = "demo.example"

PICTURE = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAA"
    "SUVORK5CYII="
)


def _head(number: int, subject: str, sender: str, *more: str) -> str:
    """Give a header, with what delivery adds to it."""
    address = sender.rpartition("<")[2].rstrip(">")
    lines = (
        f"Return-Path: <{address}>",
        "Delivered-To: reader@example.org",
        f"Received: from relay.example.net (relay.example.net [192.0.2.25]) by {HOST}",
        f"\twith ESMTPS id demo{number}; Sun, 09 Sep 2001 03:4{number}:00 +0200",
        f"Date: Sun, 09 Sep 2001 03:4{number}:00 +0200",
        f"From: {sender}",
        "To: The Reader <reader@example.org>",
        f"Subject: {subject}",
        f"Message-ID: <{number}.20010909@example.net>",
        "MIME-Version: 1.0",
        *more,
    )
    return "\n".join(lines) + "\n\n"


def _plain() -> str:
    head = _head(1, "Dots, and a table for two", "Ada Marten <ada@example.net>")
    return f"""{head}Hello,

the place by the canal has a table at half past twelve.
.
A line of one dot stands above, and one that begins with two below:
..gitignore
It has to arrive as it is written here.

Ada
"""


def _alternative() -> str:
    kind = 'Content-Type: multipart/alternative; boundary="=_demo_2"'
    subject = "=?UTF-8?Q?Timetable_f=C3=BCr_October?="
    return f"""{_head(2, subject, "The Rowing Club <office@rowing.example>", kind)}\
--=_demo_2
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

The boats are in the water from seven o'clock. F=C3=BCr G=C3=A4ste from nine.=
 Please bring the blue cards.

--=_demo_2
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>The boats are in the water from <b>seven</b> o'clock. <a
href=3D"http://rowing.example/?a=3D1">F=C3=BCr G=C3=A4ste</a> from nine.</p>

--=_demo_2--
"""


def _attachment() -> str:
    rows = "\n".join(f"{day},{day * day % 29},{day * 7 % 13}" for day in range(1, 31))
    table = base64.encodebytes(f"day,boats,guests\n{rows}\n".encode()).decode()
    kind = "Content-Type: multipart/mixed; boundary=demo-3"
    sender = '"Ferro, Bruno" <b.ferro@office.example>'
    return f"""{_head(3, "Figures, with a picture", sender, kind)}\
--demo-3
Content-Type: text/plain; charset=us-ascii

The table has one row a day.

--demo-3
Content-Type: text/csv; name="boats of september.csv"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="boats of september.csv"

{table}
--demo-3
Content-Type: image/png; name="pixel.png"
Content-Transfer-Encoding: base64
Content-Disposition: inline; filename="pixel.png"

{PICTURE}

--demo-3--
"""


def _utf_8() -> str:
    kind = "Content-Type: text/plain; charset=utf-8"
    sender = "=?UTF-8?B?zpXOu86tzr3Ogw==?= <eleni@example.net>"
    head = _head(4, "Eight bits", sender, kind, "Content-Transfer-Encoding: 8bit")
    return f"{head}Καλημέρα! Schöne Grüße, \u4eca\u65e5\u306f, \U0001f44b\U0001f3fd\n"


def _report() -> str:
    rows = [f"{row:4}  {'=' * (row % 67)}\n" for row in range(1, 1001)]
    rows[9::10] = ["." + row for row in rows[9::10]]
    head = _head(5, "Report of 1,000 lines", f"cron <root@{HOST}>")
    return head + "".join(rows)


def _cut_off() -> str:
    head = _head(6, "Cut off", "Nora <nora@example.net>")
    return f"{head}A line of 998 octets:\n{'x' * 998}\nThe last line has no end"


def messages() -> list[bytes]:
    """Give the messages as they are stored."""
    made = (_plain, _alternative, _attachment, _utf_8, _report, _cut_off)
    return [make().encode() for make in made]


def write_maildir(path: str, owner: tuple[int, int], stored: list[bytes]) -> None:
    """Make a Maildir with messages in it, the first of them new.

    owner: uid and gid of all of it.
    Raises: OSError.
    """
    for folder in ("", "tmp", "new", "cur"):
        os.mkdir(f"{path}/{folder}", 0o700)
        os.chown(f"{path}/{folder}", *owner)
    for number, octets in enumerate(stored):
        name = f"{FIRST_SECOND + number}.M{number}P1.{HOST}"
        place = f"{path}/cur/{name}:2,S" if number else f"{path}/new/{name}"
        with open(place, "xb") as file:
            file.write(octets)
            os.fchmod(file.fileno(), 0o600)
            os.fchown(file.fileno(), *owner)
        os.utime(place, (FIRST_SECOND + number,) * 2)
