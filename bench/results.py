"""What was measured: one row for each run of the driver, and how rows become figures.

A row has `work`, `server`, `round` and, where a round has several, `turn`, besides what the driver wrote. A figure is
the median over the rounds, with the lowest and the highest beside it; that of a round is the median over its turns. A
ratio to the floor is taken within each turn, for the machine drifts and both had the same weather.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Of = Callable[[list[float]], float]

Row = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A median with its spread."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Figure | None:
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass
class Results:
    """All rows of a benchmark, what it ran on, and who could not take part."""

    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    profile: dict[str, Any] = field(default_factory=dict)

    def select(self, work: str, server: str, **where: Any) -> list[Row]:
        """Return the rows of one work on one server."""
        return [
            row
            for row in self.rows
            if row["work"] == work and row["server"] == server and all(row.get(k) == v for k, v in where.items())
        ]

    def figure(self, work: str, server: str, name: str, within: Of = statistics.median, **where: Any) -> Figure | None:
        """Return one field over the rounds, `within` of the turns of each; `name` may be one of the computed ones."""
        return over_rounds([(row["round"], value(row, name)) for row in self.select(work, server, **where)], within)

    def ratio(self, work: str, server: str, to: str, name: str = "cpu_us", to_work: str = "") -> Figure | None:
        """Return one field as a ratio to another server's, or another work's, in the same turns."""
        others = {moment(row): value(row, name) for row in self.select(to_work or work, to)}
        mine = [row for row in self.select(work, server) if others.get(moment(row))]
        return over_rounds([(row["round"], value(row, name) / others[moment(row)]) for row in mine])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        return cls(**json.loads(path.read_text()))


def moment(row: Row) -> tuple[int, int]:
    """Return when a row was measured: its round, and its turn in that."""
    return row["round"], row.get("turn", 0)


def over_rounds(values: list[tuple[int, float]], within: Of = statistics.median) -> Figure | None:
    """Return the figure of values, each with the round it is of."""
    rounds: dict[int, list[float]] = {}
    for number, one in values:
        rounds.setdefault(number, []).append(one)
    return Figure.of([within(those) for those in rounds.values()])


def value(row: Row, name: str) -> float:
    """Return a field of a row, or what follows from several.

    cpu_us: the server's CPU for a unit, microseconds. a_second: units a second. kib: resident memory a connection, KiB.
    rest_percent: of one core.
    """
    units = max(row.get("units", 0), 1)
    if name == "cpu_us":
        return float(row["server_ns"] / units / 1e3)
    if name == "a_second":
        return float(units / row["wall_ns"] * 1e9)
    if name == "kib":
        return float((row["kib_after"] - row["kib_before"]) / row["clients"])
    if name == "rest_percent":
        return float(row["rest_server_ns"] / row["rest_wall_ns"] * 100)
    return float(row[name])
