"""The Flask adapter: ``flask.session`` as ever, from a store that all servers share.

Flask opens a session before it has matched the URL, so it is loaded at its first use only, and
saves it after the ``after_request`` functions. What teardown functions and ``stream_with_context``
write comes later still: it is looked for when the server closes the response.
"""

from __future__ import annotations

import os
import secrets
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from inspect import signature
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import quote
from weakref import ref

from ._core.extras import missing

try:
    import click
    from flask import (
        Config,
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
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.datastructures import Headers
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.http import dump_cookie
from werkzeug.local import LocalProxy
from werkzeug.wsgi import ClosingIterator

from ._core.answers import check_scheme, encoded, issued_inside, unavailable
from ._core.cookie import removal
from ._core.exchange import Exchange
from ._core.manager import Manager
from ._core.record import LONGEST, lifetime_of
from ._core.session import Session, UnusedSession, exchange_of, was_written
from ._core.settings import (
    NAMES,
    UNSET,
    NearCache,
    OnOutage,
    Settings,
    Unset,
    announce,
    check_domain,
    gather,
    quoted,
)
from ._core.source import Source
from ._core.state import Progress
from ._core.steps import Flow
from ._doors import advice, misuse
from ._doors.arguments import documented
from ._doors.switching import Switch, moment
from .adapter import Sessions, environ_header
from .exceptions import RETRY_AFTER, UNAVAILABLE, ConfigurationError, StoreUnavailable
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
MOST_MANAGERS = 64  # combinations of options that are remembered; they can differ by request
OWN_OPTIONS = (
    "store",
    "absolute_timeout",
    "namespace",
    "owner_key",
    "sign_in_names",
    "on_owner_change",
    "store_timeout",
    "on_outage",
    "near_cache",
    "stale_if_error",
    "replica",
    "adopt",
)
FLASK_NAMES = {
    "secret_key": "SECRET_KEY",
    "https_only": "SESSION_COOKIE_SECURE",
    "session_cookie": "SESSION_COOKIE_NAME",
    "domain": "SESSION_COOKIE_DOMAIN",
    "path": "SESSION_COOKIE_PATH",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "partitioned": "SESSION_COOKIE_PARTITIONED",
    "max_age": "PERMANENT_SESSION_LIFETIME",
    **{name: f"SESSION_{name.upper()}" for name in OWN_OPTIONS},
}
# What an application may override to choose its options otherwise, by request perhaps.
HOOKS = frozenset(
    f"get_cookie_{option}"
    for option in ("name", "domain", "path", "samesite", "secure", "partitioned")
)
APP_HOOKS = ("secret_key", "permanent_session_lifetime")
SEEN = (
    "SECRET_KEY",
    "SESSION_COOKIE_NAME",
    "SESSION_COOKIE_DOMAIN",
    "SESSION_COOKIE_PATH",
    "APPLICATION_ROOT",
    "SESSION_COOKIE_SAMESITE",
    "SESSION_COOKIE_SECURE",
    "SESSION_COOKIE_PARTITIONED",
    "PERMANENT_SESSION_LIFETIME",
)
# Where what is no argument of `SharedSession` is set.
ELSEWHERE = {
    name: f"set app.config[{option!r}]"
    for name, option in FLASK_NAMES.items()
    if name not in (*OWN_OPTIONS, "https_only")
} | dict.fromkeys(("scope_key", "environ_key"), "the session is flask.session")

SessionMixin.register(Session)


class NoSession(NullSession):
    """Without a secret key: our verbs raise Flask's own error, as writes do."""

    renew = mark_authenticated = destroy = set_lifetime = mutate = commit = reload = (
        NullSession.clear
    )


@documented
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
        {of the sessions}
        https_only: False keeps Secure off cookies that are set over https. By default they have
            it, and with SESSION_COOKIE_SECURE all cookies do.

    Raises:
        ConfigurationError: no store is chosen, or a setting is wrong.
        TypeError: there is no such argument, the application is of another kind, or the store is
            none, or one whose functions are awaited.
    """

    @advice.with_known_arguments(ELSEWHERE)
    def __init__(
        self,
        app: Flask | None = None,
        *,
        store: str | Store | Unset = UNSET,
        absolute_timeout: float | timedelta | None | Unset = UNSET,
        namespace: str | Unset = UNSET,
        owner_key: str | Iterable[str] | Unset = UNSET,
        sign_in_names: str | Iterable[str] | Unset = UNSET,
        on_owner_change: Literal["drop", "keep"] | Unset = UNSET,
        store_timeout: float | timedelta | Unset = UNSET,
        on_outage: OnOutage | Unset = UNSET,
        near_cache: bool | NearCache | Mapping[str, float] | None | Unset = UNSET,
        stale_if_error: float | timedelta | Unset = UNSET,
        replica: str | Store | None | Unset = UNSET,
        adopt: Source | Iterable[Source] | Unset = UNSET,
        switch_at: str | datetime | None = None,
        before: SessionInterface | None = None,
        https_only: bool | None | Unset = UNSET,
    ) -> None:
        given = dict(locals())
        at = moment(switch_at, before)
        if before is not None and not isinstance(before, SessionInterface):
            raise ConfigurationError(
                "before must be the old session interface, app.session_interface behind the line "
                f"that sets it, got {quoted(before)}."
            )
        self._before = None if at is None or before is None else Switch(before, at)
        # They are looked through for each combination of options.
        self._arguments = {
            name: tuple(given[name]) if isinstance(given[name], Iterator) else given[name]
            for name in (*OWN_OPTIONS, "https_only")
        }
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Become the session interface of an application; the secret key may be set later."""
        misuse.require_flask(app, Flask)
        app = _behind(app)  # signals know a sender by its identity
        other = app.session_interface
        if isinstance(other, SharedSession) and other is not self:
            warnings.warn(
                "This application had a SharedSession before, which is replaced: leave one of the "
                "two lines.",
                RuntimeWarning,
                stacklevel=3,
            )
        advice.warn_of_variables(os.environ, NAMES)
        if self._before is None:  # else the old layer reads its own
            advice.warn_of_options(
                app.config,
                {**FLASK_NAMES, **{name: name for name in app.default_config}},
                [FLASK_NAMES[name] for name in FLASK_NAMES if self._is_given(app, name)],
            )
        options: dict[str, Any] = {}
        with suppress(RuntimeError):  # of a cookie's name, say, that depends on the request
            options = self._cookie_options(app)
        keys = self._secret_keys(app)
        if keys is None and not os.environ.get("SHAREDSESSION_SECRET_KEY"):
            keys = (secrets.token_bytes(),)  # until there is one
        settings = self._settings(app, options if keys is None else {**options, "secret_key": keys})
        if "sharedsession" not in app.extensions:
            # mypy: Flask's documentation wraps an application's methods so.
            app.wsgi_app = _Closing(app, app.wsgi_app)  # type: ignore[method-assign]
            app.handle_exception = partial(_handle_exception, app.handle_exception)  # type: ignore[method-assign]
            made = app.test_request_context
            app.test_request_context = partial(_test_request_context, made)  # type: ignore[method-assign]
            request_started.connect(_dispatched, app)
        app.extensions["sharedsession"] = sessions = _AppSessions(settings)
        announce(settings, sessions.said)
        app.session_interface = self
        app.cli.add_command(_command)

    # --- what Flask calls ---

    null_session_class = NoSession

    def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
        """Return the request's session, not loaded; None without a secret key."""
        if not (app.secret_key or os.environ.get("SHAREDSESSION_SECRET_KEY")):
            return None
        if self._before is not None and self._before.is_ahead(self._of(app).manager.clock()):
            setattr(request, BEFORE, self._before.app)
            return self._before.app.open_session(app, request)
        cookies = request.environ.get("HTTP_COOKIE", "")
        ours = cookies if self._may_concern(app, cookies) else None
        manager = partial(self.manager_of, app)
        if "sharedsession" not in app.extensions:  # assigned as app.session_interface
            self.init_app(app)
            setattr(request, ANSWERED, True)  # too late to learn it
        convert = _Conversion(app, ref(_behind(request)))
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
        current = _behind(request)
        if not getattr(current, ANSWERED, False):
            self._of(app).finish(session)
            return
        if response.status_code == 503 and exchange.met_outage:
            exchange.give_up()  # it is answered already: nothing of this request is stored
            _make_unavailable(response, 503, page=True)
            return
        self._respond(app, exchange, response)
        finish = partial(self._of(app).finish, session)
        ending = current.environ.get(ENDING)
        if ending is None:  # not by way of the server
            response.call_on_close(finish)
        else:
            runs = isinstance(response.response, Generator)
            ending.finish, ending.is_file = finish, response.direct_passthrough and not runs

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """As Flask has it; where the cookie is not to be refreshed, nothing is loaded for it."""
        # As `modified`, without looking into the values: what has changed there is no reason.
        if was_written(session) if isinstance(session, Session) else session.modified:
            return True
        return bool(app.config["SESSION_REFRESH_EACH_REQUEST"]) and session.permanent

    def get_expiration_time(self, app: Flask, session: SessionMixin) -> datetime | None:
        """As Flask has it, but for a session that `Session.set_lifetime` gave its own lifetime."""
        own = lifetime_of(cast(Session, session))
        if isinstance(own, datetime):
            return own
        if isinstance(own, int):
            return datetime.now(UTC) + timedelta(seconds=own)
        return super().get_expiration_time(app, session)

    def get_cookie_partitioned(self, app: Flask) -> bool:
        """As Flask 3.1 has it; with an older Werkzeug, which knows no such cookie, it is refused.

        Raises:
            ConfigurationError: SESSION_COOKIE_PARTITIONED is on, and Werkzeug is older than 3.1.
        """
        partitioned = bool(app.config.get("SESSION_COOKIE_PARTITIONED"))
        if partitioned and "partitioned" not in signature(app.response_class.set_cookie).parameters:
            raise ConfigurationError(
                "SESSION_COOKIE_PARTITIONED needs Werkzeug 3.1 or newer: upgrade it, or turn the "
                "option off."
            )
        return partitioned

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

    def _may_concern(self, app: Flask, cookies: str) -> bool:
        """Whether a cookie of ours, or of what sessions are taken over from, is among them."""
        if f"{self.get_cookie_name(app)}=" in cookies:
            return True
        if "sharedsession" not in app.extensions:
            return False
        old = self._of(app).manager.settings.adopt
        return any(each.cookie is not None and f"{each.cookie}=" in cookies for each in old)

    def _is_given(self, app: Flask, name: str) -> bool:
        """Whether the application made this setting, by an argument or by its option."""
        option = FLASK_NAMES[name]
        found, default = app.config.get(option), app.default_config.get(option)
        return self._arguments.get(name, UNSET) is not UNSET or found not in (None, default)

    def _respond(self, app: Flask, exchange: Exchange, response: Response) -> None:
        """Commit; what the core answers in the application's place is put into the response."""
        untouched = isinstance(exchange.session, UnusedSession) and not exchange.session.accessed
        attributes = {}
        try:
            repeat = self._repeats(app, exchange)
            if exchange.is_used:  # what may be wrong with the options shows before it is written
                exchange.manager = self.manager_of(app)
                attributes = self._attributes(app, exchange.manager)
                if not isinstance(exchange.session, UnusedSession):
                    self.get_expiration_time(app, cast(SessionMixin, exchange.session))
        except Exception:
            exchange.give_up()
            raise
        respond = exchange.respond(response.status_code, (), repeat=repeat, needed=not untouched)
        instead = self._of(app).run(respond)
        if instead is not None:
            _make_unavailable(response, instead)
        elif exchange.is_used:
            self._dress(app, exchange, response, attributes)

    def _attributes(self, app: Flask, manager: Manager) -> dict[str, Any]:  # Any: of several types
        secure = manager.settings.https_only
        attributes: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app) or "/",
            "secure": request.is_secure if secure is None else secure,
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
        }
        if self.get_cookie_partitioned(app):
            attributes["partitioned"] = True
        return attributes

    def _dress(
        self, app: Flask, exchange: Exchange, response: Response, attributes: dict[str, Any]
    ) -> None:
        """Set the response's headers, as Flask spells them."""
        if "Vary" not in response.headers:
            response.headers["Vary"] = "Cookie"
        elif "*" not in response.vary:
            response.vary.add("Cookie")
        if exchange.reads_as_empty:
            response.cache_control.no_store = True
        reply, manager = exchange.reply, exchange.manager
        for source in exchange.left_behind():
            response.headers.add("Set-Cookie", removal(source))
        if exchange.is_distrusted or (reply is None and not exchange.removed):
            return
        name = manager.settings.session_cookie
        if exchange.removed or reply is None:
            response.delete_cookie(name, **attributes)
        else:
            if not request.is_secure:
                check_scheme(
                    manager,
                    partial(environ_header, request.environ),
                    "app.wsgi_app = ProxyFix(app.wsgi_app) from werkzeug.middleware.proxy_fix",
                    "set SESSION_COOKIE_SECURE",
                )
            expires = self.get_expiration_time(app, cast(SessionMixin, exchange.session))
            response.set_cookie(name, manager.codec.sign(reply), expires=expires, **attributes)
        cache = response.cache_control
        if cache.no_store or ("private" in cache and cache["private"] is None):
            return
        if reply in exchange.cookies:  # the very cookie that came, with a static file as well
            cache.public, cache.private = False, True
        else:
            cache.no_store = True

    def _repeats(self, app: Flask, exchange: Exchange) -> bool:
        """Whether the cookie is set again, even if nothing has changed.

        A permanent session is refreshed by requests that do not use it, too: with
        SESSION_REFRESH_EACH_REQUEST one whose cookie verifies is loaded, to learn whether it is.
        """
        session = cast(SessionMixin, exchange.session)
        own_rule = type(self).should_set_cookie is not SharedSession.should_set_cookie
        if not isinstance(session, UnusedSession):
            stored = None if exchange.record is None else exchange.record.lifetime
            lasting = own_rule or session.permanent or stored not in (None, "browser")
            # A write alone is no reason: its answer could arrive after that of a sign-in.
            return self.should_set_cookie(app, session) and (lasting or exchange.writes_nothing)
        if app.config["SESSION_REFRESH_EACH_REQUEST"] or own_rule:
            return exchange.load_to_refresh(partial(self.should_set_cookie, app, session))
        return False

    def _of(self, app: Flask) -> _AppSessions:
        return cast(_AppSessions, app.extensions["sharedsession"])

    def manager_of(self, app: Flask) -> Manager:
        """Return the manager for the options as they are now."""
        sessions, seen = self._of(app), self._seen(app)
        known, manager = sessions.latest
        if manager is None or seen is None or seen != known:
            manager = self._manager_of(app)
            if seen == self._seen(app):  # else another thread has changed the options meanwhile
                sessions.latest = seen, manager
        return manager

    def _seen(self, app: Flask) -> tuple[object, ...] | None:
        """Return all that the options depend on, where no method of the application's does more."""
        kinds = type(self), type(app), type(app.config)
        known = self._of(app).plain
        if kinds not in known:
            known[kinds] = _are_plain(*kinds)
        if not known[kinds] or not vars(self).keys().isdisjoint(HOOKS):
            return None
        option = app.config.get
        fallbacks = option("SECRET_KEY_FALLBACKS") or ()
        return (*map(option, SEEN), type(fallbacks), *fallbacks)

    def _manager_of(self, app: Flask) -> Manager:
        options = self._cookie_options(app)
        keys = self._secret_keys(app)
        if keys is not None:
            options["secret_key"] = keys
        key = tuple(options.items())
        known = self._of(app).managers
        manager = known.get(key)
        if manager is None:
            if len(known) >= MOST_MANAGERS:
                known.clear()
            settings = self._settings(app, options)
            announce(settings, self._of(app).said)
            manager = known[key] = Manager(settings, process=self._of(app).manager.process)
        return manager

    def _secret_keys(self, app: Flask) -> tuple[Any, ...] | None:
        """Return the keys of the configuration, newest first; None where there is none."""
        if not app.secret_key:
            return None
        fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or ()
        if isinstance(fallbacks, str | bytes):  # each of its characters would be a key
            raise ConfigurationError("SECRET_KEY_FALLBACKS is a list of keys: write [key].")
        return (app.secret_key, *fallbacks)

    def _cookie_options(self, app: Flask) -> dict[str, Any]:  # Any: as the application wrote them
        return {
            "session_cookie": self.get_cookie_name(app),
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "same_site": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
            "https_only": self.get_cookie_secure(app),
            "max_age": self._lifetime(app),
        }

    def _lifetime(self, app: Flask) -> timedelta:
        try:
            lifetime: object = app.permanent_session_lifetime
        except TypeError:  # of the configuration's value, which Flask makes a timedelta of
            lifetime = None
        if not isinstance(lifetime, timedelta):
            found = app.config["PERMANENT_SESSION_LIFETIME"]
            raise ConfigurationError(
                f"PERMANENT_SESSION_LIFETIME is a number of seconds or a timedelta, not "
                f"{quoted(found)}."
            )
        return lifetime

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
            elif isinstance(options["https_only"], int):
                options["https_only"] = True
            if not options["domain"]:
                options["domain"] = None  # False, as older versions of Flask had it
            else:
                if "://" in str(options["domain"]):  # werkzeug takes its scheme for the host
                    check_domain(FLASK_NAMES["domain"], options["domain"])
                name, domain = options["session_cookie"], options["domain"]
                sent = dump_cookie(name, "", domain=domain, path=None)
                options["domain"] = sent.partition("Domain=")[2].partition(";")[0]
        return gather(self._arguments, options, options=FLASK_NAMES)


