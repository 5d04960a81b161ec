"""What the application holds: a dict with a few more names.

`Session` overrides no read; it notes writes, for the frameworks' flags, and keeps what a commit
needs to know about this request's own doings. `UnusedSession` is a session that nobody has used
yet: not loaded, failed to load, or loaded with its data in place. It overrides *every* dict method;
the first use loads (or raises the outage), and sets ``__class__`` to `Session`.

Encoders written in C (json, orjson, Jinja's tojson) write ``{}`` for an empty dict without calling
any method. So the storage of a session that is not loaded holds one private object under itself:
what reads below the methods fails loudly instead.

Inside the package a session is read by dict's own methods only, ``dict(dict.items(session))``:
``dict.copy``, ``bool`` and ``len`` would trip over the overrides.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Protocol, TypeVar

from .record import EMPTY, Changes, Data, check_data, compare, decode_data, encode_data

T = TypeVar("T")

PERMANENT = "_permanent"  # the key under which Flask notes that the cookie outlives the browser


class Backing(Protocol):
    """What stands behind a session during a request. The flows implement it."""

    @property
    def is_new(self) -> bool: ...
    @property
    def created_at(self) -> float: ...
    @property
    def authenticated_at(self) -> float | None: ...
    @property
    def handle(self) -> str | None: ...

    def commit(self, session: Session, function: Callable[[Session], Any] | None) -> Any:
        """Write now; an awaitable under ASGI, the result itself elsewhere."""

    def reload(self, session: Session) -> Any:
        """Read again; an awaitable under ASGI, None elsewhere."""


@dataclass(slots=True)
class Intent:
    """What a request did to its session, so that it can be done again over newer data.

    ``steps`` are changes and functions in the order in which they happened. ``over`` does them
    again; ``result`` is what the last function returned when it did. ``shown`` and ``asked`` stay
    as they were frozen: what the application sees, encoded, and what it asked for.
    """

    before: bytes
    data: Data
    encoded: bytes
    backing: Backing | None
    steps: list[tuple[Changes, Callable[[Session], object] | None]]
    start_empty: bool
    fresh_id: bool
    destroyed: bool
    renew: bool
    authenticated: bool
    result: object = None
    replayed: bool = False
    _own: Data | None = None
    shown: bytes = field(init=False)
    asked: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.shown = self.encoded
        self.asked = (
            self.start_empty,
            self.fresh_id,
            self.destroyed,
            self.renew,
            self.authenticated,
        )

    @property
    def changed(self) -> bool:
        return self.start_empty or self.encoded != self.before

    @property
    def ends(self) -> bool:
        """Whether this request wants the session ended, whatever others wrote."""
        return (self.start_empty or self.fresh_id) and self.empty

    @property
    def empty(self) -> bool:
        """Whether there is nothing worth keeping: Flask's mark of a permanent session is not."""
        return len(self.data) < 2 and self.data.keys() <= {PERMANENT}

    def own(self) -> Data:
        """Only what this request set, as it first did."""
        if self._own is None:
            # After clear() or destroy() every key is this request's, whatever it was before.
            before = EMPTY if self.start_empty or self.fresh_id else self.before
            self._own = {}
            Changes(compare(before, self.data).assigned, ()).lay_over(self._own)
        return self._own

    def over(self, fresh: bytes) -> None:
        """Do this request's steps again, over ``fresh`` instead of what was loaded."""
        own = self.own()
        self.replayed = True
        scratch = Session(decode_data(EMPTY if self.start_empty else fresh))
        scratch._backing = self.backing
        scratch._running = True
        for changes, function in self.steps:
            changes.lay_over(scratch)
            if function is not None:
                self.result = function(scratch)
        self.renew |= scratch._renew
        self.authenticated |= scratch._authenticated
        self.fresh_id |= scratch._fresh_id
        self.destroyed |= scratch._destroyed
        self.data = dict(dict.items(scratch))
        check_data(self.data)
        self.before = fresh
        self.encoded = encode_data(self.data)
        self._own = None
        self._own = {**own, **self.own()}


