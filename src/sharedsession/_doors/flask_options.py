"""What Flask and Quart have in common: options, the values of their session, and its cookie.

A door adds what differs: who calls it, and whether the store is awaited.
"""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from inspect import signature
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, cast
from urllib.parse import quote
from weakref import ref

from flask.json.tag import TaggedJSONSerializer
from flask.sessions import NullSession, SessionMixin
from werkzeug.datastructures import Headers
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.http import dump_cookie
from werkzeug.local import LocalProxy

from .._core.answers import check_scheme, unavailable
from .._core.cookie import removal
from .._core.exchange import Exchange
from .._core.manager import Manager
from .._core.record import LONGEST, lifetime_of
from .._core.session import Session, UnusedSession, was_written
from .._core.settings import (
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
from .._core.source import Source
from .._core.steps import Flow
from ..exceptions import RETRY_AFTER, UNAVAILABLE, ConfigurationError, StoreUnavailable
from . import advice
from .switching import Switch, moment

if TYPE_CHECKING:
    from werkzeug.sansio.request import Request
    from werkzeug.sansio.response import Response

T = TypeVar("T")
AppT = TypeVar("AppT")
StoreT = TypeVar("StoreT")
InterfaceT = TypeVar("InterfaceT")
App = Any  # a Flask or a Quart application, which have no class in common before Flask 2.3

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


class NoSession(NullSession):
    """Without a secret key: our verbs raise Flask's own error, as writes do."""

    renew = mark_authenticated = destroy = set_lifetime = mutate = commit = reload = (
        NullSession.clear
    )


SessionMixin.register(Session)


# Where what is no argument of `SharedSession` is set.
ELSEWHERE = {
    name: f"set app.config[{option!r}]"
    for name, option in FLASK_NAMES.items()
    if name not in (*OWN_OPTIONS, "https_only")
} | dict.fromkeys(("scope_key", "environ_key"), "the session is flask.session, or quart.session")


class OfOneApplication:
    """What the sessions of one application remember: its options may change, its store does not."""

    manager: Manager

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)  # type: ignore[call-arg]  # `Sessions` or `AsyncSessions` is next
        self.plain: dict[tuple[type, ...], bool] = {}  # what `_are_plain` has said
        self.managers: dict[tuple[Any, ...], Manager] = {}
        # The one that was asked for last, with what the options were made from then.
        self.latest: tuple[tuple[object, ...] | None, Manager | None] = None, None
        self.said: set[str] = set()  # advice on the settings, each once
        self._replaced = False

    def check_interface(self, app: App) -> None:
        """Warn, once, when another extension has taken our place."""
        other = type(app.session_interface)
        if not issubclass(other, OptionsOfFlask) and not self._replaced:
            self._replaced = True
            warnings.warn(
                f"After SharedSession, {other.__module__}.{other.__name__} became the session "
                "interface of this application, so sessions are not in the store: leave it out.",
                RuntimeWarning,
                stacklevel=2,
            )


def sessions_of(app: App) -> Any:  # Any: the door's own `OfOneApplication`
    """Return the sessions of an application that a request has come for."""
    sessions = app.extensions["sharedsession"]
    sessions.check_interface(app)
    return sessions


