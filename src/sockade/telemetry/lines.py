"""Writes lines to a stream from a thread of its own, so that a reader who stops reading stops no connection.

What waits is bounded; beyond that lines are dropped and counted, as are those that could not be written, and the count
is a line of its own. Order holds.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

WAITING_LINES = 10_000
CLOSE_SECONDS = 2.0
GATHER_SECONDS, MOST_GATHER_SECONDS = 0.01, 0.05
"""How long after a write the next lines gather, for each line it had, and at most: waking the thread costs more than a
line does, and where lines come often they may come together."""


class LineWriter:
    """A text stream that never blocks and never raises."""

    def __init__(
        self, stream: TextIO, waiting_lines: int = WAITING_LINES, *, notice: Callable[[str], str] = str
    ) -> None:
        """`notice` makes a line of what the writer itself has to say."""
        self._stream = stream
        self._notice = notice
        self._limit = waiting_lines
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closed = False
        self._ready = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sockade-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, line: str) -> None:
        """Queue one line, without its line feed."""
        with self._ready:
            if len(self._lines) >= self._limit or self._closed:
                self._dropped += 1
                return
            self._lines.append(line)
            self._ready.notify()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits, for so long at most, and end the thread. Idempotent."""
        with self._ready:
            self._closed = True
            self._closing.set()
            self._ready.notify()
        self._thread.join(seconds)
        atexit.unregister(self.close)

    def _run(self) -> None:
        missing = 0
        while lines := self._next():
            text = "".join(f"{line}\n" for line in lines)
            if missing:
                # On a line of its own: half of one may have been written.
                told = self._notice(f"up to {missing} log lines are missing here, for they could not be written")
                text = f"\n{told}\n{text}"
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                missing += len(lines)  # The disk may be full for a while; nobody else is left to tell.
            else:
                missing = 0
            self._closing.wait(min(len(lines) * GATHER_SECONDS, MOST_GATHER_SECONDS))

    def _next(self) -> deque[str]:
        """Wait for lines and return them; none when closed and empty."""
        with self._ready:
            while not self._lines and not self._dropped and not self._closed:
                self._ready.wait()
            lines, self._lines = self._lines, deque()
            dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(self._notice(f"{dropped} log lines were dropped because nobody read them"))
        return lines
