"""Case 76, the other half: a thousand subscribers who are cut off at once, come back at once, and miss nothing."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import TYPE_CHECKING, Any

from tests.light import LightClient
from tests.running import ROOMY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.running import RunningServer, Start
    from tests.security.report import Observe

SUBSCRIBERS, MISSED = 1_000, 100
TICK_SECONDS = 0.005
SECONDS = 240
STALL_CPU_SECONDS = 0.5
"""What the loop's thread may work at a stretch. CPU, not time: a busy machine is not the server's."""
# The endpoint tells the longest stall of the loop since it was last asked, in time and in the thread's CPU.
APPLICATION = f"""
import asyncio
import time

from sockade import History, Sockade

app = Sockade()

class Open:
    def may_publish(self, identity):
        return True

app.channel("kept", history=History(10_000, 3600))(Open)

@app.endpoint("/stall")
class Stall:
    worst = [0.0, 0.0]

    async def on_open(self, connection):
        connection.state.watch = asyncio.get_running_loop().create_task(self.watch())

    async def on_message(self, connection, message):
        connection.send(f"{{self.worst[0]}} {{self.worst[1]}}")
        self.worst[:] = 0.0, 0.0

    async def on_close(self, connection):
        connection.state.watch.cancel()

    async def watch(self):
        while True:
            wall, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep({TICK_SECONDS})
            self.worst[0] = max(self.worst[0], time.perf_counter() - wall - {TICK_SECONDS})
            self.worst[1] = max(self.worst[1], time.thread_time() - cpu)
"""


class Subscriber:
    """Hears a channel, and comes back from where it stands as the SDKs do: soon, then later and later, by chance."""

    def __init__(self, server: RunningServer, token: str) -> None:
        self.server = server
        self.token = token
        self.client: LightClient
        self.offsets: list[int] = []
        self.epoch = ""
        self.recovered: list[bool] = []
        self.tries = 0
        self.away = False
        self.coming: asyncio.Task[None] | None = None

    def cut(self) -> None:
        """Be cut off, and stay away."""
        self.away = True
        self.client.cut()

    def lost(self, gone: asyncio.Future[None]) -> None:
        """Come back by itself: on a busy machine a client may be too late with a pong."""
        if not self.away:
            self.coming = asyncio.get_running_loop().create_task(self.come())

    async def come(self) -> None:
        """Connect and subscribe; the answer is heard later."""
        pause, self.away = 0.1, False
        while True:
            self.tries += 1
            try:
                self.client = await LightClient.open(self.server.port, self.server.tls, self.token, self.hear)
                break
            except OSError:
                await asyncio.sleep(random.uniform(pause, 2 * pause))
                pause = min(2 * pause, 5.0)
        self.client.gone.add_done_callback(self.lost)
        offset = self.offsets[-1] if self.offsets else 0
        body = {"channel": "kept", "recover": True, "offset": offset, "epoch": self.epoch}
        self.client.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": body})

    def hear(self, client: LightClient, message: bytes) -> None:
        for line in message.split(b"\n"):
            found: dict[str, Any] = json.loads(line)
            if found.get("id") == 2:
                answer = found["subscribe"]
                self.epoch = answer["epoch"]
                self.recovered.append(answer.get("recovered", False))
                self.offsets += [one["offset"] for one in answer.get("publications", [])]
            elif "pub" in found.get("push", {}):
                self.offsets.append(found["push"]["pub"]["offset"])


class Publisher:
    """Publishes one after the other."""

    def __init__(self) -> None:
        self.client: LightClient
        self.count = 0
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def open(self, server: RunningServer, token: str) -> None:
        def hear(client: LightClient, message: bytes) -> None:
            for line in message.split(b"\n"):
                self.answers.put_nowait(json.loads(line))

        self.client = await LightClient.open(server.port, server.tls, token, hear)
        self.client.send({"id": 1, "connect": {}})
        await self.answers.get()

    async def publish(self, count: int, pause: float = 0) -> None:
        for _ in range(count):
            self.count += 1
            self.client.send({"id": 2, "publish": {"channel": "kept", "data": {"text": "x" * 100}}})
            assert "publish" in await self.answers.get()
            await asyncio.sleep(pause)

    async def until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.publish(1, 0.2)


async def stall(watcher: LightClient, heard: asyncio.Queue[bytes]) -> tuple[float, float]:
    """Return the longest stall since the last time, in seconds of time and of CPU."""
    watcher.send({})
    wall, cpu = (await heard.get()).split()
    return float(wall), float(cpu)


async def all_at(subscribers: list[Subscriber], offset: int) -> None:
    """Wait until everybody has heard what has this offset."""
    async with asyncio.timeout(SECONDS):
        while not all(one.offsets and one.offsets[-1] >= offset for one in subscribers):
            await asyncio.sleep(0.1)


async def test_a_thousand_cut_off_at_once_all_recover_and_the_loop_stays_responsive(
    start: Start, tmp_path: Path, observe: Observe
) -> None:
    """Case 76."""
    (tmp_path / "storm_app.py").write_text(APPLICATION)
    config = f"[limits]\n{ROOMY}user_factor = 1000\n[credentials]\naccess_token_seconds = 900\n"
    server = start(config, "storm_app:app", module_path=str(tmp_path), traced=False)
    token = await asyncio.to_thread(server.token)
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    watcher = await LightClient.open(server.port, server.tls, token, lambda _, text: heard.put_nowait(text), "/stall")
    publisher = Publisher()
    await publisher.open(server, token)
    subscribers = [Subscriber(server, token) for _ in range(SUBSCRIBERS)]
    for begin in range(0, SUBSCRIBERS, 50):
        await asyncio.gather(*(one.come() for one in subscribers[begin : begin + 50]))
    await publisher.publish(10)
    await all_at(subscribers, publisher.count)

    for one in subscribers:
        one.cut()
    await asyncio.gather(*(one.client.gone for one in subscribers))
    await publisher.publish(MISSED)
    await stall(watcher, heard)
    began, stop = time.monotonic(), asyncio.Event()
    going_on = asyncio.create_task(publisher.until(stop))
    await asyncio.gather(*(one.come() for one in subscribers))
    await all_at(subscribers, 10 + MISSED)
    seconds = time.monotonic() - began
    wall, cpu = await stall(watcher, heard)
    stop.set()
    await going_on
    await all_at(subscribers, publisher.count)

    for one in subscribers:
        one.cut()
    publisher.client.cut()
    watcher.cut()
    await asyncio.gather(*(one.client.gone for one in [*subscribers, publisher]), watcher.gone)
    tries = sum(one.tries for one in subscribers) - SUBSCRIBERS
    observe(
        "all recover, the loop stays responsive",
        f"{SUBSCRIBERS} cut off at once had all {MISSED} they missed after {seconds:.1f} s ({tries} connects); "
        f"longest stall of the loop {wall * 1000:.0f} ms, of which {cpu * 1000:.0f} ms were its own work",
    )
    assert all(len(one.recovered) >= 2 and all(one.recovered) for one in subscribers)
    assert all(one.offsets == list(range(1, publisher.count + 1)) for one in subscribers)
    assert cpu < STALL_CPU_SECONDS
