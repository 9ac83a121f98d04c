"""Subscriptions beyond the plain one: by token, by the server, for the latest publication, and how they end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sockade.errors import RejectedError, StorageError, UsageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Grant, Identity, SessionId
from sockade.messaging.broker import Position, Publication
from sockade.messaging.node import HELD_PUBLICATIONS, POSITION_CHECK_SECONDS
from sockade.messaging.types import History
from sockade.protocol.reasons import Reason
from sockade.protocol.replies import DisconnectCode

from .house import House

if TYPE_CHECKING:
    from sockade.messaging.application import Sockade
    from sockade.messaging.connection import Connection

    from .conftest import Room


class Open:
    """A channel in which everyone may publish."""

    def may_publish(self, identity: Identity, **variables: str) -> bool:
        return True


class Closed(Open):
    """A channel for which a token is needed."""

    def may_subscribe(self, identity: Identity, **variables: str) -> bool:
        return False


class Guests(Open):
    """A channel for those whose role is guest."""

    def may_subscribe(self, identity: Identity, **variables: str) -> bool:
        return identity.role == "guest"


class Masked(Open):
    """A channel that everyone hears, and whose past and members guests alone see."""

    def may_see_presence(self, identity: Identity) -> bool:
        return identity.role == "guest"

    may_see_history = may_see_presence


class Vip(Open):
    """A channel with both hooks."""

    async def on_subscribe(self, connection: Connection, name: str) -> dict[str, str]:
        if name == "full":
            raise RejectedError("the room is full", 410)
        if name == "busy":
            raise RejectedError("not now", 111)
        return {"welcome": connection.identity.user}

    async def on_publish(self, connection: Connection, message: Any, name: str) -> Any:
        if message == "spam":
            raise RejectedError("no spam", 411)
        return {"said": message} if message == "hi" else None


class Card(msgspec.Struct):
    """A type that passes over fields that it does not have, in which there is one of the same kind."""

    text: str
    inner: Card | None = None


class Loose(Open):
    """A channel with such a type."""

    message = Card


class Pack(msgspec.Struct):
    """A type whose fields have defaults."""

    cards: list[Card]
    padding: str = "x" * 20


class Grown(Open):
    """A channel in which what is published may become longer than it was said."""

    message = Pack

    async def on_publish(self, connection: Connection, message: Pack) -> Any:
        return "x" * 70_000 if not message.cards else None


class Asked(Open):
    """A channel whose hooks take until they may go on, and whose right may be taken away meanwhile."""

    def __init__(self) -> None:
        self.open = True
        self.go_on = asyncio.Event()

    def may_subscribe(self, identity: Identity) -> bool:
        return self.open

    may_publish = may_subscribe

    async def on_subscribe(self, connection: Connection) -> None:
        await self.go_on.wait()

    async def on_publish(self, connection: Connection, message: Any) -> None:
        await self.go_on.wait()


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
async def house(app: Sockade, room: Room, asked: Asked) -> House:
    app.channel("closed:{name}", history=History(10, 60), presence=True, token=True)(Closed)
    app.channel("guests", history=History(10, 60), token=False)(Guests)
    app.channel("price", history=History(1, 60, durable=False, latest_only=True))(Open)
    app.channel("mine:{user}", history=History(5, 60), personal=True)(Open)
    app.channel("tabs", presence=True, join_leave="user")(Open)
    app.channel("vip:{name}")(Vip)
    app.channel("slow", messages_per_second=1, message_burst=2)(Open)
    app.channel("news", history=History(5, 60))(Open)
    app.channel("loose")(Loose)
    app.channel("grown")(Grown)
    app.channel("asked", presence=True, join_leave=True)(asked)
    app.channel("masked", history=History(5, 60), presence=True)(Masked)
    house = House(app, room)
    await house.node.start()
    return house


def grant(house: House, user: str, channel: str, seconds: float = 100, **more: Any) -> None:
    """Let the token "good" be one for a user and channel."""
    house.grants["good", user, channel] = Grant(user, channel, house.room.clock.wall() + seconds, **more)


async def test_a_token_for_a_channel_is_as_good_as_a_right(house: House) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    grant(house, "ada", "closed:a", info=b'{"seat":1}')
    assert (await ada.ask("subscribe", channel="closed:a"))["error"]["code"] == 103
    assert (await bob.ask("subscribe", channel="closed:a", token="good"))["error"]["code"] == 103
    reply = (await ada.ask("subscribe", channel="closed:a", token="good"))["subscribe"]
    assert (reply["expires"], reply["ttl"]) == (True, 100)
    # While it lasts, it is good for the rest too.
    assert await ada.ask("publish", channel="closed:a", data=1) == {"publish": {}}
    (who,) = (await ada.ask("presence", channel="closed:a"))["presence"]["presence"].values()
    assert who["chan_info"] == {"seat": 1}
    assert (await bob.ask("publish", channel="closed:a", data=1))["error"]["code"] == 103


async def test_an_expired_token_for_a_channel_says_so_and_one_elsewhere_counts_for_nothing(house: House) -> None:
    ada = await house.enter()
    house.grants["good", "ada", "closed:a"] = Refuse(Reason.TOKEN_EXPIRED)
    grant(house, "ada", "guests")
    assert (await ada.ask("subscribe", channel="closed:a", token="good"))["error"]["code"] == 109
    assert (await ada.ask("subscribe", channel="guests", token="good"))["error"]["code"] == 103


async def test_a_subscription_ends_with_its_token_unless_it_is_renewed(house: House) -> None:
    ada = await house.enter()
    for channel in ("closed:a", "closed:b"):
        grant(house, "ada", channel, 50)
        await ada.ask("subscribe", channel=channel, token="good")
    grant(house, "ada", "closed:b", 500)
    assert (await ada.ask("sub_refresh", channel="closed:b", token="good"))["sub_refresh"]["ttl"] == 500
    # SDKs fetch the next token when the time they were told is over: they have a moment for it.
    house.room.clock.step(51)
    await house.sweep()
    await house.room.turn()
    assert not ada.pushes("unsubscribe")
    house.room.clock.step(1)
    await house.sweep()
    await house.room.turn()
    (push,) = ada.pushes("unsubscribe")
    assert (push["channel"], push["unsubscribe"]["code"]) == ("closed:a", 2501)
    assert (await ada.ask("publish", channel="closed:a", data=1))["error"]["code"] == 103
    assert await ada.ask("publish", channel="closed:b", data=1) == {"publish": {}}
    assert (await ada.ask("sub_refresh", channel="closed:a", token="good"))["error"]["code"] == 103
    house.grants["good", "ada", "closed:b"] = Refuse(Reason.TOKEN_EXPIRED)
    assert (await ada.ask("sub_refresh", channel="closed:b", token="good"))["error"]["code"] == 109


async def test_rights_that_are_taken_away_end_subscriptions_at_once(house: House) -> None:
    """Case 40, Case 71."""
    guest = await house.enter(role="guest")
    await guest.ask("subscribe", channel="guests")
    await guest.ask("subscribe", channel="news")
    house.renew(guest, role="user")
    await house.room.turn()
    (push,) = guest.pushes("unsubscribe")
    assert (push["channel"], push["unsubscribe"]["code"]) == ("guests", 2000)
    other = await house.enter("bob", role="guest")
    await other.ask("publish", channel="guests", data=1)
    await other.ask("publish", channel="news", data=2)
    assert [one["channel"] for one in guest.pushes("pub")] == ["news"]


async def test_rights_that_cannot_be_told_after_a_renewal_close_that_connection_alone(house: House) -> None:
    """Whoever was heard with the rights of before would be heard with rights that may be gone."""
    ada, bob = await house.enter(session="s"), await house.enter(session="s")
    asked: list[str] = []

    class Fickle:
        def may_subscribe(self, identity: Identity) -> bool:
            asked.append(identity.role)
            if asked == ["guest"]:
                raise RuntimeError("the application's own database is away")
            return True

    house.app.channel("fickle")(Fickle)
    await ada.ask("subscribe", channel="fickle")
    await bob.ask("subscribe", channel="fickle")
    asked.clear()
    house.room.hub.renew_session(Identity("ada", role="guest", session=SessionId("s")), 300)
    await house.room.turn()
    assert asked == ["guest", "guest"]
    assert {ada.closed, bob.closed} == {None, DisconnectCode.INTERNAL}
    assert [str(error) for error in house.room.errors] == ["the application's own database is away"]


async def test_what_a_renewed_token_does_not_name_is_heard_no_more(house: House) -> None:
    """Case 40."""
    ada = await house.enter(channels=("guests", "closed:a", "news", "mine:ada"))
    await house.control.subscribe("ada", "closed:b")
    house.renew(ada, channels=("closed:a",))
    await house.room.turn()
    found = [(push["channel"], push["unsubscribe"]["code"]) for push in ada.pushes("unsubscribe")]
    assert (found, set(ada.client.subscriptions)) == ([("guests", 2000)], {"closed:a", "closed:b", "news", "mine:ada"})


async def test_what_is_renewed_while_the_server_subscribes_counts(house: House) -> None:
    ada = await house.enter(connect=False, channels=("guests", "news"))
    going_on = house.hold_reads()
    await ada.send('{"id":1,"connect":{}}')
    house.renew(ada, channels=("news",))
    going_on.set()
    for _ in range(3):
        await house.room.turn()
    (reply,) = [one["connect"] for one in ada.heard() if one.get("id") == 1]
    assert set(reply["subs"]) == set(ada.client.subscriptions) == {"mine:ada", "news"}
    assert "guests" not in house.node.members


async def test_recovery_and_history_ask_for_the_rights_of_now(house: House) -> None:
    """Case 47."""
    guest = await house.enter(role="guest")
    first = (await guest.ask("subscribe", channel="guests"))["subscribe"]
    await guest.ask("unsubscribe", channel="guests")
    house.renew(guest, role="user")
    again = await guest.ask("subscribe", channel="guests", recover=True, epoch=first["epoch"])
    assert again["error"]["code"] == 103
    assert (await guest.ask("history", channel="guests", limit=10))["error"]["code"] == 103


async def test_a_personal_channel_is_heard_by_its_user_alone_and_without_asking(house: House) -> None:
    ada = await house.enter(connect=False)
    reply = (await ada.ask("connect"))["connect"]
    assert list(reply["subs"]) == ["mine:ada"]
    bob = await house.enter("bob")
    assert (await bob.ask("subscribe", channel="mine:ada"))["error"]["code"] == 103
    await house.app.publish("mine:ada", "psst")
    await house.room.turn()
    assert [one["pub"]["data"] for one in ada.pushes("pub")] == ["psst"]
    assert bob.pushes("pub") == []


async def test_a_user_called_like_another_channel_does_not_hear_it_by_that(app: Sockade, room: Room) -> None:
    app.channel("inbox:staff")(Guests)
    app.channel("inbox:{user}", personal=True)(Open)
    house = House(app, room)
    await house.node.start()
    stranger = await house.enter("staff", connect=False)
    assert "subs" not in (await stranger.ask("connect"))["connect"]
    await house.app.publish("inbox:staff", "among us")
    await house.room.turn()
    assert stranger.pushes("pub") == []
    ada = await house.enter("ada", connect=False)
    assert list((await ada.ask("connect"))["connect"]["subs"]) == ["inbox:ada"]


async def test_what_a_personal_channel_said_meanwhile_is_recovered_in_connect(house: House) -> None:
    ada = await house.enter(connect=False)
    at = (await ada.ask("connect"))["connect"]["subs"]["mine:ada"]
    ada.transport.finish()
    await house.room.turn()
    for text in "12":
        await house.app.publish("mine:ada", text)
    again = await house.enter(connect=False)
    wanted = {"mine:ada": {"recover": True, "epoch": at["epoch"], "offset": at.get("offset", 0)}, "news": {}}
    found = (await again.ask("connect", subs=wanted))["connect"]["subs"]
    assert list(found) == ["mine:ada"]
    assert found["mine:ada"]["recovered"] is True
    assert [one["data"] for one in found["mine:ada"]["publications"]] == ["1", "2"]


async def test_a_token_subscribes_its_user_to_the_channels_it_names(house: House) -> None:
    ada = await house.enter(connect=False, channels=("guests", "nowhere"))
    assert set((await ada.ask("connect"))["connect"]["subs"]) == {"mine:ada", "guests"}


async def test_the_latest_publication_alone_in_a_cached_channel(house: House) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    assert "recovered" not in (await bob.ask("subscribe", channel="price"))["subscribe"]
    await bob.ask("unsubscribe", channel="price")
    for price in (1, 2, 3):
        await ada.ask("publish", channel="price", data=price)
    newcomer = (await bob.ask("subscribe", channel="price"))["subscribe"]
    assert ("recovered" in newcomer, [one["data"] for one in newcomer["publications"]]) == (False, [3])
    await bob.ask("unsubscribe", channel="price")
    # By the server there is no reply, and it comes behind the push instead.
    eve = await house.enter("eve")
    await house.control.subscribe("eve", "price")
    await house.room.turn()
    assert [one["pub"]["data"] for one in eve.pushes("pub")] == [3]
    reply = (await bob.ask("subscribe", channel="price", recover=True))["subscribe"]
    assert (reply["recovered"], [one["data"] for one in reply["publications"]]) == (True, [3])
    # A gap costs nothing where only the latest counts.
    epoch = reply["epoch"]
    house.node.deliver("price", Publication(9, b"9", 0.0), Position(9, epoch))
    await house.room.turn()
    assert [one["pub"]["data"] for one in bob.pushes("pub")] == [9]
    assert bob.pushes("unsubscribe") == []


async def test_a_user_with_several_tabs_joins_and_leaves_once(house: House) -> None:
    ada = await house.enter()
    await ada.ask("subscribe", channel="tabs")
    tabs = [await house.enter("bob") for _ in range(2)]
    for tab in tabs:
        await tab.ask("subscribe", channel="tabs")
    assert [one["join"]["info"]["user"] for one in ada.pushes("join")] == ["bob"]
    tabs[0].transport.finish()
    await house.room.turn()
    assert ada.pushes("leave") == []
    tabs[1].transport.finish()
    await house.room.turn()
    assert [one["leave"]["info"]["user"] for one in ada.pushes("leave")] == ["bob"]


async def test_hooks_may_answer_change_and_refuse(house: House) -> None:
    ada = await house.enter()
    assert (await ada.ask("subscribe", channel="vip:a"))["subscribe"]["data"] == {"welcome": "ada"}
    full = await ada.ask("subscribe", channel="vip:full")
    assert full["error"] == {"code": 410, "message": "the room is full"}
    # SDKs try again after an error that is temporary, and after no other.
    busy = await ada.ask("subscribe", channel="vip:busy")
    assert busy["error"] == {"code": 111, "message": "not now", "temporary": True}
    for data in ("hi", "there"):
        await ada.ask("publish", channel="vip:a", data=data)
    assert [one["pub"]["data"] for one in ada.pushes("pub")] == [{"said": "hi"}, "there"]
    assert (await ada.ask("publish", channel="vip:a", data="spam"))["error"] == {"code": 411, "message": "no spam"}
    assert ada.closed is None


async def test_a_channel_has_an_allowance_for_each_user(house: House) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    answers = [await ada.ask("publish", channel="slow", data=1) for _ in range(3)]
    assert answers[2]["error"]["code"] == 111
    assert await bob.ask("publish", channel="slow", data=1) == {"publish": {}}
    house.room.clock.step(1)
    assert await ada.ask("publish", channel="slow", data=1) == {"publish": {}}


async def test_a_subscriber_below_the_top_of_its_stream_is_found(house: House) -> None:
    ada = await house.enter()
    await ada.ask("subscribe", channel="news")
    await ada.ask("publish", channel="news", data=1)
    (subscription,) = house.node.members["news"].subscriptions.values()

    async def look() -> int:
        """Let a look at the top be due, and the comparison a second later; return how many were told."""
        house.room.clock.step(POSITION_CHECK_SECONDS)
        await house.sweep()
        house.room.clock.step(1)
        await house.sweep()
        await house.room.turn()
        return len(ada.pushes("unsubscribe"))

    assert await look() == 0
    assert subscription.position is not None
    subscription.position = Position(0, subscription.position.epoch)  # as if one publication had been lost
    await house.sweep()
    await house.room.turn()
    assert ada.pushes("unsubscribe") == []
    assert await look() == 1
    assert ada.pushes("unsubscribe")[0]["unsubscribe"]["code"] == 2500


@pytest.mark.parametrize("how", ["gap", "below the top"])
async def test_who_missed_something_that_the_server_subscribed_them_to_connects_again(house: House, how: str) -> None:
    """SDKs never again hear what they did not ask for once they are told that it ended, whatever the code."""
    ada = await house.enter()
    await house.control.subscribe("ada", "news")
    name = "mine:ada" if how == "gap" else "news"
    epoch = (await house.broker.history(name)).top.epoch
    if how == "gap":
        house.node.deliver(name, Publication(2, b"2", 0.0), Position(2, epoch))
    else:
        await house.control.publish(name, b"1")
        house.node.members[name].subscriptions[ada.transport.connection].position = Position(0, epoch)
        house.room.clock.step(POSITION_CHECK_SECONDS)
        await house.sweep()
        house.room.clock.step(1)
        await house.sweep()
    await house.room.turn()
    assert (ada.closed, ada.pushes("unsubscribe")) == (DisconnectCode.INSUFFICIENT_STATE, [])
    ada.transport.finish()
    await house.room.turn()
    assert not house.node.members


async def test_what_is_on_its_way_when_the_top_is_looked_at_is_not_missed(house: House) -> None:
    ada = await house.enter()
    await ada.ask("subscribe", channel="news")
    match = house.app.channels.find("news")
    assert match is not None
    house.room.clock.step(POSITION_CHECK_SECONDS)
    delivered: list[Any] = []
    house.broker._deliver = lambda *what: delivered.append(what)
    await house.node.publish(match, b"1")
    await house.sweep()
    house.node.deliver(*delivered.pop())
    house.room.clock.step(1)
    await house.sweep()
    await house.room.turn()
    assert (len(ada.pushes("pub")), ada.pushes("unsubscribe")) == (1, [])


async def test_more_than_can_be_held_back_is_no_silent_loss(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await house.enter()
    read = house.broker.history

    async def slow(channel: str, **options: Any) -> Any:
        answer = await read(channel, **options)
        for offset in range(1, HELD_PUBLICATIONS + 2):
            house.node.deliver(channel, Publication(offset, b"1", 0.0), Position(offset, answer.top.epoch))
        return answer

    monkeypatch.setattr(house.broker, "history", slow)
    await ada.send('{"id":7,"subscribe":{"channel":"news"}}')
    assert ada.closed == DisconnectCode.INSUFFICIENT_STATE
    assert "news" not in house.node.members


async def test_more_than_half_an_outbox_is_not_recovered(house: House) -> None:
    big = "x" * (house.room.hub.limits.outbox_bytes // 8)
    for _ in range(5):
        await house.app.publish("news", big)
    ada = await house.enter()
    first = (await ada.ask("subscribe", channel="news"))["subscribe"]
    await ada.ask("unsubscribe", channel="news")
    reply = (await ada.ask("subscribe", channel="news", recover=True, epoch=first["epoch"]))["subscribe"]
    assert "recovered" not in reply
    assert reply["offset"] == 5


def test_a_personal_channel_names_its_user(app: Sockade) -> None:
    with pytest.raises(UsageError, match="needs the variable"):
        app.channel("mine:{name}", personal=True)(Open)


async def test_hearing_a_channel_is_not_seeing_who_is_there_or_what_was_said(house: House) -> None:
    ada, guest = await house.enter(), await house.enter("gil", role="guest")
    for method, body in (("presence", {}), ("presence_stats", {}), ("history", {"limit": 1})):
        assert (await ada.ask(method, channel="masked", **body))["error"]["code"] == 103, method
        assert method in await guest.ask(method, channel="masked", **body)
    assert "subscribe" in await ada.ask("subscribe", channel="masked")


# What happens while it is seen whether somebody may hear a channel.


async def test_the_server_and_a_client_that_subscribe_at_once_do_it_once(house: House) -> None:
    """Both held publications back, each in the place of the other, and what one of them held was lost."""
    ada, bob = await house.enter(), await house.enter("bob")
    await bob.ask("subscribe", channel="tabs")
    for channel in ("news", "tabs"):
        going_on = house.hold_reads()
        by_server = [asyncio.create_task(house.control.subscribe("ada", channel)) for _ in range(2)]
        await house.room.turn()
        await ada.send(f'{{"id":90,"subscribe":{{"channel":"{channel}"}}}}')
        await house.control.publish(channel, b"1")
        going_on.set()
        assert sorted(await asyncio.gather(*by_server)) == [0, 1]
        await house.room.turn()
        assert [one["error"]["code"] for one in ada.heard() if one.get("id") == 90][-1:] == [105]
        await house.control.publish(channel, b"2")
        await house.room.turn()
        heard = [one["pub"]["data"] for one in ada.pushes("pub") if one["channel"] == channel]
        offset = [one["subscribe"].get("offset", 0) for one in ada.pushes("subscribe") if one["channel"] == channel]
        assert (heard, len(offset)) == ([2] if offset == [1] else [1, 2], 1)
    ada.transport.finish()
    await house.room.turn()
    assert (len(bob.pushes("join")), len(bob.pushes("leave"))) == (1, 1)


async def test_a_client_that_leaves_while_the_server_subscribes_it_leaves_no_ghost(house: House) -> None:
    ada = await house.enter()
    going_on = house.hold_reads()
    by_server = asyncio.create_task(house.control.subscribe("ada", "news"))
    await house.room.turn()
    ada.transport.connection.closing()
    ada.transport.finish()
    await house.room.turn()
    going_on.set()
    assert await by_server == 0
    assert not house.node.members


async def test_a_right_that_is_lost_before_the_reply_is_none(house: House, asked: Asked) -> None:
    ada = await house.enter()
    await ada.send('{"id":9,"subscribe":{"channel":"asked"}}')
    asked.open = False
    asked.go_on.set()
    await house.room.turn()
    assert [one["error"]["code"] for one in ada.heard() if one.get("id") == 9] == [103]
    assert "asked" not in house.node.members


async def test_who_is_unsubscribed_before_the_reply_is_not_subscribed(house: House, asked: Asked) -> None:
    ada = await house.enter()
    await ada.send('{"id":9,"subscribe":{"channel":"asked"}}')
    assert house.control.unsubscribe("ada", "asked") == 1
    asked.go_on.set()
    await house.room.turn()
    assert [one["error"]["code"] for one in ada.heard() if one.get("id") == 9] == [103]
    assert "asked" not in house.node.members
    # It was that one time; the right is there still.
    assert "error" not in await ada.ask("subscribe", channel="asked")


async def test_who_is_unsubscribed_while_the_server_subscribes_them_is_not_subscribed(house: House) -> None:
    tabs = [await house.enter() for _ in range(2)]
    going_on = house.hold_reads()
    by_server = [asyncio.create_task(house.control.subscribe("ada", "news")) for _ in range(2)]
    await house.room.turn()
    assert house.control.unsubscribe("ada", "news") == 2
    assert house.control.unsubscribe("ada", "news") == 0
    going_on.set()
    assert await asyncio.gather(*by_server) == [0, 0]
    await house.control.publish("news", b"1")
    await house.room.turn()
    assert "news" not in house.node.members
    assert [tab.pushes("pub") for tab in tabs] == [[], []]


async def test_who_is_unsubscribed_while_they_connect_is_not_subscribed(house: House) -> None:
    ada = await house.enter(connect=False, channels=("news",))
    going_on = house.hold_reads()
    await ada.send('{"id":1,"connect":{}}')
    assert house.control.unsubscribe("ada", "news") == 1
    going_on.set()
    await house.room.turn()
    assert ["news" in one["connect"]["subs"] for one in ada.heard() if one.get("id") == 1] == [False]
    assert "news" not in house.node.members


@pytest.mark.parametrize("lost", ["right", "connection"])
async def test_what_the_application_was_asked_about_is_published_by_who_still_may(
    house: House, asked: Asked, lost: str
) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    asked.go_on.set()
    await bob.ask("subscribe", channel="asked")
    asked.go_on.clear()
    await ada.send('{"id":9,"publish":{"channel":"asked","data":1}}')
    if lost == "right":
        asked.open = False
    else:
        house.control.disconnect("ada")
    asked.go_on.set()
    await house.room.turn()
    assert not bob.pushes("pub")


async def test_what_is_in_no_history_is_no_gap_for_who_is_about_to_hear(house: House) -> None:
    ada = await house.enter()
    going_on = house.hold_reads()
    await ada.send('{"id":9,"subscribe":{"channel":"news"}}')
    await house.control.publish("news", b"1", skip_history=True)
    going_on.set()
    await house.room.turn()
    assert ada.closed is None
    assert [one["subscribe"].get("publications", []) for one in ada.heard() if one.get("id") == 9] == [[]]
    await house.control.publish("news", b"2")
    await house.room.turn()
    assert [one["pub"]["data"] for one in ada.pushes("pub")] == [2]


async def test_the_server_is_told_when_it_could_not_subscribe_a_client(house: House) -> None:
    await house.enter()
    going_on = house.hold_reads()
    by_server = asyncio.create_task(house.control.subscribe("ada", "news"))
    await house.room.turn()
    for _ in range(HELD_PUBLICATIONS + 1):
        await house.control.publish("news", b"1")
    going_on.set()
    with pytest.raises(StorageError, match="do not join"):
        await by_server
    assert "news" not in house.node.members


async def test_what_the_server_ended_does_not_count_against_what_a_client_may_hear(house: House) -> None:
    ada = await house.enter()
    grant(house, "ada", "closed:a")
    await ada.ask("subscribe", channel="closed:a", token="good")
    house.room.clock.step(103)
    await house.sweep()
    assert [one["unsubscribe"]["code"] for one in ada.pushes("unsubscribe")] == [2501]
    assert list(ada.client.subscriptions) == ["mine:ada"]


async def test_a_connection_that_is_over_is_not_kept_until_its_tokens_end(house: House) -> None:
    ada = await house.enter()
    grant(house, "ada", "closed:a")
    await ada.ask("subscribe", channel="closed:a", token="good")
    kept = weakref.ref(house.node.members["closed:a"].subscriptions[ada.transport.connection])
    ada.transport.finish()
    await house.room.turn()
    gc.collect()
    assert kept() is None


async def test_a_disk_that_hangs_holds_up_no_end_of_a_token(house: House) -> None:
    ada = await house.enter()
    grant(house, "ada", "closed:a")
    await ada.ask("subscribe", channel="closed:a", token="good")
    house.room.clock.step(POSITION_CHECK_SECONDS + 1)
    house.hold_reads()
    looking = asyncio.create_task(house.node.look_at_tops())
    house.room.clock.step(103)
    house.node.sweep()
    await house.room.turn()
    assert [one["unsubscribe"]["code"] for one in ada.pushes("unsubscribe")] == [2501]
    looking.cancel()


async def test_a_disk_that_hangs_holds_up_no_look_at_other_channels(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody looks at for long begins anew, and all who hear it with it."""
    monkeypatch.setattr("sockade.messaging.node.DELIVERY_SECONDS", 0.01)
    ada = await house.enter()
    await ada.ask("subscribe", channel="news")
    read, looked, hanging = house.broker.history, [], asyncio.Event()

    async def slow(channel: str, **options: Any) -> Any:
        looked.append(channel)
        if channel == "news":
            await hanging.wait()
        return await read(channel, **options)

    monkeypatch.setattr(house.broker, "history", slow)
    async with asyncio.timeout(20):
        for _ in range(3):
            house.room.clock.step(POSITION_CHECK_SECONDS)
            await house.node.look_at_tops()
        assert sorted(looked) == ["mine:ada"] * 3 + ["news"]
        hanging.set()
        house.room.clock.step(POSITION_CHECK_SECONDS)
        await house.node.look_at_tops()
        house.room.clock.step(POSITION_CHECK_SECONDS)
        await house.node.look_at_tops()
    assert looked.count("news") == 2


