"""What is shown of the results, on a terminal and in docs/benchmarks.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .contenders import CONTENDERS
from .driving import WORKS
from .in_process import Figures
from .tables import net, ratio, table

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "benchmarks.md"
# Whose time others are compared with, beside the bare application, at so many clients: threads
# that wait for each other make figures of WSGI uncertain.
REFERENCES = {
    "asgi": {"the cookie": "cookie", "starsessions": "starsessions"},
    "wsgi": {"the cookie": "flask-cookie", "Flask-Session": "flask-session"},
    "sql": {"Flask-Session": "flask-session-postgresql", "Django": "django-postgresql"},
    "memcached": {"Flask-Session": "flask-session-memcached", "Django": "django-memcached"},
}
COMPARED_AT = {"asgi": 32, "wsgi": 1, "sql": 1, "memcached": 1}

Results = Mapping[str, Any]


# --- in process -----------------------------------------------------------------------------------


def in_process(part: str, figures: Figures) -> Iterator[str]:
    """Return a table for each work."""
    counts = sorted({int(key.rpartition(", ")[2]) for key in figures})
    at = COMPARED_AT[part] if COMPARED_AT[part] in counts else counts[0]
    for work in WORKS:
        if f"{work}, {at}" in figures:
            yield f"**{work[0].upper()}{work[1:]}**\n\n{of_work(part, figures, work, counts, at)}"


def of_work(part: str, figures: Figures, work: str, counts: list[int], at: int) -> str:
    compared = figures[f"{work}, {at}"]
    others = {label: name for label, name in REFERENCES[part].items() if name in compared}
    head = ["", *(f"CPU, {count}" for count in counts), f"wall, {at}", "to bare"]
    head += [f"to {label}" for label in others]
    head += [f"to {label}, net" for label in others]
    rows = []
    for name, taken in compared.items():
        cpu = taken["cpu"]
        bare = compared.get(CONTENDERS[name].bare, taken)["cpu"]
        row = [f"{median(figures[f'{work}, {count}'][name]['cpu']):.0f}" for count in counts]
        row += [f"{median(taken['wall']):.0f}", f"{ratio(cpu, bare):.2f}"]
        row += [f"{ratio(cpu, compared[other]['cpu']):.2f}" for other in others.values()]
        for other in others.values():
            its = net(compared[other]["cpu"], compared[CONTENDERS[other].bare]["cpu"])
            own = net(cpu, bare)
            means = CONTENDERS[name].bare and median(its) > 0.2 * median(cpu)
            row.append(f"{median(own) / median(its):.2f}" if means else "")
        rows.append([CONTENDERS[name].label, *row])
    return table(head, rows)


@dataclass(frozen=True)
class Bar:
    """One ratio that is watched: CPU time for each request, in whole."""

    part: str
    order: str
    name: str
    to: str

    def value(self, results: Results) -> str:
        """Return the ratio, if both were measured."""
        found = results.get(self.part, {}).get(self.order, {})
        if self.name not in found or self.to not in found:
            return "not measured"
        return f"{ratio(found[self.name]['cpu'], found[self.to]['cpu']):.2f}"


BARS = [
    Bar("asgi", "no cookie, unused, 32", "memory", "starlette"),
    Bar("asgi", "cookie, unused, 32", "near", "starlette"),
    Bar("asgi", "read, 32", "near", "cookie"),
    Bar("asgi", "read, 32", "redis", "cookie"),
    Bar("asgi", "read, 32", "redis", "starsessions"),
    Bar("asgi", "write, 32", "memory", "cookie"),
    Bar("asgi", "write, 32", "redis", "cookie"),
    Bar("asgi", "write, 32", "redis", "starsessions"),
    Bar("asgi", "write, 32", "near", "cookie"),
    Bar("wsgi", "read, 1", "flask-redis", "flask-session"),
    Bar("wsgi", "read, 32", "flask-redis", "flask-session"),
    Bar("wsgi", "write, 1", "flask-redis", "flask-session"),
    Bar("wsgi", "write, 32", "flask-redis", "flask-session"),
]


def bars(results: Results) -> str:
    """Return the ratios that are watched."""
    rows = [
        (each.order, CONTENDERS[each.name].label, CONTENDERS[each.to].label, each.value(results))
        for each in BARS
    ]
    return table(("work, clients", "CPU time of", "over that of", "ratio"), rows)


# --- the other parts ------------------------------------------------------------------------------


def through_http(found: Results) -> str:
    """Return a table for each work."""
    tables = []
    for by_work in found.values():
        for work, by_name in by_work.items():
            rows = [
                [
                    CONTENDERS[name].label,
                    f"{median(taken['rate']):,.0f}",
                    f"{median(taken['p50']):.1f}",
                    f"{median(taken['p99']):.1f}",
                    _against(by_name, name),
                ]
                for name, taken in by_name.items()
            ]
            server = "gunicorn" if "flask" in by_name else "uvicorn"
            head = ("", "requests a second", "p50, ms", "p99, ms", "rate to bare")
            tables.append(f"**{server}: {work}**\n\n{table(head, rows)}")
    return "\n\n".join(tables)


def _against(by_name: Mapping[str, Any], name: str) -> str:
    bare = by_name.get(CONTENDERS[name].bare or name)
    return f"{ratio(by_name[name]['rate'], bare['rate']):.2f}" if bare else ""


def commands(found: Results) -> str:
    """Return commands and bytes of each kind of request."""
    rows = []
    for name, by_work in found.items():
        row = [CONTENDERS[name].label]
        for told in by_work.values():
            sent = ", ".join(
                f"{number:g} {command}" for command, number in told["commands"].items()
            )
            row.append(f"{sent or 'none'}; {told['in']:.0f} + {told['out']:.0f}")
        rows.append(row)
    return table(["", *next(iter(found.values()))], rows)


def memory(found: Results) -> str:
    """Return the memory of a session on each kind of server."""
    names = list({name: None for by_name in found.values() for name in by_name})
    rows = []
    for name in names:
        known = [by_name.get(name) for by_name in found.values()]
        value = next(each["value"] for each in known if each)
        row = [f"{each['memory']:.0f}" if each else "refused" for each in known]
        rows.append([CONTENDERS[name].label, f"{value:.0f}", *row])
    return table(["", "stored value, bytes", *(f"on {kind.title()}" for kind in found)], rows)


def numbers(found: Results) -> str:
    """Return times and memory by the number of sessions."""
    rows = []
    for number in found["redis"]["memory"]:
        row = [f"{int(number):,}"]
        for each in found.values():
            row += [
                f"{median(each['times'][work][number]['cpu']):.0f}" for work in ("read", "write")
            ]
            row.append(f"{each['memory'][number]:.0f}")
        rows.append(row)
    head = ["sessions"]
    for name in found:
        short = "Redis" if name == "redis" else name
        head += [f"{short}: read", f"{short}: write", f"{short}: bytes each"]
    return table(head, rows)


def sizes(figures: Figures) -> str:
    """Return times by the size of a session."""
    names = list(next(iter(figures.values())))
    rows = [
        [order, *(f"{median(by_name[name]['cpu']):,.0f}" for name in names)]
        for order, by_name in sorted(figures.items(), key=lambda each: each[0][0])
    ]
    return table(["CPU, µs", *(CONTENDERS[name].label for name in names)], rows)


def pairs(found: Results) -> str:
    """Return a table of names and figures."""
    return table(("", ""), [(name, f"{value:,}") for name, value in found.items()])


def setting(found: Results) -> str:
    """Return in a sentence where it was measured."""
    return ", ".join(f"{name} {value}" for name, value in found.items()) + "."


BLOCKS: dict[str, Callable[[Any], str]] = {
    "setting": setting,
    "asgi": lambda found: "\n\n".join(in_process("asgi", found)),
    "wsgi": lambda found: "\n\n".join(in_process("wsgi", found)),
    "sql": lambda found: "\n\n".join(in_process("sql", found)),
    "memcached": lambda found: "\n\n".join(in_process("memcached", found)),
    "http": through_http,
    "commands": commands,
    "memory": memory,
    "numbers": numbers,
    "sizes": sizes,
    "house": pairs,
}


def shown(part: str, results: Results) -> str:
    """Return a part's tables."""
    return BLOCKS[part](results[part])


def put_into(page: str, results: Results) -> str:
    """Return the page with the tables of these results between its markers."""
    blocks = {part: shown(part, results) for part in BLOCKS if part in results}
    blocks["bars"] = bars(results)
    for name, block in blocks.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert marked.search(page), f"{PAGE} has no place for {name}"
        page = marked.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", page)  # type: ignore[misc]  # a default of its own
    return page
