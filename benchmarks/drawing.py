"""Pieces of the documentation's pictures, in SVG: boxes, bars and words; and plots with lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

# The width of a panel and of its plot, and where the plot begins and ends, from top to bottom.
PANEL, PLOT, LEFT, TOP, BOTTOM, HEIGHT = 316, 146, 58, 62, 300, 352
LABEL_ROOM = 17  # between the baselines of two labels

Tick = tuple[float, str]  # how far up or to the right, 0 to 1, and what it says there


def text(x: float, y: float, said: str, kind: str = "") -> str:
    return f'  <text x="{x:g}" y="{y:g}" class="{kind}">{escape(said)}</text>\n'


def lines(x: float, y: float, said: str, kind: str = "") -> str:
    return "".join(text(x, y + 19 * n, line, kind) for n, line in enumerate(said.split("\n")))


def bar(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'  <rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>\n'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return bar(x, y, width, height, kind).replace("/>", ' rx="6"/>')


def way(path: str, kind: str = "way", head: bool = True) -> str:
    end = ' marker-end="url(#head)"' if head else ""
    return f'  <path class="{kind}" d="{path}"{end}/>\n'


# --- plots ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """One line of a plot, labelled where it ends."""

    kind: str  # its class in the picture's style
    label: str
    points: Sequence[tuple[float, float]]  # to the right and up, 0 to 1 each


def plot(
    name: str, rows: Sequence[Tick], columns: Sequence[Tick], axis: str, curves: Sequence[Curve]
) -> list[str]:
    """Return the elements of a plot."""

    def up(place: float) -> float:
        return BOTTOM - place * (BOTTOM - TOP)

    def right(place: float) -> float:
        return LEFT + place * PLOT

    parts = [f'<text class="name" x="10" y="30">{name}</text>']
    for place, label in rows:
        parts.append(
            f'<path class="grid" d="M{LEFT} {up(place):.1f}H{LEFT + PLOT}"/>'
            f'<text class="end" x="{LEFT - 6}" y="{up(place) + 4:.1f}">{label}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {BOTTOM}H{LEFT + PLOT}"/>')
    for place, label in columns:
        parts.append(
            f'<path class="axis" d="M{right(place):.1f} {BOTTOM}v4"/>'
            f'<text class="middle" x="{right(place):.1f}" y="{BOTTOM + 19}">{label}</text>'
        )
    middle = LEFT + PLOT / 2
    parts.append(f'<text class="middle" x="{middle:g}" y="{BOTTOM + 39}">{axis}</text>')
    for curve in curves:
        way = " ".join(f"{right(x):.1f} {up(y):.1f}" for x, y in curve.points)
        parts.append(f'<path class="line {curve.kind}" d="M{way}"/>')
    ends = [up(curve.points[-1][1]) for curve in curves]
    for number, height in _apart(ends):
        curve, x, y = curves[number], LEFT + PLOT, ends[number]
        at = f'x="{x + 13}" y="{height + 4:.1f}"'
        parts += [
            f'<path class="to {curve.kind}" d="M{x + 2} {y:.1f}L{x + 10} {height:.1f}"/>',
            f'<text class="label-{curve.kind}" {at}>{curve.label}</text>',
        ]
    return parts


def _apart(ends: Sequence[float]) -> list[tuple[int, float]]:
    """Return where the labels go, from top to bottom, so that none covers another."""
    order = sorted(range(len(ends)), key=ends.__getitem__)
    heights = [ends[number] for number in order]
    for _ in range(100):
        for number in range(1, len(heights)):
            lack = LABEL_ROOM - (heights[number] - heights[number - 1])
            if lack > 0:
                heights[number - 1] -= lack / 2
                heights[number] += lack / 2
    over = max(0.0, heights[-1] - BOTTOM)
    return [(number, height - over) for number, height in zip(order, heights, strict=True)]
