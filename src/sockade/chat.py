"""The chat that `sockade serve` runs when no application is named.

Its rooms are channels, `room:NAME`; the page speaks the channel protocol. Everyone who is signed in may be in any room,
and everyone is in the lobby. Who speaks and when, the server alone says: what a client publishes holds its text and
nothing else about it.

`WS /` speaks plain text, as in `examples/chat.py`, and hears and is heard in the lobby: a text said there is published
in the lobby, in the name of whoever said it, and what is said in the lobby is relayed to `/` as plain text. Plain
connections are not listed among those who are here, for they are in no channel, and get no history.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
from msgspec import Meta

from sockade.messaging.application import Sockade
from sockade.messaging.channels import History, Message
from sockade.messaging.node import Subscription
from sockade.protocol.replies import ClientInfo

if TYPE_CHECKING:
    from sockade.guard.identity import Identity
    from sockade.messaging.broker import Position, Publication
    from sockade.messaging.connection import Connection
    from sockade.messaging.hub import Hub
    from sockade.messaging.node import Node

PLAIN = "/"
LOBBY = "room:lobby"
ROOM = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")
"""What a room may be called: names in which no two look alike."""
TEXT_CHARACTERS = 2_000
HISTORY = History(size=100, seconds=7 * 86_400)


class Say(Message, frozen=True):
    """What the page publishes."""

    text: Annotated[str, Meta(min_length=1, max_length=TEXT_CHARACTERS)]
    ref: Annotated[str, Meta(max_length=36)] = ""
    """The sender's own mark, by which its page knows the message again; others read nothing from it."""


class Chat(Sockade):
    """The rooms, and the plain endpoint that stands with one foot in the lobby."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoint(PLAIN)(PlainChat(self))
        self.channel("room:{name}", history=HISTORY, presence=True, join_leave=True)(Room)

    def bind(self, hub: Hub, node: Node | None = None) -> None:
        """Listen in the lobby as well, once there is a node."""
        super().bind(hub, node)
        if node is not None and (lobby := node.channels.find(LOBBY)) is not None:
            # A subscription that never goes live is in no presence, has no connection, and is given every publication.
            node.add(Subscription(cast("Connection", self), lobby, ClientInfo(), held=Ear(self)))

    def overheard(self, publication: Publication) -> None:
        """Relay to `/` what somebody says in the lobby; what came from there has no connection behind it."""
        if publication.info is not None:
            self.broadcast(PLAIN, msgspec.json.decode(publication.data, type=Say).text)


class Ear(list["tuple[Publication, Position]"]):
    """What holds publications back for a subscriber; this one hands them on and holds nothing."""

    def __init__(self, chat: Chat) -> None:
        super().__init__()
        self.chat = chat

    def append(self, heard: tuple[Publication, Position]) -> None:
        self.chat.overheard(heard[0])


class PlainChat:
    """Everyone hears everyone else, in plain text."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    async def on_message(self, connection: Connection, message: str) -> None:
        if text := message.strip():
            # First the disk, then the others: everyone hears the same, in the lobby's order.
            said = {"text": text[:TEXT_CHARACTERS], "from": connection.identity.user}
            await self.chat.publish(LOBBY, said)
        connection.broadcast(message)


class Room:
    """Who is signed in may join and make any room whose name is one."""

    message = Say

    def may_subscribe(self, identity: Identity, name: str) -> bool:
        return ROOM.fullmatch(name) is not None

    def may_publish(self, identity: Identity, name: str) -> bool:
        return ROOM.fullmatch(name) is not None


def chat_application() -> Sockade:
    """Return the built-in chat."""
    return Chat()
