"""What Sockade must reach, each goal with its bound, and whether the results reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.results import Figure, moment, over_rounds, value

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.results import Results


@dataclass(frozen=True)
class Goal:
    """A bound from above on a figure. `unit` stands behind the numbers."""

    name: str
    what: str
    bound: float
    measured: Callable[[Results], Figure | None]
    unit: str = "×"

    def reached(self, results: Results) -> bool | None:
        """Tell whether the median is within the bound; None where it was not measured."""
        figure = self.measured(results)
        return None if figure is None else figure.median <= self.bound


def to_floor(work: str) -> Callable[[Results], Figure | None]:
    return lambda results: results.ratio(work, "sockade", "floor")


def grown(results: Results, unit: str = "", server: str = "sockade") -> Figure | None:
    """How the cost of a server's delivery grows from the fewest subscribers to the most, within each turn.

    `unit` names the server whose delivery, to as many and in the same turn, is what the cost is counted in.
    """
    rows = results.select("many", server)
    few, most = (pick((row["clients"] for row in rows), default=0) for pick in (min, max))
    units = {(row["clients"], *moment(row)): value(row, "cpu_us") for row in results.select("many", unit)}
    costs: dict[tuple[int, ...], float] = {}
    for row in rows:
        at = (row["clients"], *moment(row))
        if not unit or at in units:
            costs[at] = value(row, "cpu_us") / units.get(at, 1.0)
    both = [at for clients, *at in costs if clients == few < most and (most, *at) in costs]
    return over_rounds([(at[0], costs[most, *at] / costs[few, *at]) for at in both])


def guard_share(results: Results) -> Figure | None:
    """The guard's part of the CPU of an echo: what is gone when its checks are off, percent."""
    off = results.ratio("echo", "sockade message checks off", "sockade")
    return off and Figure(100 * (1 - off.median), 100 * (1 - off.high), 100 * (1 - off.low))


def flooded(server: str) -> Callable[[Results], Figure | None]:
    return lambda results: results.ratio("flood", server, server, "p99_us", to_work="calm")


GOALS = (
    Goal("fanout", "fan-out, one at a time: CPU a delivery, to the floor", 1.10, to_floor("fanout")),
    Goal("burst", "fan-out, 20 back to back: CPU a delivery, to the floor", 0.17, to_floor("burst")),
    Goal("echo", "echo: CPU a message, to the floor", 1.80, to_floor("echo")),
    Goal("handshake", "handshake with a token: CPU, to the floor's without", 2.0, to_floor("handshake")),
    Goal(
        "memory",
        "memory of an idle connection",
        30,
        lambda results: results.figure("idle", "sockade", "kib"),
        "KiB",
    ),
    Goal(
        "publish",
        "publish on a durable channel: CPU an acknowledgement, to one in memory",
        1.3,
        lambda results: results.ratio("publish-durable", "sockade", "sockade", to_work="publish-memory"),
    ),
    Goal("growth", "a delivery at the most subscribers, to one at 100", 1.2, grown),
    Goal(
        "growth-to-floor",
        "the same in deliveries of the floor to as many, which grow too",
        1.2,
        lambda results: grown(results, "floor"),
    ),
    Goal("guard", "the guard's share of an echo", 20, guard_share, "%"),
    Goal(
        "rest",
        "CPU at rest with the most connections open",
        2,
        lambda results: results.figure("rest", "sockade", "rest_percent"),
        "% of a core",
    ),
    Goal("flood", "p99 of the others while one floods, to without: default rates", 2, flooded("sockade default rates")),
    Goal("flood-unlimited", "the same where no rate stops it", 2, flooded("sockade")),
    Goal(
        "stalls",
        "longest stall of the loop under the chat",
        20,
        lambda results: results.figure("stalls", "sockade", "stall_wall_ms"),
        "ms",
    ),
)
BOUNDS = {goal.name: goal.bound for goal in GOALS}
