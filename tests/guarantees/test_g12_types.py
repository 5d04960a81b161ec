"""G12: what goes in comes out equal and of the same type, or the commit fails and says where."""

from __future__ import annotations

import enum
import math
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Generator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from markupsafe import Markup

from sharedsession import NotSerializable, Session
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import Adapter, Browser, Commit, put, read
from tests.guarantees.places import Place

VALUES: dict[str, Any] = {
    "str": "Ärger, 漢字, \N{PILE OF POO}, \ud800",
    "empty str": "",
    "int": -7,
    "big int": 10**40,
    "negative big int": -(2**63) - 1,
    "largest": 2**64,
    "float": 0.1,
    "infinity": math.inf,
    "minus zero": -0.0,
    "true": True,
    "false": False,
    "none": None,
    "bytes": b"\x00\xff",
    "list": [1, [2, [3, {}]]],
    "dict": {"a": {"b": {}}, 1: "int", None: "none", (1, "x"): "tuple", 1.5: "float"},
    "tuple": (1, (2, [3]), ()),
    "set": {1, "two", (3,), b"4"},
    "frozenset": frozenset({1, frozenset({2})}),
    "empty set": set(),
    "datetime": datetime(2026, 11, 22, 16, 17, 18, 123456),  # noqa: DTZ001 - naive is meant
    "datetime with offset": datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    "datetime in UTC": datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    "datetime in a zone": datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    "date": date(2026, 2, 28),
    "time": time(23, 59, 59, 999999),
    "time with offset": time(1, tzinfo=timezone(timedelta(hours=-3))),
    "timedelta": timedelta(days=-3, seconds=5, microseconds=7),
    "decimal": Decimal("1.10"),
    "decimal exponent": Decimal("1E+30"),
    "uuid": UUID("12345678123456781234567812345678"),
    "markup": Markup("<b>bold</b>"),
}


