"""Outside of a request: sessions are read, changed and ended by their handles."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sharedsession import (
    AsyncSessionManager,
    LateChange,
    NotSerializable,
    Session,
    SessionGone,
    SessionManager,
    StoreUnavailable,
)
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    Application,
    Browser,
    Gate,
    destroy,
    handle,
    held,
    increment,
    put,
    read,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place


class Awaited:
    """An `AsyncSessionManager`, each call on a loop of its own."""

    def __init__(self, **settings: Any) -> None:
        self._manager = AsyncSessionManager(**settings)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            return await getattr(self._manager, name)(*arguments)

        return lambda *arguments: asyncio.run(call(*arguments))


@pytest.fixture(params=[SessionManager, Awaited])
def manager(request: pytest.FixtureRequest, place: Place) -> Any:
    """The plain one, and the awaited one on the same kind of store."""
    return request.param(store=place.open(asynchronous=False), store_timeout=10)


@pytest.fixture
def known(servers: Servers, browser: Browser) -> str:
    """The handle of a signed-in session, as an application keeps it."""
    (server,) = servers(1)
    server.request(browser, sign_in("ada"))
    server.request(browser, put(role="user", cart=["tea"]))
    found: str = server.request(browser, handle).value
    return found


def grant(session: Session) -> str:
    session["role"] = "admin"
    session["cart"].append("cake")
    return f"was {session['user_id']}"


def test_a_worker_changes_a_session(
    servers: Servers, browser: Browser, manager: Any, known: str
) -> None:
    """What it writes is read by the next request, changes inside values too; the user stays signed
    in, under the same ID, and the function's result is the caller's."""
    (server,) = servers(1)
    cookie = browser.cookie
    assert manager.modify(known, grant) == "was ada"
    found = server.request(browser, read).value
    assert (found["role"], found["cart"]) == ("admin", ["tea", "cake"])
    assert browser.cookie == cookie
    assert manager.read(known) == found


def test_what_is_read_is_a_copy(manager: Any, known: str) -> None:
    """To change it changes nothing."""
    manager.read(known)["cart"].clear()
    assert manager.read(known)["cart"] == ["tea"]


def test_no_write_is_lost_beside_a_request(
    servers: Servers, browser: Browser, manager: Any, known: str
) -> None:
    """A request that was under way merges over it, and increments of both add up."""
    (server,) = servers(1)
    gate = Gate()
    slow = server.begin(browser.copy(), held(gate, put(page=1)))
    gate.wait_for()
    manager.modify(known, grant)
    gate.open()
    slow.answer()
    threads = [threading.Thread(target=manager.modify, args=(known, increment)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        server.request(browser.copy(), lambda session: session.mutate(increment))
    for thread in threads:
        thread.join()
    found = manager.read(known)
    assert (found["role"], found["page"], found["n"]) == ("admin", 1, 8)


def test_an_administrator_ends_a_session(
    servers: Servers, browser: Browser, manager: Any, known: str
) -> None:
    """Gone is gone: for the user, for a request in flight, and for a second end."""
    (server,) = servers(1)
    gate = Gate()
    slow = server.begin(browser.copy(), held(gate, put(a=1)))
    gate.wait_for()
    assert manager.end(known) is True
    gate.open()
    slow.answer()
    assert server.request(browser, read).value == {}
    assert manager.end(known) is False
    assert manager.read(known) is None


def test_an_end_reaches_a_session_that_was_renewed(
    servers: Servers, browser: Browser, manager: Any, known: str
) -> None:
    """By the handle of before; but nothing is read of the new one, and nothing written to it."""
    (server,) = servers(1)
    server.request(browser, lambda session: session.renew())
    assert manager.read(known) is None
    with pytest.raises(SessionGone):
        manager.modify(known, grant)
    assert manager.end(known) is True
    assert server.request(browser, read).value == {}


@pytest.mark.parametrize(
    "change", [sign_in("bob"), sign_out, lambda session: session.renew(), put(username="eve")]
)
def test_nothing_here_makes_a_new_id(
    servers: Servers, browser: Browser, manager: Any, known: str, change: Application
) -> None:
    """A change of owner or a renewal is a LateChange, and the session stays as it was."""
    before = manager.read(known)
    with pytest.raises(LateChange, match="by its handle"):
        manager.modify(known, change)
    assert manager.read(known) == before


def test_a_function_may_end_it(
    servers: Servers, browser: Browser, manager: Any, known: str
) -> None:
    """destroy() inside of it is an end."""
    (server,) = servers(1)
    manager.modify(known, destroy)
    assert server.request(browser, read).value == {}


@pytest.mark.parametrize("handle", ["", "no handle", "x" * 43, "x" * 44, "ä" * 43, "x" * 42 + " "])
def test_what_is_no_handle_is_no_session(manager: Any, handle: str) -> None:
    """Whatever it is: absent, and the caller is told so."""
    assert manager.read(handle) is None
    assert manager.end(handle) is False
    with pytest.raises(SessionGone):
        manager.modify(handle, grant)


def test_what_a_function_raises_is_the_callers(manager: Any, known: str) -> None:
    """Nothing is stored then; an async function and a value that cannot be stored are refused."""
    before = manager.read(known)

    def fails(session: Session) -> None:
        session["role"] = "admin"
        raise KeyError("x")

    async def later(session: Session) -> None: ...

    with pytest.raises(KeyError):
        manager.modify(known, fails)
    with pytest.raises(TypeError, match="plain function"):
        manager.modify(known, later)
    with pytest.raises(NotSerializable):
        manager.modify(known, put(a=object()))
    assert manager.read(known) == before


def test_an_outage_is_an_outage(place: Place, manager: Any, known: str) -> None:
    """Never an absence."""
    place.fail("load", times=3)
    with pytest.raises(StoreUnavailable):
        manager.read(known)
    with pytest.raises(StoreUnavailable):
        manager.modify(known, grant)
    with pytest.raises(StoreUnavailable):
        manager.end(known)
    assert manager.read(known)["role"] == "user"


def test_the_applications_clocks_count_here_as_well(place: Place, known: str) -> None:
    """With its absolute timeout a session is gone here when it is gone there."""
    strict = SessionManager(store=place.open(asynchronous=False), absolute_timeout=60)
    strict._sessions.manager.clock = place.clock
    assert strict.read(known) is not None
    place.advance(61)
    assert strict.read(known) is None
    assert SessionManager(store=place.open(asynchronous=False)).read(known) is not None
