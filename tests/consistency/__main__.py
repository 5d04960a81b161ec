"""Run the judge for as long as you like: ``python -m tests.consistency --store redis``."""

from __future__ import annotations

import argparse
import signal
import sys

from .controls import CONTROLS
from .running import Report, Run, run
from .world import MODES

HEAD = """\
| mode | operations | seconds | acknowledged | unknown | never sent | faults | loads | violations |
|---|---|---|---|---|---|---|---|---|"""


def row(report: Report) -> str:
    faults = ", ".join(f"{number} {name}" for name, number in sorted(report.faults.items()))
    outcomes = [report.outcomes[name] for name in ("ACKNOWLEDGED", "UNKNOWN", "FAILED")]
    loads = ", ".join(f"{number} from {name}" for name, number in report.loads.items() if number)
    cells = [report.mode, report.operations, round(report.seconds), *outcomes, faults, loads]
    return f"| {' | '.join(map(str, cells))} | {len(report.violations)} |"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.consistency", description=__doc__)
    parser.add_argument("--store", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--operations", type=int, default=10_000, help="of each mode")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for each mode")
    parser.add_argument("--clients", type=int, default=Run.clients)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calm", action="store_true", help="without faults")
    parser.add_argument("--control", choices=list(CONTROLS), default="", help="break it")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are ended, however we are
    how = Run(given.operations, given.seconds, given.seed, given.clients, not given.calm)
    reports = []
    say(HEAD)
    for name in [CONTROLS[given.control].mode] if given.control else given.store:
        reports.append(run(MODES[name], how, given.control))
        say(row(reports[-1]))
        if reports[-1].violations:
            say(f"\n{reports[-1].told()}\n\n{HEAD}")
    return 1 if any(report.violations for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
