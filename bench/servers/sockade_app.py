"""The application that Sockade serves in the benchmark: what the other servers do, and no more.

`/stalls` is the benchmark's own look inside: from its first message on, a task sleeps for a millisecond again and again
and notes when it was away for longer. The answer to each message is what was noted since the last.
"""

from __future__ import annotations

import asyncio
import json
import time

from sockade import Connection, History, Sockade

ROOMS = 100
NOTED = 1_000

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
    """When the loop's long turns ended, and how long each was, by the clock and by the CPU of its thread (ns)."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.turns: list[tuple[int, int, int]] = []

    async def watch(self) -> None:
        wall, cpu = time.monotonic_ns(), time.thread_time_ns()
        while True:
            await asyncio.sleep(0.001)
            was, spent = wall, cpu
            wall, cpu = time.monotonic_ns(), time.thread_time_ns()
            # The millisecond that was asked for is no stall.
            if (away := wall - was - 1_000_000) > 1_000_000:
                self.turns.append((wall, away, cpu - spent))

    async def on_message(self, connection: Connection, message: str) -> None:
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self.watch())
        turns, self.turns = self.turns, []
        turns.sort(key=lambda turn: turn[1], reverse=True)
        connection.send(json.dumps(turns[:NOTED]))


app.endpoint("/")(FanOut)
app.endpoint("/echo")(Echo)
app.endpoint("/stalls")(Stalls)
for number in range(ROOMS):
    app.endpoint(f"/room/{number}")(FanOut)
app.channel("plain:{number}")(Open)
app.channel("memory:{number}", history=History(size=100, ttl=300, durable=False))(Open)
app.channel("durable:{number}", history=History(size=100, ttl=300))(Open)
