"""What only the SQLite broker promises: it survives its process, and a failing disk acknowledges nothing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sockade.brokers import sqlite, writer
from sockade.brokers.sqlite import FILE_NAME, TELL_SECONDS, SqliteBroker
from sockade.brokers.stream_file import StreamFile
from sockade.brokers.works import Append
from sockade.clock import SteppedClock
from sockade.errors import StartError, StorageError
from sockade.messaging.broker import (
    LOOK_SECONDS,
    META_SECONDS,
    Draft,
    History,
    Keep,
    Position,
    Publication,
    Published,
)

if TYPE_CHECKING:
    from sockade.brokers.works import Work

KEEP = Keep(size=100, seconds=3_600)


def nobody(channel: str, publication: Publication, position: Position) -> None:
    """Hear nothing."""


async def opened(folder: Path, clock: SteppedClock | None = None) -> SqliteBroker:
    broker = SqliteBroker(folder, clock or SteppedClock())
    await broker.start(nobody)
    return broker


async def publish(broker: SqliteBroker, text: str, key: str = "") -> Position:
    return (await broker.publish("news", Draft(text.encode(), 1_800_000_000.0), KEEP, key)).position


async def test_history_position_and_keys_survive(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    position = await publish(first, "a", key="k")
    await first.close()
    second = await opened(tmp_path)
    history = await second.history("news")
    assert (history.top, [one.data for one in history.publications]) == (position, [b"a"])
    assert await publish(second, "a", key="k") == position
    assert await publish(second, "b") == Position(2, position.epoch)
    await second.close()


async def test_the_epoch_that_a_subscriber_was_told_survives_though_nothing_was_published(tmp_path: Path) -> None:
    clock = SteppedClock()
    first = await opened(tmp_path, clock)
    seen = (await first.history("news")).top
    await first.close()
    second = await opened(tmp_path, clock)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("SELECT * FROM streams").fetchall() == []
    assert await publish(second, "a") == Position(1, seen.epoch)
    await second.close()


async def test_a_start_that_is_given_up_leaves_the_epochs_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by SIGTERM."""
    clock = SteppedClock()
    first = await opened(tmp_path, clock)
    seen = (await first.history("news")).top
    await first.close()
    opening, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def slow(path: Path) -> None:
        opening.set()
        go_on.wait(20)
        done.set()

    with monkeypatch.context() as disk:
        disk.setattr(sqlite, "open_reader", slow)
        starting = asyncio.create_task(SqliteBroker(tmp_path, clock).start(nobody))
        await asyncio.to_thread(opening.wait, 20)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        go_on.set()
        await asyncio.to_thread(done.wait, 20)
    left = open_files()
    third = await opened(tmp_path, clock)
    assert await publish(third, "a") == Position(1, seen.epoch)
    await third.close()
    assert str(tmp_path / FILE_NAME) not in left


