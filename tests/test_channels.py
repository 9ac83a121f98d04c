"""Channels from outside, over real TLS, with the server really killed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests import faults
from tests.running import ROOMY, close_code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from tests.running import RunningServer, Start
    from tests.security.report import Observe

    Enter = Callable[[RunningServer, str], Awaitable["Talk"]]

PATH = "/connection/websocket"
ROOMS = """
from sockade import History, Sockade

app = Sockade()

@app.channel("room:{name}", history=History(size=10_000, ttl=3600), presence=True)
class Room:
    def may_publish(self, identity, name):
        return True
"""

NO_CHANNELS = """
from sockade import Sockade

app = Sockade()

@app.endpoint("/")
class Nothing:
    async def on_open(self, connection):
        pass
"""


@pytest.fixture
def rooms(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    folder = tmp_path_factory.mktemp("app")
    (folder / "rooms_under_test.py").write_text(ROOMS)
    return start(f"[limits]\n{ROOMY}", "rooms_under_test:app", module_path=str(folder))


class Talk:
    """One client of the channel protocol."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        self.pubs: list[dict[str, Any]] = []
        self.ids = 0

    async def ask(self, method: str, /, **body: Any) -> dict[str, Any]:
        """Do a command; publications that come before its reply are kept."""
        self.ids += 1
        await self.client.send(json.dumps({"id": self.ids, method: body}))
        while True:
            found = self.take(str(await asyncio.wait_for(self.client.recv(), 20)))
            if found is not None:
                return dict(found.get(method) if method in found else found)

    def take(self, message: str) -> dict[str, Any] | None:
        """Keep the publications of a message, and return the reply that is waited for, if it is there."""
        reply = None
        for line in message.splitlines():
            found = json.loads(line)
            if found.get("id") == self.ids:
                reply = found
            if "pub" in found.get("push", {}):
                self.pubs.append(found["push"]["pub"])
        return reply


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    """Connect clients; each is closed with the test."""
    talks: list[Talk] = []

    async def begin(server: RunningServer, token: str) -> Talk:
        talk = Talk(await server.connect(PATH, token=token, subprotocols=["centrifuge-json"]))
        talks.append(talk)
        assert talk.client.subprotocol == "centrifuge-json"
        assert (await talk.ask("connect"))["client"]
        return talk

    yield begin
    for talk in talks:
        await talk.client.close()


def test_acknowledged_publications_survive_kills_once_and_in_order(tmp_path: Path, observe: Observe) -> None:
    """Case 76, three times; a hundred with `make faults`."""
    figures = faults.run(tmp_path / "faults", kills=3)
    observe("nothing is lost, doubled or disordered", str(figures))
    assert all(figures.acknowledged.values()), figures
    assert figures.wrong() == 0, figures


async def test_a_stop_tells_clients_to_come_back_later(rooms: RunningServer, enter: Enter) -> None:
    token = await asyncio.to_thread(rooms.token)
    talk = await enter(rooms, token)
    ended = asyncio.create_task(close_code(talk.client))
    assert await asyncio.to_thread(rooms.stop) == 0
    assert await ended == 3001


async def test_a_session_that_ends_closes_its_channels(rooms: RunningServer, enter: Enter) -> None:
    tokens = await asyncio.to_thread(rooms.tokens)
    talk = await enter(rooms, tokens["access_token"])
    await talk.ask("subscribe", channel="room:a")
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert rooms.http("POST", "/auth/logout", {}, bearer).status == 204
    assert await close_code(talk.client, 2) == 3005


async def test_no_channels_no_path(start: Start, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("app")
    (folder / "silent_under_test.py").write_text(NO_CHANNELS)
    server = start("", "silent_under_test:app", module_path=str(folder))
    answer = await server.refused(PATH, token=await asyncio.to_thread(server.token))
    assert answer.status == 404
