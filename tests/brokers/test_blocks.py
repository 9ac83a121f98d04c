"""Publications that lie together in one row: how they are divided, and read from the middle."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from sockade.brokers import blocks
from sockade.brokers.blocks import BLOCK, BLOCK_BYTES, READ_STREAM, Kept, Question, divide, read
from sockade.brokers.sqlite import FILE_NAME, SqliteBroker
from sockade.brokers.stream_file import TRIM
from sockade.clock import SteppedClock
from sockade.messaging.broker import OVERHEAD_BYTES, Draft, Keep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sockade.messaging.broker import Published
    from sockade.messaging.promise import Promise

PUBLISHED = 150
SIZE = 30


def kept(*sizes: int) -> list[Kept]:
    return [(b"x" * size, 1.0, 61.0, None, None) for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "blocks"),
    [
        ([], []),
        ([1] * BLOCK, [BLOCK]),
        ([1] * (2 * BLOCK + 1), [BLOCK, BLOCK, 1]),
        ([BLOCK_BYTES // 2] * 3, [2, 1]),
        ([1, 3 * BLOCK_BYTES, 1], [1, 1, 1]),
    ],
)
def test_a_block_is_of_a_reasonable_size(sizes: list[int], blocks: list[int]) -> None:
    assert [len(block) for block in divide(kept(*sizes))] == blocks


class House:
    """A broker whose channel has 150 publications, put there at once; the even ones are over after a minute."""

    def __init__(self, folder: Path) -> None:
        self.clock = SteppedClock()
        self.path = folder / FILE_NAME
        self.broker = SqliteBroker(folder, self.clock)

    async def fill(self) -> None:
        await self.broker.start(lambda channel, publication, position: None)
        keeps = Keep(PUBLISHED, 3_600), Keep(PUBLISHED, 60)
        promises = [self.publish(str(number + 1), keeps[number % 2]) for number in range(PUBLISHED)]
        for promise in promises:
            await promise

    def publish(self, text: str, keep: Keep) -> Promise[Published]:
        return self.broker.publish("news", Draft(text.encode(), self.clock.wall(), b"{}", b"[]"), keep)

    async def offsets(self, **options: int) -> list[int]:
        """Return which ones a history has; each is what it was."""
        found = (await self.broker.history("news", **options)).publications  # type: ignore[arg-type]
        for one in found:
            assert (one.data, one.info, one.tags) == (str(one.offset).encode(), b"{}", b"[]")
        return [one.offset for one in found]

    def blocks(self) -> list[int]:
        """Return the last offset of each block in the file."""
        with closing(sqlite3.connect(self.path)) as connection:
            return [last for (last,) in connection.execute("SELECT last FROM blocks ORDER BY last")]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.fill()
    yield house
    await house.broker.close()


async def test_what_one_commit_takes_lies_together(house: House) -> None:
    assert house.blocks() == [64, 128, 150]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(1, 151)),
        ({"since": 60, "limit": 10}, range(61, 71)),
        ({"since": 64}, range(65, 151)),
        ({"since": 63, "limit": 1}, range(64, 65)),
        ({"since": 150}, range(0)),
        ({"reverse": True, "limit": 3}, range(150, 147, -1)),
        ({"reverse": True, "since": 70, "limit": 10}, range(69, 59, -1)),
        ({"reverse": True, "since": 1}, range(0)),
        ({"reverse": True, "since": 999}, range(150, 0, -1)),
    ],
)
async def test_a_block_is_read_from_its_middle(house: House, options: dict[str, int], expected: range) -> None:
    assert await house.offsets(**options) == list(expected)


async def test_no_more_blocks_are_read_than_are_brought(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counted(content: bytes, decode: Callable[[bytes], list[Kept]] = blocks._decode) -> list[Kept]:
        decoded.append(len(content))
        return decode(content)

    monkeypatch.setattr(blocks, "_decode", counted)
    for reverse, since, expected in [(False, 0, range(1, 11)), (True, 151, range(150, 140, -1))]:
        decoded.clear()
        budget = 10 * (OVERHEAD_BYTES + len(b"150{}[]"))
        assert await house.offsets(since=since, budget=budget, reverse=reverse) == list(expected)
        assert len(decoded) == 1


async def test_what_is_over_is_not_read_though_its_block_is_there(house: House) -> None:
    house.clock.step(61)
    assert await house.offsets(since=100, limit=10) == list(range(101, 121, 2))


async def test_what_is_over_the_size_is_not_read_and_goes_with_its_block(house: House) -> None:
    for number in (151, 152):
        await house.publish(str(number), Keep(SIZE, 3_600))
    assert await house.offsets() == list(range(153 - SIZE, 153))
    assert house.blocks() == [64, 128, 150, 151, 152]
    for number in range(153, 153 + TRIM):
        await house.publish(str(number), Keep(SIZE, 3_600))
    assert min(house.blocks()) > 128
    assert await house.offsets() == list(range(153 + TRIM - SIZE, 153 + TRIM))


def test_what_could_not_be_read_is_told_as_it_was(tmp_path: Path) -> None:
    """SQLite itself ends the transaction where the disk fails, and that it was over was told instead."""

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == READ_STREAM:
                super().execute("ROLLBACK")
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None, factory=Failing)
    with closing(connection), pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        read(connection, Question("news", None, -1, 1, reverse=False), 0.0)
