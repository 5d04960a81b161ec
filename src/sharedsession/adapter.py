"""What adapters share, and all that a plain (not async) framework needs: `Sessions`.

An adapter translates: a header becomes a cookie string, a decision becomes a header. It decides
nothing itself. docs/writing-an-adapter.md builds one.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, MutableMapping
from dataclasses import fields
from functools import partial
from typing import Any, TypeVar, cast

from .concurrency import DeadlinePassed, OwnThreads, threads_run
from .exceptions import NOT_STORED, RETRY_AFTER, UNAVAILABLE, StoreUnavailable
from .flows import (
    Flow,
    Manager,
    Visit,
    drive,
    finishing,
    first_step,
    instead,
    is_settled,
    opening,
    over,
    trouble,
)
from .record import Data
from .session import EmptyInOutage, Loading, Session, UnusedSession
from .settings import Settings, gather
from .stores import REPLICA_SHARE, open_store, open_with_copies
from .stores.base import AsyncStore, Copying, Store, StorePair
from .stores.near import with_copies
from .stores.waiting import within

T = TypeVar("T")
Headers = list[tuple[bytes, bytes]]  # as ASGI has them
Texts = list[tuple[str, str]]  # as WSGI has them

NAMES = frozenset(each.name for each in fields(Settings)) - {"secret_keys"} | {"secret_key"}
OURS = ("vary", "cache-control", "set-cookie")
TRUSTED = 0.9  # share of the timeout with which a store of our own ends its calls by itself


class Stores:
    """The store that the settings name, in the colours that there are."""

    def __init__(self, settings: Settings) -> None:
        chosen, replica, timeout = settings.store, settings.read_from, settings.timeout
        near_cache, stale = settings.near_cache, settings.stale_if_outage
        self.owned = isinstance(chosen, str)
        if near_cache is None and replica is None:
            pair = _opened(chosen, timeout)
        elif isinstance(chosen, str) and isinstance(replica, str | None):
            pair = open_with_copies(chosen, timeout, near_cache, replica, stale)
        else:
            beside = None if replica is None else _opened(replica, timeout / REPLICA_SHARE)
            pair = with_copies(_opened(chosen, timeout), near_cache, beside, stale)
        self._pair = pair  # held: it is shared while it lives
        self.sync, self.asynchronous = pair.sync, pair.asynchronous
        either = pair.asynchronous if pair.sync is None else pair.sync
        self.copies = either if isinstance(either, Copying) else None
        # By how many seconds an answer may be behind the store; what looks for a copy at hand.
        self.lag = 0.0 if self.copies is None else self.copies.lag
        self.peek = None if self.copies is None else self.copies.peek

    @property
    def counts(self) -> dict[str, int]:
        """How many loads were answered by whom, where there are copies."""
        return {} if self.copies is None else self.copies.counts


def _opened(store: str | Store | AsyncStore, timeout: float) -> StorePair:
    if isinstance(store, str):
        return open_store(store, timeout)
    if _awaits(store):
        return StorePair(None, cast(AsyncStore, store))
    return StorePair(cast(Store, store), None)


def _awaits(store: object) -> bool:
    """Say whether the verbs of a store object are awaited; refuse what is no store."""
    verbs = [
        getattr(store, verb, None) for verb in ("load", "create", "replace", "touch", "delete")
    ]
    if not all(callable(verb) for verb in verbs):
        raise TypeError(
            f"store={type(store).__name__} is no session store: pass a URL such as "
            "'redis://localhost:6379/0', or a store object such as RedisStore(client)."
        )
    return inspect.iscoroutinefunction(verbs[0])


class Sessions:
    """Sessions for a framework whose requests are served by plain functions, in threads.

    One object serves all requests of an application: `open` gives a request its session, which is
    loaded when it is first used; `commit` stores it before the first byte of the response leaves,
    and says which headers to send; `finish`, when the request is over, looks for changes that
    came later. Any use of a session raises `StoreUnavailable` where the store does not answer, and
    so do `commit` and `finish`: the adapter answers with `unavailable`. When the application has
    failed, only `finish` is called, and nothing is stored.

    Args:
        settings: ready-made, from `settings.gather`; otherwise give them one by one, as to the
            middlewares: ``Sessions(secret_key=…, store=…)``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: there is no such setting, or the store is one whose functions are awaited.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        **arguments: Any,  # Any: of the settings' types, which `gather` checks
    ) -> None:
        unknown = arguments.keys() - NAMES
        if unknown:
            raise TypeError(f"There is no setting {min(unknown)!r}: {', '.join(sorted(NAMES))}.")
        if settings is None:
            settings = gather(arguments)
        self.manager = Manager(settings)
        self._stores = Stores(settings)
        if self._stores.sync is None:
            name = "The store of this URL" if self._stores.owned else type(settings.store).__name__
            plain = name.removeprefix("Async") if name.startswith("Async") else "a plain store"
            raise TypeError(
                f"{name} is awaited, which only ASGI can do: use {plain} here, or a URL, which "
                "stands for both."
            )
        self._store: Store = self._stores.sync
        self._timeout = settings.timeout
        self.manager.lag = self._stores.lag
        self._peek = self._stores.peek
        bounded = getattr(self._store, "blocking", True) and threads_run()
        self._within = self._make_call if bounded else None
        self._threads = OwnThreads()

    @property
    def counts(self) -> dict[str, int]:
        """How often each event happened in this process: created, renewed, gone, outage, …."""
        return {**self.manager.counts, **self._stores.counts}

    def open(
        self,
        cookies: str | None,
        manager: Callable[[], Manager] | None = None,
        request: MutableMapping[str, Any] | None = None,
    ) -> Session:
        """Return the session of a request that came with these cookies, not loaded yet.

        ``cookies`` is the value of the Cookie header, several joined by a semicolon or a comma;
        ``manager`` is asked, at the first use, for the one to use instead of `manager`;
        ``request`` is what ``on_outage`` is asked with, where that is a function.
        """
        session: UnusedSession
        if cookies is None:
            session = UnusedSession()
        else:
            tolerates = self.manager.settings.tolerance(request)
            session = UnusedSession.unloaded(Loading(self._load, tolerates=tolerates))
        session._begin = partial(self._begin, cookies, manager)
        return session

    def commit(self, session: Session, headers: Texts, *, https: bool, status: int = 200) -> Texts:
        """Store what the request did; return the response's headers with those of the session.

        ``https`` says whether the request came by it, which sets Secure. ``status`` is that of the
        response: after a commit of the application's own whose outcome is unknown, only an answer
        of 400 or more that is no 500 may leave, for it confirms nothing.

        Raises `StoreUnavailable`, which the adapter answers with `unavailable`; what a function of
        the application raised when it ran again over newer data, a 500, since then nothing of the
        request is stored; and `LateChange`, `NotEncodable` or `TooLarge`, the application's faults.
        """
        known = trouble(session)
        try:
            self.close(session)
        except Exception as error:
            if instead(session, status, error, known) is not None:
                raise
        return self.headers(session, headers, https=https)

    def finish(self, session: Session) -> None:
        """The request is over: store what was changed after `commit`; without one, nothing.

        `LateChange` where that cannot be; and from now on, wherever the session is changed.
        """
        stores_nothing = isinstance(session, EmptyInOutage) or not session._late
        over(session)  # first, so that no change of another thread comes too late to be seen
        if not stores_nothing:
            self.close(session, late=True)

    # --- for adapters with needs of their own ---

    def headers(self, session: Session, headers: Texts, *, https: bool) -> Texts:
        """Return a response's headers with those that the committed session asks for."""
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if not add_headers(encoded, session, https=https):
            return headers
        # Title case, for whoever looks for 'Set-Cookie' and nothing else.
        return [
            (name.title() if name in OURS else name, value.decode("latin-1"))
            for name, value in ((name.decode("latin-1"), value) for name, value in encoded)
        ]

    def close(self, session: Session, *, late: bool = False, repeat: bool = False) -> None:
        """Run `flows.finishing`; nothing, once that has failed: it must not be half-done twice."""
        if session._failed:
            return
        session._late = session._failed = True
        if not is_settled(session, late=late, repeat=repeat):
            self.run(finishing(session, late=late, repeat=repeat))
        session._failed = False

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow with the store, under one deadline."""
        return drive(flow, self._store, self.manager, self._within, self._peek)

    def _begin(
        self, cookies: str | None, manager: Callable[[], Manager] | None, session: Session
    ) -> Visit:
        chosen = self.manager if manager is None else manager()
        # Servers join the headers of one name by commas.
        found = chosen.codec.read(cookies.split(",")) if cookies else ()
        visit = Visit(chosen, found, self._asked)
        visit.late = session._late
        return visit

    def _load(self, session: Session) -> Data:
        visit = session._backed("the first use")
        assert isinstance(visit, Visit)
        if not visit.opened:
            try:
                self.run(opening(visit))
            except StoreUnavailable:
                if not from_outdated_copies(visit, self._stores):
                    raise
            if visit.record is not None:
                session._base = session._checkpoint = visit.record.data
        return visit.data

    def _asked(self, session: Session, name: str, flow: Flow[Any]) -> Any:
        """What ``session.commit()`` and ``session.reload()`` do."""
        visit = session._backing
        assert isinstance(visit, Visit)
        visit.begin(f"session.{name}")
        try:
            return self.run(flow)
        except StoreUnavailable:
            visit.met_outage = True
            raise
        finally:
            visit.busy = False

    def _make_call(self, seconds: float, call: Callable[[], T]) -> T:
        """Make a call of the store that may take so long; in a thread, unless it ends by itself.

        A store made from a URL ends its calls within the timeout, or nearly: a name server that
        hangs, or an answer in drops, can take longer. One that was handed over may never end, and
        none ends sooner because other calls, or an outage, have left less time. A thread costs as
        much again as the call, so it is used where one is needed.
        """
        trusted = self._stores.owned and not self.manager.breaker.down
        if trusted and seconds > TRUSTED * self._timeout:
            return call()
        future = self._threads.submit(_within, seconds, call)
        try:
            return cast(T, future.result(seconds))
        except TimeoutError:
            if future.done():  # it was the call's own
                raise
            future.cancel()
            raise DeadlinePassed from None


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Make a call of a store that ends its waits in time, if it can, when nobody waits for it."""
    with within(seconds):
        return call()


