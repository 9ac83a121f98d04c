"""The channel protocol over a noted transport: every command, its answers, and what others hear of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from sockade.errors import StorageError, UsageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Identity
from sockade.guard.messages import SUBSCRIPTIONS
from sockade.messaging.application import Sockade
from sockade.messaging.broker import Draft, Keep, Position, Publication, Published
from sockade.messaging.channel_protocol import CONNECT_SECONDS
from sockade.messaging.connection import INBOX_MESSAGES
from sockade.messaging.promise import Promise
from sockade.messaging.publishing import UNANSWERED
from sockade.messaging.types import History
from sockade.protocol.reasons import Reason
from sockade.protocol.replies import DisconnectCode

from .house import House, Say

if TYPE_CHECKING:
    from .conftest import Room


@pytest.fixture
async def house(app: Sockade, room: Room) -> House:
    @app.channel("room:{name}", history=History(size=3, ttl=60), presence=True, join_leave=True)
    class Rooms:
        message = Say

        def may_subscribe(self, identity: Identity, name: str) -> bool:
            return name != "secret" or identity.role == "admin"

        def may_publish(self, identity: Identity, name: str) -> bool:
            return identity.user != "mute"

    @app.channel("ticker")
    class Ticker:
        pass

    house = House(app, room)
    await house.node.start()
    return house


async def test_connect_confirms_who_is_here(house: House) -> None:
    talk = await house.enter(connect=False)
    reply = (await talk.ask("connect", name="js"))["connect"]
    assert reply["client"] == talk.transport.connection.id
    assert (reply["ping"], reply["pong"]) == (25, True)
    assert "expires" not in reply


async def test_nothing_is_dispatched_before_connect_nor_connect_twice(house: House) -> None:
    early = await house.enter(connect=False)
    await early.send('{"id":1,"subscribe":{"channel":"room:a"}}')
    assert early.closed == DisconnectCode.BAD_REQUEST
    assert house.node.present("room:a") == {}
    twice = await house.enter()
    await twice.send('{"id":2,"connect":{}}')
    assert twice.closed == DisconnectCode.BAD_REQUEST


async def test_a_connection_that_says_nothing_is_stale(house: House) -> None:
    silent, prompt = await house.enter(connect=False), await house.enter()
    assert silent.client.silence is not None
    left = silent.client.silence.when() - asyncio.get_running_loop().time()
    assert 0 < left <= CONNECT_SECONDS
    for talk in (silent, prompt):
        talk.client.expect_connect()
    assert silent.closed == DisconnectCode.STALE
    assert prompt.closed is None


@pytest.mark.parametrize("bad", ["nonsense", "{", '{"id":1,"nothing":{}}', '{"id":9,"publish":{"channel":"a"}}'])
async def test_a_malformed_message_is_a_bad_request(house: House, bad: str) -> None:
    talk = await house.enter()
    await talk.send(bad)
    assert talk.closed == DisconnectCode.BAD_REQUEST


async def test_a_token_in_connect_must_name_the_same_user(house: House) -> None:
    until = house.room.clock.wall() + 100
    house.tokens = {
        "mine": Identity("ada", role="guest", expires_at=until),
        "other": Identity("eve", expires_at=until),
        "old": Refuse(Reason.TOKEN_EXPIRED),
    }
    mine = await house.enter(connect=False)
    reply = (await mine.ask("connect", token="mine"))["connect"]
    assert (reply["expires"], reply["ttl"]) == (True, 100)
    assert mine.transport.connection.identity.role == "guest"
    for token in ("other", "unknown"):
        talk = await house.enter(connect=False)
        await talk.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert talk.closed == DisconnectCode.INVALID_TOKEN
    old = await house.enter(connect=False)
    assert (await old.ask("connect", token="old"))["error"]["code"] == 109
    assert old.closed is None
    assert "connect" in await old.ask("connect", token="mine")


async def test_refresh_goes_on_and_an_expired_token_ends(house: House) -> None:
    house.tokens = {
        "new": Identity("ada", expires_at=house.room.clock.wall() + 300),
        "old": Refuse(Reason.TOKEN_EXPIRED),
    }
    talk = await house.enter()
    assert (await talk.ask("refresh", token="new"))["refresh"]["ttl"] == 300
    await talk.send('{"id":7,"refresh":{"token":"old"}}')
    assert talk.closed == DisconnectCode.EXPIRED


@pytest.mark.parametrize("method", ["connect", "refresh"])
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.BUSY, DisconnectCode.INTERNAL),
        (Reason.SERVER_FULL, DisconnectCode.TOO_MANY_REQUESTS),
        (Reason.TOKEN_INVALID, DisconnectCode.INVALID_TOKEN),
    ],
)
async def test_a_refused_token_is_final_only_where_another_attempt_would_meet_the_same(
    method: str, reason: Reason, code: DisconnectCode, house: House
) -> None:
    house.tokens = {"shown": Refuse(reason)}
    talk = await house.enter(connect=method == "refresh")
    await talk.send(f'{{"id":7,"{method}":{{"token":"shown"}}}}')
    assert talk.closed == code


async def test_an_sdk_has_a_moment_after_the_end_to_renew(house: House) -> None:
    """SDKs fetch the next token when the time they were told is over, so it comes when the old one has ended."""
    until = house.room.clock.wall() + 100
    house.tokens = {"mine": Identity("ada", expires_at=until), "new": Identity("ada", expires_at=until + 100)}
    late, away = [await house.enter(connect=False) for _ in range(2)]
    for talk in (late, away):
        assert (await talk.ask("connect", token="mine"))["connect"]["ttl"] == 100
    house.room.clock.step(101)
    for talk in (late, away):
        talk.transport.connection.check(house.room.clock.monotonic())
    assert "refresh" in await late.ask("refresh", token="new")
    house.room.clock.step(1)
    for talk in (late, away):
        talk.transport.connection.check(house.room.clock.monotonic())
    assert (late.closed, away.closed) == (None, DisconnectCode.EXPIRED)


async def test_a_publication_reaches_every_subscriber_with_who_said_it(house: House) -> None:
    ada, bob, away = [await house.enter(user) for user in ("ada", "bob", "carl")]
    for talk in (ada, bob):
        await talk.ask("subscribe", channel="room:a")
    assert await ada.ask("publish", channel="room:a", data={"text": "hi"}) == {"publish": {}}
    (push,) = bob.pushes("pub")
    assert push["channel"] == "room:a"
    assert (push["pub"]["data"], push["pub"]["offset"]) == ({"text": "hi"}, 1)
    assert push["pub"]["info"] == {"user": "ada", "client": ada.transport.connection.id}
    assert ada.pushes("pub") == [push]
    assert away.pushes("pub") == []


async def test_unknown_and_forbidden_channels_get_the_same_answer(house: House) -> None:
    """Case 70."""
    talk = await house.enter()
    methods = {"subscribe": {}, "publish": {"data": {"text": "x"}}, "history": {}, "presence": {}, "presence_stats": {}}
    for method, body in methods.items():
        answers = [await talk.ask(method, channel=name, **body) for name in ("room:secret", "nowhere", "room:a:b")]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0]["error"]["code"] == 103


async def test_publishing_is_granted_never_assumed(house: House) -> None:
    mute, ada = await house.enter("mute"), await house.enter()
    assert (await mute.ask("publish", channel="room:a", data={"text": "x"}))["error"]["code"] == 103
    assert (await ada.ask("publish", channel="ticker", data=1))["error"]["code"] == 103


@pytest.mark.parametrize("data", [1, {}, {"text": 1}, {"text": "x", "user": "eve"}])
async def test_data_of_another_type_is_a_bad_request(house: House, data: object) -> None:
    talk = await house.enter()
    assert (await talk.ask("publish", channel="room:a", data=data))["error"]["code"] == 107
    assert talk.closed is None


async def test_subscribing_twice_or_too_often_is_an_error(house: House) -> None:
    talk = await house.enter()
    await talk.ask("subscribe", channel="room:a")
    assert (await talk.ask("subscribe", channel="room:a"))["error"]["code"] == 105
    for number in range(SUBSCRIPTIONS - 1):
        house.room.clock.step(1)
        await talk.ask("subscribe", channel=f"room:{number}")
    house.room.clock.step(1)
    assert (await talk.ask("subscribe", channel="room:more"))["error"]["code"] == 106


async def test_what_was_missed_is_recovered_once_and_in_order(house: House) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    first = (await bob.ask("subscribe", channel="room:a"))["subscribe"]
    assert (first["recoverable"], first["positioned"], first.get("offset", 0)) == (True, True, 0)
    await bob.ask("unsubscribe", channel="room:a")
    for text in ("1", "2"):
        await ada.ask("publish", channel="room:a", data={"text": text})
    again = (await bob.ask("subscribe", channel="room:a", recover=True, epoch=first["epoch"]))["subscribe"]
    assert (again["recovered"], again["was_recovering"]) == (True, True)
    assert [one["data"]["text"] for one in again["publications"]] == ["1", "2"]
    await ada.ask("publish", channel="room:a", data={"text": "3"})
    assert [push["pub"]["offset"] for push in bob.pushes("pub")] == [3]


async def test_what_is_gone_is_admitted_and_nothing_partial_sent(house: House) -> None:
    ada = await house.enter()
    epoch = (await ada.ask("subscribe", channel="room:a"))["subscribe"]["epoch"]
    for text in "12345":
        await ada.ask("publish", channel="room:a", data={"text": text})
    bob = await house.enter("bob")
    for body in ({"epoch": epoch, "offset": 1}, {"epoch": "another", "offset": 4}, {"epoch": "", "offset": 4}):
        reply = (await bob.ask("subscribe", channel="room:a", recover=True, **body))["subscribe"]
        assert reply["was_recovering"] is True
        assert "recovered" not in reply
        assert "publications" not in reply
        assert reply["offset"] == 5
        await bob.ask("unsubscribe", channel="room:a")


async def test_what_comes_while_history_is_read_is_neither_lost_nor_doubled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    epoch = (await ada.ask("subscribe", channel="room:a"))["subscribe"]["epoch"]
    await ada.ask("publish", channel="room:a", data={"text": "1"})
    read = house.broker.history

    async def slow(channel: str, **options: Any) -> Any:
        await house.node.publish(found, b'{"text":"2"}')
        answer = await read(channel, **options)
        await house.node.publish(found, b'{"text":"3"}')
        return answer

    found = house.app.channels.find("room:a")
    assert found is not None
    monkeypatch.setattr(house.broker, "history", slow)
    reply = (await bob.ask("subscribe", channel="room:a", recover=True, epoch=epoch))["subscribe"]
    assert [one["data"]["text"] for one in reply["publications"]] == ["1", "2", "3"]
    assert bob.pushes("pub") == []
    await ada.ask("publish", channel="room:a", data={"text": "4"})
    assert [push["pub"]["data"]["text"] for push in bob.pushes("pub")] == ["4"]


async def test_a_delivery_that_fails_costs_no_answer_and_is_a_gap_for_who_missed_it(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    for talk in (ada, bob):
        await talk.ask("subscribe", channel="room:a")
    with monkeypatch.context() as broken:
        broken.setattr("sockade.messaging.node.to_pub", None)
        assert await ada.ask("publish", channel="room:a", data={"text": "1"}) == {"publish": {}}
    assert "could not be delivered" in caplog.text
    assert await ada.ask("publish", channel="room:a", data={"text": "2"}) == {"publish": {}}
    for talk in (ada, bob):
        assert [push["unsubscribe"]["code"] for push in talk.pushes("unsubscribe")] == [2500]


async def test_a_gap_is_insufficient_state_and_an_old_publication_nothing(house: House) -> None:
    talk = await house.enter()
    await talk.ask("subscribe", channel="room:a")
    await talk.ask("publish", channel="room:a", data={"text": "1"})
    epoch = (await house.broker.history("room:a")).top.epoch

    def deliver(offset: int, of: str = epoch) -> None:
        house.node.deliver("room:a", Publication(offset, b'{"text":"x"}', 0.0), Position(offset, of))

    deliver(1)
    await house.room.turn()
    assert len(talk.pushes("pub")) == 1
    deliver(3)
    await house.room.turn()
    (push,) = talk.pushes("unsubscribe")
    assert push["unsubscribe"]["code"] == 2500
    assert house.node.present("room:a") == {}
    # The SDK subscribes again by itself.
    assert "subscribe" in await talk.ask("subscribe", channel="room:a")
    deliver(2, "another")
    await house.room.turn()
    assert len(talk.pushes("unsubscribe")) == 2


async def test_presence_join_and_leave(house: House) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    await ada.ask("subscribe", channel="room:a")
    await bob.ask("subscribe", channel="room:a")
    who = bob.transport.connection.id
    assert (await ada.ask("presence", channel="room:a"))["presence"]["presence"][who] == {"user": "bob", "client": who}
    assert (await ada.ask("presence_stats", channel="room:a"))["presence_stats"] == {"num_clients": 2, "num_users": 2}
    assert [push["join"]["info"]["user"] for push in ada.pushes("join")] == ["bob"]
    bob.transport.finish()
    await house.room.turn()
    assert [push["leave"]["info"]["user"] for push in ada.pushes("leave")] == ["bob"]
    assert len((await ada.ask("presence", channel="room:a"))["presence"]["presence"]) == 1
    assert (await ada.ask("presence", channel="ticker"))["error"]["code"] == 108


async def test_who_is_gone_is_seen_no_more_though_a_command_of_theirs_takes_its_time(house: House) -> None:
    ada, bob = await house.enter(), await house.enter("bob")
    for talk in (ada, bob):
        await talk.ask("subscribe", channel="room:a")
    going_on = house.hold_reads()
    await ada.send('{"id":9,"history":{"channel":"room:a","limit":1}}')
    ada.transport.finish()
    await house.room.turn()
    assert [one["leave"]["info"]["user"] for one in bob.pushes("leave")] == ["ada"]
    assert (await bob.ask("presence_stats", channel="room:a"))["presence_stats"] == {"num_clients": 1, "num_users": 1}
    assert "ada" not in house.node.clients
    going_on.set()
    await house.room.turn()
    assert len(bob.pushes("leave")) == 1


async def test_history_is_read_in_pages(house: House) -> None:
    talk = await house.enter()
    for text in "abc":
        await talk.ask("publish", channel="room:a", data={"text": text})
    page = (await talk.ask("history", channel="room:a", limit=2))["history"]
    assert [one["data"]["text"] for one in page["publications"]] == ["a", "b"]
    assert page["offset"] == 3
    since = {"offset": 2, "epoch": page["epoch"]}
    rest = (await talk.ask("history", channel="room:a", limit=-1, since=since))["history"]
    assert [one["data"]["text"] for one in rest["publications"]] == ["c"]
    assert "publications" not in (await talk.ask("history", channel="room:a"))["history"]
    other = {"offset": 2, "epoch": "another"}
    assert (await talk.ask("history", channel="room:a", limit=1, since=other))["error"]["code"] == 112
    assert (await talk.ask("history", channel="ticker", limit=1))["error"]["code"] == 108


async def test_what_is_not_offered_says_so(house: House) -> None:
    talk = await house.enter()
    assert (await talk.ask("rpc", method="x"))["error"]["code"] == 104
    assert (await talk.ask("sub_refresh", channel="room:a", token="t"))["error"]["code"] == 103
    assert await talk.send('{"send":{"data":1}}') == []
    assert await talk.ask("ping") == {"ping": {}}


async def test_the_server_pings_and_an_empty_command_answers(house: House) -> None:
    talk, silent = await house.enter(), await house.enter("bob")
    house.room.step(26)
    await house.room.turn()
    assert talk.heard()[-1] == {}
    assert talk.transport.pings == 0
    await talk.send("{}")
    house.room.step(9)
    assert not talk.transport.aborted
    assert silent.transport.aborted


async def test_each_command_of_a_batch_counts(house: House) -> None:
    talk = await house.enter()
    batch = "\n".join(json.dumps({"id": number, "ping": {}}) for number in range(100, 140))
    found = await talk.send(batch)
    codes = [one.get("error", {}).get("code") for one in found]
    assert codes.count(111) > 5
    assert talk.closed == DisconnectCode.TOO_MANY_REQUESTS


@pytest.mark.parametrize("together", [True, False])
async def test_who_comes_back_subscribes_to_everything_at_once(house: House, *, together: bool) -> None:
    """With the default limits, in one message as in many, and may say as much as anyone else afterwards."""
    talk = await house.enter()
    wanted = [
        json.dumps({"id": number, "subscribe": {"channel": f"room:{number}"}}) for number in range(1, SUBSCRIPTIONS + 1)
    ]
    answers = await talk.send("\n".join(wanted)) if together else [(await talk.send(one))[0] for one in wanted]
    assert [one["id"] for one in answers if "subscribe" in one] == list(range(1, SUBSCRIPTIONS + 1))
    burst = house.room.hub.limits.message_burst
    said = [await talk.ask("publish", channel="room:1", data={"text": "hi"}) for _ in range(burst)]
    # The connect was a message too.
    assert ["publish" in one for one in said] == [True] * (burst - 1) + [False]


async def test_further_subscriptions_count_as_messages(house: House) -> None:
    """Who subscribes and unsubscribes again and again is too fast in the end, as with any other commands."""
    talk = await house.enter()
    refused: list[int] = []
    for number in range(1, 4 * SUBSCRIPTIONS):
        for method, channel in (("subscribe", f"room:{number}"), ("unsubscribe", f"room:{number}")):
            found = await talk.send(json.dumps({"id": number, method: {"channel": channel}}))
            refused += [one["id"] for one in found if one.get("error", {}).get("code") == 111]
        house.room.clock.step(0.1)
        if talk.closed is not None:
            break
    assert SUBSCRIPTIONS < refused[0] < 2 * SUBSCRIPTIONS
    assert talk.closed == DisconnectCode.TOO_MANY_REQUESTS


async def test_a_failing_broker_is_an_error_and_never_an_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = await house.enter()

    async def broken(*arguments: object, **options: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(house.broker, "publish", lambda *_: Promise(StorageError("disk full")))
    monkeypatch.setattr(house.broker, "history", broken)
    for method, body in (("publish", {"data": {"text": "x"}}), ("subscribe", {}), ("history", {"limit": 1})):
        answer = await talk.ask(method, channel="room:a", **body)
        assert answer["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    assert house.node.present("room:a") == {}
    assert talk.closed is None


async def test_what_a_client_publishes_beyond_what_may_wait_for_the_disk_waits_as_well(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = await house.enter()
    waiting: list[Promise[Published]] = []

    def slow(*_: object) -> Promise[Published]:
        waiting.append(Promise())
        return waiting[-1]

    monkeypatch.setattr(house.broker, "publish", slow)
    before = len(talk.heard())
    for number in range(UNANSWERED + 5):
        command = {"id": 1_000 + number, "publish": {"channel": "room:a", "data": {"text": "x"}}}
        talk.transport.connection.receive(json.dumps(command))
        house.room.clock.step(1)
    await house.room.turn()
    assert (len(waiting), len(talk.heard())) == (UNANSWERED, before)
    # Each answer makes room for one.
    for answered in range(5):
        waiting[answered].resolve(Published(Position(1 + answered, "e")))
        await house.room.turn()
        assert len(waiting) == UNANSWERED + 1 + answered
    assert [one["id"] for one in talk.heard()[before:]] == [1_000 + number for number in range(5)]


async def test_the_application_publishes_without_a_right(house: House) -> None:
    talk = await house.enter()
    await talk.ask("subscribe", channel="ticker")
    await house.app.publish("ticker", {"price": 1})
    await house.room.turn()
    (push,) = talk.pushes("pub")
    assert push == {"channel": "ticker", "pub": {"data": {"price": 1}, "time": push["pub"]["time"]}}
    with pytest.raises(UsageError):
        await house.app.publish("nowhere", 1)


async def test_a_right_that_is_taken_away_is_gone_at_once(house: House) -> None:
    talk = await house.enter("ada")
    talk.transport.connection.identity = Identity("ada", role="admin")
    assert "subscribe" in await talk.ask("subscribe", channel="room:secret")
    talk.transport.connection.identity = Identity("ada")
    assert (await talk.ask("history", channel="room:secret", limit=1))["error"]["code"] == 103


def test_declarations_are_checked() -> None:
    app = Sockade()
    for pattern in ("", "room:{name", "room:{na me}", "a:{x}:{x}"):
        with pytest.raises(UsageError):
            app.channel(pattern)(object())
    with pytest.raises(UsageError):
        History(size=0, ttl=1)


async def test_a_draft_keeps_its_time(house: House) -> None:
    await house.broker.publish("room:a", Draft(b"1", 5.0), Keep(1, 1e12))
    (found,) = (await house.broker.history("room:a")).publications
    assert found.time == 5.0


@pytest.mark.parametrize("text", ["a\u202eb", "a\\u202eb", "a\u0000b"])
async def test_a_text_that_may_not_pass_costs_its_own_command_alone(house: House, text: str) -> None:
    """Case 66."""
    talk, bob = await house.enter(), await house.enter("bob")
    await bob.ask("subscribe", channel="room:a")
    told = text if "\\" in text else json.dumps(text)[1:-1] if "\0" in text else text
    good = '{"id":8,"publish":{"channel":"room:a","data":{"text":"good"}}}'
    bad = f'{{"id":7,"publish":{{"channel":"room:a","data":{{"text":"{told}"}}}}}}'
    answers = {one.get("id"): one for one in await talk.send(f"{bad}\n{good}")}
    assert answers[7]["error"]["code"] == 107
    assert answers[8] == {"id": 8, "publish": {}}
    assert [one["pub"]["data"] for one in bob.pushes("pub")] == [{"text": "good"}]


async def test_text_is_published_in_one_normal_form(house: House) -> None:
    talk = await house.enter()
    await talk.ask("subscribe", channel="room:a")
    await talk.send('{"id":9,"publish":{"channel":"room:a","data":{"text":"e\\u0301 e\u0301"}}}')
    assert talk.pushes("pub")[0]["pub"]["data"] == {"text": "\u00e9 \u00e9"}


async def test_who_sends_too_fast_is_answered_and_closed_in_the_end(house: House) -> None:
    """Case 53."""
    talk = await house.enter()
    answers: list[dict[str, Any]] = []
    for number in range(100, 160):
        answers += await talk.send(f'{{"id":{number},"presence":{{"channel":"room:a"}}}}')
    codes = [one.get("error", {}).get("code") for one in answers]
    assert codes.count(111) >= 5
    assert talk.closed == DisconnectCode.TOO_MANY_REQUESTS


async def test_an_answer_to_a_ping_is_heard_while_a_command_takes_its_time_and_is_no_use_of_the_session(
    house: House,
) -> None:
    ada = await house.enter(session="s")
    house.hold_reads()
    await ada.send('{"id":9,"history":{"channel":"news","limit":1}}')
    house.room.step(26)
    seen = len(house.room.seen)
    await ada.send("{}")
    house.room.step(20)
    assert (ada.closed, ada.transport.aborted) == (None, False)
    assert len(house.room.seen) == seen


async def test_the_server_pings_while_commands_wait_and_waits_for_no_answer_meanwhile(house: House) -> None:
    """An SDK that hears nothing for its time and 10 s more cuts the connection, and loses the answers it waits for."""
    ada = await house.enter()
    going_on = house.hold_reads()
    for number in range(2, 2 + INBOX_MESSAGES + 1):
        await ada.send(f'{{"id":{number},"history":{{"channel":"room:a","limit":1}}}}')
    assert ada.transport.connection.reading_paused
    for pings in (1, 2):
        house.room.step(26)
        await house.room.turn()
        assert [one for one in ada.heard() if not one] == [{}] * pings
    assert (ada.closed, ada.transport.aborted) == (None, False)
    going_on.set()
    await house.room.turn()
    # The answers to both come now, and are no fault of the client.
    assert await ada.send("{}") == await ada.send("{}") == []
    assert ada.closed is None


async def test_who_does_not_take_the_answers_gets_no_more_of_them(house: House) -> None:
    ada = await house.enter()
    connection = ada.transport.connection
    connection.pause_writing()
    for number in range(17):
        house.room.clock.step(1)
        connection.receive(f'{{"id":{number + 100},"history":{{"channel":"room:a"}}}}')
    await house.room.turn()
    assert not ada.transport.reading
    assert not [one for one in ada.heard() if one.get("id", 0) >= 100]
    connection.resume_writing()
    await house.room.turn()
    assert ada.transport.reading
    assert [one["id"] for one in ada.heard() if one.get("id", 0) >= 100] == list(range(100, 117))


@pytest.mark.parametrize("end", ["closing", "lost", "drop"])
async def test_whoever_ends_before_they_took_the_answers_is_waited_for_no_longer(house: House, end: str) -> None:
    ada = await house.enter()
    connection = ada.transport.connection
    connection.pause_writing()
    await ada.send('{"id":9,"ping":{}}')
    {"closing": connection.closing, "lost": ada.transport.finish, "drop": lambda: connection.drop("slow")}[end]()
    if end != "lost":
        ada.transport.finish()
    await house.room.turn()
    assert connection.task is not None
    assert connection.task.done()


async def test_what_is_no_message_of_the_protocol_is_sent_to_no_client_of_it(house: House) -> None:
    ada = await house.enter()
    connection = ada.transport.connection
    for say in (connection.send, connection.broadcast):
        with pytest.raises(UsageError, match="clients of the channel protocol hear channels"):
            say("x")
