"""What only the memory broker promises: what it takes to read and to forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sockade.brokers.memory import MemoryBroker, Stream
from sockade.clock import SteppedClock
from sockade.messaging.broker import Draft, Keep

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
    assert kept.touched < 20 * SIZE  # type: ignore[attr-defined]
    assert len(kept) <= 2 * SIZE + 1


async def test_what_was_dropped_holds_no_memory(house: House) -> None:
    await house.fill("news", 15, Keep(10, 60, durable=False))
    stream = house.stream("news")
    assert {one.data for _, one in stream.kept} == {b"", *(b"%d" % number for number in range(5, 15))}
