"""Compression of what clients send, where it is switched on: RFC 7692 as `websockets` implements it, less what costs.

Neither direction keeps a context between messages, so that an idle connection holds no window (RFC 7692 §7.1.1).
What the server sends is never compressed: the same frame goes to everyone, and what is not compressed cannot tell by
its length what a secret beside it says (CRIME, BREACH).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.extensions import Extension
    from websockets.frames import Frame
    from websockets.typing import ExtensionParameter


class Inflate(PerMessageDeflate):
    """Decompresses within the limit on messages; data that is not deflate fails the connection with 1007."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        try:
            return super().decode(frame, max_size=max_size)
        except ProtocolError as error:
            if not isinstance(error.__cause__, zlib.error):
                raise
            # RFC 6455 §7.4.1: 1007 is for data that is not of its type, and the protocol sends it for this error.
            raise UnicodeDecodeError("deflate", b"", 0, 0, "not deflate data") from error


class InflateFactory(ServerPerMessageDeflateFactory):
    """Accepts an offer of permessage-deflate, without context takeover; one with bad parameters is declined."""

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Inflate]:
        answer, agreed = super().process_request_params(params, accepted_extensions)
        return answer, Inflate(
            agreed.remote_no_context_takeover,
            agreed.local_no_context_takeover,
            agreed.remote_max_window_bits,
            agreed.local_max_window_bits,
        )
