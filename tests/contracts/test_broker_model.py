"""Random histories of publishes, reads, waits and restarts: each broker answers as a small model does."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sockade.brokers.memory import MemoryBroker
from sockade.brokers.routed import RoutedBroker
from sockade.brokers.sqlite import SqliteBroker
from sockade.clock import SteppedClock
from sockade.messaging.broker import (
    IDEMPOTENCY_SECONDS,
    LOOK_SECONDS,
    META_SECONDS,
    NO_LIMIT,
    Broker,
    Draft,
    Keep,
    Publication,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockade.messaging.broker import Position, Published

RUNS: Counter[str] = Counter()
"""Histories compared, by machine."""
CHANNELS = st.sampled_from(["a", "b"])
KEEPS = st.sampled_from([None, Keep(1, 60), Keep(3, 60), Keep(5, 10), Keep(100, 60), Keep(4, 2 * META_SECONDS)])
KEYS = st.sampled_from(["", "", "k1", "k2"])


class Model:
    """What a broker is: thirty lines that keep everything and forget on asking."""

    def __init__(self) -> None:
        self.logs: dict[str, list[tuple[int, str, float]]] = {}
        self.tops: dict[str, tuple[int, float]] = {}
        self.incarnations: dict[str, int] = {}
        self.keys: dict[tuple[str, str], tuple[int, float]] = {}
        self.delivered: list[tuple[str, int, str]] = []

    def top(self, channel: str, now: float) -> int:
        top, until = self.tops.get(channel, (0, float("-inf")))
        if until <= now:
            self.tops[channel], self.logs[channel], top = (0, now), [], 0
            self.incarnations[channel] = self.incarnations.get(channel, 0) + 1
        return top

    def restart(self, now: float) -> None:
        """Look at the streams in which nothing was published."""
        for channel, (top, until) in self.tops.items():
            if top == 0 and until > now:
                self.tops[channel] = (0, now + LOOK_SECONDS)

    def publish(self, channel: str, text: str, keep: Keep | None, key: str, now: float) -> int:
        offset, until = self.keys.get((channel, key), (0, 0.0))
        if key and until > now:
            return offset
        offset = self.top(channel, now) + 1 if keep else 0
        if keep:
            self.tops[channel] = (offset, max(self.tops[channel][1], now + keep.seconds + META_SECONDS))
            self.logs[channel] = [*self.logs.get(channel, []), (offset, text, now + keep.seconds)][-keep.size :]
        if key:
            self.keys[channel, key] = (offset, now + IDEMPOTENCY_SECONDS)
        self.delivered.append((channel, offset, text))
        return offset

    def history(self, channel: str, since: int | None, limit: int, now: float, *, reverse: bool) -> list[str]:
        if self.top(channel, now) == 0:
            self.tops[channel] = (0, now + LOOK_SECONDS)
        found = [(offset, text) for offset, text, end in self.logs.get(channel, []) if end > now]
        if reverse:
            found = [one for one in reversed(found) if since is None or one[0] < since]
        else:
            found = [one for one in found if since is None or one[0] > since]
        return [text for _, text in (found if limit == NO_LIMIT else found[:limit])]


def channel_of(delivery: tuple[str, int, str]) -> str:
    return delivery[0]


class AgainstModel(RuleBasedStateMachine):
    """The rules; what is compared is every answer, every delivery, and that epochs last as long as they must."""

    def __init__(self) -> None:
        super().__init__()
        RUNS[type(self).__name__] += 1
        # Whether the disk is one does not matter here, and its fsync would take most of the time.
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        self.loop = asyncio.new_event_loop()
        self.clock = SteppedClock()
        self.model = Model()
        self.delivered: list[tuple[str, int, str]] = []
        self.epochs: dict[tuple[str, int], str] = {}
        self.count = 0

    def make(self) -> Broker:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.broker = self.make()
        self.loop.run_until_complete(self.broker.start(self.deliver))

    def kept(self, channel: str, keep: Keep | None) -> Keep | None:
        return keep

    async def ask(self, drafts: list[tuple[str, Draft, Keep | None, str]]) -> list[Published]:
        promises = [self.broker.publish(*draft) for draft in drafts]
        return [await promise for promise in promises]

    def deliver(self, channel: str, publication: Publication, position: Position) -> None:
        self.delivered.append((channel, publication.offset, publication.data.decode()))

    @rule(asked=st.lists(st.tuples(CHANNELS, KEEPS, KEYS), min_size=1, max_size=4), times=st.sampled_from([1, 1, 40]))
    def publish(self, asked: list[tuple[str, Keep | None, str]], times: int) -> None:
        """Publish at once: what one commit takes, and lies together, is many publications of several channels."""
        now = self.clock.wall()
        numbered = [(*one, str(self.count + number)) for number, one in enumerate(asked * times)]
        self.count += len(numbered)
        drafts = [
            (channel, Draft(text.encode(), now), self.kept(channel, keep), key) for channel, keep, key, text in numbered
        ]
        published = self.loop.run_until_complete(self.ask(drafts))
        offsets = [self.model.publish(channel, text, keep, key, now) for channel, keep, key, text in numbered]
        assert [one.position.offset for one in published] == offsets
        # Between channels no order is promised.
        assert sorted(self.delivered, key=channel_of) == sorted(self.model.delivered, key=channel_of)
        for (channel, keep, _, _), one in zip(numbered, published, strict=True):
            if keep and not one.repeated:
                self.check_epoch(channel, one.position.epoch)

    @rule(
        channel=CHANNELS,
        since=st.none() | st.integers(0, 8) | st.integers(0, 400),
        limit=st.sampled_from([NO_LIMIT, 0, 1, 2, 50]),
        reverse=st.booleans(),
    )
    def read(self, channel: str, since: int | None, limit: int, *, reverse: bool) -> None:
        history = self.loop.run_until_complete(self.broker.history(channel, since=since, limit=limit, reverse=reverse))
        expected = self.model.history(channel, since, limit, self.clock.wall(), reverse=reverse)
        assert [one.data.decode() for one in history.publications] == expected
        assert history.top.offset == self.model.tops[channel][0]
        self.check_epoch(channel, history.top.epoch)

    def check_epoch(self, channel: str, epoch: str) -> None:
        """One incarnation has one epoch, and no other has it."""
        key = (channel, self.model.incarnations[channel])
        assert self.epochs.setdefault(key, epoch) == epoch
        assert len(set(self.epochs.values())) == len(self.epochs)

    @rule(channel=CHANNELS)
    def remove(self, channel: str) -> None:
        self.loop.run_until_complete(self.broker.remove_history(channel))
        self.model.logs[channel] = []

    @rule(seconds=st.sampled_from([1, 9, 61, LOOK_SECONDS, IDEMPOTENCY_SECONDS, META_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.clock.step(seconds)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.broker.close())
        self.loop.close()
        shutil.rmtree(self.folder)


class MemoryAgainstModel(AgainstModel):
    def make(self) -> Broker:
        return MemoryBroker(self.clock)


class RoutedAgainstModel(AgainstModel):
    """One channel on the disk and one in memory; each publish keeps as much as it says, the durable one durably."""

    def make(self) -> Broker:
        disk, memory = SqliteBroker(self.folder, self.clock), MemoryBroker(self.clock)
        return RoutedBroker(disk, memory, lambda name: name == "a")

    def kept(self, channel: str, keep: Keep | None) -> Keep | None:
        return replace(keep, durable=channel == "a") if keep is not None else None


class SqliteAgainstModel(AgainstModel):
    def make(self) -> Broker:
        return SqliteBroker(self.folder, self.clock)

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.broker.close())
        self.model.restart(self.clock.wall())
        self.begin()


# In the tests as many as take a few seconds. Ten thousand of each:
# SOCKADE_HISTORIES=10000 .venv/bin/pytest -s tests/contracts/test_broker_model.py
HISTORIES = int(os.environ.get("SOCKADE_HISTORIES", "0"))


def enough(quick: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=HISTORIES or quick, stateful_step_count=30, deadline=None, suppress_health_check=checks
    )


MemoryAgainstModel.TestCase.settings = enough(200)
SqliteAgainstModel.TestCase.settings = enough(60)
RoutedAgainstModel.TestCase.settings = enough(60)
TestMemoryAgainstModel = MemoryAgainstModel.TestCase
TestSqliteAgainstModel = SqliteAgainstModel.TestCase
TestRoutedAgainstModel = RoutedAgainstModel.TestCase


@pytest.fixture(autouse=True, scope="module")
def tell() -> Iterator[None]:
    """Say how many histories were compared."""
    RUNS.clear()
    yield
    print(", ".join(f"{name}: {count} histories" for name, count in RUNS.items()))
    assert HISTORIES == 0 or all(count >= HISTORIES for count in RUNS.values())
