"""The Flask adapter: ``flask.session`` as ever, from a store that all servers share.

Flask opens a session before it has matched the URL, so it is loaded at its first use only, and
saves it after the ``after_request`` functions. What teardown functions and ``stream_with_context``
write comes later still: it is looked for when the server closes the response.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote

import click
from flask import Flask, Request, Response, current_app, request, request_started
from flask.cli import with_appcontext
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.datastructures import Headers
from werkzeug.http import dump_cookie
from werkzeug.wsgi import ClosingIterator

from .adapter import Sessions, met_outage, unavailable, warn_proxy
from .exceptions import ConfigurationError, StoreUnavailable
from .flows import Manager, Visit, instead, over, trouble
from .session import PERMANENT, EmptyInOutage, Session, UnusedSession
from .settings import LONGEST, UNSET, NearCache, OnOutage, Settings, Unset, gather
from .stores.base import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask.ctx import RequestContext

ENDING = "sharedsession.ending"  # where in the environment the end of a response is prepared
SESSION = "sharedsession_session"  # on a request: its session
ANSWERED = "sharedsession_answered"  # on a request: its client gets the response
MOST_MANAGERS = 64  # combinations of options that are remembered; they can differ by request
OWN_OPTIONS = (
    "store",
    "absolute_timeout",
    "namespace",
    "owner_key",
    "sign_in_names",
    "on_owner_change",
    "timeout",
    "on_outage",
    "near_cache",
    "stale_if_outage",
    "read_from",
)
FLASK_NAMES = {
    "session_cookie": "SESSION_COOKIE_NAME",
    "domain": "SESSION_COOKIE_DOMAIN",
    "path": "SESSION_COOKIE_PATH",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "partitioned": "SESSION_COOKIE_PARTITIONED",
    "max_age": "PERMANENT_SESSION_LIFETIME",
    **{name: f"SESSION_{name.upper()}" for name in OWN_OPTIONS},
}
# What an application says about all its responses, and not about the one that a 503 replaces.
OF_EVERY_RESPONSE = re.compile(
    "access-control-.*|cross-origin-.*|strict-transport-security|x-request-id|x-frame-options"
    "|x-content-type-options",
    re.IGNORECASE,
)

SessionMixin.register(Session)


class SharedSession(SessionInterface):
    """Keep ``flask.session`` in a store that every server shares: ``SharedSession(app)``.

    Flask's own options count as always and are read at each request: SECRET_KEY and
    SECRET_KEY_FALLBACKS, SESSION_COOKIE_NAME and its kin, PERMANENT_SESSION_LIFETIME (the idle
    timeout), SESSION_REFRESH_EACH_REQUEST. The arguments can also be given as SESSION_STORE,
    SESSION_ABSOLUTE_TIMEOUT and so on in ``app.config``, or as SHAREDSESSION_STORE and so on in
    the environment; so can the secret key there.

    It is the application's session interface, and can be subclassed as Flask's own can.

    Args:
        app: the application; without one, call `init_app` later.
        store: a URL (``"sqlite:///sessions.db"``, ``"redis://host:6379/0"``, ``"memory://"``) or
            a store object.
        absolute_timeout: the longest life of a session in seconds, from its creation or the last
            authentication on; default None, no limit.
        namespace: keeps applications that share a store apart; default ``""``.
        owner_key: the session key that says who is signed in, or several; a changed value renews
            the ID. Default ``user_id``, ``_user_id`` (Flask-Login's) and ``_auth_user_id``.
        sign_in_names: other keys under which applications note who is signed in: another identity
            there renews the ID, and no more. Default ``user``, ``username``, ``logged_in`` and
            their kin (docs/settings.md lists them); ``()`` for none.
        on_owner_change: what another user who signs in finds: ``"drop"`` (default), only what that
            request itself assigned; ``"keep"``, all that the user before left.
        timeout: seconds that the store may take for opening a session, and again for closing it;
            default 1.
        on_outage: what a request meets whose session cannot be loaded: ``"error"`` (default), a
            503 when it uses the session; ``"readonly-empty"``, an empty session, and the 503 only
            when it wants to store something; or a function of the WSGI environment and the error
            that returns one of the two.
        near_cache: True, or a `NearCache`, keeps copies of sessions in this server's memory, so
            that most reads ask no store; default False. See docs/consistency.md for what it costs.
        stale_if_outage: seconds for which copies may be read while the store is down; default 0.
        read_from: the URL of a replica of the store near this server, which answers reads;
            default none.
        https_only: False keeps Secure off cookies that are set over https. By default they have
            it, and with SESSION_COOKIE_SECURE all cookies do.

    Raises:
        ConfigurationError: no store is chosen, or a setting is wrong.
        TypeError: the store is one whose functions are awaited.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        store: str | Store | Unset = UNSET,
        absolute_timeout: int | None | Unset = UNSET,
        namespace: str | Unset = UNSET,
        owner_key: str | Iterable[str] | Unset = UNSET,
        sign_in_names: str | Iterable[str] | Unset = UNSET,
        on_owner_change: Literal["drop", "keep"] | Unset = UNSET,
        timeout: float | Unset = UNSET,
        on_outage: OnOutage | Unset = UNSET,
        near_cache: bool | NearCache | Mapping[str, float] | None | Unset = UNSET,
        stale_if_outage: float | Unset = UNSET,
        read_from: str | Store | None | Unset = UNSET,
        https_only: bool | None | Unset = UNSET,
    ) -> None:
        given = dict(locals())
        self._arguments = {name: given[name] for name in (*OWN_OPTIONS, "https_only")}
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Become the session interface of an application; the secret key may be set later."""
        options: dict[str, Any] = {}
        with suppress(RuntimeError):  # of a cookie's name, say, that depends on the request
            options = self._cookie_options(app)
        settings = self._settings(app, {**options, "secret_key": "not known yet"})
        if "sharedsession" not in app.extensions:
            # mypy: Flask's documentation wraps an application's methods so.
            app.wsgi_app = _Closing(app, app.wsgi_app)  # type: ignore[method-assign]
            app.handle_exception = partial(_handle_exception, app.handle_exception)  # type: ignore[method-assign]
            made = app.test_request_context
            app.test_request_context = partial(_test_request_context, made)  # type: ignore[method-assign]
            request_started.connect(_dispatched, app)
        app.extensions["sharedsession"] = _AppSessions(settings)
        app.session_interface = self
        app.cli.add_command(_command)

    # --- what Flask calls ---

    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
        """Return the request's session, not loaded; None without a secret key."""
        if not (app.secret_key or os.environ.get("SHAREDSESSION_SECRET_KEY")):
            return None
        cookies = request.environ.get("HTTP_COOKIE", "")
        ours = cookies if f"{self.get_cookie_name(app)}=" in cookies else None
        manager = partial(self._manager, app)
        if "sharedsession" not in app.extensions:  # assigned as app.session_interface
            self.init_app(app)
            setattr(request, ANSWERED, True)  # too late to learn it
        session = self._of(app).open(ours, manager, request.environ)
        session._late = not getattr(request, ANSWERED, False)
        setattr(request, SESSION, session)
        return cast(SessionMixin, session)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Commit, and set what the response has to say; a store that is down makes it a 503.

        An exception raised here would become a 500, and be raised once more when Flask saves the
        session with that. Where there is no response that a client gets, in an event of
        Flask-SocketIO for one, what would need a cookie does raise `LateChange`.
        """
        if not isinstance(session, Session) or session._failed:
            return
        if not getattr(request, ANSWERED, False):
            self._of(app).finish(session)
            return
        if response.status_code in (500, 503) and met_outage(session):
            # The application gave up because of the outage: nothing of this request is stored.
            session._failed = True
            _make_unavailable(response, 503, page=response.status_code == 503)
            return
        self._store(app, session, response)
        finish = partial(self._of(app).finish, session)
        ending = request.environ.get(ENDING)
        if ending is None:  # not by way of the server
            response.call_on_close(finish)
        else:
            runs = isinstance(response.response, Generator)
            ending.finish, ending.is_file = finish, response.direct_passthrough and not runs

    def _store(self, app: Flask, session: Session, response: Response) -> None:
        """Commit; what the core answers in the application's place is put into the response."""
        untouched = isinstance(session, UnusedSession) and not session.accessed
        known = trouble(session)
        try:
            self._commit(app, session, response, repeat=self._repeats(app, session))
        except Exception as error:  # noqa: BLE001 - what is not the core's to answer is raised
            session._failed = True
            if untouched and isinstance(error, StoreUnavailable):
                session._failed = False  # only the refresh of its cookie has
                return
            status = instead(session, response.status_code, error, known)
            if status is not None:
                _make_unavailable(response, status)

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """As Flask has it; where the cookie is not to be refreshed, nothing is loaded for it."""
        # As `modified`, without looking into the values: what has changed there is no reason.
        if session._modified if isinstance(session, Session) else session.modified:
            return True
        return bool(app.config["SESSION_REFRESH_EACH_REQUEST"]) and session.permanent

    # --- inside ---

    def _commit(self, app: Flask, session: Session, response: Response, *, repeat: bool) -> None:
        sessions = self._of(app)
        if not (session._used or session.accessed):
            sessions.close(session)
            return
        # What may be wrong with the options shows before anything is written.
        manager = self._manager(app)
        settings, secure = manager.settings, request.is_secure
        if settings.https_only is not None:
            secure = settings.https_only
        attributes: dict[str, Any] = {  # Any: of several types
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app) or "/",
            "secure": secure,
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
        expires = None
        if not isinstance(session, UnusedSession):
            expires = self.get_expiration_time(app, cast(SessionMixin, session))
        if isinstance(session._backing, Visit):
            session._backing.manager = manager
        if "*" not in response.vary:
            response.vary.add("Cookie")
        sessions.close(session, repeat=repeat)
        if isinstance(session, EmptyInOutage):
            response.cache_control.no_store = True
        visit = session._backing
        if not isinstance(visit, Visit) or (visit.answer is None and not visit.removed):
            return
        if settings.https_only is None and not secure:
            sessions.check_proxy()
        if visit.answer is None:
            response.delete_cookie(settings.session_cookie, **attributes)
        else:
            value = manager.codec.sign(visit.answer)
            response.set_cookie(settings.session_cookie, value, expires=expires, **attributes)
        cache = response.cache_control
        if cache.no_store or ("private" in cache and cache["private"] is None):
            return
        if visit.answer in visit.cookies:  # the very cookie that came, with a static file as well
            cache.public, cache.private = False, True
        else:
            cache.no_store = True

    def _repeats(self, app: Flask, session: Session) -> bool:
        """Whether the cookie is set again, even if nothing has changed.

        A permanent session is refreshed by requests that do not use it, too: with
        SESSION_REFRESH_EACH_REQUEST one whose cookie verifies is loaded, to learn whether it is.
        """
        own_rule = type(self).should_set_cookie is not SharedSession.should_set_cookie
        if not isinstance(session, UnusedSession):
            repeat = self.should_set_cookie(app, cast(SessionMixin, session))
            visit = session._backing
            was_permanent = isinstance(visit, Visit) and bool(visit.data.get(PERMANENT))
            lasting = own_rule or session.permanent or was_permanent
            # A write alone is no reason: its answer could arrive after that of a sign-in.
            return repeat and (lasting or _writes_nothing(session))
        if not (app.config["SESSION_REFRESH_EACH_REQUEST"] or own_rule) or not session._loading:
            return False
        visit = session._backed("the refresh of a cookie")
        if not isinstance(visit, Visit) or not visit.cookies:
            return False
        try:
            repeat = self.should_set_cookie(app, cast(SessionMixin, session))
            if repeat:
                session._ready()
        except StoreUnavailable:
            return False  # this request has no need of its session
        session._used = repeat
        return repeat

    def _of(self, app: Flask) -> _AppSessions:
        return cast(_AppSessions, app.extensions["sharedsession"])

    def _manager(self, app: Flask) -> Manager:
        """Return the manager for the options as they are now."""
        options = self._cookie_options(app)
        if app.secret_key:
            fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or ()
            options["secret_key"] = (app.secret_key, *fallbacks)
        key = tuple(options.items())
        known = self._of(app).managers
        manager = known.get(key)
        if manager is None:
            if len(known) >= MOST_MANAGERS:
                known.clear()
            settings = self._settings(app, options)
            manager = known[key] = Manager(settings, like=self._of(app).manager)
        return manager

    def _cookie_options(self, app: Flask) -> dict[str, Any]:  # Any: as the application wrote them
        return {
            "session_cookie": self.get_cookie_name(app),
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "same_site": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
            "https_only": self.get_cookie_secure(app),
            "max_age": app.permanent_session_lifetime,
        }

    def _settings(self, app: Flask, cookie: Mapping[str, Any]) -> Settings:
        """Return the settings, in the form in which werkzeug sends them; refuse what is wrong."""
        own = {name: app.config.get(FLASK_NAMES[name]) for name in OWN_OPTIONS}
        options: dict[str, Any] = {key: value for key, value in own.items() if value is not None}
        options.update(cookie)
        if "max_age" in options:
            options["max_age"] = min(ceil(options["max_age"].total_seconds()), LONGEST)
            options["path"] = quote(options["path"] or "/", safe="%!$&'()*+,/:=@")
            options["partitioned"] = bool(options["partitioned"])
            if options["same_site"] is None:  # Flask's default: none is sent
                options["same_site"] = "lax"
            if not options["https_only"]:  # Flask's default, which forbids nothing
                del options["https_only"]
            if options["domain"]:
                name, domain = options["session_cookie"], options["domain"]
                sent = dump_cookie(name, "", domain=domain, path=None)
                options["domain"] = sent.partition("Domain=")[2].partition(";")[0]
        try:
            return gather(self._arguments, options)
        except ConfigurationError as error:
            names = re.compile(rf"\b({'|'.join(FLASK_NAMES)})\b(?==| is )")
            sentence = names.sub(lambda found: FLASK_NAMES[found[0]], str(error))
            raise ConfigurationError(sentence) from None


