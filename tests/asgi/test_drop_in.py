"""What applications, their tests and other packages rest on when they change one import.

One class for each clause. The flags ``modified`` and ``accessed``, and everything else that a
session is besides a dict, are in test_session.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Callable
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from authlib.integrations.starlette_client import OAuth
from fastapi import Depends, FastAPI
from fastapi import Request as FastAPIRequest
from fastapi import WebSocket as FastAPIWebSocket
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.sessions import SessionMiddleware as CookieSessionMiddleware
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from sharedsession import ConfigurationError, LateChange, StoreUnavailable
from sharedsession.asgi import SessionMiddleware
from sharedsession.stores.memory import MemoryStore
from tests.asgi.application import (
    SECRET,
    TIMEOUT,
    Answer,
    Browser,
    Site,
    Spoken,
    cookies,
    id_in,
    scope_of,
    speak,
    value_in,
)
from tests.asgi.conftest import Opened, Timed
from tests.support.watched import VERBS, WatchedStore

MINUTE, DAY = 60, 24 * 60 * 60
MakeSite = Callable[..., Site]


def put(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda session: session.update(values)


def attributes(set_cookie: str | None) -> dict[str, str]:
    """Return a cookie's attributes without those that say how long it lives."""
    assert set_cookie is not None
    pairs = (part.strip().partition("=") for part in set_cookie.split(";")[1:])
    found = {name.lower(): value for name, _, value in pairs}
    return {name: found[name] for name in found if name not in ("max-age", "expires")}


# --- line 1: a real dict, and Vary ----------------------------------------------------------------


class TestARealDict:
    def test_the_session_is_a_dict_for_whoever_asks(self, place: Opened) -> None:
        """isinstance, JSONResponse and Starlette's request.session take it for what it is."""
        browser = place.site().browser()
        browser.visit(put(name="Ada", cart=[1, {"deep": None}]))
        answer = browser.serve(lambda request: JSONResponse(request.session))
        assert answer.response.json() == {"name": "Ada", "cart": [1, {"deep": None}]}
        assert browser.visit(lambda session: isinstance(session, dict)).result is True

    @pytest.mark.newest
    def test_request_session_marks_it_accessed(self, browser: Browser) -> None:
        """Starlette calls mark_accessed() when request.session is used, and not before."""

        def look(request: Request) -> tuple[bool, bool]:
            before = request.scope["session"].accessed
            return before, request.session.accessed

        assert browser.serve(look).result == (False, True)

    def test_authlib_signs_in_by_way_of_the_session(self, place: Opened) -> None:
        """Its OAuth client keeps the state in request.session between two requests."""
        oauth = OAuth()
        oauth.register(
            "idp",
            client_id="app",
            client_secret="secret",
            authorize_url="https://idp.example/authorize",
            access_token_url="https://idp.example/token",
            client_kwargs={
                "transport": httpx2.MockTransport(
                    lambda request: httpx2.Response(
                        200, json={"access_token": "granted", "token_type": "Bearer"}
                    )
                )
            },
        )

        async def sign_in(request: Request) -> Response:
            response: Response = await oauth.idp.authorize_redirect(request, "http://app/back")
            return response

        async def back(request: Request) -> dict[str, Any]:
            token = await oauth.idp.authorize_access_token(request)
            request.session["user_id"] = token["access_token"]
            return dict(request.session)

        browser = place.site().browser()
        to_provider = browser.serve(sign_in).response
        state = httpx2.URL(to_provider.headers["location"]).params["state"]
        answer = browser.serve(back, params={"state": state, "code": "once"})
        assert answer.result == {"user_id": "granted"}
        assert browser.see() == {"user_id": "granted"}

    @pytest.mark.parametrize("cookie", ["none", "known", "unknown"])
    def test_vary_is_said_exactly_when_the_session_was_used(
        self, cookie: str, make_site: MakeSite, watched: WatchedStore
    ) -> None:
        """With a cookie or without one, of a live session or not."""
        browser = make_site().browser()
        if cookie != "none":
            browser.visit(put(a=1))
        if cookie == "unknown":
            watched.delete(browser.visit(lambda session: session.handle).result)
        assert browser.visit().vary is None
        assert browser.visit(lambda session: session.get("a")).vary == "Cookie"

    @pytest.mark.parametrize(
        ("own", "merged"),
        [
            ([], "Cookie"),
            (["Accept"], "Accept, Cookie"),
            (["Accept, Cookie"], "Accept, Cookie"),
            (["accept-encoding,COOKIE"], "accept-encoding,COOKIE"),
            (["*"], "*"),
            (["Accept", "Origin"], "Accept, Origin, Cookie"),
            (["Cookie", "Accept"], "Cookie, Accept"),
        ],
    )
    def test_vary_is_merged_with_the_applications_own(
        self, own: list[str], merged: str, browser: Browser
    ) -> None:
        """Once, whatever the application put there."""

        def page(request: Request) -> Response:
            request.session.get("a")
            response = PlainTextResponse("ok")
            for value in own:
                response.headers.append("vary", value)
            return response

        assert ", ".join(browser.serve(page).response.headers.get_list("vary")) == merged

    @pytest.mark.parametrize(
        ("own", "merged"),
        [
            (None, "no-store"),
            ("max-age=60", "max-age=60, no-store"),
            ("public, max-age=60", "public, max-age=60, no-store"),
            ("private", "private"),
            ("no-store", "no-store"),
            ("No-Store, max-age=0", "No-Store, max-age=0"),
        ],
    )
    def test_a_response_that_sets_the_cookie_is_not_for_shared_caches(
        self, own: str | None, merged: str, browser: Browser
    ) -> None:
        """Cache-Control is merged with the application's, and untouched without a Set-Cookie."""

        def page(request: Request) -> Response:
            request.session.setdefault("a", 1)
            return PlainTextResponse("ok", headers={} if own is None else {"cache-control": own})

        assert browser.serve(page).response.headers["cache-control"] == merged
        assert browser.serve(page).response.headers.get("cache-control") == own


# --- line 3: Set-Cookie only when the client must learn something ---------------------------------


class TestSetCookieOnlyWhenNeeded:
    def test_a_cookie_comes_with_a_new_id_a_new_version_or_a_new_lifetime_only(
        self, timed: Timed
    ) -> None:
        """Neither reading nor writing what is there already sends one."""
        browser = timed.site(max_age=1000).browser()
        assert browser.visit(lambda session: session.get("a")).set_cookie is None
        assert browser.visit(put(a=1)).set_cookie
        assert browser.visit(dict).set_cookie is None
        assert browser.visit(put(a=1)).set_cookie is None
        assert browser.visit(put(a=2)).set_cookie is None
        timed.clock.advance(100)
        assert browser.visit().set_cookie is None
        assert browser.visit(dict).set_cookie
        assert browser.visit(dict).set_cookie is None
        timed.clock.advance(100)
        assert browser.visit(put(a=3)).set_cookie
        assert browser.visit(put(a=4)).set_cookie is None
        browser = timed.site(near_cache=True).browser()
        assert browser.visit(put(a=1)).set_cookie
        assert browser.visit(put(a=2)).set_cookie

    def test_the_applications_own_cookies_survive(self, place: Opened) -> None:
        """Several, beside ours, and where there is none of ours."""

        def page(request: Request) -> Response:
            request.session["a"] = 1
            response = PlainTextResponse("ok")
            response.set_cookie("theme", "dark")
            response.set_cookie("language", "en")
            return response

        browser = place.site().browser()
        first, second = browser.serve(page).set_cookies, browser.serve(page).set_cookies
        assert [cookie.partition("=")[0] for cookie in first] == ["theme", "language", "session"]
        assert second == first[:2]

    def test_headers_may_be_missing_or_immutable(self, watched: WatchedStore) -> None:
        """The application's list of headers is not changed in its hands."""
        for headers in ({}, {"headers": ()}, {"headers": ([b"x-a", b"1"],)}):
            given = {"type": "http.response.start", "status": 200, **headers}
            before = dict(given)

            async def app(scope: Any, receive: Any, send: Any, given: Any = given) -> None:
                scope["session"]["a"] = 1
                await send(given)
                await send({"type": "http.response.body"})

            middleware = SessionMiddleware(app, SECRET, store=watched)
            spoken = asyncio.run(speak(middleware, scope_of()))
            assert spoken.error is None
            assert spoken.set_cookie
            assert given == before


