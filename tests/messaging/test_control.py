"""What the application may do to channels and clients that run, and what it answers them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sockade.errors import RejectedError, StorageError, UsageError
from sockade.messaging.application import Sockade
from sockade.messaging.control import UnknownChannelError
from sockade.messaging.types import History
from sockade.protocol.replies import DisconnectCode

from .house import House

if TYPE_CHECKING:
    from sockade.messaging.connection import Connection

    from .conftest import Room

sent: list[Any] = []


class Sum(msgspec.Struct):
    """What the procedure takes."""

    a: int
    b: int


class Closed:
    """Nobody may hear it by asking."""

    def may_subscribe(self, identity: object) -> bool:
        return False


@pytest.fixture
async def house(app: Sockade, room: Room) -> House:
    app.channel("news", history=History(5, 60), presence=True)(Closed)
    app.channel("plain")(Closed)

    @app.rpc("sum")
    async def add(connection: Connection, data: Sum) -> int:
        if data.a < 0:
            raise RejectedError("only positive numbers", 400)
        return data.a + data.b

    @app.on_send
    async def take(connection: Connection, data: object) -> None:
        sent.append((connection.identity.user, data))

    house = House(app, room)
    await house.node.start()
    return house


async def test_a_procedure_answers_with_its_type(house: House) -> None:
    ada = await house.enter()
    assert (await ada.ask("rpc", method="sum", data={"a": 1, "b": 2}))["rpc"] == {"data": 3}
    assert (await ada.ask("rpc", method="sum", data={"a": "1", "b": 2}))["error"]["code"] == 107
    assert (await ada.ask("rpc", method="sum", data={"a": -1, "b": 2}))["error"] == {
        "code": 400,
        "message": "only positive numbers",
    }
    assert (await ada.ask("rpc", method="other"))["error"]["code"] == 104


async def test_what_is_sent_reaches_the_application_without_an_answer(house: House) -> None:
    sent.clear()
    ada = await house.enter()
    assert await ada.send('{"send":{"data":{"x":1}}}') == []
    assert sent == [("ada", {"x": 1})]


async def test_the_application_subscribes_and_unsubscribes_its_users(house: House) -> None:
    """Case 71."""
    tabs = [await house.enter() for _ in range(2)]
    bob = await house.enter("bob")
    assert await house.app.subscribe("ada", "news", data={"why": "new"}) == 2
    assert await house.app.subscribe("ada", "news") == 0
    await house.app.publish("news", 1)
    await house.room.turn()
    for tab in tabs:
        (push,) = tab.pushes("subscribe")
        assert (push["channel"], push["subscribe"]["recoverable"]) == ("news", True)
        assert push["subscribe"]["data"] == {"why": "new"}
        assert [one["pub"]["data"] for one in tab.pushes("pub")] == [1]
    assert house.app.unsubscribe("ada", "news") == 2
    await house.app.publish("news", 2)
    await house.room.turn()
    for tab in tabs:
        assert tab.pushes("unsubscribe")[0]["unsubscribe"]["code"] == 2000
        assert len(tab.pushes("pub")) == 1
        # Whether it may come back, rights say.
        assert (await tab.ask("subscribe", channel="news"))["error"]["code"] == 103
    assert bob.pushes("pub") == []


async def test_the_application_sends_to_a_user_and_ends_their_connections(house: House) -> None:
    tabs, bob = [await house.enter() for _ in range(2)], await house.enter("bob")
    assert house.app.send("ada", {"hello": 1}) == 2
    await house.room.turn()
    assert [tab.pushes("message")[0]["message"]["data"] for tab in tabs] == [{"hello": 1}] * 2
    assert house.app.disconnect("ada") == 2
    assert [tab.closed for tab in tabs] == [DisconnectCode.FORCE_DISCONNECT] * 2
    assert bob.closed is None
    for tab in tabs:
        tab.transport.finish()
    await house.room.turn()
    assert house.app.disconnect("ada") == 0


async def test_a_refresh_never_lets_a_connection_last_longer(house: House) -> None:
    ada = await house.enter(lives=100)
    assert house.control.refresh("ada", seconds=500) == 1
    assert ada.transport.connection.expires_at == house.room.clock.monotonic() + 100
    house.control.refresh("ada", seconds=10)
    await house.room.turn()
    assert ada.pushes("refresh")[-1]["refresh"] == {"expires": True, "ttl": 10}
    assert ada.transport.connection.expires_at == house.room.clock.monotonic() + 12
    house.control.refresh("ada", expired=True)
    assert ada.closed == DisconnectCode.EXPIRED


async def test_what_there_is(house: House) -> None:
    tabs = [await house.enter() for _ in range(2)]
    await house.control.subscribe("ada", "news", client=tabs[0].transport.connection.id)
    assert house.control.channels() == {"news": 1}
    assert house.control.channels("room:*") == {}
    assert len(house.control.presence("news") or ()) == 1
    assert house.control.presence("plain") is None
    info = house.control.info()
    assert (info.clients, info.users, info.channels, info.subscriptions) == (2, 1, 1, 1)
    with pytest.raises(UnknownChannelError):
        house.control.presence("nowhere")


async def test_history_is_read_and_forgotten(house: House) -> None:
    first = await house.control.publish("news", b"1", tags=b'{"a":"b"}')
    await house.control.publish("news", b"2", skip_history=True)
    again = await house.control.publish("news", b"3", key="k")
    assert (await house.control.publish("news", b"3", key="k")).position == again.position
    found = await house.control.history("news")
    assert found is not None
    assert [(one.data, one.tags) for one in found.publications] == [(b"1", b'{"a":"b"}'), (b"3", None)]
    assert await house.control.history("news", since=type(first.position)(0, "another")) is None
    assert await house.control.history("plain") is None
    await house.control.remove_history("news")
    emptied = await house.control.history("news")
    assert emptied is not None
    assert (list(emptied.publications), emptied.top) == ([], again.position)


async def test_before_the_server_runs_there_is_nothing_to_do() -> None:
    app = Sockade()
    with pytest.raises(UsageError, match="does not run"):
        await app.publish("news", 1)
    with pytest.raises(UsageError, match="does not run"):
        app.subscription_token("ada", "news")


def test_a_procedure_is_declared_once_and_takes_two_arguments() -> None:
    app = Sockade()

    @app.rpc("one")
    async def one(connection: object, data: int) -> int:
        return data

    assert app.procedures["one"].takes is int
    for broken in (one, test_what_there_is):
        with pytest.raises(UsageError):
            app.rpc("one" if broken is one else "two")(broken)


async def test_a_user_s_connections_are_closed_that_have_not_said_who_they_are_yet(house: House) -> None:
    silent, connected = await house.enter(connect=False), await house.enter()
    assert house.control.info().clients == 1
    assert house.control.message("ada", 1) == 1
    assert house.control.disconnect("ada") == 2
    assert (silent.closed, connected.closed) == (DisconnectCode.FORCE_DISCONNECT,) * 2


@pytest.mark.parametrize("data", [0, False, "", []])
async def test_data_of_a_subscription_is_told_whatever_it_is(house: House, data: Any) -> None:
    ada = await house.enter()
    assert await house.control.subscribe("ada", "plain", data=data) == 1
    await house.room.turn()
    assert [one["subscribe"]["data"] for one in ada.pushes("subscribe")] == [data]


async def test_what_cannot_be_told_or_kept_is_refused_before_anything_is_done(house: House) -> None:
    ada = await house.enter()
    with pytest.raises(TypeError):
        await house.control.subscribe("ada", "plain", data=object())
    assert not ada.client.subscriptions
    for bad in ("a\ud800", 5, None, uuid.uuid4()):
        with pytest.raises(StorageError, match="an idempotency key are texts"):
            await house.control.publish("news", b"1", key=bad)  # type: ignore[arg-type]


async def test_what_a_procedure_does_to_its_connection_is_told_in_the_protocol_s_own_codes(house: House) -> None:
    ada = await house.enter()
    connection = ada.transport.connection
    connection.state.client = connection.state.silence = "the application's own"
    with pytest.raises(UsageError, match=r"use app\.publish"):
        connection.broadcast("everyone")
    assert "error" not in await ada.ask("rpc", method="sum", data={"a": 1, "b": 2})
    connection.close()
    assert ada.closed == DisconnectCode.FORCE_DISCONNECT
    ada.transport.finish()
    await house.room.turn()
    assert not house.node.clients


@pytest.mark.parametrize("name", ["room:cafe\u0301", "room:a\u200f", "room:\ud800"])
async def test_nothing_is_said_under_a_name_that_no_client_can_say(name: str, app: Sockade, room: Room) -> None:
    """It would be acknowledged and heard by nobody: whoever asks for that name asks for the one in NFC."""
    app.channel("room:{name}", history=History(5, 60))(type("Rooms", (), {}))
    house = House(app, room)
    await house.node.start()
    with pytest.raises(UnknownChannelError, match="no client could name it"):
        await app.publish(name, "heard?")
    await app.publish("room:caf\u00e9", "heard")
