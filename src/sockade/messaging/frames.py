"""Serializes a message once: server frames carry no mask, so every receiver gets the same bytes (RFC 6455 §5.1)."""

from __future__ import annotations

from websockets.frames import Frame, Opcode


def frame(message: str | bytes) -> bytes:
    """Return the one frame that carries a message: text for `str`, binary for `bytes`."""
    if isinstance(message, str):
        return Frame(Opcode.TEXT, message.encode()).serialize(mask=False)
    return Frame(Opcode.BINARY, message).serialize(mask=False)
