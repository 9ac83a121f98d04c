"""A client of the built-in chat's rooms, without a page: it asks, and keeps what it was told meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

    from tests.running import RunningServer

PATH = "/connection/websocket"
LOBBY = "room:lobby"


class Member:
    """One connection on the channel protocol."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        self.pushes: list[dict[str, Any]] = []
        self.ids = 0

    async def ask(self, method: str, /, **body: Any) -> dict[str, Any]:
        """Do a command and return its result or `{"error": …}`."""
        self.ids += 1
        await self.client.send(json.dumps({"id": self.ids, method: body}))
        while True:
            for reply in await self._receive():
                if reply.get("id") == self.ids:
                    return dict(reply.get(method, reply))

    async def hear(self, kind: str) -> dict[str, Any]:
        """Return the next push of a kind; those before it are let go."""
        async with asyncio.timeout(10):
            while True:
                while self.pushes:
                    push = self.pushes.pop(0)
                    if kind in push:
                        return dict(push[kind])
                await self._receive()

    async def say(self, text: str, channel: str = LOBBY, **more: Any) -> dict[str, Any]:
        return await self.ask("publish", channel=channel, data={"text": text, **more})

    async def _receive(self) -> list[dict[str, Any]]:
        replies = [json.loads(line) for line in str(await asyncio.wait_for(self.client.recv(), 20)).splitlines()]
        self.pushes += [reply["push"] for reply in replies if "push" in reply]
        return replies


@contextlib.asynccontextmanager
async def member(server: RunningServer, token: str, *channels: str) -> AsyncIterator[Member]:
    """Connect, and subscribe to channels."""
    async with server.connect(PATH, token=token) as client:
        found = Member(client)
        assert (await found.ask("connect"))["client"]
        for channel in channels:
            assert "error" not in await found.ask("subscribe", channel=channel)
        yield found
