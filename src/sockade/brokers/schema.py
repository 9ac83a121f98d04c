"""The database file that keeps streams: its tables, how it is opened, and what became of older ones."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from sockade.brokers.blocks import encode
from sockade.errors import StartError
from sockade.messaging.broker import META_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 4
BUSY_SECONDS = 5.0
STATEMENTS = 96
"""Statements that a connection keeps prepared."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    channel TEXT PRIMARY KEY, epoch TEXT NOT NULL, top INTEGER NOT NULL, until REAL NOT NULL,
    floor INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
-- In the order they came: what one commit adds lies together, whatever its channels.
CREATE TABLE IF NOT EXISTS blocks (
    id INTEGER PRIMARY KEY, channel TEXT NOT NULL, last INTEGER NOT NULL, expires_at REAL NOT NULL,
    content BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS blocks_last ON blocks (channel, last);
CREATE INDEX IF NOT EXISTS blocks_expiry ON blocks (expires_at);
CREATE TABLE IF NOT EXISTS keys (
    channel TEXT NOT NULL, key TEXT NOT NULL, "offset" INTEGER NOT NULL, epoch TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (channel, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_expiry ON keys (until);
CREATE TABLE IF NOT EXISTS mend (id INTEGER PRIMARY KEY, filler BLOB NOT NULL);
"""
APPENDS = """
CREATE TEMP VIEW appends (channel, last, expires_at, content, until, floor, trim) AS
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL;
CREATE TEMP TRIGGER append INSTEAD OF INSERT ON appends BEGIN
    INSERT INTO blocks (channel, last, expires_at, content)
    SELECT new.channel, new.last, new.expires_at, new.content WHERE new.content IS NOT NULL;
    UPDATE streams SET top = new.last, until = new.until, floor = new.floor WHERE channel = new.channel;
    DELETE FROM blocks WHERE channel = new.channel AND last <= new.trim;
END;
"""
"""What adding a block comes to, so that one statement, which is then the whole transaction, does it for many."""
OUTLIVE = """
UPDATE streams
SET until = ? + max(until, coalesce((SELECT max(expires_at) FROM blocks WHERE blocks.channel = streams.channel), 0))
"""


def open_file(path: Path) -> sqlite3.Connection:
    """Open the database to write, made with mode 0600 if it is not there.

    Raises:
        StartError: it cannot be opened, or was written by a newer version.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = connect(path)
        try:
            prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"The channels in {path} cannot be opened: {error}.") from error
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set what SQLite forgets between connections, and bring the schema up to date.

    Raises:
        StartError: another process has the file, or a newer version wrote it.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    # FULL: in WAL mode a commit is then on the disk when it returns; on macOS fsync alone does not get it there.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")
    connection.execute("PRAGMA checkpoint_fullfsync=ON")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    # Where SQLite is built to write zeros over what is deleted, it would write twice what is published.
    connection.execute("PRAGMA secure_delete=FAST")
    connection.execute("PRAGMA temp_store=MEMORY")
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StartError(f"The channels in {path} are in use by another process.")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StartError(f"The channels in {path} were written by a newer version of Sockade: use that one.")
    connection.executescript(SCHEMA)
    connection.execute("BEGIN IMMEDIATE")
    if 0 < version < VERSION:
        upgrade(connection, version)
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
    connection.executescript(APPENDS)


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Take over what an older version kept.

    The first had no floor, the first two a row for each publication, and the first three forgot a stream so long after
    its last use, whatever it still held.
    """
    if version == 1:
        connection.execute("ALTER TABLE streams ADD COLUMN floor INTEGER NOT NULL DEFAULT 0")
    if version < 3:
        take_publications(connection)
    connection.execute("ALTER TABLE streams RENAME COLUMN used_at TO until")
    connection.execute(OUTLIVE, (META_SECONDS,))


def take_publications(connection: sqlite3.Connection) -> None:
    """Make a block of each publication that has a row of its own."""
    rows = connection.execute('SELECT channel, "offset", data, time, expires_at, info, tags FROM publications')
    connection.executemany(
        "INSERT INTO blocks (channel, last, expires_at, content) VALUES (?, ?, ?, ?)",
        ((channel, offset, kept[2], encode([kept])) for channel, offset, *kept in rows),
    )
    connection.execute("DROP TABLE publications")


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database, which is there, to read only."""
    connection = connect(path)
    connection.execute("PRAGMA query_only=ON")
    return connection


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
    )
