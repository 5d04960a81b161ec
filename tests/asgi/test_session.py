"""What a session is besides a dict, before and after it is loaded, and what its verbs promise."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import pickle
from collections import ChainMap
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jinja2
import msgpack
import orjson
import pytest
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, TypeAdapter
from starlette.background import BackgroundTask
from starlette.middleware.sessions import Session as StarletteSession
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from sharedsession import (
    LateChange,
    NotSerializable,
    Session,
    SessionError,
    SessionGone,
    StoreUnavailable,
)
from sharedsession._core.cookie import Cookie, new_id
from sharedsession._core.exchange import Exchange
from sharedsession._core.manager import Manager
from sharedsession._core.record import Record, encode_data
from sharedsession._core.session import UnusedSession, exchange_of
from sharedsession._core.settings import gather
from tests.asgi.application import Browser, Site, Spoken, cookies, id_in, scope_of, speak, value_in
from tests.asgi.conftest import Opened, Timed
from tests.support.watched import WatchedStore

DATA: dict[str, Any] = {"a": 1, "b": 2}
Act = Callable[[Any], Any]


def put(**values: Any) -> Act:
    return lambda session: session.update(values)


# --- a session that nobody has used yet -----------------------------------------------------------


class Loader:
    """Loads, or fails, and counts how often it was asked."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure, self.calls = failure, 0

    def __call__(self, exchange: Exchange) -> None:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        exchange.record = Record(0.0, None, None, None, encode_data(DATA))
        exchange.found, exchange.opened = copy.deepcopy(DATA), True


MANAGER = Manager(gather({"secret_key": "secret", "store": "memory://"}, environ={}))


def unloaded(loader: Loader | None = None) -> Any:
    exchange = Exchange(MANAGER, [Cookie(new_id(), 0, 0)], load=loader or Loader())
    exchange.hide()
    return exchange.session


def failed(loader: Loader | None = None) -> Any:
    session = unloaded(loader)
    exchange_of(session).fail_load(StoreUnavailable("down"))
    return session


def failing(loader: Loader | None = None) -> Any:
    loader = loader or Loader()
    loader.failure = StoreUnavailable("down")
    return unloaded(loader)


def in_place() -> Any:
    session = UnusedSession()
    dict.update(session, copy.deepcopy(DATA))
    return session


def outcome(act: Act, session: Any) -> Any:
    """What an act comes to: its result, or the kind of its exception."""
    try:
        result = act(session)
    except Exception as error:  # noqa: BLE001 - which one it is, is what is compared
        return type(error)
    return result if isinstance(result, (bool, int, str, tuple)) else repr(result)


METHODS: dict[str, Act] = {
    "__contains__": lambda s: ("a" in s, "x" in s),
    "__delitem__": lambda s: s.__delitem__("a"),
    "__eq__": lambda s: (s == DATA, s == {}, s == {}),
    "__ge__": lambda s: s >= {},
    "__getitem__": lambda s: s["a"],
    "__gt__": lambda s: s > {},
    "__ior__": lambda s: s.__ior__({"c": 3}),
    "__iter__": lambda s: list(iter(s)),
    "__le__": lambda s: s <= {},
    "__len__": lambda s: len(s),
    "__lt__": lambda s: s < {},
    "__ne__": lambda s: (s != DATA, s != {}),
    "__or__": lambda s: s | {"c": 3},
    "__repr__": lambda s: repr(s),
    "__reversed__": lambda s: list(reversed(s)),
    "__ror__": lambda s: {"c": 3} | s,
    "__setitem__": lambda s: s.__setitem__("c", 3),
    "clear": lambda s: s.clear(),
    "copy": lambda s: s.copy(),
    "get": lambda s: (s.get("a"), s.get("x"), s.get("x", 5)),
    "items": lambda s: list(s.items()),
    "keys": lambda s: list(s.keys()),
    "pop": lambda s: s.pop("a"),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: (s.setdefault("a", 5), s.setdefault("c", 3)),
    "update": lambda s: s.update(c=3),
    "values": lambda s: list(s.values()),
}
NOT_OF_THE_CONTENT = {
    "__class_getitem__",  # dict[str, int], of the class
    "__doc__",
    "__getattribute__",  # of attributes
    "__hash__",  # None: a dict has none
    "__init__",  # runs before there is anything to load
    "__new__",
    "__sizeof__",  # of the memory it takes
    "fromkeys",  # of the class
}


class TestNotYetUsed:
    def test_no_method_of_dict_is_forgotten(self) -> None:
        """Whatever a Python adds to dict must be added here, and to the session."""
        assert set(vars(dict)) - set(METHODS) == NOT_OF_THE_CONTENT
        missing = {name for name in METHODS if name not in vars(UnusedSession)}
        assert missing == set()

    @pytest.mark.parametrize("name", METHODS)
    def test_every_method_loads_first_and_only_once(self, name: str) -> None:
        """It then does what it does on a session that was loaded all along."""
        loader = Loader()
        session, known = unloaded(loader), Session(copy.deepcopy(DATA))
        assert outcome(METHODS[name], session) == outcome(METHODS[name], known)
        assert dict(session) == dict(known)
        assert loader.calls == 1
        assert type(session) is Session

    @pytest.mark.parametrize("name", METHODS)
    @pytest.mark.parametrize("make", [failed, failing])
    def test_every_method_raises_the_outage_of_a_failed_load(
        self, name: str, make: Callable[[Loader], Any]
    ) -> None:
        """Each time, and the store is asked no second time."""
        loader = Loader()
        session = make(loader)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="down"):
                METHODS[name](session)
        assert loader.calls == (make is failing)

    @pytest.mark.parametrize("name", METHODS)
    def test_every_method_is_noticed_on_a_session_that_was_loaded(
        self, name: str, browser: Browser
    ) -> None:
        """The response says Vary: Cookie, however the application came by the session."""
        browser.visit(put(**DATA))
        known = Session(copy.deepcopy(DATA))
        answer = browser.serve(lambda request: outcome(METHODS[name], request.scope["session"]))
        assert answer.result == outcome(METHODS[name], known)
        assert answer.vary == "Cookie"

    @pytest.mark.parametrize("name", METHODS)
    def test_the_flags_are_those_of_a_session_in_use(self, name: str) -> None:
        """Loading by itself neither accesses nor modifies."""
        for session in (unloaded(), in_place()):
            known = Session(copy.deepcopy(DATA))
            assert outcome(METHODS[name], session) == outcome(METHODS[name], known)
            assert (session.accessed, session.modified) == (known.accessed, known.modified)

    def test_reaching_for_it_does_not_load(self) -> None:
        """Starlette's mark_accessed() comes before the first read, and may be all there is."""
        for session in (unloaded(), failed()):
            session.mark_accessed()
            assert session.accessed
            assert type(session) is UnusedSession

    def test_flags_can_be_read_without_loading(self) -> None:
        """A middleware that looks at them does not use the session by that."""
        session = failed()
        assert (session.accessed, session.modified) == (False, False)
        assert isinstance(session, dict)

    @pytest.mark.parametrize(
        "name",
        ["renew", "mark_authenticated", "is_new", "created_at", "authenticated_at", "handle"],
    )
    def test_what_else_a_session_knows_raises_the_outage_too(self, name: str) -> None:
        """Whether it is new, and when it began, cannot be said of a session that failed to load."""
        with pytest.raises(StoreUnavailable):
            getattr(failed(), name)()  # a property raises before it would be called

    def test_destroy_needs_no_loaded_session(self) -> None:
        """Signing out must be possible whatever is wrong with the record."""
        for session in (unloaded(), failed(), in_place()):
            session.destroy()
            assert dict(session) == {}
            session["a"] = 2
            assert dict(session) == {"a": 2}


