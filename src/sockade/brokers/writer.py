"""The thread that writes streams: commits what it is given, and tends the file between commits.

It is either sound or broken. It breaks when a transaction fails, and then writes nothing until `StreamFile.mend` has
succeeded, which it tries at once, before anyone is answered, and every `MEND_SECONDS` from then on.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import sys
import time
from typing import TYPE_CHECKING, Any

from sockade.brokers.works import Begin
from sockade.errors import StorageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from sockade.brokers.stream_file import StreamFile
    from sockade.brokers.works import Work

MEND_SECONDS = 1.0
"""Between two attempts to mend the file, and to copy a log that could not be copied."""
IDLE_SECONDS = 60.0
"""How long it waits for a batch before it looks at what is over."""

logger = logging.getLogger("sockade.channels")


class Writer:
    """One thread's work; `put` and `failure` are for other threads."""

    def __init__(
        self,
        file: StreamFile,
        reading: threading.Lock,
        done: Callable[[list[Work[Any]], StorageError | None], None],
    ) -> None:
        """Take the file, what is held by who reads it, and who is told, in this thread, of each batch."""
        self._file = file
        self._reading = reading
        self._done = done
        self._batches: queue.SimpleQueue[list[Work[Any]] | None] = queue.SimpleQueue()
        self._broken = ""
        self._uncopied = ""
        self._try_at = 0.0

    @property
    def failure(self) -> str:
        """Return why nothing can be kept at present, or the log not be copied; empty while both can."""
        return self._broken or self._uncopied

    def put(self, works: list[Work[Any]] | None) -> None:
        """Give it one transaction's works, or None to end it after what it has been given."""
        self._batches.put(works)

    def run(self) -> None:
        """Work until the end."""
        stand_back()
        try:
            while (works := self._next()) is not None:
                if works:
                    error = self._broken or self._attempt(functools.partial(self._file.commit, works))
                    if error:
                        self._look(works)
                    self._done(works, StorageError(error) if error else None)
                self._tend()
            if not self._broken:
                self._attempt(self._file.leave_epochs)
        finally:
            self._file.connection.close()

    def _look(self, works: list[Work[Any]]) -> None:
        """Let those who only look see where a stream begins: that needs no room on the disk."""
        # What cannot be read is refused with all else.
        with contextlib.suppress(Exception):
            self._file.look([work for work in works if isinstance(work, Begin)])

    def _next(self) -> list[Work[Any]] | None:
        """Wait for a batch; an empty one when it is time to try again what failed, or to forget what is over."""
        try:
            return self._batches.get(timeout=MEND_SECONDS if self.failure else IDLE_SECONDS)
        except queue.Empty:
            return []

    def _tend(self) -> None:
        """Mend what is broken; otherwise forget what is over, and copy the log once it has grown."""
        if self._broken:
            if time.monotonic() >= self._try_at:
                self._mend()
            return
        self._attempt(self._file.purge)
        if (self._uncopied or self._file.wants_checkpoint) and time.monotonic() >= self._try_at:
            self._copy()

    def _attempt(self, transaction: Callable[[], None]) -> str:
        """Do one transaction, and return what went wrong; then the file is broken, or mended already."""
        try:
            transaction()
        except Exception as error:  # noqa: BLE001 - whatever it was: a thread that ended would leave everyone waiting
            reason = told(error)
            logger.error("channels cannot be kept: %s", reason)
            self._broken = reason
            self._mend()
            return reason
        return ""

    def _mend(self) -> None:
        # A log that was copied is written over from its beginning: on a full disk that is room.
        self._copy()
        try:
            self._file.mend()
        except Exception as error:  # noqa: BLE001
            self._broken = told(error)
            self._try_at = time.monotonic() + MEND_SECONDS
        else:
            self._broken = ""
            logger.warning("channels are kept again")

    def _copy(self) -> None:
        """Copy the log, unless somebody is reading: then after one of the next commits."""
        if not self._reading.acquire(timeout=MEND_SECONDS if self._file.is_log_long else 0):
            return
        try:
            self._file.checkpoint()
        except Exception as error:  # noqa: BLE001
            self._uncopied = told(error)
            self._try_at = time.monotonic() + MEND_SECONDS
        else:
            self._uncopied = ""
        finally:
            self._reading.release()


def stand_back() -> None:
    """Let this thread wait for a processor where the loop has none to spare; on Linux, sched(7), SCHED_BATCH.

    Otherwise the scheduler takes the loop's away each time that the loop wakes the writer, which then finds the
    interpreter's lock still held, and waits for that.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def told(error: Exception) -> str:
    """Return an error as `/readyz` and the log tell it."""
    return f"{type(error).__name__}: {error}"
