"""The official SDKs, unmodified, against a running server over TLS: one test for what both of them can do."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from sockade.messaging.node import RENEWAL_GRACE_SECONDS
from tests.sdk.clients import SdkError
from tests.sdk.conftest import bearer, signed

if TYPE_CHECKING:
    from tests.running import RunningServer
    from tests.sdk.clients import Sdk
    from tests.sdk.conftest import Meet, NewSdk


async def entered(meet: Meet, user: str = "ada", **options: Any) -> Sdk:
    """Return a client that is connected as a user of the other issuer."""
    client = meet(bearer(user))
    await client.open(**options)
    await client.wait("connected")
    return client


async def subscribed(client: Sdk, channel: str, **options: Any) -> dict[str, Any]:
    """Subscribe, and return the SDK's event."""
    await client.subscribe(channel, **options)
    return await client.wait("subscribed", channel=channel)


def new(name: str) -> str:
    """Return a channel that no other test has used."""
    return f"room:{name}-{time.monotonic_ns()}"


# Who connects.


async def test_a_bearer_header_connects(meet: Meet) -> None:
    client = await entered(meet)
    assert client.seen("connected")[0]["client"]


async def test_a_cookie_connects_with_the_pages_origin(meet: Meet, served: RunningServer) -> None:
    cookie = await asyncio.to_thread(served.cookie)
    client = meet({"Cookie": cookie, "Origin": served.origin})
    await client.open()
    await client.wait("connected")


async def test_a_ticket_connects_once(meet: Meet, served: RunningServer) -> None:
    token = await asyncio.to_thread(served.token)
    headers = {"Authorization": f"Bearer {token}"}
    answer = await asyncio.to_thread(served.http, "POST", "/auth/ticket", {"origin": served.origin}, headers)
    client = meet({"Origin": served.origin}, path=f"?ticket={answer.json['ticket']}")
    await client.open()
    await client.wait("connected")
    again = meet({"Origin": served.origin}, path=f"?ticket={answer.json['ticket']}")
    await again.open()
    await again.wait("error")
    assert again.seen("connected") == []


async def test_the_first_message_connects_with_its_token(meet: Meet) -> None:
    client = meet()
    await client.open(token=signed("bob"))
    await client.wait("connected")
    channel = new("first")
    await subscribed(client, channel)
    (who,) = (await client.do("presence", channel=channel))["clients"].values()
    assert who["user"] == "corp:bob"


async def test_an_invalid_first_message_is_final(meet: Meet) -> None:
    client = meet()
    await client.open(token="nonsense")
    assert (await client.wait("disconnected"))["code"] == 3500


async def test_an_expired_first_message_asks_for_a_new_token(meet: Meet) -> None:
    now = int(time.time())
    client = meet()
    await client.give(signed("ada"))
    await client.open(token=signed("ada", iat=now - 200, exp=now - 100), tokens=True)
    await client.wait("connected")
    assert client.seen("token", kind="connection")


async def test_nobody_connects_without_a_credential(meet: Meet) -> None:
    client = meet()
    await client.open()
    assert (await client.wait("disconnected"))["code"] == 3500


# What they do.


async def test_publications_reach_subscribers_in_order_with_who_said_them(meet: Meet) -> None:
    ada, bob = await entered(meet), await entered(meet, "bob")
    channel = new("talk")
    await subscribed(ada, channel)
    await subscribed(bob, channel)
    for number in range(20):
        await ada.do("publish", channel=channel, data={"number": number})
    await bob.wait("publication", 20, channel=channel)
    assert bob.heard(channel) == [{"number": number} for number in range(20)]
    first = bob.seen("publication", channel=channel)[0]
    assert first["info"]["user"] == "corp:ada"
    assert first["offset"] == 1


async def test_errors_come_as_the_protocols_codes(meet: Meet) -> None:
    client = await entered(meet)
    for what, fields, code in (
        ("publish", {"channel": "nowhere", "data": 1}, 103),
        ("history", {"channel": "live", "options": {"limit": 1}}, 108),
        ("presence", {"channel": "live"}, 108),
        ("rpc", {"method": "nothing", "data": {}}, 104),
        ("rpc", {"method": "sum", "data": {"a": "x"}}, 107),
        ("rpc", {"method": "sum", "data": {"a": 0, "b": 1}}, 400),
    ):
        with pytest.raises(SdkError) as error:
            await client.do(what, **fields)
        assert error.value.code == code, what
    await client.subscribe("closed:x")
    assert (await client.wait("unsubscribed", channel="closed:x"))["code"] == 103


async def test_presence_join_and_leave(meet: Meet) -> None:
    ada, bob = await entered(meet), await entered(meet, "bob")
    channel = new("here")
    await subscribed(ada, channel)
    await subscribed(bob, channel)
    assert (await ada.wait("join", channel=channel))["info"]["user"] == "corp:bob"
    users = {who["user"] for who in (await ada.do("presence", channel=channel))["clients"].values()}
    assert users == {"corp:ada", "corp:bob"}
    assert await ada.do("presence_stats", channel=channel) == {"numClients": 2, "numUsers": 2}
    await bob.do("unsubscribe", channel=channel)
    assert (await ada.wait("leave", channel=channel))["info"]["user"] == "corp:bob"


