import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from sockade.errors import StartError, StorageError
from sockade.storage import database as module
from sockade.storage.database import Database, file_of, parse_url
from sockade.storage.migrate import migrate
from sockade.storage.tables import METADATA
from tests.contracts.records import user


async def test_the_file_is_private_and_durable(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    database = await Database.open(folder)
    await database.users.add(user())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    for connect in (database.reading, database.writing):
        async with connect() as connection:
            values = [
                (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
        assert values == ["wal", 2, 1, 5_000]
    await database.close()


async def test_a_file_from_elsewhere_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "sockade.db").touch(0o644)
    database = await Database.open(tmp_path)
    await database.users.add(user())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    await database.close()


async def test_a_second_opening_finds_what_the_first_wrote(tmp_path: Path) -> None:
    for expected in (True, False):
        database = await Database.open(tmp_path)
        assert await database.users.add(user()) is expected
        await database.close()


def age(folder: Path) -> None:
    """Let the last write be long ago."""
    for path in folder.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))


async def test_a_commit_of_whichever_process_makes_another_version(tmp_path: Path) -> None:
    database, other = await Database.open(tmp_path), await Database.open(tmp_path)
    assert database.version() is None  # just written: the next write need not change the time
    age(tmp_path)
    before = database.version()
    assert before is not None
    assert await database.users.get("ada") is None
    assert database.version() == before
    assert await other.users.add(user())
    assert database.version() is None
    age(tmp_path)
    assert database.version() not in (None, before)
    (tmp_path / "sockade.db").unlink()
    assert database.version() is None
    await other.close()
    await database.close()


async def test_a_version_is_told_of_open_databases_in_files_only(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    age(tmp_path)
    assert database.version() is not None
    await database.close()
    age(tmp_path)
    assert database.version() is None
    assert file_of(parse_url("postgresql://localhost/sockade")) is None
    assert file_of(parse_url("sqlite://")) is None
    assert file_of(parse_url(f"sqlite:///{tmp_path}/a.db")) == tmp_path / "a.db"


async def test_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)

    def columns(connection: object) -> dict[str, set[str]]:
        inspector = inspect(connection)
        assert inspector is not None
        return {
            name: {column["name"] for column in inspector.get_columns(name)} for name in inspector.get_table_names()
        }

    async with database.reading() as connection:
        found = await connection.run_sync(columns)
    assert found.pop("alembic_version")
    assert found == {table.name: {column.name for column in table.columns} for table in METADATA.sorted_tables}
    await database.close()


async def test_users_from_before_look_alikes_were_compared_keep_their_names(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'sockade.db'}")
    with engine.begin() as connection:
        migrate(connection, "0002")
        for at, name in enumerate(("b0b", "bob", "Ana")):
            row = {"folded": name.lower(), "name": name, "at": at}
            connection.execute(text("INSERT INTO users VALUES (:folded, :name, 'user', 'phc', :at, NULL)"), row)
        session = "('s1', 'cookie', 'bob', 'cookie', 0, 0, 9e9, NULL, NULL, '', '')"
        connection.execute(text(f"INSERT INTO sessions VALUES {session}"))
    engine.dispose()

    database = await Database.open(tmp_path)
    assert [(one.name, one.password_hash) for one in await database.users.everyone()] == [
        ("Ana", "phc"),
        ("b0b", "phc"),
        ("bob", "phc"),
    ]
    for name in ("b0b", "BOB", "ana"):
        found = await database.users.get(name)
        assert found is not None
        assert found.name.lower() == name.lower()
    signed_in = await database.sessions.by_cookie("cookie")
    assert signed_in is not None
    assert signed_in.user == "bob"
    assert await database.users.disable("bob", at=1.0) == {"s1"}
    for name in ("B0b", "Воb", "аna"):
        assert not await database.users.add(user(name))
    assert await database.users.add(user("rob"))
    await database.close()


async def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)

    async def fail_halfway() -> None:
        async with database.writing() as connection:
            await connection.execute(text("INSERT INTO users VALUES ('a', 'a', 'user', NULL, 0, NULL, 'a')"))
            await connection.execute(text("INSERT INTO nowhere VALUES (1)"))

    with pytest.raises(StorageError, match="no such table"):
        await fail_halfway()
    assert await database.users.everyone() == []
    await database.close()


async def test_a_writer_that_is_cancelled_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    inside = asyncio.Event()

    async def write() -> None:
        async with database.writing() as connection:
            await connection.execute(text("INSERT INTO users VALUES ('a', 'a', 'user', NULL, 0, NULL, 'a')"))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.users.add(user())
    assert [one.name for one in await database.users.everyone()] == ["Ana"]
    await database.close()


