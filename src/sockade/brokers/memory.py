"""Keeps channels in this process's memory, for as long as it lives."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from sockade.brokers.page import page
from sockade.errors import StorageError
from sockade.messaging.broker import (
    HISTORY_BYTES,
    IDEMPOTENCY_SECONDS,
    LOOK_SECONDS,
    META_SECONDS,
    NO_LIMIT,
    Draft,
    History,
    Keep,
    Position,
    Publication,
    Published,
    check_names,
)
from sockade.messaging.promise import Promise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockade.clock import Clock
    from sockade.messaging.broker import Deliver

CLOSED = "the broker is closed"
SWEEP_SECONDS = 1.0
SWEEPS = 60
"""Sweeps in which each stream is looked at once, so that none of them holds the loop for long."""


class Stream:
    """One channel's history: publications with the time at which each is over.

    Their offsets follow each other up to the top, so each has its place, and nothing here takes longer with more of
    them.
    """

    __slots__ = ("epoch", "kept", "start", "top", "until")

    def __init__(self, epoch: str, now: float) -> None:
        self.epoch = epoch
        self.top = 0
        self.kept: list[tuple[float, Publication]] = []
        self.start = 0
        """The place of the oldest that was not dropped; an eighth at most lies before it."""
        self.until = now
        """When all of it is forgotten, in monotonic seconds; its publications are over by POSIX time, as on a disk."""

    def append(self, publication: Publication, keep: Keep, now: float) -> None:
        """Add a publication, and drop what is over the size."""
        self.kept.append((publication.time + keep.seconds, publication))
        until = now + keep.seconds + META_SECONDS
        if until > self.until:
            self.until = until
        place = len(self.kept) - keep.size
        if place > self.start:
            self.drop_before(place)

    def drop_before(self, place: int) -> None:
        """Drop the oldest publications."""
        self.start = place
        # What is left moves up, so not each time.
        if 8 * place >= len(self.kept):
            del self.kept[:place]
            self.start = 0

    def drop_over(self, now: float) -> None:
        """Drop what is over and older than all that is not."""
        place = self.start
        while place < len(self.kept) and self.kept[place][0] <= now:
            place += 1
        if place > self.start:
            self.drop_before(place)

    def read(self, since: int | None, now: float, *, reverse: bool) -> Iterator[Publication]:
        """Yield what is not over after an offset, or with `reverse` before it."""
        size = len(self.kept)
        if reverse:
            end = size if since is None else min(size, size - 1 - self.top + since)
            places = range(end - 1, self.start - 1, -1)
        else:
            places = range(max(self.start, size - self.top + (since or 0)), size)
        for place in places:
            end_at, publication = self.kept[place]
            if end_at > now:
                yield publication


class MemoryBroker:
    """The broker of a single process whose history may be lost with it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deliver: Deliver = ignore
        self._streams: dict[str, Stream] = {}
        self._keys: OrderedDict[tuple[str, str], tuple[float, Position]] = OrderedDict()
        """Until when each is known, in monotonic seconds; the next to be over comes first."""
        self._timer: asyncio.TimerHandle | None = None
        self._unswept: list[str] = []
        self._portion = 0
        self._closed = False
        self.failure = ""
        """Memory does not fail."""

    async def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._sweep_later(asyncio.get_running_loop())

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def publish(self, channel: str, draft: Draft, keep: Keep | None, key: str = "") -> Promise[Published]:
        check_names(channel, key)
        self._check_open()
        return Promise(self._publish(channel, draft, keep, key))

    def _publish(self, channel: str, draft: Draft, keep: Keep | None, key: str) -> Published:
        now = self._clock.monotonic()
        if key and (before := self._recall(channel, key, now)) is not None:
            return Published(before, repeated=True)
        if keep is None:
            position = Position(0, "")
        else:
            stream = self._stream(channel, now)
            stream.top += 1
            position = Position(stream.top, stream.epoch)
        publication = Publication(position.offset, draft.data, draft.time, draft.info, draft.tags)
        if keep is not None:
            stream.append(publication, keep, now)
        if key:
            self._keys[channel, key] = (now + IDEMPOTENCY_SECONDS, position)
            self._keys.move_to_end((channel, key))  # it may have been there, and over
        self._deliver(channel, publication, position)
        return Published(position)

    async def history(
        self,
        channel: str,
        *,
        since: int | None = None,
        limit: int = NO_LIMIT,
        budget: int = HISTORY_BYTES,
        reverse: bool = False,
    ) -> History:
        self._check_open()
        time, now = self._clock.wall(), self._clock.monotonic()
        stream = self._stream(channel, now)
        if stream.top == 0:
            stream.until = now + LOOK_SECONDS
        stream.drop_over(time)
        found = page(stream.read(since, time, reverse=reverse), limit, budget)
        return History(found, Position(stream.top, stream.epoch))

    async def remove_history(self, channel: str) -> None:
        check_names(channel)
        self._check_open()
        stream = self._streams.get(channel)
        if stream is not None:
            stream.drop_before(len(stream.kept))

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(CLOSED)

    def _stream(self, channel: str, now: float) -> Stream:
        stream = self._streams.get(channel)
        if stream is None or stream.until <= now:
            stream = self._streams[channel] = Stream(self._clock.short_id(), now)
        return stream

    def _recall(self, channel: str, key: str, now: float) -> Position | None:
        until, position = self._keys.get((channel, key), (0.0, None))
        return position if until > now else None

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep_regularly, loop)

    def _sweep_regularly(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep_later(loop)
        self.sweep()

    def sweep(self) -> None:
        """Forget what is over: keys in the order they came, and what the next few streams keep."""
        time, now = self._clock.wall(), self._clock.monotonic()
        while self._keys:
            oldest = next(iter(self._keys))
            if self._keys[oldest][0] > now:
                break
            del self._keys[oldest]
        if not self._unswept:
            self._unswept = list(self._streams)
            self._portion = len(self._unswept) // SWEEPS + 1
        for name in self._unswept[-self._portion :]:
            stream = self._streams.get(name)
            if stream is None:
                continue
            stream.drop_over(time)
            if stream.until <= now:
                del self._streams[name]
        del self._unswept[-self._portion :]


def ignore(channel: str, publication: Publication, position: Position) -> None:
    """Deliver to nobody: before the start."""
