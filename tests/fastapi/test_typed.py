"""`TypedSession`: data of a class of one's own, over every rule that plain data have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import anyio
import anyio.to_thread
import flask
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sharedsession import LateChange, NotSerializable, Session
from sharedsession.exceptions import DataMismatch
from sharedsession.fastapi import typed_session
from sharedsession.flask import SharedSession
from sharedsession.testing import Clock
from sharedsession.typed import OnMismatch, TypedSession
from tests.asgi.application import Browser, Site
from tests.fastapi.site import Server, moved
from tests.support.watched import WatchedStore


class Theme(Enum):
    LIGHT = "light"
    DARK = "dark"


class Item(BaseModel):
    name: str
    count: int = 1


class Shop(BaseModel):
    cart: list[Item] = []
    theme: Theme = Theme.LIGHT
    visits: int = 0
    since: datetime | None = None
    user: str | None = Field(None, alias="user_id")
    tags: set[str] = set()
    point: tuple[int, int] = (0, 0)


@dataclass
class PlainItem:
    name: str
    count: int = 1


@dataclass
class PlainShop:
    cart: list[PlainItem] = field(default_factory=list)
    theme: Theme = Theme.LIGHT
    visits: int = 0
    since: datetime | None = None
    tags: set[str] = field(default_factory=set)
    point: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Frozen:
    visits: int = 0
    cart: list[str] = field(default_factory=list)


MODELS = [(Shop, Item), (PlainShop, PlainItem)]
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def site(store: WatchedStore, clock: Clock) -> Site:
    return Site(store, clock)


@pytest.fixture
def visitor(site: Site) -> Browser:
    return site.browser()


Act = Callable[[TypedSession[Any]], Any]


def typed(browser: Browser, act: Act, model: type[Any] = Shop, policy: OnMismatch = "raise") -> Any:
    """Ask for a page that acts on the typed session."""
    answer = browser.visit(lambda session: act(TypedSession(session, model, on_mismatch=policy)))
    assert answer.status == 200
    return answer.result


def during(site: Site, browser: Browser, act: Callable[[Session], Any], mine: Act) -> None:
    """Let another request of the same client act while ours has its session."""

    def both(session: TypedSession[Any]) -> None:
        second = site.browser()
        second.cookie = browser.cookie
        mine(session)
        handler = site.handler
        second.visit(act)
        site.handler = handler

    typed(browser, both)


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "item"), MODELS)
def test_assigned_and_changed_inside_is_saved(
    visitor: Browser, store: WatchedStore, model: type[Any], item: type[Any]
) -> None:
    """Attributes, and what is in lists, sets and models inside; as plain values."""

    def fill(session: TypedSession[Any]) -> None:
        data = session.data
        data.cart.append(item(name="tea"))
        data.theme = Theme.DARK
        data.visits += 1
        data.since = MOMENT
        data.tags.add("new")
        data.point = (1, 2)

    typed(visitor, fill, model)
    assert store.stored == [
        {
            "cart": [{"name": "tea", "count": 1}],
            "theme": "dark",
            "visits": 1,
            "since": MOMENT,
            "tags": {"new"},
            "point": (1, 2),
        }
    ]
    typed(visitor, lambda session: setattr(session.data.cart[0], "count", 2), model)
    typed(
        visitor,
        lambda session: session.data.cart.append(
            item("lamp") if model is PlainShop else item(name="lamp")
        ),
        model,
    )
    found = typed(visitor, lambda session: session.data, model)
    assert found.cart == [item(name="tea", count=2), item(name="lamp")]
    assert (found.theme, found.since) == (Theme.DARK, MOMENT)


@pytest.mark.parametrize("model", [Shop, PlainShop])
def test_a_request_that_only_reads_writes_nothing(
    visitor: Browser, store: WatchedStore, model: type[Any]
) -> None:
    """Though validation makes 7 of "7" and fills in defaults."""
    visitor.visit(lambda session: session.update(visits="7", cart=[{"name": "tea", "count": "2"}]))
    store.calls.clear()

    def read(session: TypedSession[Any]) -> tuple[int, int, bool]:
        data = session.data
        return data.visits, data.cart[0].count, session.session.modified

    assert typed(visitor, read, model) == (7, 2, False)
    assert store.calls == ["load"]
    assert store.stored == [{"visits": "7", "cart": [{"name": "tea", "count": "2"}]}]


def test_nothing_is_stored_for_a_visitor_who_changes_nothing(
    visitor: Browser, store: WatchedStore
) -> None:
    """No row and no cookie, though each field has a value."""
    typed(visitor, lambda session: session.data.visits)

    assert visitor.cookie is None
    assert store.calls == []


def test_only_the_field_that_changed_is_written(visitor: Browser, store: WatchedStore) -> None:
    """What another field had been made of stays as it was stored."""
    visitor.visit(lambda session: session.update(visits="7", tags=["a"]))
    typed(visitor, lambda session: setattr(session.data, "theme", Theme.DARK))

    assert store.stored == [{"visits": "7", "tags": ["a"], "theme": "dark"}]


def test_other_keys_are_left_alone(visitor: Browser, store: WatchedStore) -> None:
    """Those of flash messages, of the owner, and of other frameworks."""
    others = {"_flashes": [("info", "Hello")], "_user_id": "7", "cart_id": b"\x00"}
    visitor.visit(lambda session: session.update(others))
    typed(visitor, lambda session: session.data.cart.append(Item(name="tea")), policy="drop")

    assert store.stored == [{**others, "cart": [{"name": "tea", "count": 1}]}]


def test_a_model_may_take_or_forbid_other_keys(visitor: Browser, store: WatchedStore) -> None:
    """The session's other keys are no keys of its own either way."""

    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        visits: int = 0

    class Closed(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
        visits: int = 0

    visitor.visit(lambda session: session.update(other=1))
    typed(visitor, lambda session: setattr(session.data, "visits", 1), Open)
    assert typed(visitor, lambda session: session.data.visits, Closed) == 1
    assert store.stored == [{"other": 1, "visits": 1}]


def test_the_alias_of_a_field_is_its_key(visitor: Browser, store: WatchedStore) -> None:
    """Which may be one that no attribute can have, or the owner's: a sign-in is one then."""
    before = typed(visitor, lambda session: session.data.cart.append(Item(name="tea")))
    before = visitor.cookie
    typed(visitor, lambda session: setattr(session.data, "user", "ada"))

    assert store.stored == [{"cart": [{"name": "tea", "count": 1}], "user_id": "ada"}]
    assert before is not None
    assert str(visitor.cookie).split(".")[0] != before.split(".")[0]


def test_what_one_user_assigned_passes_to_no_other(visitor: Browser, store: WatchedStore) -> None:
    """At a sign-in over another user's session, only what this request assigned goes along."""

    def sign_in(session: TypedSession[Any]) -> None:
        session.data.user = "ada"
        session.data.cart.append(Item(name="secret"))

    typed(visitor, sign_in)

    def sign_in_over_it(session: TypedSession[Any]) -> None:
        session.data.cart.append(Item(name="more"))
        session.data.user = "bob"
        session.data.tags = {"of bob"}

    typed(visitor, sign_in_over_it)
    assert store.stored == [{"user_id": "bob", "tags": {"of bob"}}]


def test_values_that_have_a_plain_form_come_back(visitor: Browser) -> None:
    """Enums, paths and models inside dicts too; types that sessions hold stay what they are."""

    class Rich(BaseModel):
        by_theme: dict[Theme, list[Item]] = {}
        path: Path | None = None
        number: UUID | None = None
        kind: Literal["a", "b"] = "a"
        either: Item | Theme | None = None

    def fill(session: TypedSession[Rich]) -> None:
        data = session.data
        data.by_theme[Theme.DARK] = [Item(name="lamp")]
        data.path, data.number = Path("/a/b"), UUID(int=7)
        data.kind, data.either = "b", Theme.LIGHT

    typed(visitor, fill, Rich)
    found = typed(visitor, lambda session: session.data, Rich)
    assert found.by_theme == {Theme.DARK: [Item(name="lamp")]}
    assert (found.path, found.number) == (Path("/a/b"), UUID(int=7))
    assert (found.kind, found.either) == ("b", Theme.LIGHT)
    assert visitor.see()["number"] == UUID(int=7)


def test_a_whole_number_in_a_field_of_floats(visitor: Browser, store: WatchedStore) -> None:
    """What a type checker lets pass is stored as the field's own type, and once."""

    class Priced(BaseModel):
        total: float = 0.5
        prices: list[float] = []

    def fill(session: TypedSession[Priced]) -> None:
        session.data.total = 3
        session.data.prices = [1, 2.5]
        assert session.session["total"] == 3
        assert session.data.total == 3

    typed(visitor, fill, Priced)
    assert repr(visitor.see()) == "{'total': 3.0, 'prices': [1.0, 2.5]}"
    assert len(store.stored) == 1
    typed(visitor, lambda session: session.data, Priced)
    assert len(store.stored) == 1


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda data: setattr(data, "visits", "many"), r"session\['visits'\]"),
        (lambda data: data.cart.append("no item"), r"session\['cart'\]"),
        (lambda data: setattr(data, "secret", SecretStr("hidden")), r"session\['secret'\]"),
    ],
)
def test_what_would_not_come_back_is_an_error(
    visitor: Browser, store: WatchedStore, change: Callable[[Any], Any], where: str
) -> None:
    """In the request that does it, and it names the place; nothing is stored."""

    class Careless(BaseModel):
        cart: list[Item] = []
        visits: int = 0
        secret: SecretStr | None = None

    with pytest.raises(NotSerializable, match=where):
        typed(visitor, lambda session: change(session.data), Careless)
    assert store.stored == []


