"""What is stored: any nesting of the allowed types comes back, the same bytes for the same values.

Values are compared by `spelled`, which writes out type and content of everything in them: equality
alone would take 1, True and 1.0 for the same, and NaN for different from itself.
"""

from __future__ import annotations

import asyncio
import decimal
import json
import os
import random
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import Markup, escape
from werkzeug.datastructures import (
    CombinedMultiDict,
    ImmutableDict,
    ImmutableList,
    MultiDict,
)
from werkzeug.local import LocalProxy

from sharedsession import NotSerializable, StoreUnavailable
from sharedsession._core.changes import Changes, compare, same_data
from sharedsession._core.identity import owner_name, owners
from sharedsession._core.record import (
    Record,
    Tombstone,
    check_data,
    decode_data,
    decode_record,
    encode_data,
    encode_record,
)
from sharedsession.exceptions import CorruptRecord, UnknownFormat

QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
CONTAINERS = (dict, list, tuple, set, frozenset)


def spelled(value: Any) -> str:
    """Write out a value with the type of everything in it; of sets and dicts in a fixed order."""
    name = type(value).__name__
    match value:
        case dict():
            parts = sorted(f"{spelled(key)}: {spelled(item)}" for key, item in value.items())
        case list() | tuple():
            parts = [spelled(item) for item in value]
        case set() | frozenset():
            parts = sorted(map(spelled, value))
        case datetime() | time():
            zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else value.utcoffset()
            parts = [value.replace(tzinfo=None).isoformat(), str(value.fold), str(zone)]
        case _:
            parts = [repr(value) if type(value).__str__ is not Markup.__str__ else str(value)]
    return f"{name}({', '.join(parts)})"


def came_back(value: Any) -> Any:
    return decode_data(encode_data({"value": value}))["value"]


# --- every value ----------------------------------------------------------------------------------

text = st.text(st.characters(), max_size=8)  # surrogates included, alone as well
offsets = st.timedeltas(
    min_value=timedelta(hours=-23, minutes=-59), max_value=timedelta(hours=23, minutes=59)
).map(timezone)
zones = st.sampled_from(ZONES).map(ZoneInfo)
whole = st.one_of(
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**4000]),
)
decimals = st.one_of(
    st.decimals(allow_nan=False),
    st.sampled_from([Decimal(each) for each in ("-0", "1E+400", "1.00", "-Infinity", "0E-9")]),
)
folds = st.builds(
    lambda moment, fold, zone: moment.replace(fold=fold, tzinfo=zone),
    st.datetimes(),
    st.sampled_from([0, 1]),
    st.one_of(st.none(), zones, offsets, st.just(UTC)),
)
in_the_gap = st.builds(
    lambda moment, fold, zone: moment.replace(fold=fold, tzinfo=ZoneInfo(zone)),
    st.sampled_from(
        [
            datetime(2026, 10, 25, 2, 30),  # noqa: DTZ001 - the zone is put in above
            datetime(2026, 3, 29, 2, 30),  # noqa: DTZ001
            datetime(2026, 11, 1, 1, 30),  # noqa: DTZ001
            datetime(1, 1, 1),  # noqa: DTZ001
            datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
        ]
    ),
    st.sampled_from([0, 1]),
    st.sampled_from(ZONES),
)
times = st.builds(
    lambda moment, fold, zone: moment.replace(fold=fold, tzinfo=zone),
    st.times(),
    st.sampled_from([0, 1]),
    st.one_of(st.none(), zones, offsets),
)
# Whatever equals itself, and so can be found again as a key.
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    whole,
    st.floats(allow_nan=False),
    text,
    st.binary(max_size=8),
    decimals,
    folds,
    in_the_gap,
    times,
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    text.map(Markup),
)
scalars = st.one_of(
    hashable_scalars,
    st.floats(),
    st.sampled_from([Decimal(each) for each in ("NaN", "-NaN", "sNaN", "NaN123")]),
)
keys = st.recursive(
    hashable_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.lists(inner, max_size=3).map(frozenset)
    ),
    max_leaves=4,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.lists(keys, max_size=4).map(set),
        st.lists(keys, max_size=4).map(frozenset),
    ),
    max_leaves=12,
)
sessions = st.dictionaries(keys, values, max_size=5)
# Few keys and few values, so that two dicts made of them have something in common.
few = st.dictionaries(
    st.sampled_from(["a", "b", "c", 1, 2.5, (1, "x"), None, b"a", frozenset([1])]),
    st.one_of(st.sampled_from([1, True, 1.0, [1], [True], {1}, "x", Markup("x")]), values),
    max_size=6,
)


