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
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Flag, auto
from functools import wraps
from typing import Any, Protocol, TypeVar

from .exceptions import LateChange, NotEncodable
from .record import EMPTY, Changes, Data, check_data, compare, decode_data, encode_data

T = TypeVar("T")

_beginning = threading.Lock()  # held for a moment, and never while something waits

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


class Asked(Flag):
    """What an application asked for, besides changes of keys."""

    NOTHING = 0
    EMPTIED = auto()  # clear() or destroy(): what is stored afterwards has a new ID
    DESTROYED = auto()
    RENEWED = auto()
    AUTHENTICATED = auto()


@dataclass(slots=True, eq=False)
class Call:
    """A function given to `mutate` or `commit`, with what came of its latest run."""

    function: Callable[[Session], Any]  # Any: whatever it returns, which its caller gets
    asked: Asked = Asked.NOTHING
    result: Any = None


Step = Changes | Call


class ReplayFailed(Exception):
    """A function raised ``error`` when it ran again, over data that it had not seen."""

    def __init__(self, call: Call, error: Exception) -> None:
        super().__init__()
        self.call, self.error = call, error


@dataclass(slots=True)
class Intent:
    """What a request did to its session, as one commit takes it up, and what comes of it.

    ``steps`` are relative to ``base``, the encoded data of the record that was last seen alive;
    ``data``, ``encoded`` and ``asked`` are what they come to. There is one operation, `_replay`:
    the same steps over other data. ``asked_outside`` of functions stays whatever it is.

    ``own`` is the function that this very commit was given; its caller has no result of it yet.
    """

    base: bytes
    steps: tuple[Step, ...]
    from_empty: bool  # the steps begin with an empty session, whatever is stored
    asked_outside: Asked
    data: Data
    encoded: bytes
    backing: Backing | None
    session: Session | None = None
    own: Call | None = None
    from_nothing: bool = False  # what they come to is without the session's data
    shown: bytes = field(init=False)  # what the application saw when the commit began

    def __post_init__(self) -> None:
        self.shown = self.encoded

    @property
    def asked(self) -> Asked:
        asked = self.asked_outside
        for step in self.steps:
            if isinstance(step, Call):
                asked |= step.asked
        return asked

    @property
    def changed(self) -> bool:
        # Without a step it differs only by what an earlier commit has found gone.
        return self.from_empty or (bool(self.steps) and self.encoded != self.base)

    @property
    def ends(self) -> bool:
        """Whether this request wants the session ended, whatever others wrote."""
        return (self.from_empty or Asked.EMPTIED in self.asked) and self.empty

    @property
    def empty(self) -> bool:
        """Whether there is nothing worth keeping: Flask's mark of a permanent session is not."""
        return len(self.data) < 2 and self.data.keys() <= {PERMANENT}

    @property
    def handed_out(self) -> Data:
        """The value that the caller of ``own`` is given, where it is one of the session's."""
        if self.own is None:
            return {}
        return {key: value for key, value in self.data.items() if value is self.own.result}

    def over(self, base: bytes) -> None:
        """Do the steps again over ``base``, the data of a record that another request left."""
        self._replay(EMPTY if self.from_empty else base)
        self.base = base

    def over_nothing(self, *, ended: bool) -> None:
        """Do the steps again without the session's data: it has ended, or is another user's now.

        A function that raises there contributes nothing; ``own`` raises `ReplayFailed` as always,
        where there is no session any more that it could have been done over.
        """
        self._replay(EMPTY, from_nothing=True, must_run=self.own if ended else None)

    def put(self, data: Data) -> None:
        """Add to what the steps come to."""
        self.data.update(data)
        self.encoded = encode_data(self.data)

    def _replay(
        self, start: bytes, *, from_nothing: bool = False, must_run: Call | None = None
    ) -> None:
        scratch = Session(decode_data(start))
        scratch._backing, scratch._checkpoint = self.backing, start
        scratch._running = True
        for step in self.steps:
            if isinstance(step, Changes):
                step.apply(scratch, from_nothing=from_nothing)
                continue
            before = encode_data(dict(dict.items(scratch))) if from_nothing else EMPTY
            scratch._asked = step.asked = Asked.NOTHING
            try:
                step.result = self._call(step.function, scratch)
            except Exception as error:
                if step is must_run or not from_nothing:
                    raise ReplayFailed(step, error) from error
                dict.clear(scratch)
                dict.update(scratch, decode_data(before))
            else:
                step.asked = scratch._asked
        self.data = dict(dict.items(scratch))
        self.encoded = encode_data(self.data)
        self.from_nothing = from_nothing

    def _call(self, function: Callable[[Session], Any], scratch: Session) -> Any:
        if self.session is not None:
            self.session._replaying = True
        try:
            result = function(scratch)
            check_data(scratch)
        except StopIteration as error:  # which a flow, a generator, cannot raise
            raise RuntimeError("A function given to mutate() raised StopIteration.") from error
        finally:
            if self.session is not None:
                self.session._replaying = False
        return result


