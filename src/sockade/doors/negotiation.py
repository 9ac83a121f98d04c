"""The server's half of an opening handshake: what was agreed upon, and the 101 that says so (RFC 6455 §4.2.2).

The guard has judged the request by then. `websockets` reads the offers and has the key's answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from websockets.datastructures import Headers
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from sockade.doors.deflate import InflateFactory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.extensions import Extension
    from websockets.typing import Subprotocol

    from sockade.guard.handshake import Head

SUBPROTOCOL = "sockade"
"""The one subprotocol of plain endpoints. A ticket travels beside it and is never echoed."""
CHANNEL_SUBPROTOCOL = "centrifuge-json"
"""The one of the channel protocol, where it is optional."""
OFFERS = frozenset({"sec-websocket-extensions", "sec-websocket-protocol"})


class Agreement(NamedTuple):
    """What a connection speaks, and the response that begins it."""

    subprotocol: str | None
    extensions: Sequence[Extension]
    response: bytes


class Negotiator:
    """Answers handshakes that are admitted, and keeps nothing of them."""

    def __init__(self, *, compression: bool) -> None:
        self._protocol = ServerProtocol(
            select_subprotocol=select_subprotocol, extensions=[InflateFactory()] if compression else None
        )

    def agree(self, head: Head) -> Agreement:
        """Choose among a client's offers.

        Raises:
            websockets.exceptions.InvalidHandshake: an offer is malformed.
        """
        accepted, subprotocol = None, None
        extensions: Sequence[Extension] = ()
        if offers := [(name, value) for name, value in head.headers if name in OFFERS]:
            accepted, extensions = self._protocol.process_extensions(Headers(offers))
            subprotocol = self._protocol.process_subprotocol(Headers(offers))
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept_key(head.all('sec-websocket-key')[0])}",
        ]
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        if accepted is not None:
            lines.append(f"Sec-WebSocket-Extensions: {accepted}")
        return Agreement(subprotocol, extensions, "\r\n".join((*lines, "", "")).encode("ascii"))


def select_subprotocol(protocol: ServerProtocol, offers: Sequence[Subprotocol]) -> Subprotocol | None:
    """Choose ours where it is offered; a client that offers none gets none (RFC 6455 §4.2.2)."""
    return next((offer for offer in offers if offer in (SUBPROTOCOL, CHANNEL_SUBPROTOCOL)), None)
