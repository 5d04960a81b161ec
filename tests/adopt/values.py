"""What the old packages are given to keep: every type that each takes."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

from markupsafe import Markup

Values = dict[Any, Any]
MOMENT = dt.datetime(2026, 1, 10, 3, 4, 5, tzinfo=dt.UTC)


class Level(enum.IntEnum):
    HIGH = 3


JSON: Values = {
    "user_id": 7,
    "nested": {"list": [1, [2.5, None, True, False], {"ü": "😀 é\0"}], "empty": [{}, [], ""]},
    "numbers": [0, -1, 2**53, 2**62, -(2**63), 0.1, -1e300],
    "": "a key without a letter",
    "tuple": (1, (2, "x")),
    "keys": {"1": "one", "null": "none"},
    "_flashes": [["info", "Welcome"]],
}
FLASK: Values = JSON | {
    "flash": [("Welcome <b>", "info"), ("again", "message")],
    "bytes": b"\0\xff",
    "markup": Markup("<b>bold</b>"),
    "uuid": UUID(int=2**100 + 7),
    "moment": MOMENT,
    "eastern": MOMENT.astimezone(dt.timezone(dt.timedelta(hours=9))),
    "naive": MOMENT.replace(tzinfo=None),
    "day": MOMENT.date(),
    "decimal": Decimal("1.50"),
    "like a tag": [{" t": [1]}, {" di": {" b": b"x"}}, {" d__": 1}, {" u": None, "more": 1}],
    "in each other": ({"a": (b"x", [Markup("y")])},),
}
MSGSPEC: Values = JSON | {
    "bytes": b"\0\xff",
    "uuid": UUID(int=2**100 + 7),
    "moment": MOMENT,
    "naive": MOMENT.replace(tzinfo=None),
    "day": MOMENT.date(),
    "time": dt.time(3, 4, 5, 6),
    "span": dt.timedelta(days=1, seconds=2),
    "decimal": Decimal("1.50"),
    "set": {1},
    "frozen": frozenset(["x"]),
    "level": Level.HIGH,
}
MSGPACK: Values = MSGSPEC | {
    "flash": [("Welcome", "info")],
    "fine moment": MOMENT.replace(microsecond=123456),
    "old moment": MOMENT.replace(year=1),
    "eastern": MOMENT.astimezone(dt.timezone(dt.timedelta(hours=9))),
    "large": 2**64 - 1,
    "keys": {1: "one", None: "none", False: "no", 2.5: "more", b"x": 1, (1, (2, 3)): "pair"},
}