# --- line 4: a session that was emptied is ended --------------------------------------------------

EMPTYING: dict[str, Callable[[Any], Any]] = {
    "clear": lambda session: session.clear(),
    "del": lambda session: session.__delitem__("a"),
    "pop": lambda session: session.pop("a"),
    "popitem": lambda session: session.popitem(),
    "destroy": lambda session: session.destroy(),
    "mutate": lambda session: session.mutate(dict.clear),
}


class TestEmptiedIsEnded:
    @pytest.mark.parametrize("how", EMPTYING)
    def test_the_record_is_gone_and_the_old_cookie_worthless(self, how: str, place: Opened) -> None:
        """However it was emptied, the client's cookie is removed and finds nothing any more."""
        browser = place.site().browser()
        browser.visit(put(a="the secret in it"))
        old = browser.cookie
        handle = browser.visit(lambda session: session.handle).result
        removal = browser.visit(EMPTYING[how]).set_cookie
        assert removal
        assert removal.startswith("session=null; ")
        assert browser.cookie is None
        left = place.store.load(handle)
        assert left is None or b"the secret in it" not in left.data
        browser.cookie = old
        assert browser.visit(lambda session: (session.is_new, dict(session))).result == (True, {})

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"path": "/app"},
            {"domain": "testserver.example"},
            {"same_site": "strict"},
            {"https_only": True},
            {"same_site": "none"},
            {"partitioned": True},
            {"session_cookie": "__Host-session"},
            {"session_cookie": "__Secure-session", "domain": "testserver.example"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_the_removal_cookie_has_the_attributes_of_the_cookie(
        self, settings: dict[str, Any], scheme: str, make_site: MakeSite
    ) -> None:
        """Path, domain, secure, samesite and partitioned, or browsers would keep the old one."""
        site = make_site(**settings)
        name = site.middleware.manager.settings.session_cookie

        def ask(act: Callable[[Any], Any], *values: str) -> str | None:
            site.handler = lambda request: act(request.session)
            scope = scope_of(headers=cookies(*values), scheme=scheme)
            return asyncio.run(speak(site.middleware, scope)).set_cookie

        issued = ask(put(a=1))
        removal = ask(lambda session: session.clear(), f"{name}={value_in(issued)}")
        assert removal
        assert attributes(removal) == attributes(issued)
        assert "expires=Thu, 01 Jan 1970 00:00:00 GMT" in removal

    @pytest.mark.parametrize("how", EMPTYING)
    def test_a_client_that_never_had_a_session_gets_no_removal(
        self, how: str, browser: Browser, watched: WatchedStore
    ) -> None:
        """There is nothing to remove, and nothing to ask the store for."""

        def act(session: Any) -> None:
            session["a"] = 1
            EMPTYING[how](session)

        assert browser.visit(act).set_cookie is None
        assert watched.calls == []

    def test_nor_does_one_whose_session_began_and_ended_in_the_same_request(
        self, browser: Browser, watched: WatchedStore
    ) -> None:
        """commit() stored it, destroy() ended it; the client has never heard of it."""

        async def act(session: Any) -> None:
            session["a"] = 1
            await session.commit()
            session.destroy()

        assert browser.visit(act).set_cookie is None
        assert not any(b"a" in data[-4:] for data in watched.contents().values())

    def test_only_the_request_that_ended_a_session_removes_its_cookie(self, place: Opened) -> None:
        """One that finds it ended, at load or at commit, sends no Set-Cookie whatever it does."""
        site = place.site()
        browser, other = site.browser(), site.browser()
        browser.visit(put(a=1, b=2))
        other.cookie = browser.cookie
        ended = httpx2.Headers()

        async def overtaken(request: Request) -> None:
            request.session["a"] = 2
            handler = site.handler
            site.handler = lambda inner: inner.session.destroy()
            spoken = await speak(site.middleware, scope_of(headers=request.headers.raw))
            ended["set-cookie"] = spoken.set_cookie or ""
            site.handler = handler

        assert browser.serve(overtaken).set_cookie is None
        assert ended["set-cookie"].startswith("session=null")
        for act in (dict, put(a=3), lambda session: session.clear(), lambda s: s.destroy()):
            assert other.visit(act).set_cookie is None
        assert other.see() == {}


# --- line 5: max_age, and the text of Set-Cookie --------------------------------------------------


class TestMaxAge:
    def test_none_is_a_cookie_that_ends_with_the_browser(self, timed: Timed) -> None:
        """No Max-Age in it, while the server's idle timeout stays at its default of 14 days."""
        browser = timed.site(max_age=None).browser()
        issued = browser.visit(put(a=1)).set_cookie
        assert issued
        assert "max-age" not in issued.lower()
        assert "expires" not in issued.lower()
        timed.clock.advance(14 * DAY - 1)
        assert browser.see() == {"a": 1}
        timed.clock.advance(14 * DAY)
        assert browser.see() == {}

    @pytest.mark.parametrize("max_age", [0, -1])
    def test_zero_and_less_store_nothing(self, max_age: int, place: Opened) -> None:
        """A session lasts for its request, without a row; the browser forgets what cookie it has,
        by the Max-Age that Starlette sends."""
        browser = place.site(max_age=max_age).browser()
        answer = browser.visit(lambda session: (session.update(a=1), session["a"], session.handle))
        assert answer.result == (None, 1, None)
        expected = f"session=null; path=/; Max-Age={max_age}; httponly; samesite=lax"
        assert answer.set_cookie == expected
        assert browser.visit(dict).set_cookie is None

    @pytest.mark.parametrize("max_age", [0, -1])
    def test_zero_and_less_end_the_sessions_that_there_are(
        self, max_age: int, place: Opened
    ) -> None:
        """One stored under an earlier setting is not seen any more, and ends when it is used."""
        before, after = place.site().browser(), place.site(max_age=max_age).browser()
        before.visit(put(user_id=1))
        after.cookie = before.cookie
        answer = after.visit(dict)
        assert answer.result == {}
        assert before.see() == {}


WRITTEN_BY_BOTH: list[dict[str, Any]] = [
    {},
    {"max_age": None},
    {"max_age": 3600},
    {"path": "/app"},
    {"domain": "example.org"},
    {"same_site": "strict"},
    {"https_only": True},
    {"https_only": True, "same_site": "none"},
    {"https_only": True, "partitioned": True},
    {"session_cookie": "sid"},
    {
        "session_cookie": "sid",
        "max_age": 60,
        "path": "/a/b",
        "same_site": "none",
        "https_only": True,
        "domain": "example.org",
        "partitioned": True,
    },
]


class TestTheTextOfSetCookie:
    @pytest.mark.newest
    @pytest.mark.parametrize("settings", WRITTEN_BY_BOTH, ids=str)
    def test_issued_and_removed_as_starlette_writes_it(
        self, settings: dict[str, Any], make_site: MakeSite
    ) -> None:
        """The same attributes, spelled the same, in the same order; only the value is ours."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            session = Request(scope).session
            session.clear() if session else session.update(a=1)
            await PlainTextResponse("ok")(scope, receive, send)

        def texts(middleware: Any) -> list[str]:
            name = settings.get("session_cookie", "session")
            issued = asyncio.run(speak(middleware, scope_of())).set_cookie or ""
            value = f"{name}={value_in(issued)}"
            removed = asyncio.run(speak(middleware, scope_of(headers=cookies(value)))).set_cookie
            return [issued.replace(value, f"{name}=VALUE"), removed or ""]

        ours = texts(SessionMiddleware(app, SECRET, store=MemoryStore(), **settings))
        assert ours == texts(CookieSessionMiddleware(app, SECRET, **settings))

    def test_the_arguments_are_starlettes_in_starlettes_order(self) -> None:
        """Changing the import and adding store= is the whole switch."""
        middleware = SessionMiddleware(
            PlainTextResponse("ok"),
            *("key", "sid", 60, "/a", "strict", True, "example.org", True),
            store="memory://",
        )
        settings = middleware.manager.settings
        assert settings.secret_keys == (b"key",)
        assert (settings.session_cookie, settings.max_age, settings.path) == ("sid", 60, "/a")
        assert (settings.same_site, settings.https_only) == ("strict", True)
        assert (settings.domain, settings.partitioned) == ("example.org", True)

    def test_secure_follows_the_request_unless_it_is_said(self, make_site: MakeSite) -> None:
        """https_only None: Secure when the request came by https; False: never; True: always."""
        for https_only, scheme, secure in (
            (None, "http", False),
            (None, "https", True),
            (False, "https", False),
            (True, "http", True),
        ):
            site = make_site(https_only=https_only)
            site.handler = lambda request: request.session.update(a=1)
            spoken = asyncio.run(speak(site.middleware, scope_of(scheme=scheme)))
            assert ("secure" in attributes(spoken.set_cookie)) is secure

    def test_httponly_is_always_there(self, browser: Browser) -> None:
        """No script reads the cookie, and it is never anywhere but in Set-Cookie."""
        answer = browser.visit(put(a=1))
        assert "httponly" in attributes(answer.set_cookie)
        id = id_in(answer.set_cookie)  # noqa: A001 - what it is called
        others = [v for k, v in answer.response.headers.multi_items() if k != "set-cookie"]
        assert not any(id in value for value in others)


# --- line 6: loops and lifespan -------------------------------------------------------------------


class TestEventLoops:
    def test_without_lifespan_and_with_a_new_event_loop_for_each_request(
        self, place: Opened
    ) -> None:
        """Starlette's test client, used without ``with``, does both."""
        browser, loops = place.site().browser(), []

        async def count(session: Any) -> int:
            loops.append(asyncio.get_running_loop())
            session["n"] = session.get("n", 0) + 1
            return int(session["n"])

        assert [browser.visit(count).result for _ in range(3)] == [1, 2, 3]
        assert len(set(map(id, loops))) == 3

    def test_with_lifespan(self, place: Opened) -> None:
        """The lifespan's messages go through to the application, and sessions work within it."""
        events = []

        async def count(request: Request) -> Response:
            request.session["n"] = request.session.get("n", 0) + 1
            return JSONResponse(request.session["n"])

        @asynccontextmanager
        async def lifespan(app: Starlette) -> Any:
            events.append("up")
            yield
            events.append("down")

        app = Starlette(routes=[Route("/", count)], lifespan=lifespan)
        app.add_middleware(
            SessionMiddleware, secret_key=SECRET, store=place.url, store_timeout=TIMEOUT
        )
        with TestClient(app) as client:
            assert [client.get("/").json() for _ in range(3)] == [1, 2, 3]
        assert events == ["up", "down"]

    def test_on_trio(self, place: Opened) -> None:
        """The same URL serves trio, with everything a session can do."""
        site = place.site()

        async def act(request: Request) -> list[Any]:
            session = request.session
            session["n"] = session.get("n", 0) + 1
            committed = await session.commit(lambda s: s.setdefault("committed", s["n"]))
            await session.reload()
            return [session["n"], committed]

        async def main() -> list[Any]:
            site.handler = act
            first = await speak(site.middleware, scope_of())
            seen = [site.result]
            value = f"session={value_in(first.set_cookie)}"
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(speak, site.middleware, scope_of(headers=cookies(value)))
            site.handler = lambda request: dict(request.session)
            await speak(site.middleware, scope_of(headers=cookies(value)))
            return [*seen, site.result["committed"]]

        assert trio.run(main) == [[1, 1], 1]

    def test_on_trio_and_asyncio_by_turns(self, place: Opened) -> None:
        """A session written on one is read on the other."""
        site = place.site()
        on_asyncio, on_trio = site.browser(), site.browser(backend="trio")
        on_asyncio.visit(put(a=1))
        on_trio.cookie = on_asyncio.cookie
        on_trio.visit(put(b=2))
        assert on_asyncio.see() == on_trio.see() == {"a": 1, "b": 2}

    def test_a_store_that_needs_asyncio_says_so_on_trio(self) -> None:
        """A store object without a sync twin is an outage there, with a sentence, not a crash."""
        site = Site(_Awaited(MemoryStore()))  # type: ignore[arg-type]
        assert site.browser().visit(put(a=1)).set_cookie
        answer = site.browser(backend="trio").visit(put(a=1))
        assert answer.status == 503

        async def act(session: Any) -> str:
            session["a"] = 1
            with pytest.raises(StoreUnavailable, match="asyncio only") as raised:
                await session.commit()
            return str(raised.value)

        assert "give the middleware a URL" in site.browser(backend="trio").visit(act).result

    def test_httpx_asgi_transport(self, place: Opened) -> None:
        """Requests by httpx's own transport, several at the same time on one loop."""
        site = place.site()
        site.handler = lambda request: request.session.mutate(
            lambda session: session.update(n=session.get("n", 0) + 1)
        )

        async def main() -> int:
            transport = httpx2.ASGITransport(site.middleware)
            async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
                await client.get("/")
                await asyncio.gather(*(client.get("/") for _ in range(9)))
                site.handler = lambda request: request.session["n"]
                await client.get("/")
            return int(site.result)

        assert asyncio.run(main()) == 10


class _Awaited:
    """The async colour of a store."""

    def __init__(self, store: MemoryStore) -> None:
        for verb in VERBS:
            setattr(self, verb, self._awaited(getattr(store, verb)))

    @staticmethod
    def _awaited(call: Callable[..., Any]) -> Callable[..., Any]:
        async def verb(*arguments: Any) -> Any:
            return call(*arguments)

        return verb


# --- line 7: nothing blocks, nothing is left open -------------------------------------------------

LEFT_BEHIND = """
import asyncio, gc, sys
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from sharedsession.asgi import SessionMiddleware

async def count(request):
    request.session["n"] = request.session.get("n", 0) + 1
    return JSONResponse(request.session["n"])

app = Starlette(routes=[Route("/", count)])
app.add_middleware(
    SessionMiddleware, secret_key="the key of tests", store=sys.argv[1], store_timeout=10
)
for backend in ("asyncio", "trio"):
    client = TestClient(app, backend=backend)
    assert [client.get("/").json() for _ in range(3)] == [1, 2, 3]
    with TestClient(app, backend=backend) as client:
        assert [client.get("/").json() for _ in range(3)] == [1, 2, 3]
del app, client
gc.collect()
"""


class TestNothingBlocksAndNothingIsLeft:
    def test_a_locked_database_does_not_hold_up_the_event_loop(self, tmp_path: Path) -> None:
        """While one request waits for SQLite's write lock, others are served on the same loop."""
        site = Site(f"sqlite:///{tmp_path / 'sessions.db'}")
        site.browser().visit(put(a=1))
        lock = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)

        async def main() -> Spoken:
            about_to_write = asyncio.Event()

            def write(request: Request) -> None:
                request.session["a"] = 1
                about_to_write.set()

            site.handler = write
            lock.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(speak(site.middleware, scope_of()))
            await about_to_write.wait()
            site.handler = lambda request: None
            for _ in range(50):
                other = await speak(site.middleware, scope_of())
                assert other.status == 200
            assert not writing.done()
            lock.execute("ROLLBACK")
            return await writing

        try:
            spoken = asyncio.run(main())
        finally:
            lock.close()
        assert spoken.status == 200
        assert spoken.set_cookie

    @pytest.mark.newest
    def test_nothing_is_left_open(self, place: Opened) -> None:
        """With warnings as errors nothing complains, at exit neither: sockets, files, tasks."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", LEFT_BEHIND, place.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode == 0


# --- line 8: Cookie headers -----------------------------------------------------------------------

FOREIGN = [
    "foo bar=1",
    "a[b]=2",
    'json={"a": "b", "c"}',
    "=nameless",
    "novalue",
    "ünï=cödé",
    'quoted="open',
    "session_id=x; mysession=y; session2=z; Session=w",
    "session",
    "x=session=y",
    ";;; ; ",
    "tab\t=\t1",
    "a=\x7f",
]


class TestCookieHeaders:
    @pytest.mark.parametrize("foreign", FOREIGN)
    @pytest.mark.parametrize("order", ["before", "after", "around"])
    def test_a_foreign_cookie_with_an_illegal_name_does_not_hide_ours(
        self, foreign: str, order: str, browser: Browser, site: Site
    ) -> None:
        """Whatever else the browser sends, and wherever it stands."""
        browser.visit(put(a=1))
        ours = f"session={browser.cookie}"
        parts = {"before": [foreign, ours], "after": [ours, foreign]}
        header = "; ".join(parts.get(order, [foreign, ours, foreign]))
        site.handler = lambda request: dict(request.scope["session"])
        scope = scope_of(headers=cookies(header.encode()))
        assert asyncio.run(speak(site.middleware, scope)).status == 200
        assert site.result == {"a": 1}

    def test_simple_cookie_would_have_given_up(self) -> None:
        """The reason why it does not read our cookies."""
        assert "session" not in SimpleCookie("foo bar=1; session=x")

    def test_every_cookie_header_counts(self, place: Opened) -> None:
        """HTTP/2 splits them, one cookie to a header, ours at any place."""
        site = place.site()
        browser = site.browser()
        browser.visit(put(a=1))
        ours = f"session={browser.cookie}"
        for headers in (["x=1", ours], [ours, "x=1"], ["x=1", ours, "y=2"], ["x=1; y=2", ours]):
            site.handler = lambda request: dict(request.session)
            asyncio.run(speak(site.middleware, scope_of(headers=cookies(*headers))))
            assert site.result == {"a": 1}

    def test_quotes_around_our_cookie_are_taken_off(self, browser: Browser, site: Site) -> None:
        """Some proxies put them there."""
        browser.visit(put(a=1))
        site.handler = lambda request: dict(request.session)
        header = cookies(f'session="{browser.cookie}"')
        asyncio.run(speak(site.middleware, scope_of(headers=header)))
        assert site.result == {"a": 1}


# --- line 9: the application may put something else in its session's place ------------------------


class TestReplacedSession:
    def replace(self, browser: Browser, replacement: Any) -> Answer:
        def handler(request: Request) -> None:
            request.scope["session"] = replacement

        return browser.serve(handler)

    def test_a_plain_dict_is_saved(self, place: Opened) -> None:
        """In the place of what was there, all of it, under the same ID."""
        browser = place.site().browser()
        browser.visit(put(a=1, b=2))
        old = browser.cookie
        self.replace(browser, {"b": 3, "nested": [1]})
        assert browser.see() == {"b": 3, "nested": [1]}
        assert id_in(browser.cookie) == id_in(old)

    def test_a_plain_dict_of_a_new_client_is_saved(self, place: Opened) -> None:
        """It begins a session."""
        browser = place.site().browser()
        assert self.replace(browser, {"a": 1}).set_cookie
        assert browser.see() == {"a": 1}

    def test_a_plain_dict_that_signs_in_renews_the_id(self, place: Opened) -> None:
        """A sign-in is one however it is written."""
        browser = place.site().browser()
        browser.visit(put(a=1))
        old = browser.cookie
        self.replace(browser, {"a": 1, "user_id": 7})
        assert id_in(browser.cookie) != id_in(old)
        browser.cookie = old
        assert browser.see() == {}

    @pytest.mark.parametrize("replacement", [None, {}, [], "text", 5], ids=repr)
    def test_anything_else_destroys_the_session(self, replacement: Any, place: Opened) -> None:
        """None above all, which is how some applications sign out."""
        browser = place.site().browser()
        browser.visit(put(a=1))
        old = browser.cookie
        removal = self.replace(browser, replacement).set_cookie
        assert removal
        assert removal.startswith("session=null")
        browser.cookie = old
        assert browser.see() == {}

    def test_taken_out_of_the_scope_it_is_destroyed(self, place: Opened) -> None:
        """As with None."""
        browser = place.site().browser()
        browser.visit(put(a=1))
        removal = browser.serve(lambda request: request.scope.pop("session") and None).set_cookie
        assert removal
        assert removal.startswith("session=null")

    @pytest.mark.parametrize("replacement", [None, {}, 5], ids=repr)
    def test_a_new_client_gets_nothing_of_it(
        self, replacement: Any, browser: Browser, watched: WatchedStore
    ) -> None:
        """No cookie, and the store is not asked."""
        assert self.replace(browser, replacement).set_cookie is None
        assert watched.calls == []

    def test_another_middlewares_session_is_left_alone(self, watched: WatchedStore) -> None:
        """Starlette's own, further in, keeps its session; ours is neither changed nor ended."""
        site = Site(watched)
        browser = site.browser()
        browser.visit(put(ours=1))
        inner = CookieSessionMiddleware(site.application, SECRET, session_cookie="theirs")
        outer = SessionMiddleware(inner, SECRET, store=watched)
        site.handler = lambda request: request.session.update(theirs=1)
        header = cookies(f"session={browser.cookie}")
        spoken = asyncio.run(speak(outer, scope_of(headers=header)))
        assert (spoken.set_cookie or "").startswith("theirs=")
        assert browser.see() == {"ours": 1}

    def test_a_change_in_the_new_dict_after_the_headers_counts(self, place: Opened) -> None:
        """The dict that was put there is the session, to the end of the request."""
        browser = place.site().browser()
        browser.visit(put(a=1))

        def handler(request: Request) -> Response:
            mine = request.scope["session"] = {"b": [1]}
            return PlainTextResponse("ok", background=BackgroundTask(mine["b"].append, 2))

        browser.serve(handler)
        assert browser.see() == {"b": [1, 2]}


