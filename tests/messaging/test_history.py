"""What one reply brings of a history, and of what was missed: bounded in bytes, and the rest can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sockade.brokers.memory import SWEEPS
from sockade.messaging.broker import LOOK_SECONDS, OVERHEAD_BYTES, Publication, weight
from sockade.messaging.node import DELIVERY_SECONDS, POSITION_CHECK_SECONDS, to_pub
from sockade.messaging.types import History

from .house import House

if TYPE_CHECKING:
    from sockade.messaging.application import Sockade
    from sockade.messaging.channels import Match

    from .conftest import Room

PUBLISHED = 30


@pytest.fixture
async def house(app: Sockade, room: Room) -> House:
    app.channel("news", history=History(1_000, 60))(object)
    app.channel("price", history=History(1_000, 60, latest_only=True))(object)
    house = House(app, room)
    await house.node.start()
    return house


def found(house: House, name: str) -> Match:
    match = house.app.channels.find(name)
    assert match is not None
    return match


def budget(house: House) -> int:
    return house.room.hub.limits.outbox_bytes // 2


async def fill(house: House, size: int, count: int = PUBLISHED, tags: bytes | None = None) -> str:
    """Publish texts that take so many bytes each, and return the epoch."""
    for _ in range(count):
        published = await house.node.publish(found(house, "news"), b'"%s"' % (b"x" * (size - 2)), tags=tags)
    return published.position.epoch


@pytest.mark.parametrize(("info", "tags"), [(None, None), (b'{"user":"ada"}', b'{"a":"b"}')])
@pytest.mark.parametrize("offset", [1, 2**63 - 1])
def test_a_publication_takes_no_more_in_a_reply_than_it_weighs(
    offset: int, info: bytes | None, tags: bytes | None
) -> None:
    publication = Publication(offset, b'"data"', 9_999_999_999.0, info, tags)
    text = msgspec.json.encode([to_pub(publication)] * 2)
    assert len(text) <= 2 * weight(publication)
    assert weight(publication) == OVERHEAD_BYTES + len(b'"data"') + len(info or b"") + len(tags or b"")


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_takes_half_an_outbox_at_most_and_the_next_goes_on(house: House, *, reverse: bool) -> None:
    epoch = await fill(house, budget(house) // 8)
    ada = await house.enter()
    offsets: list[int] = []
    since: dict[str, Any] = {}
    while True:
        before = len(b"".join(ada.transport.written))
        page = (await ada.ask("history", channel="news", limit=-1, reverse=reverse, **since))["history"]
        assert len(b"".join(ada.transport.written)) - before < budget(house) + 200
        some = [one["offset"] for one in page.get("publications", [])]
        if not some:
            break
        assert len(some) <= 7
        offsets += some
        since = {"since": {"offset": some[-1], "epoch": epoch}}
    assert offsets == sorted(range(1, PUBLISHED + 1), reverse=reverse)


async def test_a_publication_that_is_too_large_for_a_page_is_a_page(house: House) -> None:
    await fill(house, budget(house), 2)
    ada = await house.enter()
    for since in (0, 1):
        page = await ada.ask("history", channel="news", limit=10, since={"offset": since, "epoch": ""})
        assert [one["offset"] for one in page["history"]["publications"]] == [since + 1]


async def test_more_than_a_reply_holds_is_not_recovered_and_not_read(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = await fill(house, budget(house) // 8)
    read, brought = house.broker.history, []

    async def noted(channel: str, **options: Any) -> Any:
        answer = await read(channel, **options)
        brought.append(sum(map(weight, answer.publications)))
        return answer

    monkeypatch.setattr(house.broker, "history", noted)
    ada = await house.enter()
    reply = (await ada.ask("subscribe", channel="news", recover=True, epoch=epoch))["subscribe"]
    assert ("recovered" in reply, "publications" in reply, reply["offset"]) == (False, False, PUBLISHED)
    assert max(brought) <= budget(house)
    await ada.ask("unsubscribe", channel="news")
    few = {"epoch": epoch, "offset": PUBLISHED - 7}
    reply = (await ada.ask("subscribe", channel="news", recover=True, **few))["subscribe"]
    assert (reply["recovered"], len(reply["publications"])) == (True, 7)


async def test_who_hears_a_channel_in_which_nothing_is_said_for_long_hears_the_first_one(house: House) -> None:
    assert LOOK_SECONDS >= 3 * POSITION_CHECK_SECONDS
    ada = await house.enter()
    epoch = (await ada.ask("subscribe", channel="news"))["subscribe"]["epoch"]
    for _ in range(20):
        house.room.clock.step(POSITION_CHECK_SECONDS)
        await house.node.look_at_tops()
        house.room.clock.step(DELIVERY_SECONDS)
        house.node.sweep()
        for _ in range(SWEEPS):
            house.broker.sweep()
    assert await fill(house, 10, 1) == epoch
    await house.room.turn()
    assert [push["pub"]["offset"] for push in ada.pushes("pub")] == [1]
    assert ada.pushes("unsubscribe") == []


async def test_tags_count_in_what_is_recovered(house: House) -> None:
    epoch = await fill(house, 3, tags=b'{"a":"%s"}' % (b"x" * (budget(house) // 8)))
    ada = await house.enter()
    reply = (await ada.ask("subscribe", channel="news", recover=True, epoch=epoch))["subscribe"]
    assert "recovered" not in reply


@pytest.mark.parametrize(("held", "recovered"), [(1, True), (4, False)])
async def test_what_came_meanwhile_counts_in_what_is_recovered(
    house: House, monkeypatch: pytest.MonkeyPatch, held: int, *, recovered: bool
) -> None:
    epoch = await fill(house, budget(house) // 8, 5)
    read = house.broker.history

    async def slow(channel: str, **options: Any) -> Any:
        answer = await read(channel, **options)
        await fill(house, budget(house) // 8, held)
        return answer

    monkeypatch.setattr(house.broker, "history", slow)
    ada = await house.enter()
    reply = (await ada.ask("subscribe", channel="news", recover=True, epoch=epoch))["subscribe"]
    assert (reply.get("recovered", False), len(reply.get("publications", []))) == (recovered, 6 if recovered else 0)


async def test_the_latest_one_is_recovered_by_itself(house: House) -> None:
    for _ in range(3):
        await house.node.publish(found(house, "price"), b'"%s"' % (b"x" * (budget(house) // 2)))
    ada = await house.enter()
    reply = (await ada.ask("subscribe", channel="price", recover=True))["subscribe"]
    assert (reply["recovered"], [one["offset"] for one in reply["publications"]]) == (True, [3])


async def test_what_one_connect_recovers_of_all_channels_fits_a_reply(house: House, app: Sockade) -> None:
    for number in range(4):
        app.channel(f"mine{number}:{{user}}", history=History(100, 60), personal=True)(object)
    names = [f"mine{number}:ada" for number in range(4)]
    away = {}
    for name in names:
        away[name] = (await house.node.publish(found(house, name), b"0")).position
        for _ in range(3):
            await house.node.publish(found(house, name), b'"%s"' % (b"x" * (budget(house) // 8)))
    ada = await house.enter(connect=False)
    subs = {name: {"recover": True, "epoch": at.epoch, "offset": at.offset} for name, at in away.items()}
    recovered = (await ada.ask("connect", subs=subs))["connect"]["subs"]
    # Two have room for all they missed, the third has not, and of the fourth nothing is read.
    assert [len(recovered[name].get("publications", [])) for name in names] == [3, 3, 0, 0]
    assert [recovered[name].get("recovered", False) for name in names] == [True, True, False, False]
