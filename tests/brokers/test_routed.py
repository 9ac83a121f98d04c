"""Each channel lives where its declaration says, and nowhere else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sockade.brokers.memory import MemoryBroker
from sockade.brokers.routed import RoutedBroker
from sockade.brokers.sqlite import SqliteBroker
from sockade.clock import SteppedClock
from sockade.errors import StorageError
from sockade.messaging.broker import Draft, Keep, Position, Publication, Published

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sockade.messaging.promise import Promise

    Opened = Callable[[], RoutedBroker]

DISK, MEMORY = Keep(100, 3_600), Keep(100, 3_600, durable=False)
DRAFT = Draft(b"x", 1_800_000_000.0)


def make(folder: Path, clock: SteppedClock) -> RoutedBroker:
    return RoutedBroker(SqliteBroker(folder, clock), MemoryBroker(clock), lambda name: name == "kept")


@pytest.fixture
async def routed(tmp_path: Path) -> AsyncIterator[RoutedBroker]:
    broker = make(tmp_path, SteppedClock())
    await broker.start(lambda channel, publication, position: None)
    yield broker
    await broker.close()


async def test_only_what_is_durable_survives_a_restart(tmp_path: Path, routed: RoutedBroker) -> None:
    kept = (await routed.publish("kept", DRAFT, DISK)).position
    quick = (await routed.publish("quick", DRAFT, MEMORY)).position
    await routed.close()
    again = make(tmp_path, SteppedClock())
    await again.start(lambda channel, publication, position: None)
    assert (await again.history("kept")).top == kept
    assert (await again.history("quick")).top.offset == 0
    assert (await again.history("quick")).top.epoch != quick.epoch
    await again.close()


async def test_a_stream_looked_at_first_is_the_one_that_is_published_in(routed: RoutedBroker) -> None:
    for name, keep in (("kept", DISK), ("quick", MEMORY)):
        seen = (await routed.history(name)).top
        assert (await routed.publish(name, DRAFT, keep)).position == Position(1, seen.epoch)
        await routed.remove_history(name)
        assert (await routed.history(name)).publications == []


async def test_a_failing_disk_fails_its_channels_alone_and_is_told() -> None:
    class Full(MemoryBroker):
        def publish(self, channel: str, draft: Draft, keep: Keep | None, key: str = "") -> Promise[Published]:
            self.failure = "disk full"
            raise StorageError(self.failure)

    broker = RoutedBroker(Full(SteppedClock()), MemoryBroker(SteppedClock()), lambda name: name == "kept")
    await broker.start(lambda channel, publication, position: None)
    assert broker.failure == ""
    with pytest.raises(StorageError):
        await broker.publish("kept", DRAFT, DISK)
    assert broker.failure == "disk full"
    assert (await broker.publish("quick", DRAFT, MEMORY)).position.offset == 1
    await broker.close()


async def test_what_skips_the_history_of_a_durable_channel_stays_in_line(tmp_path: Path) -> None:
    heard: list[bytes] = []

    def hear(channel: str, publication: Publication, position: Position) -> None:
        heard.append(publication.data)

    broker = make(tmp_path, SteppedClock())
    await broker.start(hear)
    drafts = [(Draft(b"%d" % number, 0.0), keep) for number, keep in enumerate([DISK, None, DISK, None, None, DISK])]
    await asyncio.gather(*(broker.publish("kept", draft, keep) for draft, keep in drafts))
    assert heard == [b"0", b"1", b"2", b"3", b"4", b"5"]
    await broker.close()
