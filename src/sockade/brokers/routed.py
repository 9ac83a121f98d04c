"""Sends each channel to the broker that keeps it: durable ones to the disk, the others to memory.

A channel is always sent to the same one, so within a channel every promise is that broker's own. Between channels
there is none to keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.messaging.broker import HISTORY_BYTES, NO_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockade.messaging.broker import Broker, Deliver, Draft, History, Keep, Published
    from sockade.messaging.promise import Promise


class RoutedBroker:
    """Two brokers as one."""

    def __init__(self, disk: Broker, memory: Broker, is_durable: Callable[[str], bool]) -> None:
        """Take both, and what tells of a channel's name whether its `Keep.durable` is set; without a history, False."""
        self._disk = disk
        self._memory = memory
        self._is_durable = is_durable

    @property
    def failure(self) -> str:
        return self._disk.failure or self._memory.failure

    async def start(self, deliver: Deliver) -> None:
        await self._memory.start(deliver)
        await self._disk.start(deliver)

    async def close(self) -> None:
        await self._disk.close()
        await self._memory.close()

    def publish(self, channel: str, draft: Draft, keep: Keep | None, key: str = "") -> Promise[Published]:
        # A single publication that skips the history of a durable channel stays in line with the others.
        durable = keep.durable if keep is not None else self._is_durable(channel)
        return (self._disk if durable else self._memory).publish(channel, draft, keep, key)

    async def history(
        self,
        channel: str,
        *,
        since: int | None = None,
        limit: int = NO_LIMIT,
        budget: int = HISTORY_BYTES,
        reverse: bool = False,
    ) -> History:
        broker = self._of(channel)
        return await broker.history(channel, since=since, limit=limit, budget=budget, reverse=reverse)

    async def remove_history(self, channel: str) -> None:
        await self._of(channel).remove_history(channel)

    def _of(self, channel: str) -> Broker:
        return self._disk if self._is_durable(channel) else self._memory