class OptionsOfFlask(Generic[AppT, StoreT, InterfaceT]):
    """A session interface, as far as it is a matter of options: those of the configuration.

    Each is read at each request, by methods that an application may override.
    """

    framework: ClassVar[type]  # of which the application is
    interface: ClassVar[type]  # of which the framework's session interfaces are
    null_session_class = NoSession

    if TYPE_CHECKING:  # what the door has, and the framework's `SessionInterface`, next in line

        def init_app(self, app: AppT) -> None: ...
        def get_cookie_name(self, app: App) -> str: ...
        def get_cookie_domain(self, app: App) -> str | None: ...
        def get_cookie_path(self, app: App) -> str: ...
        def get_cookie_httponly(self, app: App) -> bool: ...
        def get_cookie_secure(self, app: App) -> bool: ...
        def get_cookie_samesite(self, app: App) -> Any: ...

    @advice.with_known_arguments(ELSEWHERE)
    def __init__(
        self,
        app: AppT | None = None,
        *,
        store: str | StoreT | Unset = UNSET,
        absolute_timeout: float | timedelta | None | Unset = UNSET,
        namespace: str | Unset = UNSET,
        owner_key: str | Iterable[str] | Unset = UNSET,
        sign_in_names: str | Iterable[str] | Unset = UNSET,
        on_owner_change: Literal["drop", "keep"] | Unset = UNSET,
        store_timeout: float | timedelta | Unset = UNSET,
        on_outage: OnOutage | Unset = UNSET,
        near_cache: bool | NearCache | Mapping[str, float] | None | Unset = UNSET,
        stale_if_error: float | timedelta | Unset = UNSET,
        replica: str | StoreT | None | Unset = UNSET,
        adopt: Source | Iterable[Source] | Unset = UNSET,
        switch_at: str | datetime | None = None,
        before: InterfaceT | None = None,
        https_only: bool | None | Unset = UNSET,
    ) -> None:
        given = dict(locals())
        at = moment(switch_at, before)
        if before is not None and not isinstance(before, self.interface):
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

    def _begin_with(self, app: App) -> Settings:
        """Return the settings that an application begins with, and warn of what may be wrong."""
        other = app.session_interface
        if isinstance(other, OptionsOfFlask) and other is not self:
            warnings.warn(
                "This application had a SharedSession before, which is replaced: leave one of the "
                "two lines.",
                RuntimeWarning,
                stacklevel=4,
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
        return self._settings(app, options if keys is None else {**options, "secret_key": keys})

    def _become(self, app: App, sessions: OfOneApplication) -> None:
        """Be the session interface of an application, whose sessions are these."""
        app.extensions["sharedsession"] = sessions
        announce(sessions.manager.settings, sessions.said)
        app.session_interface = self

    def _has_key(self, app: App) -> bool:
        return bool(app.secret_key or os.environ.get("SHAREDSESSION_SECRET_KEY"))

    # --- the cookie of a response ---

    def should_set_cookie(self, app: App, session: SessionMixin) -> bool:
        """As Flask has it; where the cookie is not to be refreshed, nothing is loaded for it."""
        # As `modified`, without looking into the values: what has changed there is no reason.
        if was_written(session) if isinstance(session, Session) else session.modified:
            return True
        return bool(app.config["SESSION_REFRESH_EACH_REQUEST"]) and session.permanent

    def get_expiration_time(self, app: App, session: SessionMixin) -> datetime | None:
        """As Flask has it, but for a session that `Session.set_lifetime` gave its own lifetime."""
        own = lifetime_of(cast(Session, session))
        if isinstance(own, datetime):
            return own
        if isinstance(own, int):
            return datetime.now(UTC) + timedelta(seconds=own)
        expires: datetime | None = super().get_expiration_time(app, session)  # type: ignore[misc]
        return expires

    def get_cookie_partitioned(self, app: App) -> bool:
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

    def _responding(
        self, app: App, exchange: Exchange, request: Request, response: Response
    ) -> tuple[Flow[int | None] | None, dict[str, Any]]:
        """Return what commits before a response leaves, and the attributes of its cookie.

        What may be wrong with the options shows before anything is written.
        """
        untouched = isinstance(exchange.session, UnusedSession) and not exchange.session.accessed
        attributes: dict[str, Any] = {}
        try:
            repeat = self._repeats(app, exchange)
            if exchange.is_used:
                exchange.manager = self.manager_of(app)
                attributes = self._attributes(app, exchange.manager, request)
                if not isinstance(exchange.session, UnusedSession):
                    self.get_expiration_time(app, cast(SessionMixin, exchange.session))
        except Exception:
            exchange.give_up()
            raise
        status = response.status_code
        return exchange.respond(status, (), repeat=repeat, needed=not untouched), attributes

    def _attributes(
        self, app: App, manager: Manager, request: Request
    ) -> dict[str, Any]:  # Any: of several types
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
        self,
        app: App,
        exchange: Exchange,
        request: Request,
        response: Response,
        attributes: dict[str, Any],
        proxy: str,
    ) -> None:
        """Set the response's headers, as Flask spells them; ``proxy``: how it trusts one."""
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
                    lambda name: ",".join(request.headers.getlist(name)),
                    proxy,
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

    def _repeats(self, app: App, exchange: Exchange) -> bool:
        """Whether the cookie is set again, even if nothing has changed.

        A permanent session is refreshed by requests that do not use it, too: with
        SESSION_REFRESH_EACH_REQUEST one whose cookie verifies is loaded, to learn whether it is.
        """
        session = cast(SessionMixin, exchange.session)
        own_rule = type(self).should_set_cookie is not OptionsOfFlask.should_set_cookie
        if not isinstance(session, UnusedSession):
            stored = None if exchange.record is None else exchange.record.lifetime
            lasting = own_rule or session.permanent or stored not in (None, "browser")
            # A write alone is no reason: its answer could arrive after that of a sign-in.
            return self.should_set_cookie(app, session) and (lasting or exchange.writes_nothing)
        if app.config["SESSION_REFRESH_EACH_REQUEST"] or own_rule:
            return exchange.load_to_refresh(partial(self.should_set_cookie, app, session))
        return False

    # --- the options as they are now ---

    def _of(self, app: App) -> Any:  # Any: the door's own `OfOneApplication`
        return app.extensions["sharedsession"]

    def manager_of(self, app: App) -> Manager:
        """Return the manager for the options as they are now."""
        sessions: OfOneApplication = self._of(app)
        seen = self._seen(app)
        known, manager = sessions.latest
        if manager is None or seen is None or seen != known:
            manager = self._manager_of(app)
            if seen == self._seen(app):  # else another thread has changed the options meanwhile
                sessions.latest = seen, manager
        return manager

    def _seen(self, app: App) -> tuple[object, ...] | None:
        """Return all that the options depend on, where no method of the application's does more."""
        kinds = type(self), type(app), type(app.config)
        known = self._of(app).plain
        if kinds not in known:
            known[kinds] = self._are_plain(*kinds)
        if not known[kinds] or not vars(self).keys().isdisjoint(HOOKS):
            return None
        option = app.config.get
        fallbacks = option("SECRET_KEY_FALLBACKS") or ()
        return (*map(option, SEEN), type(fallbacks), *fallbacks)

    def _manager_of(self, app: App) -> Manager:
        options = self._cookie_options(app)
        keys = self._secret_keys(app)
        if keys is not None:
            options["secret_key"] = keys
        key = tuple(options.items())
        sessions: OfOneApplication = self._of(app)
        known = sessions.managers
        manager = known.get(key)
        if manager is None:
            if len(known) >= MOST_MANAGERS:
                known.clear()
            settings = self._settings(app, options)
            announce(settings, sessions.said)
            manager = known[key] = Manager(settings, process=sessions.manager.process)
        return manager

    def _secret_keys(self, app: App) -> tuple[Any, ...] | None:
        """Return the keys of the configuration, newest first; None where there is none."""
        if not app.secret_key:
            return None
        fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or ()
        if isinstance(fallbacks, str | bytes):  # each of its characters would be a key
            raise ConfigurationError("SECRET_KEY_FALLBACKS is a list of keys: write [key].")
        return (app.secret_key, *fallbacks)

    def _cookie_options(self, app: App) -> dict[str, Any]:  # Any: as the application wrote them
        return {
            "session_cookie": self.get_cookie_name(app),
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "same_site": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
            "https_only": self.get_cookie_secure(app),
            "max_age": self._lifetime(app),
        }

    def _lifetime(self, app: App) -> timedelta:
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

    def _settings(self, app: App, cookie: Mapping[str, Any]) -> Settings:
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

    def _may_concern(self, app: App, cookies: str) -> bool:
        """Whether a cookie of ours, or of what sessions are taken over from, is among them."""
        if f"{self.get_cookie_name(app)}=" in cookies:
            return True
        if "sharedsession" not in app.extensions:
            return False
        old = self._of(app).manager.settings.adopt
        return any(each.cookie is not None and f"{each.cookie}=" in cookies for each in old)

    def _is_given(self, app: App, name: str) -> bool:
        """Whether the application made this setting, by an argument or by its option."""
        option = FLASK_NAMES[name]
        found, default = app.config.get(option), app.default_config.get(option)
        return self._arguments.get(name, UNSET) is not UNSET or found not in (None, default)

    def _are_plain(self, interface: type, app: type, config: type[dict[str, Any]]) -> bool:
        """Whether the options are made of the configuration, a plain dict, and of nothing else."""
        doors = next(each for each in interface.__mro__ if "framework" in vars(each))
        own = all(getattr(interface, name) is getattr(doors, name) for name in HOOKS)
        theirs = all(getattr(app, name) is getattr(self.framework, name) for name in APP_HOOKS)
        return own and theirs and (config.get, config.__getitem__) == (dict.get, dict.__getitem__)


