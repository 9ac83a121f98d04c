"""Ends the process though something in it does not: a callback that takes no cancellation, a thread that hangs.

By then everyone was told and has had their time, and what was acknowledged is on the disk: nothing is left to wait for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_TOLD = 5
"""So many of those that did not end are named."""

logger = logging.getLogger("sockade.server")


class Watchdog:
    """Watches over the end of this process."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def start(self, seconds: float, loop: asyncio.AbstractEventLoop, status: Callable[[], int]) -> None:
        """End the process with a status in so many seconds, unless `stop` is called before."""
        self._timer = threading.Timer(seconds, end, (loop, status))
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """End nothing any more."""
        if self._timer is not None:
            self._timer.cancel()


def end(loop: asyncio.AbstractEventLoop, status: Callable[[], int]) -> None:
    """End the process, and say in the log what did not end by itself."""
    try:
        tasks = sorted({where(task) for task in asyncio.all_tasks(loop)})
        threads = [f"the thread {one.name}" for one in threading.enumerate() if not one.daemon]
        logger.error("ended by force, for this did not end: %s", "; ".join((tasks or threads)[:MOST_TOLD]))
        logging.shutdown()
    finally:
        os._exit(status())


def where(task: asyncio.Task[object]) -> str:
    """Return the coroutines that a task is in, each awaiting the next."""
    found: object = task.get_coro()
    names = []
    while found is not None:
        if (code := getattr(found, "cr_code", None)) is not None:
            names.append(code.co_qualname)
        found = getattr(found, "cr_await", None)
    return " > ".join(names)
