"""Random scripts by the hundred thousand: ``python -m tests.interleavings --runs 500000``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from .scripts import explain, make, shrink, violation_of


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interleavings", description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first; then one more")
    parser.add_argument("--show", type=int, default=1, help="how many of each kind to explain")
    parser.add_argument("--only", default="", help="explain the kinds that have these words")
    chosen = parser.parse_args()
    logging.getLogger("sharedsession").setLevel(logging.CRITICAL)
    begun, kinds = time.monotonic(), Counter[str]()
    for seed in range(chosen.seed, chosen.seed + chosen.runs):
        violation = violation_of(make(seed))
        if violation is None:
            continue
        kinds[violation.rule] += 1
        if kinds[violation.rule] <= chosen.show and chosen.only in violation.rule:
            say(explain(shrink(make(seed)), seed) + "\n")
    seconds = time.monotonic() - begun
    for kind, number in kinds.most_common():
        say(f"{number:7} {kind}")
    say(f"{chosen.runs:,} runs in {seconds:.0f} s, {kinds.total():,} broke a guarantee")
    return min(1, kinds.total())


if __name__ == "__main__":
    raise SystemExit(main())
