"""The Flask adapter: ``flask.session`` as ever, from a store that all servers share.

Flask opens a session before it has matched the URL, so it is loaded at its first use only, and
saves it after the ``after_request`` functions. What teardown functions and ``stream_with_context``
write comes later still: it is looked for when the server closes the response.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import ref

from ._core.extras import missing

try:
    import click
    from flask import (
        Flask,
        Request,
        Response,
        current_app,
        has_request_context,
        request,
        request_started,
    )
    from flask.cli import with_appcontext
except ModuleNotFoundError as error:
    raise missing(error, "flask", "click", "flask") from error
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.wsgi import ClosingIterator

from ._core.answers import encoded, issued_inside, unavailable
from ._core.exchange import Exchange
from ._core.session import Session, exchange_of
from ._core.state import Progress
from ._core.steps import Flow
from ._doors import misuse
from ._doors.arguments import documented
from ._doors.flask_options import (
    Conversion,
    OfOneApplication,
    OptionsOfFlask,
    answered_already,
    answered_instead,
    behind,
    let_werkzeug_answer,
)
from .adapter import Sessions
from .exceptions import StoreUnavailable
from .stores.base import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask.ctx import RequestContext

__all__ = ["SharedSession"]

T = TypeVar("T")

ENDING = "sharedsession.ending"  # where in the environment the end of a response is prepared
BEFORE = "sharedsession_before"  # on a request: the old session interface has it
EXCHANGE = "sharedsession_exchange"  # on a request: its exchange
ANSWERED = "sharedsession_answered"  # on a request: its client gets the response
PROXY = "app.wsgi_app = ProxyFix(app.wsgi_app) from werkzeug.middleware.proxy_fix"


@documented
class SharedSession(OptionsOfFlask[Flask, Store, SessionInterface], SessionInterface):
    """Keep ``flask.session`` in a store that every server shares: ``SharedSession(app)``.

    Flask's own options count as always and are read at each request: SECRET_KEY and
    SECRET_KEY_FALLBACKS, SESSION_COOKIE_NAME and its kin, PERMANENT_SESSION_LIFETIME (the idle
    timeout), SESSION_REFRESH_EACH_REQUEST. The arguments can also be given as SESSION_STORE,
    SESSION_ABSOLUTE_TIMEOUT and so on in ``app.config``, or as SHAREDSESSION_STORE and so on in
    the environment; so can the secret key there.

    It is the application's session interface, and can be subclassed as Flask's own can.

    Args:
        app: the application; without one, call `init_app` later.
        {of the sessions}
        https_only: False keeps Secure off cookies that are set over https. By default they have
            it, and with SESSION_COOKIE_SECURE all cookies do.

    Raises:
        ConfigurationError: no store is chosen, or a setting is wrong.
        TypeError: there is no such argument, the application is of another kind, or the store is
            none, or one whose functions are awaited.
    """

    framework, interface = Flask, SessionInterface

    def init_app(self, app: Flask) -> None:
        """Become the session interface of an application; the secret key may be set later."""
        misuse.require_flask(app, Flask)
        app = behind(app)  # signals know a sender by its identity
        settings = self._begin_with(app)
        if "sharedsession" not in app.extensions:
            # mypy: Flask's documentation wraps an application's methods so.
            app.wsgi_app = _Closing(app, app.wsgi_app)  # type: ignore[method-assign]
            app.handle_exception = partial(_handle_exception, app.handle_exception)  # type: ignore[method-assign]
            made = app.test_request_context
            app.test_request_context = partial(_test_request_context, made)  # type: ignore[method-assign]
            request_started.connect(_dispatched, app)
        self._become(app, _AppSessions(settings))
        app.cli.add_command(_command)

    # --- what Flask calls ---

    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
        """Return the request's session, not loaded; None without a secret key."""
        if not self._has_key(app):
            return None
        if self._before is not None and self._before.is_ahead(self._of(app).manager.clock()):
            setattr(request, BEFORE, self._before.app)
            theirs: SessionMixin | None = self._before.app.open_session(app, request)
            return theirs
        cookies = request.environ.get("HTTP_COOKIE", "")
        ours = cookies if self._may_concern(app, cookies) else None
        manager = partial(self.manager_of, app)
        if "sharedsession" not in app.extensions:  # assigned as app.session_interface
            self.init_app(app)
            setattr(request, ANSWERED, True)  # too late to learn it
        convert = Conversion(app, ref(behind(request)), _current)
        exchange = self._of(app).begin(ours, manager, request.environ, convert)
        if not getattr(request, ANSWERED, False):
            exchange.expect_no_response()
        setattr(request, EXCHANGE, exchange)
        return cast(SessionMixin, exchange.session)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Commit, and set what the response has to say; a store that is down makes it a 503.

        An exception raised here would become a 500, and be raised once more when Flask saves the
        session with that. Where there is no response that a client gets, in an event of
        Flask-SocketIO for one, what would need a cookie does raise `LateChange`.
        """
        if not isinstance(session, Session):
            before = _before()
            if before is not None:
                before.save_session(app, session, response)
            return
        exchange: Exchange = exchange_of(session)
        if exchange.progress >= Progress.GIVEN_UP:
            return
        current = behind(request)
        if not getattr(current, ANSWERED, False):
            self._of(app).finish(session)
            return
        if response.status_code == 503 and exchange.met_outage:
            exchange.give_up()  # it is answered already: nothing of this request is stored
            answered_already(response)
            return
        self._respond(app, exchange, response)
        finish = partial(self._of(app).finish, session)
        ending = current.environ.get(ENDING)
        if ending is None:  # not by way of the server
            response.call_on_close(finish)
        else:
            runs = isinstance(response.response, Generator)
            ending.finish, ending.is_file = finish, response.direct_passthrough and not runs

    def regenerate(self, session: SessionMixin) -> None:
        """Give a session a new ID, by the name that Flask-Session has for `Session.renew`.

        The old ID is dead when the response leaves. Not needed at sign-in and sign-out. Until the
        moment of ``switch_at`` it is the old session interface's own.
        """
        before = cast(Any, _before())  # that of Flask-Session has this method
        if before is not None:
            before.regenerate(session)
        else:
            cast(Session, session).renew()

    # --- inside ---

    def _respond(self, app: Flask, exchange: Exchange, response: Response) -> None:
        """Commit; what the core answers in the application's place is put into the response."""
        current = behind(request)
        respond, attributes = self._responding(app, exchange, current, response)
        instead = self._of(app).run(respond)
        if instead is not None:
            _make_unavailable(response, instead)
        elif exchange.is_used:
            self._dress(app, exchange, current, response, attributes, PROXY)


