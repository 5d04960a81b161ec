"""The ASGI adapter: a header becomes a cookie string, a decision becomes a header. No rule is here.

A request without a cookie of ours costs one object, the session; everything else is made when the
session is used. The response is held back at its start until the record is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from ._core.exchange import Exchange, Unbegun
from ._core.manager import Manager
from ._core.session import UnusedSession, exchange_of, give_exchange
from ._core.settings import UNSET, NearCache, OnOutage, Unset
from ._core.source import Source
from ._core.state import Progress
from ._doors import advice, misuse
from ._doors.arguments import documented
from ._doors.layers import COUNTS, enter
from ._doors.responses import (
    STARTS,
    ASGIApp,
    Layer,
    Message,
    Receive,
    Response,
    Scope,
    Send,
    Socket,
)
from ._doors.stores import configure
from ._doors.switching import Switch
from .adapter import AsyncSessions
from .exceptions import RETRY_AFTER, UNAVAILABLE, StoreUnavailable
from .stores.base import AsyncStore, Store

__all__ = ["SessionMiddleware"]


@documented
class SessionMiddleware(misuse.KeptForTheLifespan, Layer):
    """Give ``scope["session"]`` to any ASGI application, from a store that all servers share.

    The arguments are those of ``starlette.middleware.sessions.SessionMiddleware``, and more. Each
    of them can also come from the environment, ``SHAREDSESSION_STORE`` and so on.

    Args:
        app: the application.
        {of the cookie}
        {of the sessions}
        scope_key: where in the scope the session is put, default ``"session"``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: there is no such argument, the application is of another kind, or the store is
            none.

    Where a framework makes it while a scope waits, as with ``add_middleware``, it keeps the error:
    the lifespan is answered with it, which stops the server, and every other scope raises it.
    """

    @advice.with_known_arguments({"environ_key": "under ASGI it is scope_key="})
    def __init__(
        self,
        app: ASGIApp,
        secret_key: str | bytes | Sequence[str | bytes] | Unset = UNSET,
        session_cookie: str | Unset = UNSET,
        max_age: float | timedelta | None | Unset = UNSET,
        path: str | Unset = UNSET,
        same_site: Literal["lax", "strict", "none"] | Unset = UNSET,
        https_only: bool | None | Unset = UNSET,
        domain: str | None | Unset = UNSET,
        partitioned: bool | Unset = UNSET,
        *,
        store: str | Store | AsyncStore | Unset = UNSET,
        absolute_timeout: float | timedelta | None | Unset = UNSET,
        namespace: str | Unset = UNSET,
        owner_key: str | Iterable[str] | Unset = UNSET,
        sign_in_names: str | Iterable[str] | Unset = UNSET,
        on_owner_change: Literal["drop", "keep"] | Unset = UNSET,
        store_timeout: float | timedelta | Unset = UNSET,
        on_outage: OnOutage | Unset = UNSET,
        near_cache: bool | NearCache | Mapping[str, float] | None | Unset = UNSET,
        stale_if_error: float | timedelta | Unset = UNSET,
        replica: str | Store | AsyncStore | None | Unset = UNSET,
        adopt: Source | Iterable[Source] | Unset = UNSET,
        switch_at: str | datetime | None = None,
        before: Callable[[ASGIApp], ASGIApp] | None = None,
        scope_key: str = "session",
    ) -> None:
        given = dict(locals())
        self.app = app
        self.scope_key = scope_key
        misuse.require_asgi(app)
        settings = configure(given)
        # Bound once, not for each request.
        self.sessions = sessions = AsyncSessions(settings)
        self.manager, self.run = sessions.manager, sessions.run
        self._needle, *self._others = [f"{name}=".encode() for name in settings.cookie_names]
        self._before = Switch.of(app, switch_at, before)
        self._counts = sessions.live_counts(scope_key)
        self._verbs = {kind: sessions.verbs(meets) for kind, meets in _MEETS.items()}
        self._unused = {step: Unbegun(self._begin, step) for step in Progress}

    @property
    def counts(self) -> dict[str, int]:
        """How often each event happened in this process: created, renewed, gone, outage, ….

        Applications find the same, as a mapping, in ``scope["sharedsession.counts"]``.
        """
        return dict(self._counts)

    def manager_of(self, app: object) -> Manager:
        """Return what tests need to know of it: see `_doors.found`."""
        return self.manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            app = self.app if self._before is None else self._before.app  # the old layer starts too
            await app(scope, receive, send)
            return
        if self._before is not None and self._before.is_ahead(self.manager.clock()):
            await self._before.app(scope, receive, send)
            return
        key, theirs = self.scope_key, None
        if COUNTS in scope:
            shared = enter(scope, self._counts, scope[COUNTS])
            if shared is not None:
                scope[key] = shared
                await self.app(scope, receive, send)
                return
        scope[COUNTS] = self._counts
        if key in scope:
            theirs = scope[key]
            send = _showing(theirs, scope, key, send)
        needle, others, sent = self._needle, self._others, None
        for name, value in scope["headers"]:
            if name == b"cookie" and (needle in value or any(each in value for each in others)):
                sent = [*(sent or ()), value.decode("latin-1")]
        if sent is None and theirs is None and kind == "http":
            await self._serve_new(scope, receive, send)
            return
        cookies = self.manager.read(sent) if sent else ()
        foreign = self.manager.recognise(sent) if sent else ()
        exchange = Exchange(self.manager, cookies, self._verbs[kind], foreign=foreign)
        if cookies or foreign:
            await self.sessions.load(exchange, scope, _MEETS[kind])
        scope[key] = exchange.session
        response = (Response if kind == "http" else Socket)(self, scope, exchange, send, theirs)
        try:
            await response.serve(receive)
        finally:
            exchange.over()
            if theirs is not None:  # the layer around looks there again, for what came late
                scope[key] = theirs

    async def _serve_new(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request without a cookie, which most often uses no session."""
        session, key = UnusedSession(), self.scope_key
        give_exchange(session, self._unused[Progress.OPEN])
        scope[key] = session
        response: Response | None = None

        def respond() -> Response:
            return Response(self, scope, exchange_of(session).begun(session), send)

        # A coroutine function, which asgiref demands of it.
        async def sending(message: Message) -> None:
            nonlocal response
            if response is None:
                if type(exchange_of(session)) is Unbegun and scope.get(key) is session:
                    if message["type"] == "http.response.start":
                        give_exchange(session, self._unused[Progress.ANSWERED])
                    await send(message)
                    return
                response = respond()
            await response.send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if not await (response or respond()).excuse(error):
                raise
        else:
            if type(exchange_of(session)) is not Unbegun or scope.get(key) is not session:
                await (response or respond()).finish()
        finally:
            exchange = exchange_of(session)
            if type(exchange) is Unbegun:
                give_exchange(session, self._unused[Progress.OVER])
            else:
                exchange.over()

    def _begin(self, session: UnusedSession) -> Exchange:
        return Exchange(self.manager, (), self._verbs["http"], session=session)