def _writes_nothing(session: Session) -> bool:
    wrote = isinstance(session._backing, Visit) and session._backing.wrote
    return not wrote and not session._steps and session._is_as_noted()


class _AppSessions(Sessions):
    """The sessions of one application: its options may change, its store does not."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.managers: dict[tuple[Any, ...], Manager] = {}
        self._warned = False

    def check_proxy(self) -> None:
        """Warn, once, when the cookie lacks Secure because the server does not trust its proxy."""
        if not self._warned and request.environ.get("HTTP_X_FORWARDED_PROTO") == "https":
            self._warned = True
            warn_proxy(
                "app.wsgi_app = ProxyFix(app.wsgi_app) from werkzeug.middleware.proxy_fix",
                "set SESSION_COOKIE_SECURE",
            )


class _Closing:
    """Around the application: the end of each response, and an outage that its error page met."""

    def __init__(self, app: Flask, wsgi_app: WSGIApplication) -> None:
        self._app, self._wsgi_app = app, wsgi_app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = False

        def starting(*arguments: Any) -> Any:  # Any: as the server has it
            nonlocal started
            started = True
            return start_response(*arguments)

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
            return body if ending.session is None else ClosingIterator(body, ending)
        # The server may send a file by its own means, which it knows by its class.
        try:
            ending()
        except Exception:
            self._app.logger.exception("A late change of the session was not saved.")
        return body


@dataclass(eq=False)
class _Ending:
    """The end of a request that Flask answers: `finish` is set when its session is saved."""

    session: Session | None = None
    finish: Callable[[], None] | None = None
    is_file: bool = False

    def __call__(self) -> None:
        if self.finish is None:
            self.give_up()
        else:
            self.finish()

    def give_up(self) -> None:
        if self.session is not None:
            over(self.session)


# Whether a client gets the response that `save_session` is given. Flask-SocketIO pushes a context
# for each event, on the environment of a request from long ago, and throws the response away. So
# it is taken for thrown away until Flask itself begins to answer the request.


def _dispatched(*_: object, **__: object) -> None:
    """Flask is going to answer the current request: `flask.request_started`."""
    session = getattr(request, SESSION, None)
    if not isinstance(session, Session):
        return
    ending = request.environ.get(ENDING)
    if isinstance(ending, _Ending):
        ending.session = session
    # What a view of a WebSocket returns when it is over reaches no client (flask-sock).
    if request.url_rule is None or not request.url_rule.websocket:
        setattr(request, ANSWERED, True)
        session._late = False
        if isinstance(session._backing, Visit):
            session._backing.late = False


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


def _make_unavailable(response: Response, status: int, *, page: bool = False) -> None:
    """Turn a response into a 503 or 500, in place; ``page``: it has a body for that already."""
    headers, text = unavailable(status)
    if page:
        for name, value in headers[2:]:
            response.headers.setdefault(name, value)
        return
    body = response.response
    response.status_code = status
    response.direct_passthrough = False
    kept = [each for each in response.headers if OF_EVERY_RESPONSE.fullmatch(each[0])]
    response.set_data(text)
    response.headers = Headers([*kept, *headers])
    with suppress(Exception):  # of a stream that nobody will read
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
    sys.exit(main(arguments, settings.store if isinstance(settings.store, str) else None))