def from_outdated_copies(visit: Visit, stores: Stores) -> bool:
    """Open a session from copies alone, where the settings allow that in an outage."""
    if stores.copies is None:
        return False
    flow = opening(visit, outdated=True)
    try:
        first_step(flow, stores.copies.outdated)
    except StopIteration:
        return True
    finally:
        flow.close()
    return False


# --- the response ---------------------------------------------------------------------------------


def add_headers(headers: Headers, session: Session, *, https: bool) -> bool:
    """Add what a committed session asks for; return whether there was anything to add."""
    if not (session._used or session.accessed):
        return False
    visit, cookie = session._backing, None
    if trouble(session) is not None:  # what the client would be told is not known
        pass
    elif isinstance(visit, Visit) and visit.removed:
        cookie = visit.manager.codec.remove(https=https)
    elif isinstance(visit, Visit) and visit.answer is not None:
        cookie = visit.manager.codec.issue(visit.answer, https=https)
    _merge(headers, b"vary", b"Cookie", unless=(b"cookie", b"*"))
    if cookie is not None:
        headers.append((b"set-cookie", cookie.encode("latin-1")))
    if cookie is not None or isinstance(session, EmptyInOutage):
        _merge(headers, b"cache-control", b"no-store", unless=(b"no-store", b"private"))
    return True


