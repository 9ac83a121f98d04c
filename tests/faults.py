"""Kills a server again and again under load, and counts what became of every publication: `make faults`.

Publishers keep several publications in flight and note which were acknowledged. Subscribers note what they hear, and
recover from their position after each restart. One channel keeps more than is published; the other so little that a
subscriber who stays away for a round cannot be given what it missed, and has to be told so.

In the end every acknowledged publication was heard exactly once and in one order by all, unless its subscriber was
told of a gap that it lies in; and nobody was told of a gap who could have been served.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.exceptions import WebSocketException

from tests.running import ROOMY, RunningServer

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PATH = "/connection/websocket"
IN_FLIGHT = 8
SIZES = {"long": 1_000_000, "short": 20}
PUBLISHERS = {"p0": "long", "p1": "long", "p2": "long", "p3": "short", "p4": "short"}
SUBSCRIBERS = ("long", "long", "long", "short", "short", "short")
AWAY = 5
"""The subscriber who comes in every third round only."""
APPLICATION = f"""
from sockade import History, Sockade

app = Sockade()

class Open:
    def may_publish(self, identity):
        return True

app.channel("long", history=History({SIZES["long"]}, 3600))(Open)
app.channel("short", history=History({SIZES["short"]}, 3600))(Open)
"""
ACKNOWLEDGED = (10, 100)
"""How many acknowledgements each channel has between two kills."""
SETTLE_SECONDS = 60
TOKEN_ROUNDS = 10
GONE = (OSError, WebSocketException, TimeoutError)


@dataclass(slots=True)
class Heard:
    """What one subscriber has: every publication with its offset, in the order they came, and where it stands."""

    channel: str
    data: list[tuple[int, str]] = field(default_factory=list)
    offset: int = 0
    epochs: list[str] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """What it was told that it cannot get: after one offset, up to another."""
    needless: int = 0
    """How often it was told so although the history held all that it missed."""

    def take(self, answer: dict[str, Any]) -> None:
        """Note what a subscription began with."""
        if answer["epoch"] not in self.epochs:
            self.epochs.append(answer["epoch"])
        publications = answer.get("publications", [])
        if not answer.get("recovered"):
            top = answer.get("offset", 0)
            self.gaps.append((self.offset, top))
            # What has to be served is all that is not more than is kept.
            self.needless += top - self.offset <= SIZES[self.channel] or bool(publications)
            self.offset = top
        for publication in publications:
            self.hear(publication)

    def hear(self, publication: dict[str, Any]) -> None:
        """Note a publication."""
        self.data.append((publication["offset"], publication["data"]))
        self.offset = publication["offset"]

    def was_told_of(self, offset: int) -> bool:
        """Tell whether an offset lies in a gap that the subscriber was told of."""
        return any(after < offset <= to for after, to in self.gaps)


@dataclass(slots=True)
class Figures:
    """What is counted."""

    kills: int = 0
    sent: int = 0
    refused: int = 0
    acknowledged: dict[str, list[str]] = field(default_factory=lambda: {channel: [] for channel in SIZES})
    heard: list[Heard] = field(default_factory=lambda: [Heard(channel) for channel in SUBSCRIBERS])

    def offsets(self, channel: str) -> dict[str, int]:
        """Return the offset under which anybody heard a publication first."""
        found: dict[str, int] = {}
        for one in self.heard:
            if one.channel == channel:
                for offset, text in one.data:
                    found.setdefault(text, offset)
        return found

    def lost(self) -> int:
        """Count acknowledged publications that a subscriber never heard and was not told of."""
        return sum(self._lost(one, self.offsets(one.channel)) for one in self.heard)

    def _lost(self, one: Heard, known: dict[str, int]) -> int:
        missing = set(self.acknowledged[one.channel]) - {text for _, text in one.data}
        there = {text for text in missing if text in known}
        # What nobody heard has an offset that nobody knows: it fits into a gap, or it is lost.
        in_gaps = {offset for after, to in one.gaps for offset in range(after + 1, to + 1)}
        places = len(in_gaps - set(known.values()))
        return sum(not one.was_told_of(known[text]) for text in there) + max(0, len(missing - there) - places)

    def duplicated(self) -> int:
        """Count publications that came twice to one subscriber."""
        return sum(len(one.data) - len({text for _, text in one.data}) for one in self.heard)

    def disordered(self) -> int:
        """Count what came out of a publisher's order, out of the stream's, or to one otherwise than to all."""
        return sum(disorder(one, self.offsets(one.channel)) for one in self.heard)

    def needless(self) -> int:
        """Count how often a subscriber was told that something is missing though it was not, and new epochs."""
        epochs = {channel: {e for one in self.heard if one.channel == channel for e in one.epochs} for channel in SIZES}
        return sum(one.needless for one in self.heard) + sum(max(0, len(found) - 1) for found in epochs.values())

    def wrong(self) -> int:
        """Return the sum of everything that must not be."""
        return self.lost() + self.duplicated() + self.disordered() + self.needless() + self.refused

    def __str__(self) -> str:
        acknowledged = sum(map(len, self.acknowledged.values()))
        told = sum(len(one.gaps) for one in self.heard)
        return (
            f"kills {self.kills}, sent {self.sent}, acknowledged {acknowledged}, lost {self.lost()}, "
            f"duplicated {self.duplicated()}, out of order {self.disordered()}, refused {self.refused}; "
            f"told of a gap {told}, without need {self.needless()}"
        )


def disorder(one: Heard, known: dict[str, int]) -> int:
    """Count what came to a subscriber out of order."""
    last: dict[str, int] = {}
    count = 0
    for offset, text in one.data:
        publisher, _, number = text.partition(":")
        count += int(number) <= last.get(publisher, -1) or known[text] != offset
        last[publisher] = int(number)
    for (before, _), (after, _) in pairwise(one.data):
        # The next one, or the first after a gap that it was told of.
        count += after <= before or not all(one.was_told_of(offset) for offset in range(before + 1, after))
    return count


def objects(message: str | bytes) -> list[dict[str, Any]]:
    """Return the objects of one message."""
    return [json.loads(line) for line in str(message).splitlines() if line]


async def connected(server: RunningServer, token: str) -> ClientConnection:
    """Connect, and say so."""
    client = await server.connect(PATH, token=token, ping_interval=None, max_size=None)
    await client.send('{"id":1,"connect":{}}')
    await client.recv()
    return client


async def publish(server: RunningServer, token: str, name: str, counter: list[int], figures: Figures) -> None:
    """Publish as fast as acknowledgements allow, until the server is gone."""
    channel = PUBLISHERS[name]
    waiting: dict[int, str] = {}
    try:
        client = await connected(server, token)
    except GONE:
        return
    try:
        while True:
            while len(waiting) < IN_FLIGHT:
                counter[0] += 1
                number, text = counter[0] + 1, f"{name}:{counter[0]}"
                waiting[number] = text
                figures.sent += 1
                await client.send(json.dumps({"id": number, "publish": {"channel": channel, "data": text}}))
            for found in objects(await client.recv()):
                text = waiting.pop(found.get("id", 0), "")
                if text and "publish" in found:
                    figures.acknowledged[channel].append(text)
                elif text:
                    figures.refused += 1
    except GONE:
        return
    finally:
        client.transport.abort()


async def subscribe(server: RunningServer, token: str, heard: Heard, upto: int | None = None) -> None:
    """Recover, and listen until the server is gone, or until an offset has been heard."""
    try:
        client = await connected(server, token)
    except GONE:
        return
    number, subscribed, answered = 1, False, False
    try:
        while upto is None or heard.offset < upto or not answered:
            if not subscribed:
                number, subscribed = number + 1, True
                # At first from the very beginning: offset 0 without an epoch.
                body = {"channel": heard.channel, "recover": True, "offset": heard.offset}
                body["epoch"] = heard.epochs[-1] if heard.epochs else ""
                await client.send(json.dumps({"id": number, "subscribe": body}))
            for found in objects(await client.recv()):
                push = found.get("push", {})
                if found.get("id") == number:
                    heard.take(found["subscribe"])
                    answered = True
                elif "pub" in push:
                    heard.hear(push["pub"])
                elif "unsubscribe" in push:
                    subscribed = False
    except GONE:
        return
    finally:
        client.transport.abort()


async def settle(server: RunningServer, token: str, figures: Figures) -> None:
    """Let every subscriber come to the top of its channel."""
    client = await connected(server, token)
    for heard in figures.heard:
        await client.send(json.dumps({"id": 2, "history": {"channel": heard.channel, "limit": 0}}))
        (found,) = objects(await client.recv())
        top = found["history"].get("offset", 0)
        await asyncio.wait_for(subscribe(server, token, heard, top), SETTLE_SECONDS)
    await client.close()


async def acknowledged(figures: Figures, count: int) -> None:
    """Wait until each channel has so many more acknowledgements."""
    before = {channel: len(found) for channel, found in figures.acknowledged.items()}
    async with asyncio.timeout(SETTLE_SECONDS):
        while any(len(figures.acknowledged[channel]) < before[channel] + count for channel in SIZES):
            await asyncio.sleep(0.01)


async def rounds(server: RunningServer, kills: int, seed: int) -> Figures:
    """Kill and restart under load."""
    chance, figures = random.Random(seed), Figures()
    counters = {name: [0] for name in PUBLISHERS}
    for number in range(kills):
        if number % TOKEN_ROUNDS == 0:
            token = await asyncio.to_thread(server.token)
        load = [publish(server, token, name, counter, figures) for name, counter in counters.items()]
        coming = [heard for place, heard in enumerate(figures.heard) if place != AWAY or number % 3 == 0]
        load += [subscribe(server, token, heard) for heard in coming]
        running = asyncio.gather(*load)
        await acknowledged(figures, chance.randrange(*ACKNOWLEDGED))
        await asyncio.sleep(chance.uniform(0, 0.1))
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        figures.kills += 1
        await running
        await asyncio.to_thread(server.start)
    await settle(server, await asyncio.to_thread(server.token), figures)
    return figures


def run(folder: Path, kills: int, seed: int = 1, sabotage: str = "") -> Figures:
    """Run all of it in a folder, and return the figures; `sabotage` is code that breaks the server on purpose."""
    folder.mkdir(exist_ok=True)
    (folder / "faults_app.py").write_text(APPLICATION + sabotage)
    config = f"[limits]\n{ROOMY}user_factor = 100\n[credentials]\naccess_token_seconds = 900\n"
    server = RunningServer(folder / "server", config, "faults_app:app", module_path=str(folder))
    server.start()
    try:
        return asyncio.run(rounds(server, kills, seed))
    finally:
        server.kill()


def main() -> int:
    """Print the figures, and return 1 where anything was lost, doubled, disordered or kept back without need."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), kills)
    print(figures)
    return int(bool(figures.wrong() or not all(figures.acknowledged.values())))


if __name__ == "__main__":
    sys.exit(main())
