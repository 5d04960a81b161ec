"""What is kept of each release: cookies and records of every kind, as that release wrote them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SECRET_KEY, NAMESPACE = "5a45f1c2a9d14be09c1a7e20d3b64f88", "golden"
OLD_VALUE = "k5v0qk3c9o2m4x7z1b8n6l_d-f3g5h7j9k1l2z4x6cv"  # an ID of Flask-Session's
IN_2100 = 4102444800.0  # when what is kept in tables expires, in epoch seconds

EVERY_TYPE: dict[Any, Any] = {
    "text": "straße \U0001f36a",
    "numbers": [0, -1, 2**40, 10**30, 1.5, float("inf")],
    "flags": [True, False, None],
    "bytes": b"\x00\xff",
    "nested": {"cart": [{"product": "a-1", "count": 2}], 7: ("a", ("b",))},
    "sets": [{1, 2, 3}, frozenset(("x", "y"))],
    "aware": datetime(2026, 10, 25, 2, 30, 1, 5, tzinfo=timezone(timedelta(hours=5.5))),
    "utc": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "naive": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - on purpose
    "day": date(2026, 2, 28),
    "clock": time(23, 59, 1),
    "duration": timedelta(days=-1, microseconds=7),
    "price": Decimal("19.90"),
    "uuid": uuid.UUID(int=0x1234),
}
SIGNED_IN = {"user_id": 4711, "_csrf": "c" * 43, "cart": [1, 2]}
LASTING = {"user_id": "ann", "_permanent": 7_776_000}
DATA: dict[str, dict[Any, Any]] = {
    "new": {"a": 1},
    "every type": EVERY_TYPE,
    "signed in": SIGNED_IN,
    "written often": {"n": 9},
    "signed out": {"cart": [1]},
    "with a lifetime of its own": LASTING,
    "ended": {},
    "renewed": {},
    "adopted": {"user_id": 7, "from": "Flask-Session"},
}


@dataclass(frozen=True)
class Kept:
    """A session as a store keeps it, and the cookie of its client.

    ``cookie`` is the value of the client's cookie, ours or, of an adopted one, the old package's.
    """

    kind: str
    cookie: str
    key: str
    record: str  # in hexadecimal, as are the others
    redis: str
    sql: dict[str, Any]
    claim: dict[str, str] | None = None  # key and bytes, of an adopted one


def releases() -> list[str]:
    """Return the releases of which something is kept."""
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def kept_of(release: str) -> list[Kept]:
    """Return what is kept of a release."""
    return [Kept(**each) for each in json.loads((FOLDER / f"{release}.json").read_text())]


def keep(release: str, sessions: Iterator[Kept]) -> None:
    """Write down what a release has written."""
    text = json.dumps([asdict(each) for each in sessions], indent=1)
    (FOLDER / f"{release}.json").write_text(text + "\n")
