"""Every broker keeps the same promises."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from sockade.brokers.memory import MemoryBroker
from sockade.brokers.routed import RoutedBroker
from sockade.brokers.sqlite import SqliteBroker
from sockade.errors import StorageError
from sockade.messaging.broker import (
    IDEMPOTENCY_SECONDS,
    LOOK_SECONDS,
    META_SECONDS,
    OVERHEAD_BYTES,
    Broker,
    Draft,
    Keep,
    Position,
    Publication,
)
from sockade.messaging.recovery import NotRecovered, recover
from tests.contracts.clocks import SetClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEEP = Keep(size=3, seconds=60)


class Bench:
    """A broker, its clock, and what it delivered."""

    def __init__(self, broker: Broker, clock: SetClock) -> None:
        self.broker = broker
        self.clock = clock
        self.delivered: list[tuple[str, int, bytes]] = []

    def deliver(self, channel: str, publication: Publication, position: Position) -> None:
        assert publication.offset == position.offset
        self.delivered.append((channel, publication.offset, publication.data))

    async def publish(self, text: str, channel: str = "news", keep: Keep | None = KEEP, key: str = "") -> Position:
        return (await self.broker.publish(channel, Draft(text.encode(), self.clock.wall()), keep, key)).position

    async def texts(self, channel: str = "news", **options: int | bool) -> list[str]:
        history = await self.broker.history(channel, **options)  # type: ignore[arg-type]
        return [one.data.decode() for one in history.publications]


def make(kind: str, folder: Path, clock: SetClock) -> Broker:
    match kind:
        case "memory":
            return MemoryBroker(clock)
        case "sqlite":
            return SqliteBroker(folder, clock)
    # One channel of the suite is kept in memory, the rest on the disk.
    return RoutedBroker(SqliteBroker(folder, clock), MemoryBroker(clock), lambda name: name != "other")


@pytest.fixture(params=["memory", "sqlite", "routed"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    clock = SetClock()
    broker = make(request.param, tmp_path, clock)
    bench = Bench(broker, clock)
    await broker.start(bench.deliver)
    yield bench
    await broker.close()


async def test_offsets_count_from_1_and_are_delivered_in_order(bench: Bench) -> None:
    positions = [await bench.publish(text) for text in "abc"]
    assert [position.offset for position in positions] == [1, 2, 3]
    assert len({position.epoch for position in positions}) == 1
    assert positions[0].epoch
    assert bench.delivered == [("news", 1, b"a"), ("news", 2, b"b"), ("news", 3, b"c")]


async def test_what_is_published_at_once_keeps_its_order(bench: Bench) -> None:
    texts = [str(number) for number in range(100)]
    positions = await asyncio.gather(*(bench.publish(text) for text in texts))
    assert [position.offset for position in positions] == list(range(1, 101))
    assert bench.delivered == [("news", number + 1, text.encode()) for number, text in enumerate(texts)]


async def test_a_publication_is_delivered_before_its_publisher_is_answered(bench: Bench) -> None:
    await bench.publish("a")
    assert bench.delivered == [("news", 1, b"a")]


async def test_history_is_bounded_by_size(bench: Bench) -> None:
    for text in "abcde":
        await bench.publish(text)
    assert await bench.texts() == ["c", "d", "e"]


async def test_history_is_bounded_by_age(bench: Bench) -> None:
    await bench.publish("a")
    bench.clock.step(40)
    await bench.publish("b")
    bench.clock.step(30)
    assert await bench.texts() == ["b"]
    bench.clock.step(30)
    assert await bench.texts() == []


async def test_what_is_over_before_its_elders_is_no_whole_history(bench: Bench) -> None:
    """The clock is set back between two publications, and later the second one is over first."""
    first = await bench.publish("a")
    await bench.publish("b")
    bench.clock.step(-30)
    await bench.publish("c")
    bench.clock.step(20)
    await bench.publish("d")
    bench.clock.step(45)
    history = await bench.broker.history("news", since=first.offset)
    assert isinstance(recover(first, history, ()), NotRecovered)


async def test_offset_and_epoch_outlive_the_publications(bench: Bench) -> None:
    before = await bench.publish("a")
    bench.clock.step(KEEP.seconds + META_SECONDS - 1)
    assert (await bench.broker.history("news")).top == before
    assert await bench.publish("b") == Position(2, before.epoch)
    bench.clock.step(KEEP.seconds + META_SECONDS)
    after = (await bench.broker.history("news")).top
    assert after.offset == 0
    assert after.epoch != before.epoch


async def test_a_history_longer_than_that_is_whole_after_it(bench: Bench) -> None:
    long = Keep(size=3, seconds=3 * META_SECONDS)
    positions = [await bench.publish("a", keep=long), await bench.publish("b", keep=KEEP)]
    bench.clock.step(2 * META_SECONDS)
    assert await bench.texts() == ["a"]
    assert (await bench.broker.history("news")).top == positions[-1]
    assert await bench.publish("c") == Position(3, positions[0].epoch)


async def test_history_since_limit_and_reverse(bench: Bench) -> None:
    for text in "abc":
        await bench.publish(text)
    assert await bench.texts(since=1) == ["b", "c"]
    assert await bench.texts(since=1, limit=1) == ["b"]
    assert await bench.texts(limit=2) == ["a", "b"]
    assert await bench.texts(limit=2, reverse=True) == ["c", "b"]
    assert await bench.texts(since=3, reverse=True) == ["b", "a"]
    assert await bench.texts(limit=0) == []
    for beyond in (9, 2**63 - 1, 2**80):
        assert await bench.texts(since=beyond) == []
        assert await bench.texts(since=beyond, limit=2, reverse=True) == ["c", "b"]
    assert (await bench.broker.history("news", limit=0)).top.offset == 3


async def test_history_brings_so_many_bytes(bench: Bench) -> None:
    for size in (100, 200, 300):
        draft = Draft(b"x" * (size - 50), bench.clock.wall(), b"i" * 20, b"t" * 30)
        await bench.broker.publish("news", draft, KEEP)
    weights = [OVERHEAD_BYTES + size for size in (100, 200, 300)]
    for budget, expected in [
        (sum(weights), [1, 2, 3]),
        (sum(weights) - 1, [1, 2]),
        (weights[0] + weights[1], [1, 2]),
        (weights[0] + weights[1] - 1, [1]),
        (0, [1]),
    ]:
        found = (await bench.broker.history("news", budget=budget)).publications
        assert [one.offset for one in found] == expected, budget
    history = await bench.broker.history("news", since=3, budget=0, reverse=True)
    assert ([one.offset for one in history.publications], history.top.offset) == ([2], 3)
    assert await bench.texts(limit=0, budget=0) == []


async def test_a_stream_begins_with_the_first_look_at_it(bench: Bench) -> None:
    seen = (await bench.broker.history("news")).top
    assert seen.offset == 0
    assert await bench.publish("a") == Position(1, seen.epoch)
    assert (await bench.broker.history("other")).top.epoch != seen.epoch


async def test_a_stream_without_publications_lasts_as_long_as_it_is_looked_at(bench: Bench) -> None:
    for _ in range(100):
        seen = (await bench.broker.history("news")).top
        bench.clock.step(LOOK_SECONDS - 1)
    assert (await bench.broker.history("news", limit=0)).top == seen
    bench.clock.step(LOOK_SECONDS - 1)
    assert await bench.publish("a") == Position(1, seen.epoch)
    bench.clock.step(10 * LOOK_SECONDS)
    assert await bench.publish("b") == Position(2, seen.epoch)
    other = (await bench.broker.history("other")).top
    bench.clock.step(LOOK_SECONDS)
    assert (await bench.broker.history("other")).top.epoch != other.epoch


async def test_a_first_look_beside_first_publications_misses_none_of_them(bench: Bench) -> None:
    for number in range(20):
        name = f"room {number}"
        publishing = [bench.broker.publish(name, Draft(b"x", bench.clock.wall()), KEEP) for _ in range(2)]
        history = await bench.broker.history(name, since=0)
        assert [one.offset for one in history.publications] == list(range(1, history.top.offset + 1))
        await asyncio.gather(*publishing)


async def test_removed_history_keeps_its_position(bench: Bench) -> None:
    position = await bench.publish("a")
    await bench.broker.remove_history("news")
    await bench.broker.remove_history("never seen")
    assert await bench.texts() == []
    assert (await bench.broker.history("news")).top == position
    assert await bench.publish("b") == Position(2, position.epoch)


async def test_a_channel_without_history_has_no_position(bench: Bench) -> None:
    assert await bench.publish("a", keep=None) == Position(0, "")
    assert bench.delivered == [("news", 0, b"a")]
    assert await bench.texts() == []


@pytest.mark.parametrize("keep", [KEEP, None])
async def test_the_same_key_twice_is_one_delivery_and_the_same_answer(bench: Bench, keep: Keep | None) -> None:
    """Case 69."""
    first = await bench.publish("a", keep=keep, key="k")
    await bench.publish("b", keep=keep)
    again = await bench.broker.publish("news", Draft(b"a", bench.clock.wall()), keep, "k")
    assert (again.position, again.repeated) == (first, True)
    assert [data for _, _, data in bench.delivered] == [b"a", b"b"]
    # Another channel's key is another key, and a key is not remembered for ever.
    await bench.publish("a", "other", keep, key="k")
    bench.clock.step(IDEMPOTENCY_SECONDS + 1)
    await bench.publish("c", keep=keep, key="k")
    assert [data for _, _, data in bench.delivered] == [b"a", b"b", b"a", b"c"]


async def test_the_same_key_at_once_is_one_delivery(bench: Bench) -> None:
    positions = await asyncio.gather(*(bench.publish("a", key="k") for _ in range(20)))
    assert len(set(positions)) == 1
    assert len(bench.delivered) == 1


@pytest.mark.parametrize("keep", [KEEP, None])
@pytest.mark.parametrize("bad", ["\ud800", "a\udfffb", 5, 1.5, b"x", ("a",), None, uuid.UUID(int=1)])
async def test_what_is_no_text_fails_nobody_else(bench: Bench, keep: Keep | None, bad: Any) -> None:
    draft = Draft(b'"x"', bench.clock.wall())
    good = [bench.broker.publish("news", draft, keep)]
    for publish in (
        lambda: bench.broker.publish("news", draft, keep, bad),
        lambda: bench.broker.publish(bad, draft, keep),
    ):
        with pytest.raises(StorageError, match="UTF-8"):
            publish()
    with pytest.raises(StorageError, match="UTF-8"):
        await bench.broker.remove_history(bad)
    good.append(bench.broker.publish("news", draft, keep, "ключ"))
    assert [(await one).repeated for one in good] == [False, False]
    assert (len(bench.delivered), bench.broker.failure) == (2, "")


async def test_publications_carry_what_they_were_given(bench: Bench) -> None:
    draft = Draft(b'"x"', bench.clock.wall(), info=b'{"user":"ada"}', tags=b'{"a":"b"}')
    await bench.broker.publish("news", draft, KEEP)
    (found,) = (await bench.broker.history("news")).publications
    assert found == Publication(1, b'"x"', draft.time, b'{"user":"ada"}', b'{"a":"b"}')


@pytest.mark.parametrize("seconds", [3_600, -3_600, META_SECONDS, -META_SECONDS])
async def test_a_clock_that_is_set_makes_nothing_last_longer_or_less(bench: Bench, seconds: float) -> None:
    """Case 46. Only what is kept is over by the time of day, which its publisher and its readers go by."""
    seen = (await bench.broker.history("news")).top
    short = (await bench.broker.history("other")).top
    await bench.publish("plain", "plain", None, key="k")
    bench.clock.set_by = seconds
    assert (await bench.broker.history("news")).top == seen
    assert (await bench.publish("plain", "plain", None, key="k"), len(bench.delivered)) == (Position(0, ""), 1)
    bench.clock.step(LOOK_SECONDS - 1)
    assert await bench.publish("a", key="k") == Position(1, seen.epoch)
    bench.clock.step(IDEMPOTENCY_SECONDS - LOOK_SECONDS + 1)
    await bench.publish("plain", "plain", None, key="k")
    assert len(bench.delivered) == 3
    assert (await bench.broker.history("other")).top.epoch != short.epoch


async def test_no_epoch_of_a_stream_that_is_over_comes_back(bench: Bench) -> None:
    seen = (await bench.broker.history("news")).top
    assert await bench.publish("a") == Position(1, seen.epoch)
    bench.clock.set_by = 2 * META_SECONDS
    bench.clock.step(1)
    assert (await bench.broker.history("news")).top != Position(0, seen.epoch)
    assert (await bench.publish("b")) != Position(1, seen.epoch)


@pytest.mark.parametrize("keep", [KEEP, None])
async def test_a_closed_broker_acknowledges_nothing(bench: Bench, keep: Keep | None) -> None:
    await bench.broker.close()
    with pytest.raises(StorageError, match="closed"):
        await bench.publish("a", keep=keep)
    with pytest.raises(StorageError, match="closed"):
        await bench.broker.history("news")
    with pytest.raises(StorageError, match="closed"):
        await bench.broker.remove_history("news")
