"""Which requests are combined, and how many orders of them were run."""

from __future__ import annotations

import os
from itertools import combinations_with_replacement, product

from . import world
from .world import KINDS

# Minutes instead of seconds: INTERLEAVINGS=all
ALL = os.environ.get("INTERLEAVINGS") == "all"
ENDS = [world.DESTROY, world.RENEW, world.SIGN_IN]
FAULTS = ("repeated", "unknown", "refused")
SOME = [world.SET_X, world.MUTATE, world.EMPTY_KEYS, world.DESTROY, world.RENEW, world.SIGN_IN]
THREE = KINDS if ALL else SOME
LOST = (
    list(product(SOME, combinations_with_replacement(ENDS, 2)))
    if ALL
    else [
        (world.SET_X, (world.RENEW, world.SIGN_IN)),
        (world.SET_X, (world.DESTROY, world.SIGN_IN)),
        (world.SIGN_IN, (world.SIGN_IN, world.SIGN_IN)),
        (world.DESTROY, (world.RENEW, world.SIGN_IN)),
    ]
)


def count(runs: int) -> None:
    world.RUNS["runs"] += runs