# --- line 10: WebSockets, mounted applications, several middlewares -------------------------------

CONNECT: dict[str, Any] = {"type": "websocket.connect"}
DISCONNECT: dict[str, Any] = {"type": "websocket.disconnect", "code": 1001}
TEXT: dict[str, Any] = {"type": "websocket.receive", "text": "hello"}


class Wire:
    """WebSockets of one site, spoken in plain ASGI by somebody with a cookie."""

    def __init__(self, place: Opened) -> None:
        self.place = place
        self.browser = place.site().browser()

    async def spoken(
        self, handler: Callable[[WebSocket], Any], *incoming: Any, **more: Any
    ) -> Spoken:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await handler(WebSocket(scope, receive, send))

        middleware = SessionMiddleware(app, SECRET, store=self.place.url, store_timeout=TIMEOUT)
        known = cookies(f"session={self.browser.cookie}") if self.browser.cookie else []
        return await speak(middleware, scope_of("websocket", known, **more), [CONNECT, *incoming])

    def talk(self, handler: Callable[[WebSocket], Any], *incoming: Any, **more: Any) -> Spoken:
        return asyncio.run(self.spoken(handler, *incoming, **more))


@pytest.fixture
def wire(place: Opened) -> Wire:
    return Wire(place)


async def accept_and_put(websocket: WebSocket, **values: Any) -> None:
    websocket.session.update(values)
    await websocket.accept()


