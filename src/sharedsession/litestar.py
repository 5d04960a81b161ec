"""The Litestar adapter: a session backend, in a store that all servers share.

What is around the application is the ASGI middleware, once for each configuration; here stands what
Litestar itself adds to a session: models, its own serializer, and its test clients and commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ._core.extras import missing

try:
    from litestar.datastructures import MutableScopeHeaders
except ModuleNotFoundError as error:
    raise missing(error, "litestar", "litestar") from error
from litestar.enums import ScopeType
from litestar.exceptions import SerializationException
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig, SessionMiddleware
from litestar.middleware.session.server_side import ServerSideSessionBackend
from litestar.serialization import decode_json, encode_json
from litestar.types import Empty
from litestar.utils import get_serializer_from_scope
from litestar.utils.scope.state import ScopeState

from . import asgi
from ._core.exchange import Exchange
from ._core.outside import ending
from ._core.session import exchange_of
from ._core.settings import UNSET, NearCache, OnOutage, Unset
from ._core.source import Source
from ._doors import advice
from ._doors.arguments import documented
from ._doors.responses import STARTS, ASGIApp, Message, Receive, Scope, Send, raising_outages
from .stores.base import AsyncStore, Store

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection
    from litestar.types import Scopes

__all__ = ["SharedSessionConfig"]

NEXT = "sharedsession.next"  # where in a scope the application behind the middleware is
FAILED = 4500  # the code with which Litestar closes a WebSocket whose handler raised
ELSEWHERE = {
    "session_cookie": "under Litestar it is key=",
    "https_only": "under Litestar it is secure=",
    "same_site": "under Litestar it is samesite=",
    "secret": "write secret_key=",
    "httponly": "cookies always are: leave it out",
    "session_id_bytes": "an ID always has 32: leave it out",
    "renew_on_access": "sessions in use are always renewed: leave it out",
}


class SharedSessionBackend(ServerSideSessionBackend):
    """What Litestar's test clients and commands ask: they know a session by its handle."""

    config: Any  # a `SharedSessionConfig`, which is no dataclass as Litestar's own are

    async def delete(self, session_id: str, store: object) -> None:
        sessions = self.config.layer.sessions
        await sessions.run(ending(Exchange(sessions.manager), session_id))

    def get_session_id(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Any:
        return connection.get_session_id()

    async def load_from_connection(
        self, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> dict[str, Any]:
        return dict(await self.config.layer.sessions.open(_cookies_of(connection)))

    async def store_in_message(
        self, scope_session: Any, message: Any, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> None:
        sessions, scope = self.config.layer.sessions, connection.scope
        convert = partial(_as_stored, {**scope})
        exchange = await sessions.begin(_cookies_of(connection), convert=convert)
        exchange.replaced_by(_as_dict(scope_session, convert))
        https = scope["scheme"] == "https"
        for name, value in await sessions.commit(exchange.session, [], https=https):
            MutableScopeHeaders.from_message(message).add(name, value)
        await sessions.finish(exchange.session)


class _Middleware(SessionMiddleware[SharedSessionBackend]):
    """One for each route; what is around them all is one layer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope[NEXT] = self.app
        await self.backend.config.layer(scope, receive, send)


@documented
class SharedSessionConfig(BaseBackendConfig[SharedSessionBackend]):
    """Litestar's ``request.session`` in a store that all servers share.

    Used as Litestar's own: ``middleware=[config.middleware]``, `SessionAuth`, `FlashPlugin`, and
    ``TestClient(app, session_config=config)``. Each argument can also come from the environment,
    ``SHAREDSESSION_STORE`` and so on.

    Args:
        secret_key: what signs the cookies; one key or a list, newest first: the first signs, all
            verify.
        key: the cookie's name, default ``"session"``.
        max_age: the idle timeout in seconds or a timedelta, default 14 days.
        path, domain, samesite, partitioned: attributes of the cookie; defaults ``"/"``, none,
            ``"lax"``, False.
        secure: None (default) sets Secure on requests that came by https; True always; False never.
        {of the sessions}
        scopes: those with a session, default HTTP and WebSocket.
        exclude: a pattern, or several, of paths without a session; default none.
        exclude_opt_key: a route's option that leaves it without one, default ``"skip_session"``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: there is no such argument, or the store is none.
    """

    _backend_class = SharedSessionBackend
    httponly = True

    @advice.with_known_arguments(ELSEWHERE)
    def __init__(
        self,
        secret_key: str | bytes | list[str | bytes] | Unset = UNSET,
        *,
        key: str | Unset = UNSET,
        max_age: float | timedelta | None | Unset = UNSET,
        path: str | Unset = UNSET,
        domain: str | None | Unset = UNSET,
        samesite: Literal["lax", "strict", "none"] | Unset = UNSET,
        partitioned: bool | Unset = UNSET,
        secure: bool | None | Unset = UNSET,
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
        scopes: Scopes = {ScopeType.HTTP, ScopeType.WEBSOCKET},  # noqa: B006 - as Litestar has it
        exclude: str | list[str] | None = None,
        exclude_opt_key: str = "skip_session",
    ) -> None:
        given = dict(locals())
        ours = {name: given[name] for name in given if name not in _LITESTARS}
        self.layer = asgi.SessionMiddleware(
            _with_models, session_cookie=key, https_only=secure, same_site=samesite, **ours
        )
        settings = self.layer.manager.settings
        self.key, self.path, self.domain = (
            settings.session_cookie,
            settings.path,
            settings.domain,
        )
        self.max_age, self.samesite = settings.max_age or settings.idle_timeout, settings.same_site
        self.secure = bool(settings.https_only)
        self.scopes, self.exclude, self.exclude_opt_key = scopes, exclude, exclude_opt_key

    @property
    def middleware(self) -> DefineMiddleware:
        """What ``middleware=[…]`` of an application, or of one of its layers, takes."""
        backend = SharedSessionBackend(config=self)  # type: ignore[arg-type]  # as `config` says above
        return DefineMiddleware(_Middleware, backend=backend)

    def get_store_from_app(self, app: object) -> Store | AsyncStore | None:
        """Return the store of the sessions, which is none of Litestar's registry."""
        stores = self.layer.sessions.stores
        return stores.sync or stores.asynchronous


_LITESTARS = ("self", "key", "samesite", "secure", "scopes", "exclude", "exclude_opt_key")


async def _with_models(scope: Scope, receive: Receive, send: Send) -> None:
    """Call the application, with what Litestar's own sessions take beside a dict of plain data."""
    app, session = scope.pop(NEXT), scope["session"]
    exchange = exchange_of(session).begun(session)
    # No scope in it, which holds the session.
    convert = partial(_as_stored, {name: scope[name] for name in ("route_handler", "litestar_app")})
    exchange.convert = convert
    ScopeState.from_scope(scope).session_id = exchange.handle or exchange.plan()  # type: ignore[arg-type]

    left = False  # the client of a WebSocket has

    async def receiving() -> Message:
        nonlocal left
        message = await receive()
        left |= message["type"] == "websocket.disconnect"
        return message

    async def sending(message: Message) -> None:
        current = scope.get("session")
        if message["type"] in STARTS and current is not session:
            scope["session"] = _as_dict(current, convert)
        if message["type"] == "websocket.close" and message.get("code") == FAILED and not left:
            exchange.give_up()  # of a handler that failed nothing more is stored
        await send(message)

    await raising_outages(app, "session", FAILED)(scope, receiving, sending)


def _as_dict(session: Any, convert: Callable[[Any], Any]) -> Any:
    """Return the data of a model that was put in the session's place; anything else as it is."""
    plain = session is Empty or session is None or isinstance(session, dict)
    return session if plain else convert(session)


def _as_stored(scope: Any, value: object) -> Any:
    """Return what Litestar's own session would give back."""
    try:
        return decode_json(encode_json(value, get_serializer_from_scope(scope)))
    except SerializationException as error:
        raise TypeError(str(error)) from error


def _cookies_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    return "; ".join(f"{name}={value}" for name, value in connection.cookies.items()) or None
