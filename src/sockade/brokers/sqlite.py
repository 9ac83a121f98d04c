"""Keeps channels in SQLite: many publishes in each commit, nothing acknowledged or delivered before it.

One thread writes. What is published while it commits, or within one tick, waits and goes into the next transaction
together: commits cost far more than rows. After a commit the loop delivers in the order of the offsets and answers
the publishers. When the transaction fails, all of it is undone and everyone in it is told so; then nothing is taken
until the file is mended (`stream_file.py` says why), which is tried again and again.

Another thread reads, on a connection of its own, so that a thousand subscribers who come back at once do not keep the
writer waiting. Who asks the same before the answer is looked for gets the same answer.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sockade.brokers.blocks import Question, read
from sockade.brokers.memory import CLOSED, ignore
from sockade.brokers.schema import open_file, open_reader
from sockade.brokers.stream_file import StreamFile
from sockade.brokers.works import Append, Begin, Remove, Work
from sockade.brokers.writer import Writer, told
from sockade.errors import StartError, StorageError
from sockade.messaging.broker import HISTORY_BYTES, NO_LIMIT, Draft, History, Keep, Publication, Published, check_names
from sockade.messaging.callbacks import FAILURES

if TYPE_CHECKING:
    from pathlib import Path

    from sockade.clock import Clock
    from sockade.messaging.broker import Deliver
    from sockade.messaging.promise import Promise

    Answers = list[asyncio.Future[Any]]

FILE_NAME = "channels.db"
W = TypeVar("W", bound=Work[Any])
logger = logging.getLogger("sockade.channels")
BATCH = 512
"""Publishes in one commit: more would only make the first of them wait."""
TURNS = 6
"""Turns of the loop between two commits. It takes some for answers to go out and for what comes of them to come in."""
GATHER_SECONDS = 0.003
"""They take no longer than this; each is some microseconds where there is nothing to do."""
ANSWERS = 16
"""Histories given out in one turn of the loop."""
QUESTIONS = 32
"""Histories read, and held, before they are given out."""
UNREADABLE = (sqlite3.Error, msgspec.DecodeError)
"""What is the file's fault, and not that of who asked."""
TELL_SECONDS = 10.0
"""How long that is told, unless something else can be read before: nobody may ask for more."""


