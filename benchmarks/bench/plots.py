"""The pictures of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.drawing import HEIGHT, PANEL, Curve, Tick, bar, plot, text

from .contenders import CONTENDERS
from .growth import SIZES

STYLE = """
    .card { fill: #ffffff; stroke: #d5d9de; }
    .grid { stroke: #e3e7eb; stroke-width: 1; }
    .axis { stroke: #7a8793; stroke-width: 1; }
    .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
    .to { fill: none; stroke-width: 1; }
    .bare { fill: #c3c9cf; }
    .peer { fill: #7aa0cf; }
    .ours { fill: #3d8155; }
    .memory { stroke: #6b7681; stroke-dasharray: 2 4; }
    .redis { stroke: #3d8155; }
    .near { stroke: #3d8155; stroke-dasharray: 5 3; }
    .starsessions { stroke: #4a78ad; }
    .litestar { stroke: #a8772a; stroke-dasharray: 9 4; }
    .sdk { stroke: #b3574a; stroke-dasharray: 9 4; }
    text { font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
      font-size: 13px; fill: #4a5661; }
    .name { font-size: 14px; font-weight: 600; fill: #1f272e; }
    .label-memory { fill: #5b6670; }
    .label-redis, .label-near { fill: #2f6e46; }
    .label-starsessions { fill: #3a679b; }
    .label-litestar { fill: #8a5f1a; }
    .label-sdk { fill: #9e4538; }
    .middle { text-anchor: middle; }
    .end { text-anchor: end; }
    @media (prefers-color-scheme: dark) {
      .card { fill: #161b22; stroke: #333c47; }
      .grid { stroke: #29313b; }
      .axis { stroke: #8a96a3; }
      .bare { fill: #59636e; }
      .peer { fill: #5a88c0; }
      .ours { fill: #5fae7e; }
      .memory { stroke: #b4bfca; }
      .redis, .near { stroke: #78ba90; }
      .starsessions { stroke: #7aa2d2; }
      .litestar { stroke: #d0a24e; }
      .sdk { stroke: #e08a7d; }
      text { fill: #aab5c0; }
      .name { fill: #e8edf2; }
      .label-memory { fill: #b4bfca; }
      .label-redis, .label-near { fill: #8fd0a8; }
      .label-starsessions { fill: #8db3e0; }
      .label-litestar { fill: #d9b36a; }
      .label-sdk { fill: #e9a297; }
    }
  """
NAMES, BARS, ROOM, ROW, HEAD = 230, 130, 70, 24, 52  # of pictures with bars, in pixels
CURVES = {  # class and label, by contender
    "memory": ("memory", "memory"),
    "redis": ("redis", "Redis"),
    "near": ("near", "near copies"),
    "starsessions": ("starsessions", "starsessions"),
    "litestar-redis": ("litestar", "Litestar"),
    "redis-sdk": ("sdk", "redis-sdk"),
}


def svg(title: str, told: str, width: int, height: int, body: str) -> str:
    """Return a picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="title desc">\n  <title id="title">{escape(title)}</title>\n'
        f'  <desc id="desc">{escape(told)}</desc>\n  <style>{STYLE}</style>\n'
        f'  <rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
        f"{body}</svg>\n"
    )


# --- bars -----------------------------------------------------------------------------------------


def bars(title: str, panels: Mapping[str, Mapping[str, float]]) -> str:
    """Return panels side by side: a row for each contender, a bar as long as its figure."""
    names = list(next(iter(panels.values())))
    body, told = "", []
    for number, name in enumerate(names):
        body += text(NAMES - 10, HEAD + ROW * number + 13, CONTENDERS[name].label, "end")
    for column, (heading, figures) in enumerate(panels.items()):
        left, most = NAMES + column * (BARS + ROOM), max(figures.values())
        body += text(left, HEAD - 22, heading, "name")
        for number, name in enumerate(names):
            contender, y = CONTENDERS[name], HEAD + ROW * number
            kind = "ours" if contender.ours else "peer" if contender.bare else "bare"
            length = BARS * figures[name] / most
            body += bar(left, y, round(length, 1), ROW - 8, kind)
            body += text(left + length + 6, y + 13, f"{figures[name]:,.0f}")
        each = ", ".join(f"{CONTENDERS[name].label} {figures[name]:,.0f}" for name in names)
        told.append(f"{heading}: {each}.")
    width = NAMES + len(panels) * (BARS + ROOM)
    return svg(title, " ".join(told), width, HEAD + ROW * len(names) + 8, body)


def of_process(title: str, figures: Mapping[str, Any], concurrent: int) -> str:
    """Return CPU times at so many clients."""
    panels = {}
    for work in ("cookie, unused", "read", "write"):
        found = figures[f"{work}, {concurrent}"]
        panels[work] = {name: median(taken["cpu"]) for name, taken in found.items()}
    return bars(title, panels)


def of_http(figures: Mapping[str, Any]) -> str:
    """Return requests a second."""
    panels: dict[str, dict[str, float]] = {}
    for by_work in figures.values():
        for work, by_name in by_work.items():
            more = {name: median(found["rate"]) for name, found in by_name.items()}
            panels[work] = panels.get(work, {}) | more
    return bars("Requests a second through one worker of uvicorn or gunicorn", panels)


# --- lines ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Where a value stands: by tens from a power of ten on, or evenly from 0 on."""

    lowest: float
    highest: float
    by_tens: bool

    @classmethod
    def of(cls, values: Sequence[float], by_tens: bool) -> Scale:
        if by_tens:
            lowest, highest = floor(log10(min(values))), ceil(log10(max(values)))
            return cls(10.0**lowest, 10.0 ** max(highest, lowest + 1), by_tens=True)
        power = 10.0 ** floor(log10(max(values)))
        return cls(0, ceil(max(values) / power * 2) * power / 2, by_tens=False)

    def place(self, value: float) -> float:
        if self.by_tens:
            return log10(value / self.lowest) / log10(self.highest / self.lowest)
        return value / self.highest

    def ticks(self) -> list[Tick]:
        if self.by_tens:
            steps = round(log10(self.highest / self.lowest))
            values = [self.lowest * 10**step for step in range(steps + 1)]
        else:
            values = [self.highest * step / 4 for step in range(5)]
        return [(self.place(value), f"{value:,.0f}") for value in values]


def lines(
    title: str,
    axis: str,
    columns: Mapping[str, float],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    by_tens: bool,
) -> str:
    """Return plots side by side: each contender's figures over the columns, which go by tens."""
    places = [log10(each) for each in columns.values()]
    across = [(each - places[0]) / (places[-1] - places[0]) for each in places]
    body, told = "", []
    for number, (heading, by_name) in enumerate(panels.items()):
        scale = Scale.of([each for values in by_name.values() for each in values], by_tens)
        curves = [
            Curve(
                *CURVES[name],
                [(x, scale.place(each)) for x, each in zip(across, values, strict=True)],
            )
            for name, values in by_name.items()
        ]
        said = [each if number % 2 == 0 else "" for number, each in enumerate(columns)]
        ticks = list(zip(across, said, strict=True))  # every other one, or they would touch
        drawn = "".join(
            f"    {each}\n" for each in plot(heading, scale.ticks(), ticks, axis, curves)
        )
        body += f'  <g transform="translate({number * PANEL + 6} 0)">\n{drawn}  </g>\n'
        for name, values in by_name.items():
            figures = ", ".join(f"{each:,.0f}" for each in values)
            told.append(f"{heading}, {CURVES[name][1]}: {figures}.")
    return svg(title, " ".join(told), PANEL * len(panels), HEIGHT, body)


SHORT = {"1000": "1,000", "10000": "10,000", "100000": "100,000", "1000000": "1 million"}


def of_numbers(found: Mapping[str, Any]) -> str:
    """Return what grows with the number of sessions."""
    numbers = list(found["redis"]["memory"])
    panels: dict[str, Any] = {
        f"CPU of a {work}, µs": {
            name: [median(each["times"][work][number]["cpu"]) for number in numbers]
            for name, each in found.items()
        }
        for work in ("read", "write")
    }
    panels["Memory of a session, bytes"] = {
        name: [each["memory"][number] for number in numbers] for name, each in found.items()
    }
    columns = {SHORT.get(number, number): float(number) for number in numbers}
    title = "What grows with the number of sessions in the store"
    return lines(title, "sessions", columns, panels, by_tens=False)


def of_sizes(figures: Mapping[str, Any]) -> str:
    """Return what grows with the size of a session."""
    sizes = [size for size in SIZES if f"read, {size}" in figures]
    panels = {
        f"CPU of a {work}, µs": {
            name: [median(figures[f"{work}, {size}"][name]["cpu"]) for size in sizes]
            for name in figures[f"{work}, {sizes[0]}"]
        }
        for work in ("read", "write")
    }
    columns = {size: float(SIZES[size]) for size in sizes}
    title = "What grows with the size of a session"
    return lines(title, "size of the session", columns, panels, by_tens=True)


def pictures(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what can be drawn of the results, by name."""
    if "asgi" in results:
        title = "CPU time of a request in process, µs: ASGI, 32 clients at a time"
        yield "benchmarks-asgi", of_process(title, results["asgi"], 32)
    if "wsgi" in results:
        title = "CPU time of a request in process, µs: WSGI, one client at a time"
        yield "benchmarks-wsgi", of_process(title, results["wsgi"], 1)
    if "http" in results:
        yield "benchmarks-http", of_http(results["http"])
    if "numbers" in results:
        yield "benchmarks-numbers", of_numbers(results["numbers"])
    if "sizes" in results:
        yield "benchmarks-sizes", of_sizes(results["sizes"])