class AnyDict(BaseModel):
    held: dict[str, Any]


def template(session: Any, text: str) -> str:
    return jinja2.Environment(autoescape=True).from_string(text).render(session=session)


def matched(session: Any) -> Any:
    match session:
        case {"a": a, **rest}:
            return {"a": a, **rest}
        case {}:
            return "matched as empty"


def collected(**named: Any) -> dict[str, Any]:
    return named


def updated(session: Any) -> dict[str, Any]:
    target: dict[str, Any] = {}
    target.update(session)
    return target


# What each of them makes of a session, brought back to a dict.
READERS: dict[str, Act] = {
    "json.dumps": lambda s: json.loads(json.dumps(s)),
    "json.dumps, indented": lambda s: json.loads(json.dumps(s, indent=1)),
    "json.dumps, within": lambda s: json.loads(json.dumps({"x": [s]}))["x"][0],
    "json.dumps, sorted": lambda s: json.loads(json.dumps(s, sort_keys=True)),
    "JSONResponse": lambda s: json.loads(JSONResponse(s).body),
    "jsonable_encoder": jsonable_encoder,
    "orjson": lambda s: orjson.loads(orjson.dumps(s)),
    "orjson, any key": lambda s: orjson.loads(orjson.dumps(s, option=orjson.OPT_NON_STR_KEYS)),
    "jinja tojson": lambda s: json.loads(template(s, "{{ session | tojson }}")),
    "jinja loop": lambda s: {
        key: int(value)
        for key, _, value in (
            pair.partition("=")
            for pair in template(
                s, "{% for k in session %}{{ k }}={{ session[k] }} {% endfor %}"
            ).split()
        )
    },
    "pydantic, model": lambda s: AnyDict(held=s).held,
    "pydantic, typed": lambda s: TypeAdapter(dict[str, int]).validate_python(s),
    "pydantic, dict": lambda s: TypeAdapter(dict).validate_python(s),
    "pydantic, dumped": lambda s: json.loads(TypeAdapter(dict).dump_json(s)),
    "msgpack": lambda s: msgpack.unpackb(msgpack.packb(s)),
    "dict(s)": dict,
    "{**s}": lambda s: {**s},
    "f(**s)": lambda s: collected(**s),
    "dict(**s)": lambda s: dict(**s),
    "update(s)": updated,
    "|": lambda s: s | {},
    "| from the right": lambda s: {} | s,
    "|= from the right": lambda s: functools.reduce(dict.__ior__, [s], {}),
    "copy()": lambda s: s.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda s: pickle.loads(pickle.dumps(s)),
    "pickle, oldest": lambda s: pickle.loads(pickle.dumps(s, 0)),
    "items": lambda s: dict(s.items()),
    "zip": lambda s: dict(zip(s.keys(), s.values(), strict=True)),
    "comprehension": lambda s: {key: s[key] for key in s},
    "sorted": lambda s: {key: s[key] for key in sorted(s)},
    "repr": lambda s: json.loads(repr(s).replace("'", '"')),
    "str": lambda s: json.loads(str(s).replace("'", '"')),
    "format": lambda s: json.loads(f"{s}".replace("'", '"')),
    "ChainMap": lambda s: dict(ChainMap({}, s)),
    "match": matched,
    "format_map": lambda s: json.loads('{{"a": {a}, "b": {b}}}'.format_map(s)),
    "%": lambda s: json.loads('{"a": %(a)s, "b": %(b)s}' % s),  # noqa: UP031 - is meant
    "truth": lambda s: DATA if s else {},
    "length": lambda s: DATA if len(s) == 2 else {},
    "equality": lambda s: {} if s == {} else DATA,
    "equality, reversed": lambda s: {} if s == {} else DATA,
    "equality of two": lambda s: DATA if s == unloaded() else {},
}
# Written in a compiled language, and content with the storage of a dict: they call no method, so
# they cannot make it load. What they find in the storage must make them fail.
BELOW_THE_METHODS = {"orjson", "orjson, any key", "pydantic, dumped"}
# What an outage becomes in the hands of those who put their own error in its place.
KINDS: dict[str, type[Exception]] = {
    name: TypeError if "orjson" in name else ValueError
    for name in READERS
    if name.startswith(("orjson", "pydantic"))
}