# --- several requests -----------------------------------------------------------------------------


def test_parallel_requests_keep_each_others_fields(
    site: Site, visitor: Browser, store: WatchedStore
) -> None:
    """A conflict is merged by top-level key: by field."""
    visitor.visit(lambda session: session.update(visits=1))
    during(
        site,
        visitor,
        lambda session: session.update(theme="dark", other=2),
        lambda session: session.data.cart.append(Item(name="tea")),
    )

    assert store.stored == [
        {"visits": 1, "theme": "dark", "other": 2, "cart": [{"name": "tea", "count": 1}]}
    ]


def test_a_function_runs_again_on_the_data_of_others(
    site: Site, visitor: Browser, store: WatchedStore
) -> None:
    """`mutate`: two items at the same time are two in the cart, in typed data too."""
    visitor.visit(lambda session: session.update(cart=[{"name": "first"}]))

    def add(data: Shop) -> int:
        data.cart.append(Item(name="mine"))
        return len(data.cart)

    during(
        site,
        visitor,
        lambda session: session["cart"].append({"name": "theirs"}),
        lambda session: session.mutate(add),
    )
    assert [each["name"] for each in store.stored[0]["cart"]] == ["first", "theirs", "mine"]


def test_counts_of_functions_and_changes_between_them_add_up(
    site: Site, visitor: Browser, store: WatchedStore
) -> None:
    """Changes before, between and after functions are steps in their order."""
    visitor.visit(lambda session: session.update(visits=10))

    def count(data: Shop) -> None:
        data.visits += 1

    def mine(session: TypedSession[Shop]) -> None:
        session.data.theme = Theme.DARK
        session.mutate(count)
        session.data.tags.add("between")
        session.mutate(count)
        session.data.tags.add("after")

    during(site, visitor, lambda session: session.update(visits=100), mine)
    assert store.stored == [{"visits": 102, "theme": "dark", "tags": {"between", "after"}}]


