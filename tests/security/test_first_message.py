"""What is off until it is switched on: the credential in the first message, and the ticket in the URL."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from sockade import Sockade
from sockade.assembly import policy_of
from sockade.settings import CredentialSettings, Settings
from tests.running import ROOMY, close_code

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from tests.running import RunningServer, Start

PATH = "/connection/websocket"
APP = """
from sockade import Sockade

app = Sockade()

@app.channel("room")
class Room:
    def may_publish(self, identity):
        return True

@app.endpoint("/")
class Plain:
    async def on_message(self, connection, message):
        connection.send(message)
"""
ON = "[credentials]\nfirst_message = true\nquery_ticket = true\n"


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Any:
    """Start the application with some settings."""
    (tmp_path / "first_message_app.py").write_text(APP)
    return lambda config="": start(config, "first_message_app:app", module_path=str(tmp_path))


async def say(client: ClientConnection, id_: int, method: str, /, **body: Any) -> dict[str, Any]:
    await client.send(json.dumps({"id": id_, method: body}))
    return dict(json.loads(await asyncio.wait_for(client.recv(), 20)))


async def test_both_are_off_unless_switched_on(serve: Any) -> None:
    """Case 29, Case 33."""
    server: RunningServer = serve()
    assert (await server.refused(PATH)).status == 401
    assert (await server.refused(f"{PATH}?ticket={'x' * 43}")).status == 400


async def test_a_first_message_names_who_is_there_and_nothing_comes_before_it(serve: Any) -> None:
    server: RunningServer = serve(ON)
    token = await asyncio.to_thread(server.token)
    async with server.connect(PATH) as client:
        assert (await say(client, 1, "connect", token=token))["connect"]["expires"] is True
        assert await say(client, 2, "publish", channel="room", data="x" * 10_000) == {"id": 2, "publish": {}}
    (opened,) = server.log_of("connection_opened")
    assert opened["user.name"] == "ada"
    async with server.connect(PATH) as client:
        await client.send('{"id":1,"subscribe":{"channel":"room"}}')
        assert await close_code(client) == 3501
    async with server.connect(PATH) as client:
        await client.send('{"id":1,"connect":{}}')
        assert await close_code(client) == 3500


async def test_before_it_a_message_has_four_kilobytes_and_five_seconds(serve: Any) -> None:
    server: RunningServer = serve(ON)
    token = await asyncio.to_thread(server.token)
    too_long = json.dumps({"id": 1, "connect": {"token": token, "data": "x" * 4_100}})
    async with server.connect(PATH, token=token) as client:
        # Those who are known may say as much, and what is remembered of their frames is theirs alone.
        assert "connect" in await say(client, 1, "connect")
        for _ in range(3):
            await client.send(json.dumps({"send": {"data": ""}}).replace('""', f'"{"x" * (len(too_long) - 22)}"'))
        assert "ping" in await say(client, 2, "ping")
    async with server.connect(PATH) as client:
        await client.send(too_long)
        assert await close_code(client) == 1009
    began = asyncio.get_running_loop().time()
    async with server.connect(PATH) as client:
        assert await close_code(client) == 3502
    assert 4 < asyncio.get_running_loop().time() - began < 15


async def test_it_is_for_the_channel_protocol_and_for_known_origins_alone(serve: Any) -> None:
    """Case 15."""
    server: RunningServer = serve(ON)
    assert (await server.refused("/")).status == 401
    answer = await server.refused(PATH, headers={"Origin": "https://evil.example"})
    assert answer.status == 403


async def test_a_token_that_is_not_renewed_ends_the_connection(serve: Any) -> None:
    """Case 38, where SDKs renew it."""
    server: RunningServer = serve(f"{ON}access_token_seconds = 2\n[limits]\n{ROOMY}")
    tokens = await asyncio.to_thread(server.tokens)
    async with server.connect(PATH) as client:
        begun = time.monotonic()
        told = (await say(client, 1, "connect", token=tokens["access_token"]))["connect"]
        assert (told["expires"], told["ttl"]) == (True, 1)
        assert await close_code(client, 10) == 3005
        assert time.monotonic() - begun < 2 + 5


async def test_quotas_and_the_end_of_the_session_hold_as_for_everybody(serve: Any) -> None:
    """Case 42, Case 55."""
    server: RunningServer = serve(f"{ON}[limits]\n{ROOMY.replace('user = 5000', 'user = 2')}")
    tokens = await asyncio.to_thread(server.tokens)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.connect(PATH)) for _ in range(3)]
        for client in clients[:2]:
            assert "connect" in await say(client, 1, "connect", token=tokens["access_token"])
        await clients[2].send(json.dumps({"id": 1, "connect": {"token": tokens["access_token"]}}))
        assert await close_code(clients[2]) == 3504
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await asyncio.to_thread(server.http, "POST", "/auth/logout", {}, bearer)).status == 204
        for client in clients[:2]:
            assert await close_code(client, 2) == 3005


async def test_a_ticket_in_the_url_works_once_and_stands_in_no_log(serve: Any) -> None:
    """Case 30, Case 33, Case 82."""
    server: RunningServer = serve(ON)
    bearer = {"Authorization": f"Bearer {await asyncio.to_thread(server.token)}"}
    answer = await asyncio.to_thread(server.http, "POST", "/auth/ticket", {"origin": server.origin}, bearer)
    path = f"{PATH}?ticket={answer.json['ticket']}"
    headers = {"Origin": server.origin}
    async with server.connect(path, headers=headers) as client:
        assert "connect" in await say(client, 1, "connect")
    assert (await server.refused(path, headers=headers)).status == 401
    assert (await server.refused(f"{PATH}?access_token=x", headers=headers)).status == 400
    assert (await server.refused(f"{PATH}?ticket=a&ticket=b", headers=headers)).status == 400
    assert answer.json["ticket"] not in server.log_text


def test_where_there_are_no_channels_nobody_is_let_in_without_a_credential() -> None:
    """Nothing there would ever ask who they are."""
    settings = Settings(credentials=CredentialSettings(first_message=True))
    assert policy_of(settings, 443, Sockade()).first_message is None
    app = Sockade()
    app.channel("room")(type("Room", (), {}))
    assert policy_of(settings, 443, app).first_message == PATH
