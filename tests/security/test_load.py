"""Cases 72, 75 and 81, from outside: who never reads, who comes and goes, who is refused again and again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import statistics
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.light import LightClient
from tests.running import ROOMY
from tests.security.scale import number
from tests.security.sockets import UPGRADE, descriptors, memory_mib, plain, read_to_end, secure, status, wait_until
from tests.security.wire import TEXT, Wire, close_frame, frame

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from tests.running import RunningServer, Start
    from tests.security.report import Observe

HEARERS, STALLED = number(90, 900), number(10, 100)
"""One of ten never reads."""
FILLING = "x" * 2_000
CHURN_SECONDS = float(os.environ.get("CHURN_SECONDS") or number(30, 3_600).run)
"""How long clients come and go; `CHURN_SECONDS=300` for five minutes."""
REFUSALS = 4_000
IDLE = 400
CONFIG = f"[limits]\n{ROOMY}"
APP = '''
import asyncio

from sockade import Connection, Sockade

app = Sockade()

@app.endpoint("/")
class Room:
    async def on_message(self, connection: Connection, message: str) -> None:
        if message == "tasks":
            connection.send(str(len(asyncio.all_tasks())))
        else:
            connection.broadcast(message)
            app.broadcast("/stalled", message + "x" * 100_000)

@app.endpoint("/stalled")
class Stalled(Room):
    """Who hears what is said in the room, and much more."""
'''


@pytest.fixture
def room(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    folder = tmp_path_factory.mktemp("app")
    (folder / "load_under_test.py").write_text(APP)
    return start(CONFIG, "load_under_test:app", module_path=str(folder), traced=False)


async def latencies(sender: ClientConnection, hearers: list[ClientConnection], texts: list[str]) -> list[float]:
    """Send texts one after the other; return how long each took to reach everyone. Nobody may miss one."""
    took = []
    # A collection among all that other tests have left here takes half a second, and would be counted as the server's.
    gc.disable()
    try:
        for text in texts:
            began = time.perf_counter()
            await sender.send(text)
            heard = await asyncio.gather(*(asyncio.wait_for(one.recv(), 20) for one in hearers))
            took.append(time.perf_counter() - began)
            assert set(heard) == {text}
    finally:
        gc.enable()
    return took


def closings(server: RunningServer) -> list[float]:
    """Return when slow consumers were closed, in POSIX seconds."""
    found = [line["@timestamp"] for line in server.log if line.get("message") == "slow_consumer"]
    return [datetime.fromisoformat(moment).timestamp() for moment in found]


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[-1] * 1_000


async def test_who_never_reads_is_closed_and_the_others_miss_nothing(room: RunningServer, observe: Observe) -> None:
    """Case 72."""
    token = await asyncio.to_thread(room.token)
    limit = asyncio.Semaphore(50)

    async def hear() -> ClientConnection:
        async with limit:
            return await room.connect(token=token, ping_interval=None, open_timeout=30)

    sender, *hearers = await asyncio.gather(*(hear() for _ in range(HEARERS.run + 1)))
    before = p99(await latencies(sender, hearers, [f"{number} {FILLING}" for number in range(60)]))
    memory = memory_mib(room)
    with contextlib.ExitStack() as stack:
        for _ in range(STALLED.run):
            stack.enter_context(await asyncio.to_thread(Wire, room, token, "/stalled", receive_buffer=4_096))
        # The kernel takes little for a peer that reads nothing; the server keeps the rest.
        began, took, highest, sent = time.time(), list[float](), memory, 0
        while len(closings(room)) < STALLED.run:
            took += await latencies(sender, hearers, [f"{sent + number} {FILLING}" for number in range(5)])
            sent += 5
            highest = max(highest, memory_mib(room))
            assert time.time() - began < 60, f"not all closed after {sent} messages"
    # When they were closed, and not when a test that hears for hundreds got round to looking.
    closed = max(closings(room)) - began
    took += await latencies(sender, hearers, [f"{number} {FILLING}" for number in range(20)])
    observe(
        "closed within 10 s, at most 1 MiB each, the others miss nothing",
        f"{STALLED} beside {HEARERS} closed after {closed:.1f} s, {(highest - memory) / STALLED.run:.2f} MiB each; "
        f"p99 to reach the others: {before:.0f} ms before, {p99(took):.0f} ms during",
    )
    assert closed < 10
    assert highest - memory < STALLED.run * 1.25 + 8
    assert p99(took) < 3 * before + 50
    await asyncio.gather(sender.close(), *(one.close() for one in hearers))


async def test_an_idle_connection_keeps_little(room: RunningServer) -> None:
    token = await asyncio.to_thread(room.token)

    async def many(count: int) -> list[LightClient]:
        return [await LightClient.open(room.port, room.tls, token, lambda *_: None, "/") for _ in range(count)]

    clients = await many(50)  # until what all share is there
    before = memory_mib(room)
    clients += await many(IDLE)
    each = 1_024 * (memory_mib(room) - before) / IDLE
    for client in clients:
        client.cut()
    await asyncio.gather(*(client.gone for client in clients))
    # As docs/performance.md has it; two buffers of a TLS record alone would be 33 KiB.
    assert each < 30


async def test_who_stops_reading_is_closed_at_the_bound_however_long_it_may_stall(
    start: Start, tmp_path_factory: pytest.TempPathFactory, observe: Observe
) -> None:
    """Case 72."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "load_under_test.py").write_text(APP)
    room = start(f"{CONFIG}stall_seconds = 600\n", "load_under_test:app", module_path=str(folder))
    token = await asyncio.to_thread(room.token)
    sent = 0
    async with room.connect(token=token) as sender:
        with await asyncio.to_thread(Wire, room, token, "/stalled", receive_buffer=4_096):
            while not closings(room):
                assert sent < 40, "4 MB wait for one that reads nothing"
                await sender.send("x")
                sent += 1
                await asyncio.sleep(0.1)
    observe("at most 1 MiB kept, and what TLS and the kernel take", f"closed after {sent / 10:.1f} MB")
    assert sent > 5


