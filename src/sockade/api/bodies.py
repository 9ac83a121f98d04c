"""Decides whether a request's body is what the endpoint takes: JSON, of bounded size, decoded strictly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect

from sockade.guard.handshake import Refuse
from sockade.guard.identity import Secret
from sockade.protocol import codec
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from sockade.settings import LimitSettings

# The rest of the body is not read, so the connection cannot be used again (RFC 9110 §15.5.14).
TOO_LARGE = Refuse(Reason.BODY_TOO_LARGE, "the body is too large", headers=(("connection", "close"),))
TOO_SLOW = Refuse(Reason.HEAD_TIMEOUT, "the body took too long", headers=(("connection", "close"),))
# Another type could be sent by a form of any page without asking (Fetch, CORS-safelisted types).
NOT_JSON = Refuse(Reason.BAD_REQUEST, "Content-Type is not application/json")

Body = TypeVar("Body", bound=msgspec.Struct)


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body in which every field is known."""


def decode(content: bytes, types: Sequence[str], type_: type[Body]) -> Body | Refuse:
    """Return a body as a value of a type. Strings of type `Secret` never show in errors."""
    value = parse(content, types)
    if isinstance(value, Refuse):
        return value
    try:
        return msgspec.convert(value, type_, dec_hook=to_secret)
    except (ValueError, RecursionError):
        return Refuse(Reason.BAD_REQUEST, "the body is not what the endpoint takes")


def parse(content: bytes, types: Sequence[str]) -> Any | Refuse:
    """Return a body as `json` reads it, without what `protocol.codec` refuses; an empty one counts as `{}`.

    `types` are the values of Content-Type.
    """
    if content and not is_json(types):
        return NOT_JSON
    try:
        value = codec.parse((content or b"{}").decode())
        # RFC 8259 §8.2: an escape may name half a character, which nothing can write as UTF-8 later.
        if b"\\u" in content:
            msgspec.json.encode(value)
    except (codec.DecodeError, UnicodeError):
        return Refuse(Reason.BAD_REQUEST, "the body is not acceptable JSON")
    return value


async def read_body(request: Request, limits: LimitSettings) -> bytes | Refuse:
    """Return the whole body, or refuse as soon as it is known to be too large or takes too long."""
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()):
        return Refuse(Reason.BAD_REQUEST, "Content-Length is not a number")
    if len(declared) > 12 or int(declared) > limits.body_bytes:
        return TOO_LARGE
    content = bytearray()
    try:
        async with asyncio.timeout(limits.head_seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limits.body_bytes:
                    return TOO_LARGE
    except TimeoutError:
        return TOO_SLOW
    except ClientDisconnect:
        return Refuse(Reason.BAD_REQUEST, "the client left")
    return bytes(content)


def is_json(values: Sequence[str]) -> bool:
    """Tell whether Content-Type came once and names JSON (RFC 9110 §8.3)."""
    return len(values) == 1 and values[0].partition(";")[0].strip().lower() == "application/json"


def to_secret(type_: type[Any], value: Any) -> Secret:
    """Decode a string as a `Secret`."""
    if type_ is not Secret or not isinstance(value, str):
        raise ValueError("a string is expected")
    return Secret(value)