class TestRoundTrip:
    @QUICK
    @given(values)
    def test_what_goes_in_comes_out_equal_and_of_the_same_type(self, value: Any) -> None:
        """Any nesting of the allowed types, compared down to the last element."""
        assert spelled(came_back(value)) == spelled(value)

    @QUICK
    @given(sessions, st.floats(0, 1e10), st.none() | st.floats(0, 1e10), st.none() | text)
    def test_a_whole_record_comes_back(
        self, data: dict[Any, Any], created: float, end: float | None, owner: str | None
    ) -> None:
        """Its times and its owner as well as its data."""
        owner = None if owner is None else owner_name({"user_id": owner}, ("user_id",))
        record = Record(created, end, owner, end, encode_data(data))
        decoded, again = decode_record(encode_record(record))
        assert decoded == record
        assert spelled(again) == spelled(data)

    @pytest.mark.parametrize("successor", [None, "a key"])
    def test_a_tombstone_comes_back(self, successor: str | None) -> None:
        """With its time and the key of what goes on after it; its data is empty."""
        mark = Tombstone(1234.5, successor)
        assert decode_record(encode_record(mark)) == (mark, {})

    @pytest.mark.parametrize("microseconds", [1, -1, 999_999, -999_999])
    def test_an_offset_of_less_than_a_second_comes_back(self, microseconds: int) -> None:
        """Nobody has one, but equal is equal."""
        zone = timezone(timedelta(microseconds=microseconds))
        for value in (time(0, 0, tzinfo=zone), datetime(2026, 1, 1, tzinfo=zone)):
            assert spelled(came_back(value)) == spelled(value)

    def test_a_number_too_long_to_be_written_out_comes_back(self) -> None:
        """Python refuses to turn it into decimal digits, and nobody asked for any."""
        for number in (10**5000, -(10**5000)):
            assert came_back(number) == number
        assert owner_name({"user_id": 10**5000}, ("user_id",))

    def test_what_comes_back_can_be_used_as_what_it_was(self) -> None:
        """Arithmetic across a change of clocks, escaping, keys that are found again."""
        berlin = ZoneInfo("Europe/Berlin")
        data = decode_data(
            encode_data(
                {
                    "evening": datetime(2026, 3, 28, 12, tzinfo=berlin),
                    "safe": Markup("<b>"),
                    (1, "x"): {frozenset([1]): "found"},
                }
            )
        )
        day = data["evening"] + timedelta(days=1)
        assert (data["evening"].utcoffset(), day.utcoffset()) == (
            timedelta(hours=1),
            timedelta(hours=2),
        )
        assert str(data["safe"] + "<") == "<b>&lt;"
        assert data[1, "x"][frozenset([1])] == "found"

    @QUICK
    @given(values)
    def test_a_value_of_its_own_comes_back(self, value: Any) -> None:
        """Changing what was decoded changes nothing that was encoded."""
        encoded = encode_data({"value": value})
        decoded = decode_data(encoded)
        decoded["value"] = decoded["new"] = 1
        assert encode_data({"value": value}) == encoded
        assert encode_data(decode_data(encoded)) == encoded


# --- subclasses -----------------------------------------------------------------------------------


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Right(IntFlag):
    READ = 1
    WRITE = 2


class Plain(Enum):
    ONE = 1


