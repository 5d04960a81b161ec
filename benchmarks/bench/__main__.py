"""The command: see the package's docstring."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from textwrap import dedent
from typing import Any

import benchmarks.bench
from benchmarks import house
from tests.support.databases import postgresql_program
from tests.support.memcached_servers import memcached_binary
from tests.support.servers import binaries

from . import costs, growth, in_process, pages, plots, through_http
from .contenders import CONTENDERS
from .driving import WORKS

RESULTS = Path(__file__).resolve().parents[2] / "build" / "benchmarks.json"
FEW = [
    "starlette",
    "cookie",
    "starsessions",
    "redis",
    "near",
    "flask",
    "flask-session",
    "flask-redis",
]
PACKAGES = (
    "starlette",
    "starsessions",
    "litestar",
    "fastapi",
    "fastapi-redis-sdk",
    "flask",
    "flask-session",
    "flask-sqlalchemy",
    "django",
    "redis",
    "hiredis",
    "sqlalchemy",
    "psycopg",
    "pymemcache",
    "uvicorn",
    "gunicorn",
)


@dataclass(frozen=True)
class Chosen:
    """What the command line says."""

    quick: bool
    rounds: int | None
    concurrent: list[int] | None
    contenders: list[str]
    works: list[str]

    def turns(self, few: int, many: int) -> int:
        return self.rounds or (few if self.quick else many)

    def in_process(self, kind: str) -> Any:
        few = (32,) if kind == "asgi" else (1,)
        return in_process.measure(
            in_process.chosen(kind, self.contenders),
            self.works or list(WORKS),
            self.concurrent or (few if self.quick else (1, 32, 128)),
            self.turns(5, 15),
            0.03,
        )

    def on(self, server: str) -> Any:
        return in_process.measure(
            in_process.on(server, self.contenders),
            self.works or list(WORKS),
            self.concurrent or (1,),
            self.turns(5, 15),
            0.1,
        )

    def http(self) -> Any:
        if shutil.which("wrk") is None:
            raise SystemExit("Please install wrk (Debian, Ubuntu: 'apt-get install wrk' as root).")
        works = ["read"] if self.quick else list(through_http.WORKS)
        names = self.contenders or (FEW if self.quick else [])
        return {
            kind: through_http.measure(in_process.chosen(kind, names), works, self.turns(1, 3), 1)
            for kind in ("asgi", "wsgi")
        }

    def commands(self) -> Any:
        return costs.measure_requests(10 if self.quick else 100)

    def memory(self) -> Any:
        return costs.measure_memory(20_000 if self.quick else 100_000)

    def numbers(self) -> Any:
        powers = (3, 4, 5) if self.quick else (3, 4, 5, 6)
        return growth.by_number([10**each for each in powers], self.turns(2, 7), 0.05)

    def sizes(self) -> Any:
        sizes = list(growth.SIZES)[: 2 if self.quick else None]
        return growth.by_size(sizes, self.turns(2, 7), 0.05)


PARTS: dict[str, Callable[[Chosen], Any]] = {
    "house": lambda _: house.figures(),
    "asgi": lambda chosen: chosen.in_process("asgi"),
    "wsgi": lambda chosen: chosen.in_process("wsgi"),
    "sql": lambda chosen: chosen.on("postgresql"),
    "memcached": lambda chosen: chosen.on("memcached"),
    "http": Chosen.http,
    "commands": Chosen.commands,
    "memory": Chosen.memory,
    "numbers": Chosen.numbers,
    "sizes": Chosen.sizes,
}


def programs() -> dict[str, Path | str]:
    """Return the servers of this machine by name."""
    found: dict[str, Path | str] = {kind.title(): path for kind, path in binaries().items()}
    return found | {
        "PostgreSQL": postgresql_program("postgres"),
        "Memcached": memcached_binary(),
    }


def setting() -> dict[str, str]:
    """Return what it was measured with."""
    found = {"cores": str(os.cpu_count()), "Python": platform.python_version()}
    for kind, binary in programs().items():
        told = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True)
        found[kind] = re.findall(r"\d+(?:\.\d+)+", told.stdout)[0]
    for package in PACKAGES:
        found[package] = metadata.version(package)
    return found


def write(results: dict[str, Any]) -> None:
    """Put the tables into the page, and draw its pictures."""
    pages.PAGE.write_text(pages.put_into(pages.PAGE.read_text(), results))
    for name, drawn in plots.pictures(results):
        (pages.DOCS / f"{name}.svg").write_text(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=dedent(benchmarks.bench.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "part", nargs="*", help=f"{', '.join(PARTS)}; all if none is named; kept: show again"
    )
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--concurrent", type=int, action="append", help="clients at a time")
    parser.add_argument("--contender", choices=CONTENDERS, action="append", help="only these")
    parser.add_argument("--work", choices=WORKS, action="append", help="only these")
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a file of JSON")
    parser.add_argument("--write", action="store_true", help="docs/benchmarks.md and its pictures")
    given = parser.parse_args()
    if unknown := set(given.part) - {*PARTS, "kept"}:
        parser.error(f"There is no part {', '.join(sorted(unknown))}.")
    chosen = Chosen(
        given.quick, given.rounds, given.concurrent, given.contender or [], given.work or []
    )
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    if given.part != ["kept"]:
        results["setting"] = setting()
    given.results.parent.mkdir(exist_ok=True)
    parts = list(results) if given.part == ["kept"] else given.part or list(PARTS)
    for part in parts:
        if given.part == ["kept"]:
            print(f"# {part}\n\n{pages.shown(part, results)}\n")
            continue
        began = time.monotonic()
        results[part] = PARTS[part](chosen)
        given.results.write_text(json.dumps(results) + "\n")
        print(f"# {part} ({time.monotonic() - began:.0f} s)\n\n{pages.shown(part, results)}\n")
        print(flush=True)
    print(pages.bars(results))
    if given.write:
        write(results)


if __name__ == "__main__":
    main()