class TestNeverAnEmptyDict:
    @pytest.mark.parametrize("name", READERS)
    def test_whoever_reads_a_session_that_is_not_loaded_gets_its_data(self, name: str) -> None:
        """Or an exception, from what reads below the methods; never a dict that is empty."""
        if name in BELOW_THE_METHODS:
            with pytest.raises(KINDS[name]):
                READERS[name](unloaded())
        else:
            assert READERS[name](unloaded()) == DATA

    @pytest.mark.parametrize("name", READERS)
    def test_whoever_reads_a_session_that_failed_to_load_gets_an_exception(self, name: str) -> None:
        """The outage itself where a method is called, and something loud in any case."""
        for make in (failed, failing):
            with pytest.raises(KINDS.get(name, StoreUnavailable)):
                READERS[name](make())

    @pytest.mark.parametrize("name", READERS)
    def test_whoever_reads_a_session_that_was_loaded_gets_its_data(self, name: str) -> None:
        """Before its first use as after it."""
        assert READERS[name](in_place()) == DATA
        assert READERS[name](Session(DATA)) == DATA

    @pytest.mark.parametrize("name", sorted(READERS.keys() - BELOW_THE_METHODS))
    def test_in_an_outage_a_page_that_reads_it_is_a_503(
        self, name: str, browser: Browser, watched: WatchedStore
    ) -> None:
        """Whatever it reads with: no page is made of a session that nobody could load."""
        browser.visit(put(**DATA))
        watched.fail()
        assert browser.visit(READERS[name]).status == 503

    def test_a_copy_is_a_plain_dict(self) -> None:
        """Copied, merged or pickled, it does not become a second session."""
        session = Session(DATA)
        copies: list[Act] = [
            copy.copy, copy.deepcopy, lambda s: s.copy(), lambda s: s | {}, lambda s: {} | s,
            lambda s: pickle.loads(pickle.dumps(s)),
        ]  # fmt: skip
        assert [type(each(session)) for each in copies] == [dict] * len(copies)


# --- line 2: the flags ----------------------------------------------------------------------------

OPERATIONS: dict[str, Act] = {
    "get": lambda s: s.get("a"),
    "[]": lambda s: s["a"],
    "[] of a missing key": lambda s: s["x"],
    "in": lambda s: "a" in s,
    "len": len,
    "iteration": list,
    "set": lambda s: s.__setitem__("a", 5),
    "set to what it was": lambda s: s.__setitem__("a", 1),
    "del": lambda s: s.__delitem__("a"),
    "del of a missing key": lambda s: s.__delitem__("x"),
    "clear": lambda s: s.clear(),
    "update": lambda s: s.update({"c": 3}),
    "update by name": lambda s: s.update(c=3),
    "update by pairs": lambda s: s.update([("c", 3)], d=4),
    "update with nothing": lambda s: s.update(),
    "|=": lambda s: s.__ior__({"c": 3}),
    "popitem": lambda s: s.popitem(),
    "pop": lambda s: s.pop("a"),
    "pop with a default": lambda s: s.pop("a", None),
    "pop of a missing key": lambda s: s.pop("x", None),
    "pop of a missing key without default": lambda s: s.pop("x"),
    "setdefault": lambda s: s.setdefault("c", 3),
    "setdefault of a key that is there": lambda s: s.setdefault("a", 3),
    "popitem until empty": lambda s: [s.popitem(), s.popitem(), s.popitem()],
}


class TestFlags:
    @pytest.mark.parametrize("name", OPERATIONS)
    def test_accessed_and_modified_are_what_starlette_says(self, name: str) -> None:
        """The same flags, the same result and the same content after every operation."""
        ours, theirs = Session(DATA), StarletteSession(DATA)
        act = OPERATIONS[name]
        assert outcome(act, ours) == outcome(act, theirs)
        assert (ours.accessed, ours.modified) == (theirs.accessed, theirs.modified)
        assert dict(ours) == dict(theirs)

    def test_augmented_assignment_keeps_the_session(self) -> None:
        """``|=`` changes it in its place, for mappings and for pairs."""
        session = before = Session(DATA)
        session |= {"c": 3}
        session |= [("d", 4)]
        assert session is before
        assert session == {**DATA, "c": 3, "d": 4}
        assert session.modified

    @pytest.mark.parametrize("flag", [True, False])
    def test_setting_modified_by_hand_is_harmless(
        self, flag: bool, browser: Browser, watched: WatchedStore
    ) -> None:
        """Nothing is written for it, and nothing that changed is missed for it."""

        def mark(**values: Any) -> Act:
            def act(session: Any) -> None:
                session.update(values)
                session.modified = flag

            return act

        assert browser.visit(mark()).set_cookie is None
        browser.visit(mark(a=1))
        watched.calls.clear()
        assert browser.visit(mark()).set_cookie is None
        assert watched.calls == ["load"]
        browser.visit(mark(a=2))
        assert browser.see() == {"a": 2}

    def test_nested_changes_count_without_any_flag(self, place: Opened) -> None:
        """``session["cart"].append(x)`` is saved."""
        browser = place.site().browser()
        browser.visit(put(cart=[{"n": 1}], tags={"x"}))
        browser.visit(lambda session: session["cart"][0].update(n=2))
        browser.visit(lambda session: session["tags"].add("y"))
        assert browser.see() == {"cart": [{"n": 2}], "tags": {"x", "y"}}

    def test_types_that_are_equal_are_different_data(self, place: Opened) -> None:
        """1, True and 1.0 are three values; the order of keys is none."""
        browser = place.site().browser()
        browser.visit(put(a=1, b=2))
        for value in (True, 1.0, 1):
            browser.visit(put(a=value))
            assert repr(browser.see()["a"]) == repr(value)
        before = place.store.load(browser.visit(lambda session: session.handle).result)

        def reorder(session: Any) -> None:
            session["a"] = session.pop("a")

        browser.visit(reorder)
        assert place.store.load(browser.visit(lambda session: session.handle).result) == before


# --- two requests at once -------------------------------------------------------------------------


