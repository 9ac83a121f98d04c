"""Makes inputs: good ones, spoilt a little or a lot. All randomness is the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

BYTES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x80",
    b"\xff",
    b"\t",
    b" ",
    b":",
    b"%",
    b"%00",
    b"%ff",
    b"?",
    b"#",
    b"//",
    b"\\",
]
TEXTS = [
    "",
    "\0",
    "\r\n",
    "\n",
    "\u202e",
    "\u200b",
    "\ud7ff",
    "é",
    "😀",
    "null",
    "0",
    "-1",
    "1e999",
    "9" * 40,
    '"',
    "\\",
]


class Found(AssertionError):  # noqa: N818 - what it is
    """An input that the code did not stand, with what came of it."""


def mutate(random: Random, data: bytes, tokens: Sequence[bytes] = ()) -> bytes:
    """Return a byte string spoilt in one to six places; `tokens` are what the format is made of."""
    result = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at = random.randrange(len(result) + 1)
        length = random.choice((1, 1, 2, 8, 40))
        match random.randrange(6):
            case 0:
                result[at : at + length] = b""
            case 1:
                result[at:at] = random.choice([*BYTES, *tokens])
            case 2:
                result[at : at + 1] = random.randbytes(1)
            case 3:
                result[at:at] = result[at : at + length] * random.choice((1, 2, 50))
            case 4:
                result[at : at + length] = random.choice([*BYTES, *tokens])
            case _:
                result[at:at] = random.randbytes(length)
    return bytes(result)


def mutate_text(random: Random, text: str, tokens: Sequence[str] = ()) -> str:
    """Return a text spoilt in one to six places."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at = random.randrange(len(text) + 1)
        length = random.choice((0, 0, 1, 1, 2, 8, 40))
        piece = random.choice(
            [*TEXTS, *tokens, chr(random.randrange(0xD800)), text[at : at + 20] * random.choice((1, 2, 30))]
        )
        text = text[:at] + piece + text[at + length :]
    return text
