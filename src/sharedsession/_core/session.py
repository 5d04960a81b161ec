"""What the application holds: a dict with a few more names.

`Session` overrides no read. It tells its exchange of writes, and asks it for everything else.
`UnusedSession` is a session that has not been used yet: not loaded, failed to load, or loaded and
not decoded. It overrides *every* dict method; the first use loads (or raises the outage), and makes
it a `Session`.

Encoders written in C (json, orjson, Jinja's tojson) write ``{}`` for an empty dict without calling
any method. So the storage of an unused session holds one private object under itself: what reads
below the methods fails loudly instead.

Inside the package a session is read by dict's own methods only, ``dict(dict.items(session))``:
``dict.copy``, ``bool`` and ``len`` would trip over the overrides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import wraps
from operator import attrgetter
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from .changes import Asked, refuse_async
from .record import FLASHES, LONGEST, PERMANENT, whole_seconds

T = TypeVar("T")


class Facts(Protocol):
    """What an exchange knows of its session."""

    @property
    def is_new(self) -> bool: ...
    @property
    def created_at(self) -> float: ...
    @property
    def authenticated_at(self) -> float | None: ...
    @property
    def handle(self) -> str | None: ...


class Exchange(Protocol):
    """What a session tells and asks during a request; a function's replay has a smaller one."""

    @property
    def facts(self) -> Facts: ...
    @property
    def is_untouched(self) -> bool: ...
    @property
    def is_loaded(self) -> bool: ...
    @property
    def reads_as_empty(self) -> bool:
        """Whether it could not be loaded, and the application goes on with an empty one."""

    def begun(self, session: Session) -> Exchange:
        """Return the exchange of this session, where many that were not used have one in common."""

    def use(self, session: Session) -> None:
        """Note a use; the first one loads the session, or raises the outage."""

    def write(self) -> None:
        """Note a write; raises where it would be lost."""

    def assign(self, keys: Iterable[Any]) -> None:
        """Note that the application set these keys itself, whether that changed their values."""

    def ask(self, asked: Asked) -> None:
        """Note what is wanted besides changes of keys; raises where it would be lost."""

    def empty(self, asked: Asked) -> None:
        """Begin with an empty session from here on; needs no loaded session."""

    def mutate(self, function: Callable[[Session], T]) -> T:
        """Run a function, as a step that can be done again."""

    def commit(self, function: Callable[[Session], Any] | None) -> Any:
        """Write now; an awaitable under ASGI, the result itself elsewhere."""

    def reload(self) -> Any:
        """Read again; an awaitable under ASGI, None elsewhere."""


