"""Line 24: every value that Flask's own session takes, and what comes back of it.

Each is put into both sessions by the same application. What differs is meant, and is a row of the
table in docs/values.md.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import weakref
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import flask
import orjson
import pytest
from flask import Flask, flash, get_flashed_messages, request, stream_with_context
from flask.json.provider import DefaultJSONProvider, JSONProvider
from markupsafe import Markup
from werkzeug.datastructures import (
    CombinedMultiDict,
    ImmutableDict,
    ImmutableList,
    ImmutableMultiDict,
    MultiDict,
)
from werkzeug.local import LocalProxy

from sharedsession import NotSerializable
from tests.flask.conftest import MakeSite
from tests.flask.site import Answer, Browser, Site, give_cookie, own, put
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

Make = Callable[[], Any]


# --- the values -----------------------------------------------------------------------------------


class Html:
    """Has a form in HTML, and nothing else."""

    def __html__(self) -> str:
        return "<b>x</b>"


class Translated:
    """A text in the language of the moment, as Flask-Babel's lazy strings are."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return f"{self._text} ({language.get()})"

    __html__ = __str__

    def __getattr__(self, name: str) -> Any:
        if name == "__setstate__":
            raise AttributeError(name)
        return getattr(str(self), name)


language = ContextVar("language", default="no language")


@contextmanager
def speaking(name: str) -> Iterator[None]:
    token = language.set(name)
    yield
    language.reset(token)


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True)
class Line:
    start: Point
    ends: list[Point]


