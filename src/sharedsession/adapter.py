"""What adapters share, and all that a plain (not async) framework needs: `Sessions`.

An adapter translates: a header becomes a cookie string, a decision becomes a header. It decides
nothing itself. docs/writing-an-adapter.md builds one.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any, TypeVar, cast

from ._core.answers import Texts, encoded, unavailable
from ._core.drivers import advance, drive
from ._core.exchange import Exchange
from ._core.flows import opening
from ._core.manager import Manager, Process
from ._core.runtime import threads_run
from ._core.session import Session, exchange_of
from ._core.settings import NAMES, Settings, announce, gather
from ._core.state import Progress
from ._core.steps import Flow
from ._doors import advice
from .exceptions import StoreUnavailable
from .stores import REPLICA_SHARE, open_store, open_with_copies
from .stores._support.deadline import within
from .stores.base import AsyncStore, Copying, Store, StorePair
from .stores.near import with_copies

__all__ = ["Counts", "Sessions", "met_outage", "unavailable"]

T = TypeVar("T")

OURS = ("vary", "cache-control", "set-cookie")
COUNTS = "sharedsession.counts"  # where scopes and environments hold the `Counts` of a middleware
LAYERS = "sharedsession.layers"  # and, inside of several, the name and the session of each
TRUSTED = 0.9  # share of the timeout with which a store of our own ends its calls by itself


def configure(arguments: Mapping[str, Any]) -> Settings:  # Any: what `gather` checks
    """Return the settings of a middleware, and say what may be wrong with them."""
    advice.warn_of_variables(os.environ, NAMES)
    settings = gather(arguments)
    announce(settings)
    return settings


class Stores:
    """The store that the settings name, sync and async, as far as there are both."""

    def __init__(self, settings: Settings) -> None:
        chosen, replica, timeout = settings.store, settings.replica, settings.store_timeout
        near_cache, stale = settings.near_cache, settings.stale_if_error
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

    def open_outdated(self, exchange: Exchange) -> bool:
        """Open a session from copies alone, where the settings allow that in an outage."""
        if self.copies is None:
            return False
        flow = opening(exchange, outdated=True)
        try:
            advance(flow, exchange.manager, self.copies.outdated)
        except StopIteration:
            # What another package keeps cannot be known from copies: there may be a session.
            return exchange.entry is not None or not exchange.foreign
        finally:
            flow.close()
        return False


def _opened(store: str | Store | AsyncStore, timeout: float) -> StorePair:
    if isinstance(store, str):
        return open_store(store, timeout)
    if inspect.iscoroutinefunction(store.load):
        return StorePair(None, cast(AsyncStore, store))
    return StorePair(cast(Store, store), None)


class Counts(Mapping[str, int]):
    """How often each event has happened in this process: always as of now, and read only."""

    def __init__(self, manager: Manager, stores: Stores, key: str = "") -> None:
        self.manager, self._stores = manager, stores
        settings = manager.settings
        self.cookie = settings.session_cookie
        self.place = settings.store, settings.namespace
        self.key = key  # where in a scope or an environment the session is

    def _now(self) -> dict[str, int]:
        return {**self.manager.counts, **self._stores.counts}

    def __getitem__(self, event: str) -> int:
        return self._now().get(event, 0)

    def __contains__(self, event: object) -> bool:
        return event in self._now()

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __repr__(self) -> str:
        return repr(self._now())


def enter(request: MutableMapping[str, Any], counts: Counts, outer: Counts) -> Session | None:
    """Go into a middleware inside of another one; return the session that both have in common.

    Two cookies of one name cannot be in one answer: the outermost middleware of that name decides.
    """
    session = request.get(outer.key)
    held: Mapping[str, Session] = request.get(LAYERS, {})
    layers = {name: each for name, each in held.items() if not _is_over(each)}
    if isinstance(session, Session):
        layers.setdefault(outer.cookie, session)
    request[LAYERS] = layers
    known = layers.get(counts.cookie)
    if known is None or _is_over(known):  # of an earlier request with the same environment
        return None
    if counts.place != outer.place and counts.cookie == outer.cookie:
        counts.manager.tell_once(
            "two-layers",
            "Two session middlewares on one request must have the same store and namespace, or "
            "cookies of different names, and both have the cookie %r: the outer one decides. Give "
            "one of them another name (session_cookie=…), or both the same settings.",
            counts.cookie,
        )
    return known


def _is_over(session: Session) -> bool:
    exchange = exchange_of(session)
    return exchange is not None and exchange.progress is Progress.OVER


def environ_header(environ: Mapping[str, Any], name: str) -> str:
    """Return a header of a WSGI request by its name in lower case; nothing where it is absent."""
    return str(environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""))


def met_outage(session: Session) -> bool:
    """Say whether the application met an outage, in a read or in a verb of its own."""
    exchange = exchange_of(session)
    return exchange is not None and exchange.met_outage


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
        if settings is not None and (arguments or not isinstance(settings, Settings)):
            raise TypeError("Sessions takes what `gather` returns, or settings by their names.")
        if settings is None:
            advice.refuse_unknown(arguments, NAMES, {})
            settings = configure(arguments)
        self._stores = Stores(settings)
        if self._stores.sync is None:
            name = "The store of this URL" if self._stores.owned else type(settings.store).__name__
            plain = name.removeprefix("Async") if name.startswith("Async") else "a plain store"
            raise TypeError(
                f"{name} is awaited, which only ASGI can do: use {plain} here, or a URL, which "
                "stands for both."
            )
        self.manager = Manager(settings, process=Process(lag=self._stores.lag))
        self._store: Store = self._stores.sync
        bounded = getattr(self._store, "blocking", True) and threads_run()
        self._within = self._make_call if bounded else None

    @property
    def counts(self) -> dict[str, int]:
        """How often each event happened in this process: created, renewed, gone, outage, …."""
        return dict(self.live_counts())

    def live_counts(self, key: str = "") -> Counts:
        """Return the same as a mapping that goes on counting."""
        return Counts(self.manager, self._stores, key)

    def open(
        self,
        cookies: str | None,
        manager: Callable[[], Manager] | None = None,
        request: MutableMapping[str, Any] | None = None,
        convert: Callable[[Any], Any] | None = None,  # Any: of the framework's types
    ) -> Session:
        """Return the session of a request that came with these cookies, not loaded yet.

        Args:
            cookies: the value of the Cookie header, several joined by a semicolon or a comma; None:
                the store is not asked.
            manager: is asked, at the first use, for the one to use instead of `manager`.
            request: what ``on_outage`` is asked with, where that is a function.
            convert: is asked for what to store in the place of a value that a session cannot hold,
                and raises TypeError where the framework's own session could not hold it either;
                default: none can.
        """
        return self.begin(cookies, manager, request, convert).session

    def commit(self, session: Session, headers: Texts, *, https: bool, status: int = 200) -> Texts:
        """Store what the request did; return the response's headers with those of the session.

        Args:
            session: as `open` returned it.
            headers: of the response.
            https: whether the request came by it, which sets Secure.
            status: of the response. After a commit of the application's own whose outcome is
                unknown, only one of 400 or more that is no 500 may leave: it confirms nothing.

        Raises:
            StoreUnavailable: the adapter answers with `unavailable`.
            Exception: what a function of the application raised when it ran again over newer data:
                a 500, since nothing of the request is stored.
            LateChange, NotSerializable, TooLarge: the application's faults.
        """
        exchange: Exchange = exchange_of(session)
        instead = self.run(exchange.respond(status, encoded(headers)))
        if instead is not None:
            raise exchange.cause or StoreUnavailable("The session store did not answer.")
        return self.headers(exchange, headers, https=https)

    def finish(self, session: Session) -> None:
        """The request is over: store what was changed after `commit`; without one, nothing.

        From now on a change of the session raises `LateChange`.

        Raises:
            LateChange: what was changed needs a new cookie.
            StoreUnavailable: the store does not answer.
        """
        exchange: Exchange = exchange_of(session)
        try:
            self.run(exchange.finish())
        finally:
            exchange.over()

    # --- for the adapters of this package ---

    def begin(
        self,
        cookies: str | None,
        manager: Callable[[], Manager] | None = None,
        request: MutableMapping[str, Any] | None = None,
        convert: Callable[[Any], Any] | None = None,
    ) -> Exchange:
        """Return the exchange of a request; the arguments are those of `open`."""
        unread = cookies is not None or manager is not None
        exchange = Exchange(
            self.manager,
            run=self._run_verb,
            resolve=partial(self._resolve, cookies, manager) if unread else None,
            load=self._load if cookies is not None else None,
            tolerates=self.manager.settings.tolerance(request) if cookies is not None else None,
        )
        exchange.convert = convert
        if cookies is not None:
            exchange.hide()
        return exchange

    def headers(self, exchange: Exchange, headers: Texts, *, https: bool) -> Texts:
        """Return a response's headers with those that the committed session asks for."""
        if not exchange.is_used:
            return headers
        sent = encoded(headers)
        exchange.add_headers(sent, https=https)
        # Title case, for clients that look for 'Set-Cookie' and nothing else.
        return [
            (name.title() if name in OURS else name, value.decode("latin-1"))
            for name, value in ((name.decode("latin-1"), value) for name, value in sent)
        ]

    def run(self, flow: Flow[T] | None) -> T | None:
        """Drive a flow with the store, under one deadline; None: there is nothing to do."""
        if flow is None:
            return None
        return drive(flow, self._store, self.manager, self._within, self._stores.peek)

    def _resolve(
        self, cookies: str | None, manager: Callable[[], Manager] | None, exchange: Exchange
    ) -> None:
        """Read the cookies of a request, with the settings that it is to have."""
        if manager is not None:
            exchange.manager = manager()
        if cookies:
            read = exchange.manager
            exchange.show_cookies(read.read([cookies]), read.recognise([cookies]))
        else:
            exchange.show_cookies(())

    def _load(self, exchange: Exchange) -> None:
        try:
            self.run(opening(exchange))
        except StoreUnavailable:
            if not self._stores.open_outdated(exchange):
                raise

    def _run_verb(self, exchange: Exchange, name: str, flow: Flow[Any]) -> Any:
        """What ``session.commit()`` and ``session.reload()`` do."""
        with exchange.running_verb(name):
            return self.run(flow)

    def _make_call(self, seconds: float, call: Callable[[], T]) -> T:
        """Make a call of the store that may take so long; in a thread, unless it ends by itself.

        A store made from a URL ends its calls within the timeout, or nearly: a name server that
        hangs, or an answer in drops, can take longer. One that was handed over may never end, and
        none ends sooner because other calls, or an outage, have left less time. A thread costs as
        much again as the call, so it is used where one is needed.
        """
        process = self.manager.process
        trusted = self._stores.owned and not process.backoff.is_down
        if trusted and seconds > TRUSTED * self.manager.settings.store_timeout:
            return call()
        return process.threads.run(partial(_within, seconds, call), seconds)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Make a call of a store that ends its waits in time, if it can, when its caller has left."""
    with within(seconds):
        return call()