class Meanwhile:
    """A handler in which another request of the same session comes in between."""

    def __init__(self, site: Site, browser: Browser) -> None:
        self.site, self.browser = site, browser
        self.other: Spoken | None = None

    def visit(self, before: Act, between: Act, after: Act = lambda session: None) -> Any:
        async def handler(request: Request) -> Any:
            first = before(request.session)
            await self.come_in(between, request)
            last = after(request.session)
            return first, (await last if hasattr(last, "__await__") else last)

        return self.browser.serve(handler)

    async def come_in(self, between: Act, request: Request) -> None:
        mine = self.site.handler
        self.site.handler = lambda inner: between(inner.session)
        scope = scope_of(headers=request.headers.raw)
        self.other = await speak(self.site.middleware, scope)
        assert self.other.error is None
        self.site.handler = mine


@pytest.fixture
def meanwhile(place: Opened) -> Meanwhile:
    site = place.site()
    browser = site.browser()
    browser.visit(put(n=0, kept=[1]))
    return Meanwhile(site, browser)


def increment(session: Any) -> int:
    session["n"] += 1
    return int(session["n"])


class TestMutate:
    def test_it_runs_now_and_returns_what_the_function_returns(self, browser: Browser) -> None:
        """On the data at hand, with nothing to await."""
        browser.visit(put(n=1))
        answer = browser.visit(lambda session: (session.mutate(increment), session["n"]))
        assert answer.result == (2, 2)
        assert browser.see() == {"n": 2}

    def test_it_runs_again_over_what_others_wrote(self, meanwhile: Meanwhile) -> None:
        """Two increments at once add up to two; what else both changed is kept."""
        meanwhile.visit(
            lambda session: (session.mutate(increment), session.update(mine=1)),
            lambda session: (session.mutate(increment), session.update(theirs=1)),
        )
        assert meanwhile.browser.see() == {"n": 2, "kept": [1], "mine": 1, "theirs": 1}

    def test_functions_and_changes_are_repeated_in_their_order(self, meanwhile: Meanwhile) -> None:
        """Set, mutate, set, mutate: each sees what came before it."""

        def before(session: Any) -> None:
            session["step"] = 10
            session.mutate(lambda s: s.update(step=s["step"] + s["n"]))
            session["step"] *= 2
            session.mutate(lambda s: s.update(step=s["step"] + s["n"]))

        meanwhile.visit(before, put(n=1))
        # The change in between is a plain value, as it was set: (10 + 0) * 2.
        assert meanwhile.browser.see() == {"n": 1, "kept": [1], "step": 21}

    def test_an_async_function_is_refused(self, browser: Browser) -> None:
        """However it is hidden, with a sentence, and without a warning about a coroutine."""

        async def coroutine(session: Any) -> None:
            session["bad"] = 1

        async def generator(session: Any) -> Any:
            yield session

        class Callable_:  # noqa: N801 - stands for any object with an async __call__
            async def __call__(self, session: Any) -> None:
                session["bad"] = 1

        async def act(session: Any) -> None:
            for function in (
                coroutine, generator, functools.partial(coroutine), Callable_(),
                lambda s: coroutine(s),
            ):  # fmt: skip
                with pytest.raises(TypeError, match="plain function"):
                    session.mutate(function)
                with pytest.raises(TypeError, match="plain function"):
                    await session.commit(function)

        assert browser.visit(act).set_cookie is None
        assert browser.see() == {}

    def test_what_a_function_raises_passes_through(self, browser: Browser) -> None:
        """And the session can still be used and stored."""

        def act(session: Any) -> None:
            with pytest.raises(ZeroDivisionError):
                session.mutate(lambda s: 1 / 0)
            session.mutate(lambda s: s.update(a=1))

        browser.visit(act)
        assert browser.see() == {"a": 1}

    def test_a_function_may_mutate(self, meanwhile: Meanwhile) -> None:
        """One inside the other is one step, done again as one."""
        meanwhile.visit(
            lambda session: session.mutate(lambda s: s.mutate(increment) + s.mutate(increment)),
            lambda session: session.mutate(increment),
        )
        assert meanwhile.browser.see()["n"] == 3

    def test_a_value_that_is_refused_is_refused_from_a_second_run_too(
        self, meanwhile: Meanwhile
    ) -> None:
        """A function that makes another value of newer data is held to the same rules."""

        def act(session: Any) -> None:
            session.mutate(lambda s: s.update(x=bytearray(b"x") if "theirs" in s else b"x"))

        assert meanwhile.visit(act, put(theirs=1)).response.status_code == 500
        assert meanwhile.browser.see() == {"n": 0, "kept": [1], "theirs": 1}