def _are_plain(interface: type[SharedSession], app: type[Flask], config: type[Config]) -> bool:
    """Whether the options are made of the configuration, a plain dict, and of nothing else."""
    own = all(getattr(interface, name) is getattr(SharedSession, name) for name in HOOKS)
    theirs = all(getattr(app, name) is getattr(Flask, name) for name in APP_HOOKS)
    return own and theirs and (config.get, config.__getitem__) == (dict.get, dict.__getitem__)


_SERIALIZER = TaggedJSONSerializer()


@dataclass(slots=True, eq=False)
class _Conversion:
    """What Flask's own session would give back for values that a session cannot hold.

    A proxy is stored as what it stands for. Everything else goes through Flask's serializer and the
    application's JSON provider: a lazily translated text becomes Markup, a dataclass a dict.

    While its request is served a value is converted anew each time: it may have changed. After that
    there is no language to translate to, and what a proxy stands for is gone: it stays what it was.
    """

    app: Flask
    request: ref[Request]  # which holds the session, so that nothing here may hold it
    # By identity, since values need not be hashable; each is held, so that its identity stays.
    known: dict[int, tuple[object, object]] = field(default_factory=dict)

    def __call__(self, value: object) -> object:
        known = self.known.get(id(value))
        if known is not None and not self._is_served():
            return known[1]
        converted = self._convert(value)
        self.known[id(value)] = value, converted
        return converted

    def _is_served(self) -> bool:
        return has_request_context() and request == self.request()

    def _convert(self, value: object) -> object:
        current = _behind(value)
        if current is not value:
            return current
        tagged = _SERIALIZER.tag(value)
        return _SERIALIZER.loads(self.app.json.dumps(tagged, separators=(",", ":")))