async def test_what_others_hear_has_no_field_that_the_type_has_not(house: House) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    await bob.ask("subscribe", channel="loose")
    card = {"text": "hi", "role": "admin", "inner": {"text": "ho", "from": "admin"}}
    assert await ada.ask("publish", channel="loose", data=card) == {"publish": {}}
    assert [one["pub"]["data"] for one in bob.pushes("pub")] == [{"text": "hi", "inner": {"text": "ho", "inner": None}}]


@pytest.mark.parametrize(
    ("channel", "data"),
    [
        ("news", "[" + ",".join(["1e15"] * 10_000) + "]"),
        ("grown", '{"cards":[' + ",".join(['{"text":""}'] * 5_000) + "]}"),
        ("grown", '{"cards":[]}'),
    ],
    ids=["numbers", "defaults", "hook"],
)
async def test_nobody_hears_more_than_a_message_may_hold(house: House, channel: str, data: str) -> None:
    """64 KiB became megabytes for each subscriber: more than an outbox takes."""
    ada, bob = await house.enter(), await house.enter("bob")
    await bob.ask("subscribe", channel=channel)
    assert len(data) < house.room.hub.limits.message_bytes
    found = await ada.send(f'{{"id":9,"publish":{{"channel":"{channel}","data":{data}}}}}')
    assert [one["error"]["code"] for one in found] == [106]
    assert bob.pushes("pub") == []