class Session(dict[Any, Any]):
    """A session, as ``request.session`` gives it: a dict, with a few more names.

    Changes inside lists and dicts count; no flag needs to be set.
    """

    accessed: bool = False
    """Whether the session was reached for, in the frameworks' sense of the word."""
    # Class-level defaults: an untouched session of a request costs one object and no attribute.
    _used: bool = False
    _begin: Callable[[Session], Backing] | None = None
    _backing: Backing | None = None
    _modified: bool = False
    # What an `Intent` is made of. The steps, over `_base`, come to `_checkpoint`; what the data at
    # hand differ from that is the step that is not noted yet.
    _base: bytes = EMPTY
    _steps: tuple[Step, ...] = ()
    _checkpoint: bytes = EMPTY
    _assigned: set[Any] | None = None  # keys that the application set since the last step
    _own: frozenset[Any] = frozenset()  # and in steps before, so that the values are its own
    _from_empty: bool = False
    _asked: Asked = Asked.NOTHING
    _running: bool = False  # inside a function given to mutate() or commit()
    _replaying: bool = False  # such a function runs again, on a session of its own
    _late: bool = False  # the headers left before the session was used
    _over: bool = False  # so did the request
    _failed: bool = False  # its commit has failed, and is not tried again
    _unawaited: tuple[str, ...] = ()  # verbs that were called under ASGI and not awaited yet

    # --- the verbs ---

    def renew(self) -> None:
        """Give the session a new ID when it is committed; the old one is dead from then on.

        Not needed at sign-in and sign-out: a changed value under the owner key renews by itself.
        """
        self._ready()
        self._allow()
        self._asked |= Asked.RENEWED
        self.accessed = True

    def authenticated(self) -> None:
        """Note that the user has just proved who they are, again: a new ID, a new absolute clock.

        For re-authentication before a sensitive action (ASVS 7.2.4, 7.5.3). A changed value under
        the owner key counts as an authentication by itself.
        """
        self._ready()
        self._allow()
        self._asked |= Asked.AUTHENTICATED
        self.accessed = True

    def destroy(self) -> None:
        """End the session when it is committed, whatever other requests wrote meanwhile.

        Needs no loaded session. What is written afterwards goes on under a new ID.
        """
        if self._over:
            raise _after_the_request()
        dict.clear(self)
        self.__class__ = Session
        self._from_here_empty()
        self._asked |= Asked.DESTROYED

    def mutate(self, function: Callable[[Session], T]) -> T:
        """Run ``function(session)`` now and return what it returns.

        When the commit finds that another request wrote meanwhile, the function runs again on its
        data: N concurrent increments add up to N. It may therefore run several times and should do
        nothing but change the session. What must be true when it is said belongs into `commit`.

        A function that raises leaves the session as it was before. One that raises when it runs
        again, after its result was returned, makes the response a 500, and nothing of the request
        is stored. Raises TypeError for an async function.
        """
        self._ready()
        self._allow()
        refuse_async(function)
        result: T = self._run_inside(function) if self._running else self._run(function).result
        return result

    def commit(
        self, function: Callable[[Session], Any] | None = None
    ) -> Any:  # Any: the result itself, or an awaitable of it under ASGI
        """Write now instead of when the response starts; ``await`` it under ASGI.

        With ``function``, run it as `mutate` does and return what it returned in the run that was
        committed: ``token = await session.commit(lambda s: s.pop("token", None))`` hands a
        one-time token to one request only. The session then shows what was committed.

        Raises `SessionGone` when the session has ended meanwhile, `StoreUnavailable` when the store
        does not answer, `LateChange` when a new cookie would be needed after the headers left. A
        write whose outcome is unknown is never made twice: from then on each commit of the request
        raises the same outage, until `reload` has found out; only `destroy` can be committed.
        """
        self._ready()
        self._refuse_inside("commit()")
        if function is not None:
            refuse_async(function)
        return self._backed("commit()").commit(self, function)

    def reload(self) -> Any:  # None, or an awaitable of it under ASGI
        """Read the session from the store again, dropping what this request has not committed.

        After an outage it settles what became of the write, so that the request can go on. Raises
        `SessionGone` when the session has ended, `StoreUnavailable` when the store does not
        answer. Under ASGI it must be awaited.
        """
        self._ready()
        self._refuse_inside("reload()")
        return self._backed("reload()").reload(self)

    # --- what there is to know ---

    @property
    def modified(self) -> bool:
        """Whether it was changed, also inside a value, or is to be renewed.

        Setting it by hand is allowed, and harmless.
        """
        return self._modified if self._backing is None else not self._is_as_before()

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified = value

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
        held = self.permanent
        # Applications set it at each request; it is no reason to store something in an outage.
        if isinstance(self, EmptyInOutage):
            return
        if held != bool(value):
            self[PERMANENT] = bool(value)
        elif PERMANENT in self:
            self._note_assigned((PERMANENT,))

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
        self._allow()
        self.accessed = self._modified = self._used = True

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mark_modified()
        dict.__setitem__(self, key, value)
        self._note_assigned((key,))

    def __delitem__(self, key: Any) -> None:
        self.mark_modified()
        dict.__delitem__(self, key)

    def clear(self) -> None:
        """Remove everything. A session still empty at its commit ends, whatever others wrote;
        one filled again goes on under a new ID."""
        self.mark_modified()
        dict.clear(self)
        self._from_here_empty()

    def pop(self, key: Any, *default: Any) -> Any:
        if dict.__contains__(self, key):
            self.mark_modified()
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[Any, Any]:
        if dict.__len__(self):
            self.mark_modified()
        return dict.popitem(self)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if not dict.__contains__(self, key):
            self.mark_modified()
            self._note_assigned((key,))
        return dict.setdefault(self, key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.mark_modified()
        given = dict(*args, **kwargs)
        dict.update(self, given)
        self._note_assigned(given)

    def __ior__(self, other: Any) -> Session:  # type: ignore[misc]  # as dict has it
        self.update(other)
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """A copy of a session, deep or pickled, is a plain dict: no second session comes of it."""
        return dict, (dict(dict.items(self)),)

    # --- inside the package ---

    def _ready(self) -> None:
        """Overridden where the session has not been used yet."""
        self._used = True

    def _allow(self) -> None:
        """Raise where a change would be lost; overridden where nothing can be stored."""
        if self._replaying:
            raise TypeError(
                "A function given to mutate() or commit() must change the session that it is "
                "given: when it runs again, over newer data, that is another one."
            )

    def _backed(self, name: str) -> Backing:
        if self._backing is None:
            if self._begin is None:
                raise TypeError(
                    f"{name} needs a session of a running request; this one stands alone, as in "
                    "a function given to mutate()."
                )
            with _beginning:  # two threads of a request have one exchange with the store
                if self._backing is None:
                    self._backing = self._begin(self)
        return self._backing

    def _refuse_inside(self, name: str) -> None:
        if self._running:
            raise TypeError(
                f"{name} cannot be called inside a function given to mutate() or commit(): the "
                "function may run several times, and is itself part of a commit."
            )

    def _note_assigned(self, keys: Iterable[Any]) -> None:
        """Note that the application set these keys itself, whether that changes their values."""
        if self._assigned is None:
            self._assigned = set()
        self._assigned.update(keys)

    def _from_here_empty(self) -> None:
        self._used = self.accessed = self._modified = True
        self._asked |= Asked.EMPTIED
        self._assigned = None
        if not self._running:  # a function does it again when it runs again
            self._from_empty = True
            self._steps, self._checkpoint = (), EMPTY

    def _replace_by(self, data: Data) -> None:
        """The application has put a plain dict in this session's place: same ID, nothing merged."""
        asked = self._asked
        self.destroy()
        self._asked = asked
        dict.update(self, data)
        self._note_assigned(data)

    def _note(self) -> None:
        """Make a step of what was changed since the last one; raise what cannot be stored."""
        data = dict(dict.items(self))
        encoded = encode_data(data)
        if encoded == self._checkpoint and not self._assigned:
            return
        check_data(data)
        assigned = self._assigned or set()
        changes = compare(self._checkpoint, data, assigned, self._own)
        if changes:
            self._steps = (*self._steps, changes)
        self._own |= assigned
        self._checkpoint, self._assigned = encoded, None

    def _run(self, function: Callable[[Session], Any]) -> Call:
        """Run a function and note it as a step; one that raises leaves nothing behind."""
        self._note()
        held, asked = dict(dict.items(self)), self._asked
        call = Call(function)
        self._asked, self._running = Asked.NOTHING, True
        try:
            call.result = function(self)
            refuse_async(function, call.result)
            data = dict(dict.items(self))
            check_data(data)
            if self._own:  # but for what the function has put in the place of those values
                changed = compare(self._checkpoint, data).changed
                self._own -= {key for key, _ in changed}
            self._checkpoint = encode_data(data)
        except BaseException:
            self._show(self._checkpoint, held)
            raise
        else:
            call.asked = self._asked
            self._steps = (*self._steps, call)
        finally:
            self._asked, self._running, self._assigned = asked, False, None
        return call

    def _run_inside(self, function: Callable[[Session], T]) -> T:
        """Run a function within another one, as a part of it; one that raises leaves nothing."""
        held, asked = dict(dict.items(self)), self._asked
        before = encode_data(held)
        try:
            result = function(self)
            refuse_async(function, result)
        except BaseException:
            self._show(before, held)
            self._asked = asked
            raise
        return result

    def _is_as_noted(self) -> bool:
        # No read of `Session` is overridden.
        return _encode_or_none({**self}) == self._checkpoint

    def _is_as_before(self) -> bool:
        """Whether this request has done nothing to it; found without an `Intent`."""
        untouched = not (self._modified or self._steps or self._from_empty or self._asked)
        return untouched and self._is_as_noted()

    def _take_up(self, own: Call | None) -> Intent:
        """Give what this request did to a commit; what comes meanwhile is for the next one.

        Raises `NotEncodable` for what cannot be stored.
        """
        self._note()
        intent = Intent(
            self._base,
            self._steps,
            self._from_empty,
            self._asked,
            dict(dict.items(self)),
            self._checkpoint,
            self._backing,
            self,
            own,
        )
        self._from_empty, self._asked = False, Asked.NOTHING
        return intent

    def _take_back(self, intent: Intent) -> None:
        """That commit has failed: its steps are for the next one."""
        self._asked |= intent.asked_outside
        if not self._from_empty:  # else the session was emptied meanwhile, and they are moot
            self._from_empty = intent.from_empty

    def _settle(self, intent: Intent, committed: bytes) -> None:
        """Show what was committed, and begin anew from there.

        What other tasks of the request did while the commit was under way is done again over it.
        """
        if self._from_empty:  # emptied meanwhile
            self._base = committed
            return
        self._steps, self._own = self._steps[len(intent.steps) :], frozenset()
        self._base = intent.shown
        if committed != intent.shown:
            self._move(committed, intent.handed_out)

    def _forget(self, intent: Intent) -> None:
        """The steps of a commit are dropped: the session has ended. They stay in sight.

        The base stays: an owner who is assigned again, with the value that it had, signs nobody in.
        """
        if not self._from_empty:
            self._steps = self._steps[len(intent.steps) :]

    def _drop(self, call: Call, base: bytes | None) -> None:
        """Show the session as it is without a function, over another base if there is one."""
        self._note()
        self._steps = tuple(step for step in self._steps if step is not call)
        self._move(self._base if base is None else base)

    def _move(self, base: bytes, made: Data | None = None) -> None:
        """Do the steps again over another base, and show what they come to.

        ``made``: values that are to be the session's own, since a function has handed them out.
        """
        self._note()
        intent = Intent(
            self._base, self._steps, self._from_empty, self._asked, {}, EMPTY, self._backing, self
        )
        intent.over(base)
        self._show(intent.encoded, dict(dict.items(self)), made)
        self._base, self._checkpoint = base, intent.encoded

    def _show(self, encoded: bytes, held: Data, made: Data | None = None) -> None:
        """Hold these data; what is unchanged stays the very object that ``made`` or ``held`` has.

        The application may still hold it, too: a later change inside it is a change of the session.
        """
        dict.clear(self)
        for key, value in decode_data(encoded).items():
            packed = encode_data({key: value})
            known = [each[key] for each in (made or {}, held) if key in each]
            same = (each for each in known if _encode_or_none({key: each}) == packed)
            dict.__setitem__(self, key, next(same, value))

    def _reset(self, stored: bytes) -> None:
        """Drop what this request did, whatever it is, and show what is stored."""
        self.__class__ = OverSession if self._over else Session
        self.__dict__.pop("_loading", None)
        dict.clear(self)
        dict.update(self, decode_data(stored))
        self._steps, self._checkpoint = (), stored
        self._assigned, self._own = None, frozenset()
        self._from_empty, self._asked = False, Asked.NOTHING


def _encode_or_none(data: Data) -> bytes | None:
    try:
        return encode_data(data)
    except NotEncodable:
        return None


def refuse_async(function: Callable[..., object], result: object = None) -> None:
    """Raise TypeError for an async function, known as one or by what it has returned."""
    runs_later = (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    )
    if runs_later or inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            "mutate() and commit() take a plain function, which may run several times: await what "
            "you need first, then change the session in a function without await."
        )


