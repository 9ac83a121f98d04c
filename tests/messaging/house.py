"""A node with declared channels, and clients of the channel protocol that come in: for tests."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sockade.brokers.memory import MemoryBroker
from sockade.guard.handshake import Refuse
from sockade.messaging.channel_protocol import PATH, ChannelProtocol
from sockade.messaging.client import Services
from sockade.messaging.control import Control
from sockade.messaging.node import Node
from sockade.messaging.types import Message
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.guard.identity import Credential, Grant, Identity, Secret
    from sockade.messaging.application import Sockade
    from sockade.messaging.client import Client

    from .conftest import NotedTransport, Room


class Say(Message, frozen=True):
    text: str


class Talk:
    """One SDK: sends commands and reads what comes."""

    def __init__(self, transport: NotedTransport, room: Room) -> None:
        self.transport = transport
        self.room = room
        self.ids = 0

    async def send(self, text: str) -> list[dict[str, Any]]:
        """Send a message and return every object that came back to it."""
        before = len(self.heard())
        self.transport.connection.receive(text)
        await self.room.turn()
        return self.heard()[before:]

    async def ask(self, method: str, /, **body: Any) -> dict[str, Any]:
        """Do one command and return its reply, without the id."""
        self.ids += 1
        found = await self.send(json.dumps({"id": self.ids, method: body}))
        (reply,) = [one for one in found if one.get("id") == self.ids]
        return {key: value for key, value in reply.items() if key != "id"}

    def heard(self) -> list[dict[str, Any]]:
        """Everything that was sent to this client so far."""
        data, found = b"".join(self.transport.written), []
        while data:
            length, start = data[1], 2
            if length == 126:
                length, start = int.from_bytes(data[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(data[2:10], "big"), 10
            found.append(json.loads(data[start : start + length]))
            data = data[start + length :]
        return found

    def pushes(self, kind: str) -> list[dict[str, Any]]:
        return [one["push"] for one in self.heard() if kind in one.get("push", {})]

    @property
    def client(self) -> Client:
        found = self.transport.connection.client
        assert found is not None
        return found

    @property
    def closed(self) -> int | None:
        return self.transport.closed[0] if self.transport.closed else None


class House:
    """A node with declared channels, and whoever comes in."""

    def __init__(self, app: Sockade, room: Room) -> None:
        self.app = app
        self.room = room
        self.broker = MemoryBroker(room.clock)
        self.node = Node(self.broker, app.channels, room.clock)
        self.tokens: dict[str, Identity | Refuse] = {}
        self.grants: dict[tuple[str, str, str], Grant | Refuse] = {}
        services = Services(self.node, self.verify, self.grant, app.procedures, app.send_handler)
        app.endpoints[PATH] = ChannelProtocol(services).endpoint()
        self.control = Control(self.node)
        app.bind(room.hub, self.control)

    async def verify(self, credential: Credential) -> Identity | Refuse:
        return self.tokens.get(credential.value.reveal(), Refuse(Reason.TOKEN_INVALID))

    async def grant(self, token: Secret, user: str, channel: str) -> Grant | Refuse:
        return self.grants.get((token.reveal(), user, channel), Refuse(Reason.TOKEN_INVALID))

    async def enter(self, user: str = "ada", *, connect: bool = True, **identity: Any) -> Talk:
        talk = Talk(await self.room.join(user, PATH, **identity), self.room)
        if connect:
            assert "connect" in await talk.ask("connect")
        return talk

    def hold_reads(self) -> asyncio.Event:
        """Let every reading of a history take until the event is set."""
        read, going_on = self.node.broker.history, asyncio.Event()

        async def wait(*arguments: Any, **options: Any) -> Any:
            found = await read(*arguments, **options)
            await going_on.wait()
            return found

        self.node.broker.history = wait  # type: ignore[method-assign]
        return going_on

    async def sweep(self) -> None:
        """Do what is due with channels once a second."""
        self.node.sweep()
        await self.node.look_at_tops()

    def renew(self, talk: Talk, **rights: Any) -> None:
        """Renew a connection's credential with other rights."""
        connection = talk.transport.connection
        connection.renew(replace(connection.identity, **rights), connection.expires_at)
