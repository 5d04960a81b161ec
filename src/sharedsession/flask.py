"""The Flask adapter: ``flask.session`` as ever, from a store that all servers share.

Flask opens a session before it has matched the URL, so it is loaded at its first use only, and
saves it after the ``after_request`` functions; what ``stream_with_context`` writes comes later
still, and is looked for when the response is closed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

import click
from flask import Flask, Request, Response, request
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.datastructures import Headers

from .adapter import Sessions, met_outage, unavailable, warn_proxy
from .exceptions import ConfigurationError, StoreUnavailable
from .flows import Manager, Visit
from .session import Session, UnusedSession
from .settings import UNSET, Settings, Unset, gather
from .stores.base import Store

MOST_MANAGERS = 64  # combinations of options that are remembered; they can differ by request
OWN_OPTIONS = ("store", "absolute_timeout", "namespace", "owner_key", "timeout")
FLASK_NAMES = {
    "session_cookie": "SESSION_COOKIE_NAME",
    "domain": "SESSION_COOKIE_DOMAIN",
    "path": "SESSION_COOKIE_PATH",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "https_only": "SESSION_COOKIE_SECURE",
    "partitioned": "SESSION_COOKIE_PARTITIONED",
    "max_age": "PERMANENT_SESSION_LIFETIME",
    **{name: f"SESSION_{name.upper()}" for name in OWN_OPTIONS},
}

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
        timeout: seconds that the store may take for opening a session, and again for closing it;
            default 1.
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
        timeout: float | Unset = UNSET,
        https_only: bool | None | Unset = UNSET,
    ) -> None:
        given = dict(locals())
        self._arguments = {name: given[name] for name in (*OWN_OPTIONS, "https_only")}
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Become the session interface of an application; the secret key may be set later."""
        options = {**self._own_options(app), "secret_key": "not known yet"}
        with suppress(RuntimeError):  # of a cookie's name, say, that depends on the request
            options = {**self._cookie_options(app), **options}
        app.extensions["sharedsession"] = _AppSessions(_named(self._arguments, options))
        app.session_interface = self
        app.cli.add_command(_command)

    # --- what Flask calls ---

    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
        """Return the request's session, not loaded; None without a secret key."""
        if not (app.secret_key or os.environ.get("SHAREDSESSION_SECRET_KEY")):
            return None
        cookies = request.environ.get("HTTP_COOKIE", "")
        ours = f"{self.get_cookie_name(app)}=" in cookies
        session = self._of(app).open(cookies if ours else None, partial(self._manager, app))
        return cast(SessionMixin, session)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Commit, and set what the response has to say; a store that is down makes it a 503.

        An exception raised here would become a 500, and be raised once more when Flask saves the
        session with that.
        """
        if not isinstance(session, Session) or session._failed:
            return
        if response.status_code in (500, 503) and met_outage(session):
            # The application gave up because of the outage: nothing of this request is stored.
            _make_unavailable(response, page=response.status_code == 503)
            return
        repeat = self._repeats(app, session)
        session._late = True
        try:
            if session._used or session.accessed:
                self._close(app, session, response, repeat=repeat)
        except StoreUnavailable:
            _make_unavailable(response)
        except BaseException:
            session._failed = True
            raise
        else:
            response.call_on_close(partial(self._of(app).finish, session))

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """As Flask has it; where the cookie is not to be refreshed, nothing is loaded for it."""
        if session.modified:
            return True
        return bool(app.config["SESSION_REFRESH_EACH_REQUEST"]) and session.permanent

    # --- inside ---

    def _close(self, app: Flask, session: Session, response: Response, *, repeat: bool) -> None:
        manager = self._manager(app)  # refuses wrong options before anything is written
        if isinstance(session._backing, Visit):
            session._backing.manager = manager
        self._of(app).close(session, repeat=repeat)
        if "*" not in response.vary:
            response.vary.add("Cookie")
        visit = session._backing
        if not isinstance(visit, Visit) or (visit.answer is None and not visit.removed):
            return
        settings, secure = manager.settings, request.is_secure
        if settings.https_only is not None:
            secure = settings.https_only
        elif not secure:
            self._of(app).check_proxy()
        attributes: dict[str, Any] = {  # Any: of several types
            "domain": settings.domain,
            "path": settings.path,
            "secure": secure,
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": settings.partitioned,
        }
        if visit.removed:
            response.delete_cookie(settings.session_cookie, **attributes)
        elif visit.answer is not None:
            expires = self.get_expiration_time(app, cast(SessionMixin, session))
            value = manager.codec.sign(visit.answer)
            response.set_cookie(settings.session_cookie, value, expires=expires, **attributes)
        if not (response.cache_control.no_store or response.cache_control.private):
            response.cache_control.no_store = True

    def _repeats(self, app: Flask, session: Session) -> bool:
        """Whether the cookie is set again, even if nothing has changed.

        A permanent session is refreshed by requests that do not use it, too: with
        SESSION_REFRESH_EACH_REQUEST one whose cookie verifies is loaded, to learn whether it is.
        """
        if not isinstance(session, UnusedSession):
            return self.should_set_cookie(app, cast(SessionMixin, session))
        if not app.config["SESSION_REFRESH_EACH_REQUEST"] or session._loading is None:
            return False
        visit = session._backed("the refresh of a cookie")
        if not isinstance(visit, Visit) or not visit.cookies:
            return False
        try:
            repeat = self.should_set_cookie(app, cast(SessionMixin, session))
        except StoreUnavailable:
            return False  # this request has no need of its session
        session._used = repeat
        return repeat

    def _of(self, app: Flask) -> _AppSessions:
        if "sharedsession" not in app.extensions:  # assigned as app.session_interface
            self.init_app(app)
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
            settings = _named(self._arguments, {**self._own_options(app), **options})
            if len(known) >= MOST_MANAGERS:
                known.clear()
            manager = known[key] = Manager(settings, like=self._of(app).manager)
        return manager

    def _cookie_options(self, app: Flask) -> dict[str, Any]:  # Any: of several types
        options = {
            "session_cookie": self.get_cookie_name(app),
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app) or "/",
            "same_site": self.get_cookie_samesite(app) or "lax",  # none is none, in `_close`
            "partitioned": self.get_cookie_partitioned(app),
            "max_age": int(app.permanent_session_lifetime.total_seconds()),
        }
        if self.get_cookie_secure(app):  # False, Flask's default, says nothing
            options["https_only"] = True
        return options

    def _own_options(self, app: Flask) -> dict[str, Any]:  # Any: as the application wrote them
        given = {name: app.config.get(FLASK_NAMES[name]) for name in OWN_OPTIONS}
        return {name: value for name, value in given.items() if value is not None}


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


def _named(arguments: Mapping[str, Any], framework: Mapping[str, Any]) -> Settings:
    """Gather the settings; what is wrong is named as Flask's users know it."""
    try:
        return gather(arguments, framework)
    except ConfigurationError as error:
        names = re.compile(rf"\b({'|'.join(FLASK_NAMES)})\b(?==| is )")
        raise ConfigurationError(
            names.sub(lambda found: FLASK_NAMES[found[0]], str(error))
        ) from None


def _make_unavailable(response: Response, *, page: bool = False) -> None:
    """Turn a response into a 503, in place; ``page``: it has a body for that already."""
    headers, body = unavailable()
    if page:
        for name, value in headers[2:]:
            response.headers.setdefault(name, value)
        return
    close = getattr(response.response, "close", None)
    if close is not None:
        close()
    response.status_code = 503
    response.direct_passthrough = False
    response.set_data(body)
    response.headers = Headers(headers)


@click.command(
    "sharedsession",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _command(arguments: tuple[str, ...]) -> None:
    """What the command 'sharedsession' can do: try --help."""
    from .cli import main

    sys.exit(main(arguments))
