"""The database file that keeps streams, and the one connection that writes it.

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
  it finds there is copied, with an fsync, before anything is added: `schema.open_file`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sockade.brokers.blocks import divide, encode
from sockade.brokers.works import Append, Begin
from sockade.messaging.broker import IDEMPOTENCY_SECONDS, LOOK_SECONDS, META_SECONDS, Position, Published

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockade.brokers.blocks import Kept
    from sockade.brokers.works import Work
    from sockade.clock import Clock

    Statement = tuple[str, Sequence[object]]
    """SQL, and its values."""

PURGE_SECONDS = 60.0
SET_SECONDS = 1.0
"""By how much the clock must have been set for keys to go along; what keeps it right sets it by less."""
STREAMS = 10_000
"""Streams that the writer knows by heart. All of them are in the file, and are read again when they are needed."""
TRIM = 128
"""Publications over the size of a history that are deleted together; until then they are only not read."""
MEND_BYTES = 262_144
"""What `mend` writes: once so much can be committed, there is room to go on."""
CHECKPOINT_BYTES = 4_194_304
COMMIT_BYTES = 16_384
"""What a commit adds to the log beside its data: pages of the tree, about."""
NOWHERE = Position(0, "")

INSERT_KEY = "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)"
COLUMNS = 7
ROWS = 64
"""Blocks in one statement."""
INSERTS = ["INSERT INTO appends VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * n) for n in range(ROWS + 1)]  # noqa: S608
"""By the number of rows."""


@dataclass(slots=True)
class Stream:
    """What the writer knows of one stream."""

    epoch: str
    top: int
    until: float
    """When all of it is forgotten."""
    floor: int
    """The largest offset that is not read any more."""
    trimmed: int
    """The largest offset that is known to be deleted."""


@dataclass(slots=True)
class Batch:
    """What one transaction has to write in the end."""

    now: float
    """POSIX seconds."""
    monotonic: float
    changed: dict[str, Stream] = field(default_factory=dict)
    kept: dict[str, list[Kept]] = field(default_factory=dict)
    """By channel, the newest last."""
    keys: dict[tuple[str, str], Position] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    size: int = 0


class StreamFile:
    """The writing side of the file. Everything here is called from one thread."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._streams: dict[str, Stream] = {}
        self._epochs: dict[str, tuple[str, float]] = {}
        """Of streams that were looked at and in which nothing was published yet, and until when they are kept.

        They are in the file between two processes alone: a look would cost a commit, and leave a row for each name
        that a client thinks of. A failed commit takes nothing of this back, for who looked was told.
        """
        self._purge_at = self._forget_at = clock.monotonic() + PURGE_SECONDS
        self._ahead = clock.wall() - clock.monotonic()
        """What makes POSIX seconds of monotonic ones, for keys: they outlive the process, and a clock that is set."""
        self._log_bytes = 0

    def commit(self, works: list[Work[Any]]) -> None:
        """Do all of it in one transaction that is on the disk when this returns; on any error none of it.

        Raises:
            sqlite3.Error: none of it happened, and `mend` comes next.
        """
        try:
            batch = Batch(self._clock.wall(), self._clock.monotonic())
            for work in works:
                if isinstance(work, Append):
                    work.result = self._append(batch, work)
                elif isinstance(work, Begin):
                    work.result = self._begin(batch, work.channel)
                else:
                    self._remove(batch, work.channel)
                    work.result = None
            self._gather(batch)
            self._write(batch.statements)
        except BaseException:
            self._undo()
            raise
        if batch.statements:
            self._log_bytes += batch.size + COMMIT_BYTES
        for channel in batch.changed:
            self._epochs.pop(channel, None)
        if len(self._streams) > STREAMS:
            self._streams.clear()

    def look(self, begins: Sequence[Begin]) -> None:
        """Do looks alone, which write nothing, while nothing can be written.

        Raises:
            sqlite3.Error: the file cannot be read either.
        """
        batch = Batch(self._clock.wall(), self._clock.monotonic())
        for begin in begins:
            begin.result = self._begin(batch, begin.channel)
            begin.stands = True
        # Where nothing can be written, nothing is purged either.
        if batch.monotonic >= self._forget_at:
            self._forget_looks(batch.monotonic)

    def take_epochs(self) -> None:
        """Begin with the epochs that the process before left in the file, as if each was looked at now.

        Raises:
            sqlite3.Error: they stay in the file.
        """
        until = self._clock.monotonic() + LOOK_SECONDS
        query = "SELECT channel, epoch FROM streams WHERE top = 0 AND until > ?"
        found = {channel: (epoch, until) for channel, epoch in self.connection.execute(query, (self._clock.wall(),))}
        self.connection.execute("DELETE FROM streams WHERE top = 0")
        self._epochs |= found

    def leave_epochs(self) -> None:
        """End with the epochs of streams without publications in the file, for the next process.

        Raises:
            sqlite3.Error: none of them is there.
        """
        now, end = self._clock.monotonic(), self._clock.wall() + META_SECONDS
        rows = [(channel, epoch, end) for channel, (epoch, until) in self._epochs.items() if until > now]
        if rows:
            self.connection.execute("BEGIN IMMEDIATE")
            # A stream that is over has its row until it is purged.
            self.connection.executemany("INSERT OR REPLACE INTO streams VALUES (?, ?, 0, ?, 0)", rows)
            self.connection.execute("COMMIT")

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
        """Once a minute, forget what is over; keys go along with a clock that was set."""
        now, monotonic = self._clock.wall(), self._clock.monotonic()
        if monotonic < self._purge_at:
            return
        self._purge_at = monotonic + PURGE_SECONDS
        set_by = now - monotonic - self._ahead
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("DELETE FROM blocks WHERE expires_at <= ?", (now,))
            self.connection.execute("DELETE FROM keys WHERE until <= ?", (monotonic + self._ahead,))
            if abs(set_by) >= SET_SECONDS:
                self.connection.execute("UPDATE keys SET until = until + ?", (set_by,))
            self.connection.execute("DELETE FROM streams WHERE until <= ?", (now,))
            self.connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        if abs(set_by) >= SET_SECONDS:
            self._ahead += set_by
        for channel in [name for name, stream in self._streams.items() if stream.until <= now]:
            del self._streams[channel]
        self._forget_looks(monotonic)

    def _forget_looks(self, now: float) -> None:
        self._forget_at = now + PURGE_SECONDS
        for channel in [name for name, (_, until) in self._epochs.items() if until <= now]:
            del self._epochs[channel]

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

    def _append(self, batch: Batch, work: Append) -> Published:
        channel, draft, keep = work.channel, work.draft, work.keep
        if work.key and (before := self._recall(batch, channel, work.key)) is not None:
            return Published(before, repeated=True)
        position = NOWHERE
        if keep is not None:
            stream = self._changed(batch, channel)
            top = stream.top = stream.top + 1
            stream.floor = max(stream.floor, top - keep.size)
            position = Position(top, stream.epoch)
            batch.kept[channel].append((draft.data, draft.time, draft.time + keep.seconds, draft.info, draft.tags))
        if work.key:
            batch.keys[channel, work.key] = position
        return Published(position)

    def _remove(self, batch: Batch, channel: str) -> None:
        if self._known(batch, channel) is not None:
            stream = self._changed(batch, channel)
            stream.floor = stream.top
            stream.trimmed = -TRIM

    def _changed(self, batch: Batch, channel: str) -> Stream:
        stream = batch.changed.get(channel)
        if stream is None:
            stream = batch.changed[channel] = self._stream(batch, channel)
            batch.kept[channel] = []
        return stream

    def _gather(self, batch: Batch) -> None:
        """Add the statements that a batch comes to: one for up to `ROWS` blocks, whatever their channels."""
        rows: list[object] = []
        for channel, stream in batch.changed.items():
            trim = 0
            if stream.floor - stream.trimmed >= TRIM:
                trim = stream.trimmed = stream.floor
            kept = batch.kept[channel]
            last = stream.top - len(kept)
            for block in divide(kept):
                content = encode(block)
                batch.size += len(content)
                last += len(block)
                end = max([one[2] for one in block])
                stream.until = max(stream.until, end + META_SECONDS)
                rows += (channel, last, end, content, stream.until, stream.floor, trim)
            if not kept:
                rows += (channel, last, None, None, stream.until, stream.floor, trim)
        for start in range(0, len(rows), COLUMNS * ROWS):
            part = rows[start : start + COLUMNS * ROWS]
            batch.statements.append((INSERTS[len(part) // COLUMNS], part))
        until = batch.monotonic + self._ahead + IDEMPOTENCY_SECONDS
        batch.statements += [
            (INSERT_KEY, (*name, position.offset, position.epoch, until)) for name, position in batch.keys.items()
        ]

    def _write(self, statements: list[Statement]) -> None:
        """Do all of it in one transaction; a single statement is one by itself.

        Each statement lets go of the interpreter, and has to get it back from a busy loop.
        """
        if len(statements) > 1:
            statements = [("BEGIN IMMEDIATE", ()), *statements, ("COMMIT", ())]
        for statement, values in statements:
            self.connection.execute(statement, values)

    def _recall(self, batch: Batch, channel: str, key: str) -> Position | None:
        """Return the position that was given under an idempotency key."""
        if (channel, key) in batch.keys:
            return batch.keys[channel, key]
        row = self.connection.execute(
            'SELECT "offset", epoch FROM keys WHERE channel = ? AND key = ? AND until > ?',
            (channel, key, batch.monotonic + self._ahead),
        ).fetchone()
        return Position(*row) if row is not None else None

    def _known(self, batch: Batch, channel: str) -> Stream | None:
        stream = self._streams.get(channel)
        if stream is None or stream.until <= batch.now:
            row = self.connection.execute(
                "SELECT epoch, top, until, floor FROM streams WHERE channel = ? AND until > ?",
                (channel, batch.now),
            ).fetchone()
            if row is None:
                return None
            epoch, top, until, floor = row
            stream = self._streams[channel] = Stream(epoch, top, until, floor, floor - TRIM)
        return stream

    def _begin(self, batch: Batch, channel: str) -> Position:
        """Return where a stream is that was not there a moment ago, and keep its epoch for a while."""
        stream = self._known(batch, channel)
        if stream is not None:
            return Position(stream.top, stream.epoch)
        epoch = self._epoch(batch, channel)
        self._epochs[channel] = (epoch, batch.monotonic + LOOK_SECONDS)
        return Position(0, epoch)

    def _epoch(self, batch: Batch, channel: str) -> str:
        """Return the epoch that was told to who looked at a stream, or a new one."""
        epoch, until = self._epochs.get(channel, ("", 0.0))
        return epoch if until > batch.monotonic else self._clock.short_id()

    def _stream(self, batch: Batch, channel: str) -> Stream:
        """Return a stream; it begins with what is published now, if it has not."""
        stream = self._known(batch, channel)
        if stream is None:
            epoch = self._epoch(batch, channel)
            stream = self._streams[channel] = Stream(epoch, 0, batch.now + META_SECONDS, 0, 0)
            batch.statements += [
                ("DELETE FROM blocks WHERE channel = ?", (channel,)),
                ("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?)", (channel, stream.epoch, 0, stream.until, 0)),
            ]
        return stream
