"""What waits for a connection's callbacks, and the wake-up of the one task that takes it from there.

The reader is woken in place: `put` runs the waiting task's next step at once, in the task's own context, instead of
scheduling it for the loop's next turn. A callback that never waits therefore costs neither a task nor a turn of the
loop, and one that does wait runs in an ordinary task, where `asyncio.timeout` and task groups work. What makes this
possible is the protocol of futures behind `asyncio.isfuture`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue with exactly one reader, a task of `loop`.

    The reader takes from `items`, and awaits the inbox itself while there are none; `get` does both.
    """

    __slots__ = ("_asyncio_future_blocking", "_context", "_loop", "_wake", "items")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self.items: list[T] = []
        """Oldest first. Few wait, so that a list is both smaller and faster than what is made for many."""
        self._wake: Callable[[Inbox[T]], object] | None = None
        self._context: Context | None = None

    def put(self, item: T) -> None:
        """Add an item; a waiting reader runs before this returns, unless a task is running already."""
        self.items.append(item)
        wake = self._wake
        if wake is not None:
            if asyncio.current_task(self._loop) is None:
                self._wake = None
                self._context.run(wake, self)  # type: ignore[union-attr]
            else:
                self._wake_later()

    async def get(self) -> T:
        """Return the oldest item, waiting for one if there is none."""
        while not self.items:
            await self
        return self.items.pop(0)

    def _wake_later(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            self._loop.call_soon(wake, self, context=self._context)

    # The protocol of futures, as far as a task uses it.

    def __await__(self) -> Generator[Inbox[T], None, None]:
        self._asyncio_future_blocking = True
        return iter((self,))  # type: ignore[return-value]  # any iterator will do, and a tuple's is the cheapest

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, wake: Callable[[Inbox[T]], object], *, context: Context) -> None:
        self._wake, self._context = wake, context

    def result(self) -> None:
        return None

    def cancel(self, msg: Any | None = None) -> bool:
        # The task throws CancelledError into itself at its next step, when its waiter says it was not cancelled.
        self._wake_later()
        return False
