"""What only the memory broker promises: what it takes to read and to forget."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sockade.brokers import memory
from sockade.brokers.memory import MemoryBroker, Stream, ignore
from sockade.clock import SteppedClock
from sockade.messaging.broker import IDEMPOTENCY_SECONDS, LOOK_SECONDS, META_SECONDS, Draft, Keep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import SupportsIndex

SIZE = 5_000


class Counted(list[object]):
    """Counts how often something is looked up in it, or moved."""

    touched = 0

    def __getitem__(self, place: SupportsIndex | slice) -> object:
        self.touched += 1
        return super().__getitem__(place)

    def __delitem__(self, place: SupportsIndex | slice) -> None:
        self.touched += len(self)
        super().__delitem__(place)

    def __iter__(self) -> Iterator[object]:
        self.touched += len(self)
        return super().__iter__()

    def __reversed__(self) -> Iterator[object]:
        self.touched += len(self)
        return super().__reversed__()


class House:
    """A broker with channels in memory."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.broker = MemoryBroker(self.clock)

    async def fill(self, channel: str, count: int, keep: Keep) -> None:
        for number in range(count):
            await self.broker.publish(channel, Draft(b"%d" % number, self.clock.wall()), keep)

    def stream(self, channel: str) -> Stream:
        return self.broker._streams[channel]


@pytest.fixture
def house() -> House:
    return House()


async def test_reading_a_few_takes_no_longer_where_many_are_kept(house: House) -> None:
    await house.fill("news", SIZE, Keep(SIZE, 60, durable=False))
    kept = house.stream("news").kept = Counted(house.stream("news").kept)  # type: ignore[assignment]
    for since in (0, SIZE // 2, SIZE - 2):
        for reverse in (False, True):
            await house.broker.history("news", since=since, limit=2, reverse=reverse)
    await house.broker.history("news", limit=2)
    assert kept.touched < 50  # type: ignore[attr-defined]


async def test_dropping_one_by_one_takes_no_longer_where_many_are_kept(house: House) -> None:
    keep = Keep(SIZE, 60, durable=False)
    await house.fill("news", SIZE, keep)
    kept = house.stream("news").kept = Counted(house.stream("news").kept)  # type: ignore[assignment]
    await house.fill("news", 3 * SIZE, keep)
    assert kept.touched < 30 * SIZE  # type: ignore[attr-defined]


@pytest.mark.parametrize(("size", "most"), [(1, 1), (3, 3), (10, 11), (800, 914)])
async def test_what_was_dropped_holds_little_memory(house: House, size: int, most: int) -> None:
    for number in range(3 * size):
        await house.fill("news", 1, Keep(size, 60, durable=False))
        assert len(house.stream("news").kept) <= min(number + 1, most)


async def test_what_is_over_is_forgotten_though_nobody_publishes_or_reads(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SWEEP_SECONDS", 0.0)
    await house.broker.start(ignore)
    for number in range(100):
        await house.fill(str(number), 2, Keep(10, 5, durable=False))
    await house.broker.publish("plain", Draft(b"", house.clock.wall()), None, "key")
    house.clock.step(IDEMPOTENCY_SECONDS)
    async with asyncio.timeout(20):
        while house.broker._keys or any(house.stream(str(number)).kept for number in range(100)):
            await asyncio.sleep(0)
    house.clock.step(META_SECONDS + 5)
    async with asyncio.timeout(20):
        while house.broker._streams:
            await asyncio.sleep(0)
    await house.broker.close()


async def test_a_look_at_a_name_leaves_nothing_that_lasts(house: House) -> None:
    for number in range(100):
        await house.broker.history(str(number))
    house.clock.step(LOOK_SECONDS)
    await house.broker.history("99")
    for _ in range(memory.SWEEPS):
        house.broker.sweep()
    assert list(house.broker._streams) == ["99"]


async def test_what_lasts_is_not_swept_and_each_sweep_looks_at_a_few_streams(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Stream] = []
    drop_over = Stream.drop_over
    monkeypatch.setattr(Stream, "drop_over", lambda stream, now: (looked.append(stream), drop_over(stream, now)))
    for number in range(2 * memory.SWEEPS):
        await house.fill(str(number), 2, Keep(10, 5, durable=False))
    house.clock.step(1)
    for _ in range(memory.SWEEPS):
        before = len(looked)
        house.broker.sweep()
        assert len(looked) - before <= 3
    assert {id(one) for one in looked} == {id(one) for one in house.broker._streams.values()}
    assert all(len(one.kept) == 2 for one in looked)


async def test_a_key_that_is_used_again_keeps_no_other_from_being_forgotten(house: House) -> None:
    draft = Draft(b"", house.clock.wall())
    for key in ("again", "other"):
        await house.broker.publish("plain", draft, None, key)
    house.clock.step(IDEMPOTENCY_SECONDS)
    await house.broker.publish("plain", draft, None, "again")
    house.broker.sweep()
    assert list(house.broker._keys) == [("plain", "again")]
