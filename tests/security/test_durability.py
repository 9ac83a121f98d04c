"""Cases 76 to 78, from outside: what is acknowledged survives kills, failing disks and torn files, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from sockade.brokers.sqlite import FILE_NAME
from tests.failing_disk import DiskServer, build
from tests.light import LightClient
from tests.running import ROOMY, RunningServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.running import Start
    from tests.security.report import Observe

    Enter = Callable[[RunningServer], Awaitable["Line"]]

APPLICATION = """
from sockade import History, Sockade

app = Sockade()

class Open:
    def may_publish(self, identity):
        return True

app.channel("kept", history=History(10_000, 3600))(Open)
app.channel("quick", history=History(10_000, 3600, durable=False))(Open)
"""
CONFIG = f"[limits]\n{ROOMY}[credentials]\naccess_token_seconds = 900\n"
FAULTS = ("full", "write", "sync-lost", "sync-kept")


class Line:
    """One client: what it asks, and the publications it hears."""

    def __init__(self) -> None:
        self.client: LightClient
        self.heard: list[str] = []
        self.ids = 0
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    @classmethod
    async def open(cls, server: RunningServer, token: str) -> Line:
        line = cls()
        line.client = await LightClient.open(server.port, server.tls, token, line.hear)
        await line.ask("connect")
        return line

    def hear(self, client: LightClient, message: bytes) -> None:
        for text in message.split(b"\n"):
            found = json.loads(text)
            if "id" in found:
                self.waiting.pop(found["id"]).set_result(found)
            elif "pub" in found.get("push", {}):
                self.heard.append(found["push"]["pub"]["data"])

    async def ask(self, method: str, /, **body: Any) -> dict[str, Any]:
        self.ids += 1
        answer = self.waiting[self.ids] = asyncio.get_running_loop().create_future()
        self.client.send({"id": self.ids, method: body})
        return await asyncio.wait_for(answer, 30)

    async def publish(self, *texts: str, channel: str = "kept") -> list[str]:
        """Publish all at once, and return what was acknowledged."""
        answers = await asyncio.gather(*(self.ask("publish", channel=channel, data=text) for text in texts))
        assert all("publish" in answer or answer["error"]["code"] == 100 for answer in answers), answers
        return [text for text, answer in zip(texts, answers, strict=True) if "publish" in answer]

    async def history(self) -> list[str]:
        found: list[str] = []
        while True:
            page = (await self.ask("history", channel="kept", limit=1000, since={"offset": len(found), "epoch": ""}))[
                "history"
            ]
            found += [one["data"] for one in page.get("publications", [])]
            if len(found) >= page.get("offset", 0) or not page.get("publications"):
                return found


def numbered(kind: str, count: int) -> list[str]:
    return [f"{kind} {number}" for number in range(count)]


async def ready(server: RunningServer, status: int) -> str:
    """Wait until the server says that it is ready, or that it is not, and return what it says."""
    deadline = time.monotonic() + 30
    while (answer := await asyncio.to_thread(server.http, "GET", "/readyz")).status != status:
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.1)
    return json.dumps(answer.json)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def disk(tmp_path: Path, library: Path) -> Iterator[DiskServer]:
    (tmp_path / "durable_app.py").write_text(APPLICATION)
    server = DiskServer(tmp_path / "server", library, CONFIG, "durable_app:app", module_path=str(tmp_path))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    """Connect clients; each ends with the test."""
    lines: list[Line] = []

    async def begin(server: RunningServer) -> Line:
        lines.append(await Line.open(server, await asyncio.to_thread(server.token)))
        return lines[-1]

    yield begin
    for line in lines:
        line.client.cut()
        await line.client.gone


async def reopened(server: RunningServer, enter: Enter) -> Line:
    server.start()
    return await enter(server)


async def refuse_all(server: DiskServer, line: Line, fault: str) -> None:
    """Let the disk fail, and see that nothing is acknowledged while what is kept can still be read."""
    server.set_fault(fault)
    for _ in range(3):
        assert await line.publish(*numbered("refused", 10)) == []
    assert "channels cannot be kept" in await ready(server, 503)
    assert await line.publish("memory", channel="quick") == ["memory"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failing_disk_acknowledges_nothing_and_what_it_refused_never_comes_back(
    disk: DiskServer, fault: str, enter: Enter, observe: Observe
) -> None:
    """Case 77."""
    line, listener = await enter(disk), await enter(disk)
    await listener.ask("subscribe", channel="kept")
    kept = await line.publish(*numbered("before", 50))
    assert len(kept) == 50

    await refuse_all(disk, line, fault)
    assert await line.history() == kept
    disk.set_fault("ok")
    await ready(disk, 200)
    kept += await line.publish(*numbered("between", 50))
    assert len(kept) == 100
    assert listener.heard == kept

    # Without power, only what had got to the disk is there.
    disk.cut_power()
    line = await reopened(disk, enter)
    assert await line.history() == kept

    # Killed while it fails: the next process reads the same log.
    await refuse_all(disk, line, fault)
    disk.stop(signal.SIGKILL)
    disk.set_fault("ok")
    line = await reopened(disk, enter)
    assert await line.history() == kept
    kept += await line.publish(*numbered("after", 50))

    # And the power goes while it fails.
    await refuse_all(disk, line, fault)
    disk.cut_power()
    disk.set_fault("ok")
    line = await reopened(disk, enter)
    assert await line.history() == kept
    kept += await line.publish("last")
    assert len(kept) == 151
    observe("no acknowledgement, 503, and after it goes on", f"{fault}: 90 refused, {len(kept)} kept, none came back")


@contextlib.contextmanager
def small_file_system(folder: Path) -> Iterator[bool]:
    """Mount 4 MiB at a folder, where that is allowed."""
    folder.mkdir(parents=True, mode=0o700)
    words = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_file_system_acknowledges_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, library: Path, enter: Enter, observe: Observe
) -> None:
    """Case 77. Where nothing may be mounted, the disk of this one process is full instead."""
    (tmp_path / "durable_app.py").write_text(APPLICATION)
    (tmp_path / "server").mkdir(mode=0o700)
    with small_file_system(tmp_path / "server" / "data") as mounted:
        server = DiskServer(tmp_path / "server", library, CONFIG, "durable_app:app", module_path=str(tmp_path))
        server.start()
        try:
            line = await enter(server)
            kept = await line.publish(*(text + "x" * 5_000 for text in numbered("before", 50)))
            assert len(kept) == 50
            filler = server.data_dir / "filler"
            if mounted:
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
            else:
                server.set_fault("full")
            refused = 0
            for number in range(200):
                done = await line.publish(f"during {number}" + "x" * 5_000)
                kept += done
                refused += not done
            assert refused > 100
            assert "channels cannot be kept" in await ready(server, 503)
            assert await line.history() == kept
            filler.unlink(missing_ok=True)
            server.set_fault("ok")
            await ready(server, 200)
            kept += await line.publish(*numbered("after", 50))
            server.stop(signal.SIGKILL)
            line = await reopened(server, enter)
            assert await line.history() == kept
        finally:
            server.kill()
    what = "a tmpfs of 4 MiB" if mounted else "ENOSPC"
    observe("no acknowledgement, 503, and after it goes on", f"{what}: {refused} refused, {len(kept)} kept")


TEARS = ("cut off", "overwritten", "followed by rubbish")


def tear(log: Path, how: str, chance: random.Random) -> None:
    """Damage the end of a write-ahead log as a power cut may."""
    size = log.stat().st_size
    with log.open("r+b") as file:
        if how == "cut off":
            file.truncate(size - chance.randrange(1, 4_000))
        elif how == "overwritten":
            file.seek(size - 3_000)
            file.write(chance.randbytes(2_000))
        else:
            file.seek(size)
            file.write(chance.randbytes(10_000))


@pytest.mark.parametrize("how", TEARS)
async def test_the_server_starts_on_a_torn_log_and_the_rest_is_readable(
    disk: DiskServer, how: str, enter: Enter, observe: Observe
) -> None:
    """Case 78."""
    line = await enter(disk)
    kept: list[str] = []
    for number in range(40):
        kept += await line.publish(f"{number}")
    disk.stop(signal.SIGKILL)
    tear(disk.data_dir / f"{FILE_NAME}-wal", how, random.Random(1))
    line = await reopened(disk, enter)
    found = await line.history()
    # What tore is the last transaction, here one publication.
    assert found == (kept if how == "followed by rubbish" else kept[:-1])
    assert await line.publish("after") == ["after"]
    assert await line.history() == [*found, "after"]
    observe("starts; the rest is readable", f"{how}: {len(found)} of {len(kept)}, and it goes on")


async def test_a_users_database_that_cannot_be_written_is_told_and_mends(start: Start) -> None:
    """Case 77."""
    server = start()
    tokens = server.tokens()
    assert await ready(server, 200)
    body = {"refresh_token": tokens["refresh_token"]}
    with contextlib.closing(sqlite3.connect(server.data_dir / "sockade.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = await asyncio.to_thread(server.http, "POST", "/auth/refresh", body)
        assert (refused.status, refused.json["code"]) == (503, "busy")
        assert "users and sessions cannot be kept" in await ready(server, 503)
        other.execute("ROLLBACK")
    await ready(server, 200)
    assert (await asyncio.to_thread(server.http, "POST", "/auth/refresh", body)).status == 200
