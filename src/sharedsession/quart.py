"""The Quart adapter: ``quart.session`` as ever, from a store that all servers share.

Quart saves a session when the response is made; what comes later, and what a WebSocket does, is
looked for where ASGI's messages pass, around the application.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from ._core.extras import missing

try:
    from quart import Quart, has_request_context, has_websocket_context, request, websocket
except ModuleNotFoundError as error:
    raise missing(error, "quart", "quart") from error
from quart.sessions import SessionInterface, SessionMixin

from ._core.exchange import Exchange
from ._core.session import Session, exchange_of
from ._core.state import Progress
from ._doors import misuse
from ._doors.arguments import documented
from ._doors.awaited import refuse_unawaited
from ._doors.flask_options import (
    Conversion,
    OfOneApplication,
    OptionsOfFlask,
    answered_already,
    answered_instead,
    behind,
    let_werkzeug_answer,
    sessions_of,
)
from ._doors.responses import LayerAround, Scope, raising_outages
from .adapter import AsyncSessions
from .stores.base import AsyncStore, Store

if TYPE_CHECKING:
    from quart.typing import ResponseTypes
    from quart.wrappers import BaseRequestWebsocket

__all__ = ["SharedSession"]

KEY = "sharedsession.session"  # where in a scope its session is, for the layer around Quart
PROXY = "hypercorn: ProxyFixMiddleware; uvicorn: --proxy-headers --forwarded-allow-ips=…"


@documented
class SharedSession(OptionsOfFlask[Quart, Store | AsyncStore, SessionInterface], SessionInterface):
    """Keep ``quart.session`` in a store that every server shares: ``SharedSession(app)``.

    Quart's own options count as always and are read at each request: SECRET_KEY and
    SECRET_KEY_FALLBACKS, SESSION_COOKIE_NAME and its kin, PERMANENT_SESSION_LIFETIME (the idle
    timeout), SESSION_REFRESH_EACH_REQUEST. The arguments can also be given as SESSION_STORE and so
    on in ``app.config``, or as SHAREDSESSION_STORE and so on in the environment. It is the
    application's session interface, and can be subclassed as Quart's own can.

    Args:
        app: the application; without one, call `init_app` later.
        {of the sessions}
        https_only: False keeps Secure off cookies that are set over https. By default they have
            it, and with SESSION_COOKIE_SECURE all cookies do.

    Raises:
        ConfigurationError: no store is chosen, or a setting is wrong.
        TypeError: an argument is unknown, or the application or the store is of another kind.
    """

    framework, interface = Quart, SessionInterface

    def init_app(self, app: Quart) -> None:
        """Become the session interface of an application; the secret key may be set later."""
        misuse.require_quart(app := behind(app), Quart)
        sessions = _AppSessions(self._begin_with(app))
        if "sharedsession" not in app.extensions:
            around = raising_outages(app.asgi_app, KEY, 1000)  # type: ignore[arg-type]
            app.asgi_app = LayerAround(around, KEY, partial(sessions_of, app))  # type: ignore[assignment, method-assign]  # as Quart's documentation wraps it
        self._become(app, sessions)

    # --- what Quart calls ---

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> SessionMixin | None:
        """Return the session of a request or a WebSocket, loaded; None without a secret key."""
        if not self._has_key(app):
            return None
        if "sharedsession" not in app.extensions:  # assigned as app.session_interface
            self.init_app(app)
        sessions: _AppSessions = self._of(app)
        if self._before is not None and self._before.is_ahead(sessions.manager.clock()):
            theirs: SessionMixin | None = await self._before.app.open_session(app, request)
            return theirs
        scope = cast(Scope, request.scope)
        # Of a test, not by way of the server, there is none yet.
        exchange: Exchange = scope[KEY].exchange if KEY in scope else sessions.begun()
        cookies = "; ".join(request.headers.getlist("Cookie"))
        ours = cookies if self._may_concern(app, cookies) else None
        convert = Conversion(app, ref(behind(request)), _current)
        manager = partial(self.manager_of, app)
        await sessions.show(exchange, ours, manager, scope, convert, let_werkzeug_answer)
        return cast(SessionMixin, exchange.session)

    async def save_session(
        self, app: Quart, session: SessionMixin, response: ResponseTypes | None
    ) -> None:
        """Commit, and set what the response has to say; a store that is down makes it a 503.

        A WebSocket is committed when it is accepted and when it is over, by the layer around the
        application; one whose handler failed stores nothing more.
        """
        if not isinstance(session, Session):
            if self._before is not None:
                await self._before.app.save_session(app, session, response)
            return
        exchange, current = exchange_of(session), _current()
        if current is None or current.scope["type"] == "websocket":
            if response is not None and response.status_code >= 500:
                exchange.give_up()
        elif response is not None and response.status_code == 503 and exchange.met_outage:
            exchange.give_up()  # it is answered already: nothing of this request is stored
            answered_already(response)
        elif response is not None and exchange.progress < Progress.GIVEN_UP:
            await self._respond(app, exchange, current, response)
        if current is None or KEY not in current.scope:  # nothing looks for what comes later
            exchange.over()

    async def _respond(
        self, app: Quart, exchange: Exchange, current: Any, response: ResponseTypes
    ) -> None:
        refuse_unawaited(exchange)
        respond, attributes = self._responding(app, exchange, current, response)
        instead = await self._of(app).run(respond)
        if instead is not None:
            answered_instead(response, instead)
        elif exchange.is_used:
            self._dress(app, exchange, current, response, attributes, PROXY)


def _current() -> Any:  # Any: a request or a WebSocket, or None
    if has_websocket_context():
        return behind(websocket)
    return behind(request) if has_request_context() else None


class _AppSessions(OfOneApplication, AsyncSessions):
    def begun(self) -> Exchange:
        """Return an exchange that is to be shown cookies yet."""
        return Exchange(self.manager, run=self.verbs(let_werkzeug_answer), otherwise="browser")
