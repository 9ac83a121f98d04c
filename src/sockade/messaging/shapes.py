"""Judges the types that applications write for messages: whether they can be read, and what they let through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.inspect import (
    CustomType,
    DataclassType,
    Field,
    RawType,
    StrType,
    StructType,
    Type,
    TypedDictType,
    type_info,
)

from sockade.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_type(what: str, message: Any) -> None:
    """Tell whether messages can be read as a type, if there is one. Raises UsageError: they cannot."""
    if message is None:
        return
    try:
        msgspec.json.Decoder(message)
        flaws = [flaw for part in parts(type_info(message)) if (flaw := flaw_of(part))]
    except (TypeError, NameError) as error:
        raise UsageError(f"{what} is no type that JSON can be read as: {error}") from error
    if flaws:
        raise UsageError(f"{what} is no type that JSON can be read as: {flaws[0]}")


def flaw_of(part: Type) -> str:
    """Return why nothing of a stranger is read as a type; "" where it is."""
    match part:
        case CustomType(cls) if cls is not object:
            return f"nothing in JSON is a {cls.__qualname__}"
        case RawType():
            return "a msgspec.Raw is not read at all"
        case StrType(pattern=str(pattern)):
            return f"the pattern {pattern!r} may take a stranger's text for ever; those of a JSON Schema do not"
        case _:
            return ""


def is_exact(message: Any) -> bool:
    """Tell whether what is read as a type has no field besides those of the type."""
    if message is None:
        return True
    fields = [
        part for part in parts(type_info(message)) if isinstance(part, (StructType, DataclassType, TypedDictType))
    ]
    return all(isinstance(part, StructType) and part.forbid_unknown_fields for part in fields)


def parts(part: object, seen: set[int] | None = None) -> Iterator[Type]:
    """Yield every type within a type, as msgspec describes it. One may contain itself."""
    seen = set() if seen is None else seen
    if isinstance(part, tuple):
        for one in part:
            yield from parts(one, seen)
    elif isinstance(part, (Type, Field)) and id(part) not in seen:
        seen.add(id(part))
        if isinstance(part, Type):
            yield part
        for name in part.__struct_fields__:
            yield from parts(getattr(part, name), seen)
