"""What adapters share, and all that a framework of its own kind needs: its sessions.

`Sessions` are for requests that plain functions serve, `AsyncSessions` for coroutines. An adapter
translates: a header becomes a cookie string, a decision becomes a header. It decides nothing
itself. docs/writing-an-adapter.md builds one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, TypeVar

from ._core import runtime
from ._core.answers import Texts, encoded, unavailable
from ._core.drivers import adrive, advance, drive
from ._core.exchange import Exchange, Run
from ._core.flows import opening
from ._core.manager import Manager, Process
from ._core.runtime import threads_run
from ._core.session import Session, UnusedSession, exchange_of
from ._core.settings import NAMES, Settings
from ._core.state import Progress
from ._core.steps import Flow
from ._doors import advice
from ._doors.awaited import Calls, Meets, Verb, refuse_unawaited
from ._doors.layers import Counts
from ._doors.stores import Stores, configure
from .exceptions import StoreUnavailable
from .stores._support.deadline import within
from .stores.base import Store

__all__ = ["AsyncSessions", "Counts", "Sessions", "met_outage", "unavailable"]

T = TypeVar("T")
Managers = Callable[[], Manager]
Convert = Callable[[Any], Any]  # Any: of the framework's types

OURS = ("vary", "cache-control", "set-cookie")
TRUSTED = 0.9  # share of the timeout with which a store of our own ends its calls by itself


def environ_header(environ: Mapping[str, Any], name: str) -> str:
    """Return a header of a WSGI request by its name in lower case; nothing where it is absent."""
    return str(environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""))


def met_outage(session: Session) -> bool:
    """Say whether the application met an outage, in a read or in a verb of its own."""
    exchange = exchange_of(session)
    return exchange is not None and exchange.met_outage


class _Shared:
    """What both kinds of sessions have in common: settings, counts, and a response's headers."""

    stores: Stores
    manager: Manager

    def __init__(self, settings: Settings | _Shared | None, arguments: Mapping[str, Any]) -> None:
        if isinstance(settings, _Shared) and not arguments:
            self.stores, self.manager = settings.stores, settings.manager
            return
        if settings is not None and (arguments or not isinstance(settings, Settings)):
            name = type(self).__name__.lstrip("_")
            raise TypeError(f"{name} takes what `gather` returns, or settings by their names.")
        if settings is None:
            advice.refuse_unknown(arguments, NAMES, {})
            settings = configure(arguments)
        self.stores = Stores(settings)
        self.manager = Manager(settings, process=Process(self.stores.clock, self.stores.lag))

    @property
    def counts(self) -> dict[str, int]:
        """How often each event happened in this process: created, renewed, gone, outage, …."""
        return dict(self.live_counts())

    def manager_of(self, app: object) -> Manager:
        """Return what tests need to know: see `_doors.found`."""
        return self.manager

    def live_counts(self, key: str = "") -> Counts:
        """Return the same as a mapping that goes on counting."""
        return Counts(self.manager, self.stores, key)

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

    @staticmethod
    def _raise_instead(exchange: Exchange, instead: int | None) -> None:
        """Raise what a commit was answered with, where it was not stored."""
        if instead is not None:
            raise exchange.cause or StoreUnavailable("The session store did not answer.")


