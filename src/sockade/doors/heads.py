"""Remembers what the heads of frames mean, so that the library's parser is asked once for each and not each time.

Nearly every frame is a whole message or a pong, and its head (kind, flags and size, RFC 6455 §5.2) is one that came
before. What a head means is never decided here: `websockets` parses the first frame that has it, and it is noted what
the parser read and returned. Everything else, fragments, other control frames, large and malformed ones, is the
parser's each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Frame, Opcode

if TYPE_CHECKING:
    from collections.abc import Generator

SHORT, LONG = 2, 4
"""Sizes of the heads that are remembered, in bytes: for payloads up to 125 bytes, and up to 65,535."""
REMEMBERED = 4_096
"""Heads, whatever sizes a client makes up: less than 1 MiB."""


Head = tuple[Opcode, int, int, int]
"""Of a whole message or a pong: its opcode, and where in the frame mask and payload begin and the frame ends.

It is a plain tuple, for a named one is taken apart as slowly as any other object.
"""


class Heads:
    """The heads that were seen. `max_size` is the limit on messages, in bytes."""

    __slots__ = ("_max_size", "known")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self.known: dict[bytes, Head | None] = {}
        """By the first two bytes of a frame, or the first four; None where every such frame is the parser's."""

    def learn(self, data: bytes) -> Head | None:
        """Have the parser take apart the frame that `data` begins with, remember its head and return it.

        None where the frame is the parser's: it is not all there, of a kind that is not remembered, or no frame.
        """
        if len(self.known) >= REMEMBERED or data[:SHORT] in self.known:
            return None
        sizes: list[int] = []

        def read_exact(size: int) -> Generator[None, None, bytes]:
            yield from ()
            at = sum(sizes)
            sizes.append(size)
            if len(data) < at + size:
                raise EOFError
            return data[at : at + size]

        try:
            next(Frame.parse(read_exact, mask=True, max_size=self._max_size))
        except StopIteration as parsed:
            *head, mask, payload = sizes
            return self._note(data, parsed.value, sum(head), mask, payload)
        except (EOFError, ProtocolError, PayloadTooBig):
            pass  # It is the parser of the connection that answers.
        return None

    def _note(self, data: bytes, frame: Frame, head: int, mask: int, payload: int) -> Head | None:
        if head in (SHORT, LONG) and frame.fin and frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.PONG):
            found = self.known[data[:head]] = frame.opcode, head, head + mask, head + mask + payload
            return found
        self.known[data[:SHORT]] = None
        return None
