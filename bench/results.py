"""What was measured: one row for each run of the driver, and how rows become figures.

A row has `work`, `server` and `round`, besides what the driver wrote. A figure is the median over the rounds, with the
lowest and the highest beside it. A ratio to the floor is taken within each round, for the machine drifts from round
to round and both had the same weather.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

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

    def figure(self, work: str, server: str, name: str, **where: Any) -> Figure | None:
        """Return one field over the rounds; `name` may be one of the computed ones."""
        return Figure.of([value(row, name) for row in self.select(work, server, **where)])

    def ratio(self, work: str, server: str, to: str, name: str = "cpu_us", to_work: str = "") -> Figure | None:
        """Return one field as a ratio to another server's, or another work's, in the same rounds."""
        others = {row["round"]: value(row, name) for row in self.select(to_work or work, to)}
        mine = self.select(work, server)
        return Figure.of([value(row, name) / others[row["round"]] for row in mine if others.get(row["round"])])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        return cls(**json.loads(path.read_text()))


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