_SERIALIZER = TaggedJSONSerializer()


@dataclass(slots=True, eq=False)
class Conversion:
    """What Flask's own session would give back for values that a session cannot hold.

    A proxy is stored as what it stands for. Everything else goes through Flask's serializer and the
    application's JSON provider: a lazily translated text becomes Markup, a dataclass a dict.

    While its request is served a value is converted anew each time: it may have changed. After that
    there is no language to translate to, and what a proxy stands for is gone: it stays what it was.
    """

    app: App
    request: ref[Request]  # which holds the session, so that nothing here may hold it
    current: Callable[[], object]  # returns the request that is served now, or None
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
        current = self.current()
        return current is not None and current is self.request()

    def _convert(self, value: object) -> object:
        current = behind(value)
        if current is not value:
            return current
        tagged = _SERIALIZER.tag(value)
        return _SERIALIZER.loads(self.app.json.dumps(tagged, separators=(",", ":")))


def behind(value: T) -> T:
    """Return what a proxy stands for, and anything else as it is."""
    is_proxy = issubclass(type(value), LocalProxy)
    return value._get_current_object() if is_proxy else value  # type: ignore[attr-defined]  # noqa: SLF001 - werkzeug documents it


def let_werkzeug_answer(outage: StoreUnavailable) -> None:
    """Make an outage werkzeug's own exception as well, so that the framework answers it.

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


def answered_already(response: Any) -> None:  # Any: as below
    """Give a page for an outage the headers that an answer to one has."""
    for name, value in unavailable()[0][2:]:
        response.headers.setdefault(name, value)


def answered_instead(response: Any, status: int) -> None:  # Any: a response of Flask or of Quart
    """Give a response the headers and the body of a 503 or a 500, in place."""
    headers, text = unavailable(status, response.headers)
    response.status_code = status
    response.set_data(text)
    response.headers = Headers(headers)
