"""What waits for a connection's callbacks, and the steps of the one reader that takes it from there.

A message is heard where it comes in: `put` takes the reader's next step at once, as the reader's task and in its
context, instead of waking that task for the loop's next turn. A callback that never waits therefore costs neither a
task nor a turn of the loop. As soon as one does wait, what it waits for is handed to the task, an ordinary one, where
`asyncio.timeout` and task groups work. To be a task for the length of a step is what asyncio offers to tasks of other
makes (Python documentation, "Extending", task lifetime support).
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

T = TypeVar("T")

_IDLE: Final = object()
"""What a reader comes to that waits for the next item."""
_WAIT: Final = (_IDLE,)
"""Yields it once. Any iterator will do to wait with, and a tuple's is the cheapest."""

_enter_task, _leave_task = asyncio._enter_task, asyncio._leave_task  # noqa: SLF001 - documented, for this use


class Inbox(Generic[T]):
    """A queue with exactly one reader, whose steps are taken by `put`, or else by a task of `loop`.

    The reader takes from `items`, and awaits the inbox while there are none; `get` does both. For the task the inbox is
    both the coroutine that it runs and, while the reader is idle, the future that it waits for.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_context",
        "_loop",
        "_reader",
        "_send",
        "_step",
        "_task",
        "_wake",
        "items",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self.items: list[T] = []
        """Oldest first. Few wait, so that a list is both smaller and faster than what is made for many."""
        self._wake: Callable[[Inbox[T]], object] | None = None
        """Wakes the task; None while it is awake, or about to be."""
        self._step: Any = _IDLE
        """What a step taken by `put` came to and the task has yet to hear: a future, or the exception it ended with."""

    def read(self, reader: Coroutine[Any, None, None]) -> asyncio.Task[None]:
        """Let a reader have the items, and return the task that it runs in."""
        self._reader = reader
        self._send = reader.send  # bound once, not at each message
        self._context = copy_context()
        self._task = self._loop.create_task(self, context=self._context)
        return self._task

    def put(self, item: T) -> None:
        """Add an item; an idle reader takes its next step before this returns, unless a task is running already."""
        self.items.append(item)
        if self._wake is None:
            return
        loop, task = self._loop, self._task
        try:
            _enter_task(loop, task)
        except RuntimeError:
            self._wake_later()
            return
        try:
            self._step = self._context.run(self._send, None)
        except BaseException as end:  # noqa: BLE001 - it is the task that ends with it
            self._step = end
        finally:
            _leave_task(loop, task)
        if self._step is not _IDLE:
            wake, self._wake = self._wake, None
            if wake is not None:
                self._context.run(wake, self)

    async def get(self) -> T:
        """Return the oldest item to the reader, which waits for one if there is none."""
        while not self.items:
            await self
        return self.items.pop(0)

    __await__: Any = _WAIT.__iter__

    def _wake_later(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            self._loop.call_soon(wake, self, context=self._context)

    # The protocol of coroutines, as far as a task uses it.

    def send(self, value: None) -> object:
        return self._go_on(self._send, value) if self._step is _IDLE else self._hand_over()

    def throw(self, *error: Any) -> object:
        step = self._step
        # A task that is cancelled while it waits for a future cancels that.
        if step is not _IDLE and (isinstance(step, BaseException) or (step is not None and step.cancel())):
            del step
            return self._hand_over()
        self._step = _IDLE
        return self._go_on(self._reader.throw, *error)

    def close(self) -> None:
        self._reader.close()

    @property
    def cr_await(self) -> object:
        """What the task is in, for those who look where it is."""
        return self._reader

    def _go_on(self, go_on: Callable[..., object], *what: object) -> object:
        """Take a step in the task, and return what it waits for next."""
        try:
            step = go_on(*what)
        except BaseException:
            del self._task  # It holds on to the inbox: the circle would be kept until it is looked for.
            raise
        if step is not _IDLE:
            return step
        self._asyncio_future_blocking = True
        return self

    def _hand_over(self) -> object:
        """Return to the task what a step that was taken by `put` came to wait for; or end as that ended."""
        step, self._step = self._step, _IDLE
        if not isinstance(step, BaseException):
            return step
        del self._task
        try:
            raise step
        finally:
            del step  # Its traceback holds this frame.

    # The protocol of futures, as far as a task uses it.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, wake: Callable[[Inbox[T]], object], *, context: Context) -> None:
        self._wake = wake

    def result(self) -> None:
        return None

    def cancel(self, msg: Any | None = None) -> bool:
        # The task throws CancelledError into itself at its next step, when its waiter says it was not cancelled.
        self._wake_later()
        return False
