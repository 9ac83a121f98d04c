"""Decides what a user name may look like, and when two names are the same.

Names are kept in NFC and compared folded, so that `Ana`, `ana` and full-width `ａｎａ` are one user. What cannot be
seen (controls, bidirectional marks, zero-width and filler characters) is never part of a name. Names that only look
alike belong to different users, of whom the second is never added (`sockade.guard.text.skeleton`).
"""

from __future__ import annotations

import unicodedata

MAX_CHARACTERS = 64
PUNCTUATION = frozenset("._-")
# Letters and marks by category that nevertheless show nothing (Default_Ignorable_Code_Point, UAX #44).
INVISIBLE = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)]
) | frozenset(range(0xE0100, 0xE01F0))
# Vietnamese and Indic scripts stack two marks on a letter after NFC; more is decoration that spills over other lines.
MAX_MARKS = 2


def parse_name(text: str) -> str | None:
    """Return a user name in NFC, or None where the text is not one.

    A name has 1 to 64 letters, digits, `.`, `_` and `-`, and starts with a letter or digit.
    """
    if len(text) > 4 * MAX_CHARACTERS:
        return None
    name = unicodedata.normalize("NFC", text)
    if not 1 <= len(name) <= MAX_CHARACTERS or not is_letter_or_digit(name[0]):
        return None
    marks = 0
    for character in name:
        if is_letter_or_digit(character) or character in PUNCTUATION:
            marks = 0
        elif is_mark(character) and marks < MAX_MARKS:
            marks += 1
        else:
            return None
    return name


def folded(name: str) -> str:
    """Return what a name is found by: compatibility forms and case folded away (UAX #31, NFKC_Casefold)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def is_letter_or_digit(character: str) -> bool:
    """Tell whether a character is a visible letter (L) or a decimal digit (Nd)."""
    category = unicodedata.category(character)
    return (category[0] == "L" or category == "Nd") and ord(character) not in INVISIBLE


def is_mark(character: str) -> bool:
    """Tell whether a character is a visible combining mark (Mn, Mc) of the letter before it."""
    return unicodedata.category(character) in ("Mn", "Mc") and ord(character) not in INVISIBLE