class TestWebSockets:
    def test_a_session_begun_before_accept_gets_its_cookie_there(self, wire: Wire) -> None:
        """The handshake's answer carries Set-Cookie, and the record is stored before it."""
        spoken = wire.talk(lambda websocket: accept_and_put(websocket, a=1))
        assert spoken.error is None
        assert spoken.messages[0]["type"] == "websocket.accept"
        wire.browser.cookie = value_in(spoken.set_cookie)
        assert wire.browser.see() == {"a": 1}

    def test_a_websocket_sees_the_session_of_the_client(self, wire: Wire) -> None:
        """Whoever signed in over HTTP is signed in here; reading sends no Set-Cookie."""
        wire.browser.visit(put(user_id=7))
        seen = []

        async def handler(websocket: WebSocket) -> None:
            seen.append(dict(websocket.session))
            await websocket.accept()

        spoken = wire.talk(handler)
        assert seen == [{"user_id": 7}]
        assert spoken.set_cookie is None

    def test_unused_it_costs_no_header(self, wire: Wire) -> None:
        """A WebSocket that never asks for its session is passed through as it is."""
        wire.browser.visit(put(a=1))
        spoken = wire.talk(lambda websocket: websocket.accept())
        assert spoken.start["headers"] == []

    def test_commit_writes_while_the_connection_is_open(self, wire: Wire) -> None:
        """Others see it before the socket is closed."""
        wire.browser.visit(put(a=1))
        site, seen = wire.place.site(), []

        async def handler(websocket: WebSocket) -> None:
            await websocket.accept()
            websocket.session["a"] = 2
            await websocket.session.commit()
            site.handler = lambda request: seen.append(dict(request.session))
            await speak(site.middleware, scope_of(headers=websocket.headers.raw))

        assert wire.talk(handler).error is None
        assert seen == [{"a": 2}]

    @pytest.mark.parametrize("end", ["returns", "exception", "other exception", "group"])
    def test_after_a_disconnect_it_is_saved_however_the_application_ends(
        self, end: str, wire: Wire
    ) -> None:
        """Most applications end by an exception that says just that; it passes through."""
        wire.browser.visit(put(a=1))

        async def handler(websocket: WebSocket) -> None:
            await websocket.accept()
            try:
                while True:
                    websocket.session["a"] = await websocket.receive_text()
            except WebSocketDisconnect as left:
                if end == "exception":
                    raise
                if end == "other exception":
                    raise RuntimeError("broken") from left
                if end == "group":
                    raise ExceptionGroup("of tasks", [left]) from None

        spoken = wire.talk(handler, TEXT, DISCONNECT)
        kinds = {
            "returns": type(None),
            "exception": WebSocketDisconnect,
            "other exception": RuntimeError,
            "group": ExceptionGroup,
        }
        assert type(spoken.error) is kinds[end]
        assert wire.browser.see() == {"a": "hello"}

    def test_a_cancellation_after_the_disconnect_is_an_end_like_any_other(self, wire: Wire) -> None:
        """Servers and test clients cancel what is left; what was changed is saved all the same."""
        wire.browser.visit(put(a=1))

        async def main() -> None:
            left = asyncio.Event()

            async def handler(websocket: WebSocket) -> None:
                await websocket.accept()
                async for text in websocket.iter_text():
                    websocket.session["a"] = text
                left.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(wire.spoken(handler, TEXT, DISCONNECT))
            await left.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert wire.browser.see() == {"a": "hello"}

    def test_a_cancellation_during_the_last_commit_does_not_cut_it_off(self, wire: Wire) -> None:
        """The task is cancelled when the application has returned and the store is being asked."""
        wire.browser.visit(put(a=1))

        async def main() -> None:
            async def handler(websocket: WebSocket) -> None:
                await websocket.accept()
                async for text in websocket.iter_text():
                    websocket.session["a"] = text
                asyncio.get_running_loop().call_soon(task.cancel)

            task = asyncio.create_task(wire.spoken(handler, TEXT, DISCONNECT))
            await asyncio.wait([task])

        asyncio.run(main())
        assert wire.browser.see() == {"a": "hello"}

    def test_an_application_that_fails_before_the_disconnect_saves_nothing(
        self, wire: Wire
    ) -> None:
        """As with HTTP: an exception that escapes commits nothing."""
        wire.browser.visit(put(a=1))

        async def handler(websocket: WebSocket) -> None:
            await websocket.accept()
            websocket.session["a"] = 2
            raise RuntimeError("broken")

        assert isinstance(wire.talk(handler, DISCONNECT).error, RuntimeError)
        assert wire.browser.see() == {"a": 1}

    def test_a_session_begun_after_accept_is_an_error(self, wire: Wire) -> None:
        """No cookie can be sent any more, and the change must not vanish without a word."""

        async def handler(websocket: WebSocket) -> None:
            await websocket.accept()
            websocket.session["a"] = 1
            await websocket.close()

        assert isinstance(wire.talk(handler).error, LateChange)

        async def committing(websocket: WebSocket) -> None:
            await websocket.accept()
            websocket.session["a"] = 1
            await websocket.session.commit()

        assert isinstance(wire.talk(committing).error, LateChange)

    def test_a_sign_in_after_accept_is_an_error_and_a_destroy_is_done(self, wire: Wire) -> None:
        """A new owner would need a new cookie, an end needs none."""
        wire.browser.visit(put(a=1))

        async def sign_in(websocket: WebSocket) -> None:
            await websocket.accept()
            websocket.session["user_id"] = 1

        async def destroy(websocket: WebSocket) -> None:
            await websocket.accept()
            websocket.session.destroy()

        assert isinstance(wire.talk(sign_in, DISCONNECT).error, LateChange)
        assert wire.browser.see() == {"a": 1}
        assert wire.talk(destroy, DISCONNECT).error is None
        assert wire.browser.see() == {}

    def test_a_denial_response_carries_the_session_too(self, wire: Wire) -> None:
        """A handshake that is answered over HTTP commits at its start."""

        async def handler(websocket: WebSocket) -> None:
            websocket.session["denied"] = True
            await websocket.send_denial_response(PlainTextResponse("no", 403))

        spoken = wire.talk(handler, extensions={"websocket.http.response": {}})
        wire.browser.cookie = value_in(spoken.set_cookie)
        assert wire.browser.see() == {"denied": True}

    def test_an_outage_at_accept_refuses_the_handshake(self, watched: WatchedStore) -> None:
        """By a 503 where the server can, otherwise by a close that says: try again later."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept_and_put(WebSocket(scope, receive, send), a=1)

        middleware = SessionMiddleware(app, SECRET, store=watched)
        watched.fail()
        extensions = {"websocket.http.response": {}}
        answered = asyncio.run(
            speak(middleware, scope_of("websocket", extensions=extensions), [CONNECT])
        )
        assert answered.status == 503
        assert answered.header(b"retry-after")
        closed = asyncio.run(speak(middleware, scope_of("websocket"), [CONNECT]))
        assert [message["type"] for message in closed.messages] == ["websocket.close"]
        assert closed.messages[0]["code"] == 1013

    def test_starlettes_test_client_and_fastapi(self, place: Opened) -> None:
        """What an application's own tests do: a page, then a socket, then the page again."""
        app = FastAPI()
        app.add_middleware(
            SessionMiddleware, secret_key=SECRET, store=place.url, store_timeout=TIMEOUT
        )

        @app.get("/")
        def page(request: FastAPIRequest) -> dict[str, Any]:
            request.session.setdefault("said", [])
            return request.session

        @app.websocket("/socket")
        async def socket(websocket: FastAPIWebSocket) -> None:
            await websocket.accept()
            async for text in websocket.iter_text():
                websocket.session["said"].append(text)
                await websocket.session.commit()
                await websocket.send_text("noted")

        client = TestClient(app)
        client.get("/")
        with client.websocket_connect("/socket") as connection:
            for text in ("one", "two"):
                connection.send_text(text)
                assert connection.receive_text() == "noted"
        assert client.get("/").json() == {"said": ["one", "two"]}


