"""The endpoint that speaks the channel protocol: a connection like any other, whose callbacks are the protocol's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.guard.messages import MessageRules
from sockade.messaging.client import Client
from sockade.messaging.endpoint import Endpoint
from sockade.messaging.frames import frame
from sockade.protocol.replies import DISCONNECT_CODES

if TYPE_CHECKING:
    from sockade.messaging.client import Services
    from sockade.messaging.connection import Connection
    from sockade.protocol.reasons import Reason

PATH = "/connection/websocket"
CONNECT_SECONDS = 5.0
"""How long a connection may stay silent before its `connect`."""


class ChannelProtocol:
    """The callbacks of the endpoint."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def endpoint(self) -> Endpoint:
        """Return the endpoint."""
        return Endpoint(
            PATH,
            # Each command is judged by itself, so that each gets its answer.
            MessageRules(any_text=True),
            self.on_open,
            self.on_message,
            self.on_close,
            None,
            # An empty object is the protocol's own ping, which SDKs wait for and browsers can see.
            heartbeat=frame("{}"),
            pong="{}",
            codes=DISCONNECT_CODES,
            on_reject=self.on_reject,
            on_renew=self.on_renew,
            on_lost=self.on_lost,
        )

    async def on_open(self, connection: Connection) -> None:
        client = connection.client = Client(connection, self._services)
        client.open(connection.hub.loop.call_later(CONNECT_SECONDS, client.expect_connect))

    async def on_message(self, connection: Connection, message: str) -> None:
        if connection.client is not None:
            await connection.client.receive(message)

    async def on_close(self, connection: Connection) -> None:
        client, connection.client = connection.client, None  # they refer to each other
        if client is not None:
            client.leave()

    def on_reject(self, connection: Connection, message: str | bytes, reason: Reason) -> None:
        if connection.client is not None and isinstance(message, str):
            connection.client.reject(message, reason)

    def on_renew(self, connection: Connection) -> None:
        if connection.client is not None and connection.client.connected:
            connection.client.renewed()

    def on_lost(self, connection: Connection) -> None:
        # What a command under way still lets the client hear is left once more in `on_close`.
        if connection.client is not None:
            connection.client.leave()
