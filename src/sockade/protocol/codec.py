"""Decodes JSON that strangers sent: strictly, with bounded work, into typed values.

Beyond RFC 8259 it refuses what two parsers may read differently or what only costs: duplicate keys, NaN and infinity,
integers over 64 bits, nesting over 32, and whatever the type does not name. Sources: RFC 8259 §4 and §6, RFC 7493.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

DEPTH = 32
BEGINNING = 1_024
"""Characters of a text that are looked at before the whole of it."""
OTHERS = re.compile(r"[^\[\]{}]+")
STEPS = {"{": 1, "[": 1, "}": -1, "]": -1}
# Possessive, so that no text makes it step back; one that is not closed reaches to the end.
STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
DIGITS = 20
"""The longest integer of 64 bits, with its sign. It bounds the work before the value is looked at."""
SMALLEST, LARGEST = -(1 << 63), (1 << 64) - 1
SHAPES = bytes.maketrans(b"123456789E", b"000000000e")
LONG, EXPONENT = b"0" * (DIGITS - 1), b"e000"
"""What a number over 64 bits or over all floats holds at least, with its digits as `SHAPES` makes them."""


class DecodeError(ValueError):
    """The text is not an acceptable value. The message says which rule was met, and quotes nothing."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DecodeError("duplicate key")
    return found


def _constant(name: str) -> Any:
    raise DecodeError("NaN or infinity")


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise DecodeError("integer too large")
    value = int(text)
    if not SMALLEST <= value <= LARGEST:
        raise DecodeError("integer too large")
    return value


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise DecodeError("number too large")
    return value


_parse = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
).decode
# The same for a text without a large number: thousands of small ones are not worth a call each.
_parse_plain = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).decode


def decode(text: str, type_: type[T]) -> T:
    """Return the value that `text` holds, as an instance of `type_`.

    Raises:
        DecodeError: it is not JSON, breaks one of the rules above, or is not of that type.
    """
    return convert(parse(text), type_)


def parse(text: str) -> Any:
    """Return the value that `text` holds, made of the types of `json`.

    Raises:
        DecodeError: it is not JSON or breaks one of the rules above.
    """
    # The parser itself must not be led deeper; brackets within strings count too, and a text with so many is walked.
    if text.count("{") + text.count("[") > DEPTH:
        _check_depth(text)
    try:
        return _parse_plain(text) if len(text) > BEGINNING and not _may_hold_large(text) else _parse(text)
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError("not JSON") from error


def convert(value: Any, type_: type[T]) -> T:
    """Return a parsed value as an instance of `type_`.

    Raises:
        DecodeError: it is not of that type.
    """
    try:
        return msgspec.convert(value, type_, strict=True, str_keys=True)
    except (ValueError, RecursionError) as error:
        raise DecodeError("not of the expected shape") from error


def _may_hold_large(text: str) -> bool:
    """Tell whether a number over 64 bits or over all floats may be in a text; within a string it counts too."""
    shapes = text.encode("utf-8", "surrogatepass").translate(SHAPES, b"+")
    return LONG in shapes or EXPONENT in shapes


def _check_depth(text: str) -> None:
    """Refuse nesting over `DEPTH`: the beginning first, where a text that is nothing but brackets gives itself away."""
    _walk(text[:BEGINNING])
    if len(text) > BEGINNING:
        _walk(text)


def _walk(text: str) -> None:
    """Refuse nesting over `DEPTH`, in one pass that does not recurse and looks at brackets alone."""
    brackets = OTHERS.sub("", STRING.sub("", text))
    # The depth changes by one at a time: whatever goes deeper passes through this value, and there the search ends.
    if DEPTH + 1 in accumulate(map(STEPS.__getitem__, brackets)):
        raise DecodeError("nested too deeply")
