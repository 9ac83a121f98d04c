"""What the servers are asked to do. Each work is a function that measures it and leaves rows in the results.

`SIDE_BY_SIDE` is done by one server after the other, round after round; `ONCE` is what is about Sockade itself, or
takes a server that has done nothing before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bench import peers
from bench.measure import Task, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.measure import Bench
    from bench.peers import Peer

BURST = 20
PUBLISHERS, IN_FLIGHT = 16, 8
HANDSHAKES = 1_100  # a hundred in a turn: one alone takes now half as long, now twice
ROOMS, MEMBERS, CHAT_RATE, CHURN = 50, 10, 500, 10
IDLE_CLIENTS = 2_000
REST_SECONDS = 26  # one round of pings, which are sent every 25 s
FLOOD_ROUNDS, FLOOD_CLIENTS, FLOOD_SECONDS = 10, 1_000, 3.0
MANY_ROUNDS, MANY_SECONDS = 3, 0.3
STEPS = (100, 300, 1_000, 3_000, 10_000)
SIZES = (32, 128, 512, 2_048, 8_192, 32_000)
CHANNELS = (1, 10, 100)
CHAT = {"rooms": ROOMS, "clients": ROOMS * MEMBERS, "rate": CHAT_RATE, "churn": CHURN}


@dataclass(frozen=True)
class Work:
    """One kind of work for several servers: `kind` and `words` are the driver's, `path` a key of `Peer.paths`."""

    name: str
    kind: str
    path: str
    peers: list[Peer]
    words: dict[str, Any] = field(default_factory=dict)


LOOPS = [peers.ASYNCIO, peers.UVLOOP]
BESIDE = [peers.UWEBSOCKETS, peers.PICOWS, peers.WS]
BY_SIZE = [peers.FLOOR, peers.SOCKADE, peers.LARGE_BUFFERS]
ON_CHANNELS = [peers.SOCKADE_CHANNELS, peers.CENTRIFUGO]
PUBLISH = {"clients": PUBLISHERS, "depth": IN_FLIGHT}
SIDE_BY_SIDE = [
    Work("fanout", "fanout", "fanout", [*peers.PLAIN, *LOOPS]),
    Work("burst", "fanout", "fanout", [*peers.PLAIN, *LOOPS], {"depth": BURST}),
    Work("echo", "echo", "echo", [*peers.PLAIN, peers.UNGUARDED, *LOOPS]),
    Work("handshake", "handshake", "fanout", [*peers.PLAIN, *LOOPS], {"clients": HANDSHAKES}),
    Work("chat", "chat", "room", [*peers.PLAIN, *LOOPS], CHAT),
    Work("publish-durable", "publish", "publish", [peers.SOCKADE_CHANNELS], {**PUBLISH, "channel": "durable:"}),
    Work("publish-memory", "publish", "publish", ON_CHANNELS, {**PUBLISH, "channel": "memory:"}),
    Work("channel-fanout", "fanout", "fanout", ON_CHANNELS, {"channel": "plain:"}),
]


def side_by_side(bench: Bench, chosen: list[Work]) -> None:
    """Measure the works in turn: A B C, A B C, so that what the machine does meanwhile meets all of them.

    Each round has processes of its own: one is dearer than the next for all its life, by a few percent.
    """
    for number in range(bench.options.rounds):
        bench.running.close()
        # With and without the disk are compared with each other, so they are done together.
        for name, works in groupby(chosen, lambda one: "publish" if one.kind == "publish" else one.name):
            say(f"round {number + 1} of {bench.options.rounds}: {name}")
            tasks = [
                Task(work.name, peer, {"work": work.kind, "path": peer.paths[work.path], **work.words})
                for work in works
                for peer in work.peers
            ]
            if name != "chat":
                bench.in_turn(tasks, number)
                continue
            for task in tasks:  # its rooms take longer to come to rest than a turn
                bench.drive(name, task.peer, number, **{"seconds": max(2.0, bench.options.seconds), **task.words})


def idle(bench: Bench) -> None:
    """Memory: connections that say nothing, on servers that have done nothing before."""
    for peer in [*peers.PLAIN, peers.CENTRIFUGO, peers.LARGE_BUFFERS]:
        path = peer.paths["fanout"]
        bench.drive("idle", peer, 0, fresh=True, work="idle", path=path, clients=IDLE_CLIENTS, channel="plain:")


def many(bench: Bench) -> None:
    """Few and many subscribers, each number on a process of its own; then silence of the most, with pings alone.

    Of other servers the fewest and the most, each server by itself: a driver answers pings in its turns alone, and
    those who wait for too long are closed.
    """
    most = bench.options.many
    words = {"work": "fanout", "path": "/", "addresses": 8, "seconds": MANY_SECONDS}
    tasks = [
        Task("many", peer, {**words, "clients": clients})
        for clients in [step for step in STEPS if step <= most] or [most]
        for peer in (peers.FLOOR, peers.SOCKADE)
    ]
    tasks[-1].words["rest"] = REST_SECONDS
    for number in range(MANY_ROUNDS):
        say(f"round {number + 1} of {MANY_ROUNDS}: many")
        bench.in_turn(tasks, number, fresh=True)
        for peer in BESIDE:
            ends = [Task("many", peer, {**words, "clients": clients}) for clients in (min(STEPS[0], most), most)]
            bench.in_turn(ends, number, fresh=True)


def flood(bench: Bench) -> None:
    """A thousand clients that each send once a second, without one that sends all it can and then with it.

    Who flooded is refused for a while, and so is the user: the next needs a server that has not met them.
    """
    words = {"work": "flood", "path": "/echo", "rate": 1, "clients": FLOOD_CLIENTS, "addresses": 4}
    for number in range(FLOOD_ROUNDS):
        say(f"round {number + 1} of {FLOOD_ROUNDS}: flood")
        for peer in (peers.FLOOR, peers.SOCKADE, peers.STRICT_SOCKADE):
            for row in bench.drive("flood", peer, number, fresh=True, seconds=FLOOD_SECONDS, **words):
                row["work"] = "flood" if row["flooding"] else "calm"


def stalls(bench: Bench) -> None:
    """The longest turns of the loop under the chat, seen from inside."""
    for number in range(2):
        for peer in (peers.SOCKADE, *LOOPS):
            words = {"work": "chat", "path": "/room/", "seconds": 4, "stalls": True, **CHAT}
            bench.drive("stalls", peer, number, fresh=True, **words)


def sizes(bench: Bench) -> None:
    """Cost of a delivery by size of the message."""
    for size in SIZES:
        words = {"work": "fanout", "path": "/", "size": size, "clients": 100}
        bench.in_turn([Task("sizes", peer, words) for peer in BY_SIZE], 0)


def channels(bench: Bench) -> None:
    """Cost of a delivery by number of channels that the same subscribers are dealt to."""
    for number in CHANNELS:
        for peer in ON_CHANNELS:
            words = {"work": "fanout", "path": peer.paths["fanout"], "channel": "plain:", "channels": number}
            bench.drive("channels", peer, 0, depth=BURST, **words)


ONCE: dict[str, Callable[[Bench], None]] = {
    "idle": idle,
    "many": many,
    "flood": flood,
    "stalls": stalls,
    "sizes": sizes,
    "channels": channels,
}