async def test_the_file_is_private(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    await broker.close()


async def test_a_failing_commit_fails_everyone_in_it_and_delivers_nothing(tmp_path: Path) -> None:
    delivered: list[bytes] = []
    broker = SqliteBroker(tmp_path, SteppedClock())
    await broker.start(lambda channel, publication, position: delivered.append(publication.data))
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("ALTER TABLE blocks RENAME TO elsewhere")
    answers = await asyncio.gather(*(publish(broker, str(number)) for number in range(5)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {StorageError}
    assert delivered == []
    other.execute("ALTER TABLE elsewhere RENAME TO blocks")
    other.close()
    # The offsets of what failed are given anew.
    assert (await publish(broker, "after")).offset == 1
    assert delivered == [b"after"]
    await broker.close()


async def test_a_look_needs_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes while the disk is full hears what is said from then on, and who hears a channel goes on."""
    monkeypatch.setattr(writer, "MEND_SECONDS", 0.01)
    clock = SteppedClock()
    broker = await opened(tmp_path, clock)
    seen = (await broker.history("news")).top

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as disk:
        for write in ("_write", "mend"):
            disk.setattr(StreamFile, write, full)
        for _ in range(3):
            asked = await asyncio.gather(
                publish(broker, "a"), broker.history("news"), broker.history("other"), return_exceptions=True
            )
            assert [type(one) for one in asked] == [StorageError, History, History]
            assert (asked[1].top, "disk is full" in broker.failure) == (seen, True)  # type: ignore[union-attr]
            clock.step(LOOK_SECONDS - 1)
    async with asyncio.timeout(20):
        while broker.failure:
            await asyncio.sleep(0.01)
    assert await publish(broker, "b") == Position(1, seen.epoch)
    await broker.close()


async def test_a_bad_value_fails_its_commit_and_the_thread_goes_on(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    with pytest.raises(StorageError, match="TypeError"):
        await broker.publish("news", Draft(b"x", None), KEEP)  # type: ignore[arg-type]
    assert (await publish(broker, "after")).offset == 1
    with pytest.raises(StorageError):
        await broker.history("\ud800")
    assert (await broker.history("news")).top.offset == 1
    assert broker.failure == ""
    await broker.close()


async def test_a_history_that_cannot_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Clients got error 100 again and again, and neither the log nor `/readyz` knew of it."""
    clock = SteppedClock()
    broker = await opened(tmp_path, clock)
    await publish(broker, "a")
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("UPDATE blocks SET content = x'00'")
    other.close()
    for _ in range(3):
        with pytest.raises(StorageError, match="Error: "):
            await broker.history("news")
        assert broker.failure.startswith("channels cannot be read: ")
    assert caplog.text.count("channels cannot be read") == 1
    await broker.history("other")
    assert broker.failure == ""
    clock.step(TELL_SECONDS)
    with pytest.raises(StorageError):
        await broker.history("news")
    assert caplog.text.count("channels cannot be read") == 2
    clock.step(TELL_SECONDS)
    assert broker.failure == ""
    await broker.close()


async def test_who_asks_the_same_at_once_gets_one_answer_and_who_leaves_takes_none_along(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    await publish(broker, "a")
    asking = [asyncio.ensure_future(broker.history("news", since=0)) for _ in range(10)]
    other = asyncio.ensure_future(broker.history("news", since=1))
    await asyncio.sleep(0)
    asking[0].cancel()
    found = await asyncio.gather(*asking[1:])
    assert len({id(history) for history in found}) == 1
    assert [one.data for one in found[0].publications] == [b"a"]
    assert (await other).publications == []
    await broker.close()


async def test_few_histories_are_held_however_many_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await opened(tmp_path)
    for number in range(3):
        await publish(broker, str(number))
    held: list[int] = []
    answer = broker._answer
    monkeypatch.setattr(broker, "_answer", lambda found: (held.append(len(found)), answer(found)))
    histories = await asyncio.gather(*(broker.history("news", since=0, budget=number) for number in range(1_000)))
    assert sum(held) == len(histories) == 1_000
    assert max(held) == sqlite.QUESTIONS
    await broker.close()


@pytest.mark.parametrize(("version", "floor"), [(1, 0), (2, 1)])
async def test_a_history_of_an_older_version_is_read_on(tmp_path: Path, version: int, floor: int) -> None:
    old = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    old.executescript(
        f"""
        CREATE TABLE streams (
            channel TEXT PRIMARY KEY, epoch TEXT NOT NULL, top INTEGER NOT NULL, used_at REAL NOT NULL
            {", floor INTEGER NOT NULL DEFAULT 0" if version == 2 else ""}
        ) WITHOUT ROWID;
        CREATE TABLE publications (
            channel TEXT NOT NULL, "offset" INTEGER NOT NULL, data BLOB NOT NULL, time REAL NOT NULL, info BLOB,
            tags BLOB, expires_at REAL NOT NULL, PRIMARY KEY (channel, "offset")
        ) WITHOUT ROWID;
        CREATE INDEX publications_expiry ON publications (expires_at);
        INSERT INTO streams VALUES ('news', 'then', 3, 1800000000 {f", {floor}" if version == 2 else ""});
        INSERT INTO publications VALUES ('news', 1, CAST('"a"' AS BLOB), 1800000000, NULL, NULL, 1900000000);
        INSERT INTO publications VALUES ('news', 2, CAST('"b"' AS BLOB), 1800000000, NULL, NULL, 1800000001);
        INSERT INTO publications VALUES ('news', 3, CAST('"c"' AS BLOB), 1800000000, CAST('i' AS BLOB),
            CAST('t' AS BLOB), 1900000000);
        PRAGMA user_version={version};
        """
    )
    old.close()
    clock = SteppedClock()
    clock.step(1_800_000_002 - clock.wall())
    for new in (b"d", b"e"):
        broker = await opened(tmp_path, clock)
        await publish(broker, new.decode())
        await broker.close()
    broker = await opened(tmp_path, clock)
    history = await broker.history("news")
    first = [Publication(1, b'"a"', 1_800_000_000.0)] if floor == 0 else []
    assert history.publications[:-2] == [*first, Publication(3, b'"c"', 1_800_000_000.0, b"i", b"t")]
    assert [one.data for one in history.publications[-2:]] == [b"d", b"e"]
    assert history.top == Position(5, "then")
    await broker.close()


async def test_a_long_history_of_an_older_version_outlives_what_that_one_gave_it(tmp_path: Path) -> None:
    clock = SteppedClock()
    broker = await opened(tmp_path, clock)
    draft, keep = Draft(b"a", clock.wall()), Keep(100, 3 * META_SECONDS)
    position = (await broker.publish("news", draft, keep)).position
    await broker.close()
    old = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    old.execute("ALTER TABLE streams RENAME COLUMN until TO used_at")
    old.execute("UPDATE streams SET used_at = ?", (clock.wall(),))
    old.execute("PRAGMA user_version=3")
    old.close()
    clock.step(3 * META_SECONDS - 1)
    broker = await opened(tmp_path, clock)
    history = await broker.history("news")
    assert ([one.data for one in history.publications], history.top) == ([b"a"], position)
    await broker.close()


class Commits:
    """How many works each commit took."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        commit = StreamFile.commit

        def counted(file: StreamFile, works: list[Work[Any]]) -> None:
            self.sizes.append(len(works))
            commit(file, works)

        monkeypatch.setattr(StreamFile, "commit", counted)


async def talk(broker: SqliteBroker, turns: int) -> None:
    """Publish ten times, each some turns of the loop after the last was answered, as over a network."""
    for number in range(10):
        await publish(broker, str(number))
        for _ in range(turns):
            await asyncio.sleep(0)


async def test_what_those_publish_next_who_were_answered_goes_into_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "GATHER_SECONDS", 60.0)
    commits = Commits(monkeypatch)
    broker = await opened(tmp_path)

    await asyncio.gather(*(talk(broker, turns) for turns in range(4)))
    assert commits.sizes == [4] * 10
    await broker.close()


async def test_a_commit_does_not_wait_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "GATHER_SECONDS", 0.0)
    commits = Commits(monkeypatch)
    broker = await opened(tmp_path)

    await asyncio.gather(*(talk(broker, turns) for turns in (0, 4)))
    assert len(commits.sizes) > 10
    await broker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="sched(7) is Linux's")
async def test_the_writer_leaves_the_processor_to_the_loop(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    broker = await opened(tmp_path)
    (writer,) = [thread for thread in set(threading.enumerate()) - before if thread.name == "channels-write"]
    await publish(broker, "a")
    assert os.sched_getscheduler(writer.native_id or 0) == os.SCHED_BATCH
    assert os.sched_getscheduler(threading.get_native_id()) == os.SCHED_OTHER
    await broker.close()


async def test_a_closed_broker_says_so(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    await broker.close()
    await broker.close()
    with pytest.raises(StorageError):
        await publish(broker, "x")


async def test_what_waits_at_the_end_is_finished(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    waiting = [asyncio.ensure_future(publish(broker, str(number))) for number in range(50)]
    await asyncio.sleep(0)
    await broker.close()
    assert [position.offset for position in await asyncio.gather(*waiting)] == list(range(1, 51))


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, SystemExit])
async def test_one_who_raises_where_it_hears_takes_nobody_s_answer_along(
    tmp_path: Path, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []

    def hear(channel: str, publication: Publication, position: Position) -> None:
        heard.append(position.offset)
        if position.offset == 2:
            raise kind

    broker = SqliteBroker(tmp_path, SteppedClock())
    await broker.start(hear)
    async with asyncio.timeout(20):
        positions = await asyncio.gather(*(publish(broker, str(number)) for number in range(5)))
        assert [position.offset for position in positions] == heard == [1, 2, 3, 4, 5]
        assert (await publish(broker, "after")).offset == 6
    assert "could not be delivered" in caplog.text
    await broker.close()


async def test_an_interrupt_ends_the_process_when_everyone_is_answered(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    works: list[Work[Any]] = [Append("news", Draft(b"1", 0.0), KEEP, "") for _ in range(3)]
    answers: list[object] = []
    for number, work in enumerate(works):
        work.result = Published(Position(number + 1, "e"))
        work.then(answers.append)

    def leave(channel: str, publication: Publication, position: Position) -> None:
        raise KeyboardInterrupt

    broker._deliver = leave
    with pytest.raises(KeyboardInterrupt):
        broker._settle(works, None)
    assert answers == [work.result for work in works]
    await broker.close()


async def test_a_publisher_who_left_has_published_all_the_same(tmp_path: Path) -> None:
    broker = await opened(tmp_path)
    task = asyncio.ensure_future(publish(broker, "a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await publish(broker, "b")).offset == 2
    await broker.close()


def open_files() -> set[str]:
    """Return the paths of this process's open files, where the system tells them."""
    found = set()
    with suppress(FileNotFoundError):
        for one in list(Path("/proc/self/fd").iterdir()):
            with suppress(FileNotFoundError):  # the folder's own
                found.add(os.readlink(one))
    return found


async def test_a_file_that_cannot_be_written_is_a_sentence_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: StreamFile) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(StreamFile, "take_epochs", full)
    with pytest.raises(StartError, match="disk is full"):
        await opened(tmp_path)
    assert str(tmp_path / FILE_NAME) not in open_files()


async def test_a_file_that_cannot_be_used_is_a_sentence_at_the_start(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(StartError, match="cannot be opened"):
        await opened(tmp_path)
    assert str(tmp_path / FILE_NAME) not in open_files()
    (tmp_path / FILE_NAME).unlink()
    newer = sqlite3.connect(tmp_path / FILE_NAME)
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(StartError, match="newer version"):
        await opened(tmp_path)