def same(one: object, other: object) -> bool:
    """Whether two values are equal, and of the same type, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        found = {(type(key), key): value for key, value in other.items()}
        return len(one) == len(found) and all(
            (type(key), key) in found and same(value, found[type(key), key])
            for key, value in one.items()
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset) and isinstance(other, set | frozenset):
        return one == other and {*map(type, one)} == {*map(type, other)}
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one == other and one.fold == other.fold and one.utcoffset() == other.utcoffset()
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return one.as_tuple() == other.as_tuple()
    return one == other


def test_g12_every_type_survives(servers: Servers, browser: Browser) -> None:
    """Each type, at the top and inside others, comes back from another server as it went in."""
    first, second = servers(2)
    nested = {"list": [*VALUES.values()], "dict": {**VALUES}, "tuple": (*VALUES.values(),)}
    first.request(browser, put(**VALUES, nested=nested))
    found = second.request(browser, read).value
    assert same(found, {**VALUES, "nested": nested})


def test_g12_nan_survives(servers: Servers, browser: Browser) -> None:
    """Not a number comes back as not a number, although it does not equal itself."""
    first, second = servers(2)
    first.request(browser, put(nan=math.nan))
    found = second.request(browser, read).value["nan"]
    assert type(found) is float
    assert math.isnan(found)


def test_g12_keys_keep_their_types(servers: Servers, browser: Browser) -> None:
    """1 and "1" are two keys, at the top as well."""
    first, second = servers(2)
    expected = {1: "int", "1": "str", (1, 2): "tuple", None: "none"}
    first.request(browser, lambda session: session.update(expected))
    assert same(second.request(browser, read).value, expected)


# Zone data (TZif) of one offset for ever, under a name that no server knows.
COUNTS = bytes(16) + (1).to_bytes(4) + (4).to_bytes(4)
OFFSET = (7200).to_bytes(4) + bytes(2)
NOWHERE = ZoneInfo.from_file(
    BytesIO(b"TZif" + bytes(16) + COUNTS + OFFSET + b"NOW\0"), "Made/Nowhere"
)


def test_g12_zones_survive_servers_that_lack_them(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """The same moment under the same name; a request that only reads it writes nothing."""
    first, second = servers(2)
    moment = datetime(2026, 7, 1, 12, tzinfo=NOWHERE)
    stored = {"at": moment, "each": {moment: [moment.timetz(), {moment}]}, "user_id": 7}
    first.request(browser, put(**stored))
    place.forget()

    def names(session: Session) -> list[str]:
        ((key, (of_day, several)),) = session["each"].items()
        (element,) = several
        return [each.tzinfo.key for each in (session["at"], key, of_day, element)]

    answer = second.request(browser, names)
    assert answer.value == ["Made/Nowhere"] * 4
    assert (place.writes, answer.cookies) == ([], [])
    assert second.request(browser, read).value == stored
    second.request(browser, put(n=1))
    assert first.request(browser, names).value == ["Made/Nowhere"] * 4
    assert first.request(browser, read).value == {**stored, "n": 1}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = (value,)
    return value


def stack_left() -> int:
    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1  # type: ignore[assignment]
    return sys.getrecursionlimit() - used


def deep_down(application: Any) -> Any:
    """Do it where the stack is nearly used up, as far as any application should go."""

    def deeper(session: Session) -> Any:
        return application(session) if stack_left() < 160 else deeper(session)

    return deeper


@pytest.mark.parametrize("levels", [1, 90])
def test_g12_a_deep_stack_signs_nobody_out(
    servers: Servers, browser: Browser, place: Place, adapter: Adapter, levels: int
) -> None:
    """What was stored on a shallow stack is read, or is an outage, but never an empty session."""
    first, second = servers(2)
    stored = {"user_id": 7, "x": nested(levels)}
    first.request(browser, put(**stored))
    place.forget()
    answer = second.request(browser, deep_down(read))
    if adapter.lazy and levels == 90:
        assert answer.status == 503
    else:
        assert answer.value == stored
    assert (place.writes, answer.cookies) == ([], [])
    assert second.request(browser, read).value == stored


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the plain one is what people have


class Name(str):
    __slots__ = ()


SUBCLASSES: dict[str, tuple[Any, Any]] = {
    "StrEnum": (Colour.RED, "red"),
    "IntEnum": (Level.HIGH, 3),
    "named tuple": (Point(1, 2), (1, 2)),
    "OrderedDict": (OrderedDict(a=1), {"a": 1}),
    "defaultdict": (defaultdict(list, a=[1]), {"a": [1]}),
    "Counter": (Counter("aab"), {"a": 2, "b": 1}),
    "str": (Name("x"), "x"),
    "inside": ([{"k": Point(Name("x"), Colour.RED)}], [{"k": ("x", "red")}]),
}


def test_g12_a_subclass_comes_back_as_its_base_type(servers: Servers, browser: Browser) -> None:
    """Enums, named tuples and the like come back as what they are made of, as from JSON."""
    first, second = servers(2)
    first.request(browser, put(**{name: value for name, (value, _) in SUBCLASSES.items()}))
    expected = {name: base for name, (_, base) in SUBCLASSES.items()}
    assert same(second.request(browser, read).value, expected)


class Cart:
    pass


def endless() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


REFUSED: dict[str, tuple[Any, str, str]] = {
    "object": (Cart(), "session['bad']", "Cart"),
    "function": (len, "session['bad']", "builtin_function_or_method"),
    "bytearray": (bytearray(b"x"), "session['bad']", "bytearray"),
    "memoryview": (memoryview(b"x"), "session['bad']", "memoryview"),
    "complex": (1j, "session['bad']", "complex"),
    "range": (range(3), "session['bad']", "range"),
    "exception": (ValueError("x"), "session['bad']", "ValueError"),
    "in a list": ([1, Cart()], "session['bad'][1]", "Cart"),
    "in a dict": ({"x": {"y": Cart()}}, "session['bad']['x']['y']", "Cart"),
    "in a tuple": ((0, (Cart(),)), "session['bad'][1][0]", "Cart"),
    "as a key": ({Cart: 1}, "session['bad']", "type"),
    "endless": (endless(), "session['bad']", "holds itself"),
}


def test_g12_what_would_not_come_back_is_refused(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """The commit fails with the key and the type, nothing is written, and nobody says success."""
    first, second = servers(2)
    first.request(browser, put(a=1, bad=None))
    for case, (value, path, kind) in REFUSED.items():
        place.forget()
        answer = first.request(browser, put(a=2, bad=value))
        assert answer.status == 500, case
        assert answer.cookies == [], case
        assert isinstance(answer.error, NotSerializable), case
        assert answer.error.path.startswith(path), case
        assert kind in str(answer.error), case
        assert place.writes == [], case
        assert second.request(browser, read).value == {"a": 1, "bad": None}, case


def test_g12_refused_where_it_was_put_in(servers: Servers, browser: Browser, place: Place) -> None:
    """commit() names it in the application, which can take it out again and go on."""
    first, second = servers(2)
    first.request(browser, put(a=1))

    def application(session: Session) -> Generator[Any, Any, str]:
        session["bad"] = [Cart()]
        try:
            yield Commit()
        except NotSerializable as error:
            del session["bad"]
            session["a"] = 2
            return error.path
        return "written"

    assert first.request(browser, application).value == "session['bad'][0]"
    assert second.request(browser, read).value == {"a": 2}


def test_g12_a_first_session_with_a_wrong_value(
    servers: Servers, browser: Browser, place: Place
) -> None:
    """The same for a session that is not stored yet: no row and no cookie."""
    (server,) = servers(1)
    answer = server.request(browser, put(bad=Cart()))
    assert isinstance(answer.error, NotSerializable)
    assert answer.cookies == []
    assert place.verbs == []