class TestSeveralMiddlewares:
    def test_mounted_applications_see_the_same_session(self, place: Opened) -> None:
        """At any depth, under any path."""

        async def page(request: Request) -> Response:
            request.session.setdefault("seen", []).append(request.url.path)
            return JSONResponse(request.session["seen"])

        app = Starlette(
            routes=[
                Route("/page", page),
                Mount(
                    "/a",
                    Starlette(
                        routes=[
                            Route("/page", page),
                            Mount("/b", Starlette(routes=[Route("/page", page)])),
                        ]
                    ),
                ),
            ]
        )
        app.add_middleware(
            SessionMiddleware, secret_key=SECRET, store=place.url, store_timeout=TIMEOUT
        )
        client = TestClient(app)
        for path in ("/page", "/a/page", "/a/b/page"):
            seen = client.get(path).json()
        assert seen == ["/page", "/a/page", "/a/b/page"]

    def test_two_with_different_cookies_live_side_by_side(self, place: Opened) -> None:
        """Two mounted applications, each with a middleware, a cookie and a session of its own."""

        async def page(request: Request) -> Response:
            request.session.setdefault("seen", []).append(request.url.path)
            return JSONResponse(request.session["seen"])

        def part(cookie: str) -> SessionMiddleware:
            return SessionMiddleware(
                Starlette(routes=[Route("/", page)]),
                SECRET,
                cookie,
                store=place.url,
                store_timeout=TIMEOUT,
            )

        client = TestClient(Starlette(routes=[Mount("/a", part("a")), Mount("/b", part("b"))]))
        for path in ("/a/", "/b/", "/a/"):
            client.get(path)
        assert client.get("/a/").json() == ["/a/"] * 3
        assert client.get("/b/").json() == ["/b/"] * 2

    @pytest.mark.parametrize("inner_key", ["session", "inner"])
    def test_one_inside_the_other(self, inner_key: str, place: Opened) -> None:
        """Each keeps its own; by scope_key an application sees both."""
        site = place.site()
        inner = SessionMiddleware(
            site.application,
            SECRET,
            "inside",
            store=place.url,
            store_timeout=TIMEOUT,
            scope_key=inner_key,
        )
        outer = SessionMiddleware(inner, SECRET, "outside", store=place.url, store_timeout=TIMEOUT)
        client = TestClient(outer)

        def write(request: Request) -> None:
            request.scope[inner_key]["who"] = "inside"
            if inner_key != "session":
                request.session["who"] = "outside"

        site.handler = write
        names = {each.partition("=")[0] for each in client.get("/").headers.get_list("set-cookie")}
        assert names == ({"inside"} if inner_key == "session" else {"inside", "outside"})
        site.handler = lambda request: {
            key: dict(request.scope[key]) for key in {inner_key, "session"}
        }
        client.get("/")
        assert site.result[inner_key] == {"who": "inside"}
        assert inner_key == "session" or site.result["session"] == {"who": "outside"}

    def test_both_say_vary_once_and_set_their_own_cookie(self, watched: WatchedStore) -> None:
        """The outer one merges with what the inner one said."""
        site = Site(watched)
        inner = SessionMiddleware(site.application, SECRET, "in", store=watched, scope_key="in")
        outer = SessionMiddleware(inner, SECRET, "out", store=watched, scope_key="out")
        site.handler = lambda request: [request.scope[key].update(a=1) for key in ("in", "out")]
        spoken = asyncio.run(speak(outer, scope_of()))
        assert spoken.header(b"vary") == [b"Cookie"]
        assert spoken.header(b"cache-control") == [b"no-store"]
        assert len(spoken.header(b"set-cookie")) == 2


