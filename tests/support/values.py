"""What comes back from a session, in the words of the tables in docs/values.md."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from werkzeug.local import LocalProxy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "values.md"

REFUSED = type("Refused", (), {"__repr__": lambda self: "refused"})()


class Escaped(str):
    """Is no HTML, and says so."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(escape(str(self)))


class Doubled(list[int]):
    def __iter__(self) -> Iterator[int]:
        return (each * 2 for each in super().__iter__())


class Loud(dict[str, str]):
    def items(self) -> Any:
        return [(key, value.upper()) for key, value in super().items()]


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass(frozen=True)
class Outcome:
    """What was put into a session, and what the next request found."""

    put: Any
    found: Any

    @property
    def is_refused(self) -> bool:
        return self.found is REFUSED

    def is_as_said(self, words: str) -> bool:
        """Say whether it is what a cell of a table says, which may say "or"."""
        put = self.put
        while issubclass(type(put), LocalProxy):
            put = put._get_current_object()
        return any(SAID[each](put, self.found) for each in words.split(" or "))


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def spelled(value: object) -> str:
    """Write out a value with the type of everything in it; of sets in a fixed order."""
    match value:
        case dict():
            parts = [f"{spelled(key)}: {spelled(item)}" for key, item in value.items()]
        case list() | tuple():
            parts = [spelled(item) for item in value]
        case set() | frozenset():
            parts = sorted(map(spelled, value))
        case _:
            parts = [repr(value)]
    return f"{type(value).__name__}({', '.join(parts)})"


def _has_text_as_keys(put: dict[Any, Any], found: dict[Any, Any]) -> bool:
    same = spelled([*put.values()]) == spelled([*found.values()])
    return same and all(type(key) is str for key in found)


def _is_in_utc(put: Any, found: Any) -> bool:
    zone = put.tzinfo or UTC
    expected = put.replace(microsecond=0, tzinfo=zone).astimezone(UTC)
    return found == expected and found.utcoffset() == expected.utcoffset()


SAID: dict[str, Callable[[Any, Any], bool]] = {
    "as it was": lambda put, found: spelled(put) == spelled(found),
    "what it stands for": lambda put, found: spelled(put) == spelled(found),
    "refused": lambda put, found: found is REFUSED,
    "text": lambda put, found: type(found) is str,
    "Markup": lambda put, found: (type(found), found) == (Markup, put.__html__()),
    "dict": lambda put, found: spelled(found) == spelled(asdict(put)),
    "list": lambda put, found: spelled(found) == spelled([*put]),
    "text as keys": _has_text_as_keys,
    "sorted by its keys": lambda put, found: [*found.items()] == sorted(put.items()),
    "in UTC, to the second": _is_in_utc,
}


def table(framework: str) -> dict[str, tuple[str, str]]:
    """Return the rows of the page's table: what is put in, what their session and ours give."""
    _, _, rest = PAGE.read_text().partition(
        f"| from {framework}'s own | from ours |\n|---|---|---|\n"
    )
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", rest.partition("\n\n")[0], re.MULTILINE)
    return {what: (theirs, ours) for what, theirs, ours in rows}
