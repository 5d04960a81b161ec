"""Every value that Starlette's own session takes, which is what JSON takes, and what comes back.

Each is put into both sessions by the same application. What differs is meant, and is a row of the
table in docs/values.md.
"""

from __future__ import annotations

import enum
import math
from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as CookieSessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from werkzeug.datastructures import MultiDict
from werkzeug.local import LocalProxy

from sharedsession import NotSerializable
from sharedsession.asgi import SessionMiddleware
from tests.asgi.application import SECRET
from tests.support.values import (
    REFUSED,
    Colour,
    Doubled,
    Escaped,
    Level,
    Loud,
    Outcome,
    nested,
    spelled,
    table,
)
from tests.support.watched import WatchedStore


class Named(str, enum.Enum):  # noqa: UP042 - as people had it before there was StrEnum
    BLUE = "blue"


class Html:
    def __html__(self) -> str:
        return "<b>"


@dataclass
class Point:
    x: int


def sub(base: type) -> Any:
    return type(f"My{base.__name__}", (base,), {"__repr__": lambda self: "mine"})


Pair = namedtuple("Pair", "x y")  # noqa: PYI024 - the plain one is what people have

TAKEN: dict[str, Any] = {
    "str": "Ärger, 漢字, \N{PILE OF POO}, \ud800",
    "int": -7,
    "big int": 10**40,
    "float": 0.1,
    "infinity": math.inf,
    "not a number": math.nan,
    "minus zero": -0.0,
    "bool": True,
    "None": None,
    "list": [1, [2, [3, {}]]],
    "dict": {"b": {"a": {}}, "a": [1]},
    "100 levels": nested(100),
    "StrEnum": Colour.RED,
    "an enum of text": Named.BLUE,
    "IntEnum": Level.HIGH,
    "keys that are text": {Colour.RED: 1, sub(str)("x"): 2},
    "OrderedDict": OrderedDict(b=1, a=2),
    "defaultdict": defaultdict(list, a=[1]),
    "Counter": Counter("aab"),
    "a subclass of str": sub(str)("x"),
    "a subclass of int": sub(int)(5),
    "a subclass of float": sub(float)(1.5),
    "a subclass of list": sub(list)([1]),
    "a subclass of dict": sub(dict)(a=1),
    "a MultiDict": MultiDict([("a", "1"), ("a", "2"), ("b", "3")]),
    "a list with an order of its own": Doubled([1, 2]),
    "a dict with items of its own": Loud(a="x"),
    "all of it": {"a": [Colour.RED, {"b": [Level.HIGH, MultiDict({"c": "d"})]}]},
}
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIFFERENT: dict[str, list[Any]] = {
    "a tuple": [(), (1, "x")],
    "a dict whose keys are int, float, bool or None": [
        {1: "a"}, {1.5: "a"}, {True: "a"}, {None: "a"}, {1: "a", None: "b"},
    ],
    "Markup, a text with an `__html__` of its own": [Markup("<b>"), Escaped("<script>")],
    "bytes, a set, a frozenset, a datetime, a date, a time, a timedelta, a Decimal, a UUID, "
    "a tuple as a key": [
        b"x", {1}, frozenset({1}), MOMENT, MOMENT.date(), time(1), timedelta(1), Decimal("1.10"),
        UUID(int=5), {(1, 2): 3},
    ],
    "a dict or a list with more than 100 levels": [nested(101), {"a": nested(110)}],
    "NaN as a key": [{math.nan: 1}],
}  # fmt: skip
REFUSED_BY_BOTH: dict[str, tuple[Any, str]] = {
    "an object": (object(), r"of type object, .* Store what it is made of: str, int"),
    "a dataclass": (Point(1), r"of type .*Point, .* Store what it is made of"),
    "an enum": (enum.Enum("Plain", "ONE").ONE, "Plain"),
    "what has HTML": (Html(), r"of type .*Html, .* Store its text: Markup"),
    "a proxy": (LocalProxy(dict), r"of type .*LocalProxy, .* Store what it stands for"),
    "a proxy of a text": (LocalProxy(str), r"of type .*LocalProxy, .* Store what it stands for"),
    "an object as a key": ({Html(): 1}, "Html"),
    "a complex number": (1j, "complex"),
    "a view": ({}.keys(), "dict_keys"),
}


def application(middleware: Middleware, value: Any, found: list[Any]) -> Starlette:
    """Return an application that stores this value, and puts into ``found`` what it reads later."""

    def store(request: Request) -> PlainTextResponse:
        request.session["value"] = value
        assert request.session["value"] is value
        return PlainTextResponse("")

    def read(request: Request) -> PlainTextResponse:
        found.append(request.session["value"])
        return PlainTextResponse("")

    return Starlette(routes=[Route("/", store), Route("/read", read)], middleware=[middleware])


def outcome(middleware: Middleware, value: Any) -> Outcome:
    """Store a value, which the same request must see as it is; return what the next one finds."""
    found: list[Any] = []
    client = TestClient(application(middleware, value, found), raise_server_exceptions=False)
    if client.get("/").status_code == 500:
        return Outcome(value, REFUSED)
    assert client.get("/read").status_code == 200
    return Outcome(value, found[0])


THEIRS = Middleware(CookieSessionMiddleware, secret_key=SECRET)


@pytest.fixture
def ours(watched: WatchedStore) -> Middleware:
    return Middleware(SessionMiddleware, secret_key=SECRET, store=watched)


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_what_starlettes_own_session_gives_back(name: str, ours: Middleware) -> None:
    """The very object in the same request, and the same value in the next."""
    expected = outcome(THEIRS, TAKEN[name])
    assert not expected.is_refused
    assert spelled(outcome(ours, TAKEN[name]).found) == spelled(expected.found)


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_comes_back_otherwise_is_meant(what: str, ours: Middleware) -> None:
    """From both as the page says."""
    theirs_says, ours_says = table("Starlette")[what]
    for value in DIFFERENT[what]:
        assert outcome(THEIRS, value).is_as_said(theirs_says), value
        assert outcome(ours, value).is_as_said(ours_says), value


def test_the_page_lists_what_is_meant() -> None:
    """All of it, and nothing else."""
    assert table("Starlette").keys() == DIFFERENT.keys()


@pytest.mark.parametrize("name", REFUSED_BY_BOTH)
def test_what_starlettes_own_session_refuses_is_refused(
    name: str, ours: Middleware, watched: WatchedStore
) -> None:
    """Naming the key, the type, and what to store in its place; nothing is stored."""
    value, pattern = REFUSED_BY_BOTH[name]
    assert outcome(THEIRS, value).is_refused
    with pytest.raises(NotSerializable, match=rf"^session\['value'\].*{pattern}"):
        TestClient(application(ours, value, [])).get("/")
    assert watched.calls == []