async def test_a_subscription_whose_token_is_revoked_ends(house: House) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    held = {"ada": True, "bob": True}
    grant(house, "ada", "closed:a", holds=lambda: held["ada"])
    grant(house, "bob", "closed:a", holds=lambda: held["bob"])
    for talk in (ada, bob):
        await talk.ask("subscribe", channel="closed:a", token="good")
    held["ada"] = False
    assert (await ada.ask("publish", channel="closed:a", data=1))["error"]["code"] == 103
    house.node.end_revoked()
    await house.room.turn()
    assert [one["unsubscribe"]["code"] for one in ada.pushes("unsubscribe")] == [2501]
    assert not bob.pushes("unsubscribe")


async def test_nobody_is_told_of_who_left_before_they_came(house: House, asked: Asked) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    asked.go_on.set()
    await bob.ask("subscribe", channel="asked")
    asked.go_on.clear()
    await ada.send('{"id":9,"subscribe":{"channel":"asked"}}')
    house.control.disconnect("ada")
    asked.go_on.set()
    await house.room.turn()
    ada.transport.finish()
    await house.room.turn()
    assert not [one for kind in ("join", "leave") for one in bob.pushes(kind) if one[kind]["info"]["user"] == "ada"]


async def test_nobody_is_told_of_who_left_while_they_connected(house: House, asked: Asked) -> None:
    bob = await house.enter("bob")
    asked.go_on.set()
    await bob.ask("subscribe", channel="asked")
    ada = await house.enter(connect=False, channels=("news", "asked"))
    going_on = house.hold_reads()
    await ada.send('{"id":1,"connect":{}}')
    ada.transport.connection.closing()
    ada.transport.finish()
    going_on.set()
    await house.room.turn()
    assert list(house.node.members) == ["mine:bob", "asked"]
    assert not [one for kind in ("join", "leave") for one in bob.pushes(kind) if one[kind]["info"]["user"] == "ada"]


async def test_the_application_is_not_asked_about_who_may_not_hear_a_channel(house: House, asked: Asked) -> None:
    ada = await house.enter()
    asked.open = False
    # Its hook would wait, and so would the answer.
    assert (await ada.ask("subscribe", channel="asked"))["error"]["code"] == 103
