"""Keeps channels in SQLite: one writer thread, many publishes in each commit, nothing acknowledged before it.

The thread takes whatever waits, appends all of it in one transaction and commits it to the disk (WAL,
`synchronous=FULL`: the commit returns after fsync). Only then the loop hears of it, delivers in the order of the
offsets, and answers the publishers. When the transaction fails, all of it is undone and everyone in it is told so.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sockade.brokers.memory import ignore
from sockade.errors import StartError, StorageError
from sockade.messaging.broker import (
    IDEMPOTENCY_SECONDS,
    META_SECONDS,
    NO_LIMIT,
    Draft,
    History,
    Keep,
    Position,
    Publication,
    Published,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sockade.clock import Clock
    from sockade.messaging.broker import Deliver

T = TypeVar("T")

FILE_NAME = "channels.db"
VERSION = 1
BATCH = 512
"""Publishes in one commit: more would only make the first of them wait."""
PURGE_SECONDS = 60.0
BUSY_SECONDS = 5.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    channel TEXT PRIMARY KEY, epoch TEXT NOT NULL, top INTEGER NOT NULL, used_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS publications (
    channel TEXT NOT NULL, "offset" INTEGER NOT NULL, data BLOB NOT NULL, time REAL NOT NULL, info BLOB, tags BLOB,
    expires_at REAL NOT NULL, PRIMARY KEY (channel, "offset")
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS publications_expiry ON publications (expires_at);
CREATE TABLE IF NOT EXISTS keys (
    channel TEXT NOT NULL, key TEXT NOT NULL, "offset" INTEGER NOT NULL, epoch TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (channel, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_expiry ON keys (until);
"""
OLDEST_FIRST = """
SELECT "offset", data, time, info, tags FROM publications
WHERE channel = ? AND "offset" > ? AND expires_at > ? ORDER BY "offset" LIMIT ?
"""
NEWEST_FIRST = """
SELECT "offset", data, time, info, tags FROM publications
WHERE channel = ? AND "offset" < ? AND expires_at > ? ORDER BY "offset" DESC LIMIT ?
"""


@dataclass(slots=True)
class Append:
    """One publish that waits for its commit."""

    channel: str
    draft: Draft
    keep: Keep | None
    key: str
    answer: asyncio.Future[Published]
    published: Published | None = None


@dataclass(slots=True)
class Ask(Generic[T]):
    """One read, or a change that nobody is told of, that waits for its turn in the thread."""

    question: Callable[[sqlite3.Connection], T]
    answer: asyncio.Future[T]
    result: T | None = None


