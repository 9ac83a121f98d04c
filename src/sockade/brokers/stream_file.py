"""The database file that keeps streams: one connection that writes, and what others read from it.

A commit returns after the fsync of the write-ahead log (WAL, `synchronous=FULL`). What a failed one leaves behind is
dealt with here, because SQLite alone does not promise that a transaction it reported as failed stays away:

- When the fsync fails, the frames of the transaction are in the log, whole and with their commit mark. They are not
  used as long as this process lives, but the next process would find them and bring back what was refused. So a
  failed commit is followed at once, before anyone is answered, by a harmless transaction that is written over them:
  `mend`. Frames are chained by their checksums, so what it does not cover ends there as well.
- The pages of a failed fsync may be in the kernel's cache, marked clean, and not on the disk: a second fsync that
  succeeds says nothing of them. `mend` writes them all anew. Until it has been committed nothing else is accepted.
- Copying the log into the database (checkpoint) is where the same could lose what was acknowledged: pages that one
  checkpoint wrote are not written again by the next if the first got somewhere. So each one copies the whole log and
  its fsync covers all of it, or it counts for nothing and the log stays: nobody reads while it runs.
- The next process reads the log from the same cache, and may build on frames that never got to the disk. So whatever
  it finds there is copied, with an fsync, before anything is added: `open_file`.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sockade.errors import StartError
from sockade.messaging.broker import (
    IDEMPOTENCY_SECONDS,
    META_SECONDS,
    Draft,
    History,
    Keep,
    Position,
    Publication,
    Published,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sockade.clock import Clock

VERSION = 2
BUSY_SECONDS = 5.0
PURGE_SECONDS = 60.0
TRIM = 128
"""Publications over the size of a history that are deleted together; until then they are only not read."""
MEND_BYTES = 262_144
"""What `mend` writes: once so much can be committed, there is room to go on."""
CHECKPOINT_BYTES = 4_194_304
COMMIT_BYTES = 16_384
"""What a commit adds to the log beside its data: pages of the tree, about."""
ROWS = 64
"""Rows in one INSERT. Each statement lets go of the interpreter and has to get it back from a busy loop."""
NOWHERE = Position(0, "")

SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    channel TEXT PRIMARY KEY, epoch TEXT NOT NULL, top INTEGER NOT NULL, used_at REAL NOT NULL,
    floor INTEGER NOT NULL DEFAULT 0
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
CREATE TABLE IF NOT EXISTS mend (id INTEGER PRIMARY KEY, filler BLOB NOT NULL);
"""
OLDEST_FIRST = """
SELECT "offset", data, time, info, tags FROM publications
WHERE channel = ? AND "offset" > ? AND expires_at > ? ORDER BY "offset" LIMIT ?
"""
NEWEST_FIRST = """
SELECT "offset", data, time, info, tags FROM publications
WHERE channel = ? AND "offset" > ? AND "offset" < ? AND expires_at > ? ORDER BY "offset" DESC LIMIT ?
"""
UPDATE_STREAM = "UPDATE streams SET top = ?, used_at = ?, floor = ? WHERE channel = ?"
INSERTS = ["INSERT INTO publications VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * n) for n in range(ROWS + 1)]  # noqa: S608
"""By the number of rows."""
TRIM_STREAM = 'DELETE FROM publications WHERE channel = ? AND "offset" <= ?'


@dataclass(slots=True)
class Append:
    """One publish, and the answer to it."""

    channel: str
    draft: Draft
    keep: Keep | None
    key: str
    published: Published | None = None


@dataclass(slots=True)
class Begin:
    """The first look at a stream, and where it begins."""

    channel: str
    position: Position = NOWHERE


@dataclass(slots=True)
class Remove:
    """The end of what a stream keeps so far."""

    channel: str


Work = Append | Begin | Remove


@dataclass(slots=True)
class Stream:
    """What the writer knows of one stream."""

    epoch: str
    top: int
    used_at: float
    floor: int
    """The largest offset that is not read any more."""
    trimmed: int
    """The largest offset that is known to be deleted."""


@dataclass(slots=True)
class Batch:
    """What one transaction has to write in the end."""

    rows: list[object] = field(default_factory=list)
    """Seven values for each publication."""
    changed: dict[str, Stream] = field(default_factory=dict)
    keys: dict[tuple[str, str], Position] = field(default_factory=dict)
    size: int = 0


class StreamFile:
    """The writing side of the file. Everything here is called from one thread."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._streams: dict[str, Stream] = {}
        self._purge_at = clock.wall() + PURGE_SECONDS
        self._log_bytes = 0

    def commit(self, works: list[Work]) -> None:
        """Do all of it in one transaction that is on the disk when this returns; on any error none of it.

        Raises:
            sqlite3.Error: none of it happened, and `mend` comes next.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            now, batch = self._clock.wall(), Batch()
            for work in works:
                if isinstance(work, Append):
                    work.published = self._append(batch, work, now)
                elif isinstance(work, Begin):
                    stream = self._stream(work.channel, now)
                    work.position = Position(stream.top, stream.epoch)
                else:
                    self._remove(batch, work.channel, now)
            self._write(batch, now)
            self.connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        self._log_bytes += batch.size + COMMIT_BYTES

    def mend(self) -> None:
        """Write over what a failed commit left in the log, and find out whether the disk takes anything again.

        Raises:
            sqlite3.Error: it does not; what is in the log now is without meaning.
        """
        try:
            self.connection.execute("INSERT OR REPLACE INTO mend VALUES (1, zeroblob(?))", (MEND_BYTES,))
            self.connection.execute("DELETE FROM mend")
        except sqlite3.Error:
            self._undo()
            raise

    def purge(self) -> None:
        """Once a minute, forget what is over."""
        now = self._clock.wall()
        if now < self._purge_at:
            return
        self._purge_at = now + PURGE_SECONDS
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("DELETE FROM publications WHERE expires_at <= ?", (now,))
            self.connection.execute("DELETE FROM keys WHERE until <= ?", (now,))
            self.connection.execute("DELETE FROM streams WHERE used_at <= ?", (now - META_SECONDS,))
            self.connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        for channel in [name for name, stream in self._streams.items() if stream.used_at + META_SECONDS <= now]:
            del self._streams[channel]

    @property
    def wants_checkpoint(self) -> bool:
        """Tell whether the log has grown enough to be copied."""
        return self._log_bytes >= CHECKPOINT_BYTES

    @property
    def is_log_long(self) -> bool:
        """Tell whether the log has grown so much that copying it cannot be put off any more."""
        return self._log_bytes >= 8 * CHECKPOINT_BYTES

    def checkpoint(self) -> None:
        """Copy the whole log into the database, so that it begins anew; nobody may be reading.

        Raises:
            sqlite3.Error: the log stays, and with it everything that is in it.
        """
        busy, frames, copied = self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not busy and frames == copied:
            self._log_bytes = 0

    def _undo(self) -> None:
        """Roll back; what was counted on is not so, and is read again."""
        self._streams.clear()
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass

    def _append(self, batch: Batch, work: Append, now: float) -> Published:
        channel, draft, keep = work.channel, work.draft, work.keep
        if work.key and (before := self._recall(batch, channel, work.key, now)) is not None:
            return Published(before, repeated=True)
        position = NOWHERE
        if keep is not None:
            stream = batch.changed.get(channel)
            if stream is None:
                stream = batch.changed[channel] = self._stream(channel, now)
            top = stream.top = stream.top + 1
            stream.floor = max(stream.floor, top - keep.size)
            position = Position(top, stream.epoch)
            batch.rows += (channel, top, draft.data, draft.time, draft.info, draft.tags, draft.time + keep.seconds)
            batch.size += len(draft.data)
        if work.key:
            batch.keys[channel, work.key] = position
        return Published(position)

    def _remove(self, batch: Batch, channel: str, now: float) -> None:
        stream = self._known(channel, now)
        if stream is not None:
            stream.floor = stream.top
            stream.trimmed = -TRIM
            batch.changed[channel] = stream

    def _write(self, batch: Batch, now: float) -> None:
        """Write what a batch comes to: a statement for many publications, and one or two for each channel."""
        rows = batch.rows
        for start in range(0, len(rows), 7 * ROWS):
            part = rows[start : start + 7 * ROWS]
            self.connection.execute(INSERTS[len(part) // 7], part)
        for channel, stream in batch.changed.items():
            stream.used_at = now
            self.connection.execute(UPDATE_STREAM, (stream.top, now, stream.floor, channel))
            if stream.floor - stream.trimmed >= TRIM:
                self.connection.execute(TRIM_STREAM, (channel, stream.floor))
                stream.trimmed = stream.floor
        if batch.keys:
            until = now + IDEMPOTENCY_SECONDS
            self.connection.executemany(
                "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)",
                [(*name, position.offset, position.epoch, until) for name, position in batch.keys.items()],
            )

    def _recall(self, batch: Batch, channel: str, key: str, now: float) -> Position | None:
        """Return the position that was given under an idempotency key."""
        if (channel, key) in batch.keys:
            return batch.keys[channel, key]
        row = self.connection.execute(
            'SELECT "offset", epoch FROM keys WHERE channel = ? AND key = ? AND until > ?', (channel, key, now)
        ).fetchone()
        return Position(*row) if row is not None else None

    def _known(self, channel: str, now: float) -> Stream | None:
        stream = self._streams.get(channel)
        if stream is None or stream.used_at + META_SECONDS <= now:
            row = self.connection.execute(
                "SELECT epoch, top, used_at, floor FROM streams WHERE channel = ? AND used_at > ?",
                (channel, now - META_SECONDS),
            ).fetchone()
            if row is None:
                return None
            epoch, top, used_at, floor = row
            stream = self._streams[channel] = Stream(epoch, top, used_at, floor, floor - TRIM)
        return stream

    def _stream(self, channel: str, now: float) -> Stream:
        """Return a stream; it begins when it is first looked at."""
        stream = self._known(channel, now)
        if stream is None:
            stream = self._streams[channel] = Stream(self._clock.short_id(), 0, now, 0, 0)
            self.connection.execute("DELETE FROM publications WHERE channel = ?", (channel,))
            row = (channel, stream.epoch, 0, now, 0)
            self.connection.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?)", row)
        return stream


def open_file(path: Path) -> sqlite3.Connection:
    """Open the database to write, made with mode 0600 if it is not there.

    Raises:
        StartError: it cannot be opened, or was written by a newer version.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        # FULL: in WAL mode a commit is then on the disk when it returns; on macOS fsync alone does not get it there.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")
        connection.execute("PRAGMA checkpoint_fullfsync=ON")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            connection.close()
            raise StartError(f"The channels in {path} are in use by another process.")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            connection.close()
            raise StartError(f"The channels in {path} were written by a newer version of Sockade: use that one.")
        if version == 1:
            connection.execute("ALTER TABLE streams ADD COLUMN floor INTEGER NOT NULL DEFAULT 0")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version={VERSION}")
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"The channels in {path} cannot be opened: {error}.") from error
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database, which is there, to read only."""
    connection = connect(path)
    connection.execute("PRAGMA query_only=ON")
    return connection


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=ROWS + 32
    )


def read(
    connection: sqlite3.Connection, channel: str, since: int | None, limit: int, now: float, *, reverse: bool
) -> History | None:
    """Return a stream's publications that are not over and its top, of one moment; None before its first look."""
    connection.execute("BEGIN")
    try:
        stream = connection.execute(
            "SELECT epoch, top, floor FROM streams WHERE channel = ? AND used_at > ?", (channel, now - META_SECONDS)
        ).fetchone()
        if stream is None:
            return None
        epoch, top, floor = stream
        found: list[Publication] = []
        if limit != 0:
            if reverse:
                # Without `since`: before everything.
                before = since if since is not None else top + 1
                rows = connection.execute(NEWEST_FIRST, (channel, floor, before, now, limit))
            else:
                rows = connection.execute(OLDEST_FIRST, (channel, max(floor, since or 0), now, limit))
            found = [Publication(*row) for row in rows]
        return History(found, Position(top, epoch))
    finally:
        connection.execute("COMMIT")
