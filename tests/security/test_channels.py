"""Cases 47 and 69 to 71, from outside: what a channel keeps from those who may not hear it, or not any more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.running import ROOMY
from tests.test_channels import PATH, Talk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.running import RunningServer, Start
    from tests.security.report import Observe

    Enter = Callable[[str], Awaitable[Talk]]

APP = """
from sockade import Connection, History, Sockade

app = Sockade()
barred = set()

@app.endpoint("/bar")
class Bar:
    async def on_message(self, connection: Connection, message: str) -> None:
        barred.add(message)
        app.unsubscribe(message, "club:a")
        connection.send("barred")

@app.endpoint("/say")
class Say:
    async def on_message(self, connection: Connection, message: str) -> None:
        await app.publish("club:a", {"text": message}, key=message)
        connection.send("said")

@app.channel("club:{name}", history=History(size=100, ttl=3600), presence=True, join_leave=True)
class Club:
    def may_subscribe(self, identity, name):
        return identity.role == "member" and identity.user not in barred

    def may_publish(self, identity, name):
        return True
"""
DENIED = {"code": 103, "message": "permission denied"}


@pytest.fixture
def club(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server with a channel for members: bob is one, and ada is not."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "club_under_test.py").write_text(APP)
    server = start(f"[limits]\n{ROOMY}", "club_under_test:app", module_path=str(folder))
    server.add_user("ada")
    server.add_user("bob", role="member")
    return server


@pytest.fixture
async def enter(club: RunningServer) -> AsyncIterator[Enter]:
    """Connect users; each connection is closed with the test."""
    talks: list[Talk] = []

    async def begin(user: str) -> Talk:
        token = await asyncio.to_thread(club.token, user)
        talks.append(Talk(await club.connect(PATH, token=token, subprotocols=["centrifuge-json"])))
        assert (await talks[-1].ask("connect"))["client"]
        return talks[-1]

    yield begin
    for talk in talks:
        await talk.client.close()


async def on_endpoint(club: RunningServer, path: str, *messages: str) -> None:
    """Let the application do something, and wait until it has."""
    token = await asyncio.to_thread(club.token, "ada")
    async with club.connect(path, token=token) as client:
        for message in messages:
            await client.send(message)
            await asyncio.wait_for(client.recv(), 10)


async def hear(talk: Talk, seconds: float) -> list[Any]:
    """Return what is published in that time or until the connection ends."""
    with contextlib.suppress(TimeoutError, ConnectionClosed):
        async with asyncio.timeout(seconds):
            while True:
                talk.take(str(await talk.client.recv()))
    return [pub["data"] for pub in talk.pubs]


async def answers(talk: Talk, channel: str, **position: Any) -> dict[str, Any]:
    """Return what every command that names a channel is answered."""
    return {
        "subscribe": await talk.ask("subscribe", channel=channel),
        "recover": await talk.ask("subscribe", channel=channel, recover=True, **position),
        "history": await talk.ask("history", channel=channel, limit=10),
        "presence": await talk.ask("presence", channel=channel),
        "presence_stats": await talk.ask("presence_stats", channel=channel),
        "publish": await talk.ask("publish", channel=channel, data={}),
    }


def errors(found: dict[str, Any]) -> dict[str, Any]:
    return {method: answer.get("error") for method, answer in found.items()}


async def test_who_lost_the_right_recovers_nothing_on_the_open_connection(
    club: RunningServer, enter: Enter, observe: Observe
) -> None:
    """Case 47."""
    bob = await enter("bob")
    top = await bob.ask("subscribe", channel="club:a")
    await on_endpoint(club, "/say", "one")
    assert await bob.ask("unsubscribe", channel="club:a") == {}
    position = {"offset": top.get("offset", 0), "epoch": top["epoch"]}
    again = await bob.ask("subscribe", channel="club:a", recover=True, **position)
    assert [pub["data"] for pub in again["publications"]] == [{"text": "one"}]
    assert await bob.ask("unsubscribe", channel="club:a") == {}

    await on_endpoint(club, "/bar", "bob")
    found = await answers(bob, "club:a", **position)
    observe("103 for each", f"103 for {sum(error == DENIED for error in errors(found).values())} of {len(found)}")
    assert errors(found) == dict.fromkeys(found, DENIED)


async def test_who_comes_back_with_another_role_recovers_nothing(club: RunningServer, enter: Enter) -> None:
    """Case 47."""
    bob = await enter("bob")
    top = await bob.ask("subscribe", channel="club:a")
    await bob.client.close()
    await on_endpoint(club, "/say", "one")
    await asyncio.to_thread(set_role, club, "bob", "user")
    again = await enter("bob")
    found = await answers(again, "club:a", offset=top.get("offset", 0), epoch=top["epoch"])
    assert errors(found) == dict.fromkeys(found, DENIED)
    # With the role it all comes back: the refusals were of the right alone.
    await asyncio.to_thread(set_role, club, "bob", "member")
    back = await enter("bob")
    recovered = await back.ask(
        "subscribe", channel="club:a", recover=True, offset=top.get("offset", 0), epoch=top["epoch"]
    )
    assert [pub["data"] for pub in recovered["publications"]] == [{"text": "one"}]


def set_role(server: RunningServer, user: str, role: str) -> None:
    done = server.command("user", "role", user, role, "--data-dir", str(server.data_dir))
    assert done.returncode == 0, done.stderr


async def test_one_idempotency_key_twice_is_delivered_once(club: RunningServer, enter: Enter) -> None:
    """Case 69, the application's publish; the broker's answer: tests/contracts/test_broker.py."""
    bob = await enter("bob")
    await bob.ask("subscribe", channel="club:a")
    await on_endpoint(club, "/say", "one", "one", "two", "one")
    assert await hear(bob, 1) == [{"text": "one"}, {"text": "two"}]
    kept = await bob.ask("history", channel="club:a", limit=10)
    assert [pub["data"] for pub in kept["publications"]] == [{"text": "one"}, {"text": "two"}]
    # The key is kept where the publication is: a server that starts anew knows it.
    assert await asyncio.to_thread(club.stop) == 0
    await asyncio.to_thread(club.start)
    await on_endpoint(club, "/say", "one", "three")
    again = await enter("bob")
    kept = await again.ask("history", channel="club:a", limit=10)
    assert [pub["data"]["text"] for pub in kept["publications"]] == ["one", "two", "three"]


async def test_a_foreign_channel_is_answered_as_one_that_does_not_exist(
    club: RunningServer, enter: Enter, observe: Observe
) -> None:
    """Case 70."""
    bob, ada = await enter("bob"), await enter("ada")
    assert "error" not in await bob.ask("subscribe", channel="club:a")
    position = {"offset": 0, "epoch": "x"}
    foreign, unknown = await answers(ada, "club:a", **position), await answers(ada, "nothing:a", **position)
    for found in (foreign, unknown):
        for answer in found.values():
            del answer["id"]
    observe("the same for both", f"{len(foreign)} commands, {sum(foreign[name] == unknown[name] for name in foreign)}")
    assert foreign == unknown
    assert errors(foreign) == dict.fromkeys(foreign, DENIED)
    # And nobody in the channel hears that somebody tried.
    assert await hear(bob, 0.3) == []


async def test_who_loses_the_role_hears_nothing_more_within_two_seconds(
    club: RunningServer, enter: Enter, observe: Observe
) -> None:
    """Case 71, by a role that is taken away: it ends the sessions and their connections."""
    bob = await enter("bob")
    await bob.ask("subscribe", channel="club:a")
    await on_endpoint(club, "/say", "before")
    assert await hear(bob, 0.5) == [{"text": "before"}]
    await asyncio.to_thread(set_role, club, "bob", "user")
    began = time.monotonic()
    ended = asyncio.create_task(hear(bob, 10))
    await asyncio.wait_for(bob.client.wait_closed(), 10)
    seconds = time.monotonic() - began
    await on_endpoint(club, "/say", "after")
    assert await ended == [{"text": "before"}]
    observe("delivery stops within 2 s", f"closed with {bob.client.close_code} after {seconds:.1f} s")
    assert bob.client.close_code == 3005
    assert seconds < 2
    again = await enter("bob")
    assert (await again.ask("subscribe", channel="club:a"))["error"] == DENIED


async def test_who_is_removed_by_the_application_hears_nothing_more(
    club: RunningServer, enter: Enter, observe: Observe
) -> None:
    """Case 71, by the application, which bars bob and ends his subscription."""
    bob = await enter("bob")
    await bob.ask("subscribe", channel="club:a")
    await on_endpoint(club, "/say", "before")
    assert await hear(bob, 0.5) == [{"text": "before"}]
    await on_endpoint(club, "/bar", "bob")
    await on_endpoint(club, "/say", "after")
    heard = await hear(bob, 2)
    observe("delivery stops within 2 s", f"at once: {len(heard) - 1} publications after the removal")
    assert heard == [{"text": "before"}]
    assert (await bob.ask("subscribe", channel="club:a"))["error"] == DENIED