class TestCommit:
    def test_it_writes_at_once(self, place: Opened) -> None:
        """Others see it before the response starts; the cookie still comes with that."""
        site = place.site()
        browser = site.browser()

        async def act(session: Any) -> Any:
            session["a"] = 1
            assert await session.commit() is None
            entry = place.store.load(session.handle)
            return entry is not None and session

        answer = browser.visit(act)
        assert answer.result == {"a": 1}
        assert answer.set_cookie
        assert browser.see() == {"a": 1}

    def test_a_one_time_token_is_handed_out_once(self, place: Opened) -> None:
        """Of several requests at once, exactly one gets what commit(pop) returns."""
        site = place.site()
        browser = site.browser()
        browser.visit(put(token="once", a=1))
        taken = []

        async def handler(request: Request) -> None:
            taken.append(await request.session.commit(lambda s: s.pop("token", None)))

        async def main() -> None:
            site.handler = handler
            scopes = [scope_of(headers=cookies(f"session={browser.cookie}")) for _ in range(8)]
            for spoken in await asyncio.gather(*(speak(site.middleware, s) for s in scopes)):
                assert spoken.error is None

        asyncio.run(main())
        assert sorted(taken, key=str) == [None] * 7 + ["once"]
        assert browser.see() == {"a": 1}

    def test_it_returns_what_the_run_that_counted_returned(self, meanwhile: Meanwhile) -> None:
        """And the session shows what was committed, others' changes too."""
        answer = meanwhile.visit(
            lambda session: session["kept"],
            lambda session: (session.mutate(increment), session.update(theirs=1)),
            lambda session: session.commit(increment),
        )
        assert answer.result[1] == 2
        assert meanwhile.browser.see() == {"n": 2, "kept": [1], "theirs": 1}

    def test_afterwards_the_session_shows_what_was_committed(self, meanwhile: Meanwhile) -> None:
        """What others did not change stay the objects that the application holds."""

        async def after(session: Any) -> Any:
            held = session["kept"]
            session["mine"] = 1
            await session.commit()
            return dict(session), session["kept"] is held

        shown, same = meanwhile.visit(dict, put(theirs=1), after).result[1]
        assert shown == {"n": 0, "kept": [1], "theirs": 1, "mine": 1}
        assert same

    def test_several_at_once_in_one_request_count_once_or_are_refused(self, place: Opened) -> None:
        """Gathered or in a task group, which would mix up what each of them did."""
        browser = place.site().browser()
        browser.visit(put(n=0))

        async def act(session: Any) -> Any:
            commits = [session.commit(increment) for _ in range(5)]
            return await asyncio.gather(*commits, return_exceptions=True)

        results = browser.visit(act).result
        refused = [each for each in results if not isinstance(each, int)]
        counted = [each for each in results if isinstance(each, int)]
        assert {(type(each), "one after the other" in str(each)) for each in refused} <= {
            (SessionError, True)
        }
        assert sorted(counted) == list(range(1, len(counted) + 1))
        assert browser.see() == {"n": len(counted)}

    def test_a_session_that_has_ended_is_gone(self, meanwhile: Meanwhile) -> None:
        """Signed out or renewed by another request: nothing is stored, and no cookie is set."""
        before = meanwhile.browser.cookie
        for between in (
            lambda session: session.destroy(),
            lambda session: session.renew(),
            lambda session: session.update(user_id=1),
        ):
            meanwhile.browser.cookie = before
            meanwhile.browser.visit(lambda session: session.destroy())
            meanwhile.browser.cookie = None
            meanwhile.browser.visit(put(n=0))
            before = meanwhile.browser.cookie

            async def after(session: Any) -> None:
                session["n"] = 5
                with pytest.raises(SessionGone, match="sign in again"):
                    await session.commit()
                with pytest.raises(SessionGone):
                    await session.commit()

            answer = meanwhile.visit(dict, between, after)
            assert answer.set_cookie is None
            meanwhile.browser.cookie = before
            assert meanwhile.browser.see() == {}

    @pytest.mark.parametrize("verb", ["commit", "reload"])
    def test_one_that_is_not_awaited_is_an_error(
        self, verb: str, browser: Browser, watched: WatchedStore
    ) -> None:
        """The commit at the response fails with a sentence that says what to write."""

        def act(session: Any) -> None:
            session["a"] = 1
            getattr(session, verb)()

        with pytest.raises(SessionError, match=rf"write 'await session\.{verb}\(\)'"):
            browser.visit(act)
        assert "create" not in watched.calls

    def test_awaiting_another_does_not_make_up_for_it(self, browser: Browser) -> None:
        """What was given to the first would be lost without a word."""

        async def act(session: Any) -> None:
            session["a"] = 1
            session.commit(lambda s: s.update(lost=1))
            await session.commit()

        with pytest.raises(SessionError, match="not awaited"):
            browser.visit(act)

    def test_a_session_that_stands_alone_has_nothing_to_commit_to(self) -> None:
        """The one that a function gets in its second run, or a test made: a TypeError says so."""
        for verb in ("commit", "reload"):
            with pytest.raises(TypeError, match="running request"):
                getattr(Session(a=1), verb)()

    def test_after_the_headers_a_new_session_is_a_late_change(self, browser: Browser) -> None:
        """commit() in a background task cannot set a cookie either."""
        caught = []

        def page(request: Request) -> Response:
            async def late() -> None:
                request.session["a"] = 1
                with pytest.raises(LateChange) as raised:
                    await request.session.commit()
                caught.append(raised.value)
                request.session.clear()

            return PlainTextResponse("ok", background=BackgroundTask(late))

        browser.serve(page)
        assert len(caught) == 1

    def test_a_refused_value_can_be_taken_out_again(self, place: Opened) -> None:
        """By the application, or by reload(), which drops what is not committed."""
        browser = place.site().browser()
        browser.visit(put(a=1))

        async def act(session: Any) -> None:
            session["bad"] = object()
            with pytest.raises(NotSerializable):
                await session.commit()
            del session["bad"]
            session["b"] = 2
            await session.commit()
            session["bad"] = object()
            await session.reload()
            assert session == {"a": 1, "b": 2}
            session["c"] = 3

        browser.visit(act)
        assert browser.see() == {"a": 1, "b": 2, "c": 3}


class TestReload:
    def test_it_shows_what_others_wrote_and_drops_what_was_not_committed(
        self, meanwhile: Meanwhile
    ) -> None:
        """Pending functions and the wish to be renewed or emptied included."""

        def before(session: Any) -> None:
            session["mine"] = 1
            session.mutate(increment)
            session.renew()
            session.clear()

        async def after(session: Any) -> Any:
            await session.reload()
            return dict(session)

        answer = meanwhile.visit(before, put(theirs=1), after)
        assert answer.result[1] == {"n": 0, "kept": [1], "theirs": 1}
        assert answer.status == 200
        assert meanwhile.browser.see() == {"n": 0, "kept": [1], "theirs": 1}

    def test_a_session_that_has_ended_is_gone(self, meanwhile: Meanwhile) -> None:
        """It does not come back as an empty one."""

        async def after(session: Any) -> None:
            with pytest.raises(SessionGone):
                await session.reload()

        answer = meanwhile.visit(dict, lambda session: session.destroy(), after)
        assert answer.set_cookie is None

    def test_a_new_session_is_empty_again(self, browser: Browser) -> None:
        """Nothing was stored, so nothing is there to be read."""

        async def act(session: Any) -> Any:
            session["a"] = 1
            await session.reload()
            return dict(session)

        answer = browser.visit(act)
        assert answer.result == {}
        assert answer.set_cookie is None