def sub(base: type) -> Any:
    """A subclass whose instances say something else about themselves."""
    return type(
        f"My{base.__name__}",
        (base,),
        {
            "__repr__": lambda self: "mine",
            "__str__": lambda self: "mine",
            "__format__": lambda self, spec: "mine",
        },
    )


Point = namedtuple("Point", "x y")  # noqa: PYI024 - an untyped one is what is meant
HASHED: dict[str, Any] = {
    "a dict in a set": {ImmutableDict(k=1)},
    "a list in a set": {ImmutableList([1])},
    "a list in a tuple in a frozenset": frozenset([(1, ImmutableList([1]))]),
    "a dict as a key": {ImmutableDict(k=1): 1},
    "a list in a key": {(ImmutableList([1]),): 1},
}
SUBCLASSED: list[tuple[Any, Any]] = [
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (Right.READ | Right.WRITE, 3),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (defaultdict(list, a=[1]), {"a": [1]}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (Point(1, Point(2, 3)), (1, (2, 3))),
    (sub(str)("text"), "text"),
    (sub(int)(5), 5),
    (sub(int)(2**80), 2**80),
    (sub(float)(1.5), 1.5),
    (sub(bytes)(b"x"), b"x"),
    (sub(list)([1, 2]), [1, 2]),
    (sub(tuple)((1, 2)), (1, 2)),
    (sub(dict)(a=1), {"a": 1}),
    (sub(set)({1}), {1}),
    (sub(frozenset)({1}), frozenset({1})),
    (sub(Decimal)("1.50"), Decimal("1.50")),
    (sub(datetime)(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    (sub(date)(2026, 1, 1), date(2026, 1, 1)),
    (sub(time)(1, 2), time(1, 2)),
    (sub(timedelta)(1, 2, 3), timedelta(1, 2, 3)),
    (sub(UUID)(int=5), UUID(int=5)),
    (sub(Markup)("<b>"), Markup("<b>")),
    ({Colour.RED: Level.HIGH}, {"red": 3}),
    ({(Colour.RED,): 1}, {("red",): 1}),
    ({Level.HIGH}, {3}),
]


class TestSubclasses:
    @pytest.mark.parametrize(("value", "base"), SUBCLASSED, ids=lambda value: type(value).__name__)
    def test_a_subclass_comes_back_as_its_base(self, value: Any, base: Any) -> None:
        """Whatever it says about itself, by str, repr or format."""
        assert spelled(came_back(value)) == spelled(base)
        assert spelled(came_back([value])) == spelled([base])

    @pytest.mark.parametrize(("value", "base"), SUBCLASSED, ids=lambda value: type(value).__name__)
    def test_it_is_the_same_data_as_its_base(self, value: Any, base: Any) -> None:
        """Reading it back and storing it again is no change."""
        assert encode_data({"a": value}) == encode_data({"a": base})

    def test_a_container_is_read_as_it_shows_itself(self) -> None:
        """As JSON reads it: of several values under a key, a `MultiDict` shows the first."""
        several = MultiDict([("city", "Oslo"), ("city", "Bergen"), ("zip", "1")])
        shown = {"city": "Oslo", "zip": "1"}
        assert came_back(several) == came_back(CombinedMultiDict([several])) == shown

        class Doubled(list[int]):
            def __iter__(self) -> Any:
                return (each * 2 for each in super().__iter__())

        assert came_back(Doubled([1, 2])) == [2, 4]
        assert json.loads(json.dumps([several, Doubled([1])])) == [shown, [2]]

    @pytest.mark.parametrize("value", [{"k": 1}, [1]], ids=["dict", "list"])
    def test_a_container_that_cannot_be_read_is_refused(self, value: Any) -> None:
        """Whatever its own methods raise, the error says where it is."""

        def fail(self: object) -> Any:
            raise RuntimeError("not now")

        theirs = type("Loud", (type(value),), {"items": fail, "__iter__": fail})
        with pytest.raises(NotSerializable, match=r"^session\['a'\]\[0\] .*Loud.*not now"):
            encode_data({"a": [theirs(value)]})

    @pytest.mark.parametrize("name", HASHED)
    def test_what_could_not_be_read_again_is_refused(self, name: str) -> None:
        """In a key or a set only what its base type lets be there."""
        with pytest.raises(NotSerializable, match=r"^session\['a'\].*Immutable"):
            check_data({"a": HASHED[name]})

    @pytest.mark.parametrize("stands_for", [{"k": 1}, [1], "text", 7, None, date(2026, 1, 1)])
    def test_a_proxy_is_refused(self, stands_for: Any) -> None:
        """What it stands for may be another thing by the time that it is read."""
        proxy = LocalProxy(lambda: stands_for)
        with pytest.raises(
            NotSerializable, match=r"^session\['a'\] is of type .*LocalProxy.* Store"
        ):
            encode_data({"a": proxy})
        with pytest.raises(NotSerializable, match="LocalProxy"):
            encode_data({"a": {"k": [(proxy,)]}})

    def test_a_proxy_of_nothing_is_refused(self) -> None:
        """It raises whatever it likes as soon as it is looked at."""

        def fail() -> Any:
            raise LookupError

        with pytest.raises(NotSerializable, match=r"^session\['a'\] is of type .*LocalProxy"):
            encode_data({"a": LocalProxy(fail)})

    def test_the_error_names_the_remedy(self) -> None:
        """Of what has an HTML form, its text; of a proxy, what it stands for."""
        theirs = type("Html", (), {"__html__": lambda self: "<b>"})
        with pytest.raises(NotSerializable, match=r"Html.*Store its text: Markup"):
            encode_data({"a": theirs()})
        with pytest.raises(NotSerializable, match="Store what it stands for"):
            encode_data({"a": LocalProxy(dict)})

    def test_elements_that_only_their_class_tells_apart_become_one(self) -> None:
        """Their base type does not tell them apart."""
        theirs = type("Mine", (str,), {"__eq__": object.__eq__, "__hash__": object.__hash__})
        assert came_back({theirs("x"), theirs("x")}) == {"x"}
        day = datetime(2026, 1, 1, tzinfo=UTC)
        assert came_back({theirs("x"): day, theirs("x"): day}) == {"x": day}

    def test_an_enum_of_no_base_is_refused(self) -> None:
        """It is neither text nor number."""
        with pytest.raises(NotSerializable, match=r"session\['a'\]\[0\] is of type .*Plain"):
            encode_data({"a": [Plain.ONE]})

    def test_what_claims_to_be_safe_html_is_markup(self) -> None:
        """Other libraries have classes of their own for it."""
        theirs = type("SafeString", (str,), {"__html__": lambda self: str(self)})
        back = came_back(theirs("<b>"))
        assert (type(back), str(back)) == (Markup, "<b>")

    def test_what_is_safe_html_is_what_it_says_itself(self) -> None:
        """A text that escapes itself is not let through as it is."""
        theirs = type("Plain", (str,), {"__html__": lambda self: escape(str(self))})
        assert came_back(theirs("<script>")) == Markup("&lt;script&gt;")


# --- what a framework converts --------------------------------------------------------------------


class Opaque:
    """Something that cannot be encoded."""

    def __init__(self, content: Any) -> None:
        self.content = content


def content(value: Any) -> Any:
    if isinstance(value, Opaque):
        return value.content
    raise TypeError("only opaque things")


def endless(value: Any) -> Any:
    return endless(value)


UNCONVERTED: dict[str, tuple[Any, Callable[[Any], Any], str]] = {
    "it raises": (object(), content, "of type object, .*only opaque things"),
    "it gives the same": (object(), lambda value: value, "of type object"),
    "it gives another such": (object(), lambda value: Opaque(1), "deep"),
    "it nests for ever": (object(), lambda value: [value], "deep"),
    "it recurses for ever": (object(), endless, "of type object, .*RecursionError"),
    "what it gives is refused": (Opaque([1j]), content, "of type complex"),
    "as a key": ({Opaque(1): 2}, content, "Opaque"),
    "in a set": ({Opaque(1)}, content, "Opaque"),
    "in a key that it gives": (Opaque({Opaque(1): 2}), content, "Opaque"),
}


class TestConversion:
    def test_what_cannot_be_encoded_is_asked_for(self) -> None:
        """At every depth, and what comes of it may be asked for again."""
        data = {"a": Opaque(1), "b": [(Opaque({"k": Opaque([2])}), 3)], "c": "x"}
        encoded = encode_data(data, content)
        assert decode_data(encoded) == {"a": 1, "b": [({"k": [2]}, 3)], "c": "x"}

    def test_the_data_are_then_what_is_stored(self) -> None:
        """They encode to the same, with nobody asked; what was fine stays the very object."""
        cart, inside = ["tea"], [Opaque(1)]
        data = {"cart": cart, "x": inside}
        encoded = encode_data(data, content)
        assert encode_data(data) == encoded
        assert data["cart"] is cart

    def test_the_containers_of_the_application_stay_as_they_are(self) -> None:
        """A constant of its module may be in the session, and in that of another visitor."""
        inner = Opaque("text")
        listed, keyed = [inner], {"k": inner}
        encode_data({"a": listed, "b": keyed}, content)
        assert listed[0] is keyed["k"] is inner

    def test_nobody_is_asked_for_what_can_be_encoded(self) -> None:
        """Integer keys, dates and sets come back as they were, whatever a framework does."""
        asked: list[object] = []
        day, wrong = {1: date(2026, 1, 1), "s": {1}}, Opaque(0)

        def note(value: Any) -> Any:
            asked.append(value)
            return None

        assert decode_data(encode_data({"a": [day], "b": wrong}, note)) == {"a": [day], "b": None}
        assert asked == [wrong]

    @pytest.mark.parametrize("name", UNCONVERTED)
    def test_what_cannot_be_converted_either_is_refused(self, name: str) -> None:
        """With its place and its type."""
        value, convert, pattern = UNCONVERTED[name]
        with pytest.raises(NotSerializable, match=rf"^session\['a'\]\[0\].*{pattern}") as raised:
            encode_data({"a": [value]}, convert)
        assert len(str(raised.value)) < 1000


# --- canonical ------------------------------------------------------------------------------------

SETS_OF_ANOTHER_PROCESS = """
from sharedsession._core.record import encode_data
words = [f"word {n}" for n in range(50)]
print(encode_data({"a": set(words), "b": frozenset((w, frozenset([w, "x"])) for w in words)}).hex())
"""


class TestCanonical:
    @QUICK
    @given(st.lists(keys, max_size=8, unique=True), st.randoms(use_true_random=False))
    def test_sets_encode_the_same_in_any_order_of_insertion(
        self, items: list[Any], shuffle: random.Random
    ) -> None:
        """And decoded and encoded again, they do as well."""
        other = items[:]
        shuffle.shuffle(other)
        for kind in (set, frozenset):
            encoded = encode_data({"a": kind(items)})
            assert encode_data({"a": kind(other)}) == encoded
            assert encode_data(decode_data(encoded)) == encoded

    def test_sets_encode_the_same_in_every_process(self) -> None:
        """With another hash seed the order in a set of texts is another."""
        seen = {
            subprocess.run(
                [sys.executable, "-c", SETS_OF_ANOTHER_PROCESS],
                env={"PYTHONHASHSEED": seed},
                capture_output=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(seen) == 1

    def test_numbers_encode_the_same_in_every_decimal_context(self) -> None:
        """One of them writes exponents in lower case, and another has few digits."""
        number = Decimal("1.2345E+30")
        encoded = encode_data({"a": number})
        with decimal.localcontext(capitals=0, prec=2):
            assert encode_data({"a": number}) == encoded
            assert spelled(decode_data(encoded)["a"].as_tuple()) == spelled(number.as_tuple())

    @QUICK
    @given(few, st.randoms(use_true_random=False))
    def test_the_order_of_top_level_keys_is_no_data(
        self, data: dict[Any, Any], shuffle: random.Random
    ) -> None:
        """Neither for "the same" nor for "what changed"."""
        items = list(data.items())
        shuffle.shuffle(items)
        before = encode_data(data)
        assert same_data(before, encode_data(dict(items)))
        assert compare(before, dict(items)) == Changes((), ())

    def test_below_the_top_the_order_of_keys_is_data(self) -> None:
        """A menu, a form: their order may mean something."""
        one, other = {"m": {"a": 1, "b": 2}}, {"m": {"b": 2, "a": 1}}
        assert not same_data(encode_data(one), encode_data(other))

    @pytest.mark.parametrize(
        ("one", "other"),
        [(1, True), (1, 1.0), (0, False), (0.0, -0.0), ("x", Markup("x")), ("x", b"x"),
         ([1], (1,)), ({1}, frozenset({1})), (Decimal("1.0"), Decimal("1.00")), (None, False),
         (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")))],
        ids=repr,
    )  # fmt: skip
    def test_equal_is_not_the_same(self, one: Any, other: Any) -> None:
        """Bytes are compared, never values."""
        assert not same_data(encode_data({"a": one}), encode_data({"a": other}))
        assert compare(encode_data({"a": one}), {"a": other}).changed
        assert not same_data(encode_data({"a": [one]}), encode_data({"a": [other]}))


# --- what changed, and merging --------------------------------------------------------------------


def lay(changes: Changes, data: dict[Any, Any]) -> dict[Any, Any]:
    """Lay changes over a copy that shares nothing with ``data``."""
    laid = decode_data(encode_data(data))
    changes.apply(laid)
    return laid


def changed_keys(changes: Changes) -> set[Any]:
    return {key for key, _ in changes.changed} | set(changes.removed)


class TestChanges:
    @QUICK
    @given(few, few)
    def test_laid_over_the_old_they_give_the_new(
        self, old: dict[Any, Any], new: dict[Any, Any]
    ) -> None:
        """Types included, and a second time they change nothing."""
        changes = compare(encode_data(old), new)
        laid = lay(changes, old)
        assert spelled(laid) == spelled(new)
        assert spelled(lay(changes, laid)) == spelled(new)

    @QUICK
    @given(sessions, sessions)
    def test_they_do_with_any_keys(self, old: dict[Any, Any], new: dict[Any, Any]) -> None:
        """Those that equal a key of another type as well."""
        assert spelled(lay(compare(encode_data(old), new), old)) == spelled(new)

    @QUICK
    @given(few)
    def test_the_same_is_no_change(self, data: dict[Any, Any]) -> None:
        """Somebody else's removal of a key that was set to what it was stands."""
        assert compare(encode_data(data), decode_data(encode_data(data))) == Changes((), ())

    @QUICK
    @given(few, few, few)
    def test_changes_of_different_keys_can_be_merged_in_any_order(
        self, base: dict[Any, Any], mine: dict[Any, Any], theirs: dict[Any, Any]
    ) -> None:
        """Both survive, whoever comes first."""
        one = compare(encode_data(base), mine)
        apart = {key: base[key] for key in changed_keys(one) if key in base}
        apart |= {key: item for key, item in theirs.items() if key not in changed_keys(one)}
        other = compare(encode_data(base), apart)
        assert not changed_keys(one) & changed_keys(other)
        merged = lay(one, lay(other, base))
        assert spelled(merged) == spelled(lay(other, lay(one, base)))
        for key, value in apart.items():
            if key in changed_keys(other):
                assert spelled(merged[key]) == spelled(value)

    @QUICK
    @given(few, few)
    def test_of_the_same_key_the_last_one_wins_whole(
        self, mine: dict[Any, Any], theirs: dict[Any, Any]
    ) -> None:
        """Nothing is ever merged below the top level."""
        base = encode_data({})
        merged = lay(compare(base, mine), lay(compare(base, theirs), {}))
        for key, value in mine.items():
            assert spelled(merged[key]) == spelled(value)

    def test_a_value_that_is_laid_over_is_a_value_of_its_own(self) -> None:
        """Two sessions never share a list."""
        value: list[int] = []
        changes = compare(encode_data({}), {"a": value})
        one, other = lay(changes, {}), lay(changes, {})
        one["a"].append(1)
        assert (one["a"], other["a"], value) == ([1], [], [])


class TestOwners:
    @QUICK
    @given(values)
    def test_any_value_has_a_name_that_fits_an_index(self, value: Any) -> None:
        """At most 200 characters that can be printed; None is nobody."""
        name = owner_name({"user_id": value}, ("user_id",))
        if value is None:
            assert name is None
            assert owners({"user_id": value}, ("user_id",)) == ()
        else:
            assert name is not None
            assert len(name) <= 200
            assert name.isprintable()
            assert len(owners({"user_id": value}, ("user_id",))) == 1

    def test_the_first_name_that_holds_something_counts(self) -> None:
        """In the order of the setting."""
        data = {"b": 2, "a": None, "c": 3}
        assert owner_name(data, ("a", "b", "c")) == "2"
        assert owner_name({}, ("a",)) is None


# --- what is no fault of the bytes ----------------------------------------------------------------


def stored(data: bytes) -> bytes:
    return encode_record(Record(1.0, None, "7", None, data))


def extension(code: int, *items: Any) -> msgpack.ExtType:
    return msgpack.ExtType(code, msgpack.packb([*items]))


NEW = msgpack.ExtType(99, b"of a newer version")
PLACES: dict[str, Any] = {
    "a value": NEW,
    "in a list": [[NEW]],
    "in a dict": {"b": {"c": NEW}},
    "a key": {NEW: 1},
    "in a key": {extension(1, extension(1, NEW)): 1},
    "in a tuple": extension(1, 1, NEW),
    "in a set": extension(2, NEW),
    "in a frozenset in a set": extension(2, extension(3, NEW)),
    "in a datetime": extension(4, "2026-01-01", "00:00:00", 0, NEW, None),
    "in a time": extension(6, "00:00:00", NEW, None, None),
    "in a timedelta": extension(7, 1, NEW, 3),
}

DEEP = """
import sys
from sharedsession._core.record import Record, decode_record, encode_data, encode_record

value = 1
for _ in range(45):
    value = {"k": (value,)}
stored = encode_record(Record(1.0, None, "7", None, encode_data({"value": value})))

def deeper(levels):
    if levels:
        return deeper(levels - 1)
    return decode_record(stored)[1] == {"value": value} and "decoded"

sys.setrecursionlimit(500)
for levels in range(480):
    try:
        print(deeper(levels))
    except Exception as error:
        print(*(each.__name__ for each in type(error).__mro__[:2]))
"""

LITTLE_MEMORY = """
import resource
from pathlib import Path
from sharedsession._core.record import Record, decode_record, encode_data, encode_record

data = {"value": b"x" * 40_000_000}
stored = encode_record(Record(1.0, None, "7", None, encode_data(data)))
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 10_000_000,) * 2)
for act in (lambda: decode_record(stored), lambda: encode_data(data)):
    try:
        act()
    except Exception as error:
        print(type(error).__name__)
"""


def printed(script: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.splitlines()


class TestNotDamaged:
    @pytest.mark.parametrize("name", PLACES)
    def test_a_type_of_a_newer_version_is_one_wherever_it_stands(self, name: str) -> None:
        """In every container and in every type that is made of others."""
        with pytest.raises(UnknownFormat, match="newer version"):
            decode_record(stored(msgpack.packb({"a": PLACES[name]})))

    def test_in_the_place_of_a_field_and_below_zero_it_is_one_too(self) -> None:
        """An owner of another kind, for example, or a type that msgpack keeps for itself."""
        field = b"\x01" + msgpack.packb([1.0, None, NEW, None, b"\x80"])
        for record in (field, stored(b"\x81\xa1a\xd4\xfe\x00")):
            with pytest.raises(UnknownFormat, match="newer version"):
                decode_record(record)

    @pytest.mark.parametrize("without_c", ["", "1"], ids=["msgpack", "msgpack without C"])
    def test_a_stack_that_is_too_deep_is_an_outage(self, without_c: str) -> None:
        """At every depth: decoded, or an outage of this session; at the very end Python's error."""
        seen = printed(DEEP, MSGPACK_PUREPYTHON=without_c)
        kinds = list(dict.fromkeys(seen))
        assert kinds[:2] == ["decoded", "UndecodableHere UnknownFormat"]
        assert kinds[2:] in ([], ["RecursionError RuntimeError"])
        assert seen.count("RecursionError RuntimeError") < 20

    def test_too_little_memory_is_an_outage(self) -> None:
        """And when encoding it is what Python says, and no value's fault."""
        assert printed(LITTLE_MEMORY) == ["UndecodableHere", "MemoryError"]

    @pytest.mark.parametrize(
        "error",
        [MemoryError(), RecursionError(), OSError(24, "too many open files"), ImportError("x"),
         SystemError(), RuntimeError("can't start new thread"), LookupError("a codec")],
        ids=repr,
    )  # fmt: skip
    def test_what_comes_of_this_machine_is_an_outage(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every error but those that wrong bytes raise; it says which, and that nothing is lost."""

        def failing(*arguments: Any, **options: Any) -> Any:
            raise error

        good = encode_data({"a": 1})
        monkeypatch.setattr("msgpack.unpackb", failing)
        for decode in (lambda: decode_record(stored(good)), lambda: decode_data(good)):
            with pytest.raises(UnknownFormat, match=type(error).__name__) as raised:
                decode()
            assert isinstance(raised.value, StoreUnavailable)
            assert raised.value.__cause__ is error

    @pytest.mark.parametrize(
        "interruption", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit]
    )
    def test_an_interruption_passes(
        self, interruption: type[BaseException], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is about the request or the process."""

        def interrupted(*arguments: Any, **options: Any) -> Any:
            raise interruption

        good = stored(encode_data({"a": 1}))
        monkeypatch.setattr("msgpack.unpackb", interrupted)
        with pytest.raises(interruption):
            decode_record(good)

    @pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa1a", b"\x90", b"\x81\x90\x01"])
    def test_wrong_bytes_are_damage_also_while_another_error_is_handled(self, data: bytes) -> None:
        """Of what an application is doing at the time the bytes know nothing."""
        try:
            raise RecursionError
        except RecursionError:
            with pytest.raises(CorruptRecord):
                decode_record(stored(data))


def deep_tuple(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = (value,)
    return value


class TestNotTheValuesFault:
    def test_a_stack_that_is_too_deep_names_no_value(self) -> None:
        """The same value is taken on a shallower stack."""
        data = {"value": deep_tuple(90)}
        seen = []

        def deeper(levels: int) -> None:
            seen.append(encode(data))
            if levels:
                deeper(levels - 1)

        def encode(data: Any) -> Any:
            try:
                return type(encode_data(data))
            except RecursionError as error:
                return type(error)

        with pytest.raises(RecursionError):
            deeper(sys.getrecursionlimit())
        assert list(dict.fromkeys(seen)) == [bytes, RecursionError]

    @pytest.mark.parametrize("error", [MemoryError, RecursionError])
    def test_nor_does_an_error_that_comes_when_it_looks_for_the_value(
        self, error: type[Exception]
    ) -> None:
        """Which value it is it finds by encoding them one by one."""
        errors = iter([OSError, error])

        class Failing(tzinfo):
            def utcoffset(self, moment: Any) -> Any:
                raise next(errors)

        with pytest.raises(error):
            encode_data({"a": datetime(2026, 1, 1, tzinfo=Failing())})