def test_a_function_that_raises_leaves_nothing_behind(
    visitor: Browser, store: WatchedStore
) -> None:
    """The object is as it was before, and so is the session; what came before stays."""

    def fail(data: Shop) -> None:
        data.cart.append(Item(name="never"))
        data.visits = 99
        raise ValueError("no more")

    def act(session: TypedSession[Shop]) -> None:
        data = session.data
        data.cart.append(Item(name="tea"))
        with pytest.raises(ValueError, match="no more"):
            session.mutate(fail)
        assert data is session.data
        assert (data.cart, data.visits) == ([Item(name="tea")], 0)

    typed(visitor, act)
    assert store.stored == [{"cart": [{"name": "tea", "count": 1}]}]


def test_other_data_than_the_functions_own_are_refused_at_a_replay(
    site: Site, visitor: Browser
) -> None:
    """A function that changes what it was not given would lose its change: a 500 says so."""
    visitor.visit(lambda session: session.update(visits=1))

    def mine(session: TypedSession[Shop]) -> None:
        session.mutate(lambda _: session.data.cart.append(Item(name="tea")))

    with pytest.raises(AssertionError):  # not 200
        during(site, visitor, lambda session: session.update(visits=2), mine)


def test_a_function_that_raises_over_nothing_contributes_nothing(
    site: Site, visitor: Browser, store: WatchedStore
) -> None:
    """Of a session that was signed out meanwhile; what this request signs in with stays."""
    visitor.visit(lambda session: session.update(visits=1, user_id="ada"))

    def count(data: Shop) -> None:
        data.cart.append(Item(name="of the session that has ended"))
        data.visits //= data.visits

    def mine(session: TypedSession[Shop]) -> None:
        session.mutate(count)
        session.data.user = "bob"

    during(site, visitor, lambda session: session.destroy(), mine)
    assert store.stored == [{"user_id": "bob"}]


