"""Plots as SVG, written here so that the benchmark needs no library for them.

Each is one file that follows the reader's light or dark scheme; text stays text. Values beside the marks make them
readable without the colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 170, 70, 40, 34
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px }
.quiet { fill: #57606a; font-size: 12px }
.line { stroke: #d0d7de; fill: none }
.bound { stroke: #cf222e; stroke-dasharray: 5 4; fill: none }
.c0 { fill: #8c959f; stroke: #8c959f } .c1 { fill: #0969da; stroke: #0969da } .c2 { fill: #bf8700; stroke: #bf8700 }
.path { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
 text { fill: #e6edf3 } .quiet { fill: #9198a1 } .line { stroke: #3d444d } .bound { stroke: #f85149 }
 .c0 { fill: #7d8590; stroke: #7d8590 } .c1 { fill: #4493f8; stroke: #4493f8 } .c2 { fill: #d29922; stroke: #d29922 }
}
"""


@dataclass(frozen=True)
class Bar:
    """One bar with its spread; `ours` is drawn in the colour of the subject."""

    label: str
    value: float
    low: float
    high: float
    ours: bool = False


def bars(title: str, unit: str, shown: list[Bar], bound: float | None = None) -> str:
    """Return horizontal bars, shortest first, with a line where the bound is."""
    shown = sorted(shown, key=lambda bar: bar.value)
    height = TOP + 28 * len(shown) + BOTTOM
    most = max([bar.high for bar in shown] + [bound or 0]) or 1
    room = WIDTH - LEFT - RIGHT

    def x(value: float) -> float:
        return LEFT + room * value / most

    parts = [text(12, 22, title, "title")]
    for number, bar in enumerate(shown):
        y = TOP + 28 * number
        colour = "c1" if bar.ours else "c0"
        parts.append(text(LEFT - 8, y + 15, bar.label, anchor="end"))
        parts.append(
            f'<rect class="{colour}" x="{LEFT}" y="{y + 2}" width="{x(bar.value) - LEFT:.1f}" height="18" rx="2"/>'
        )
        parts.append(f'<path class="line" d="M{x(bar.low):.1f} {y + 11}H{x(bar.high):.1f}"/>')
        parts.append(text(x(max(bar.high, bar.value)) + 6, y + 15, f"{bar.value:.2f}"))
    if bound is not None:
        parts.append(f'<path class="bound" d="M{x(bound):.1f} {TOP - 6}V{height - BOTTOM + 4}"/>')
        parts.append(text(x(bound), height - 12, f"goal {bound:g}", "quiet", "middle"))
    parts.append(text(12, height - 12, unit, "quiet"))
    return drawing(height, title, parts)


def lines(title: str, across: str, up: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """Return lines over a logarithmic axis, from zero up."""
    height, left, right = 320, 60, 150
    points = [point for line in series.values() for point in line]
    low, high = math.log10(min(x for x, _ in points)), math.log10(max(x for x, _ in points))
    most = max(y for _, y in points) * 1.1 or 1

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / ((high - low) or 1)
        return left + (WIDTH - left - right) * share, TOP + (height - TOP - 50) * (1 - y / most)

    parts = [text(12, 22, title, "title"), text(12, height - 10, f"{up}; across: {across}", "quiet")]
    for step in range(5):
        y = place(10**low, most * step / 4)[1]
        parts.append(f'<path class="line" d="M{left} {y:.1f}H{WIDTH - right}"/>')
        parts.append(text(left - 6, y + 4, f"{most * step / 4:.3g}", "quiet", "end"))
    ticks = sorted({x for x, _ in points})
    parts += [text(place(tick, 0)[0], height - 32, f"{tick:,.0f}", "quiet", "middle") for tick in ticks]
    ends: list[float] = []
    for number, (name, line) in enumerate(series.items()):
        dots = [place(*point) for point in line]
        parts.append(f'<path class="path c{number}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in dots)}"/>')
        parts += [f'<circle class="c{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in dots]
        end = dots[-1][1]
        while any(abs(end - other) < 16 for other in ends):
            end += 4
        ends.append(end)
        parts.append(text(dots[-1][0] + 9, end + 4, name))
    return drawing(height, title, parts)


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def drawing(height: int, title: str, parts: list[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return (
        "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{STYLE}</style>", *parts, "</svg>"])
        + "\n"
    )
