"""Decides whether a value fits a JSON Schema that the operator gives as a file; reading the file is left to others.

It always holds that nothing is fetched, whatever a reference says, and that patterns run in time linear in the text:
the regex engine has neither backtracking nor look-around, so a pattern that needs those is refused at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.errors import UsageError
from sockade.protocol.codec import DecodeError, decode

if TYPE_CHECKING:
    from jsonschema_rs import Validator

PATTERN_BYTES = 1 << 20
"""The largest a compiled pattern may be; `(a{1000}){1000}` is not worth the memory."""


class Schema:
    """One compiled JSON Schema (draft 2020-12, or the older draft that its `$schema` names)."""

    __slots__ = ("_validator",)

    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    def accepts(self, value: object) -> bool:
        """Tell whether a decoded value fits. Never raises: what cannot be judged does not fit."""
        try:
            return self._validator.is_valid(value)
        except (ValueError, RecursionError):
            return False


def compile_schema(text: str) -> Schema:
    """Compile a schema. References within it are followed; others are refused.

    Raises:
        UsageError: it is not a JSON Schema, refers to something outside itself or has a pattern that needs
            backtracking; or the extra `schema` is not installed.
    """
    try:
        import jsonschema_rs
    except ImportError as error:
        raise UsageError("a JSON Schema needs the extra: pip install 'sockade[schema]'") from error
    try:
        schema = decode(text, dict)
        validator = jsonschema_rs.validator_for(
            schema,
            validate_formats=True,
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES),
        )
    except DecodeError as error:
        raise UsageError(f"the schema cannot be read: {error}") from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise UsageError(f"the schema is refused: {_first_line(error)}") from error
    return Schema(validator)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
