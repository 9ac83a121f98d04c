"""Makes text safe to print: what a client sent must not start a line, move the cursor or turn letters around.

CVE-2020-7694 and its kind: CR and LF forge log lines, ANSI sequences command the operator's terminal, and
bidirectional overrides show something else than what is there.
"""

from __future__ import annotations

import re

# C0, DEL and C1 controls; line and paragraph separator; bidirectional controls and zero-width characters;
# lone surrogates, which no encoder takes.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
LONGEST = 512


def escape(text: str, longest: int = LONGEST) -> str:
    """Return the text with every unsafe character as `\\xNN` or `\\uNNNN`, cut to `longest` characters."""
    cut = text if len(text) <= longest else f"{text[:longest]}…"
    if cut.isascii() and cut.isprintable():
        return cut  # nearly everything: no control characters, and no table
    return UNSAFE.sub(_code, cut)


def _code(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