def _behind(value: T) -> T:
    """Return what a proxy stands for, and anything else as it is."""
    is_proxy = issubclass(type(value), LocalProxy)
    return value._get_current_object() if is_proxy else value  # type: ignore[attr-defined]  # noqa: SLF001 - werkzeug documents it


class _AppSessions(Sessions):
    """The sessions of one application: its options may change, its store does not."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.plain: dict[tuple[type, ...], bool] = {}  # what `_are_plain` has said
        self.managers: dict[tuple[Any, ...], Manager] = {}
        # The one that was asked for last, with what the options were made from then.
        self.latest: tuple[tuple[object, ...] | None, Manager | None] = None, None
        self.said: set[str] = set()  # advice on the settings, each once
        self._replaced = False

    def run(self, flow: Flow[T] | None) -> T | None:
        """Drive a flow; an outage is raised in the form that Flask answers by itself."""
        try:
            return super().run(flow)
        except StoreUnavailable as outage:
            _let_flask_answer(outage)
            raise

    def check_interface(self, app: Flask) -> None:
        """Warn, once, when another extension has taken our place."""
        other = type(app.session_interface)
        if not issubclass(other, SharedSession) and not self._replaced:
            self._replaced = True
            warnings.warn(
                f"After SharedSession, {other.__module__}.{other.__name__} became the session "
                "interface of this application, so sessions are not in the store: leave it out.",
                RuntimeWarning,
                stacklevel=2,
            )


def _let_flask_answer(outage: StoreUnavailable) -> None:
    """Make an outage werkzeug's own exception as well, so that Flask answers it, and its handlers.

    Its ``description`` is what visitors see.
    """
    known = type(outage)
    if known not in _ANSWERED:
        names = {
            "__module__": known.__module__,
            "__qualname__": known.__qualname__,
            "description": UNAVAILABLE,
            "response": None,
            "retry_after": RETRY_AFTER,
        }
        kind = type(known.__name__, (known, ServiceUnavailable), names)
        _ANSWERED[known] = _ANSWERED[kind] = kind
    outage.__class__ = _ANSWERED[known]


_ANSWERED: dict[type[StoreUnavailable], type[StoreUnavailable]] = {}


def _before() -> SessionInterface | None:
    """Return the old session interface that has the current request, if it has."""
    found: SessionInterface | None = getattr(_behind(request), BEFORE, None)
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
    current = _behind(request)
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


def _make_unavailable(response: Response, status: int, *, page: bool = False) -> None:
    """Turn a response into a 503 or 500, in place; ``page``: it has a body for that already."""
    if page:
        for name, value in unavailable(status)[0][2:]:
            response.headers.setdefault(name, value)
        return
    headers, text = unavailable(status, response.headers)
    body = response.response
    response.status_code = status
    response.direct_passthrough = False
    response.set_data(text)
    response.headers = Headers(headers)
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
