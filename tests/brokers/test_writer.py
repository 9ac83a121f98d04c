"""The writing thread's decisions, with a file that fails when told to."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from sockade.brokers import writer as module
from sockade.brokers.works import Begin
from sockade.brokers.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockade.brokers.stream_file import StreamFile
    from sockade.brokers.works import Work
    from sockade.errors import StorageError


class FakeFile:
    """Notes what is done to it; whatever is named in `failing` raises."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.failing: set[str] = set()
        self.purged = threading.Semaphore(0)
        self.wants_checkpoint = self.is_log_long = False
        self.connection = self

    def _do(self, name: str) -> None:
        self.steps.append(name)
        if name in self.failing:
            raise OSError(f"{name} failed")

    def commit(self, works: list[Work[Any]]) -> None:
        self._do("commit")

    def leave_epochs(self) -> None:
        self._do("leave")

    def mend(self) -> None:
        self._do("mend")

    def purge(self) -> None:
        self.purged.release()
        if "purge" in self.failing:
            self._do("purge")

    def checkpoint(self) -> None:
        self._do("checkpoint")

    def close(self) -> None:
        self._do("close")


class House:
    """A writer in its thread, and what it told."""

    def __init__(self) -> None:
        self.file = FakeFile()
        self.reading = threading.Lock()
        self.writer = Writer(cast("StreamFile", self.file), self.reading, self.done)
        self.told = threading.Semaphore(0)
        self.errors: list[str] = []
        self.thread = threading.Thread(target=self.writer.run)
        self.thread.start()

    def done(self, works: list[Work[Any]], error: StorageError | None) -> None:
        self.file.steps.append("answer")
        self.errors.append(str(error or ""))
        self.told.release()

    def write(self) -> str:
        self.writer.put([Begin("news")])
        assert self.told.acquire(timeout=20)
        return self.errors[-1]

    def wait_for(self, failure: str) -> None:
        deadline = time.monotonic() + 20
        while self.writer.failure != failure:
            assert time.monotonic() < deadline, self.writer.failure
            time.sleep(0.005)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(module, "MEND_SECONDS", 0.05)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    house = House()
    yield house
    house.writer.put(None)
    house.thread.join(20)
    assert house.file.steps[-2:] == ["leave", "close"]


def test_a_failed_commit_is_mended_before_anyone_is_answered(house: House) -> None:
    house.file.failing = {"commit"}
    assert house.write() == "OSError: commit failed"
    assert house.file.steps[:4] == ["commit", "checkpoint", "mend", "answer"]
    house.file.failing = set()
    assert house.write() == ""
    assert house.writer.failure == ""


def test_nothing_is_written_until_the_file_is_mended(house: House) -> None:
    house.file.failing = {"commit", "mend"}
    assert house.write() == "OSError: commit failed"
    assert house.writer.failure == "OSError: mend failed"
    house.file.failing = {"mend"}
    assert [house.write() for _ in range(3)] == ["OSError: mend failed"] * 3
    assert house.file.steps.count("commit") == 1
    house.file.failing = set()
    house.wait_for("")
    assert house.write() == ""


def test_a_failed_purge_is_mended_as_well(house: House) -> None:
    house.file.failing = {"purge", "mend"}
    assert house.write() == ""
    house.wait_for("OSError: mend failed")
    house.file.failing = set()
    house.wait_for("")


def test_what_is_over_is_forgotten_though_nobody_publishes(house: House) -> None:
    assert all(house.file.purged.acquire(timeout=20) for _ in range(3))


def test_a_log_that_cannot_be_copied_is_told_and_tried_again_while_writing_goes_on(house: House) -> None:
    house.file.failing, house.file.wants_checkpoint = {"checkpoint"}, True
    assert house.write() == ""
    house.wait_for("OSError: checkpoint failed")
    assert house.write() == ""
    house.file.failing, house.file.wants_checkpoint = set(), False
    house.wait_for("")


def test_the_log_is_not_copied_while_somebody_reads(house: House) -> None:
    house.file.wants_checkpoint = True
    with house.reading:
        assert [house.write() for _ in range(2)] == ["", ""]
        assert "checkpoint" not in house.file.steps
    house.write()
    house.write()
    assert "checkpoint" in house.file.steps