class Session(dict[Any, Any]):
    """A session, as ``request.session`` gives it: a dict, with a few more names.

    Changes inside lists and dicts count; no flag needs to be set.
    """

    accessed: bool = False
    """Whether the session was reached for, in the frameworks' sense of the word."""
    becomes: ClassVar[type[Session]]  # at its first use; a framework may have a class of its own
    # Class-level defaults: an untouched session of a request costs one object and no attribute.
    _modified: bool = False  # the same for writes
    _exchange: Exchange | None = None

    # --- the verbs ---

    def renew(self) -> None:
        """Give the session a new ID when it is committed; the old one is dead from then on.

        Not needed at sign-in and sign-out: a changed value under the owner key renews by itself.
        """
        self._ask(Asked.RENEWED)

    def mark_authenticated(self) -> None:
        """Note that the user has just proved who they are, again: a new ID, a new absolute clock.

        For re-authentication before a sensitive action (ASVS 7.2.4, 7.5.3). A changed value under
        the owner key counts as an authentication by itself.
        """
        self._ask(Asked.AUTHENTICATED)

    def destroy(self) -> None:
        """End the session when it is committed, whatever other requests wrote meanwhile.

        Needs no loaded session. What is written afterwards goes on under a new ID.
        """
        self._empty(Asked.EMPTIED | Asked.DESTROYED)

    def set_lifetime(
        self, lifetime: float | timedelta | datetime | Literal["browser"] | None
    ) -> None:
        """Give this session a lifetime of its own: "remember me", or a short one.

        Args:
            lifetime: the idle timeout in whole seconds, or as a `timedelta`, of which the cookie's
                Max-Age is made, too; a `datetime` with a time zone: the moment at which the session
                ends, used or not (at once, where it is past); ``"browser"``: the idle timeout of
                the settings, and a cookie that ends with the browser; None: as if it had never
                been set. The absolute timeout is not changed.

        Raises:
            TypeError: it is none of these.
            ValueError: it is not above 0.
        """
        if lifetime is None:
            self.pop(PERMANENT, None)
        elif lifetime == "browser":
            self._assign_lifetime(False)
        elif isinstance(lifetime, datetime):
            self._ready()
            self._assign_lifetime(_moment(lifetime))
        else:
            self._assign_lifetime(_seconds(lifetime))

    def mutate(self, function: Callable[[Session], T]) -> T:
        """Run ``function(session)`` now and return what it returns.

        When the commit finds that another request wrote meanwhile, the function runs again on its
        data: N concurrent increments add up to N. It may therefore run several times and should do
        nothing but change the session. What must be true when it is said belongs into `commit`.

        A function that raises leaves the session as it was before. One that raises when it runs
        again, after its result was returned, makes the response a 500, and nothing of the request
        is stored.

        Raises:
            TypeError: the function is async.
        """
        self._ready()
        refuse_async(function)
        if self._exchange is None:
            return function(self)
        return self._exchange.mutate(function)

    # --- messages for the next page ---

    def flash(
        self,
        message: Any,  # Any: whatever a session can hold
        category: str = "message",
    ) -> None:
        """Keep a message for the next page that shows messages, as Flask's ``flash`` does.

        In the very format of Flask, so that one application of a session shows what another one
        has to say. Requests at once lose no message of each other.

        Args:
            message: a text, or what else a session can hold: a form's input, say, under a category
                of its own, that the form shows again.
            category: ``"message"`` by default, or what the page tells messages apart by.
        """
        self.mutate(
            lambda session: session.update({FLASHES: [*_flashes(session), (category, message)]})
        )

    def take_flashes(self, *categories: str) -> list[tuple[str, Any]]:  # Any: as `flash` has it
        """Return the messages that wait, with their categories, and remove them.

        A message that another request adds meanwhile stays for the next page.

        Args:
            categories: take only messages of these; default: all.

        Returns:
            Pairs of category and message, oldest first.
        """
        waiting = [(category, message) for category, message in _flashes(self)]
        taken = [each for each in waiting if not categories or each[0] in categories]

        def remove(session: Session) -> None:
            left = list(map(tuple, _flashes(session)))
            for each in taken:
                if each in left:
                    left.remove(each)
            if left:
                session[FLASHES] = left
            else:
                session.pop(FLASHES, None)

        if taken:
            self.mutate(remove)
        return taken

    # --- the verbs that ask the store ---

    def commit(
        self, function: Callable[[Session], Any] | None = None
    ) -> Any:  # Any: the result itself, or an awaitable of it under ASGI
        """Write now instead of when the response starts; ``await`` it under ASGI.

        With ``function``, run it as `mutate` does and return what it returned in the run that was
        committed: ``token = await session.commit(lambda s: s.pop("token", None))`` hands a
        one-time token to one request only. The session then shows what was committed.

        Raises:
            SessionGone: the session has ended meanwhile.
            StoreUnavailable: the store does not answer. A write whose outcome is unknown is never
                made twice: from then on each commit of the request raises the same outage, until
                `reload` has found out; only `destroy` can be committed.
            LateChange: a new cookie would be needed after the headers left.
        """
        self._ready()
        if function is not None:
            refuse_async(function)
        return self._behind("commit()").commit(function)

    def reload(self) -> Any:  # None, or an awaitable of it under ASGI
        """Read the session from the store again, dropping what this request has not committed.

        After an outage it finds out what became of the write, so that the request can go on. Under
        ASGI it must be awaited.

        Raises:
            SessionGone: the session has ended.
            StoreUnavailable: the store does not answer.
        """
        return self._behind("reload()").begun(self).reload()

    # --- what there is to know ---

    @property
    def modified(self) -> bool:
        """Whether it was changed, also inside a value, or is to be renewed.

        Setting it by hand is allowed, and harmless.
        """
        return self._modified or (self._exchange is not None and not self._exchange.is_untouched)

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified = value

    @property
    def is_new(self) -> bool:
        """Whether the client had no live session when this request began."""
        self._ready()
        return self._exchange is None or self._exchange.facts.is_new

    @property
    def new(self) -> bool:
        """`is_new`, under the name that Flask has for it."""
        return self.is_new

    @property
    def permanent(self) -> bool:
        """Whether the application wants the cookie to outlive the browser, as Flask has it.

        Setting it True gives the session the lifetime of the settings, or leaves it the one that
        `set_lifetime` gave it; False makes its cookie end with the browser.
        """
        return bool(self.get(PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        held = self.get(PERMANENT)
        # Applications set it at each request; it is no reason to store something in an outage.
        if self._exchange is None or not self._exchange.reads_as_empty:
            self._assign_lifetime(held if held and value else bool(value))

    @property
    def created_at(self) -> datetime:
        """When the session was created, in UTC; now, for one that is not stored yet."""
        self._ready()
        return datetime.fromtimestamp(self._behind("created_at").facts.created_at, UTC)

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user last authenticated, in UTC; None when no user is signed in."""
        self._ready()
        moment = self._behind("authenticated_at").facts.authenticated_at
        return None if moment is None else datetime.fromtimestamp(moment, UTC)

    @property
    def handle(self) -> str | None:
        """The key of this session in the store, safe to log; None while it is not stored."""
        self._ready()
        return None if self._exchange is None else self._exchange.facts.handle

    @property
    def sid(self) -> str | None:
        """`handle`, under the name that Flask-Session has for its ID; it is no secret."""
        return self.handle

    # --- writes ---

    def mark_accessed(self) -> None:
        """Called by Starlette whenever ``request.session`` is asked for."""
        self.accessed = True
        if self._exchange is not None:
            self._exchange.use(self)

    def mark_modified(self) -> None:
        """Note a write, as Starlette's own session does."""
        if self._exchange is not None:
            self._exchange.write()
        self.accessed = self._modified = True

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mark_modified()
        dict.__setitem__(self, key, value)
        self._assigned((key,))

    def __delitem__(self, key: Any) -> None:
        self.mark_modified()
        dict.__delitem__(self, key)

    def clear(self) -> None:
        """Remove everything.

        A session still empty at its commit ends, whatever others wrote; one filled again goes on
        under a new ID.
        """
        self.mark_modified()
        self._empty(Asked.EMPTIED)

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
            self._assigned((key,))
        return dict.setdefault(self, key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.mark_modified()
        given = dict(*args, **kwargs)
        dict.update(self, given)
        self._assigned(given)

    def __ior__(self, other: Any) -> Session:  # type: ignore[misc]  # as dict has it
        self.update(other)
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """A copy of a session, deep or pickled, is a plain dict: no second session comes of it."""
        return dict, (dict(dict.items(self)),)

    # --- inside ---

    def _ready(self) -> None:
        """Note a use; overridden where the session has not been used yet."""
        if self._exchange is not None:
            self._exchange.use(self)

    def _behind(self, name: str) -> Exchange:
        if self._exchange is None:
            raise TypeError(f"{name} needs a session of a running request; this one stands alone.")
        return self._exchange

    def _ask(self, asked: Asked) -> None:
        self._ready()
        if self._exchange is not None:
            self._exchange.ask(asked)
        self.accessed = True

    def _empty(self, asked: Asked) -> None:
        if self._exchange is not None:
            self._exchange.begun(self).empty(asked)
        dict.clear(self)
        self.__class__ = self.becomes
        self.accessed = self._modified = True

    def _assigned(self, keys: Iterable[Any]) -> None:
        if self._exchange is not None:
            self._exchange.assign(keys)

    def _assign_lifetime(self, value: object) -> None:
        """Note that the application has set it; the value that it had is no change."""
        held = self.get(PERMANENT)
        if type(held) is type(value) and held == value:
            self._assigned((PERMANENT,))
        else:
            self[PERMANENT] = value


Session.becomes = Session
# The slot, for the rest of the core.
exchange_of = attrgetter("_exchange")
# Whether it was written to, or said to be, without a look into its values.
was_written = attrgetter("_modified")


def give_exchange(session: Session, exchange: object) -> None:
    """Fill the slot."""
    session.__dict__["_exchange"] = exchange


def _flashes(session: Session) -> list[tuple[str, Any]]:
    """Return the messages that wait; what else stands there is no list of them."""
    found = session.get(FLASHES)
    return found if isinstance(found, list) else []


def _seconds(lifetime: object) -> int:
    """Return a session's own lifetime in whole seconds, or raise what says how to give it."""
    sentence = (
        "A session's lifetime must be a positive number of seconds (int), a timedelta, a datetime, "
        f"'browser' or None, got {lifetime!r}."
    )
    seconds = whole_seconds(lifetime)
    if seconds is None:
        raise TypeError(sentence)
    if seconds <= 0:
        raise ValueError(f"{sentence} To end the session, call destroy().")
    return min(seconds, LONGEST)


def _moment(lifetime: datetime) -> datetime:
    """Return the end of a session in UTC, or raise what says how to give it."""
    if lifetime.tzinfo is None:
        raise TypeError(
            f"The moment at which a session ends must have a time zone, got {lifetime!r}: use "
            "datetime.now(UTC) + …, or lifetime.astimezone() for one of this machine's time."
        )
    return lifetime.astimezone(UTC)


class _Hidden:
    """What an encoder meets that reads below the methods of a session which is not loaded."""

    def __repr__(self) -> str:
        return "<a session that is not loaded>"


HIDDEN = _Hidden()


class UnusedSession(Session):
    """A session until its first use. See the module's docstring."""

    def mark_accessed(self) -> None:
        self.accessed = True
        if self._exchange is None or self._exchange.is_loaded:  # else the first read loads it
            ready(self)

    @property
    def modified(self) -> bool:
        return self._modified

    @modified.setter
    def modified(self, value: bool) -> None:
        self._modified = value


def _first_use(name: str) -> Callable[..., Any]:
    @wraps(getattr(Session, name))
    def first_use(self: UnusedSession, *args: Any, **kwargs: Any) -> Any:
        for each in (self, *args):
            if isinstance(each, UnusedSession):  # also the other one of a comparison or a union
                ready(each)
        return getattr(type(self), name)(self, *args, **kwargs)  # by now of another class

    return first_use


def ready(session: Session) -> None:
    """Load a session that has not been used yet, or raise the outage."""
    exchange = exchange_of(session)
    if exchange is None:
        session.__class__ = session.becomes
    else:
        exchange.use(session)


for _name in (
    "__contains__ __delitem__ __eq__ __ge__ __getitem__ __gt__ __ior__ __iter__ __le__ __len__ "
    "__lt__ __ne__ __or__ __reduce_ex__ __repr__ __reversed__ __ror__ __setitem__ clear "
    "copy get items keys mark_modified pop popitem setdefault update values"
).split():
    setattr(UnusedSession, _name, _first_use(_name))
