"""See the package's own words."""

from __future__ import annotations

import argparse

import benchmarks.simulation
from benchmarks.simulation.checked import POINTS, compared
from benchmarks.simulation.pictures import DOCS, PICTURES, draw
from benchmarks.simulation.tables import table, tables
from tests.support.servers import RedisServer


def check() -> None:
    rows = []
    for name, world in POINTS.items():
        with RedisServer() as server:
            found = compared(server.port, world)
        for what, by_model, in_fact in found.rows():
            rows.append([name, what, f"{by_model:.3f}", f"{in_fact:.3f}"])
    print(table(["", "for each request", "by the model", "by the real servers"], rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=benchmarks.simulation.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--draw", action="store_true", help="write the pictures")
    parser.add_argument("--check", action="store_true", help="compare with the real thing")
    given = parser.parse_args()
    if given.check:
        check()
    elif given.draw:
        for picture in PICTURES:
            (DOCS / f"{picture.name}.svg").write_text(draw(picture))
    else:
        for title, each in tables():
            print(f"{title}\n\n{each}", flush=True)


if __name__ == "__main__":
    main()
