"""The results as tables, which are printed and which stand in docs/performance.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import peers, profiler, work
from bench.goals import GOALS, grown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.results import Figure, Results

TITLES = {"fanout": "fan-out", "burst": "20 back to back", "echo": "echo", "handshake": "handshake", "chat": "chat"}
WIDEST = 30
TEXTS = 2
"""A table of so many columns holds words, not numbers."""
LEAST_US = 0.05
SWEPT = [peers.FLOOR.name, peers.SOCKADE.name, peers.LARGE_BUFFERS.name, peers.CENTRIFUGO.name]
OURS = [peers.ASYNCIO.name, peers.UVLOOP.name, peers.SOCKADE.name]


@dataclass(frozen=True)
class Table:
    """A table with a title; the first column is text."""

    name: str
    title: str
    head: list[str]
    rows: list[list[str]]

    def text(self) -> str:
        # What is longer (the reason of an absence) runs over the empty cells behind it.
        rows = [self.head, *self.rows]
        widths = [max(len(row[i]) for row in rows if len(row[i]) <= WIDEST or not i) for i in range(len(self.head))]
        lines = [self.title]
        for row in rows:
            ragged = len(self.head) == TEXTS or any(len(cell) > WIDEST for cell in row[1:])
            cells = [
                f"{cell:<{width}}" if ragged or not number else f"{cell:>{width}}"
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        lines = [self.head, ["---"] + ["---:"] * (len(self.head) - 1), *self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def tables(results: Results) -> list[Table]:
    """Return every table that the results have rows for."""
    found = [goals(results), servers(results), speed(results), publishes(results), loops(results)]
    found += [disk(results), many(results), growth(results), floods(results)]
    found += [stalls(results), sizes(results), channels(results)]
    return [table for table in [*found, *profiles(results), ground(results)] if table.rows]


def servers(results: Results) -> Table:
    """Everyone's CPU for a unit of work as a ratio to the floor, and memory."""
    rows = []
    for peer in [*peers.PLAIN, peers.CENTRIFUGO]:
        ratios = [results.ratio(name, peer.name, peers.FLOOR.name) for name in TITLES]
        memory = results.figure("idle", peer.name, "kib")
        if any(ratios) or memory:
            # Why one failed stands below, with the reasons of the absent.
            failed = ["failed" if f"{peer.name}, {name}" in results.absent else "" for name in TITLES]
            cells = [spread(ratio) or why for ratio, why in zip(ratios, failed, strict=True)]
            rows.append([titled(peer), *cells, number(memory)])
        elif peer.name in results.absent and peer is not peers.CENTRIFUGO:
            rows.append([titled(peer), f"absent: {results.absent[peer.name]}", *[""] * len(TITLES)])
    head = ["server", *TITLES.values(), "KiB a connection"]
    return Table(
        "servers", "CPU of the server for a unit of work, as a ratio to the floor (lowest to highest)", head, rows
    )


def speed(results: Results) -> Table:
    """Units a second and how long they took, with the server alone on its core."""
    rows = []
    for peer in peers.PLAIN:
        cells = []
        for name in TITLES:
            rate = results.figure(name, peer.name, "a_second")
            p50, p99 = (results.figure(name, peer.name, field) for field in ("p50_us", "p99_us"))
            cells.append(f"{thousands(rate.median)}/s, {ms(p50)}, {ms(p99)}" if rate and p50 and p99 else "")
        if any(cells):
            rows.append([titled(peer), *cells])
    return Table("speed", "Units a second, p50 and p99 in ms", ["server", *TITLES.values()], rows)


def publishes(results: Results) -> Table:
    """Acknowledged publishes and fan-out on the channel protocol."""
    titles = {
        "publish-durable": "publish, on the disk",
        "publish-memory": "publish, in memory",
        "channel-fanout": "fan-out in a channel",
    }
    rows = []
    for name, title in titles.items():
        for peer in (peers.SOCKADE, peers.CENTRIFUGO):
            figures = [results.figure(name, peer.name, field) for field in ("cpu_us", "a_second", "p50_us", "p99_us")]
            if all(figures):
                cpu, rate, p50, p99 = figures
                rows.append(
                    [f"{title}: {peer.name}", spread(cpu), thousands(rate.median if rate else 0), ms(p50), ms(p99)]
                )
            elif peer.name in results.absent and (name, peer) != ("publish-durable", peers.CENTRIFUGO):
                rows.append([f"{title}: {peer.name}", f"absent: {results.absent[peer.name]}", "", "", ""])
    head = ["work", "CPU a unit, µs", "a second", "p50, ms", "p99, ms"]
    return Table("publishes", "Channels", head, rows)


