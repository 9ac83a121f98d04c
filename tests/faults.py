"""Kills a server again and again under load, and counts what became of every publication: `make faults`.

Publishers keep several publications in flight and note which were acknowledged. Subscribers note what they hear,
and recover from their position after each restart. In the end every acknowledged publication was heard exactly once
and in order, or its subscriber was told that it could not be recovered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.exceptions import WebSocketException

from tests.running import ROOMY, RunningServer

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PATH = "/connection/websocket"
PUBLISHERS, IN_FLIGHT, SUBSCRIBERS = 4, 8, 3
APPLICATION = """
from sockade import History, Sockade

app = Sockade()

@app.channel("load", history=History(size=100_000, ttl=3600))
class Load:
    def may_publish(self, identity):
        return True
"""
GONE = (OSError, WebSocketException, TimeoutError)


@dataclass(slots=True)
class Heard:
    """What one subscriber has: every publication in the order it came, and where it stands."""

    data: list[str] = field(default_factory=list)
    offset: int = 0
    epoch: str = ""
    unrecoverable: int = 0


@dataclass(slots=True)
class Figures:
    """What is counted."""

    kills: int = 0
    sent: int = 0
    acknowledged: list[str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=lambda: [Heard() for _ in range(SUBSCRIBERS)])

    def lost(self) -> int:
        """Count acknowledged publications that a subscriber never heard, unless it was told so."""
        return sum(len(set(self.acknowledged) - set(one.data)) for one in self.heard if not one.unrecoverable)

    def duplicated(self) -> int:
        """Count publications that came twice to one subscriber."""
        return sum(len(one.data) - len(set(one.data)) for one in self.heard)

    def disordered(self) -> int:
        """Count subscribers to whom some publisher's publications came out of order."""
        return sum(not in_order(one.data) for one in self.heard)

    def __str__(self) -> str:
        return (
            f"kills {self.kills}, sent {self.sent}, acknowledged {len(self.acknowledged)}, lost {self.lost()}, "
            f"duplicated {self.duplicated()}, out of order {self.disordered()}, "
            f"not recoverable {sum(one.unrecoverable for one in self.heard)}"
        )


def in_order(data: list[str]) -> bool:
    """Tell whether each publisher's numbers only grow."""
    last: dict[str, int] = {}
    for one in data:
        publisher, _, number = one.partition(":")
        if int(number) <= last.get(publisher, -1):
            return False
        last[publisher] = int(number)
    return True


def objects(message: str | bytes) -> list[dict[str, Any]]:
    """Return the objects of one message."""
    return [json.loads(line) for line in str(message).splitlines() if line]


async def connected(server: RunningServer, token: str) -> ClientConnection:
    """Connect, and say so."""
    client = await server.connect(PATH, token=token, ping_interval=None)
    await client.send('{"id":1,"connect":{}}')
    await client.recv()
    return client


async def publish(server: RunningServer, token: str, name: str, counter: list[int], figures: Figures) -> None:
    """Publish as fast as acknowledgements allow, until the server is gone."""
    client = await connected(server, token)
    waiting: dict[int, str] = {}
    try:
        while True:
            while len(waiting) < IN_FLIGHT:
                counter[0] += 1
                number, text = counter[0] + 1, f"{name}:{counter[0]}"
                waiting[number] = text
                figures.sent += 1
                await client.send(json.dumps({"id": number, "publish": {"channel": "load", "data": text}}))
            for found in objects(await client.recv()):
                text = waiting.pop(found.get("id", 0), "")
                if text and "publish" in found:
                    figures.acknowledged.append(text)
    except GONE:
        return
    finally:
        client.transport.abort()


async def subscribe(server: RunningServer, token: str, heard: Heard) -> None:
    """Recover, and listen until the server is gone."""
    client = await connected(server, token)
    # At first from the very beginning: offset 0 without an epoch.
    body = {"channel": "load", "recover": True, "offset": heard.offset, "epoch": heard.epoch}
    await client.send(json.dumps({"id": 2, "subscribe": body}))
    try:
        while True:
            for found in objects(await client.recv()):
                if found.get("id") == 2:
                    take(heard, found["subscribe"])
                elif "pub" in found.get("push", {}):
                    heard.data.append(found["push"]["pub"]["data"])
                    heard.offset = found["push"]["pub"]["offset"]
    except GONE:
        return
    finally:
        client.transport.abort()


def take(heard: Heard, answer: dict[str, Any]) -> None:
    """Note what a subscription began with."""
    if answer.get("was_recovering") and not answer.get("recovered"):
        heard.unrecoverable += 1
    heard.epoch, heard.offset = answer["epoch"], answer.get("offset", 0)
    for publication in answer.get("publications", []):
        heard.data.append(publication["data"])
        heard.offset = publication["offset"]


async def settle(server: RunningServer, token: str, figures: Figures) -> None:
    """Let every subscriber catch up with what was acknowledged."""
    for heard in figures.heard:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(subscribe(server, token, heard), 1)


async def rounds(server: RunningServer, kills: int, seed: int) -> Figures:
    """Kill and restart under load."""
    chance, figures = random.Random(seed), Figures()
    counters = {f"p{number}": [0] for number in range(PUBLISHERS)}
    for _ in range(kills):
        token = await asyncio.to_thread(server.token)
        load = [publish(server, token, name, counter, figures) for name, counter in counters.items()]
        load += [subscribe(server, token, heard) for heard in figures.heard]
        running = asyncio.gather(*load)
        await asyncio.sleep(chance.uniform(0.1, 0.6))
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        figures.kills += 1
        await running
        await asyncio.to_thread(server.start)
    await settle(server, await asyncio.to_thread(server.token), figures)
    return figures


def run(folder: Path, kills: int, seed: int = 1) -> Figures:
    """Run all of it in a folder, and return the figures."""
    folder.mkdir(exist_ok=True)
    (folder / "faults_app.py").write_text(APPLICATION)
    config = f"[limits]\n{ROOMY}user_factor = 100\n[credentials]\naccess_token_seconds = 900\n"
    server = RunningServer(folder / "server", config, "faults_app:app", module_path=str(folder))
    server.start()
    try:
        return asyncio.run(rounds(server, kills, seed))
    finally:
        server.kill()


def main() -> int:
    """Print the figures, and return 1 where anything was lost, doubled or disordered."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), kills)
    print(figures)
    return int(bool(figures.lost() or figures.duplicated() or figures.disordered() or not figures.acknowledged))


if __name__ == "__main__":
    sys.exit(main())
