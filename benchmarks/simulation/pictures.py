"""Draws how each answer's cost grows: three panels a picture, the lines labelled where they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log10
from pathlib import Path

from benchmarks.drawing import HEIGHT, PANEL, Curve, plot

from .costs import Costs, costs
from .model import Answer, World

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = {
    Answer.OWN: "own",
    Answer.CLUSTERED: "clustered",
    Answer.STORE: "store",
    Answer.COPIES: "copies",
    Answer.STICKY: "sticky",
}
STYLE = """\
    .card { fill: #ffffff; stroke: #d5d9de; }
    .grid { stroke: #e3e7eb; stroke-width: 1; }
    .axis { stroke: #7a8793; stroke-width: 1; }
    .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
    .to { fill: none; stroke-width: 1; }
    .own { stroke: #6b7681; stroke-dasharray: 2 4; }
    .clustered { stroke: #b3574a; stroke-dasharray: 9 4; }
    .store { stroke: #4a78ad; }
    .copies { stroke: #a8772a; stroke-dasharray: 5 3; }
    .sticky { stroke: #3d8155; }
    text { font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; font-size: 13px; fill: #4a5661; }
    .name { font-size: 14px; font-weight: 600; fill: #1f272e; }
    .label-own { fill: #5b6670; }
    .label-clustered { fill: #9e4538; }
    .label-store { fill: #3a679b; }
    .label-copies { fill: #8a5f1a; }
    .label-sticky { fill: #2f6e46; }
    .middle { text-anchor: middle; }
    .end { text-anchor: end; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #161b22; stroke: #333c47; }
      .grid { stroke: #29313b; }
      .axis { stroke: #8a96a3; }
      .own { stroke: #b4bfca; }
      .clustered { stroke: #e08a7d; }
      .store { stroke: #7aa2d2; }
      .copies { stroke: #d0a24e; }
      .sticky { stroke: #78ba90; }
      text { fill: #aab5c0; }
      .name { fill: #e8edf2; }
      .label-own { fill: #b4bfca; }
      .label-clustered { fill: #e08a7d; }
      .label-store { fill: #8db3e0; }
      .label-copies { fill: #d0a24e; }
      .label-sticky { fill: #78ba90; }
    }"""  # noqa: E501 - as in the other pictures


@dataclass(frozen=True)
class Panel:
    """One quantity; a scale by tens that begins with 0 has a place for nothing at all."""

    name: str
    value: Callable[[Costs], float]
    by_tens: bool
    ticks: Sequence[tuple[float, str]]

    def place(self, value: float) -> float:
        """Return how far up a value stands, 0 to 1."""
        lowest, *_, highest = [tick for tick, _ in self.ticks]
        if not self.by_tens:
            return value / highest
        step = 0.0
        if lowest == 0:
            lowest, step = self.ticks[1][0], 1 / (len(self.ticks) - 1)
        if value < lowest:
            return 0.0
        return step + (1 - step) * log10(value / lowest) / log10(highest / lowest)


PANELS = [
    Panel(
        "Commands to the store, a request",
        lambda each: each.commands,
        False,
        [(0, "0"), (0.25, ""), (0.5, "0.5"), (0.75, ""), (1, "1"), (1.25, ""), (1.5, "1.5")],
    ),
    Panel(
        "Bytes over the network, a request",
        lambda each: each.network,
        True,
        [(0, "none"), (10, "10"), (100, "100"), (1000, "1 KB"), (10_000, "10 KB")],
    ),
    Panel(
        "Memory, servers and store",
        lambda each: each.memory,
        True,
        [(1e6, "1 MB"), (1e7, ""), (1e8, "100 MB"), (1e9, ""), (1e10, "10 GB"), (1e11, "")],
    ),
]


@dataclass(frozen=True)
class Picture:
    """What grows, and where on the way the axis says so."""

    name: str
    title: str
    description: str
    axis: str
    points: Sequence[float]
    ticks: Sequence[tuple[float, str]]
    world: Callable[[float], World]
    by_tens: bool = True

    def place(self, point: float) -> float:
        """Return how far to the right a point stands, 0 to 1."""
        first, last = self.points[0], self.points[-1]
        if self.by_tens:
            return log10(point / first) / log10(last / first)
        return (point - first) / (last - first)


PICTURES = [
    Picture(
        "scale-servers",
        "What each answer costs as servers are added",
        "Three panels over 2 to 64 servers, with 100,000 sessions and 10,000 requests a second. A "
        "clustered session sends more bytes and takes more memory with every server. One store "
        "costs the same throughout. Copies without stickiness save next to nothing, and their "
        "pushes grow with the servers. Copies with stickiness save most commands once there is "
        "room for the copies, at 8 servers and more.",
        "servers",
        [2, 4, 8, 16, 32, 64],
        [(2, "2"), (4, "4"), (8, "8"), (16, "16"), (32, "32"), (64, "64")],
        lambda point: World(servers=int(point)),
    ),
    Picture(
        "scale-sessions",
        "What each answer costs as sessions are added",
        "Three panels over 10,000 to 1,000,000 sessions, with 16 servers and 10,000 requests a "
        "second all together. Memory grows with the sessions everywhere, and is sixteen times as "
        "much where they are clustered. Copies save commands while each session is used often, "
        "and nothing any more where each is used once in a hundred seconds.",
        "sessions",
        [10_000, 30_000, 100_000, 300_000, 1_000_000],
        [(10_000, "10,000"), (100_000, "100,000"), (1_000_000, "1 million")],
        lambda point: World(sessions=int(point)),
    ),
    Picture(
        "scale-writes",
        "What each answer costs as more requests write",
        "Three panels over a share of requests that write of 0 to 40 percent, with 16 servers, "
        "100,000 sessions and 10,000 requests a second. What a clustered session sends grows with "
        "the writes and soon exceeds all others. A store is asked one command more for each "
        "write. The saving of sticky copies shrinks as writes end them, and pushes add to the "
        "bytes.",
        "share of requests that write",
        [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4],
        [(0, "0"), (0.1, ""), (0.2, "20 %"), (0.3, ""), (0.4, "40 %")],
        lambda point: World(writes=point),
        by_tens=False,
    ),
]


def draw(picture: Picture) -> str:
    """Return the picture as SVG."""
    found = {
        answer: [costs(replace(picture.world(point), answer=answer)) for point in picture.points]
        for answer in Answer
    }
    width = PANEL * len(PANELS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}"',
        '    role="img" aria-labelledby="title desc">',
        f'  <title id="title">{picture.title}</title>',
        f'  <desc id="desc">{picture.description}</desc>',
        f"  <style>\n{STYLE}\n  </style>",
        f'  <rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{HEIGHT - 1}" rx="8"/>',
    ]
    for number, panel in enumerate(PANELS):
        parts.append(f'  <g transform="translate({number * PANEL + 6} 0)">')
        parts += [f"    {each}" for each in _panel(picture, panel, found)]
        parts.append("  </g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(picture: Picture, panel: Panel, found: dict[Answer, list[Costs]]) -> list[str]:
    curves = [
        Curve(
            name,
            answer.value,
            [
                (picture.place(point), panel.place(panel.value(each)))
                for point, each in zip(picture.points, found[answer], strict=True)
            ],
        )
        for answer, name in LINES.items()
    ]
    return plot(
        panel.name,
        [(panel.place(value), label) for value, label in panel.ticks],
        [(picture.place(point), label) for point, label in picture.ticks],
        picture.axis,
        curves,
    )
