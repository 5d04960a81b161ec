"""``request.session``: our session with all that Django's own one has.

A session is known to other code by its *handle*, which is its ``session_key``: safe to store and to
log, for no cookie can be made of it. `SessionStore` opens one by its handle when that is given by
name, and by the value of a cookie otherwise.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from http.cookies import SimpleCookie
from types import FrameType
from typing import Any, ClassVar, Self, TypeVar, cast
from weakref import ReferenceType, ref

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils import timezone
from django.utils.module_loading import import_string

from .._core.changes import Asked
from .._core.exchange import Exchange
from .._core.flows import committing, reloading
from .._core.outside import ending, opening_by_handle, reading
from .._core.record import lifetime_of
from .._core.session import Session, UnusedSession, exchange_of, ready
from .._core.steps import Flow
from ..exceptions import SessionGone
from ..stores.base import Sweeper
from ._engine import Engine, engine

T = TypeVar("T")

SWEPT_AT_ONCE = 1000  # expired rows
# Modules that put a session's key into a cookie of their own: for them it is the cookie's value.
INTO_COOKIES = frozenset(
    ("channels.sessions", "django.test.client", "allauth.socialaccount.sessions")
)
CLIENT = "django.test.client"
# Modules that give a key, which they have from their models, by position.
BY_POSITION = frozenset(("allauth.usersessions.models",))
# The session of the request that is being served, for packages that make it anew by its key.
_served: ContextVar[ReferenceType[RequestStore] | None] = ContextVar("served", default=None)

log = logging.getLogger("sharedsession")


class SessionStore(Session, SessionBase):
    """Django's ``SessionStore``: a session on its own, or that of a request.

    Args:
        cookie: the value of a session's cookie; one that does not verify is a new session.
        session_key: the handle of a session, ``request.session.session_key``. It can be read,
            changed and ended so; a new ID it is not given, for there is no client to be told.
    """

    becomes: ClassVar[type[Session]]
    is_alone = True  # no request will commit it: what Django's own stores at once is stored at once
    _engine: Engine | None = None  # that of its request
    _reached = False
    _jar: SimpleCookie | None = None  # of the test client whose session it is

    def __init__(self, cookie: str | None = None, /, *, session_key: str | None = None) -> None:
        self.__class__ = UnusedStore
        caller = sys._getframe(1)  # noqa: SLF001 - its name in CPython and PyPy
        if session_key is None and _module(caller) in BY_POSITION:
            session_key, cookie = cookie, None
        if _module(caller) == CLIENT:
            self._jar = getattr(caller.f_locals.get("self"), "cookies", None)
        if session_key is not None and "." not in session_key:
            _open_by_handle(self, session_key)
            return
        value = session_key or cookie  # the name of what it is given has misled
        sessions = engine().sessions
        name = sessions.manager.settings.session_cookie
        shown = None if value is None else f"{name}={value}"
        sessions.begin(shown, session=cast(UnusedStore, self), convert=engine().convert)
        if value and "." not in value:
            log.info(
                "SessionStore(%.6s…) was given no cookie's value, and is a new session: a handle "
                "is given by name, SessionStore(session_key=…).",
                value,
            )

    @property
    def engine(self) -> Engine:
        """What its request began with; without a request that of now."""
        return self._engine or engine()

    # --- what is known of it ---

    @property
    def session_key(self) -> str | None:
        """The handle: of the session, or of what it will be when it is stored; None: of none."""
        self._ready()
        exchange: Exchange = exchange_of(self)
        if _goes_into_a_cookie(sys._getframe(1)):  # noqa: SLF001 - its name in CPython and PyPy
            cookie = exchange.reply or exchange.cookie
            if exchange.entry is None or cookie is None or not cookie.id:
                return None
            return exchange.manager.codec.sign(cookie)
        return exchange.plan() if exchange.planned else exchange.handle

    _session_key = session_key  # as code that knows Django's own reads it

    @property
    def accessed(self) -> bool:
        """Whether it was read or written."""
        return self._reached or not isinstance(self, UnusedSession)

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._reached = value

    @property
    def serializer(self) -> Any:  # Any: whatever SESSION_SERIALIZER names
        """What SESSION_SERIALIZER names, for `encode` and `decode`; our store has its own."""
        return import_string(settings.SESSION_SERIALIZER)

    def __bool__(self) -> bool:
        """As this version of Django has it: until 6.1 always true; no use of the session."""
        return not self.is_empty() if hasattr(SessionBase, "__bool__") else True

    def is_empty(self) -> bool:
        """Whether it holds nothing and is not stored; one that was not looked at yet is not."""
        exchange: Exchange = exchange_of(self)
        if isinstance(self, UnusedSession):
            exchange.resolve()
            return exchange.opened and exchange.entry is None
        return self.session_key is None and not len(self)

    def has_key(self, key: Any) -> bool:  # Any: as dict has it
        return key in self

    def exists(self, session_key: str) -> bool:
        """Whether there is a session of this handle."""
        return self.engine.sessions.run(reading(self._another(), session_key)) is not None

    async def aexists(self, session_key: str) -> bool:
        return await self.engine.awaited.run(reading(self._another(), session_key)) is not None

    def _get_session(self, no_load: bool = False) -> SessionStore:
        return self

    async def _aget_session(self, no_load: bool = False) -> SessionStore:
        """Load it, if that is still to be done; Django's awaited methods are made of this."""
        if isinstance(self, UnusedSession):
            exchange_of(self).resolve()
            if exchange_of(self).is_loaded:
                ready(self)
            else:
                await sync_to_async(ready)(self)
        return self

    _session = property(_get_session)

    def _get_or_create_session_key(self) -> str:
        return self.session_key or exchange_of(self).plan()

    # --- what dict has, with the arguments' names that Django's own has ---

    def get(self, key: Any, default: Any = None) -> Any:  # Any: as dict has it
        return dict.get(self, key, default)

    def pop(self, key: Any, *default: Any, **named: Any) -> Any:
        return Session.pop(self, key, *default, *named.values())

    def setdefault(self, key: Any, value: Any = None) -> Any:
        return Session.setdefault(self, key, value)

    # --- its lifetime, in Django's words ---

    def set_expiry(self, value: datetime | timedelta | float | None) -> None:
        """Give it a lifetime: seconds without use, 0 to end with the browser, a moment, or None."""
        if isinstance(value, timedelta):
            value = timezone.now() + value
        if value is None or value == 0:
            self.set_lifetime(None if value is None else "browser")
        elif isinstance(value, datetime):
            self.set_lifetime(value.astimezone() if value.tzinfo is None else value)
        elif value > 0:
            self.set_lifetime(math.ceil(value))  # Django takes parts of a second, too
        else:  # it is past
            self.destroy()

    async def aset_expiry(self, value: datetime | timedelta | float | None) -> None:
        (await self._aget_session()).set_expiry(value)

    def _expiry(self) -> datetime | int | None:
        lifetime = lifetime_of(self)
        if isinstance(lifetime, datetime) and not settings.USE_TZ:
            return lifetime.astimezone().replace(tzinfo=None)  # Django reckons without zones then
        return lifetime if isinstance(lifetime, datetime | int) else None

    def get_session_cookie_age(self) -> int:
        return self.engine.manager.settings.idle_timeout

    def get_expiry_age(self, **kwargs: Any) -> int:  # Any: modification and expiry
        kwargs.setdefault("expiry", self._expiry())
        return int(super().get_expiry_age(**kwargs))

    async def aget_expiry_age(self, **kwargs: Any) -> int:
        return (await self._aget_session()).get_expiry_age(**kwargs)

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        kwargs.setdefault("expiry", self._expiry())
        return super().get_expiry_date(**kwargs)

    async def aget_expiry_date(self, **kwargs: Any) -> datetime:
        return (await self._aget_session()).get_expiry_date(**kwargs)

    def get_expire_at_browser_close(self) -> bool:
        lifetime = lifetime_of(self)
        by_default = bool(settings.SESSION_EXPIRE_AT_BROWSER_CLOSE)
        return by_default if lifetime is None else lifetime == "browser"

    async def aget_expire_at_browser_close(self) -> bool:
        return (await self._aget_session()).get_expire_at_browser_close()

    # --- what is asked of it: done when the response starts, or by `save` ---

    def cycle_key(self) -> None:
        """Give it a new ID; its key is known at once, as with Django."""
        self._plan()
        if self.is_alone:
            self._write("cycle_key()", Asked.KEPT)

    async def acycle_key(self) -> None:
        await self._aget_session()
        self._plan()
        if self.is_alone:
            await self._awrite("acycle_key()", Asked.KEPT)

    def _plan(self) -> None:
        self.renew()
        exchange_of(self).plan()

    def _end(self) -> None:
        self.destroy()
        exchange_of(self).planned = None

    def flush(self) -> None:
        """End it: by the response, or at once where there is no request."""
        if self.is_alone:
            self._ready()
        self._end()
        if self.is_alone:
            self._write("flush()", Asked.NOTHING)

    async def aflush(self) -> None:
        if self.is_alone:
            await self._aget_session()
        self._end()
        if self.is_alone:
            await self._awrite("aflush()", Asked.NOTHING)

    # --- what is done at once ---

    def save(self, must_create: bool = False) -> None:
        """Store it now, also one that holds nothing.

        Raises:
            UpdateError: it has ended meanwhile, and nothing was stored.
            CreateError: ``must_create``, and it is stored already.
        """
        self._check_new(must_create)
        self._write("save()", Asked.KEPT)

    async def asave(self, must_create: bool = False) -> None:
        await self._aget_session()
        self._check_new(must_create)
        await self._awrite("asave()", Asked.KEPT)

    def create(self) -> None:
        """Store it now, under a new ID."""
        self._write("create()", self._new())

    async def acreate(self) -> None:
        await self._aget_session()
        await self._awrite("acreate()", self._new())

    def delete(self, session_key: str | None = None) -> None:
        """End this session, or the one of a handle, now."""
        if session_key is None or session_key == self.session_key:
            self.flush()
        else:
            self.engine.sessions.run(ending(self._another(), session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        if session_key is None or session_key == (await self._aget_session()).session_key:
            await self.aflush()
        else:
            await self.engine.awaited.run(ending(self._another(), session_key))

    def load(self) -> dict[Any, Any]:  # Any: whatever was put into it
        """Read it again, and return what it holds; nothing, where it has ended."""
        try:
            self._verb("load()", reloading)
        except SessionGone:
            return {}
        return dict(self)

    async def aload(self) -> dict[Any, Any]:
        await self._aget_session()
        try:
            await self._averb("aload()", reloading)
        except SessionGone:
            return {}
        return dict(self)

    async def acommit(self, function: Callable[[Session], T] | None = None) -> T | None:
        """`Session.commit`, awaited."""
        await self._aget_session()
        result: T | None = await self._averb("acommit()", lambda each: committing(each, function))
        return result

    async def areload(self) -> None:
        """`Session.reload`, awaited."""
        await self._aget_session()
        await self._averb("areload()", reloading)

    @classmethod
    def clear_expired(cls) -> None:
        """Remove the rows of sessions that have expired, where the store does not by itself."""
        store = engine().sessions.stores.sync
        while isinstance(store, Sweeper) and store.sweep(SWEPT_AT_ONCE) == SWEPT_AT_ONCE:
            pass

    @classmethod
    async def aclear_expired(cls) -> None:
        await sync_to_async(cls.clear_expired)()

    # --- inside ---

    def _another(self) -> Exchange:
        return Exchange(self.engine.manager)

    def _check_new(self, must_create: bool) -> None:
        if must_create and exchange_of(self).handle is not None:
            raise CreateError

    def _new(self) -> Asked:
        stored = exchange_of(self).handle is not None
        return Asked.KEPT | Asked.RENEWED if stored else Asked.KEPT

    def _write(self, name: str, asked: Asked) -> None:
        self._ask(asked)
        with self._stored():
            self._verb(name, lambda exchange: committing(exchange, None))

    async def _awrite(self, name: str, asked: Asked) -> None:
        self._ask(asked)
        with self._stored():
            await self._averb(name, lambda exchange: committing(exchange, None))

    @contextmanager
    def _stored(self) -> Iterator[None]:
        """Say in Django's words that it is gone; give a test client the cookie of a new ID."""
        try:
            yield
        except SessionGone as gone:
            raise UpdateError(str(gone)) from gone
        exchange: Exchange = exchange_of(self)
        name = exchange.manager.settings.session_cookie
        if self._jar is not None and name in self._jar and exchange.reply is not None:
            self._jar[name] = exchange.manager.codec.sign(exchange.reply)

    def _verb(self, name: str, flow: Callable[[Exchange], Flow[T]]) -> T | None:
        exchange: Exchange = exchange_of(self)
        exchange.begin_verb(name)
        with exchange.running_verb(name):
            return self.engine.sessions.run(flow(exchange))

    async def _averb(self, name: str, flow: Callable[[Exchange], Flow[T]]) -> T | None:
        exchange: Exchange = exchange_of(self)
        exchange.begin_verb(name)
        with exchange.running_verb(name):
            return await self.engine.awaited.run(flow(exchange))


class UnusedStore(UnusedSession, SessionStore):
    """A `SessionStore` until its first use."""


class RequestStore(SessionStore):
    """That of a request, which commits it."""

    is_alone = False
    is_prolonged = False  # by ``session.modified = True``: cookie and all

    def say_modified(self, value: bool) -> None:
        """Note that it is to be stored, and its cookie sent again, whatever has changed."""
        self._modified, self.is_prolonged = value, bool(value)

    modified = cast(Any, Session.modified).setter(say_modified)

    def __new__(cls, key: str | None = None, /, **_: Any) -> Self:
        """Return the session that is being served, where ``session.__class__(key)`` means it."""
        served = _served.get()
        session = None if key is None or served is None else served()
        if session is not None and session.session_key == key:
            return cast(Self, session)
        return super().__new__(cls)

    def __init__(self, cookie: str | None = None, /, *, session_key: str | None = None) -> None:
        if exchange_of(self) is None:
            super().__init__(cookie, session_key=session_key)


class UnusedRequestStore(UnusedSession, RequestStore):
    """The same until its first use."""

    modified = cast(Any, UnusedSession.modified).setter(RequestStore.say_modified)


SessionStore.becomes = UnusedStore.becomes = SessionStore
RequestStore.becomes = UnusedRequestStore.becomes = RequestStore


def _open_by_handle(session: SessionStore, handle: str) -> None:
    """Let a session be loaded by its handle when it is used."""
    sessions = engine().sessions
    exchange = Exchange(
        sessions.manager,
        run=lambda _exchange, _name, flow: sessions.run(flow),
        load=lambda exchange: sessions.run(opening_by_handle(exchange, handle)),
        session=cast(UnusedStore, session),
    )
    exchange.convert, exchange.opened = engine().convert, False
    exchange.hide()


def serve(session: RequestStore) -> None:
    """Note that this is the session of the request that is being served here."""
    _served.set(ref(session))


def _module(frame: FrameType | None) -> object:
    return None if frame is None else frame.f_globals.get("__name__")


def _goes_into_a_cookie(caller: FrameType | None) -> bool:
    """Whether a session's key is read by what puts it into a cookie, itself or by a proxy."""
    behind = None if caller is None else caller.f_back
    return any(_module(frame) in INTO_COOKIES for frame in (caller, behind))
