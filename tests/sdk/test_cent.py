"""Every method of the server API, called by `cent`, the official client of Centrifugo's, on a running server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import cent
import pytest
import requests
from aiohttp import ClientSession, TCPConnector

from tests.running import ROOMY, RunningServer, close_code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from websockets.asyncio.client import ClientConnection

    Enter = Callable[..., Awaitable["Talk"]]

APP = """
from sockade import History, Sockade

app = Sockade()

@app.channel("room:{name}", history=History(size=100, ttl=3600), presence=True, join_leave=True)
class Room:
    pass

@app.channel("flash:{name}")
class Flash:
    pass
"""
UNKNOWN_CHANNEL, NOT_AVAILABLE, UNRECOVERABLE = 102, 108, 112


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with channels, set up by `sockade init`."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "api_under_test.py").write_text(APP)
    config = f"[admin]\nport = 0\n[limits]\n{ROOMY}"
    server = RunningServer(folder / "server", config, "api_under_test:app", module_path=str(folder))
    server.init()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def room() -> str:
    """A channel that no other test uses."""
    return f"room:{uuid4().hex}"


@pytest.fixture
def backend(rooms: RunningServer) -> Iterator[cent.Client]:
    """The synchronous client, which trusts the local CA alone."""
    with requests.Session() as session:
        # Otherwise the environment's REQUESTS_CA_BUNDLE counts for more.
        session.trust_env = False
        session.verify = str(rooms.data_dir / "ca.pem")
        yield cent.Client(rooms.api_url, rooms.api_key, session=session)


@pytest.fixture
async def aio(rooms: RunningServer) -> AsyncIterator[cent.AsyncClient]:
    """The asynchronous client."""
    async with ClientSession(connector=TCPConnector(ssl=rooms.tls)) as session:
        yield cent.AsyncClient(rooms.api_url, rooms.api_key, session=session)


class Talk:
    """One client of the channel protocol, which keeps every push."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        self.pushes: list[dict[str, Any]] = []
        self.number = 0
        self.id = ""

    async def ask(self, method: str, **body: Any) -> dict[str, Any]:
        self.number += 1
        await self.client.send(json.dumps({"id": self.number, method: body}))
        while True:
            for found in await self._hear():
                if found.get("id") == self.number:
                    return dict(found[method])

    async def push(self, kind: str) -> dict[str, Any]:
        """Return the next push of a kind, with its channel."""
        while True:
            for number, push in enumerate(self.pushes):
                if kind in push:
                    del self.pushes[number]
                    return {"channel": push.get("channel"), **push[kind]}
            await self._hear()

    async def _hear(self) -> list[dict[str, Any]]:
        lines = str(await asyncio.wait_for(self.client.recv(), 20)).splitlines()
        found = [json.loads(line) for line in lines]
        self.pushes += [one["push"] for one in found if "push" in one]
        return found


@pytest.fixture
async def enter(rooms: RunningServer) -> AsyncIterator[Enter]:
    """Connect as a user and subscribe; each connection is closed with the test."""
    talks: list[Talk] = []

    async def begin(user: str, *channels: str) -> Talk:
        token = await asyncio.to_thread(rooms.token, user)
        talk = Talk(await rooms.connect("/connection/websocket", token=token))
        talks.append(talk)
        talk.id = (await talk.ask("connect"))["client"]
        for channel in channels:
            await talk.ask("subscribe", channel=channel)
        return talk

    yield begin
    for talk in talks:
        await talk.client.close()


def code_of(call: Any, *arguments: Any) -> int:
    """Return the error code that a call is answered with."""
    with pytest.raises(cent.CentApiResponseError) as caught:
        call(*arguments)
    return int(caught.value.code)


# What is published.


async def test_publish_reaches_subscribers_and_says_where_it_stands(
    backend: cent.Client, room: str, enter: Enter
) -> None:
    ada = await enter("ada", room)
    request = cent.PublishRequest(channel=room, data={"text": "hi"}, tags={"kind": "note"})
    result = await asyncio.to_thread(backend.publish, request)
    assert result.offset == 1
    assert result.epoch
    pub = await ada.push("pub")
    assert pub["data"] == {"text": "hi"}
    assert pub["tags"] == {"kind": "note"}
    assert pub["offset"] == 1
    assert "info" not in pub


def test_one_idempotency_key_is_one_publication(backend: cent.Client, room: str) -> None:
    request = cent.PublishRequest(channel=room, data=1, idempotency_key="k")
    assert backend.publish(request).offset == backend.publish(request).offset == 1
    assert backend.history(cent.HistoryRequest(channel=room)).offset == 1


def test_skip_history_keeps_nothing(backend: cent.Client, room: str) -> None:
    assert backend.publish(cent.PublishRequest(channel=room, data=1, skip_history=True)).offset == 0
    assert backend.history(cent.HistoryRequest(channel=room, limit=-1)).publications == []


