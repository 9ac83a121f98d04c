"""Decides which text may pass: no control characters, nothing that reorders what is read; in one normal form.

Sources: Unicode UAX #9 (bidirectional controls), UAX #15 (NFC, and §13 on marks), UTS #36 §2 (spoofing). Zero-width
joiners stay in texts, where emoji and several scripts need them; names are stricter (`sockade.identity.names`).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from sockade.guard.confusables import PROTOTYPES

FORBIDDEN = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # controls, save tab, line feed and carriage return
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\u2028\u2029\ufff9-\ufffb\ufeff\U000e0000-\U000e007f"  # separators, annotations, tags
    "\ud800-\udfff"
    "]"
)
PERMITTED_ASCII = bytes(FORBIDDEN.match(chr(code)) is None for code in range(256))
"""The same for a text in ASCII: by code of a character, 0 where it is forbidden."""
MOST_MARKS = 30
"""Marks in a row, as the Stream-Safe Text Format has them. NFC puts n of them in order in n² steps: seconds for a
message of nothing else, and no language stacks as many."""
NO_LETTERS = re.compile(rf"[^\w\x00-\x7f]{{{MOST_MARKS + 1},}}")
"""Where so many may be: no mark is a letter, and this is asked sooner than what each character is."""


def clean(text: str) -> str | None:
    """Return a text in NFC, or None where it holds a character that no text needs, or too many marks in a row."""
    if text.isascii():
        return None if 0 in text.encode().translate(PERMITTED_ASCII) else text
    # Nothing printable is forbidden, and that is asked sooner than it is searched for.
    if not text.isprintable() and FORBIDDEN.search(text) is not None:
        return None
    if any(has_stack(run[0]) for run in NO_LETTERS.finditer(text)):
        return None
    return unicodedata.normalize("NFC", text)


def has_stack(text: str) -> bool:
    """Tell whether there are more than `MOST_MARKS` marks in a row."""
    marks = 0
    for character in text:
        # Not `combining`: three marks of class 0 are made of others.
        marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
        if marks > MOST_MARKS:
            return True
    return False


def clean_value(value: Any) -> Any | None:
    """Return a parsed JSON value with every text in it cleaned, keys too, or None where one may not pass.

    An escape such as `\\u202e` is harmless while it is written as one, and is not any more once it is parsed. A
    top-level null is None as well: nobody sends nothing.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        cleaned = [item if item is None else clean_value(item) for item in value]
        return None if any(new is None is not old for new, old in zip(cleaned, value, strict=True)) else cleaned
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, item in value.items():
            name, inner = clean(key), item if item is None else clean_value(item)
            # Two keys may become the same one in normal form.
            if name is None or name in found or (inner is None is not item):
                return None
            found[name] = inner
        return found
    return value


def skeleton(name: str) -> str:
    """Return what two names share that look alike: case, compatibility forms and look-alikes folded (UTS #39 §4).

    It is to compare and never to show; it is kept with each user, so another table needs another migration. `paypal`
    and `раураl` in Cyrillic letters have the same one, as have `Ian` and `lan`, `b0b` and `bob`, `modern` and `modem`.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    # Twice: what a look-alike stands for may itself be one of I, l and 1.
    return folded.translate(PROTOTYPES).translate(PROTOTYPES)