class SqliteBroker:
    """The broker of a single process whose acknowledged publications survive it."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._path = data_dir / FILE_NAME
        self._clock = clock
        self._deliver: Deliver = ignore
        self._threads: list[threading.Thread] = []
        # Nobody reads while the log is copied.
        self._reading = threading.Lock()

        self._writer: Writer | None = None
        self._works: list[Work[Any]] = []
        self._writing = False
        self._turns, self._until = 0, 0.0

        self._asked: dict[Question, Answers] = {}
        self._looking = False
        self._found: deque[tuple[asyncio.Future[Any], History | StorageError | None]] = deque()
        self._questions: queue.SimpleQueue[dict[Question, Answers] | None] = queue.SimpleQueue()
        self._unread, self._told_until, self._log_at = "", 0.0, 0.0

    @property
    def failure(self) -> str:
        if self._writer is not None and self._writer.failure:
            return f"channels cannot be kept: {self._writer.failure}"
        return self._unread if self._clock.monotonic() < self._told_until else ""

    async def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        connection = await asyncio.to_thread(open_file, self._path)
        try:
            reader = await asyncio.to_thread(open_reader, self._path)
        except BaseException:
            connection.close()
            raise
        self._writer = Writer(self._take_over(connection, reader), self._reading, self._done)
        self._threads = [
            threading.Thread(target=self._read, args=(reader,), name="channels-read", daemon=True),
            threading.Thread(target=self._writer.run, name="channels-write", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _take_over(self, connection: sqlite3.Connection, reader: sqlite3.Connection) -> StreamFile:
        """Go on with what the process before left in the file.

        It is done on the loop, and nothing is awaited until the threads run, whose end leaves it to the next process: a
        start that is given up in between would lose it.

        Raises:
            StartError: the file cannot be used.
        """
        file = StreamFile(connection, self._clock)
        try:
            file.take_epochs()
        except sqlite3.Error as error:
            connection.close()
            reader.close()
            raise StartError(f"The channels in {self._path} cannot be opened: {error}.") from error
        return file

    async def close(self) -> None:
        threads, self._threads = self._threads, []
        if not threads:
            return
        self._questions.put(self._asked)
        self._questions.put(None)
        if self._writer is not None:
            self._writer.put(self._works)
            self._writer.put(None)
        self._asked, self._works = {}, []
        # The writer last: its close copies the log.
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)  # what the threads still told the loop
        for waiting in self._found:
            settle(*waiting)
        self._found.clear()

    def publish(self, channel: str, draft: Draft, keep: Keep | None, key: str = "") -> Promise[Published]:
        check_names(channel, key)
        return self._put(Append(channel, draft, keep, key))

    async def history(
        self,
        channel: str,
        *,
        since: int | None = None,
        limit: int = NO_LIMIT,
        budget: int = HISTORY_BYTES,
        reverse: bool = False,
    ) -> History:
        question = Question(channel, since, limit, budget, reverse)
        while (history := await self._ask(question)) is None:
            begun = await self._put(Begin(channel))
            if begun.offset == 0:
                return History([], begun)
            # Somebody has published in it meanwhile.
        return history

    async def _ask(self, question: Question) -> History | None:
        """Read a stream; None where it has not begun."""
        if not self._threads:
            raise StorageError(CLOSED)
        answer: asyncio.Future[History | None] = self._loop.create_future()
        self._asked.setdefault(question, []).append(answer)
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)
        return await answer

    async def remove_history(self, channel: str) -> None:
        check_names(channel)
        await self._put(Remove(channel))

    # On the loop.

    def _put(self, work: W) -> W:
        """Let a work wait for the end of this tick, or of the commit that is under way."""
        if not self._threads:
            raise StorageError(CLOSED)
        self._works.append(work)
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._hand_over)
        return work

    def _hand_over(self) -> None:
        """Give the writer what waits."""
        if self._works and self._writer is not None:
            works, self._works = self._works[:BATCH], self._works[BATCH:]
            self._writer.put(works)
        else:
            self._writing = False

    def _settle(self, works: list[Work[Any]], error: StorageError | None) -> None:
        """Deliver what was committed, in its order, and answer everyone, whatever one who hears of it raises."""
        end: BaseException | None = None
        for work in works:
            try:
                try:
                    if error is None and isinstance(work, Append) and not work.result.repeated:
                        self._publish(work)
                finally:
                    work.answer(error)
            except FAILURES:
                logger.exception("a publication could not be delivered to everyone")
            except BaseException as raised:  # noqa: BLE001 - the process is to end, and everyone else gets their answer
                end = raised
        self._turns = TURNS if len(works) + len(self._works) > 1 else 0
        self._until = self._loop.time() + GATHER_SECONDS
        self._loop.call_soon(self._gather)
        if end is not None:
            raise end

    def _gather(self) -> None:
        """Wait for what those publish next who were answered, so that it goes into the same commit."""
        if self._turns > 0 and len(self._works) < BATCH and self._loop.time() < self._until:
            self._turns -= 1
            self._loop.call_soon(self._gather)
        else:
            self._hand_over()

    def _publish(self, work: Append) -> None:
        position, draft = work.result.position, work.draft
        publication = Publication(position.offset, draft.data, draft.time, draft.info, draft.tags)
        self._deliver(work.channel, publication, position)

    def _look(self) -> None:
        """Give the reader some of what was asked."""
        if not self._asked:
            self._looking = False
            return
        asked = dict(islice(self._asked.items(), QUESTIONS))
        for question in asked:
            del self._asked[question]
        self._questions.put(asked)

    def _answer(self, found: list[tuple[Answers, History | StorageError | None]]) -> None:
        self._found.extend((answer, result) for answers, result in found for answer in answers)
        self._answer_some()

    def _answer_some(self) -> None:
        """Answer a few who asked, and the others in the next turns of the loop: each of them has much to send."""
        for _ in range(min(ANSWERS, len(self._found))):
            settle(*self._found.popleft())
        self._loop.call_soon(self._answer_some if self._found else self._look)

    # In the threads.

    def _done(self, works: list[Work[Any]], error: StorageError | None) -> None:
        self._loop.call_soon_threadsafe(self._settle, works, error)

    def _read(self, connection: sqlite3.Connection) -> None:
        try:
            while (asked := self._questions.get()) is not None:
                with self._reading:
                    found = [(answers, self._find(connection, question)) for question, answers in asked.items()]
                self._loop.call_soon_threadsafe(self._answer, found)
        finally:
            connection.close()

    def _find(self, connection: sqlite3.Connection, question: Question) -> History | StorageError | None:
        try:
            found = read(connection, question, self._clock.wall())
        except Exception as error:  # noqa: BLE001 - whatever it was: who asked is told, and the thread goes on
            if isinstance(error, UNREADABLE):
                self._note(told(error))
            return StorageError(told(error))
        self._unread = ""
        return found

    def _note(self, reason: str) -> None:
        """Note that something cannot be read; the log says so now and then, for clients ask again and again."""
        now = self._clock.monotonic()
        self._unread, self._told_until = f"channels cannot be read: {reason}", now + TELL_SECONDS
        if now >= self._log_at:
            self._log_at = now + TELL_SECONDS
            logger.error(self._unread)


def settle(future: asyncio.Future[Any], result: object) -> None:
    """Give a future its result; who waited for it may have left meanwhile, and what it published stays."""
    if future.done():
        return
    if isinstance(result, StorageError):
        future.set_exception(result)
    else:
        future.set_result(result)