class TestRenewAndDestroy:
    def test_renew_gives_a_new_id_and_ends_the_old_one(self, timed: Timed) -> None:
        """The data and the creation stay; the handle, the key in the store, is another."""
        browser = timed.site().browser()
        browser.visit(put(a=1))
        old = browser.cookie
        facts: Act = lambda session: (session.handle, session.created_at)  # noqa: E731
        handle, created = browser.visit(facts).result
        timed.clock.advance(50)
        browser.visit(lambda session: session.renew())
        assert id_in(browser.cookie) != id_in(old)
        assert browser.see() == {"a": 1}
        renewed, still_created = browser.visit(facts).result
        assert renewed != handle
        assert still_created == created
        browser.cookie = old
        assert browser.see() == {}

    def test_renewing_what_is_not_there_stores_nothing(
        self, browser: Browser, watched: WatchedStore
    ) -> None:
        """No session without an explicit act."""
        for act in (lambda s: s.renew(), lambda s: s.mark_authenticated(), lambda s: s.destroy()):
            answer = browser.visit(act)
            assert answer.set_cookie is None
            assert answer.vary == "Cookie"
        assert watched.calls == []

    def test_destroy_ends_it_whatever_others_wrote(self, meanwhile: Meanwhile) -> None:
        """The other request's change does not keep it alive."""
        old = meanwhile.browser.cookie
        answer = meanwhile.visit(lambda session: session.destroy(), put(theirs=1))
        assert answer.set_cookie
        assert answer.set_cookie.startswith("session=null")
        meanwhile.browser.cookie = old
        assert meanwhile.browser.see() == {}

    @pytest.mark.parametrize("how", ["destroy", "clear"])
    def test_what_is_written_afterwards_goes_on_under_a_new_id(
        self, how: str, timed: Timed
    ) -> None:
        """``session.clear(); session["user_id"] = …`` is how tutorials sign in."""
        browser = timed.site().browser()
        browser.visit(put(a=1))
        old = browser.cookie
        created = browser.visit(lambda session: session.created_at).result
        timed.clock.advance(50)
        browser.visit(lambda session: (getattr(session, how)(), session.update(b=2)))
        assert id_in(browser.cookie) != id_in(old)
        assert browser.see() == {"b": 2}
        later = browser.visit(lambda session: session.created_at).result
        assert (later == created) is (how == "clear")
        browser.cookie = old
        assert browser.see() == {}

    def test_emptied_key_by_key_it_ends_only_if_nobody_wrote(self, meanwhile: Meanwhile) -> None:
        """Otherwise the removals are merged; clear() ends it all the same."""

        def remove(session: Any) -> None:
            for key in list(session):
                del session[key]

        assert meanwhile.visit(remove, put(theirs=1)).status == 200
        assert meanwhile.browser.see() == {"theirs": 1}
        meanwhile.visit(lambda session: session.clear(), put(theirs=2))
        assert meanwhile.browser.see() == {}

    def test_a_merge_after_clear_starts_from_an_empty_dict(self, meanwhile: Meanwhile) -> None:
        """What others wrote meanwhile is cleared as well, and so it is after a replacement."""
        meanwhile.visit(lambda session: (session.clear(), session.update(a=1)), put(theirs=1))
        assert meanwhile.browser.see() == {"a": 1}

    def test_setting_a_key_to_its_value_is_no_change(self, meanwhile: Meanwhile) -> None:
        """Somebody else's removal of it stands."""
        meanwhile.visit(put(kept=[1], mine=1), lambda session: session.pop("kept"))
        assert meanwhile.browser.see() == {"n": 0, "mine": 1}


# --- what there is to know ------------------------------------------------------------------------


class TestFacts:
    def test_a_new_session_and_one_that_is_known(self, timed: Timed) -> None:
        """Its newness, creation, handle and authentication, before and after it is stored."""
        browser = timed.site().browser()

        async def first(session: Any) -> Any:
            before = (session.is_new, session.handle, session.created_at)
            session["a"] = 1
            await session.commit()
            return before, (session.is_new, session.handle, session.created_at)

        now = datetime.fromtimestamp(timed.clock.now, UTC)
        before, after = browser.visit(first).result
        assert before == (True, None, now)
        assert after[0] is True
        timed.clock.advance(10)
        facts = browser.visit(lambda s: (s.is_new, s.handle, s.created_at, s.authenticated_at))
        assert facts.result == (False, after[1], now, None)

    def test_the_handle_is_the_key_in_the_store_and_never_the_id(self, place: Opened) -> None:
        """It may be logged; the ID is shown nowhere, not by repr either."""
        browser = place.site().browser()
        browser.visit(put(a=1))
        handle, shown = browser.visit(
            lambda s: (s.handle, f"{s!r} {exchange_of(s).cookie!r}")
        ).result
        assert place.store.load(handle) is not None
        assert id_in(browser.cookie) != handle
        assert id_in(browser.cookie) not in shown

    @pytest.mark.parametrize("key", ["user_id", "_user_id", "_auth_user_id"])
    def test_a_sign_in_is_an_authentication(self, key: str, timed: Timed) -> None:
        """Its time is kept with the session, through changes and renewals, to the sign-out."""
        browser = timed.site().browser()
        browser.visit(put(a=1))
        timed.clock.advance(10)
        signed_in = datetime.fromtimestamp(timed.clock.now, UTC)
        browser.visit(put(**{key: 7}))
        timed.clock.advance(10)
        browser.visit(put(a=2))
        browser.visit(lambda session: session.renew())
        ask: Act = lambda session: session.authenticated_at  # noqa: E731
        assert browser.visit(ask).result == signed_in
        browser.visit(lambda session: session.pop(key))
        assert browser.visit(ask).result is None
        assert browser.see() == {"a": 2}

    def test_authenticated_notes_a_fresh_proof_and_renews(self, timed: Timed) -> None:
        """For re-authentication before a sensitive action."""
        browser = timed.site().browser()
        browser.visit(put(user_id=7))
        old = browser.cookie
        timed.clock.advance(100)
        browser.visit(lambda session: session.mark_authenticated())
        assert id_in(browser.cookie) != id_in(old)
        moment = browser.visit(lambda session: session.authenticated_at).result
        assert moment == datetime.fromtimestamp(timed.clock.now, UTC)
        browser.cookie = old
        assert browser.see() == {}


