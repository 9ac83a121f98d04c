"""Serializes a message once: server frames carry no mask, so every receiver gets the same bytes (RFC 6455 §5.1)."""

from __future__ import annotations

from functools import lru_cache

from websockets.frames import Frame, Opcode

REMEMBERED_SIZES = 4_096
"""Payloads up to this size (bytes) have their heads remembered; for larger ones the head costs little beside them."""


def frame(message: str | bytes) -> bytes:
    """Return the one frame that carries a message: text for `str`, binary for `bytes`."""
    if isinstance(message, str):
        opcode, payload = Opcode.TEXT, message.encode()
    else:
        opcode, payload = Opcode.BINARY, message
    size = len(payload)
    if size > REMEMBERED_SIZES:
        return Frame(opcode, payload).serialize(mask=False)
    return _head(opcode, size) + payload


@lru_cache(maxsize=2 * (REMEMBERED_SIZES + 1))
def _head(opcode: Opcode, size: int) -> bytes:
    """Return the head that the library writes: without a mask, kind and size are all that it depends on."""
    whole = Frame(opcode, bytes(size)).serialize(mask=False)
    return whole[: len(whole) - size]