class Session(dict[Any, Any]):
    """A session, as ``request.session`` gives it: a dict, with a few more names.

    Changes inside lists and dicts count; no flag needs to be set.
    """

    accessed: bool = False
    """Whether the session was reached for, in the frameworks' sense of the word."""
    modified: bool = False
    """Whether a key was set or removed. Setting it by hand is allowed and harmless."""

    # Class-level defaults: an untouched session of a request costs one object and no attribute.
    _used: bool = False
    _begin: Callable[[Session], Backing] | None = None
    _backing: Backing | None = None
    _before: bytes = EMPTY  # the encoded data as loaded or last committed
    _checkpoint: bytes | None = None  # the encoded data after the last function of `_steps`
    _steps: list[tuple[Changes, Callable[[Session], object] | None]] | None = None
    _start_empty: bool = False
    _fresh_id: bool = False
    _destroyed: bool = False
    _renew: bool = False
    _authenticated: bool = False
    _running: bool = False  # inside a function given to mutate() or commit()
    _late: bool = False  # the headers left while nobody had used the session
    _failed: bool = False  # its commit has failed, and is not tried again
    _unawaited: tuple[str, ...] = ()  # verbs that were called under ASGI and not awaited yet

    # --- the verbs ---

    def renew(self) -> None:
        """Give the session a new ID when it is committed; the old one is dead from then on.

        Not needed at sign-in and sign-out: a changed value under the owner key renews by itself.
        """
        self._ready()
        self._allow()
        self._allow()
        self._allow()
        self._renew = self.accessed = True

    def authenticated(self) -> None:
        """Note that the user has just proved who they are, again: a new ID, a new absolute clock.

        For re-authentication before a sensitive action (ASVS 7.2.4, 7.5.3). A changed value under
        the owner key counts as an authentication by itself.
        """
        self._ready()
        self._allow()
        self._authenticated = self.accessed = True

    def destroy(self) -> None:
        """End the session when it is committed, whatever other requests wrote meanwhile.

        Needs no loaded session. What is written afterwards goes on under a new ID.
        """
        dict.clear(self)
        self.__class__ = Session
        self._from_here_empty()
        self._destroyed = True

    def mutate(self, function: Callable[[Session], T]) -> T:
        """Run ``function(session)`` now and return what it returns.

        When the commit finds that somebody else wrote meanwhile, the function runs again on their
        data: N concurrent increments add up to N. It may therefore run several times and should do
        nothing but change the session. Raises TypeError for an async function.
        """
        self._ready()
        self._allow()
        return self._run(function)

    def commit(
        self, function: Callable[[Session], Any] | None = None
    ) -> Any:  # Any: the result itself, or an awaitable of it under ASGI
        """Write now instead of when the response starts; ``await`` it under ASGI.

        With ``function``, run it as `mutate` does and return what it returned in the run that was
        committed: ``token = await session.commit(lambda s: s.pop("token", None))`` hands a
        one-time token to one request only. The session then shows what was committed.

        Raises `SessionGone` when the session has ended meanwhile, `StoreUnavailable` when the store
        does not answer, `LateChange` when a new cookie would be needed after the headers left.
        """
        self._ready()
        self._refuse_inside("commit()")
        if function is not None:
            refuse_async(function)
        return self._backed("commit()").commit(self, function)

    def reload(self) -> Any:  # None, or an awaitable of it under ASGI
        """Read the session from the store again, dropping what this request has not committed.

        Raises `SessionGone` when the session has ended, `StoreUnavailable` when the store does not
        answer. Under ASGI it must be awaited.
        """
        self._ready()
        self._refuse_inside("reload()")
        return self._backed("reload()").reload(self)

    # --- what there is to know ---

    @property
    def is_new(self) -> bool:
        """Whether the client had no live session when this request began."""
        self._ready()
        return self._backing is None or self._backing.is_new

    @property
    def new(self) -> bool:
        """`is_new`, under the name that Flask has for it."""
        return self.is_new

    @property
    def permanent(self) -> bool:
        """Whether Flask gives the cookie an expiry: set by the application, kept in the data."""
        return bool(self.get(PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        # Applications set it at each request; it is no reason to store something in an outage.
        if self.permanent != bool(value) and not isinstance(self, EmptyInOutage):
            self[PERMANENT] = bool(value)

    @property
    def created_at(self) -> datetime:
        """When the session was created, in UTC; now, for one that is not stored yet."""
        self._ready()
        return datetime.fromtimestamp(self._backed("created_at").created_at, UTC)

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user last authenticated, in UTC; None when nobody is signed in."""
        self._ready()
        moment = self._backed("authenticated_at").authenticated_at
        return None if moment is None else datetime.fromtimestamp(moment, UTC)

    @property
    def handle(self) -> str | None:
        """The key of this session in the store, safe to log; None while it is not stored."""
        self._ready()
        return None if self._backing is None else self._backing.handle

    # --- writes, noted for the frameworks' flags ---

    def mark_accessed(self) -> None:
        """Called by Starlette whenever ``request.session`` is asked for."""
        self.accessed = self._used = True

    def mark_modified(self) -> None:
        """Note a write, as Starlette's own session does."""
        self.accessed = self.modified = self._used = True

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mark_modified()
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: Any) -> None:
        self.mark_modified()
        dict.__delitem__(self, key)

    def clear(self) -> None:
        """Remove everything. A session still empty at its commit ends, whatever others wrote;
        one filled again goes on under a new ID."""
        dict.clear(self)
        self._from_here_empty()

    def pop(self, key: Any, *default: Any) -> Any:
        if dict.__contains__(self, key):
            self.mark_modified()
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[Any, Any]:
        item = dict.popitem(self)
        self.mark_modified()
        return item

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if not dict.__contains__(self, key):
            self.mark_modified()
        return dict.setdefault(self, key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.mark_modified()
        dict.update(self, *args, **kwargs)

    def __ior__(self, other: Any) -> Session:  # type: ignore[misc]  # as dict has it
        self.mark_modified()
        dict.update(self, other)
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """A copy of a session, deep or pickled, is a plain dict: no second session comes of it."""
        return dict, (dict(dict.items(self)),)

    # --- inside the package ---

    def _ready(self) -> None:
        """Overridden where the session has not been used yet."""
        self._used = True

    def _allow(self) -> None:
        """Overridden where nothing can be stored."""

    def _backed(self, name: str) -> Backing:
        if self._backing is None:
            if self._begin is None:
                raise TypeError(
                    f"{name} needs a session of a running request; this one stands alone, as in "
                    "a function given to mutate()."
                )
            self._backing = self._begin(self)
        return self._backing

    def _refuse_inside(self, name: str) -> None:
        if self._running:
            raise TypeError(
                f"{name} cannot be called inside a function given to mutate() or commit(): the "
                "function may run several times, and is itself part of a commit."
            )

    def _from_here_empty(self) -> None:
        self.mark_modified()
        self._start_empty = self._fresh_id = True
        self._steps = None
        self._checkpoint = EMPTY

    def _replace_by(self, data: Data) -> None:
        """The application has put a plain dict in this session's place: same ID, nothing merged."""
        fresh_id, destroyed = self._fresh_id, self._destroyed
        self.destroy()
        self._fresh_id, self._destroyed = fresh_id, destroyed
        dict.update(self, data)

    def _run(self, function: Callable[[Session], T]) -> T:
        refuse_async(function)
        if self._running:  # a function that mutates: part of the outer one
            return function(self)
        before, steps, start_empty = self._checkpoint, self._steps, self._start_empty
        data = dict(dict.items(self))
        encode_data(data)
        changes = compare(self._before if before is None else before, data)
        self._running = True
        try:
            result = function(self)
        finally:
            self._running = False
        refuse_async(function, result)
        self._checkpoint = encode_data(dict(dict.items(self)))
        self._steps = [*(steps or ()), (changes, function)]
        self._start_empty = start_empty  # if it cleared the session, it will do so again
        return result

    def _is_as_before(self) -> bool:
        """Whether this request has done nothing to it; found without an `Intent`."""
        return (
            not (self.modified or self._steps or self._start_empty or self._fresh_id)
            and not (self._destroyed or self._renew or self._authenticated)
            and encode_data({**self}) == self._before  # no read of `Session` is overridden
        )

    def _intent(self) -> Intent:
        """Freeze what this request did; raises `NotEncodable` for what cannot be stored."""
        data = dict(dict.items(self))
        encoded = encode_data(data)
        intent = Intent(
            self._before,
            data,
            encoded,
            self._backing,
            [],
            self._start_empty,
            self._fresh_id,
            self._destroyed,
            self._renew,
            self._authenticated,
        )
        if intent.changed or self.modified or self._steps:
            check_data(data)
            since = self._before if self._checkpoint is None else self._checkpoint
            intent.steps = [*(self._steps or ()), (compare(since, data), None)]
        return intent

    def _settle(self, committed: bytes, intent: Intent) -> None:
        """Show what was committed, and begin anew from there.

        Values that others did not change stay the very objects that the application may still
        hold: a change made in one of them later is a late change, and must be found. So does what
        another task of the same request has changed while the commit was under way.
        """
        emptied_since = self._start_empty and not intent.asked[0]
        if committed != intent.shown and not emptied_since:
            compare(intent.shown, decode_data(committed)).lay_over(self)
        self._begin_from(committed)
        self._start_empty &= not intent.asked[0]
        self._fresh_id &= not intent.asked[1]
        self._destroyed &= not intent.asked[2]
        self._renew &= not intent.asked[3]
        self._authenticated &= not intent.asked[4]

    def _begin_from(self, stored: bytes) -> None:
        self._before = stored
        self._checkpoint = self._steps = None

    def _show(self, stored: bytes) -> None:
        """Drop what this request did, whatever it is, and show what is stored."""
        dict.clear(self)
        dict.update(self, decode_data(stored))
        self._begin_from(stored)
        self._start_empty = self._fresh_id = self._destroyed = False
        self._renew = self._authenticated = False


def refuse_async(function: Callable[..., object], result: object = None) -> None:
    """Raise TypeError for an async function, known as one or by what it has returned."""
    asynchronous = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if asynchronous or inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            "mutate() and commit() take a plain function, which may run several times: await what "
            "you need first, then change the session in a function without await."
        )


@dataclass(slots=True)
class Loading:
    """What the first use of a session that is not loaded does: ``load`` gives its data or raises.

    A failure is remembered for the rest of the request (``failure``), and so is whether anybody
    has met it (``met``). ``tolerates`` says of a failure whether the session shows itself as empty
    then, and refuses writes only.
    """

    load: Callable[[Session], Data] | None = None
    failure: Exception | None = None
    met: bool = False
    tolerates: Callable[[Exception], bool] | None = None


class _Hidden:
    """What an encoder meets that reads below the methods of a session which is not loaded."""

    def __repr__(self) -> str:
        return "<a session that is not loaded>"


_HIDDEN = _Hidden()


class UnusedSession(Session):
    """A session until its first use. See the module's docstring."""

    _loading: Loading | None = None

    @classmethod
    def unloaded(cls, loading: Loading) -> UnusedSession:
        session = cls()
        session._loading = loading
        dict.__setitem__(session, _HIDDEN, _HIDDEN)
        return session

    def _ready(self) -> None:
        loading = self._loading
        if loading is not None:
            if loading.failure is None and loading.load is not None:
                try:
                    data = loading.load(self)
                except Exception as error:  # noqa: BLE001 - whatever it is: never load twice
                    loading.failure = error
                else:
                    dict.clear(self)
                    dict.update(self, data)
            if loading.failure is not None:
                if loading.tolerates is not None and loading.tolerates(loading.failure):
                    dict.clear(self)
                    self._used = True
                    self.__class__ = EmptyInOutage  # type: ignore[assignment]  # as below
                    return
                loading.met = True
                raise loading.failure.with_traceback(None)
        self._used = True
        self.__class__ = Session  # type: ignore[assignment]  # the point of this class

    def mark_accessed(self) -> None:
        self.accessed = True
        if self._loading is None:  # else the first read loads, or raises
            self._ready()


def _first_use(name: str) -> Callable[..., Any]:
    @wraps(getattr(Session, name))
    def first_use(self: UnusedSession, *args: Any, **kwargs: Any) -> Any:
        self._ready()
        for other in args:
            if isinstance(other, UnusedSession):  # of a comparison or a union
                other._ready()
        return getattr(type(self), name)(self, *args, **kwargs)  # by now of another class

    return first_use


for _name in (
    "__contains__ __delitem__ __eq__ __ge__ __getitem__ __gt__ __ior__ __iter__ __le__ __len__ "
    "__lt__ __ne__ __or__ __reduce_ex__ __repr__ __reversed__ __ror__ __setitem__ clear "
    "copy get items keys mark_modified pop popitem setdefault update values"
).split():
    setattr(UnusedSession, _name, _first_use(_name))


class EmptyInOutage(Session):
    """A session that could not be loaded, where the application prefers to go on without.

    It reads as empty; what would have to be stored raises the outage. `destroy` works as always.
    """

    _loading: Loading

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        self._loading.met = True
        assert self._loading.failure is not None
        raise self._loading.failure.with_traceback(None)

    __setitem__ = __ior__ = update = setdefault = clear = mark_modified = _allow = _refuse