class _AppSessions(OfOneApplication, Sessions):
    def run(self, flow: Flow[T] | None) -> T | None:
        """Drive a flow; an outage is raised in the form that Flask answers by itself."""
        try:
            return super().run(flow)
        except StoreUnavailable as outage:
            let_werkzeug_answer(outage)
            raise


def _current() -> object:
    return behind(request) if has_request_context() else None


def _before() -> SessionInterface | None:
    """Return the old session interface that has the current request, if it has."""
    found: SessionInterface | None = getattr(behind(request), BEFORE, None)
    return found


class _Closing:
    """Around the application: the end of each response, and an outage that its error page met."""

    def __init__(self, app: Flask, wsgi_app: WSGIApplication) -> None:
        self._app, self._wsgi_app = app, wsgi_app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = False

        def starting(status: str, headers: Any, *more: Any) -> Any:  # Any: as the server has it
            nonlocal started
            started = True
            self._heed(headers)
            return start_response(status, headers, *more)

        # An object, so that a middleware further in which copies the environment shares it.
        ending = environ[ENDING] = _Ending()
        try:
            body = self._wsgi_app(environ, starting)
        except StoreUnavailable:
            ending.give_up()
            headers, text = unavailable()
            again = (sys.exc_info(),) if started else ()
            start_response("503 Service Unavailable", headers, *again)
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [text]
        except BaseException:
            ending.give_up()
            raise
        if not ending.is_file:
            return body if ending.exchange is None else ClosingIterator(body, ending)
        # The server may send a file by its own means, which it knows by its class.
        try:
            ending()
        except Exception:
            self._app.logger.exception("A late change of the session was not saved.")
        return body

    def _heed(self, headers: Iterable[tuple[str, str]]) -> None:
        """Look whether another layer of the application sets our cookie as well."""
        interface = self._app.session_interface
        sets = any(name.lower() == "set-cookie" for name, _ in headers)
        if not (sets and isinstance(interface, SharedSession) and has_request_context()):
            return
        if _before() is None:
            for _ in issued_inside(interface.manager_of(self._app), encoded(headers)):
                pass  # of this package: what is in it is not ours to follow here


@dataclass(eq=False)
class _Ending:
    """The end of a request that Flask answers: `finish` is set when its session is saved."""

    exchange: Exchange | None = None
    finish: Callable[[], None] | None = None
    is_file: bool = False

    def __call__(self) -> None:
        if self.finish is None:
            self.give_up()
        else:
            self.finish()

    def give_up(self) -> None:
        if self.exchange is not None:
            self.exchange.over()


# Whether a client gets the response that `save_session` is given. Flask-SocketIO pushes a context
# for each event, on the environment of a request from long ago, and throws the response away. So
# it is taken for thrown away until Flask itself begins to answer the request.


def _dispatched(app: Flask, **_: object) -> None:
    """Flask is going to answer the current request: `flask.request_started`."""
    current = behind(request)
    exchange = getattr(current, EXCHANGE, None)
    if not isinstance(exchange, Exchange):
        app.extensions["sharedsession"].check_interface(app)
        return
    ending = current.environ.get(ENDING)
    if isinstance(ending, _Ending):
        ending.exchange = exchange
    # What a view of a WebSocket returns when it is over reaches no client (flask-sock).
    if current.url_rule is None or not current.url_rule.websocket:
        setattr(current, ANSWERED, True)
        exchange.expect_response()


def _test_request_context(
    flasks_own: Callable[..., RequestContext],
    *args: Any,
    **kwargs: Any,  # Any: Flask's own
) -> RequestContext:
    """Make a context whose response is the caller's: ``session_transaction()`` for one."""
    context = flasks_own(*args, **kwargs)
    setattr(context.request, ANSWERED, True)
    return context


def _handle_exception(flasks_own: Callable[[Exception], Response], error: Exception) -> Response:
    """Answer an outage that an error handler or an ``after_request`` function has met.

    Flask's own way would run the same functions once more, and they would meet it again.
    """
    if not isinstance(error, StoreUnavailable):
        return flasks_own(error)
    response = Response()
    _make_unavailable(response, 503)
    return response


def _make_unavailable(response: Response, status: int) -> None:
    """Turn a response into a 503 or 500, in place."""
    body = response.response
    response.direct_passthrough = False
    answered_instead(response, status)
    with suppress(Exception):  # of a stream that no client will read
        getattr(body, "close", lambda: None)()


@click.command(
    "sharedsession",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def _command(arguments: tuple[str, ...]) -> None:
    """What the command 'sharedsession' can do: try --help."""
    from .cli import main

    settings = current_app.extensions["sharedsession"].manager.settings
    store = settings.store if isinstance(settings.store, str) else None
    sys.exit(main(arguments, store, settings))
