"""The application that Sockade serves in the benchmark: what the other servers do, and no more.

`/stalls` is the benchmark's own look inside: from its first message on, a task sleeps for a millisecond again and again
and notes the longest time it was away. The answer to each message is what was noted since the last.
"""

from __future__ import annotations

import asyncio
import json
import time

from sockade import Connection, History, Sockade

ROOMS = 100

app = Sockade()


class FanOut:
    async def on_message(self, connection: Connection, message: str) -> None:
        connection.broadcast(message)


class Echo:
    async def on_message(self, connection: Connection, message: str) -> None:
        connection.send(message)


class Open:
    """A channel in which everyone may publish."""

    def may_publish(self, identity: object, number: str) -> bool:
        return True


class Stalls:
    """How long the loop's longest turns were, by the clock and by the CPU of its thread."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.turns: list[tuple[float, float]] = []

    async def watch(self) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            was, spent = wall, cpu
            wall, cpu = time.perf_counter(), time.thread_time()
            # The millisecond that was asked for is no stall; the CPU's part is, of the thread, all of it.
            self.turns.append((wall - was - 0.001, cpu - spent))

    async def on_message(self, connection: Connection, message: str) -> None:
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self.watch())
        turns, self.turns = self.turns, []
        walls, cpus = zip(*turns, strict=True) if turns else ((0.0,), (0.0,))
        connection.send(json.dumps({"turns": len(turns), "wall_ms": max(walls) * 1e3, "cpu_ms": max(cpus) * 1e3}))


app.endpoint("/")(FanOut)
app.endpoint("/echo")(Echo)
app.endpoint("/stalls")(Stalls)
for number in range(ROOMS):
    app.endpoint(f"/room/{number}")(FanOut)
app.channel("plain:{number}")(Open)
app.channel("memory:{number}", history=History(size=100, ttl=300, durable=False))(Open)
app.channel("durable:{number}", history=History(size=100, ttl=300))(Open)
