"""docs/logging.md names every event and every count that there is in the source."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import sharedsession

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(sharedsession.__file__).parent
PAGE = (ROOT / "docs" / "logging.md").read_text()
# By the functions that log an event: which argument names it, and the level if none is given.
TELLING = {"report": (0, "DEBUG"), "tell_once": (0, "WARNING"), "_adopt": (2, "DEBUG")}


def nodes() -> Iterator[ast.AST]:
    """Yield all of the source but the demo's, which is an application."""
    for path in SOURCE.rglob("*.py"):
        if "demo" not in path.relative_to(SOURCE).parts:
            yield from ast.walk(ast.parse(path.read_text()))


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def texts(node: ast.AST) -> list[str]:
    """Return the texts that an argument may be: it may depend on something."""
    return [
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]


def level_in(call: ast.Call, otherwise: str) -> str:
    """Return the level that a call gives."""
    given = [name_of(each) for each in (*call.args, *(word.value for word in call.keywords))]
    return next((each for each in given if each in ("INFO", "WARNING", "ERROR")), otherwise)


def events() -> dict[str, set[str]]:
    """Return every event that is logged, with its levels."""
    found = defaultdict(set)
    for call in nodes():
        if not isinstance(call, ast.Call):
            continue
        name = name_of(call.func)
        if name in TELLING:
            place, level = TELLING[name]
            for event in texts(call.args[place]):
                found[event].add(level_in(call, level))
        for word in call.keywords:
            if word.arg == "extra" and isinstance(word.value, ast.Dict):
                for event in texts(word.value.values[0]):
                    found[event].add(level_in(call, name.upper()))
    return found


def counted() -> set[str]:
    """Return every name under which something is counted by itself."""
    return {
        text
        for node in nodes()
        if isinstance(node, ast.Subscript) and name_of(node.value) == "counts"
        for text in texts(node.slice)
    }


def rows(columns: int) -> dict[str, str]:
    """Return the tables of the page that have so many columns: names, and what comes next."""
    table = re.findall(r"^\| `([^`]+)` \|(.*)\|$", PAGE, re.MULTILINE)
    return {
        name: rest.split("|")[0].strip() for name, rest in table if rest.count("|") == columns - 2
    }


def test_every_event_is_on_the_page_with_its_level() -> None:
    """The table has each event that the source logs, at its levels, and no other."""
    shown = {event: set(level.split(", ")) for event, level in rows(3).items()}

    assert len(shown) >= 13
    assert shown == events()


def test_every_count_is_on_the_page() -> None:
    """What is counted, and is no event, is in the second table."""
    assert rows(2).keys() == counted() - events().keys()