def test_a_function_of_the_plain_session_may_show_it_typed(
    site: Site, visitor: Browser, store: WatchedStore
) -> None:
    """The session that it was given, each time it runs."""
    visitor.visit(lambda session: session.update(visits=10))

    def count(session: Session) -> None:
        TypedSession(session, PlainShop, on_mismatch="raise").data.visits += 1

    during(
        site,
        visitor,
        lambda session: session.update(visits=100),
        lambda session: session.session.mutate(count),
    )
    assert store.stored == [{"visits": 101}]


def test_an_async_function_is_refused(visitor: Browser) -> None:
    """As by any session."""

    async def later(data: Shop) -> None: ...

    def act(session: TypedSession[Shop]) -> None:
        with pytest.raises(TypeError, match="plain function"):
            session.mutate(later)

    typed(visitor, act)


def test_commit_and_reload(site: Site, visitor: Browser, store: WatchedStore) -> None:
    """The object that one has stays the session's own: it shows what others wrote."""
    visitor.visit(lambda session: session.update(visits=1, cart=[{"name": "tea"}]))
    second = site.browser()
    second.cookie = visitor.cookie

    async def page(request: Any) -> None:
        session = TypedSession(request.session, Shop, on_mismatch="raise")
        data = session.data
        data.theme = Theme.DARK
        handler = site.handler
        await _in_thread(lambda: second.visit(lambda s: s["cart"].append({"name": "lamp"})))
        site.handler = handler
        taken = await session.commit(lambda fresh: fresh.cart.pop(0).name)
        assert taken == "tea"
        assert [each.name for each in data.cart] == ["lamp"]
        assert data.theme is Theme.DARK
        data.cart.append(Item(name="dropped"))
        await session.session.reload()
        assert [each.name for each in data.cart] == ["lamp"]
        data.cart.append(Item(name="kept"))

    assert visitor.serve(page).status == 200
    assert [each["name"] for each in store.stored[0]["cart"]] == ["lamp", "kept"]
    assert store.stored[0]["theme"] == "dark"


