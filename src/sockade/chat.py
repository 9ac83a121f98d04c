"""The chat that `sockade serve` runs when no application is named.

Its rooms are channels, `room:NAME`; the page speaks the channel protocol. Everyone who is signed in may be in any room,
and everyone is in the lobby. Who speaks and when, the server alone says: what a client publishes holds its text and
nothing else about it.

`WS /` speaks plain text, as in `examples/chat.py`, and hears and is heard in the lobby: a text said there is published
in the lobby, in the name of whoever said it, and what is said in the lobby is relayed to `/` as plain text. Plain
connections are not listed among those who are here, for they are in no channel, and get no history.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Annotated, Any

from sockade.errors import StorageError
from sockade.messaging.application import Sockade
from sockade.messaging.types import History, Length, Message, days

if TYPE_CHECKING:
    from sockade.guard.identity import Identity
    from sockade.messaging.connection import Connection

PLAIN = "/"
LOBBY = "room:lobby"
ROOM = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")
"""What a room may be called: names in which no two look alike."""
TEXT_CHARACTERS = 2_000
HISTORY = History(size=100, ttl=days(7))
UNKEPT = 1_000
"""Plain texts that may wait for the disk; beyond that, whoever says more waits."""

logger = logging.getLogger("sockade.chat")


class Say(Message, frozen=True):
    """What the page publishes."""

    text: Annotated[str, Length(1, TEXT_CHARACTERS)]
    ref: Annotated[str, Length(0, 36)] = ""
    """The sender's own mark, by which its page knows the message again; others read nothing from it."""


class PlainChat:
    """Everyone hears everyone else, in plain text; the lobby hears them as soon as it is on the disk."""

    def __init__(self, app: Sockade) -> None:
        self.app = app
        self._keeping: set[asyncio.Task[None]] = set()

    async def on_message(self, connection: Connection, message: str) -> None:
        connection.broadcast(message)
        if text := message.strip():
            said = {"text": text[:TEXT_CHARACTERS], "from": connection.identity.user}
            task = asyncio.create_task(self.keep(said))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
            if len(self._keeping) >= UNKEPT:
                await asyncio.wait(self._keeping, return_when=asyncio.FIRST_COMPLETED)

    async def keep(self, said: dict[str, str]) -> None:
        """Publish in the lobby. Plain text has no acknowledgement, so nothing was promised to whoever said it."""
        try:
            await self.app.publish(LOBBY, said)
        except StorageError as error:
            logger.warning("a plain text did not come into the lobby: %s", error)


class Room:
    """Who is signed in may join and make any room whose name is one."""

    message = Say

    def may_subscribe(self, identity: Identity, name: str) -> bool:
        return ROOM.fullmatch(name) is not None

    def may_publish(self, identity: Identity, name: str) -> bool:
        return ROOM.fullmatch(name) is not None


def chat_application() -> Sockade:
    """Return the built-in chat."""
    app = Sockade()
    app.endpoint(PLAIN)(PlainChat(app))
    app.channel("room:{name}", history=HISTORY, presence=True, join_leave=True)(Room)

    @app.listen(LOBBY)
    def relay(data: Any, user: str) -> None:
        # What came from `/` itself, nobody's client has published.
        if user:
            app.broadcast(PLAIN, data["text"])

    return app