# --- outages --------------------------------------------------------------------------------------


def _let_starlette_answer(outage: StoreUnavailable) -> None:
    """Make an outage Starlette's own exception as well, where Starlette is in use.

    It is answered inside the application then, so that middlewares in there see the 503, the one
    for CORS above all: a browser shows a script of another origin no answer without its headers.
    """
    known = type(outage)
    if known not in _ANSWERED and "starlette.exceptions" in sys.modules:
        from starlette.exceptions import HTTPException

        names = {
            "__module__": known.__module__,
            "__qualname__": known.__qualname__,
            "status_code": 503,
            "detail": UNAVAILABLE,
        }
        kind = type(known.__name__, (known, HTTPException), names)
        _ANSWERED[known] = _ANSWERED[kind] = kind
    if known in _ANSWERED:
        outage.__class__ = _ANSWERED[known]
        # Of this answer alone: an application's handler may add to them.
        headers = {"Retry-After": str(RETRY_AFTER), "Cache-Control": "no-store"}
        outage.headers = headers  # type: ignore[attr-defined]  # Starlette's


_ANSWERED: dict[type[StoreUnavailable], type[StoreUnavailable]] = {}
_MEETS = {"http": _let_starlette_answer, "websocket": None}  # by the kind of a scope


# --- other layers ---------------------------------------------------------------------------------


def _showing(theirs: object, scope: Scope, key: str, send: Send) -> Send:
    """Show a middleware around this one its own session again while a response starts.

    Most look into the scope at that moment, for what to put into their cookie.
    """

    async def sending(message: Message) -> None:
        if message["type"] not in STARTS:
            await send(message)
            return
        ours, scope[key] = scope.get(key), theirs
        try:
            await send(message)
        finally:
            scope[key] = ours

    return sending
