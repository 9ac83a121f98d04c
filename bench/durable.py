"""Measures what durability costs: `.venv/bin/python bench/durable.py [ROUNDS SECONDS]`.

One server has two channels with the same history, one kept on the disk and one in memory. Sixteen publishers with
eight publications in flight each publish in one of them, then in the other, in turn. What counts is the CPU of the
server's process, all threads, for each acknowledged publication.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.light import LightClient, text_frame  # noqa: E402
from tests.running import RunningServer  # noqa: E402

PUBLISHERS, IN_FLIGHT, BYTES = 16, 8, 128
WARM_UP_SECONDS = 0.5
CHANNELS = ("memory", "disk")
APPLICATION = """
from sockade import History, Sockade

app = Sockade()

class Open:
    def may_publish(self, identity):
        return True

app.channel("disk", history=History(1000, 3600))(Open)
app.channel("memory", history=History(1000, 3600, durable=False))(Open)
"""
# Every check is on; the limits are raised only as far as one user who publishes this much needs.
CONFIG = """
[limits]
connections_per_address = 5000
connections_per_user = 5000
handshakes_per_minute = 10000000
messages_per_second = 1000000
message_burst = 1000000
message_bytes_per_second = 1000000000
message_bytes_burst = 1000000000
total_messages_per_second = 10000000
[credentials]
access_token_seconds = 900
"""


def cpu_seconds(pid: int) -> float:
    """Return the CPU a process has used so far, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load:
    """Publishers on one channel; each sends another publication for each acknowledgement."""

    def __init__(self, channel: str) -> None:
        text = "x" * BYTES
        self.publish = text_frame(f'{{"id":2,"publish":{{"channel":"{channel}","data":"{text}"}}}}'.encode())
        self.acknowledged = 0
        self.failed = 0
        self.stopped = False
        self.clients: list[LightClient] = []

    async def start(self, server: RunningServer, token: str) -> None:
        for _ in range(PUBLISHERS):
            client = await LightClient.open(server.port, server.tls, token, self.heard)
            client.send({"id": 1, "connect": {}})
            self.clients.append(client)

    def heard(self, client: LightClient, message: bytes) -> None:
        for line in message.split(b"\n"):
            if line.startswith(b'{"id":1,'):
                client.transport.write(self.publish * IN_FLIGHT)
            elif line.startswith(b'{"id":2,'):
                if b'"error"' in line:
                    self.failed += 1
                self.acknowledged += 1
                if not self.stopped:
                    client.transport.write(self.publish)

    async def stop(self) -> None:
        self.stopped = True
        await asyncio.sleep(0.1)
        for client in self.clients:
            client.cut()
        await asyncio.gather(*(client.gone for client in self.clients))


async def measure(server: RunningServer, token: str, channel: str, seconds: float) -> tuple[float, float]:
    """Return the server's CPU for one acknowledged publication, in microseconds, and how many it took a second."""
    load = Load(channel)
    await load.start(server, token)
    await asyncio.sleep(WARM_UP_SECONDS)
    cpu, count, began = cpu_seconds(server.process.pid), load.acknowledged, time.perf_counter()
    await asyncio.sleep(seconds)
    done = load.acknowledged - count
    used, lasted = cpu_seconds(server.process.pid) - cpu, time.perf_counter() - began
    await load.stop()
    if load.failed or not done:
        raise RuntimeError(f"{channel}: {load.failed} publications failed, {done} were acknowledged")
    return used / done * 1e6, done / lasted


async def rounds(server: RunningServer, count: int, seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Measure both channels in turn."""
    token = await asyncio.to_thread(server.token)
    found: dict[str, list[tuple[float, float]]] = {channel: [] for channel in CHANNELS}
    for _ in range(count):
        for channel in CHANNELS:
            found[channel].append(await measure(server, token, channel, seconds))
    return found


def main() -> int:
    count, seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5, float(sys.argv[2]) if len(sys.argv) > 2 else 2
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "durable_app.py").write_text(APPLICATION)
        server = RunningServer(folder / "server", CONFIG, "durable_app:app", module_path=name)
        server.start()
        try:
            # The server has a core of its own where there are two.
            for task in os.listdir(f"/proc/{server.process.pid}/task"):
                os.sched_setaffinity(int(task), {cores[0]})
            os.sched_setaffinity(0, {cores[-1]})
            found = asyncio.run(rounds(server, count, seconds))
        finally:
            server.kill()
    for channel in CHANNELS:
        cost, rate = (statistics.median(column) for column in zip(*found[channel], strict=True))
        print(f"{channel:<8}{cost:7.1f} µs CPU an acknowledged publication, {rate:7.0f} a second")
    ratios = [disk[0] / memory[0] for memory, disk in zip(*(found[name] for name in CHANNELS), strict=True)]
    print(
        f"disk / memory: {statistics.median(ratios):.2f} (median of {count}; "
        + " ".join(f"{r:.2f}" for r in ratios)
        + ")"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