def test_what_cannot_be_published_is_told_with_a_code(backend: cent.Client, room: str) -> None:
    assert code_of(backend.publish, cent.PublishRequest(channel="hall:a", data=1)) == UNKNOWN_CHANNEL
    assert code_of(backend.publish, cent.PublishRequest(channel=room, data=1, b64data="AA==")) == NOT_AVAILABLE


async def test_broadcast_answers_for_each_channel(backend: cent.Client, room: str, enter: Enter) -> None:
    ada = await enter("ada", room, "flash:b")
    request = cent.BroadcastRequest(channels=[room, "hall:x", "flash:b"], data="all")
    responses = (await asyncio.to_thread(backend.broadcast, request)).responses
    assert responses[0].result is not None
    assert responses[0].result.offset == 1
    assert responses[1].error is not None
    assert responses[1].error.code == UNKNOWN_CHANNEL
    assert responses[2].result is not None
    assert responses[2].result.offset == 0
    assert {(await ada.push("pub"))["channel"], (await ada.push("pub"))["channel"]} == {room, "flash:b"}


# What is kept.


def test_history_pages_and_ends(backend: cent.Client, room: str) -> None:
    for number in range(1, 6):
        backend.publish(cent.PublishRequest(channel=room, data=number))
    top = backend.history(cent.HistoryRequest(channel=room))
    assert (top.publications, top.offset) == ([], 5)

    def page(**options: Any) -> list[int]:
        found = backend.history(cent.HistoryRequest(channel=room, **options))
        return [one.data for one in found.publications]

    assert page(limit=-1) == [1, 2, 3, 4, 5]
    assert page(limit=2, reverse=True) == [5, 4]
    assert page(limit=2, since=cent.StreamPosition(offset=2, epoch=top.epoch)) == [3, 4]
    elsewhere = cent.StreamPosition(offset=2, epoch="another")
    assert code_of(backend.history, cent.HistoryRequest(channel=room, limit=1, since=elsewhere)) == UNRECOVERABLE
    assert code_of(backend.history, cent.HistoryRequest(channel="flash:a")) == NOT_AVAILABLE

    backend.history_remove(cent.HistoryRemoveRequest(channel=room))
    assert page(limit=-1) == []
    assert backend.history(cent.HistoryRequest(channel=room)).offset == 5
    assert code_of(backend.history_remove, cent.HistoryRemoveRequest(channel="flash:a")) == NOT_AVAILABLE


# Who is there.


async def test_presence_channels_and_info_count_who_is_there(
    rooms: RunningServer, backend: cent.Client, room: str, enter: Enter
) -> None:
    def look() -> tuple[Any, Any, Any, Any]:
        return (
            backend.presence(cent.PresenceRequest(channel=room)).presence,
            backend.presence_stats(cent.PresenceStatsRequest(channel=room)),
            backend.channels(cent.ChannelsRequest(pattern="room:*")).channels,
            backend.info(cent.InfoRequest()).nodes[0],
        )

    async with asyncio.timeout(10):
        while (before := await asyncio.to_thread(look))[3].num_clients:
            await asyncio.sleep(0.05)  # Those of the tests before are still going.
    assert (before[0], before[1].num_clients, before[2]) == ({}, 0, {})
    ada, again = await enter("ada", room, "flash:x"), await enter("ada", room)
    presence, stats, channels, node = await asyncio.to_thread(look)
    assert {one: info.user for one, info in presence.items()} == {ada.id: "ada", again.id: "ada"}
    assert (stats.num_clients, stats.num_users) == (2, 1)
    assert {name: found.num_clients for name, found in channels.items()} == {room: 2}
    assert (node.num_clients, node.num_users, node.num_channels, node.num_subs) == (2, 1, 2, 3)
    assert node.name == f"localhost:{rooms.port}"
    assert code_of(backend.presence, cent.PresenceRequest(channel="flash:x")) == NOT_AVAILABLE
    assert code_of(backend.presence_stats, cent.PresenceStatsRequest(channel="hall:x")) == UNKNOWN_CHANNEL


# What becomes of connections.


async def test_subscribe_and_unsubscribe_by_the_backend(backend: cent.Client, room: str, enter: Enter) -> None:
    ada, other = await enter("ada"), await enter("ada")
    request = cent.SubscribeRequest(user="ada", channel=room, client=ada.id, data={"hello": 1}, info={"seat": 7})
    await asyncio.to_thread(backend.subscribe, request)
    push = await ada.push("subscribe")
    assert (push["channel"], push["data"]) == (room, {"hello": 1})
    presence = (await asyncio.to_thread(backend.presence, cent.PresenceRequest(channel=room))).presence
    assert {one: info.chan_info for one, info in presence.items()} == {ada.id: {"seat": 7}}

    await asyncio.to_thread(backend.unsubscribe, cent.UnsubscribeRequest(user="ada", channel=room))
    assert (await ada.push("unsubscribe"))["code"] == 2000
    await asyncio.to_thread(backend.publish, cent.PublishRequest(channel=room, data=1))
    await ada.ask("ping")
    await other.ask("ping")
    assert ada.pushes == other.pushes == []

    def refused(request: cent.SubscribeRequest) -> int:
        return code_of(backend.subscribe, request)

    unknown = cent.SubscribeRequest(user="ada", channel="hall:a")
    # A session that is none must not become all of them.
    session = cent.SubscribeRequest(user="ada", channel=room, session="s")
    assert await asyncio.to_thread(refused, unknown) == UNKNOWN_CHANNEL
    assert await asyncio.to_thread(refused, session) == NOT_AVAILABLE


