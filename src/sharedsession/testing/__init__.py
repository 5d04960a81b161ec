"""What tests of applications use: a client that is signed in, its session, a store that fails.

`stores` is the contract of a store as tests; the fixtures for pytest are in `pytest_sharedsession`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from .._core.manager import Manager, Process
from .._core.session import Session
from ..adapter import Sessions
from ..exceptions import ConfigurationError
from ._clients import Cookies, cookies_of, force_login, is_djangos
from ._clock import Clock
from ._store import FailingStore

__all__ = ["Clock", "FailingStore", "session_of", "signed_in"]

Client = TypeVar("Client")


def signed_in(
    client: Client,
    user_id: Any = 7,  # Any: whatever a session can hold
    *,
    cookie: str | None = None,
    **data: Any,  # Any: the same
) -> Client:
    """Sign a test client in: a real session in the application's own store, and its cookie.

    Args:
        client: of Starlette, FastAPI, httpx, Flask, Werkzeug, Django, Litestar or Quart.
        user_id: whose session it is, under the first name of the setting ``owner_key``; default 7.
            For Django a user or its primary key, who is signed in by ``client.force_login``.
            None sets no owner: for data of a visitor, or an owner under another name.
        cookie: the name of the session cookie, needed where the application has several.
        data: what else is put into the session. What is in it already stays, as at any sign-in.

    Returns:
        The same client.

    Raises:
        ConfigurationError: the application has no sessions of this package, or several; or the
            client would not send the cookie, which is Secure or for another host.
        NotSerializable: a session cannot hold a value.
        StoreUnavailable: the store does not answer.
        TypeError: the client is of another kind.
    """
    if user_id is not None and is_djangos(client):
        force_login(client, user_id)
        user_id = None
    with _opened(client, cookie) as (session, manager):
        if user_id is not None:
            session[manager.settings.owner_key[0]] = user_id
        session.update(data)
    return client


@contextmanager
def session_of(client: object, *, cookie: str | None = None) -> Iterator[Session]:
    """Open the session of a test client, as the store has it, in a ``with`` statement.

    What is changed inside is committed at the end, as by a request, and the client takes the cookie
    that its next request needs. Nothing is stored where the block raises. The same ``with``, and
    nothing to await, for a client whose requests are awaited.

    Args:
        client: as for `signed_in`.
        cookie: the name of the session cookie, needed where the application has several.

    Raises:
        ConfigurationError: as for `signed_in`.
        NotSerializable: a session cannot hold a value.
        StoreUnavailable: the store does not answer.
        TypeError: the client is of another kind.
    """
    with _opened(client, cookie) as (session, _):
        yield session


@contextmanager
def _opened(client: object, cookie: str | None) -> Iterator[tuple[Session, Manager]]:
    with cookies_of(client) as cookies:
        sessions = _sessions_like(_chosen(cookies.managers(), client, cookie))
    settings = sessions.manager.settings
    session = sessions.open(cookies.shown(settings))
    try:
        yield session, sessions.manager
        https = cookies.url.startswith("https")
        headers = sessions.commit(session, [], https=https)
    finally:
        sessions.finish(session)
    answered = [value for name, value in headers if name.lower() == "set-cookie"]
    cookies.take(settings, answered)
    for each in answered:
        _require_shown(each, cookies, sessions.manager)


def _chosen(managers: list[Manager], client: object, cookie: str | None) -> Manager:
    """Return the one whose sessions are meant."""
    names = [each.settings.session_cookie for each in managers]
    fitting = [each for each in managers if cookie in (None, each.settings.session_cookie)]
    match fitting:
        case [one]:
            return one
        case [] if not managers:
            raise ConfigurationError(
                f"The application of this {type(client).__name__} must have a session middleware "
                "of sharedsession, and none was found: add it, or give the client the application "
                "as the server has it. A layer around the middleware is looked through where it "
                "holds what is inside of it as .app."
            )
        case []:
            raise ConfigurationError(
                f"cookie= must be the name of one of the session cookies, {names}, got {cookie!r}."
            )
    raise ConfigurationError(
        "The application must have one session middleware, or cookie= must say which is meant, and "
        f"there are several: pass cookie= with one of {names}, each of which must be different."
    )


def _sessions_like(manager: Manager) -> Sessions:
    """Return the sessions of an application as plain functions, straight from its store.

    No event loop is involved: the store of a URL has plain functions as well. Copies in this
    process are passed by, an outage is always an error, and the application's backoff is not told.
    """
    settings = replace(
        manager.settings, near_cache=None, replica=None, stale_if_error=0.0, on_outage="error"
    )
    if iscoroutinefunction(getattr(settings.store, "load", None)):
        raise ConfigurationError(
            "signed_in and session_of need a store with plain functions, and the application was "
            f"given an awaited one, {type(settings.store).__name__}: give it a URL, which stands "
            "for both, or in tests the store of the fixture session_store."
        )
    sessions = Sessions(settings)
    sessions.manager = Manager(settings, process=Process(manager.clock, manager.process.lag))
    return sessions


def _require_shown(answered: str, cookies: Cookies, manager: Manager) -> None:
    """Raise where a client would not send the cookie that it was just given."""
    given = answered.partition(";")[0]
    is_removal = manager.codec.verify(given.partition("=")[2]) is None
    if is_removal or given in (cookies.shown(manager.settings) or ""):
        return
    raise ConfigurationError(
        f"The client must send the session cookie to {cookies.url}, and would not: its attributes "
        f"are '{answered.partition('; ')[2]}'. Make the client with a base URL that fits, https:// "
        "for a Secure cookie, and the host of its domain."
    )