class Money:
    """A type that only the application's JSON provider knows."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


Pair = namedtuple("Pair", "x y")  # noqa: PYI024 - the plain one is what people have


def sub(base: type) -> Any:
    return type(f"My{base.__name__}", (base,), {})


NAIVE = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - naive is meant
MOMENT = NAIVE.replace(tzinfo=UTC)
NUMBER = UUID("12345678123456781234567812345678")
ORDERED = OrderedDict(a=1)

PLAIN: dict[str, Any] = {
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
    "dict": {"a": {"b": {}}},
    "tuple": (1, (2, [3]), ()),
    "bytes": b"\x00\xff",
    "Markup": Markup("<b>bold</b>"),
    "UUID": NUMBER,
    "datetime": MOMENT,
    "a dict like a tag": {" t": [1]},
    "a dict like a tag of dicts": {" di": {" t__": [1]}},
    "100 levels": nested(100),
}
SUBCLASSES: dict[str, Any] = {
    "named tuple": Pair(1, Pair(2, 3)),
    "OrderedDict": ORDERED,
    "defaultdict": defaultdict(list, a=[1]),
    "Counter": Counter("aab"),
    "StrEnum": Colour.RED,
    "IntEnum": Level.HIGH,
    "StrEnum as a key": {Colour.RED: 1},
    "str": sub(str)("x"),
    "int": sub(int)(5),
    "float": sub(float)(1.5),
    "bytes": sub(bytes)(b"x"),
    "list": sub(list)([1]),
    "dict": sub(dict)(a=1),
    "tuple": sub(tuple)((1,)),
    "Markup": sub(Markup)("<b>"),
    "UUID": sub(UUID)(int=5),
    "a text that escapes itself": Escaped("<b>"),
    "a list with an order of its own": Doubled([1, 2]),
    "a dict with items of its own": Loud(a="x"),
    "ImmutableDict": ImmutableDict(a=1),
    "ImmutableList": ImmutableList([1]),
}
CONVERTED: dict[str, Any] = {
    "HTML": Html(),
    "a translated text": Translated("Saved"),
    "a dataclass": Point(1, 2),
    "a frozen dataclass of dataclasses": Line(Point(1), [Point(2), Point(3)]),
    "a dataclass of much": Point(
        {"at": NAIVE, "day": date(2026, 1, 2), "id": NUMBER, "sum": Decimal("1.10")},
        [(1, Markup("<b>")), Html(), Translated("x"), {1: 2}, Colour.RED],
    ),
    "a dataclass that is like a tag": Point({" t": [1]}),
}
WITHIN: dict[str, Any] = {
    f"{name} in {where}": put_in(value)
    for name, value in CONVERTED.items()
    for where, put_in in {
        "a list": lambda value: [value, value, 1],
        "a tuple": lambda value: (1, (value,)),
        "a dict": lambda value: {"a": {"b": value}, "c": [value]},
        "a MultiDict": lambda value: MultiDict([("a", value), ("a", 1)]),
        "a subclass of list": lambda value: ImmutableList([value]),
        "a named tuple": lambda value: Pair(value, 1),
    }.items()
}
OF_THE_REQUEST: dict[str, Make] = {
    "args": lambda: request.args,
    "form": lambda: request.form,
    "values": lambda: request.values,
    "cookies": lambda: request.cookies,
    "the accepted languages": lambda: request.accept_languages,
    "args in a list": lambda: [request.args, (request.form,)],
    "args as a proxy": lambda: LocalProxy(lambda: request.args),
    "a time from a header": lambda: request.if_modified_since,
}
SEVERAL = [("a", "1"), ("a", "2"), ("b", "3")]
WITH_LISTS_BEHIND: dict[str, Any] = {
    "MultiDict": MultiDict(SEVERAL),
    "ImmutableMultiDict": ImmutableMultiDict(SEVERAL),
    "CombinedMultiDict": CombinedMultiDict([MultiDict(SEVERAL), MultiDict({"c": "4"})]),
    "empty": MultiDict(),
    "in one another": MultiDict({"a": MultiDict(SEVERAL)}),
}
STANDS_FOR: dict[str, Any] = {
    "dict": {"name": "ada"},
    "list": [1, "two"],
    "tuple": (1, (2,)),
    "UUID": NUMBER,
    "Markup": Markup("<b>"),
    "datetime": MOMENT,
    "HTML": Html(),
    "MultiDict": MultiDict(SEVERAL),
    "proxy": LocalProxy(lambda: {"a": [LocalProxy(lambda: [1])]}),
}

TAKEN: dict[str, Make] = {
    **{f"plain: {name}": (lambda value=value: value) for name, value in PLAIN.items()},
    **{f"subclass: {name}": (lambda value=value: value) for name, value in SUBCLASSES.items()},
    **{f"converted: {name}": (lambda value=value: value) for name, value in CONVERTED.items()},
    **{f"within: {name}": (lambda value=value: value) for name, value in WITHIN.items()},
    **{f"request: {name}": make for name, make in OF_THE_REQUEST.items()},
    **{f"lists: {name}": (lambda value=value: value) for name, value in WITH_LISTS_BEHIND.items()},
    **{
        f"proxy: {name}": (lambda value=value: LocalProxy(lambda: value))
        for name, value in STANDS_FOR.items()
    },
    "a weak reference": lambda: weakref.proxy(ORDERED),
}
REFUSED_BY_BOTH: dict[str, tuple[Any, str]] = {
    "an object": (object(), "object"),
    "a type of nobody's": (Money(5), "Money"),
    "an enum": (enum.Enum("Plain", "ONE").ONE, "Plain"),
    "a complex number": (1j, "complex"),
    "a bytearray": (bytearray(b"x"), "bytearray"),
    "a range": (range(3), "range"),
    "a generator": ((each for each in "x"), "generator"),
    "a view": ({}.keys(), "dict_keys"),
    "a class": (Point, "type"),
    "a translated text as a key": ({Translated("x"): 1}, "Translated"),
    "an object as a key": ({Html(): 1}, "Html"),
    "a proxy as a key": ({LocalProxy(lambda: "x"): 1}, "LocalProxy"),
    "translated texts in a set": ({Translated("x")}, "Translated"),
    "a dataclass of an object": (Point(object()), "Point"),
    "a proxy of an object": (LocalProxy(object), "object"),
    "an unbound proxy": (LocalProxy(ContextVar("unbound")), "LocalProxy"),
    "in a list": ([Point(1), Money(5)], "Money"),
}
# What comes back otherwise, by the rows of the page.
DIFFERENT: dict[str, list[Any]] = {
    "a dict whose keys are int, float, bool, None or Markup": [
        {1: "a"}, {1.5: "a"}, {True: "a"}, {None: "a"}, {Markup("k"): "a"},
    ],
    "a dict whose keys are of several types": [{1: "a", "1": "b"}, {None: 1, "x": 2}],
    "the order of a dict": [{"b": 1, "a": 2}, {"x": 1, "X": 2}],
    "a datetime without a zone, in another one than UTC, or with microseconds": [
        NAIVE,
        MOMENT.replace(microsecond=6),
        MOMENT.replace(tzinfo=timezone(timedelta(hours=5, minutes=45))),
        LocalProxy(lambda: NAIVE),
    ],
    "a date, a Decimal": [date(2026, 1, 2), Decimal("1.10"), LocalProxy(lambda: Decimal(2))],
    "a time, a timedelta, a set, a frozenset, a tuple as a key": [
        time(1, 2), timedelta(days=1), {1}, frozenset({1}), {(1, 2): 3},
    ],
    "a set that `app.json` makes a list": [{1, 2}],
    "a proxy of a text, bytes, a number, None or a date": [
        LocalProxy(lambda: "text"), LocalProxy(lambda: b"x"), LocalProxy(lambda: 7),
        LocalProxy(lambda: 1.5), LocalProxy(lambda: None), LocalProxy(lambda: date(2026, 1, 2)),
    ],
    "a proxy of a dataclass": [LocalProxy(lambda: Point(1))],
    "a dict or a list with more than 100 levels": [nested(101), {"a": nested(110)}],
    "NaN as a key": [{math.nan: 1}],
}  # fmt: skip


# --- both sessions --------------------------------------------------------------------------------


class Provider(DefaultJSONProvider):
    """Knows a type of the application's own, and makes lists of sets."""

    @staticmethod
    def default(value: Any) -> Any:
        match value:
            case Money():
                return {"cents": value.cents, "as": Markup("<i>text</i>")}
            case set():
                return sorted(value)
        return DefaultJSONProvider.default(value)


