"""The benchmark's driver is the judge of the servers: it must see what a server does wrong."""

import asyncio
import json
import os
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from bench import install
from sockade.doors.certificates import ensure_local_pair

Handle = Callable[[ServerConnection], Awaitable[None]]
Drive = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("driver") / "driver"
    sources = sorted((install.HERE / "driver").glob("*.c"))
    subprocess.run(
        ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, *sources, "-lssl", "-lcrypto"], check=True
    )
    return program


@pytest.fixture
def drive(driver: Path, tmp_path: Path) -> Iterator[Drive]:
    """Let the driver work on a server whose connections are handled as told."""
    (tmp_path / "data").mkdir(mode=0o700)
    pair = ensure_local_pair(tmp_path / "data", (), 2e9)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    servers: list[Server] = []

    def run(handle: Handle, *words: str, told: str | int = "") -> subprocess.CompletedProcess[str]:
        async def start() -> int:
            server = await serve(handle, "127.0.0.1", 0, ssl=context, compression=None)
            servers.append(server)
            return int(next(iter(server.sockets)).getsockname()[1])

        port = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
        command = [driver, f"port={port}", f"pid={os.getpid()}", "clients=3", "seconds=0.1", *words]
        given = {"input": told} if isinstance(told, str) else {"stdin": told}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **given)

    async def stop() -> None:
        for server in servers:
            server.close()
            await server.wait_closed()

    yield run
    asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def answer(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def test_what_it_measured_is_one_line_of_json(drive: Drive) -> None:
    done = drive(answer, "work=echo")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["clients"] == 3
    assert found["units"] > 0
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["most_us"]


@pytest.mark.parametrize(("work", "units"), [("echo", None), ("handshake", [1, 2])])
def test_it_works_once_for_each_line_that_it_is_told(drive: Drive, work: str, units: list[int] | None) -> None:
    done = drive(answer, f"work={work}", "turns=2", told="\n\n")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["clients"] for row in rows] == ([3, 3] if units is None else [1, 3])
    assert units in (None, [row["units"] for row in rows])
    assert len(drive(answer, f"work={work}", "turns=2", told="\n").stdout.splitlines()) == 1


def test_a_flood_is_measured_without_the_one_who_floods_and_then_with_it(drive: Drive) -> None:
    heard: list[int] = []

    async def answer_within_limits(connection: ServerConnection) -> None:
        number = len(heard)
        heard.append(0)
        async for message in connection:
            heard[number] += 1
            if heard[number] > 100:
                return await connection.close(1008)
            await connection.send(message)
        return None

    done = drive(answer_within_limits, "work=flood", "rate=10", "seconds=0.5")
    assert done.returncode == 0, done.stderr
    calm, flood = (json.loads(line) for line in done.stdout.splitlines())
    assert (calm["flooding"], calm["flooded"], calm["flood_closed"]) == (0, 0, 0)
    assert flood["flooding"] == 1
    assert flood["flooded"] > 100
    assert flood["flood_closed"] >= 2  # it comes back
    assert calm["units"] > 0
    assert flood["units"] > 0


def test_it_answers_pings_while_it_waits_for_its_turn(drive: Drive) -> None:
    told, tell = os.pipe()
    pongs, pinging = [], []

    async def ping(connection: ServerConnection) -> None:
        try:
            await asyncio.sleep(1)  # the turn of 0.1 s is over
            await asyncio.wait_for(await connection.ping(), 5)
            pongs.append(True)
        finally:
            os.close(tell)

    async def answer_and_ping(connection: ServerConnection) -> None:
        if not pinging:
            pinging.append(asyncio.create_task(ping(connection)))
        await answer(connection)

    os.write(tell, b"\n")
    with os.fdopen(told):
        done = drive(answer_and_ping, "work=echo", "turns=2", told=told)
    assert done.returncode == 0, done.stderr
    assert pongs
    assert len(done.stdout.splitlines()) == 1


def test_a_changed_message_is_seen(drive: Drive) -> None:
    async def change(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(str(message)[:-1] + "!")

    done = drive(change, "work=echo")
    assert done.returncode == 1
    assert "not due" in done.stderr


def test_a_message_that_comes_twice_is_seen(drive: Drive) -> None:
    async def repeat(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)
            await connection.send(message)

    assert drive(repeat, "work=echo").returncode == 1


def test_a_message_that_comes_back_to_its_sender_is_seen(drive: Drive) -> None:
    assert "not due" in drive(answer, "work=fanout").stderr


def test_a_refused_upgrade_is_seen(drive: Drive) -> None:
    async def refuse(connection: ServerConnection) -> None:
        await connection.close(1008)

    assert drive(refuse, "work=echo").returncode == 1


def test_the_answer_of_a_publish_that_nobody_asked_for_is_seen(drive: Drive) -> None:
    async def acknowledge(connection: ServerConnection) -> None:
        async for message in connection:
            command = json.loads(message)
            if "connect" in command:
                await connection.send(json.dumps({"id": command["id"], "connect": {"client": "x"}}))
            else:
                await connection.send(json.dumps({"id": command["id"] + 5, "publish": {}}))

    done = drive(acknowledge, "work=publish", "dialect=channel", "depth=2")
    assert done.returncode == 1
    assert "not due" in done.stderr


@pytest.mark.parametrize("word", ["depth=0", "size=1", "clients=1", "addresses=201"])
def test_what_it_cannot_do_is_usage(driver: Path, word: str) -> None:
    assert subprocess.run([driver, "port=1", "pid=1", word], capture_output=True).returncode == 2