def loops(results: Results) -> Table:
    """Sockade on each event loop, as a ratio to the floor."""
    rows = []
    for name in OURS:
        ratios = [results.ratio(one, name, peers.FLOOR.name) for one in TITLES]
        if any(ratios):
            rows.append([f"{name} uvloop and aiofastnet" if name == peers.SOCKADE.name else name, *map(spread, ratios)])
    return Table("loops", "Sockade on each event loop, ratio to the floor", ["server", *TITLES.values()], rows)


def many(results: Results) -> Table:
    """What a delivery costs with ever more subscribers, and what they cost in silence."""
    rows = []
    for server in (one.name for one in (peers.FLOOR, peers.SOCKADE, *work.BESIDE)):
        numbers = list(dict.fromkeys(row["clients"] for row in results.select("many", server)))
        for clients in numbers:
            more = spread(grown(results, server=server)) if clients == max(numbers) else ""
            cpu, kib = (results.figure("many", server, name, clients=clients) for name in ("cpu_us", "kib"))
            # A turn has few messages to so many: what is exceeded by one in a hundred is the longest of all turns.
            p99 = results.figure("many", server, "p99_us", max, clients=clients)
            rows.append([server, thousands(clients), spread(cpu), more, ms(p99), number(kib), ""])
        if rest := results.figure("rest", server, "rest_percent"):
            clients = results.select("rest", server)[0]["clients"]
            rows.append([server, thousands(clients), "at rest", "", "", "", f"{spread(rest)} %"])
    took = ["CPU a delivery, µs", "to the fewest", "p99 until all have it, ms"]
    head = ["server", "subscribers", *took, "KiB a connection", "core"]
    return Table("many", "From few to many subscribers", head, rows)


def floods(results: Results) -> Table:
    """How long the others wait while one floods."""
    rows, clients = [], 0
    for server in (peers.FLOOR.name, peers.SOCKADE.name, peers.STRICT_SOCKADE.name):
        calm, flood = (results.figure(name, server, "p99_us") for name in ("calm", "flood"))
        ratio = results.ratio("flood", server, server, "p99_us", to_work="calm")
        sent, closed = (results.figure("flood", server, name) for name in ("flooded", "flood_closed"))
        if calm and flood and sent and closed:
            clients = results.select("flood", server)[0]["clients"]
            rate = thousands(sent.median / work.FLOOD_SECONDS)
            rows.append([server, ms(calm), ms(flood), spread(ratio), rate, f"{closed.median:.0f}"])
    title = f"One flooding connection among {thousands(clients)} that each send once a second"
    head = ["server", "p99 without, ms", "p99 with, ms", "ratio", "flood, messages a second", "times closed"]
    return Table("floods", title, head, rows)


def stalls(results: Results) -> Table:
    rows = []
    for name in OURS:
        wall, cpu = (results.figure("stalls", name, f"stall_{one}_ms") for one in ("wall", "cpu"))
        if wall and cpu:
            rows.append(
                [f"{name} uvloop and aiofastnet" if name == peers.SOCKADE.name else name, number(wall), number(cpu)]
            )
    return Table(
        "stalls", "Longest stall of the loop under the chat, ms", ["server", "by the clock", "its thread's CPU"], rows
    )


def sizes(results: Results) -> Table:
    """By size of a message; with what larger buffers save, and what they cost."""
    title = "CPU of a delivery by size of the message, µs"
    table = sweep(results, "sizes", "size", "bytes a message", title, work.SIZES)
    if table.rows:
        memory = [number(results.figure("idle", server, "kib")) for server in table.head[1:]]
        table.rows.append(["KiB of an idle connection", *memory])
    return table