# --- line 11: the start of a response commits -----------------------------------------------------


class TestTheResponseCommits:
    @pytest.mark.parametrize("status", [200, 201, 204, 302, 304, 400, 404, 500, 503])
    def test_whatever_its_status(self, status: int, place: Opened) -> None:
        """Redirects and errors that the application answers itself as well."""
        browser = place.site().browser()

        def page(request: Request) -> Response:
            request.session["status"] = status
            return Response(status_code=status)

        assert browser.serve(page).status == status
        assert browser.see() == {"status": status}

    def test_a_redirect(self, place: Opened) -> None:
        """The page it leads to finds what was written."""
        browser = place.site().browser()

        def page(request: Request) -> Response:
            request.session["a"] = 1
            return RedirectResponse("/")

        browser.serve(page)
        assert browser.see() == {"a": 1}

    def test_an_exception_that_escapes_commits_nothing(self, place: Opened) -> None:
        """It passes through unchanged, and what was stored stays as it was."""
        browser = place.site().browser()
        browser.visit(put(a=1))

        def broken(session: Any) -> None:
            session["a"] = 2
            session.mutate(lambda s: s.update(b=2))
            session.destroy()
            raise LookupError("broken")

        with pytest.raises(LookupError, match="broken"):
            browser.visit(broken)
        assert browser.see() == {"a": 1}

    @pytest.mark.newest
    def test_an_exception_after_the_start_keeps_what_was_committed(self, place: Opened) -> None:
        """And nothing that came later."""
        browser = place.site().browser()
        browser.visit(put(a=1))

        async def body(session: Any) -> Any:
            session["a"] = 3
            yield b"x"
            raise LookupError("broken")

        def page(request: Request) -> Response:
            request.session["a"] = 2
            return StreamingResponse(body(request.session))

        with pytest.raises(LookupError):
            browser.serve(page)
        assert browser.see() == {"a": 2}

    @pytest.mark.parametrize("body", ["empty", "fixed", "chunked"])
    def test_the_record_is_stored_before_the_first_byte_leaves(
        self, body: str, place: Opened
    ) -> None:
        """When the server is handed the start of the response, every other server can see it."""
        site, seen = place.site(), []

        async def chunks() -> Any:
            for chunk in (b"a", b"b"):
                yield chunk

        def page(request: Request) -> Response:
            request.session["a"] = "what was written"
            if body == "chunked":
                return StreamingResponse(chunks())
            return Response(b"" if body == "empty" else b"x" * 100)

        def look(message: dict[str, Any]) -> None:  # when the server would write to its socket
            if message["type"] == "http.response.start":
                entry = place.store.load(scope["session"].handle)
                seen.append(entry is not None and b"what was written" in entry.data)

        site.handler, scope = page, scope_of()
        spoken = asyncio.run(speak(site.middleware, scope, on_send=look))
        assert spoken.error is None
        assert seen == [True]

    def test_fastapi_dependencies_and_both_kinds_of_routes(self, place: Opened) -> None:
        """Plain functions in threads, async ones, and what a dependency writes."""
        app = FastAPI()
        app.add_middleware(
            SessionMiddleware, secret_key=SECRET, store=place.url, store_timeout=TIMEOUT
        )

        def counted(request: FastAPIRequest) -> int:
            request.session["n"] = request.session.get("n", 0) + 1
            return int(request.session["n"])

        def late(request: FastAPIRequest) -> Any:
            yield
            request.session["late"] = True

        @app.get("/plain")
        def plain(n: int = Depends(counted)) -> int:
            return n

        @app.get("/async")
        async def in_loop(n: int = Depends(counted), _: None = Depends(late)) -> int:
            return n

        @app.get("/all")
        def everything(request: FastAPIRequest) -> dict[str, Any]:
            return request.session

        client = TestClient(app)
        assert [client.get(path).json() for path in ("/plain", "/async", "/plain")] == [1, 2, 3]
        assert client.get("/all").json() == {"n": 3, "late": True}

    def test_a_plain_route_that_forgets_to_await_commit_is_told(
        self, watched: WatchedStore
    ) -> None:
        """In a route without async nobody can await; silence would lose the change."""
        app = FastAPI()
        app.add_middleware(SessionMiddleware, secret_key=SECRET, store=watched)

        @app.get("/")
        def page(request: FastAPIRequest) -> None:
            request.session["a"] = 1
            request.session.commit()

        with pytest.raises(Exception, match=r"write 'await session\.commit\(\)'"):
            TestClient(app).get("/")
        assert watched.calls == []

    def test_late_changes_of_a_known_session_are_saved(self, place: Opened) -> None:
        """In the body's generator and in background tasks, nested ones too."""
        browser = place.site().browser()
        browser.visit(put(cart=[]))

        async def body(session: Any) -> Any:
            session["streamed"] = True
            yield b"x"

        def page(request: Request) -> Response:
            task = BackgroundTask(request.session["cart"].append, 1)
            return StreamingResponse(body(request.session), background=task)

        browser.serve(page)
        assert browser.see() == {"cart": [1], "streamed": True}

    @pytest.mark.parametrize("used_before", [True, False])
    def test_a_session_begun_too_late_is_an_error(
        self, used_before: bool, browser: Browser, watched: WatchedStore
    ) -> None:
        """The headers have left without its cookie; nothing is stored."""

        def page(request: Request) -> Response:
            if used_before:
                request.session.get("a")
            task = BackgroundTask(lambda: request.session.update(a=1))
            return PlainTextResponse("ok", background=task)

        with pytest.raises(LateChange, match="before the response starts"):
            browser.serve(page)
        assert "create" not in watched.calls