async def test_history_is_read_forwards_backwards_and_since(meet: Meet) -> None:
    client = await entered(meet)
    channel = new("history")
    for number in range(5):
        await client.do("publish", channel=channel, data=number)
    page = await client.do("history", channel=channel, options={"limit": 3})
    assert [one["data"] for one in page["publications"]] == [0, 1, 2]
    back = await client.do("history", channel=channel, options={"limit": 2, "reverse": True})
    assert [one["data"] for one in back["publications"]] == [4, 3]
    since = {"offset": 3, "epoch": page["epoch"]}
    rest = await client.do("history", channel=channel, options={"limit": 10, "since": since})
    assert [one["data"] for one in rest["publications"]] == [3, 4]
    assert (await client.do("history", channel=channel, options={"limit": 0}))["offset"] == 5
    with pytest.raises(SdkError) as error:
        await client.do("history", channel=channel, options={"limit": 1, "since": {"offset": 1, "epoch": "other"}})
    assert error.value.code == 112


async def test_rpc_answers(meet: Meet) -> None:
    client = await entered(meet)
    assert (await client.do("rpc", method="sum", data={"a": 1, "b": 2}))["data"] == 3


async def test_the_server_subscribes_tells_and_unsubscribes(meet: Meet) -> None:
    user = f"told-{time.monotonic_ns()}"  # of this test alone: a client of the one before may not be gone yet
    client = await entered(meet, user)
    assert (await client.wait("subscribed", channel=f"mine:corp:{user}"))["recoverable"] is True
    channel = new("told")
    assert (await client.do("rpc", method="admin", data={"do": "subscribe", "channel": channel}))["data"] == 1
    assert (await client.wait("subscribed", channel=channel))["data"] == {"why": "told"}
    await client.do("publish", channel=channel, data="x")
    await client.wait("publication", channel=channel)
    await client.do("rpc", method="admin", data={"do": "unsubscribe", "channel": channel})
    await client.wait("unsubscribed", channel=channel)


async def test_a_token_names_channels_to_subscribe_to(meet: Meet) -> None:
    channel = new("named")
    client = meet()
    await client.open(token=signed("ada", channels=[channel], info={"name": "Ada"}))
    await client.wait("subscribed", channel=channel)
    await client.do("publish", channel=channel, data=1)
    assert (await client.wait("publication", channel=channel))["info"][
        "conn_info" if "conn_info" in client.seen("publication", channel=channel)[0]["info"] else "connInfo"
    ] == {"name": "Ada"}


# What comes back.


async def test_what_was_missed_while_the_connection_was_cut_comes_once_and_in_order(meet: Meet) -> None:
    ada, bob = await entered(meet), await entered(meet, "bob")
    channel = new("cut")
    await subscribed(ada, channel)
    await subscribed(bob, channel)
    for number in range(60):
        if number in (10, 30):
            # Only who is there can be cut off: the second time it is back, or publishing was faster than coming back.
            await bob.wait("subscribed", 1 if number == 10 else 2, channel=channel)
            await bob.do("cut")
        await ada.do("publish", channel=channel, data=number)
    await bob.wait("publication", 60, channel=channel)
    assert bob.heard(channel) == list(range(60))
    again = await bob.wait("subscribed", 3, channel=channel)
    assert (again["wasRecovering"], again["recovered"]) == (True, True)


async def test_what_history_has_lost_is_told_and_not_made_up(meet: Meet) -> None:
    ada, bob = await entered(meet), await entered(meet, "bob")
    channel = new("lost")
    await subscribed(bob, channel)
    await bob.do("close")
    await bob.wait("disconnected")
    for number in range(120):
        await ada.do("publish", channel=channel, data=number)
    await bob.do("reopen")
    again = await bob.wait("subscribed", 2, channel=channel)
    assert (again["wasRecovering"], again["recovered"]) == (True, False)
    assert bob.heard(channel) == []


async def test_a_cached_channel_gives_the_latest(meet: Meet) -> None:
    ada = await entered(meet)
    for price in range(3):
        await ada.do("publish", channel="price", data=price)
    bob = await entered(meet, "bob")
    await subscribed(bob, "price")
    await bob.wait("publication", channel="price")
    assert bob.heard("price") == [2]
    await bob.do("cut")
    await ada.do("publish", channel="price", data="newest")
    await bob.wait("publication", 2, channel="price")
    assert bob.heard("price") == [2, "newest"]


# How it goes on, and ends.


async def test_a_connection_token_is_refreshed_in_band(meet: Meet) -> None:
    client = meet()
    await client.start()
    ends = int(time.time()) + 3
    await client.open(token=signed("ada", exp=ends), tokens=True)
    await client.wait("connected")
    await client.wait("token", kind="connection")
    await client.give(signed("ada"))
    await asyncio.sleep(ends + RENEWAL_GRACE_SECONDS + 2 - time.time())
    assert (await client.do("rpc", method="sum", data={"a": 1, "b": 1}))["data"] == 2
    assert len(client.seen("connected")) == 1