def channels(results: Results) -> Table:
    title = "CPU of a delivery by number of channels the subscribers are dealt to, 20 publishes back to back, µs"
    return sweep(results, "channels", "channels", "channels", title, work.CHANNELS)


def sweep(results: Results, name: str, key: str, head: str, title: str, points: tuple[int, ...]) -> Table:
    """A row for each point of a sweep, a column for each server."""
    servers = [one for one in SWEPT if results.select(name, one)]
    rows = []
    for point in points if servers else ():
        figures = [results.figure(name, one, "cpu_us", **{key: point}) for one in servers]
        rows.append([thousands(point), *(f"{figure.median:.2f}" if figure else "" for figure in figures)])
    return Table(name, title, [head, *servers], rows)


def profiles(results: Results) -> Iterator[Table]:
    """Where Sockade's time goes."""
    for name in profiler.PROFILED:
        found = results.profile.get(name, {})
        for kind, head in (("parts", "part"), ("functions", "function, with what it calls in C")):
            shares = found.get(kind, [])
            rows = [[shares, ""]] if isinstance(shares, str) else [[what, f"{share:.1f} %"] for what, share in shares]
            yield Table(
                f"profile-{name}-{kind}",
                f"Where the time of a server under {name} goes, by {kind[:-1]}",
                [head, "share"],
                rows,
            )


def growth(results: Results) -> Table:
    """Which part of a server it is that takes longer with many subscribers."""
    found = results.profile.get("growth", [])
    rows = [[found, "", "", ""]] if isinstance(found, str) else []
    for server in () if rows else dict.fromkeys(row[0] for row in found):
        rows += by_part(server, [tuple(one[1:]) for one in found if one[0] == server])
    most = results.options.get("many", 0)
    head = ["part of a server", f"{thousands(min(profiler.FEW, most))} subscribers", thousands(most), "more"]
    return Table("growth", "CPU of a delivery by part, µs", head, rows)


def disk(results: Results) -> Table:
    """Which part of a publish it is that costs more on the disk."""
    found = results.profile.get("disk", [])
    rows = [[found, "", "", ""]] if isinstance(found, str) else by_part("sockade", found)
    return Table("disk", "CPU of a publish by part, µs", ["part of a server", "in memory", "on the disk", "more"], rows)


def by_part(server: str, found: list[tuple[str, float, float]]) -> list[list[str]]:
    """Return a row for each part that two costs are made of, the one that differs most first, and one for the whole."""
    if not found:
        return []
    parts = sorted(found, key=lambda one: one[1] - one[2])
    parts.insert(0, ("in all", sum(one[1] for one in parts), sum(one[2] for one in parts)))
    return [
        [f"{server}: {part}", f"{one:.2f}", f"{other:.2f}", f"{other - one:+.2f}"]
        for part, one, other in parts
        if max(one, other) >= LEAST_US
    ]


def goals(results: Results) -> Table:
    rows = []
    for goal in GOALS:
        figure, reached = goal.measured(results), goal.reached(results)
        shown = f"{figure.median:.2f} ({figure.low:.2f} to {figure.high:.2f})" if figure else ""
        verdict = {True: "reached", False: "not reached", None: "not measured"}[reached]
        rows.append([goal.what, shown, f"{goal.bound:g} {goal.unit}", verdict])
    return Table("goals", "Goals", ["what", "measured", "bound", ""], rows)


def ground(results: Results) -> Table:
    """What it ran on, which versions, and who is absent."""
    rows = [[name, text] for name, text in {**results.machine, **results.versions}.items()]
    rows += [[f"absent: {name}", reason] for name, reason in results.absent.items()]
    return Table("ground", "Machine and versions", ["what", "which"], rows)


def titled(peer: peers.Peer) -> str:
    return f"{peer.name} ({peer.note})" if peer.note else peer.name


def spread(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.low == figure.high:
        return f"{figure.median:.2f}"
    return f"{figure.median:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def number(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.median:.1f}"


def ms(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.median / 1e3:.2f}"


def thousands(number: float) -> str:
    return f"{number:,.0f}"