# --- line 19: IDs ---------------------------------------------------------------------------------


class TestIDs:
    def test_an_id_has_256_bits(self, browser: Browser) -> None:
        """32 random bytes: none of their bits is always the same, and none comes twice."""
        ids = []
        for _ in range(64):
            browser.cookie = None
            ids.append(urlsafe_b64decode(id_in(browser.visit(put(a=1)).set_cookie) + "="))
        assert {len(each) for each in ids} == {32}
        assert len(set(ids)) == len(ids)
        numbers = [int.from_bytes(each) for each in ids]
        always, ever = (1 << 256) - 1, 0
        for number in numbers:
            always, ever = always & number, ever | number
        assert (always, ever) == (0, (1 << 256) - 1)

    def test_a_signed_id_that_the_store_no_longer_knows_is_not_adopted(self, place: Opened) -> None:
        """The client gets a new session under a new ID, without the store keeping the old."""
        browser = place.site().browser()
        browser.visit(put(a=1))
        handle = browser.visit(lambda session: session.handle).result
        old = browser.cookie
        place.store.delete(handle)
        answer = browser.visit(lambda session: (session.is_new, session.handle, dict(session)))
        assert answer.result == (True, None, {})
        assert answer.set_cookie is None
        browser.visit(put(b=2))
        assert id_in(browser.cookie) != id_in(old)
        assert place.store.load(handle) is None
        assert browser.see() == {"b": 2}

    def test_a_changed_secret_is_a_new_session_and_no_crash(self, place: Opened) -> None:
        """Nothing of the old one is seen; the cookie is replaced."""
        before, after = place.site().browser(), place.site(secret_key="another").browser()
        before.visit(put(a=1))
        after.cookie = before.cookie
        assert after.visit(dict).result == {}
        assert after.visit(put(b=2)).set_cookie
        assert id_in(after.cookie) != id_in(before.cookie)

    def test_keys_rotate_with_an_overlap(self, place: Opened) -> None:
        """The first signs, all verify; without the old key its cookies are worthless."""
        first = place.site(secret_key="old").browser()
        both = place.site(secret_key=["new", "old"]).browser()
        last = place.site(secret_key="new").browser()
        first.visit(put(a=1))
        both.cookie = last.cookie = first.cookie
        assert last.see() == {}
        assert both.see() == {"a": 1}
        both.visit(lambda session: session.renew())
        last.cookie = both.cookie
        assert last.see() == {"a": 1}


# --- line 20: outages -----------------------------------------------------------------------------