@pytest.mark.parametrize("fast", ["true", "false"])
async def test_who_stops_reading_is_closed_though_nothing_more_is_sent(
    start: Start, tmp_path_factory: pytest.TempPathFactory, fast: str, observe: Observe
) -> None:
    """Case 72."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "load_under_test.py").write_text(APP)
    room = start(f"[server]\nfast = {fast}\n{CONFIG}", "load_under_test:app", module_path=str(folder))
    token = await asyncio.to_thread(room.token)
    async with room.connect(token=token) as sender:
        with await asyncio.to_thread(Wire, room, token, receive_buffer=4_096):
            began = time.time()
            # Far less than the outbox may hold, and more than the kernel and TLS take for a peer.
            for _ in range(22):
                await sender.send("x" * 20_000)
            await asyncio.to_thread(wait_until, lambda: closings(room), 20)
    observe("closed within 10 s", f"after {closings(room)[0] - began:.1f} s with 440,000 bytes unread")
    assert closings(room)[0] - began < 10


def leave(server: RunningServer, token: str, number: int) -> None:
    """Come and go in one of many ways."""
    way = number % 7
    if way == 0:
        with contextlib.closing(plain(server)):
            return
    if way in (1, 2):
        with contextlib.closing(secure(server)) as sock:
            shown = "Authorization: Bearer wrong\r\n" if way == 1 else ""
            sock.sendall(f"GET / HTTP/1.1\r\n{UPGRADE.decode()}{shown}\r\n".encode())
            assert status(read_to_end(sock)) == 401
            return
    with Wire(server, token) as wire:
        if way == 3:
            wire.send(close_frame(1000))
            assert wire.close_code() == 1000
        elif way == 4:
            wire.send(frame(TEXT, b"half", fin=False))
        elif way == 5:
            wire.send(frame(TEXT, b"x" * 2_000))
        # And some just go.


def test_coming_and_going_leaves_nothing_behind(room: RunningServer, observe: Observe) -> None:
    """Case 75."""

    def tasks() -> int:
        with Wire(room, room.token()) as wire:
            wire.send(frame(TEXT, b"tasks"))
            return int(wire.message())

    token, issued = room.token(), time.monotonic()
    number = 0

    def churn(seconds: float) -> tuple[float, int, int]:
        nonlocal token, issued, number
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if time.monotonic() - issued > 120:
                token, issued = room.token(), time.monotonic()
            leave(room, token, number)
            number += 1
        wait_until(lambda: descriptors(room) <= idle, 10)
        return memory_mib(room), descriptors(room), tasks()

    def settled() -> int:
        """Return the fewest descriptors within a second: the connection that asked for the token ends by itself."""
        found = []
        for _ in range(20):
            found.append(descriptors(room))
            time.sleep(0.05)
        return min(found)

    idle = settled()
    leave(room, token, 3)
    warm, last = churn(CHURN_SECONDS / 3), churn(CHURN_SECONDS * 2 / 3)
    observe(
        "memory, descriptors and tasks flat",
        f"{number} came and went in {CHURN_SECONDS:g} of 3,600 s: {warm[0]:.0f} → {last[0]:.0f} MiB, "
        f"{warm[1]} → {last[1]} descriptors, {warm[2]} → {last[2]} tasks",
    )
    assert last[0] - warm[0] < 6
    assert last[1:] == warm[1:]


def test_a_flood_of_refusals_is_logged_within_bounds_and_counted(start: Start, observe: Observe) -> None:
    """Case 81."""
    # Those that take the address's places say nothing, and must not be timed out before the flood is over.
    server = start("[limits]\ntls_seconds = 300\n")
    with contextlib.ExitStack() as stack:
        # An address of its own: behind that of the other tests few ports may be left, and each takes long to be found.
        for _ in range(20):
            stack.enter_context(plain(server, "127.0.0.81"))
        began = time.monotonic()
        for _ in range(REFUSALS):
            plain(server, "127.0.0.81").close()
        seconds = time.monotonic() - began

        def counted() -> tuple[int, int, int]:
            """Return how many refusals were written, how many counted, and in how many lines."""
            log = server.log
            refusals = [line for line in log if line.get("event.reason") == "address_connections"]
            counts = [line["sockade.log.left_out"] for line in log if "sockade.log.left_out" in line]
            return len(refusals), sum(counts), len(counts)

        wait_until(lambda: sum(counted()[:2]) >= REFUSALS, 20)
        elapsed = time.monotonic() - began
    written, left_out, counts = counted()
    observe(
        "at most 1,000 and 200 a second, the rest counted",
        f"{REFUSALS} refused in {seconds:.1f} s: {written} lines, {left_out} counted in {counts}",
    )
    assert written + left_out == REFUSALS
    assert left_out > 0
    assert written <= 1_000 + 200 * (elapsed + 1)
    assert counts <= elapsed + 1
    assert len(server.log_text) < 1_000_000