def _merge(headers: Headers, name: bytes, value: bytes, unless: tuple[bytes, ...]) -> None:
    """Add a value to a list-valued header, once, beside what the application put there."""
    position = None
    for index, (known, content) in enumerate(headers):
        if known.lower() == name:
            if any(part.strip().lower() in unless for part in content.split(b",")):
                return
            position = index
    if position is None:
        headers.append((name, value))
    else:
        headers[position] = (name, headers[position][1] + b", " + value)


def unavailable(status: int = 503) -> tuple[Texts, bytes]:
    """Return the headers and the body of the 503 that an outage is answered with.

    Or of a 500: nothing of a request is stored when one of its functions raised at a replay.
    """
    body = f"{UNAVAILABLE if status == 503 else NOT_STORED}\n".encode()
    retry = [("Retry-After", str(RETRY_AFTER))] if status == 503 else []
    return [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        *retry,
        ("Cache-Control", "no-store"),
    ], body


def warn_proxy(how: str, setting: str) -> None:
    """Warn that the server does not trust a proxy that says https."""
    warnings.warn(
        "A proxy says that the client came by https, but the server says http, so the session "
        "cookie is set without Secure. Let the server trust its proxy "
        f"({how}), or {setting}.",
        RuntimeWarning,
        stacklevel=3,
    )


def met_outage(session: Session) -> bool:
    """Say whether the application met an outage, in a read or in a verb of its own."""
    loading = getattr(session, "_loading", None)
    if loading is not None and loading.met and isinstance(loading.failure, StoreUnavailable):
        return True
    return isinstance(session._backing, Visit) and session._backing.met_outage
