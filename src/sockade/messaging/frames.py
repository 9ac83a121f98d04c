"""Serializes a message once: server frames carry no mask, so every receiver gets the same bytes (RFC 6455 §5.1)."""

from __future__ import annotations

from websockets.frames import EXTERNAL_CLOSE_CODES, Frame, Opcode

REMEMBERED_SIZES = 4_096
"""Payloads up to this size (bytes) have their heads remembered; for larger ones the head costs little beside them."""


_text_heads: dict[int, bytes] = {}
_binary_heads: dict[int, bytes] = {}
"""The heads that the library wrote, by size of the payload: without a mask, kind and size are all they depend on."""


def frame(message: str | bytes) -> bytes:
    """Return the one frame that carries a message: text for `str`, binary for `bytes` and what has a buffer of them.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(message, str):
        payload = message.encode()
        head = _text_heads.get(len(payload))
        return head + payload if head is not None else _serialized(Opcode.TEXT, payload, _text_heads)
    if type(message) is not bytes:
        # The size of other buffers is counted in items of theirs, and it is by their size that heads are remembered.
        message = memoryview(message).tobytes()
    head = _binary_heads.get(len(message))
    return head + message if head is not None else _serialized(Opcode.BINARY, message, _binary_heads)


def is_close_code(code: object) -> bool:
    """Tell whether a closing frame may carry a code (RFC 6455 §7.4)."""
    return isinstance(code, int) and (code in EXTERNAL_CLOSE_CODES or 3_000 <= code < 5_000)


def _serialized(opcode: Opcode, payload: bytes, heads: dict[int, bytes]) -> bytes:
    """Have the library write a frame, and remember its head."""
    size = len(payload)
    whole = Frame(opcode, payload).serialize(mask=False)
    if size <= REMEMBERED_SIZES:
        heads[size] = whole[: len(whole) - size]
    return whole
