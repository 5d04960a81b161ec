"""Sessions as FastAPI's dependencies, on top of `sharedsession.asgi.SessionMiddleware`.

HTTP and WebSocket routes have them alike. Asking for the session is a use of it, as
``request.session`` is: the response says ``Vary: Cookie``.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of these callables.

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, TypeVar

try:
    from fastapi import Depends, HTTPException, WebSocketException
    from fastapi.openapi.models import APIKey, APIKeyIn
    from fastapi.requests import HTTPConnection
    from fastapi.security.base import SecurityBase
except ModuleNotFoundError as error:
    from ._core.extras import missing

    raise missing(error, "fastapi", "fastapi") from None

from ._core.admission import Reason, reason_to_refuse, seconds_within, session_in
from ._core.session import Session
from ._doors.addresses import asks_for_page, local_path, with_next
from .typed import OnMismatch, TypedSession

__all__ = ["SessionDep", "TypedSession", "local_path", "require_session", "typed_session"]

Model = TypeVar("Model")
POLICY_VIOLATION = 1008  # WebSocket close code (RFC 6455)
IN_OPENAPI = (
    "The session's cookie. Sign in by the application's own operation: the browser keeps the "
    "cookie, and there is nothing to enter here."
)


async def _current_session(connection: HTTPConnection) -> Session:
    return session_in(connection.scope, "session")


SessionDep = Annotated[Session, Depends(_current_session)]
"""The request's session, as the annotation of an argument: ``session: SessionDep``."""


@dataclass(eq=False, slots=True)
class _Required(SecurityBase):
    """What `require_session` returns; FastAPI asks it for its ``model`` and ``scheme_name``."""

    model: APIKey
    scheme_name: str
    owner: bool
    within: int | None
    allow: Callable[[Session], bool] | None
    redirect_to: str | None
    scope_key: str

    async def __call__(self, connection: HTTPConnection) -> Session:
        session = session_in(connection.scope, self.scope_key)
        reason = reason_to_refuse(session, owner=self.owner, within=self.within, allow=self.allow)
        if reason is not None:
            raise self._refusal(connection, reason)
        return session

    def _refusal(self, connection: HTTPConnection, reason: Reason) -> Exception:
        scope = connection.scope
        if scope["type"] == "websocket":
            return WebSocketException(POLICY_VIOLATION, reason)
        if reason == "forbidden":
            return HTTPException(403, {"reason": reason})
        if self.redirect_to and asks_for_page(scope["method"], connection.headers.get):
            target = with_next(self.redirect_to, scope["path"], scope["query_string"])
            if target is not None:
                return HTTPException(303, {"reason": reason}, {"Location": target})
        challenge = f'APIKey reason="{reason}"'
        if reason == "stale":
            challenge += f', max_age="{self.within}"'
        return HTTPException(401, {"reason": reason}, {"WWW-Authenticate": challenge})


def require_session(
    *,
    owner: bool = True,
    authenticated_within: float | timedelta | None = None,
    allow: Callable[[Session], bool] | None = None,
    redirect_to: str | None = None,
    session_cookie: str = "session",
    scope_key: str = "session",
    scheme_name: str = "Session",
) -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Return a dependency that lets a request in only with such a session, and gives it that.

    For ``Annotated[Session, Depends(require_session())]``, and for ``dependencies=[…]`` of a route,
    a router or the application. In OpenAPI it is a security scheme, an API key in a cookie.

    It answers 401 where to sign in is the remedy, with the reason in the body and in
    ``WWW-Authenticate``: ``missing`` (no cookie of ours, or no user is signed in: by RFC 9110 a
    visitor's session holds no credentials), ``expired`` (a cookie of ours, whose session has ended)
    or ``stale`` (signed in, but longer ago than ``authenticated_within``). It answers 403,
    ``forbidden``, where ``allow`` says no. A WebSocket is closed with 1008 and the reason before it
    is accepted. During an outage the answer is a 503: whether there is a session is not known.

    Args:
        owner: whether a user must be signed in, under an owner key, default True; False: any
            session will do that holds something.
        authenticated_within: how many seconds ago at most the user must have proved who they are,
            or a `timedelta`; default None: however long ago.
        allow: what else must be true of the session, default nothing.
        redirect_to: where the user of a browser signs in, default nowhere: a GET or HEAD of a page
            is sent there instead of a 401, with the page asked for as ``next``, a local path.
        session_cookie: the cookie's name in OpenAPI: the middleware's ``session_cookie``.
        scope_key: the middleware's ``scope_key``.
        scheme_name: the scheme's name in OpenAPI; another one for each ``session_cookie``.

    Raises:
        ConfigurationError: ``authenticated_within`` is no such time; at a request: there is no
            session middleware of ours.
    """
    described = {"in": APIKeyIn.cookie, "name": session_cookie, "description": IN_OPENAPI}
    model = APIKey.model_validate(described)
    within = seconds_within(authenticated_within)
    return _Required(model, scheme_name, owner, within, allow, redirect_to, scope_key)


def typed_session(
    model: type[Model], *, on_mismatch: OnMismatch, scope_key: str = "session"
) -> Callable[[HTTPConnection], Awaitable[TypedSession[Model]]]:
    """Return a dependency that gives the session as a `TypedSession` of a model.

    ``Annotated[TypedSession[Shop], Depends(typed_session(Shop, on_mismatch="drop"))]``.

    Args:
        model: a Pydantic model or a dataclass, in which each field has a default.
        on_mismatch: as for `TypedSession`: ``"drop"``, ``"end"`` or ``"raise"``.
        scope_key: the middleware's ``scope_key``, default ``"session"``.

    Raises:
        TypeError, ValueError: the model cannot be one of a session; ``on_mismatch`` is none.
    """
    TypedSession(Session(), model, on_mismatch=on_mismatch)  # or it raises, before any request

    async def typed(connection: HTTPConnection) -> TypedSession[Model]:
        session = session_in(connection.scope, scope_key)
        return TypedSession(session, model, on_mismatch=on_mismatch)

    return typed
