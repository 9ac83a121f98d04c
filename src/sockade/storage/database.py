"""Opens the SQL database and hands out its connections; the stores on it say what is asked and changed.

SQLite in the data directory unless a URL names another database. Readers are in autocommit mode, each statement by
itself; a writer is one transaction, durable when it is left without an error. Whatever the driver raises leaves here
as `StorageError`, without the values of the statement, and is known until the same kind of use succeeds again.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, make_url, text
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sockade.errors import StartError, StorageError
from sockade.files import states_of
from sockade.storage.links import SqlLinks
from sockade.storage.migrate import migrate
from sockade.storage.revocations import SqlRevocations
from sockade.storage.sessions import SqlSessions
from sockade.storage.users import SqlUsers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.pool import ConnectionPoolEntry

FILE_NAME = "sockade.db"
BUSY_MILLISECONDS = 5_000
"""How long a writer waits for another process's transaction."""
CLOSE_SECONDS = 2 * BUSY_MILLISECONDS / 1_000
"""How long closing waits for statements that are under way."""
READERS = 4
SETTLED_SECONDS = 10.0
"""How long ago the last write must be: a commit can be read only when the disk has it, which may take a while, and a
file system tells the times of two writes apart only if enough lies between them."""
ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
READ, KEPT = "read", "kept"
MEND_SECONDS = 5.0
"""How long after a write that failed another one is tried, though nobody has anything to write."""
FAILURES = (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError)


class Database:
    """An open database with its stores; implements `identity.stores.Store`."""

    def __init__(self, readers: AsyncEngine, writers: AsyncEngine, file: Path | None = None) -> None:
        """`file` is where it is, if it is one."""
        self._readers = readers
        self._writers = writers
        self._files = (file, file.with_name(f"{file.name}-wal")) if file is not None else ()
        self._failing: set[str] = set()
        self._mend_at = 0.0
        self._closed = False
        self._uses = 0
        self._unused = asyncio.Event()
        self.users = SqlUsers(self)
        self.sessions = SqlSessions(self)
        self.revocations = SqlRevocations(self)
        self.links = SqlLinks(self)

    @classmethod
    async def open(cls, where: Path | str) -> Database:
        """Open the database of a data directory (a path) or of a URL (text), and bring its schema up to date.

        Raises `StartError` when it cannot be opened or was written by a newer version.
        """
        url = sqlite_url(where) if isinstance(where, Path) else parse_url(where)
        try:
            database = cls(*engines(url), file_of(url))
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise StartError(f"The database {url.render_as_string()} cannot be used: {error}") from error
        try:
            async with database.writing() as connection:
                await connection.run_sync(migrate)
        except StorageError as error:
            await database.close()
            raise StartError(f"The database {url.render_as_string()} cannot be opened: {error}") from error
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close every connection, once nobody uses one. What is asked afterwards raises `StorageError`.

        Who was cancelled within a statement leaves when its connection is closed. Were it cancelled once more before
        that, as every task is at the end of a loop, aiosqlite would wait for a thread that has ended, for ever.
        """
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._uses:
                    self._unused.clear()
                    await self._unused.wait()
        await self._readers.dispose()
        await self._writers.dispose()

    @property
    def failures(self) -> list[str]:
        """Return what cannot be done at present, for `/readyz`: without the driver's words, which name hosts."""
        return [f"users and sessions cannot be {what}" for what in sorted(self._failing)]

    async def mend(self) -> None:
        """Try a write while writes fail, so that it is noticed when they do no more: to be called every second."""
        if KEPT not in self._failing or time.monotonic() < self._mend_at:
            return
        with suppress(StorageError):
            async with self.writing() as connection:
                # A statement that changes nothing would not reach the disk. This row is always there.
                await connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
        self._mend_at = time.monotonic() + MEND_SECONDS

    def version(self) -> object | None:
        """Return what differs after each commit, of whichever process; None where only asking tells.

        A commit is appended to SQLite's write-ahead log, or is written into the file itself.
        """
        states = states_of(*self._files)
        if self._closed or not states or states[0] is None:
            return None
        written_at = max(state.modified_ns for state in states if state is not None) / 1e9
        return states if time.time() - written_at > SETTLED_SECONDS else None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Return a connection for single statements that change nothing."""
        with Use(self, READ):
            async with self._readers.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Return a connection in a transaction, committed at the end, rolled back by an exception."""
        with Use(self, KEPT):
            async with self._writers.begin() as connection:
                yield connection

    def enter(self) -> None:
        """Count somebody in. Raises `StorageError` where it is closed."""
        if self._closed:
            raise StorageError("the database is closed")
        self._uses += 1

    def leave(self, purpose: str, error: BaseException | None) -> None:
        """Count somebody out, and note whether what they came for can be done."""
        # What breaks a constraint was judged by a database that works.
        if isinstance(error, FAILURES) and not isinstance(error, IntegrityError):
            self._failing.add(purpose)
        elif error is None:
            self._failing.discard(purpose)
        self._uses -= 1
        if not self._uses:
            self._unused.set()


class Use:
    """Somebody who uses a database, from `with` on; a driver's exception leaves as `StorageError`."""

    def __init__(self, database: Database, purpose: str) -> None:
        self._database = database
        self._purpose = purpose

    def __enter__(self) -> None:
        """Come in. Raises `StorageError` where it is closed."""
        self._database.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Leave, and raise `StorageError` in the place of a driver's exception."""
        self._database.leave(self._purpose, error)
        if isinstance(error, FAILURES):
            cause = getattr(error, "orig", None) or error
            raise StorageError(f"{type(cause).__name__}: {cause}") from error


def sqlite_url(data_dir: Path) -> URL:
    """Return the URL of a data directory's database, whose file is made first so that its mode is 0600."""
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        # A file from elsewhere may be open to others; its -wal and -shm files take its mode.
        path.chmod(0o600)
    except OSError as error:
        raise StartError(f"The database {path} cannot be opened: {error.strerror}.") from error
    return make_url("sqlite+aiosqlite://").set(database=str(path))


def file_of(url: URL) -> Path | None:
    """Return the file of a database that is one."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def parse_url(text: str) -> URL:
    """Return a URL with the asynchronous driver of its database."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StartError("The database URL cannot be read.") from error
    return url.set(drivername=ASYNC_DRIVERS.get(url.drivername, url.drivername))


def engines(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the engines for reading and for writing."""
    common: dict[str, Any] = {"hide_parameters": True, "pool_timeout": 5}
    lite = url.get_backend_name() == "sqlite"
    readers = create_async_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=READERS, max_overflow=0, pool_reset_on_return=None, **common
    )
    # SQLite has one writer at a time; waiting in our queue is fairer than in its busy loop.
    writers = create_async_engine(url, pool_size=1 if lite else READERS, max_overflow=0, **common)
    if lite:
        for engine in (readers, writers):
            event.listen(engine.sync_engine, "connect", prepare_sqlite)
        event.listen(writers.sync_engine, "begin", begin_immediate)
    return readers, writers


def prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Set what SQLite forgets between connections."""
    # None: the driver begins no transactions by itself; see `begin_immediate`.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: in WAL mode a commit is then on the disk when it returns.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads first and writes later could fail in between."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