class TestOwner:
    def renewed(self, browser: Browser, act: Act) -> bool:
        """Say whether an act gave the session a new ID, and ended the old one."""
        old = browser.cookie
        browser.visit(act)
        new = browser.cookie
        if id_in(new) == id_in(old):
            return False
        browser.cookie = old
        assert browser.see() == {}
        browser.cookie = new
        return True

    @pytest.mark.parametrize("key", ["user_id", "_user_id", "_auth_user_id"])
    def test_sign_in_sign_out_and_switch_renew_the_id(self, key: str, place: Opened) -> None:
        """Without the application asking; the same value again does not."""
        browser = place.site().browser()
        browser.visit(put(a=1))
        assert self.renewed(browser, put(**{key: 1}))
        assert not self.renewed(browser, put(**{key: 1}))
        assert not self.renewed(browser, put(**{key: 1, "a": 2}))
        assert self.renewed(browser, put(**{key: 2, "a": 2}))
        assert self.renewed(browser, put(**{key: "2"}))
        assert self.renewed(browser, lambda session: session.pop(key))
        assert browser.see() == {"a": 2}

    def test_none_is_nobody(self, place: Opened) -> None:
        """A key that holds None is like none at all."""
        browser = place.site().browser()
        browser.visit(put(a=1))
        assert not self.renewed(browser, put(user_id=None))
        assert self.renewed(browser, put(user_id=1))
        assert self.renewed(browser, put(user_id=None))
        assert not self.renewed(browser, lambda session: session.pop("user_id"))

    @pytest.mark.parametrize("value", [0, "", False, b"", [], {"id": 1}, float("nan")], ids=repr)
    def test_any_other_value_is_somebody(self, value: Any, browser: Browser) -> None:
        """Zero is a user's number in some databases."""
        browser.visit(put(a=1))
        assert self.renewed(browser, put(user_id=value))
        assert not self.renewed(browser, put(user_id=value))

    @pytest.mark.parametrize(
        "value",
        [10**5000, "x" * 10_000, "\ud800", (1, "a"), "a\nb"],
        ids=["huge", "long", "surrogate", "tuple", "line break"],
    )
    def test_an_unusual_owner_signs_in_like_any_other(self, value: Any, place: Opened) -> None:
        """Longer than a database's column, not to be printed, or no text at all."""
        browser = place.site().browser()
        browser.visit(put(a=1))
        assert self.renewed(browser, put(user_id=value))
        assert browser.see() == {"a": 1, "user_id": value}

    @pytest.mark.parametrize("setting", ["uid", ["uid", "admin_id"], ("admin_id", "uid")])
    def test_the_key_is_a_setting_one_name_or_several(self, setting: Any, place: Opened) -> None:
        """Only these count then; of several, each."""
        browser = place.site(owner_key=setting).browser()
        browser.visit(put(a=1))
        assert not self.renewed(browser, put(user_id=1))
        assert self.renewed(browser, put(uid=1))
        assert self.renewed(browser, put(admin_id=1)) is (setting != "uid")

    def test_a_nested_change_of_the_owner_counts(self, browser: Browser) -> None:
        """The value is compared; inside it are the other user's data, so nothing goes along."""
        browser.visit(put(user_id={"id": 1}))
        old = browser.cookie
        browser.visit(lambda session: session["user_id"].update(id=2))
        assert browser.see() == {}
        browser.cookie = old
        assert browser.see() == {}

    def test_a_new_session_that_signs_in_has_one_id(self, browser: Browser) -> None:
        """There is nothing to renew, and only one record is stored."""
        answer = browser.visit(put(user_id=1))
        assert answer.set_cookie
        assert browser.see() == {"user_id": 1}

    def test_a_late_change_of_owner_is_an_error(self, place: Opened) -> None:
        """The client could not be given its new cookie; nothing is changed."""
        browser = place.site().browser()
        browser.visit(put(a=1))

        def page(request: Request) -> Response:
            task = BackgroundTask(request.session.update, user_id=1)
            return PlainTextResponse("ok", background=task)

        with pytest.raises(LateChange):
            browser.serve(page)
        assert browser.see() == {"a": 1}

    def test_a_sign_in_on_the_way_while_the_session_ends_still_signs_in(
        self, meanwhile: Meanwhile
    ) -> None:
        """A form sent twice leaves its user signed in, with only what that request set."""
        answer = meanwhile.visit(dict, lambda s: s.update(user_id=1), put(user_id=1, form="x"))
        assert answer.set_cookie
        assert meanwhile.browser.see() == {"user_id": 1, "form": "x"}


# --- clocks ---------------------------------------------------------------------------------------


class TestIdleTimeout:
    def test_a_session_ends_after_max_age_without_use(self, timed: Timed) -> None:
        """By the server's clock, whatever the client keeps."""
        browser = timed.site(max_age=1000).browser()
        browser.visit(put(a=1))
        kept = browser.cookie
        timed.clock.advance(999)
        browser.visit()  # a page that does not use it
        assert browser.see() == {"a": 1}
        timed.clock.advance(999)
        assert browser.see() == {"a": 1}
        timed.clock.advance(1000)
        assert browser.visit(lambda session: (session.is_new, dict(session))).result == (True, {})
        browser.cookie = kept
        assert browser.see() == {}

    def test_a_busy_session_is_touched_once_in_a_tenth(
        self, browser: Browser, watched: WatchedStore, site: Site, clock: Any
    ) -> None:
        """Reading costs one touch and one cookie in a tenth of the lifetime."""
        browser.visit(put(a=1))
        tenth = site.middleware.manager.settings.idle_timeout / 10
        for _ in range(3):
            watched.calls.clear()
            clock.advance(tenth - 1)
            assert browser.visit(dict).set_cookie is None
            assert browser.visit().set_cookie is None
            assert "touch" not in watched.calls
            clock.advance(1)
            assert browser.visit().set_cookie is None
            assert "touch" not in watched.calls
            assert browser.visit(dict).set_cookie
            assert watched.calls.count("touch") == 1
            assert browser.visit(dict).set_cookie is None
            assert watched.calls.count("touch") == 1
        assert "replace" not in watched.calls

    def test_a_touch_keeps_id_and_version(self, timed: Timed) -> None:
        """Only the timestamp in the cookie is another."""
        browser = timed.site(max_age=1000).browser()
        browser.visit(put(a=1))
        browser.visit(put(a=2))
        before = str(browser.cookie).split(".")
        timed.clock.advance(100)
        browser.visit(dict)
        after = str(browser.cookie).split(".")
        assert before[:2] == after[:2]
        assert before[2] != after[2]

    def test_a_cookie_from_a_slightly_faster_clock_is_no_reason_to_touch(
        self, browser: Browser, watched: WatchedStore, clock: Any
    ) -> None:
        """An age below zero counts as zero: clocks differ by two seconds."""
        browser.visit(put(a=1))
        clock.advance(-2)
        watched.calls.clear()
        assert browser.see() == {"a": 1}
        assert watched.calls == ["load"]

    def test_a_cookie_from_a_clock_far_ahead_is_dated_anew_once(
        self, browser: Browser, watched: WatchedStore, clock: Any
    ) -> None:
        """Its time would come too late for a touch: this server's clock counts from now on."""
        browser.visit(put(a=1))
        clock.advance(-5)
        watched.calls.clear()
        for _ in range(3):
            assert browser.see() == {"a": 1}
        assert watched.calls == ["load", "touch", "load", "load", "load"]

    def test_writing_prolongs_as_well(self, timed: Timed) -> None:
        """Cookie and record begin their lifetime anew."""
        browser = timed.site(max_age=1000).browser()
        for n in range(4):
            browser.visit(put(n=n))
            timed.clock.advance(999)
        assert browser.see() == {"n": 3}


