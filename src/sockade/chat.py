"""The chat that `sockade serve` runs when no application is named.

Everyone is in one room. `WS /` speaks plain text, as in `examples/chat.py`; `WS /chat`, which the page uses, carries
the same conversation as JSON objects that say who speaks. Who that is, the server alone decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sockade.messaging.application import Sockade

if TYPE_CHECKING:
    from sockade.clock import Clock
    from sockade.messaging.connection import Connection

PLAIN, PAGE = "/", "/chat"
TEXT_CHARACTERS = 2_000


class Say(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends."""

    text: str


def chat_application(clock: Clock) -> Sockade:
    """Return the built-in chat."""
    app = Sockade()
    here: dict[str, int] = {}

    def to_page(message: dict[str, object], but: Connection | None = None) -> None:
        app.broadcast(PAGE, msgspec.json.encode(message).decode(), but=but)

    def to_all(connection: Connection, text: str) -> None:
        message = {"type": "message", "from": connection.identity.user, "text": text, "at": round(clock.wall(), 3)}
        to_page(message, but=connection)
        app.broadcast(PLAIN, text, but=connection)

    class Presence:
        """Keeps who is here, with however many tabs, and tells the pages."""

        async def on_open(self, connection: Connection) -> None:
            user = connection.identity.user
            here[user] = here.get(user, 0) + 1
            if here[user] == 1:
                to_page({"type": "joined", "user": user}, but=connection)

        async def on_close(self, connection: Connection) -> None:
            user = connection.identity.user
            here[user] -= 1
            if not here[user]:
                del here[user]
                to_page({"type": "left", "user": user})

    @app.endpoint(PLAIN)
    class PlainChat(Presence):
        async def on_message(self, connection: Connection, message: str) -> None:
            to_all(connection, message)

    @app.endpoint(PAGE, message=Say)
    class PageChat(Presence):
        async def on_open(self, connection: Connection) -> None:
            await super().on_open(connection)
            welcome = {"type": "welcome", "you": connection.identity.user, "here": sorted(here)}
            connection.send(msgspec.json.encode(welcome).decode())

        async def on_message(self, connection: Connection, message: Say) -> None:
            if text := message.text.strip():
                to_all(connection, text[:TEXT_CHARACTERS])

    return app