class SqliteBroker:
    """The broker of a single process whose acknowledged publications survive it."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._path = data_dir / FILE_NAME
        self._clock = clock
        self._deliver: Deliver = ignore
        self._waiting: queue.SimpleQueue[Append | Ask[Any] | None] = queue.SimpleQueue()
        self._streams: dict[str, tuple[str, int, float]] = {}
        self._purged_at = 0.0
        self._thread: threading.Thread | None = None
        self.failure: str = ""
        """Why the last commit failed, for `/readyz`; empty since the last that did not."""

    async def start(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        connection = await asyncio.to_thread(open_file, self._path)
        self._thread = threading.Thread(target=self._run, args=(connection,), name="channels", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
            await asyncio.sleep(0)  # what the thread still told the loop

    async def publish(self, channel: str, draft: Draft, keep: Keep | None, key: str = "") -> Published:
        work = Append(channel, draft, keep, key, self._loop.create_future())
        self._put(work)
        return await work.answer

    async def history(
        self, channel: str, *, since: int | None = None, limit: int = NO_LIMIT, reverse: bool = False
    ) -> History:
        def read(connection: sqlite3.Connection) -> History:
            epoch, top = self._stream(connection, channel, self._clock.wall())
            found = [] if limit == 0 else select(connection, channel, since, limit, self._clock.wall(), reverse=reverse)
            return History(found, Position(top, epoch))

        return await self.ask(read)

    async def remove_history(self, channel: str) -> None:
        def remove(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM publications WHERE channel = ?", (channel,))

        await self.ask(remove)

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Let the thread ask its connection, after whatever waits already."""
        work: Ask[T] = Ask(question, self._loop.create_future())
        self._put(work)
        return await work.answer

    def _put(self, work: Append | Ask[Any]) -> None:
        if self._thread is None:
            raise StorageError("the broker is closed")
        self._waiting.put(work)

    # In the thread.

    def _run(self, connection: sqlite3.Connection) -> None:
        try:
            while (first := self._waiting.get()) is not None:
                batch, last = self._batch(first)
                error = self._commit(connection, batch)
                self._loop.call_soon_threadsafe(self._settle, batch, error)
                if last:
                    return
        finally:
            connection.close()

    def _batch(self, first: Append | Ask[Any]) -> tuple[list[Append | Ask[Any]], bool]:
        """Return everything that waits, and whether the end was among it."""
        batch = [first]
        while len(batch) < BATCH:
            try:
                work = self._waiting.get_nowait()
            except queue.Empty:
                break
            if work is None:
                return batch, True
            batch.append(work)
        return batch, False

    def _commit(self, connection: sqlite3.Connection, batch: list[Append | Ask[Any]]) -> StorageError | None:
        """Do a batch in one transaction; on any error none of it."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            now = self._clock.wall()
            for work in batch:
                if isinstance(work, Append):
                    work.published = self._append(connection, work, now)
                else:
                    work.result = work.question(connection)
            self._purge(connection, now)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            # What was counted on in this batch is not so: it is read again.
            self._streams.clear()
            self._purged_at = 0.0
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error:
                pass
            return StorageError(f"{type(error).__name__}: {error}")
        return None

    def _append(self, connection: sqlite3.Connection, work: Append, now: float) -> Published:
        channel, draft, keep = work.channel, work.draft, work.keep
        if work.key and (before := recall(connection, channel, work.key, now)) is not None:
            return Published(before, repeated=True)
        position = Position(0, "")
        if keep is not None:
            epoch, top = self._stream(connection, channel, now)
            position = Position(top + 1, epoch)
            connection.execute(
                "INSERT INTO publications VALUES (?, ?, ?, ?, ?, ?, ?)",
                (channel, top + 1, draft.data, draft.time, draft.info, draft.tags, draft.time + keep.seconds),
            )
            connection.execute("UPDATE streams SET top = ?, used_at = ? WHERE channel = ?", (top + 1, now, channel))
            connection.execute(
                'DELETE FROM publications WHERE channel = ? AND "offset" <= ?', (channel, top + 1 - keep.size)
            )
            self._streams[channel] = (epoch, top + 1, now)
        if work.key:
            row = (channel, work.key, position.offset, position.epoch, now + IDEMPOTENCY_SECONDS)
            connection.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)", row)
        return Published(position)

    def _stream(self, connection: sqlite3.Connection, channel: str, now: float) -> tuple[str, int]:
        """Return a stream's epoch and top; a stream begins when it is first looked at."""
        known = self._streams.get(channel)
        if known is None or known[2] + META_SECONDS <= now:
            known = connection.execute(
                "SELECT epoch, top, used_at FROM streams WHERE channel = ? AND used_at > ?",
                (channel, now - META_SECONDS),
            ).fetchone()
            if known is None:
                known = (self._clock.short_id(), 0, now)
                connection.execute("DELETE FROM publications WHERE channel = ?", (channel,))
                connection.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?)", (channel, *known))
            self._streams[channel] = known
        return known[0], known[1]

    def _purge(self, connection: sqlite3.Connection, now: float) -> None:
        """Once a minute, forget what is over."""
        if now - self._purged_at < PURGE_SECONDS:
            return
        self._purged_at = now
        connection.execute("DELETE FROM publications WHERE expires_at <= ?", (now,))
        connection.execute("DELETE FROM keys WHERE until <= ?", (now,))
        gone = connection.execute("DELETE FROM streams WHERE used_at <= ? RETURNING channel", (now - META_SECONDS,))
        for (channel,) in gone.fetchall():
            self._streams.pop(channel, None)

    # On the loop.

    def _settle(self, batch: list[Append | Ask[Any]], error: StorageError | None) -> None:
        """Deliver what was committed, in its order, and answer everyone."""
        self.failure = str(error) if error is not None else ""
        for work in batch:
            if error is not None:
                if not work.answer.done():
                    work.answer.set_exception(error)
            elif isinstance(work, Append):
                self._publish(work)
            elif not work.answer.done():
                work.answer.set_result(work.result)

    def _publish(self, work: Append) -> None:
        published, draft = work.published, work.draft
        if published is None:  # pragma: no cover - a committed append has its answer
            return
        if not published.repeated:
            publication = Publication(published.position.offset, draft.data, draft.time, draft.info, draft.tags)
            self._deliver(work.channel, publication, published.position)
        if not work.answer.done():  # the publisher may have left meanwhile; what it published stays
            work.answer.set_result(published)


def open_file(path: Path) -> sqlite3.Connection:
    """Open the database, made with mode 0600 if it is not there.

    Raises:
        StartError: it cannot be opened, or was written by a newer version.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        # FULL: in WAL mode a commit is then on the disk when it returns.
        connection.execute("PRAGMA synchronous=FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            connection.close()
            raise StartError(f"The channels in {path} were written by a newer version of Sockade: use that one.")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version={VERSION}")
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"The channels in {path} cannot be opened: {error}.") from error
    return connection


def recall(connection: sqlite3.Connection, channel: str, key: str, now: float) -> Position | None:
    """Return the position that was given under an idempotency key."""
    row = connection.execute(
        'SELECT "offset", epoch FROM keys WHERE channel = ? AND key = ? AND until > ?', (channel, key, now)
    ).fetchone()
    return Position(*row) if row is not None else None


def select(
    connection: sqlite3.Connection, channel: str, since: int | None, limit: int, now: float, *, reverse: bool
) -> list[Publication]:
    """Return publications that are not over."""
    # Without `since`: after 0, or before everything.
    bound = since if since is not None else (1 << 62 if reverse else 0)
    rows = connection.execute(NEWEST_FIRST if reverse else OLDEST_FIRST, (channel, bound, now, limit))
    return [Publication(*row) for row in rows]