@dataclass(slots=True)
class Loading:
    """What the first use of a session that is not loaded does: ``load`` gives its data or raises.

    A failure is remembered for the rest of the request (``failure``), and so is whether the
    application has met it (``met``). ``tolerates`` says of a failure whether the session shows
    itself as empty then, and refuses writes only. Of several threads one loads.
    """

    load: Callable[[Session], Data] | None = None
    failure: Exception | None = None
    met: bool = False
    tolerates: Callable[[Exception], bool] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


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
        if self._loading is None:
            self._become(Session)
            return
        with self._loading.lock:
            if isinstance(self, UnusedSession):  # else another thread has been quicker
                self._load(self._loading)

    def _load(self, loading: Loading) -> None:
        if loading.failure is None and loading.load is not None:
            try:
                data = loading.load(self)
            except Exception as error:  # noqa: BLE001 - whatever it is: never load twice
                loading.failure = error
            else:
                dict.clear(self)
                dict.update(self, data)
        if loading.failure is None:
            self._become(Session)
        elif loading.tolerates is not None and loading.tolerates(loading.failure):
            dict.clear(self)
            self._become(EmptyInOutage)
        else:
            loading.met = True
            raise loading.failure.with_traceback(None)

    def _become(self, kind: type[Session]) -> None:
        self._used = True
        self.__class__ = OverSession if self._over else kind  # type: ignore[assignment]  # the point of this class

    def reload(self) -> Any:  # as `Session` has it; a load that failed is tried again
        if self._over:
            raise _after_the_request()
        self._used = True
        return self._backed("reload()").reload(self)

    @property
    def modified(self) -> bool:
        return self._modified

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified = value

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

    mark_modified = _allow = _refuse


class OverSession(Session):
    """A session whose request is over: it can be read, and a change is an error."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise _after_the_request()

    mark_modified = _allow = commit = reload = _refuse


def _after_the_request() -> LateChange:
    return LateChange(
        "A session must be changed before its request is over, and this one is: nothing can be "
        "stored any more. Await or join, within the request, what changes it."
    )