class TestAbsoluteTimeout:
    def test_it_ends_a_session_that_is_always_in_use(self, timed: Timed) -> None:
        """Neither activity nor a renewal extends it."""
        browser = timed.site(max_age=60, absolute_timeout=100).browser()
        browser.visit(put(n=0))
        for n in range(1, 10):
            timed.clock.advance(10)
            browser.visit(put(n=n))
            browser.visit(lambda session: session.renew())
        timed.clock.advance(9)
        assert browser.see() == {"n": 9}
        timed.clock.advance(1)
        answer = browser.visit(lambda session: (session.is_new, dict(session)))
        assert answer.result == (True, {})
        assert answer.set_cookie is None

    @pytest.mark.parametrize("how", ["sign in", "switch", "authenticated", "clear and sign in"])
    def test_an_authentication_begins_it_anew(self, how: str, timed: Timed) -> None:
        """A sign-in, a switch of user, or authenticated()."""
        browser = timed.site(absolute_timeout=100).browser()
        browser.visit(put(a=1) if how == "sign in" else put(a=1, user_id=1))
        timed.clock.advance(90)
        acts: dict[str, Act] = {
            "sign in": put(user_id=2),
            "switch": put(user_id=2),
            "authenticated": lambda session: session.mark_authenticated(),
            "clear and sign in": lambda s: (s.clear(), s.update(user_id=2)),
        }
        browser.visit(acts[how])
        timed.clock.advance(99)
        assert browser.see() != {}
        timed.clock.advance(1)
        assert browser.see() == {}

    @pytest.mark.parametrize(
        "act",
        [
            lambda session: session.renew(),
            lambda session: (session.clear(), session.update(b=1)),
            lambda session: session.pop("user_id"),
            lambda session: session.update(user_id=1, a=3),
        ],
        ids=["renew", "clear", "sign out", "the same user"],
    )
    def test_nothing_else_does(self, act: Act, timed: Timed) -> None:
        """Not a renewal, not a clearing, not a sign-out."""
        browser = timed.site(absolute_timeout=100).browser()
        browser.visit(put(a=1, user_id=1))
        timed.clock.advance(90)
        browser.visit(act)
        timed.clock.advance(9)
        assert browser.see() != {}
        timed.clock.advance(1)
        assert browser.see() == {}

    def test_a_sign_out_goes_on_with_the_clock_of_the_sign_in(self, timed: Timed) -> None:
        """What is left after it, a cart, lives as long as it would have with its user."""
        browser = timed.site(absolute_timeout=100).browser()
        browser.visit(put(cart=[1]))
        timed.clock.advance(90)
        browser.visit(put(user_id=1))
        timed.clock.advance(60)
        browser.visit(lambda session: session.pop("user_id"))
        assert browser.see() == {"cart": [1]}
        timed.clock.advance(39)
        assert browser.see() == {"cart": [1]}
        timed.clock.advance(1)
        assert browser.see() == {}

    def test_it_holds_for_a_commit_that_comes_too_late(self, timed: Timed) -> None:
        """A request that began in time and ends after it stores nothing and sets no cookie."""
        browser = timed.site(absolute_timeout=100).browser()
        browser.visit(put(a=1))

        async def act(session: Any) -> None:
            session["a"] = 2
            timed.clock.advance(100)
            with pytest.raises(SessionGone):
                await session.commit()

        answer = browser.visit(act)
        assert answer.set_cookie is None
        assert browser.see() == {}

    def test_a_stricter_setting_holds_for_sessions_that_there_are(self, timed: Timed) -> None:
        """A laxer one does not prolong them."""
        before = timed.site(absolute_timeout=100).browser()
        before.visit(put(a=1))
        strict = timed.site(absolute_timeout=50).browser()
        lax = timed.site(absolute_timeout=1000).browser()
        strict.cookie = lax.cookie = before.cookie
        timed.clock.advance(50)
        assert strict.see() == {}
        assert lax.see() == before.see() == {"a": 1}
        timed.clock.advance(50)
        assert lax.see() == before.see() == {}

    def test_the_stores_lifetime_never_exceeds_it(self, watched: WatchedStore, clock: Any) -> None:
        """The record is gone from the store when the session is over, not an idle timeout later."""
        browser = Site(watched, clock, max_age=1000, absolute_timeout=100).browser()
        browser.visit(put(a=1))
        (key,) = watched.contents()
        clock.advance(90)
        browser.visit(put(a=2))
        entry = watched.load(key)
        assert entry is not None
        assert entry.expires == clock.now + 10


def test_value_in_reads_what_was_handed_out(browser: Browser) -> None:
    """The jar of the test client holds what Set-Cookie said."""
    assert value_in(browser.visit(put(a=1)).set_cookie) == browser.cookie
