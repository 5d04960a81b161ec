"""Everything that Litestar's own session accepts, put into both."""

from __future__ import annotations

import enum
import re
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from litestar.datastructures import MultiDict, SecretString
from litestar.middleware.session.server_side import ServerSideSessionConfig
from pydantic import BaseModel, SecretStr

from tests.litestar.conftest import MakeConfig
from tests.litestar.test_session import Site, put


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


class Struct(msgspec.Struct):
    inner: list[date]


class Model(BaseModel):
    inner: dict[str, date]


@dataclass
class Plain:
    inner: tuple[Decimal, ...]


VALUES: dict[str, Any] = {
    "text": "é",
    "numbers": [1, 1.5, True, None, 2**53],
    "a tuple": (1, (2,)),
    "a set": {1},
    "a frozenset": frozenset({"a"}),
    "bytes": b"x",
    "a deque": deque([1, 2]),
    "a datetime": datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    "a datetime without a zone": datetime(2026, 1, 2, 3, 4),  # noqa: DTZ001
    "a date": date(2026, 1, 2),
    "a time": time(3, 4),
    "a timedelta": timedelta(seconds=90),
    "a Decimal": Decimal("1.50"),
    "a UUID": UUID(int=7),
    "an enum": Colour.RED,
    "an IntEnum": Level.LOW,
    "a named tuple": Point(1, 2),
    "an OrderedDict": OrderedDict(a=1),
    "a defaultdict": defaultdict(list, a=[1]),
    "a path": PurePosixPath("/a"),
    "an address": IPv4Address("127.0.0.1"),
    "a pattern": re.compile("a+"),
    "a Struct": Struct([date(2026, 1, 2)]),
    "a model": Model(inner={"a": date(2026, 1, 2)}),
    "a dataclass": Plain((Decimal("1.5"),)),
    "a secret of Litestar's": SecretString("x"),
    "a secret of Pydantic's": SecretStr("x"),
    "a MultiDict": MultiDict([("a", "1"), ("a", "2")]),
    "models in a list": [Model(inner={}), Struct([])],
    "integers as keys": {1: "a"},
}
# What Litestar's own session refuses, and ours, too.
REFUSED: dict[str, Any] = {"an object": object(), "a function": len, "a type": int}
# What it makes texts of, and no session of ours holds: it would come back as another type.
BUFFERS: dict[str, Any] = {"a bytearray": bytearray(b"x"), "a memoryview": memoryview(b"x")}


def accepted(site: Site, value: Any) -> tuple[bool, Any]:
    status = site.visit(put(value=value)).status_code
    return status == 200, site.see().get("value")


@pytest.mark.parametrize("name", VALUES)
def test_what_litestars_own_session_accepts_is_accepted(name: str, make_config: MakeConfig) -> None:
    """It comes back as it was put in, or else as it would there."""
    value = VALUES[name]
    theirs, would = accepted(Site(ServerSideSessionConfig()), value)
    ours, came = accepted(Site(make_config()), value)
    if theirs:
        assert ours
        assert came in (would, value) or [*came] == [*value]
    elif ours:  # then it is one that a session of ours holds by itself
        assert came == value


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_is_refused(name: str, make_config: MakeConfig) -> None:
    """As in every framework; ``bytes`` are held as they are."""
    assert accepted(Site(make_config()), BUFFERS[name]) == (False, None)


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_refuses_is_refused(name: str, make_config: MakeConfig) -> None:
    """Nothing of the request is stored."""
    for config in (ServerSideSessionConfig(), make_config()):
        assert accepted(Site(config), REFUSED[name]) == (False, None)
