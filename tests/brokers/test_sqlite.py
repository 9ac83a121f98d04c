"""What only the SQLite broker promises: it survives its process, and a failing disk acknowledges nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from sockade.brokers.sqlite import FILE_NAME, SqliteBroker
from sockade.clock import SteppedClock
from sockade.errors import StartError, StorageError
from sockade.messaging.broker import Draft, Keep, Position, Publication

if TYPE_CHECKING:
    from pathlib import Path

KEEP = Keep(size=100, seconds=3_600)


def nobody(channel: str, publication: Publication, position: Position) -> None:
    """Hear nothing."""


async def opened(folder: Path, clock: SteppedClock | None = None) -> SqliteBroker:
    broker = SqliteBroker(folder, clock or SteppedClock())
    await broker.start(nobody)
    return broker


async def publish(broker: SqliteBroker, text: str, key: str = "") -> Position:
    return (await broker.publish("news", Draft(text.encode(), 1_800_000_000.0), KEEP, key)).position


async def test_history_position_and_keys_survive(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    position = await publish(first, "a", key="k")
    await first.close()
    second = await opened(tmp_path)
    history = await second.history("news")
    assert (history.top, [one.data for one in history.publications]) == (position, [b"a"])
    assert await publish(second, "a", key="k") == position
    assert await publish(second, "b") == Position(2, position.epoch)
    await second.close()


async def test_the_file_is_private_and_syncs_every_commit(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    # The thread's own connection is the one that counts.
    found = await broker.ask(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0])
    assert found == 2
    await broker.close()


async def test_a_full_disk_is_told_acknowledges_nothing_and_can_be_mended(tmp_path: Path) -> None:
    """Case 77."""
    broker = await opened(tmp_path)
    await publish(broker, "before")

    async def limit(pages: int) -> None:
        await broker.ask(lambda connection: connection.execute(f"PRAGMA max_page_count={pages}").fetchone())

    await limit(await broker.ask(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0]))
    with pytest.raises(StorageError, match="full"):
        await publish(broker, "x" * 100_000)
    assert "full" in broker.failure
    assert [one.data for one in (await broker.history("news")).publications] == [b"before"]
    await limit(1_000_000)
    assert (await publish(broker, "after")).offset == 2
    assert broker.failure == ""
    await broker.close()


async def test_a_failing_commit_fails_everyone_in_it_and_delivers_nothing(tmp_path: Path) -> None:
    delivered: list[bytes] = []
    broker = SqliteBroker(tmp_path, SteppedClock())
    await broker.start(lambda channel, publication, position: delivered.append(publication.data))
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("DROP TABLE publications")
    answers = await asyncio.gather(*(publish(broker, str(number)) for number in range(5)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {StorageError}
    assert delivered == []
    other.close()
    await broker.close()


async def test_a_closed_broker_says_so(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    await broker.close()
    await broker.close()
    with pytest.raises(StorageError):
        await publish(broker, "x")


async def test_what_waits_at_the_end_is_finished(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    waiting = [asyncio.ensure_future(publish(broker, str(number))) for number in range(50)]
    await asyncio.sleep(0)
    await broker.close()
    assert [position.offset for position in await asyncio.gather(*waiting)] == list(range(1, 51))


async def test_a_publisher_who_left_has_published_all_the_same(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    task = asyncio.ensure_future(publish(broker, "a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await publish(broker, "b")).offset == 2
    await broker.close()


async def test_a_file_that_cannot_be_used_is_a_sentence_at_the_start(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(StartError, match="cannot be opened"):
        await opened(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    newer = sqlite3.connect(tmp_path / FILE_NAME)
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(StartError, match="newer version"):
        await opened(tmp_path)
