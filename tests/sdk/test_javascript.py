"""What the JavaScript SDK alone can do: a ticket as subprotocol, messages without an answer, and what it is sent."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from sockade.guard.messages import SUBSCRIPTIONS
from tests.sdk.clients import JavaScript
from tests.sdk.conftest import bearer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.running import RunningServer
    from tests.sdk.conftest import Meet


@pytest.fixture(params=[JavaScript])
async def meet(request: pytest.FixtureRequest, served: RunningServer) -> AsyncIterator[Meet]:
    clients: list[JavaScript] = []

    def one_more(headers: dict[str, str] | None = None, path: str = "") -> JavaScript:
        clients.append(JavaScript(served, headers or {}, path))
        return clients[-1]

    yield one_more
    for client in clients:
        await client.end()


async def test_a_ticket_beside_the_subprotocol_connects(meet: Meet, served: RunningServer) -> None:
    token = await asyncio.to_thread(served.token)
    headers = {"Authorization": f"Bearer {token}"}
    answer = await asyncio.to_thread(served.http, "POST", "/auth/ticket", {"origin": served.origin}, headers)
    client = meet({"Origin": served.origin})
    await client.open(subprotocols=["centrifuge-json", f"ticket.{answer.json['ticket']}"])
    await client.wait("connected")


async def test_what_is_sent_reaches_the_application_and_what_it_sends_the_client(meet: Meet) -> None:
    client = meet(bearer("ada"))
    await client.open()
    await client.wait("connected")
    await client.do("send", data={"ping": 1})
    assert (await client.do("rpc", method="sent", data={}))["data"] == [{"ping": 1}]
    await client.do("rpc", method="admin", data={"do": "message"})
    assert (await client.wait("message"))["data"] == {"hello": "corp:ada"}


async def test_as_many_subscriptions_as_there_may_be_come_back_in_one_message(meet: Meet) -> None:
    client = meet(bearer("ada"))
    await client.open()
    await client.wait("connected")
    # The personal channel is one of them.
    channels = [f"room:back-{time.monotonic_ns()}-{number}" for number in range(SUBSCRIPTIONS - 1)]
    for channel in channels:
        await client.subscribe(channel)
        await client.wait("subscribed", channel=channel)
    await client.do("cut")
    for channel in channels:
        await client.wait("subscribed", 2, channel=channel)
    assert client.seen("disconnected") == []
