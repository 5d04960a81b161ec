"""The fixtures: a store that fails on demand, time that a test moves, and the plugin itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

import pytest_sharedsession
from sharedsession import StoreUnavailable
from sharedsession.asgi import SessionMiddleware
from sharedsession.fastapi import require_session
from sharedsession.testing import Clock, FailingStore, signed_in
from tests.testing.sites import SECRET, SITES, Site, starlette

DAY = 86_400
DOORS = {name: SITES[name] for name in ("Starlette", "httpx, ASGI", "httpx, WSGI", "Flask")}


@pytest.fixture(params=DOORS.values(), ids=DOORS.keys())
def site(request: pytest.FixtureRequest) -> Site:
    return request.param


# --- time -----------------------------------------------------------------------------------------


def test_an_idle_session_ends_when_the_clock_says_so(
    site: Site, session_store: FailingStore, session_clock: Clock
) -> None:
    """At the end of its idle timeout, and not a second before."""
    first, second = (
        signed_in(site.signed_out(store=session_store, max_age=3600)) for _ in range(2)
    )

    session_clock.advance(3599)
    assert site.get(first, "/private")[0] == 200
    session_clock.advance(1)
    assert site.get(second, "/private")[0] == 401


def test_a_session_in_use_goes_on(
    site: Site, session_store: FailingStore, session_clock: Clock
) -> None:
    """Each day a request touches it, for longer than it could be idle."""
    client = signed_in(site.signed_out(store=session_store))

    for _ in range(40):
        session_clock.advance(DAY)
        assert site.get(client, "/private")[0] == 200


def test_the_absolute_timeout_follows_the_clock(
    site: Site, session_store: FailingStore, session_clock: Clock
) -> None:
    """It ends a session that is in use."""
    client = signed_in(site.signed_out(store=session_store, absolute_timeout=3600))

    session_clock.advance(1800)
    assert site.get(client, "/private")[0] == 200
    session_clock.advance(1801)
    assert site.get(client, "/private")[0] == 401


def test_copies_follow_the_clock(session_store: FailingStore, session_clock: Clock) -> None:
    """A copy in the process lives no longer than its session."""
    client = signed_in(TestClient(starlette(store=session_store, near_cache=True, max_age=60)))
    assert client.get("/private").status_code == 200

    session_clock.advance(61)

    assert client.get("/private").status_code == 401


def test_a_recent_sign_in_is_one_by_the_clock(
    session_store: FailingStore, session_clock: Clock
) -> None:
    """FastAPI's dependency on it asks the same clock."""
    app = FastAPI(dependencies=[Depends(require_session(owner=True, authenticated_within=300))])
    app.get("/")(lambda: "here")
    app.add_middleware(SessionMiddleware, secret_key=SECRET, store=session_store)
    client = signed_in(TestClient(app))

    session_clock.advance(299)
    assert client.get("/").status_code == 200
    session_clock.advance(2)
    assert client.get("/").status_code == 401


def test_the_clock_begins_at_the_present(session_clock: Clock) -> None:
    """So that it agrees with what an application asks the system."""
    assert abs(session_clock() - time.time()) < 60


def test_a_clock_of_its_own_is_still_the_middlewares(session_store: FailingStore) -> None:
    """What is set afterwards counts, as before."""
    middleware = SessionMiddleware(starlette(store=session_store), "x", store=session_store)
    other = Clock(0.0)

    middleware.manager.clock = other

    assert middleware.manager.clock is other


# --- outages --------------------------------------------------------------------------------------


def test_during_an_outage_an_application_answers_503(
    site: Site, session_store: FailingStore
) -> None:
    """And nothing is lost by it."""
    client = signed_in(site.signed_out(store=session_store))

    with session_store.outage():
        assert status_of(site, client) == 503

    assert site.get(client, "/private") == (200, {"user_id": 7})


def test_as_many_calls_fail_as_are_told_to(site: Site, session_store: FailingStore) -> None:
    """The request after them is served."""
    client = signed_in(site.signed_out(store=session_store))

    session_store.fail_next(2)

    assert [status_of(site, client) for _ in range(3)] == [503, 503, 200]


def test_a_write_alone_can_fail(site: Site, session_store: FailingStore) -> None:
    """A new session is created by one call: a sign-in that is not stored is not confirmed."""
    client = site.signed_out(store=session_store)

    session_store.fail_next()

    assert status_of(site, client, "/sign-in") == 503
    assert site.get(client, "/private")[0] == 401


def test_every_verb_fails(session_store: FailingStore) -> None:
    """Each of the five, within the block, and none after it."""
    entry = session_store.create("key", b"data", 60)
    verbs = [
        lambda: session_store.load("key"),
        lambda: session_store.create("other", b"data", 60),
        lambda: session_store.replace("key", entry, b"new", 60),
        lambda: session_store.touch("key", 60),
        lambda: session_store.delete("key"),
    ]

    with session_store.outage():
        for verb in verbs:
            with pytest.raises(StoreUnavailable):
                verb()

    assert all(verb() for verb in verbs)


def test_an_outage_ends_where_the_block_raises(session_store: FailingStore) -> None:
    """So that the next lines of a test meet a store that works."""
    with pytest.raises(LookupError), session_store.outage():
        raise LookupError

    assert session_store.load("key") is None


def status_of(site: Site, client: object, path: str = "/private") -> int:
    try:
        return site.get(client, path)[0]
    except ValueError:  # the answer to an outage is no JSON
        return 503


# --- the plugin -----------------------------------------------------------------------------------

FACTORY = """
import secrets, sys

def test_nothing_is_loaded_before_a_fixture_is_used():
    assert not [name for name in sys.modules if name.partition(".")[0] == "sharedsession"]

def create_app(store="redis://production"):
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from sharedsession.asgi import SessionMiddleware

    async def show(request):
        return JSONResponse(request.session)

    app = Starlette(routes=[Route("/", show)])
    app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex(32), store=store)
    return app

def test_the_fixtures_are_there(session_store, session_clock):
    from sharedsession.testing import signed_in
    from starlette.testclient import TestClient

    client = signed_in(TestClient(create_app(store=session_store)))
    assert client.get("/").json() == {"user_id": 7}
    session_clock.advance(15 * 86_400)
    assert client.get("/").json() == {}

def test_each_test_has_a_store_of_its_own(session_store, session_clock):
    assert session_store.clock is session_clock
    assert session_store.sweep(100) == 0
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    (folder / "test_application.py").write_text(FACTORY)
    own = str(Path(pytest_sharedsession.__file__).parent)
    environment = {**os.environ, "PYTHONPATH": own}
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-p", "pytest_sharedsession", *arguments, "test_application.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout


def test_the_plugin_gives_fixtures_to_application_factories(tmp_path: Path) -> None:
    """And loads nothing of the package until one of them is used."""
    assert "3 passed" in run_pytest(tmp_path)


def test_the_fixtures_are_listed_with_what_they_do(tmp_path: Path) -> None:
    """By ``pytest --fixtures``."""
    shown = run_pytest(tmp_path, "--fixtures")

    assert "session_clock" in shown
    assert "A store in memory" in shown