async def test_a_refresh_for_another_user_is_final(meet: Meet) -> None:
    client = meet()
    await client.start()
    await client.open(token=signed("ada", exp=int(time.time()) + 2), tokens=True)
    await client.wait("connected")
    await client.give(signed("bob"))
    assert (await client.wait("disconnected"))["code"] == 3500


async def test_no_refresh_in_time_reconnects_with_a_new_token(meet: Meet) -> None:
    client = meet()
    await client.start()
    await client.open(token=signed("ada", exp=int(time.time()) + 2), tokens=True)
    await client.wait("connected")
    # The SDK waits for its token; the server does not wait for the SDK.
    assert (await client.wait("connecting", 2))["code"] == 3005
    await client.give(signed("ada"))
    await client.give(signed("ada"))
    await client.wait("connected", 2)


async def test_a_subscription_token_is_refreshed(meet: Meet) -> None:
    client = await entered(meet)
    channel = f"closed:{time.monotonic_ns()}"

    async def give(seconds: int) -> None:
        wanted = {"channel": channel, "seconds": seconds}
        await client.give((await client.do("rpc", method="room_token", data=wanted))["data"])

    await client.subscribe(channel, tokens=True)
    await client.wait("token", kind="subscription")
    await give(3)
    await client.wait("subscribed", channel=channel)
    await client.wait("token", 2, kind="subscription")
    await give(100)
    await asyncio.sleep(3 + RENEWAL_GRACE_SECONDS + 2)
    await client.do("publish", channel=channel, data="still here")
    await client.wait("publication", channel=channel)
    assert client.seen("unsubscribed", channel=channel) == []
    assert len(client.seen("subscribed", channel=channel)) == 1


async def test_a_subscription_ends_when_its_token_is_not_refreshed(meet: Meet) -> None:
    client = await entered(meet)
    channel = f"closed:{time.monotonic_ns()}"
    await client.subscribe(channel, tokens=True)
    await client.give(signed("ada", typ="subscription+jwt", channel=channel, exp=int(time.time()) + 3))
    await client.wait("subscribed", channel=channel)
    # 2501: the SDK subscribes again by itself, which takes a token.
    await client.wait("subscribing", channel=channel, code=2501)
    for _ in range(2):
        await client.give(signed("ada", typ="subscription+jwt", channel=channel))
    await client.wait("subscribed", 2, channel=channel)


async def test_a_token_for_another_channel_or_user_is_refused(meet: Meet) -> None:
    client = await entered(meet)
    channel = f"closed:{time.monotonic_ns()}"
    for token in (
        signed("ada", typ="subscription+jwt", channel="closed:other"),
        signed("bob", typ="subscription+jwt", channel=channel),
        signed("ada"),
    ):
        await client.give(token)
    await client.subscribe(channel, tokens=True)
    assert (await client.wait("unsubscribed", channel=channel))["code"] == 103


async def test_disconnected_for_good(meet: Meet) -> None:
    client = await entered(meet, "carl")
    with pytest.raises(SdkError):
        await client.do("rpc", method="admin", data={"do": "disconnect"})
    assert (await client.wait("disconnected"))["code"] == 3503


async def test_a_client_that_stays_away_from_pings_is_gone_and_one_that_answers_stays(meet: Meet) -> None:
    client = await entered(meet)
    await asyncio.sleep(3)  # three pings, each of which the SDK answers
    assert (await client.do("rpc", method="sum", data={"a": 1, "b": 1}))["data"] == 2
    assert len(client.seen("connected")) == 1


async def test_a_restart_is_recovered_from(meet: Meet, served: RunningServer) -> None:
    ada = await entered(meet)
    channel = new("restart")
    await subscribed(ada, channel)
    await ada.do("publish", channel=channel, data="before")
    await asyncio.to_thread(served.stop, signal.SIGKILL)
    await ada.wait("connecting", 2)
    await asyncio.to_thread(served.start)
    await ada.wait("connected", 2)
    again = await ada.wait("subscribed", 2, channel=channel)
    assert (again["wasRecovering"], again["recovered"]) == (True, True)
    await ada.do("publish", channel=channel, data="after")
    await ada.wait("publication", 2, channel=channel)
    assert ada.heard(channel) == ["before", "after"]


async def test_many_subscriptions_come_back_at_once_under_the_default_limits(
    by_default: RunningServer, sdk: NewSdk
) -> None:
    client = sdk(by_default, bearer("ada"))
    channels = [new(str(number)) for number in range(60)]
    try:
        await client.open()
        for channel in channels:
            await client.subscribe(channel)
        for count in (1, 2):
            for channel in channels:
                await client.wait("subscribed", count, channel=channel)
            assert (await client.do("rpc", method="sum", data={"a": 1, "b": 1}))["data"] == 2
            if count == 1:
                await client.do("cut")
        assert client.seen("disconnected") == []
        assert len(client.seen("connected")) == 2
    finally:
        await client.end()
