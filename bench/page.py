"""Writes the benchmark's results into docs/performance.md and its plots: `make bench-docs`.

Only what stands between a pair of markers is written, `<!-- bench NAME -->` and `<!-- end -->`; the words around it
are kept. A marker without results says so, and a table without a marker is an error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import peers, plots, report
from bench.goals import BOUNDS
from bench.install import FOLDER
from bench.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
MARKED = re.compile(r"(<!-- bench ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
RATIOS = {
    "fanout": "One message to everyone else",
    "burst": "20 messages at once to everyone else",
    "echo": "Everyone hears their own",
    "handshake": "Opening a connection",
    "chat": "50 rooms, people coming and going",
}

# Which plots stand under which table.
PLOTS = {"servers": (*RATIOS, "memory"), "many": ("many",), "sizes": ("sizes",), "channels": ("channels",)}


def main() -> int:
    results = Results.load(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "results.json")
    images = dict(drawn(results))
    for old in IMAGES.glob("bench-*.svg"):
        old.unlink()
    for name, image in images.items():
        (IMAGES / f"bench-{name}.svg").write_text(image)
    PAGE.write_text(filled(PAGE.read_text(), results))
    print(f"{PAGE.relative_to(ROOT)} and {len(images)} plots written.")
    return 0


def filled(page: str, results: Results) -> str:
    """Return the page with every marked part made anew. Raises ValueError for a table that has no place."""
    parts = {table.name: f"{table.title}.\n\n{table.markdown()}\n" for table in report.tables(results)}
    if "goals" in parts:
        parts["goals"] = parts["goals"].partition("\n\n")[2]  # they have a heading of their own
    images = {name for name, _ in drawn(results)}
    for table, names in PLOTS.items():
        links = [f"![{name}](images/bench-{name}.svg)\n" for name in names if name in images]
        if table in parts and links:
            parts[table] += "\n" + "".join(links)
    parts["how"] = how(results)
    parts["sizing"] = sizing(results)
    places = {name for _, name, _, _ in MARKED.findall(page)}
    if missing := parts.keys() - places:
        raise ValueError(f"the page has no marker for {', '.join(sorted(missing))}")
    return MARKED.sub(lambda match: f"{match[1]}\n{parts.get(match[2], NOTHING)}\n{match[4]}", page)


NOTHING = "Not measured in this run.\n"


def how(results: Results) -> str:
    """Say how the figures were made."""
    options = results.options
    return (
        f"`make bench-docs` wrote the figures of this page: {options['rounds']} rounds of {options['seconds']:g} s for "
        f"each server, {options['clients']} clients, {options.get('took_seconds', 0) // 60} minutes in all, beginning "
        f"at a load average of {options.get('load', 0)}. Medians; in brackets the lowest and the highest round.\n"
    )


def sizing(results: Results) -> str:
    """Say what one core and one process carry, from the figures."""
    memory = results.figure("idle", peers.SOCKADE.name, "kib")
    units: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("deliveries of single messages", "fanout", lambda us: f"{1e6 / us:,.0f} a second and core"),
        ("deliveries of messages that come together", "burst", lambda us: f"{1e6 / us:,.0f} a second and core"),
        ("messages in and answered", "echo", lambda us: f"{1e6 / us:,.0f} a second and core"),
        ("new connections", "handshake", lambda us: f"{1e6 / us:,.0f} a second and core"),
        ("acknowledged publishes on the disk", "publish-durable", lambda us: f"{1e6 / us:,.0f} a second and core"),
        ("acknowledged publishes in memory", "publish-memory", lambda us: f"{1e6 / us:,.0f} a second and core"),
    )
    rows = []
    for what, name, told in units:
        cpu = results.figure(name, peers.SOCKADE.name, "cpu_us")
        if cpu is not None:
            rows.append([what, f"{cpu.median:.1f} µs", told(cpu.median)])
    if memory is not None:
        rows.append(
            ["an idle connection", f"{memory.median:.0f} KiB", f"{memory.median * 10_000 / 1024:,.0f} MiB for 10,000"]
        )
    return report.Table("sizing", "", ["what", "costs", "so that at most"], rows).markdown() + "\n"


def drawn(results: Results) -> Iterator[tuple[str, str]]:
    """Yield name and SVG of every plot there are results for."""
    for name, title in RATIOS.items():
        shown = [
            plots.Bar(peer.name, ratio.median, ratio.low, ratio.high, peer is peers.SOCKADE)
            for peer in peers.PLAIN
            if (ratio := results.ratio(name, peer.name, peers.FLOOR.name)) is not None
        ]
        if shown:
            yield name, plots.bars(f"{title}: CPU of the server", "ratio to the floor", shown, BOUNDS.get(name))
    memory = [
        plots.Bar(peer.name, kib.median, kib.low, kib.high, peer is peers.SOCKADE)
        for peer in [*peers.PLAIN, peers.CENTRIFUGO]
        if (kib := results.figure("idle", peer.name, "kib")) is not None
    ]
    if memory:
        yield "memory", plots.bars("Memory of an idle connection", "KiB", memory, BOUNDS["memory"])
    sweeps = {
        "many": ("clients", "From few to many subscribers: CPU of a delivery", "subscribers"),
        "sizes": ("size", "CPU of a delivery by size of the message", "bytes"),
        "channels": ("channels", "CPU of a delivery by number of channels", "channels that 299 subscribers share"),
    }
    for name, (key, title, across) in sweeps.items():
        series = {
            one: [
                (at, figure.median)
                for at in dict.fromkeys(row[key] for row in results.select(name, one))
                if (figure := results.figure(name, one, "cpu_us", **{key: at})) is not None
            ]
            for one in report.SWEPT
        }
        series = {one: line for one, line in series.items() if line}
        if series:
            yield name, plots.lines(title, across, "µs", series)


if __name__ == "__main__":
    sys.exit(main())