class Quick(JSONProvider):
    """Has no ``default`` that could be asked: a library of its own does it all."""

    def dumps(self, obj: Any, **options: Any) -> str:
        return orjson.dumps(obj, default=Provider.default).decode()

    def loads(self, text: str | bytes, **options: Any) -> Any:
        return orjson.loads(text)


Pairs = Callable[..., tuple[Site, Site]]


@pytest.fixture
def pair(make_site: MakeSite) -> Pairs:
    """The same application on Flask's own session and on ours."""

    def make(provider: type[JSONProvider] | None = None) -> tuple[Site, Site]:
        sites = make_site(None), make_site()
        for site in sites:
            if provider is not None:
                site.app.json = provider(site.app)
        return sites

    return make


def ask(browser: Browser, view: Make) -> Answer:
    """Send a request that has everything in it."""
    return browser.serve(
        view,
        "/?city=Oslo&city=Bergen&from=1",
        method="POST",
        data={"name": ["ada", "bob"]},
        headers={
            "Accept-Language": "de, en;q=0.5",
            "If-Modified-Since": "Fri, 02 Jan 2026 03:04:05 GMT",
        },
    )


def outcome(site: Site, make: Make, *, commit: bool = False) -> Outcome:
    """Store a value, which the same request must see as it is; return what the next one finds."""
    browser, held = site.browser(), []

    def store() -> None:
        held.append(make())
        flask.session["value"] = held[0]
        assert flask.session["value"] is held[0]
        if commit:
            own().commit()
            assert flask.session["value"] is held[0]

    answer = ask(browser, store)
    if answer.status == 500:
        return Outcome(held[0], REFUSED)
    assert answer.status == 200
    return Outcome(held[0], browser.visit(lambda session: session["value"]).result)


