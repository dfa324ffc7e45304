# SPDX-License-Identifier: ISC
"""Prepare a password as clients do for SCRAM, so that one typed elsewhere is the same.

See: RFC 4013 (SASLprep), RFC 3454 (the tables), RFC 5802 section 2.2.
"""

import stringprep
from unicodedata import ucd_3_2_0 as unicode  # what the tables are made for

PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,  # unassigned; may not be in what is stored
)


def prepared(secret: bytes) -> bytes | None:
    """Give a password as a client will use it, None when none could.

    See: RFC 4013 section 2.
    """
    try:
        typed = secret.decode()
    except UnicodeDecodeError:
        return None
    text = "".join(" " if stringprep.in_table_c12(sign) else sign for sign in typed)
    text = "".join(sign for sign in text if not stringprep.in_table_b1(sign))
    text = unicode.normalize("NFKC", text)
    is_barred = any(is_in(sign) for sign in text for is_in in PROHIBITED)
    return None if not text or is_barred or _is_mixed(text) else text.encode()


def _is_mixed(text: str) -> bool:
    """Say whether directions of writing are mixed; see RFC 3454 section 6."""
    if not any(map(stringprep.in_table_d1, text)):
        return False
    is_framed = all(map(stringprep.in_table_d1, (text[0], text[-1])))
    return not is_framed or any(map(stringprep.in_table_d2, text))