async def _in_thread(act: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(act)


def test_what_a_background_task_changes_is_stored(visitor: Browser, store: WatchedStore) -> None:
    """After the response, where the session has its cookie; once all is over, it is an error."""
    visitor.visit(lambda session: session.update(visits=1))
    kept: list[TypedSession[Shop]] = []

    def page(request: Request) -> Response:
        session = TypedSession(request.session, Shop, on_mismatch="raise")
        kept.append(session)
        task = BackgroundTask(session.data.cart.append, Item(name="later"))
        return PlainTextResponse("ok", background=task)

    visitor.serve(page)
    assert store.stored == [{"visits": 1, "cart": [{"name": "later", "count": 1}]}]
    kept[0].data.visits = 2
    with pytest.raises(LateChange):
        assert kept[0].data


def test_what_other_tasks_change_during_a_commit_stays(
    visitor: Browser, store: WatchedStore
) -> None:
    """It is replayed over what was committed, and stored at the end of the request."""

    async def page(request: Request) -> None:
        session = TypedSession(request.session, Shop, on_mismatch="raise")
        session.data.cart.append(Item(name="first"))

        async def meanwhile() -> None:
            session.data.cart.append(Item(name="second"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(meanwhile)
            await session.commit()
        assert len(session.data.cart) == 2

    visitor.serve(page)
    assert [each["name"] for each in store.stored[0]["cart"]] == ["first", "second"]


def test_nothing_of_a_session_that_was_cleared_comes_back(
    visitor: Browser, store: WatchedStore
) -> None:
    """Not what the object held, nor what was changed in it and not stored yet."""
    visitor.visit(lambda session: session.update(visits=3, user_id="ada"))

    def sign_out(session: TypedSession[Shop]) -> None:
        data = session.data
        data.cart.append(Item(name="tea"))
        data.visits += 1
        session.session.destroy()
        assert (data.cart, data.visits, data.user) == ([], 0, None)

    typed(visitor, sign_out)
    assert store.stored == []
    assert visitor.cookie is None


def test_what_is_written_in_the_plain_session_shows_in_the_object(visitor: Browser) -> None:
    """And the other way round, where the session is asked for through the typed one."""

    def act(session: TypedSession[Shop]) -> None:
        data = session.data
        data.visits = 5
        assert session.session["visits"] == 5
        session.session["theme"] = "dark"
        session.session["tags"] = ["a"]
        session.session["tags"].append("b")
        assert session.data is data
        assert (data.theme, data.tags) == (Theme.DARK, {"a", "b"})
        del session.session["visits"]
        assert session.data.visits == 0

    typed(visitor, act)


@pytest.mark.parametrize("model", [Frozen, PlainShop])
def test_two_views_of_one_session(visitor: Browser, model: type[Any]) -> None:
    """Each shows what the other one changed."""

    def act(session: Session) -> None:
        first = TypedSession(session, Shop, on_mismatch="raise")
        second = TypedSession(session, model, on_mismatch="raise")
        assert second.data.visits == first.data.visits == 0
        first.data.visits = 2
        assert first.session["visits"] == 2
        assert second.data.visits == 2

    assert visitor.visit(act).status == 200


def test_a_frozen_dataclass_may_change_inside(visitor: Browser) -> None:
    """Its attributes cannot be assigned, its lists have what was appended."""

    class Names(BaseModel):
        cart: list[str] = []

    typed(visitor, lambda session: session.data.cart.append("tea"), Frozen)
    assert typed(visitor, lambda session: session.data.cart, Names) == ["tea"]


# --- data that do not fit -------------------------------------------------------------------------

WRONG = {"visits": "many", "cart": [{"name": "tea"}], "user_id": "ada"}


def test_drop_removes_the_keys_that_do_not_fit(
    visitor: Browser, store: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    """And no others; the log names them, and no value."""
    visitor.visit(lambda session: session.update(WRONG))
    data = typed(visitor, lambda session: session.data, policy="drop")

    assert (data.visits, data.cart) == (0, [Item(name="tea")])
    assert store.stored == [{"cart": [{"name": "tea"}], "user_id": "ada"}]
    assert "session['visits']" in caplog.text
    assert "many" not in caplog.text


def test_end_ends_the_session(visitor: Browser, store: WatchedStore) -> None:
    """The user is signed out, and the object is that of a new session."""
    visitor.visit(lambda session: session.update(WRONG))
    data = typed(visitor, lambda session: session.data, policy="end")

    assert (data.visits, data.cart, data.user) == (0, [], None)
    assert store.stored == []
    assert visitor.cookie is None


def test_raise_says_which_keys_do_not_fit(visitor: Browser, store: WatchedStore) -> None:
    """Wherever the data are asked for; nothing is changed."""
    visitor.visit(lambda session: session.update(WRONG))
    for _ in range(2):
        with pytest.raises(DataMismatch, match=r"session\['visits'\] must fit Shop") as raised:
            typed(visitor, lambda session: session.data)
        assert raised.value.keys == {"visits"}
        assert "many" not in str(raised.value)

    assert store.stored == [WRONG]


@pytest.mark.parametrize("policy", ["drop", "end"])
def test_a_rule_over_several_fields(
    visitor: Browser, store: WatchedStore, policy: OnMismatch
) -> None:
    """All of the model's keys do not fit then."""

    class Range(BaseModel):
        low: int = 0
        high: int = 10

        @model_validator(mode="after")
        def in_order(self) -> Range:
            assert self.low <= self.high
            return self

    visitor.visit(lambda session: session.update(low=11, other=1))
    data = typed(visitor, lambda session: session.data, Range, policy)

    assert (data.low, data.high) == (0, 10)
    assert store.stored == ([{"other": 1}] if policy == "drop" else [])


def test_what_others_wrote_meanwhile_may_not_fit(
    site: Site, visitor: Browser, store: WatchedStore
) -> None:
    """After a merge the policy decides, when the data are asked for again."""
    visitor.visit(lambda session: session.update(visits=1))
    second = site.browser()
    second.cookie = visitor.cookie

    async def page(request: Any) -> None:
        session = TypedSession(request.session, Shop, on_mismatch="drop")
        data = session.data
        data.theme = Theme.DARK
        handler = site.handler
        await _in_thread(lambda: second.visit(lambda s: s.update(visits="many")))
        site.handler = handler
        await session.commit()
        assert data.visits == 1
        assert session.data.visits == 0

    assert visitor.serve(page).status == 200
    assert store.stored == [{"theme": "dark"}]


# --- outages, and what is refused -----------------------------------------------------------------


def test_during_an_outage_data_are_a_503(site: Site, visitor: Browser, store: WatchedStore) -> None:
    """Never those of an empty session."""
    visitor.visit(lambda session: session.update(visits=1))
    store.fail()

    answer = visitor.visit(lambda s: TypedSession(s, Shop, on_mismatch="end").data)
    assert answer.status == 503
    store.recover()
    assert typed(visitor, lambda session: session.data.visits) == 1


def test_where_the_application_goes_on_no_change_is_lost_in_silence(
    store: WatchedStore, clock: Clock
) -> None:
    """The defaults may be read; a change inside one is a 503."""
    browser = Site(store, clock, on_outage="readonly-empty").browser()
    browser.visit(lambda session: session.update(visits=1))
    store.fail()

    assert typed(browser, lambda session: session.data.visits) == 0
    answer = browser.visit(
        lambda s: TypedSession(s, Shop, on_mismatch="drop").data.cart.append(Item(name="tea"))
    )
    assert answer.status == 503
    store.recover()
    assert browser.see() == {"visits": 1}


def test_a_model_must_fit_an_empty_session() -> None:
    """Each field has a default: a new session is empty."""
    with pytest.raises(TypeError, match="Each field of Item must have a default"):
        typed_session(Item, on_mismatch="drop")


def test_what_is_no_model_or_no_session_is_refused() -> None:
    """With what it must be."""
    with pytest.raises(TypeError, match="must be a Pydantic model or a dataclass"):
        typed_session(dict, on_mismatch="drop")
    with pytest.raises(TypeError, match="shows a session of this package"):
        TypedSession({}, Shop, on_mismatch="drop")
    with pytest.raises(ValueError, match="'drop', 'end' or 'raise'"):
        TypedSession(Session(), Shop, on_mismatch="ignore")  # type: ignore[arg-type]

    class Twice(BaseModel):
        name: str = Field("", validation_alias="read", serialization_alias="written")

    with pytest.raises(TypeError, match="two aliases"):
        typed_session(Twice, on_mismatch="drop")


def test_a_session_that_stands_alone() -> None:
    """Without a request, in a test for example, the plain session has what was changed."""
    session = TypedSession(Session({"visits": 1}), Shop, on_mismatch="raise")
    session.data.cart.append(Item(name="tea"))
    session.mutate(lambda data: setattr(data, "visits", data.visits + 1))

    assert session.session == {"visits": 2, "cart": [{"name": "tea", "count": 1}]}


# --- as a dependency ------------------------------------------------------------------------------

ShopSession = Annotated[TypedSession[Shop], Depends(typed_session(Shop, on_mismatch="drop"))]


def test_as_a_dependency(store: WatchedStore, clock: Clock) -> None:
    """Of HTTP and WebSocket routes, on two servers; the response varies by the cookie."""
    app = FastAPI()

    @app.post("/cart/{name}")
    def add(name: str, session: ShopSession) -> int:
        session.data.cart.append(Item(name=name))
        return len(session.data.cart)

    @app.get("/untouched")
    async def untouched(session: ShopSession) -> None: ...

    first, second = Server(store, clock, app), Server(store, clock, app)
    browser: TestClient = first.browser()
    assert browser.get("/untouched").headers["vary"] == "Cookie"
    assert browser.post("/cart/tea").json() == 1
    assert moved(browser, second).post("/cart/lamp").json() == 2
    assert len(store.stored[0]["cart"]) == 2


def test_in_flask() -> None:
    """``flask.session`` is shown as well, and what was changed is stored."""
    app = flask.Flask(__name__)
    app.secret_key = "a secret of these tests"
    app.config["SESSION_STORE"] = "memory://typed-in-flask"
    SharedSession(app)

    @app.post("/")
    def add() -> list[str]:
        session = TypedSession(flask.session, PlainShop, on_mismatch="drop")
        session.data.cart.append(PlainItem("tea"))
        session.mutate(lambda data: data.tags.add("new"))
        return [each.name for each in session.data.cart]

    client = app.test_client()
    assert client.post("/").json == ["tea"]
    assert client.post("/").json == ["tea", "tea"]
    with client.session_transaction() as session:
        assert session["tags"] == {"new"}