async def test_disconnect_closes_all_but_those_to_keep(backend: cent.Client, enter: Enter) -> None:
    first, second, kept = [await enter("ada") for _ in range(3)]
    bob = await enter("bob")
    closing = cent.Disconnect(code=4_100, reason="moved")
    only = cent.DisconnectRequest(user="ada", client=first.id, disconnect=closing)
    await asyncio.to_thread(backend.disconnect, only)
    assert await close_code(first.client) == 4_100
    assert first.client.close_reason == "moved"
    await asyncio.to_thread(backend.disconnect, cent.DisconnectRequest(user="ada", whitelist=[kept.id]))
    assert await close_code(second.client) == 3_503
    await kept.ask("ping")
    await bob.ask("ping")


async def test_refresh_ends_connections_at_a_time_or_now(backend: cent.Client, enter: Enter) -> None:
    ada = await enter("ada")
    soon = cent.RefreshRequest(user="ada", expire_at=int(time.time()) + 30)
    await asyncio.to_thread(backend.refresh, soon)
    assert 0 < (await ada.push("refresh"))["ttl"] <= 30
    await asyncio.to_thread(backend.refresh, cent.RefreshRequest(user="ada", expired=True))
    assert await close_code(ada.client) == 3_005
    bob = await enter("bob")
    await asyncio.to_thread(backend.refresh, cent.RefreshRequest(user="bob", expire_at=1))
    assert await close_code(bob.client) == 3_005


# Many at once.


@pytest.mark.parametrize("parallel", [True, False])
async def test_batch_by_the_asynchronous_client(aio: cent.AsyncClient, parallel: bool, room: str) -> None:
    batch = cent.BatchRequest(
        requests=[
            cent.PublishRequest(channel=room, data=1),
            cent.BroadcastRequest(channels=[f"{room}-b", f"{room}-c"], data=2),
            cent.PresenceRequest(channel=room),
            cent.ChannelsRequest(pattern=room),
            cent.DisconnectRequest(user="nobody"),
        ],
        parallel=parallel,
    )
    published, broadcast, presence, channels, _ = (await aio.batch(batch)).replies
    assert published.offset == 1
    assert [one.result.offset for one in broadcast.responses] == [1, 1]
    assert presence.presence == channels.channels == {}


async def test_every_method_by_the_asynchronous_client(aio: cent.AsyncClient, room: str, enter: Enter) -> None:
    ada = await enter("ada", room)
    assert (await aio.publish(cent.PublishRequest(channel=room, data={"n": 1}))).offset == 1
    assert (await ada.push("pub"))["data"] == {"n": 1}
    assert len((await aio.broadcast(cent.BroadcastRequest(channels=[room, f"{room}-b"], data=2))).responses) == 2
    assert list((await aio.presence(cent.PresenceRequest(channel=room))).presence) == [ada.id]
    assert (await aio.presence_stats(cent.PresenceStatsRequest(channel=room))).num_clients == 1
    history = await aio.history(cent.HistoryRequest(channel=room, limit=10))
    assert [one.data for one in history.publications] == [{"n": 1}, 2]
    await aio.history_remove(cent.HistoryRemoveRequest(channel=room))
    assert list((await aio.channels(cent.ChannelsRequest(pattern=f"{room}*"))).channels) == [room]
    assert (await aio.info(cent.InfoRequest())).nodes[0].num_clients == 1
    await aio.subscribe(cent.SubscribeRequest(user="ada", channel=f"{room}-c"))
    assert (await ada.push("subscribe"))["channel"] == f"{room}-c"
    await aio.unsubscribe(cent.UnsubscribeRequest(user="ada", channel=f"{room}-c"))
    assert (await ada.push("unsubscribe"))["channel"] == f"{room}-c"
    await aio.refresh(cent.RefreshRequest(user="ada", expire_at=int(time.time()) + 100))
    assert (await ada.push("refresh"))["expires"] is True
    await aio.disconnect(cent.DisconnectRequest(user="ada"))
    assert await close_code(ada.client) == 3_503


# Who may.


def test_a_wrong_key_is_unauthorized(rooms: RunningServer) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(rooms.data_dir / "ca.pem")
        for key in ("", "wrong", rooms.api_key[:-1]):
            stranger = cent.Client(rooms.api_url, key, session=session)
            with pytest.raises(cent.CentUnauthorizedError):
                stranger.info(cent.InfoRequest())


def test_methods_that_are_not_offered_are_not_there(backend: cent.Client) -> None:
    with pytest.raises(cent.CentTransportError) as caught:
        backend.block_user(cent.BlockUserRequest(user="ada"))
    assert caught.value.status_code == 404
