"""A connection that is over is gone at once: nothing of it, TLS least of all, waits for the garbage collector."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.light import PATH, LightClient, text_frame
from tests.running import ROOMY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.running import Start

# The collector is off, so only what nothing refers to any more is freed.
APPLICATION = """
import collections
import gc
import json

from websockets.server import ServerProtocol

from sockade import History, Sockade
from sockade.doors.peer import Peer
from sockade.doors.websocket import WebSocketDoor
from sockade.messaging.client import Client
from sockade.messaging.connection import Connection

app = Sockade()
gc.disable()
KINDS = (Peer, WebSocketDoor, ServerProtocol, Connection, Client)

class Open:
    def may_publish(self, identity):
        return True

app.channel("kept", history=History(10, 3600), presence=True)(Open)

@app.endpoint("/echo")
class Echo:
    async def on_message(self, connection, message):
        connection.send(message)

@app.endpoint("/count")
class Count:
    async def on_message(self, connection, message):
        found = collections.Counter(type(one) for one in gc.get_objects())
        transports = sum(found[kind] for kind in found if kind.__name__ == "SSLTransport_Socket")
        connection.send(json.dumps({"transport": transports} | {kind.__name__: found[kind] for kind in KINDS}))
"""
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
BEGUN = b"\x81\xfe\x01\x00\0\0\0\0half of it"
"""A frame that is cut off: the parser waits for the rest."""


@pytest.mark.parametrize("ending", ["close", "cut", "half"])
@pytest.mark.parametrize("path", ["/echo", PATH])
async def test_what_is_closed_is_freed_without_the_garbage_collector(
    start: Start, tmp_path: Path, path: str, ending: str
) -> None:
    (tmp_path / "counting_app.py").write_text(APPLICATION)
    server = start(f"[limits]\n{ROOMY}", "counting_app:app", module_path=str(tmp_path), traced=False)
    token = await asyncio.to_thread(server.token)
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def opened(path: str) -> LightClient:
        return await LightClient.open(
            server.port, server.tls, token, lambda _, text: heard.put_nowait(json.loads(text)), path
        )

    async def count() -> dict[str, int]:
        counter.transport.write(text_frame(b"count"))
        return await asyncio.wait_for(heard.get(), 10)

    async def settled() -> dict[str, int]:
        """Return what is there when the server has heard of all that ended, the request for the token too."""
        until = time.monotonic() + 10
        while (found := await count())["Peer"] > 1 and time.monotonic() < until:
            await asyncio.sleep(0.05)
        return found

    counter = await opened("/count")
    before = await settled()
    assert set(before.values()) == {0, 1}
    clients = [await opened(path) for _ in range(5)]
    for client in clients:
        if path == PATH:
            client.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "kept"}})
            for _ in range(2):
                await asyncio.wait_for(heard.get(), 10)
        else:
            client.transport.write(text_frame(b'"hello"'))
            await asyncio.wait_for(heard.get(), 10)
    assert (await count())["Connection"] == 6
    for client in clients:
        if ending == "close":
            client.transport.write(CLOSE)
        elif ending == "half":
            client.transport.write(BEGUN)
            client.transport.close()
        else:
            client.cut()
        await client.gone
    after = await settled()
    counter.cut()
    await counter.gone
    assert after == before
