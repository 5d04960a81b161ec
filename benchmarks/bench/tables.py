"""Medians, ratios round by round, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

Rounds = Sequence[float]


def ratio(above: Rounds, below: Rounds) -> float:
    """Return the median of the rounds' ratios: what slows a round down slows both."""
    return median(a / b for a, b in zip(above, below, strict=True))


def net(rounds: Rounds, bare: Rounds) -> list[float]:
    """Return what is left of each round without what the bare application takes in it."""
    return [each - without for each, without in zip(rounds, bare, strict=True)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