async def test_errors_do_not_show_the_values_of_a_statement(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    with pytest.raises(StorageError) as caught:
        async with database.writing() as connection:
            await connection.execute(text("INSERT INTO nowhere VALUES (:value)"), {"value": "marked-secret"})
    assert "marked-secret" not in f"{caught.value} {caught.value.__cause__}"
    await database.close()


async def test_a_closed_database_is_an_error(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    await database.close()
    with pytest.raises(StorageError, match="closed"):
        await database.users.everyone()
    with pytest.raises(StorageError, match="closed"):
        await database.users.add(user())


class SlowDisk:
    """Holds up a statement for as long as a test likes."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.asked.set()
        self.answers.wait(30)

    async def ask(self, database: Database) -> asyncio.Task[None]:
        """Return a task that is within a statement."""
        task = asyncio.create_task(self._ask(database))
        assert await asyncio.to_thread(self.asked.wait, 30)
        return task

    async def _ask(self, database: Database) -> None:
        async with database.reading() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            await driver.create_function("wait", 0, self.wait)
            await connection.execute(text("SELECT wait()"))


@pytest.fixture
def slow_disk() -> Iterator[SlowDisk]:
    disk = SlowDisk()
    yield disk
    disk.answers.set()


async def test_closing_waits_for_who_was_cancelled_within_a_statement(tmp_path: Path, slow_disk: SlowDisk) -> None:
    """The end of a loop cancels every task, and aiosqlite never comes back from being cancelled twice in its close."""
    database = await Database.open(tmp_path)
    asking = await slow_disk.ask(database)
    asking.cancel()
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0.1)
    assert not closing.done()
    slow_disk.answers.set()
    await closing
    assert asking.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_waits_for_a_disk_that_hangs_no_longer_than_it_may(
    tmp_path: Path, slow_disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    database = await Database.open(tmp_path)
    asking = await slow_disk.ask(database)
    async with asyncio.timeout(20):
        await database.close()
    assert not asking.done()
    asking.cancel()
    slow_disk.answers.set()
    await asyncio.wait([asking])


async def test_another_process_writes_to_the_same_file(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    script = (
        "import asyncio, pathlib, sys\n"
        "from sockade.identity.stores import User\n"
        "from sockade.storage.database import Database\n"
        "async def main():\n"
        "    database = await Database.open(pathlib.Path(sys.argv[1]))\n"
        "    await database.users.add(User('bob', 'user', None, 0.0))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(tmp_path)], check=True)
    assert [one.name for one in await database.users.everyone()] == ["bob"]
    await database.close()


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    async with database.writing() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    with pytest.raises(StartError, match="newer"):
        await Database.open(tmp_path)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sockade.db").write_bytes(b"this is not a database, not at all" * 100)
    with pytest.raises(StartError, match="cannot be opened"):
        await Database.open(tmp_path)


async def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sockade.db").mkdir()
    with pytest.raises(StartError, match="cannot be opened"):
        await Database.open(tmp_path)


@pytest.mark.parametrize("url", ["nonsense", "mysterious://host/db", "postgresql+nodriver://host/db"])
async def test_a_url_of_no_known_database_is_refused(url: str) -> None:
    with pytest.raises(StartError):
        await Database.open(url)


async def test_a_url_opens_sqlite_too(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path / 'other.db'}")
    assert await database.users.add(user())
    await database.close()
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        assert connection.execute("SELECT folded FROM users").fetchall() == [("ana",)]


async def test_a_write_that_fails_is_known_until_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 77."""
    monkeypatch.setattr(module, "BUSY_MILLISECONDS", 20)
    database = await Database.open(tmp_path)
    assert database.failures == []
    with closing(sqlite3.connect(tmp_path / "sockade.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError):
            await database.users.add(user())
        await database.users.get("ana")
        assert database.failures == ["users and sessions cannot be kept"]
        await database.mend()
        assert database.failures
        other.execute("ROLLBACK")
        await database.mend()
        assert database.failures, "tried again too soon"
        monkeypatch.setattr(module.time, "monotonic", lambda: float("inf"))
        await database.mend()
    assert database.failures == []
    await database.close()


async def test_a_write_that_is_tried_reaches_the_disk(tmp_path: Path) -> None:
    """A disk that is full does not fail a statement that changes nothing."""
    database = await Database.open(tmp_path)
    await database.users.add(user())
    log = tmp_path / "sockade.db-wal"
    before = log.read_bytes()
    await database.mend()
    assert log.read_bytes() == before
    database.enter()
    database.leave("kept", OSError())
    await database.mend()
    assert log.read_bytes() != before
    assert database.failures == []
    await database.close()


async def test_a_read_that_fails_is_known_until_one_succeeds(tmp_path: Path) -> None:
    """Case 77."""
    database = await Database.open(tmp_path)
    with closing(sqlite3.connect(tmp_path / "sockade.db", isolation_level=None)) as other:
        other.execute("ALTER TABLE users RENAME TO gone")
        with pytest.raises(StorageError):
            await database.users.get("ana")
        assert database.failures == ["users and sessions cannot be read"]
        other.execute("ALTER TABLE gone RENAME TO users")
    await database.users.get("ana")
    assert database.failures == []
    await database.close()


async def test_a_name_that_is_taken_is_no_failure(tmp_path: Path) -> None:
    database = await Database.open(tmp_path)
    for _ in range(2):
        await database.users.add(user())
    assert database.failures == []
    await database.close()
