"""The middleware: Django's request gives a session, and Django's response is given its headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, parse_cookie
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

from .._core.answers import check_scheme, unavailable
from .._core.cookie import removal
from .._core.exchange import Exchange
from .._core.session import exchange_of, give_exchange
from ..adapter import Sessions, environ_header
from ..exceptions import StoreUnavailable
from ._engine import Engine, engine
from ._session import SessionStore, UnusedRequestStore, serve

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
REFUSED = 500  # of a response from which on Django stores nothing


class SessionMiddleware(DjangosMiddleware):
    """``request.session`` from a store that all servers share, in the place of Django's own.

    Under ASGI an async view has its session loaded and stored without a thread, where the store is
    awaited.

    Raises:
        ConfigurationError: a setting is missing or wrong.
        ImproperlyConfigured: SESSION_ENGINE is another one.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(cast(Any, get_response))  # Any: the stubs know the plain kind
        if not issubclass(self.SessionStore, SessionStore):
            raise ImproperlyConfigured(
                "SESSION_ENGINE must be 'sharedsession.django' with this middleware, got "
                f"{settings.SESSION_ENGINE!r}."
            )
        engine()  # what is wrong with the settings stops the server
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    @property
    def engine(self) -> Engine:
        """What the requests of this process share."""
        return engine()

    # --- what Django calls, and projects override ---

    def process_request(self, request: HttpRequest) -> None:
        """Give the request its session, not loaded yet."""
        known = self.engine
        old = known.old_store
        if old is None:
            request.session = _begin(request, known)
        else:
            request.session = old(request.COOKIES.get(settings.SESSION_COOKIE_NAME))

    def process_response(  # type: ignore[override]  # the stubs know no stream
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Store what the request did, and set what the response has to say."""
        exchange = _to_answer(request)
        if exchange is None:  # of another engine: it is answered as Django does it
            return super().process_response(request, cast(HttpResponse, response))
        instead = self.engine.sessions.run(_respond(exchange, response))
        return _answered(request, response, exchange, instead, self.engine.sessions)

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Answer an outage that a view has met with a 503."""
        return _unavailable(503) if isinstance(exception, StoreUnavailable) else None

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """The same for coroutines, without a thread, except for what a subclass has of its own."""
        early: HttpResponseBase | None = None
        if self._is_overridden("process_request"):
            early = await sync_to_async(cast(Any, self.process_request))(request)
        else:
            self.process_request(request)
        session = getattr(request, "session", None)
        if isinstance(session, SessionStore) and not session.is_alone:
            await self.engine.open(exchange_of(session))
        response: HttpResponseBase = early or await cast(Any, self.get_response)(request)
        if self._is_overridden("process_response"):
            return await sync_to_async(self.process_response)(request, response)
        exchange = _to_answer(request)
        if exchange is None:
            return await sync_to_async(self.process_response)(request, response)
        instead = await self.engine.awaited.run(_respond(exchange, response))
        return _answered(request, response, exchange, instead, self.engine.sessions)

    def _is_overridden(self, name: str) -> bool:
        """Whether a subclass has a method of its own, which may block, as with Django's own."""
        return getattr(type(self), name) is not getattr(SessionMiddleware, name)


def _begin(request: HttpRequest, known: Engine) -> SessionStore:
    cookies = str(request.META.get("HTTP_COOKIE", ""))
    name = known.manager.settings.session_cookie
    seen = request.__dict__.get("COOKIES")  # None: no other middleware has asked for them yet
    put = "" if seen is None else seen.get(name) or ""
    if put not in cookies or (seen is not None and not put and parse_cookie(cookies).get(name)):
        # Another middleware has put it there, or taken it away: that counts, as with Django's own.
        left = [(each, request.COOKIES.get(each)) for each in known.names]
        cookies = "; ".join(f"{each}={value}" for each, value in left if value)
    ours = cookies if any(f"{each}=" in cookies for each in known.names) else None
    session = UnusedRequestStore.__new__(UnusedRequestStore)
    exchange = known.sessions.begin(ours, None, request.META, known.convert, session)
    give_exchange(session, exchange)
    session.__dict__["_engine"] = known
    serve(session)
    return cast(SessionStore, session)


def _to_answer(request: HttpRequest) -> Exchange | None:
    """Return what is to be committed; None, where a session of another engine has the place."""
    session = getattr(request, "session", None)
    return exchange_of(session) if isinstance(session, SessionStore) else None


def _respond(exchange: Exchange, response: HttpResponseBase) -> Any:  # a flow, or None
    failed = response.status_code >= REFUSED and exchange.error is None and not exchange.met_outage
    if failed and not exchange.ends:  # what ended a session Django does at once
        exchange.give_up()
        return None
    told = [(b"set-cookie", each.OutputString().encode()) for each in response.cookies.values()]
    # ``session.modified = True`` is how Django's applications prolong a session, cookie and all.
    wanted = settings.SESSION_SAVE_EVERY_REQUEST or getattr(exchange.session, "is_prolonged", False)
    repeat = bool(wanted) and exchange.load_to_refresh(_always)
    return exchange.respond(response.status_code, told, repeat=repeat)


def _always() -> bool:
    return True


def _answered(
    request: HttpRequest,
    response: HttpResponseBase,
    exchange: Exchange,
    instead: int | None,
    sessions: Sessions,
) -> HttpResponseBase:
    """Return the response with the session's headers, or what is answered in its place."""
    if instead is not None:
        with suppress(Exception):  # of a stream that no client will read
            response.close()
        exchange.over()
        return _unavailable(instead, response)
    if exchange.is_used:
        _dress(request, response, exchange)
    closes = response.close

    def close() -> None:
        """Close the response, then look for what came after the headers."""
        try:
            closes()
            sessions.run(exchange.finish())
        finally:
            exchange.over()

    response.close = close  # type: ignore[method-assign]  # the server calls it when all is sent
    return response


def _dress(request: HttpRequest, response: HttpResponseBase, exchange: Exchange) -> None:
    patch_vary_headers(response, ("Cookie",))
    own = exchange.manager.settings
    for source in exchange.left_behind():
        response.cookies.load(removal(source))
    if exchange.reads_as_empty:
        patch_cache_control(response, no_store=True)
    if exchange.is_distrusted:
        return
    where = {"path": own.path, "domain": own.domain, "samesite": settings.SESSION_COOKIE_SAMESITE}
    if exchange.removed:
        response.delete_cookie(own.session_cookie, **where)
    elif exchange.reply is not None:
        if not request.is_secure():
            check_scheme(
                exchange.manager,
                partial(environ_header, request.META),
                "SECURE_PROXY_SSL_HEADER in Django's settings",
                "set SESSION_COOKIE_SECURE",
            )
        session = cast(SessionStore, exchange.session)
        at_end = session.get_expire_at_browser_close()
        response.set_cookie(
            own.session_cookie,
            exchange.manager.codec.sign(exchange.reply),
            max_age=None if at_end else session.get_expiry_age(),
            secure=request.is_secure() if own.https_only is None else own.https_only,
            httponly=settings.SESSION_COOKIE_HTTPONLY,
            **where,
        )
    else:
        return
    if "private" not in response.get("Cache-Control", ""):
        patch_cache_control(response, no_store=True)


def _unavailable(status: int, said: HttpResponseBase | None = None) -> HttpResponse:
    headers, body = unavailable(status, [] if said is None else said.items())
    return HttpResponse(body, status=status, headers=dict(headers))