class TestOutages:
    def test_a_load_that_fails_is_never_no_session(
        self, browser: Browser, watched: WatchedStore
    ) -> None:
        """Who uses the session gets a 503 with Retry-After; who does not is served."""
        browser.visit(put(user_id=1))
        kept = browser.cookie
        watched.fail()
        answer = browser.visit(dict)
        assert answer.status == 503
        assert answer.response.headers["retry-after"].isdecimal()
        assert answer.response.headers["cache-control"] == "no-store"
        assert answer.set_cookie is None
        assert browser.visit().status == 200
        watched.recover()
        assert browser.cookie == kept
        assert browser.see() == {"user_id": 1}

    @pytest.mark.parametrize("act", [put(a=2), lambda session: session.destroy()])
    def test_a_commit_that_fails_is_reported(
        self, act: Callable[[Any], None], browser: Browser, watched: WatchedStore
    ) -> None:
        """The application's answer is discarded, for the change is not stored."""
        browser.visit(put(a=1))

        def page(request: Request) -> Response:
            act(request.session)
            watched.fail()
            return PlainTextResponse("saved!")

        answer = browser.serve(page)
        assert answer.status == 503
        assert "saved!" not in answer.response.text
        assert answer.set_cookie is None

    def test_a_500_made_of_the_outage_becomes_a_503(
        self, browser: Browser, watched: WatchedStore
    ) -> None:
        """Any other status is the route's own policy."""
        browser.visit(put(a=1))
        watched.fail()

        def page(status: int) -> Callable[[Request], Response]:
            def handler(request: Request) -> Response:
                with pytest.raises(StoreUnavailable):
                    request.session.get("a")
                return PlainTextResponse("own", status)

            return handler

        assert browser.serve(page(500)).status == 503
        for status in (200, 404, 502):
            answer = browser.serve(page(status))
            assert (answer.status, answer.response.text) == (status, "own")
            assert answer.set_cookie is None

    @pytest.mark.parametrize("outside", [True, False])
    def test_with_the_error_pages_of_starlette(self, outside: bool, watched: WatchedStore) -> None:
        """Whether the middleware is added to the application or wrapped around it."""

        async def page(request: Request) -> Response:
            request.session["a"] = request.session.get("a", 0) + 1
            return PlainTextResponse("ok")

        app: Any = Starlette(routes=[Route("/", page)])
        if outside:
            app = SessionMiddleware(app, SECRET, store=watched)
        else:
            app.add_middleware(SessionMiddleware, secret_key=SECRET, store=watched)
        client = TestClient(app)
        assert client.get("/").status_code == 200
        watched.fail()
        assert client.get("/").status_code == 503
        watched.recover()
        assert client.get("/").status_code == 200

    def test_a_failed_load_is_asked_for_once_in_a_request(
        self, browser: Browser, watched: WatchedStore
    ) -> None:
        """Its failure is remembered, and nothing is written over what could not be read."""
        browser.visit(put(a=1))
        watched.calls.clear()
        watched.fail()

        def act(request: Request) -> None:
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    request.session["a"] = 2

        browser.serve(act)
        assert watched.calls == ["load"]


# --- line 21: names and flags that browsers insist on ---------------------------------------------


class TestWhatBrowsersInsistOn:
    @pytest.mark.parametrize(
        ("settings", "advice"),
        [
            ({"session_cookie": "__Host-s", "path": "/app"}, "remove domain and path"),
            ({"session_cookie": "__Host-s", "domain": "a.example"}, "remove domain and path"),
            ({"session_cookie": "__host-s", "domain": "a.example"}, "remove domain and path"),
            ({"session_cookie": "__Host-s", "https_only": False}, "remove https_only=False"),
            ({"session_cookie": "__Secure-s", "https_only": False}, "remove https_only=False"),
            ({"same_site": "none", "https_only": False}, "remove https_only=False"),
            ({"same_site": "None", "https_only": False}, "remove https_only=False"),
            ({"partitioned": True, "https_only": False}, "remove https_only=False"),
        ],
        ids=str,
    )
    def test_a_cookie_that_they_would_drop_is_refused(
        self, settings: dict[str, Any], advice: str
    ) -> None:
        """At start-up, with a sentence, for browsers drop it silently."""
        with pytest.raises(ConfigurationError, match=advice):
            Site("memory://", **settings)

    @pytest.mark.parametrize(
        "settings",
        [
            {"session_cookie": "__Host-s"},
            {"session_cookie": "__Secure-s"},
            {"same_site": "none"},
            {"partitioned": True},
        ],
        ids=str,
    )
    def test_what_they_demand_is_implied(
        self, settings: dict[str, Any], make_site: MakeSite
    ) -> None:
        """Secure without being asked for, even on a request by http, behind a silent proxy."""
        issued = attributes(make_site(**settings).browser().visit(put(a=1)).set_cookie)
        assert "secure" in issued
        assert issued["path"] == "/"
        assert "domain" not in issued

    @pytest.mark.parametrize("name", ["__Host-s", "__Secure-s"])
    @pytest.mark.parametrize("https_only", [0, False])
    def test_zero_is_as_false(self, name: str, https_only: Any) -> None:
        """However "no" is written, beside a demand for Secure it is refused."""
        with pytest.raises(ConfigurationError):
            Site("memory://", session_cookie=name, https_only=https_only)


# --- line 22 --------------------------------------------------------------------------------------


def test_where_people_choose_they_read_what_lax_lets_through() -> None:
    """Lax is sent on a link from another site, not on its POST: the settings' page says so."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith("| `same_site`"))
    assert "links from other sites" in row
    assert "not with their forms" in row


# --- line 23: sharing -----------------------------------------------------------------------------


class TestSharing:
    @pytest.mark.parametrize("url", ["memory://", "memory://one"])
    def test_two_middlewares_on_one_memory_url_share_it(self, url: str) -> None:
        """With nobody else holding on to it, and whatever their deadlines are."""
        first, second = Site(url).browser(), Site(url, store_timeout=1.0).browser()
        first.visit(put(a=1))
        second.cookie = first.cookie
        assert second.see() == {"a": 1}

    def test_a_named_memory_is_one_of_its_own(self) -> None:
        """memory://name is shared by those who say that name only."""
        one, other, nameless = (Site(f"memory://{name}").browser() for name in ("a", "b", ""))
        one.visit(put(a=1))
        other.cookie = nameless.cookie = one.cookie
        assert other.see() == nameless.see() == {}

    def test_one_url_is_one_pool_of_connections(self, place: Opened) -> None:
        """Two middlewares of one process do not connect twice."""
        first, second = place.site().middleware, place.site().middleware
        assert first.sessions.stores.sync is second.sessions.stores.sync
        assert first.sessions.stores.asynchronous is second.sessions.stores.asynchronous

    @pytest.mark.parametrize(
        ("other", "meets"),
        [
            ({}, True),
            ({"max_age": 60, "same_site": "strict"}, True),
            ({"secret_key": "another"}, False),
            ({"namespace": "another"}, False),
            ({"session_cookie": "another"}, False),
        ],
        ids=str,
    )
    def test_two_applications_on_one_store_meet_only_if_they_want_to(
        self, other: dict[str, Any], meets: bool, place: Opened
    ) -> None:
        """They do when key, cookie name and namespace are the same."""
        one, two = place.site().browser(), place.site(**other).browser()
        one.visit(put(a=1))
        two.cookie = one.cookie
        assert two.see() == ({"a": 1} if meets else {})
        assert one.see() == {"a": 1}