class Sessions(_Shared):
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
        super().__init__(settings, arguments)
        stores, given = self.stores, self.manager.settings.store
        if stores.sync is None:
            name = "The store of this URL" if stores.owned else type(given).__name__
            plain = name.removeprefix("Async") if name.startswith("Async") else "a plain store"
            raise TypeError(
                f"{name} is awaited, which `AsyncSessions` and ASGI can do: use {plain} here, "
                "or a URL, which stands for both."
            )
        self._store: Store = stores.sync
        bounded = getattr(self._store, "blocking", True) and threads_run()
        self._within = self._make_call if bounded else None

    def open(
        self,
        cookies: str | None,
        manager: Managers | None = None,
        request: MutableMapping[str, Any] | None = None,
        convert: Convert | None = None,
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
        self._raise_instead(exchange, instead)
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
        manager: Managers | None = None,
        request: MutableMapping[str, Any] | None = None,
        convert: Convert | None = None,
        session: UnusedSession | None = None,
    ) -> Exchange:
        """Return the exchange of a request; the arguments are those of `open`.

        ``session``: of a framework's own class.
        """
        unread = cookies is not None or manager is not None
        exchange = Exchange(
            self.manager,
            run=self._run_verb,
            resolve=partial(self._resolve, cookies, manager) if unread else None,
            load=self._load if cookies is not None else None,
            tolerates=self.manager.settings.tolerance(request) if cookies is not None else None,
            session=session,
        )
        exchange.convert = convert
        if cookies is not None:
            exchange.hide()
        return exchange

    def run(self, flow: Flow[T] | None) -> T | None:
        """Drive a flow with the store, under one deadline; None: there is nothing to do."""
        if flow is None:
            return None
        return drive(flow, self._store, self.manager, self._within, self.stores.peek)

    def _resolve(self, cookies: str | None, manager: Managers | None, exchange: Exchange) -> None:
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
            if not self.stores.open_outdated(exchange):
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
        trusted = self.stores.owned and not process.backoff.is_down
        if trusted and seconds > TRUSTED * self.manager.settings.store_timeout:
            return call()
        return process.threads.run(partial(_within, seconds, call), seconds)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Make a call of a store that ends its waits in time, if it can, when its caller has left."""
    with within(seconds):
        return call()


class AsyncSessions(_Shared):
    """The awaited twin of `Sessions`, for requests that coroutines serve, on asyncio or on trio.

    The calls are the same, and are awaited: `open`, which has loaded the session when it returns,
    or remembers that it could not: its first use raises the outage then; `commit`; `finish`. So are
    the session's own ``commit()`` and ``reload()``. A store whose functions are plain is called in
    threads, one whose functions are awaited on the running loop; a URL stands for both.

    Args:
        settings: ready-made, from `settings.gather`, or `Sessions` whose store, settings and counts
            these have in common; otherwise give them one by one, as to the middlewares:
            ``AsyncSessions(secret_key=…, store=…)``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: there is no such setting.
    """

    def __init__(
        self,
        settings: Settings | Sessions | None = None,
        **arguments: Any,  # Any: of the settings' types, which `gather` checks
    ) -> None:
        super().__init__(settings, arguments)
        self._calls = Calls(self.stores, self.manager.process.threads)
        self._peek = self.stores.peek

    async def open(
        self,
        cookies: str | None,
        manager: Managers | None = None,
        request: MutableMapping[str, Any] | None = None,
        convert: Convert | None = None,
    ) -> Session:
        """Return the session of a request that came with these cookies; no outage is raised here.

        The arguments are those of `Sessions.open`; ``manager`` is asked at once.
        """
        return (await self.begin(cookies, manager, request, convert)).session

    async def commit(
        self, session: Session, headers: Texts, *, https: bool, status: int = 200
    ) -> Texts:
        """Store what the request did; return the response's headers with those of the session.

        Arguments and errors are those of `Sessions.commit`.

        Raises:
            SessionError: a ``session.commit()`` or ``reload()`` was never awaited.
        """
        exchange: Exchange = exchange_of(session)
        refuse_unawaited(exchange)
        instead = await self.run(exchange.respond(status, encoded(headers)))
        self._raise_instead(exchange, instead)
        return self.headers(exchange, headers, https=https)

    async def finish(self, session: Session) -> None:
        """The request is over: store what was changed after `commit`; without one, nothing.

        From now on a change of the session raises `LateChange`.

        Raises:
            LateChange: what was changed needs a new cookie.
            SessionError: a ``session.commit()`` or ``reload()`` was never awaited.
            StoreUnavailable: the store does not answer.
        """
        exchange: Exchange = exchange_of(session)
        try:
            if exchange.progress is Progress.ANSWERED:
                refuse_unawaited(exchange)
            await self.run(exchange.finish())
        finally:
            exchange.over()

    # --- for the adapters of this package ---

    async def begin(
        self,
        cookies: str | None,
        manager: Managers | None = None,
        request: MutableMapping[str, Any] | None = None,
        convert: Convert | None = None,
        meets: Meets | None = None,
    ) -> Exchange:
        """Return the exchange of a request, loaded; the arguments are those of `open`.

        ``meets`` is told of an outage before the application meets it.
        """
        exchange = Exchange(self.manager, run=self.verbs(meets))
        await self.show(exchange, cookies, manager, request, convert, meets)
        return exchange

    async def show(
        self,
        exchange: Exchange,
        cookies: str | None,
        manager: Managers | None = None,
        request: MutableMapping[str, Any] | None = None,
        convert: Convert | None = None,
        meets: Meets | None = None,
    ) -> None:
        """Let an exchange that was begun without cookies go on with these, as `begin` does."""
        if manager is not None:
            exchange.manager = manager()
        exchange.convert = convert
        if cookies:
            read = exchange.manager
            exchange.show_cookies(read.read([cookies]), read.recognise([cookies]))
            await self.load(exchange, request, meets)

    def verbs(self, meets: Meets | None = None) -> Run:
        """Return what runs a session's ``commit()`` and ``reload()``, and makes awaitables."""
        return partial(Verb, self.run, meets)

    async def load(
        self,
        exchange: Exchange,
        request: MutableMapping[str, Any] | None = None,
        meets: Meets | None = None,
    ) -> None:
        """Load the session of an exchange that shows cookies, or remember the outage."""
        if exchange.opened:
            return
        try:
            await self.run(opening(exchange))
        except StoreUnavailable as outage:
            if not self.stores.open_outdated(exchange):
                if meets is not None:
                    meets(outage)
                exchange.fail_load(outage, exchange.manager.settings.tolerance(request))
                exchange.hide()
                return
        exchange.fill(exchange.session)

    async def run(self, flow: Flow[T] | None) -> T | None:
        """Drive a flow with the store that suits the running event loop, under one deadline."""
        if flow is None:
            return None
        try:
            step = advance(flow, self.manager, self._peek, self._calls.at_once)
        except StopIteration as done:  # there is nothing to ask the store
            result: T = done.value
            return result
        loop = runtime.current()
        return await adrive(flow, step, self._calls.on(loop), loop, self.manager)
