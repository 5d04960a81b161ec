"""What Litestar adds to a session: models, its serializer, its test clients and commands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from litestar.datastructures import MutableScopeHeaders
from litestar.exceptions import SerializationException
from litestar.middleware.session.base import SessionMiddleware
from litestar.middleware.session.server_side import ServerSideSessionBackend
from litestar.serialization import decode_json, encode_json
from litestar.types import Empty
from litestar.utils import get_serializer_from_scope
from litestar.utils.scope.state import ScopeState

from .._core.exchange import Exchange
from .._core.outside import ending
from .._core.session import Session, exchange_of
from .responses import STARTS, Message, Receive, Scope, Send, raising_outages

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection

NEXT = "sharedsession.next"  # where in a scope the application behind the middleware is
FAILED = 4500  # the code with which Litestar closes a WebSocket whose handler raised


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
        if exchange.ended:  # the client's jar keeps the cookie of a session that a test has emptied
            exchange = await sessions.begin(None, convert=convert)
        exchange.replaced_by(_as_dict(scope_session, convert))
        https = scope["scheme"] == "https"
        for name, value in await sessions.commit(exchange.session, [], https=https):
            MutableScopeHeaders.from_message(message).add(name, value)
        await sessions.finish(exchange.session)


class LitestarMiddleware(SessionMiddleware[SharedSessionBackend]):
    """One for each route; what is around them all is one layer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope[NEXT] = self.app
        await self.backend.config.layer(scope, receive, send)


async def with_models(scope: Scope, receive: Receive, send: Send) -> None:
    """Call the application, with what Litestar's own sessions take beside a dict of plain data."""
    app, session = scope.pop(NEXT), scope.get("session")
    if not isinstance(session, Session):  # that of the old layer, until the switch
        await app(scope, receive, send)
        return
    exchange: Exchange = exchange_of(session).begun(session)
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

    try:
        await raising_outages(app, "session", FAILED)(scope, receiving, sending)
    finally:  # what was put there behind the start of the response
        current = scope.get("session")
        if current is not session:
            scope["session"] = _as_dict(current, convert)


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
