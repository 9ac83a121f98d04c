"""What the writing side of the file keeps of streams, in the file and in memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from sockade.brokers import stream_file
from sockade.brokers.schema import open_file
from sockade.brokers.stream_file import CHECKPOINT_BYTES, PURGE_SECONDS, StreamFile
from sockade.brokers.works import Append, Begin
from sockade.messaging.broker import IDEMPOTENCY_SECONDS, LOOK_SECONDS, Draft, Keep, Position
from tests.contracts.clocks import SetClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEEP = Keep(100, 3_600)


class House:
    """A file, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock()
        self.connection = open_file(folder / "channels.db")
        self.file = StreamFile(self.connection, self.clock)

    def look(self, *channels: str) -> list[Position]:
        begins = [Begin(channel) for channel in channels]
        self.file.commit([*begins])
        return [begin.result for begin in begins]

    def publish(self, *channels: str, key: str = "") -> list[Position]:
        appends = [Append(channel, Draft(b"1", self.clock.wall()), KEEP, key) for channel in channels]
        self.file.commit([*appends])
        return [append.result.position for append in appends]

    def rows(self) -> list[str]:
        return [name for (name,) in self.connection.execute("SELECT channel FROM streams ORDER BY channel")]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.connection.close()


def test_a_look_at_a_name_writes_nothing_and_is_forgotten(house: House) -> None:
    changes, looks = house.connection.total_changes, CHECKPOINT_BYTES // 16_384 + 1
    for number in range(looks):
        house.look(str(number))
    assert (house.rows(), house.connection.total_changes, house.file.wants_checkpoint) == ([], changes, False)
    house.clock.step(max(LOOK_SECONDS, PURGE_SECONDS))
    house.look("last")
    house.file.purge()
    assert list(house.file._epochs) == ["last"]


def test_the_next_process_goes_on_with_the_epochs_that_were_told(house: House) -> None:
    house.look("forgotten")
    house.clock.step(LOOK_SECONDS)
    told = house.look("news", "quiet", "spoken")
    house.publish("spoken")
    house.file.leave_epochs()
    assert house.rows() == ["news", "quiet", "spoken"]

    house.clock.step(86_400)
    house.file = StreamFile(house.connection, house.clock)
    house.file.take_epochs()
    assert house.rows() == ["spoken"]
    assert house.look("news", "spoken") == [told[0], Position(1, told[2].epoch)]
    assert house.publish("news") == [Position(1, told[0].epoch)]
    house.clock.step(LOOK_SECONDS)
    assert house.look("quiet") != [told[1]]


def test_a_failed_commit_takes_no_epoch_back(house: House) -> None:
    (seen,) = house.look("news")
    house.connection.execute("ALTER TABLE streams RENAME TO elsewhere")
    with pytest.raises(sqlite3.Error):
        house.publish("news")
    house.connection.execute("ALTER TABLE elsewhere RENAME TO streams")
    assert house.publish("news") == [Position(1, seen.epoch)]


def test_the_writer_knows_some_streams_and_reads_the_others_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_file, "STREAMS", 10)
    names = [str(number) for number in range(8)]
    first = house.publish(*names)
    for number in range(100):
        house.publish(f"room {number}")
        assert len(house.file._streams) <= 10
    assert house.publish(*names) == [Position(2, position.epoch) for position in first]


@pytest.mark.parametrize("seconds", [86_400, -86_400])
def test_what_is_over_is_forgotten_whatever_the_clock_is_set_to(house: House, seconds: float) -> None:
    house.look("early")
    house.clock.step(LOOK_SECONDS - PURGE_SECONDS)
    house.look("late")
    house.clock.set_by = seconds
    house.clock.step(PURGE_SECONDS)
    house.file.purge()
    assert list(house.file._epochs) == ["late"]
    house.clock.step(LOOK_SECONDS)
    house.file.purge()
    assert not house.file._epochs


@pytest.mark.parametrize("seconds", [86_400, -86_400])
def test_keys_go_along_with_a_clock_that_is_set(house: House, seconds: float) -> None:
    (first,) = house.publish("news", key="k")
    house.clock.set_by = seconds
    house.clock.step(PURGE_SECONDS)
    house.file.purge()
    assert house.publish("news", key="k") == [first]
    house.file = StreamFile(house.connection, house.clock)  # the next process, by the right clock
    house.clock.step(IDEMPOTENCY_SECONDS - PURGE_SECONDS - 1)
    assert house.publish("news", key="k") == [first]
    house.clock.step(1)
    assert house.publish("news", key="k") == [Position(2, first.epoch)]


def test_looks_are_forgotten_though_nothing_can_be_purged(house: House) -> None:
    for number in range(3):
        house.file.look([Begin(f"{number} {other}") for other in range(100)])
        house.clock.step(max(LOOK_SECONDS, PURGE_SECONDS))
    house.file.look([Begin("last")])
    assert list(house.file._epochs) == ["last"]