class TestWhatComesBack:
    @pytest.mark.parametrize("name", TAKEN)
    def test_it_is_what_flasks_own_session_gives_back(self, name: str, pair: Pairs) -> None:
        """The very object in the same request, and the same value in the next."""
        theirs, ours = (outcome(site, TAKEN[name]) for site in pair())
        assert not theirs.is_refused
        assert spelled(ours.found) == spelled(theirs.found)

    @pytest.mark.parametrize("name", TAKEN)
    def test_with_a_commit_in_the_same_request(
        self, name: str, pair: Pairs, store: WatchedStore
    ) -> None:
        """The object stays in sight, the next request finds the same, and it is written once."""
        theirs, ours = pair()
        found = outcome(ours, TAKEN[name], commit=True).found
        assert spelled(found) == spelled(outcome(theirs, TAKEN[name]).found)
        assert store.calls == ["create", "load", "load"]  # is it still there, and the next request

    @pytest.mark.newest
    @pytest.mark.parametrize("provider", [Provider, Quick])
    @pytest.mark.parametrize(
        "value", [Money(5), [Money(5), Html()], {"a": (Money(5),)}, Point(1), Point(Money(5))]
    )
    def test_what_the_applications_json_provider_converts(
        self, value: Any, provider: type[JSONProvider], pair: Pairs
    ) -> None:
        """Types of its own, whether it is asked by a ``default`` or does it all itself."""
        theirs, ours = (outcome(site, lambda: value) for site in pair(provider))
        assert not theirs.is_refused
        assert spelled(ours.found) == spelled(theirs.found)

    @pytest.mark.parametrize("what", DIFFERENT)
    def test_what_comes_back_otherwise_is_meant(self, what: str, pair: Pairs) -> None:
        """From both as the page says."""
        theirs_says, ours_says = table("Flask")[what]
        for value in DIFFERENT[what]:
            theirs, ours = pair(Provider if "`app.json`" in what else None)
            assert outcome(theirs, lambda value=value: value).is_as_said(theirs_says), value
            assert outcome(ours, lambda value=value: value).is_as_said(ours_says), value

    def test_the_page_lists_what_is_meant(self) -> None:
        """All of it, and nothing else."""
        assert table("Flask").keys() == DIFFERENT.keys()

    @pytest.mark.parametrize("name", REFUSED_BY_BOTH)
    def test_what_flasks_own_session_refuses_is_refused(
        self, name: str, pair: Pairs, store: WatchedStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Naming the key and the type; nothing is stored, and no cookie is set."""
        value, kind = REFUSED_BY_BOTH[name]
        theirs, ours = pair()
        assert name == "translated texts in a set" or outcome(theirs, lambda: value).is_refused
        caplog.clear()
        answer = ours.browser().visit(put(a=1, value=value))
        assert (answer.status, answer.set_cookie, store.calls) == (500, None, [])
        (error,) = (each.exc_info[1] for each in caplog.records if each.exc_info)
        assert isinstance(error, NotSerializable)
        assert error.path.startswith("session['value']")
        assert kind in str(error)


# --- when it is converted -------------------------------------------------------------------------


def outside_of_any_request(answer: Answer) -> None:
    assert not flask.has_request_context()
    answer.response.close()


class TestTheMoment:
    def test_a_message_is_in_the_language_of_its_request(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """And stays so, although there is none when the response is closed."""
        browser.visit(put(a=1))
        store.calls.clear()
        with speaking("German"):
            answer = browser.serve(lambda: flash(Translated("Saved")), buffered=False)
        outside_of_any_request(answer)
        assert store.calls == ["load", "replace"]
        with speaking("French"):
            messages = browser.serve(get_flashed_messages).result
        assert messages == [Markup("Saved (German)")]

    def test_a_constant_of_the_application_speaks_to_each_visitor(self, site: Site) -> None:
        """What one visitor's session holds of it is no business of the other's."""
        choices = {"all": [Translated("red"), (Translated("blue"), Point(1))]}
        first, second = site.browser(), site.browser()
        with speaking("German"):
            first.visit(put(choices=choices))
        with speaking("French"):
            second.visit(put(choices=choices))
        german, french = (
            {"all": [Markup(f"red ({each})"), (Markup(f"blue ({each})"), {"x": 1, "y": 0})]}
            for each in ("German", "French")
        )
        assert (first.see(), second.see()) == ({"choices": german}, {"choices": french})
        assert type(choices["all"][0]) is Translated

    def test_a_message_to_a_first_visitor_is_no_late_change(self, browser: Browser) -> None:
        """Who would need a cookie for it once the headers have left."""
        with speaking("German"):
            answer = browser.serve(lambda: flash(Translated("Welcome")), buffered=False)
        outside_of_any_request(answer)
        assert browser.serve(get_flashed_messages).result == [Markup("Welcome (German)")]

    def test_what_a_proxy_stood_for_is_kept(self, browser: Browser, store: WatchedStore) -> None:
        """It stands for nothing when the response is closed."""
        held = LocalProxy(lambda: flask.g.profile)

        def page() -> None:
            flask.g.profile = {"name": "ada", "seen": [MOMENT]}
            flask.session["profile"] = held

        browser.visit(put(a=1))
        outside_of_any_request(browser.serve(page, buffered=False))
        assert browser.see() == {"a": 1, "profile": {"name": "ada", "seen": [MOMENT]}}
        assert store.calls.count("replace") == 1

    def test_an_object_counts_as_it_is_when_the_response_starts(self, browser: Browser) -> None:
        """Also after a commit in between, like everything else in the session."""

        def page() -> None:
            point, cart = Point(1), [Point(1)]
            flask.session.update(point=point, cart=cart, n=0)
            own().commit()
            point.x = 2
            cart.append(Point(3))

        browser.serve(page)
        assert browser.see() == {
            "point": {"x": 2, "y": 0},
            "cart": [{"x": 1, "y": 0}, {"x": 3, "y": 0}],
            "n": 0,
        }

    def test_a_late_change_is_stored(self, browser: Browser) -> None:
        """What a stream puts in, and what it changes in a list beside."""

        def page() -> flask.Response:
            flask.session.update(listed=[Html()], n=1)

            def parts() -> Iterator[str]:
                yield "one"
                flask.session["listed"].append(Point(2))
                flask.session["late"] = Translated("late")

            return flask.Response(stream_with_context(parts()))

        browser.visit(put(n=0))
        with speaking("German"):
            browser.serve(page)
        assert browser.see() == {
            "n": 1,
            "listed": [Markup("<b>x</b>"), {"x": 2, "y": 0}],
            "late": Markup("late (German)"),
        }

    def test_modified_tells_the_truth(self, browser: Browser) -> None:
        """Also of what was put into a list, and not of what was only read."""
        browser.visit(put(listed=[Html()]))

        def change(session: Any) -> list[bool]:
            seen = [session.modified]
            session["listed"].append(Html())
            return [*seen, session.modified]

        assert browser.visit(change).result == [False, True]
        assert browser.visit(lambda session: (session["listed"], session.modified)[1:]).result == (
            False,
        )

    def test_a_request_that_reads_them_writes_nothing(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """What was decoded encodes to the same."""
        browser.visit(put(**{f"v{number}": value for number, value in enumerate(WITHIN.values())}))
        store.calls.clear()
        answer = browser.visit(lambda session: [*map(repr, session.values())])
        assert (store.calls, answer.set_cookie) == (["load"], None)


class TestEveryWayIn:
    def test_by_a_function(self, browser: Browser) -> None:
        """mutate(), commit(), and one within another; their results are the objects themselves."""
        point = Point(1)

        def add(session: Any) -> Point:
            session.mutate(lambda inner: inner.update(html=Html()))
            session["point"] = point
            return session["point"]

        assert browser.visit(lambda session: session.mutate(add)).result is point
        assert browser.see() == {"point": {"x": 1, "y": 0}, "html": Markup("<b>x</b>")}
        assert browser.visit(lambda session: session.commit(add)).result is point
        assert browser.see() == {"point": {"x": 1, "y": 0}, "html": Markup("<b>x</b>")}

    @pytest.mark.parametrize("way", ["assigned", "mutate", "commit"])
    def test_when_another_request_wrote_meanwhile(self, way: str, site: Site) -> None:
        """Both keep what they did; a list that was handed out is still the session's."""
        site.app.add_url_rule(
            "/other", view_func=lambda: flask.session.update(other=Point(2)) or ""
        )
        browser = site.browser()
        browser.visit(put(n=0))
        other = site.app.test_client()
        give_cookie(other, "session", browser.cookie or "")
        met: list[int] = []

        def change(session: Any) -> list[Any]:
            session["listed"] = [Html(), Translated("x")]
            return session["listed"]

        def page() -> None:
            session = own()
            if way == "mutate":
                session.mutate(change)
            if way == "assigned":
                change(session)
            met.append(other.get("/other").status_code)
            if way == "commit":
                session.commit(change).append(Point(3))

        browser.serve(page)
        assert met == [200]
        listed = [Markup("<b>x</b>"), Markup("x (no language)")]
        listed += [{"x": 3, "y": 0}] if way == "commit" else []
        assert browser.see() == {"n": 0, "other": {"x": 2, "y": 0}, "listed": listed}

    def test_a_function_that_raises_leaves_them_as_they_were(self, browser: Browser) -> None:
        """The very objects, which were there before it."""
        point = Point(1)

        def page() -> bool:
            flask.session["point"] = point

            def fail(session: Any) -> None:
                session["point"] = Html()
                raise ZeroDivisionError

            for verb in (own().mutate, own().commit):
                with pytest.raises(ZeroDivisionError):
                    verb(fail)
            return flask.session["point"] is point

        assert browser.serve(page).result is True
        assert browser.see() == {"point": {"x": 1, "y": 0}}

    def test_in_a_test_of_the_application(self, site: Site) -> None:
        """session_transaction() takes them too."""
        client = site.app.test_client()
        with client.session_transaction() as session:
            session.update(point=Point(1), html=[Html()])
        with client.session_transaction() as session:
            assert dict(session) == {"point": {"x": 1, "y": 0}, "html": [Markup("<b>x</b>")]}

    def test_by_an_interface_that_is_assigned(self, pair: Pairs) -> None:
        """``app.session_interface = …`` in the place of ``SharedSession(app)``."""
        _, ours = pair()
        app = Flask("assigned")
        app.config.update(SECRET_KEY="k" * 40, SESSION_STORE="memory://values")
        app.session_interface = ours.app.session_interface
        app.add_url_rule("/", view_func=lambda: flask.session.update(point=Point(1)) or "")
        client = app.test_client()
        assert client.get("/").status_code == 200

    def test_who_is_signed_in(self, site: Site, store: WatchedStore) -> None:
        """A proxy of a user's ID is that ID: another one is another user, and a new session ID."""
        browser = site.browser()
        browser.visit(put(user_id=LocalProxy(lambda: 7), theirs=Point(1)))
        before = browser.cookie
        browser.visit(put(user_id=7))
        assert browser.cookie == before
        browser.visit(put(user_id=LocalProxy(lambda: 8)))
        assert browser.cookie != before
        assert browser.see() == {"user_id": 8}


# --- what cannot be -------------------------------------------------------------------------------


def raising(value: Any) -> Any:
    raise KeyError(value)


def circular(value: Any) -> Any:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "default",
    [raising, circular, lambda value: value, lambda value: [value], lambda value: object()],
)
def test_a_json_provider_that_fails_is_named(
    default: Callable[[Any], Any], site: Site, store: WatchedStore
) -> None:
    """One that raises, never ends, or gives what nobody can store; the application can go on."""
    assert isinstance(site.app.json, DefaultJSONProvider)
    site.app.json.default = default  # type: ignore[method-assign]
    errors: list[NotSerializable] = []

    def page() -> None:
        flask.session.update(a=1, bad=[Money(5)])
        with pytest.raises(NotSerializable, match=r"Money.* could not be converted") as raised:
            own().commit()
        errors.append(raised.value)
        del flask.session["bad"]

    browser = site.browser()
    assert browser.serve(page).status == 200
    assert errors[0].path == "session['bad'][0]"
    assert len(str(errors[0])) < 1000
    assert browser.see() == {"a": 1}


def test_a_proxy_that_is_unbound_is_named(site: Site) -> None:
    """In the application, which can go on, and in a stream, whose request is over."""
    held = LocalProxy(lambda: flask.g.profile)
    unbound = LocalProxy(ContextVar("nothing"))

    def page() -> None:
        for proxy in (held, unbound):
            flask.session["profile"] = proxy
            with pytest.raises(NotSerializable, match=r"session\['profile'\] is .*LocalProxy"):
                own().commit()
        flask.session["profile"] = None

    browser = site.browser()
    assert browser.serve(page).status == 200
    assert browser.see() == {"profile": None}


def test_what_is_stored_is_plain(site: Site, store: WatchedStore) -> None:
    """Another framework, which has none of these types, reads it all."""
    site.browser().visit(put(args=MultiDict(SEVERAL), html=Html(), point=Point(1)))
    (stored,) = store.stored
    assert {key: type(value) for key, value in stored.items()} == {
        "args": dict,
        "html": Markup,
        "point": dict,
    }
    assert json.loads(json.dumps(stored)) == stored
