"""The ASGI adapter: a header becomes a cookie string, a decision becomes a header. No rule is here.

A request without a cookie of ours costs one object, the session; everything else is made when the
session is used. The response is held back at its start until the record is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

from . import concurrency
from .adapter import (
    Headers,
    Stores,
    add_headers,
    from_outdated_copies,
    met_outage,
    unavailable,
    warn_proxy,
)
from .exceptions import SessionError, StoreUnavailable
from .flows import (
    Flow,
    Manager,
    Step,
    Visit,
    adrive,
    finishing,
    first_step,
    instead,
    is_settled,
    opening,
    over,
    too_late,
    trouble,
)
from .session import Loading, Session, UnusedSession
from .settings import UNSET, NearCache, OnOutage, Unset, gather
from .stores.base import AsyncStore, Store

# ASGI's own types: what a scope or a message holds differs from server to server.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

TRY_AGAIN_LATER, INTERNAL_ERROR = 1013, 1011  # WebSocket close codes (IANA registry)


class SessionMiddleware:
    """Give ``scope["session"]`` to any ASGI application, from a store that all servers share.

    The arguments are those of ``starlette.middleware.sessions.SessionMiddleware``, and more. Each
    of them can also come from the environment, ``SHAREDSESSION_STORE`` and so on.

    Args:
        app: the application.
        secret_key: what signs the cookies; one key or a list, newest first: the first signs, all
            verify.
        session_cookie: the cookie's name, default ``"session"``. The prefixes ``__Host-`` and
            ``__Secure-`` imply what they demand.
        max_age: the idle timeout in seconds, default 14 days, enforced by the server. None: the
            default, and a cookie that ends with the browser. Zero or less ends sessions at once.
        path, domain, same_site, partitioned: attributes of the cookie; defaults ``"/"``, none,
            ``"lax"``, False.
        https_only: None (default) sets Secure on requests that came by https, or where another
            setting demands it; True always; False never.
        store: a URL (``"sqlite:///sessions.db"``, ``"redis://host:6379/0"``, ``"memory://"``) or
            a store object.
        absolute_timeout: the longest life of a session in seconds, from its creation or the last
            authentication on; default None, no limit.
        namespace: keeps applications that share a store apart; default ``""``.
        owner_key: the session key that says who is signed in, or several; a changed value renews
            the ID. Default ``user_id``, ``_user_id`` and ``_auth_user_id``.
        sign_in_names: other keys under which applications note who is signed in: another identity
            there renews the ID, and no more. Default ``user``, ``username``, ``logged_in`` and
            their kin (docs/settings.md lists them); ``()`` for none.
        on_owner_change: what another user who signs in finds: ``"drop"`` (default), only what that
            request itself assigned; ``"keep"``, all that the user before left.
        timeout: seconds that the store may take for opening a session, and again for closing it;
            default 1.
        on_outage: what a request meets whose session cannot be loaded: ``"error"`` (default), a
            503 when it uses the session; ``"readonly-empty"``, an empty session, and the 503 only
            when it wants to store something; or a function of the scope and the error that returns
            one of the two.
        near_cache: True, or a `NearCache`, keeps copies of sessions in this server's memory, so
            that most reads ask no store; default False. See docs/consistency.md for what it costs.
        stale_if_outage: seconds for which copies may be read while the store is down; default 0.
        read_from: the URL of a replica of the store near this server, which answers reads;
            default none.
        scope_key: where in the scope the session is put, default ``"session"``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
    """

    def __init__(
        self,
        app: ASGIApp,
        secret_key: str | bytes | Iterable[str | bytes] | Unset = UNSET,
        session_cookie: str | Unset = UNSET,
        max_age: int | None | Unset = UNSET,
        path: str | Unset = UNSET,
        same_site: Literal["lax", "strict", "none"] | Unset = UNSET,
        https_only: bool | None | Unset = UNSET,
        domain: str | None | Unset = UNSET,
        partitioned: bool | Unset = UNSET,
        *,
        store: str | Store | AsyncStore | Unset = UNSET,
        absolute_timeout: int | None | Unset = UNSET,
        namespace: str | Unset = UNSET,
        owner_key: str | Iterable[str] | Unset = UNSET,
        sign_in_names: str | Iterable[str] | Unset = UNSET,
        on_owner_change: Literal["drop", "keep"] | Unset = UNSET,
        timeout: float | Unset = UNSET,
        on_outage: OnOutage | Unset = UNSET,
        near_cache: bool | NearCache | Mapping[str, float] | None | Unset = UNSET,
        stale_if_outage: float | Unset = UNSET,
        read_from: str | Store | AsyncStore | None | Unset = UNSET,
        scope_key: str = "session",
    ) -> None:
        given = dict(locals())
        settings = gather(given)
        self.app = app
        self.scope_key = scope_key
        self.manager = Manager(settings)
        self._stores = Stores(settings)
        self.manager.lag = self._stores.lag
        self._peek = self._stores.peek
        self._begin = self._begin_visit  # bound once, not for each request
        self._codec = self.manager.codec
        self._needle = settings.session_cookie.encode() + b"="
        self._threads = concurrency.OwnThreads()
        self._warned = settings.https_only is not None

    @property
    def counts(self) -> dict[str, int]:
        """How often each event happened in this process: created, renewed, gone, outage, …."""
        return {**self.manager.counts, **self._stores.counts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self.app(scope, receive, send)
            return
        session: Session = UnusedSession()
        session._begin = self._begin
        needle = self._needle
        sent = [value for name, value in scope["headers"] if name == b"cookie" and needle in value]
        if sent and (cookies := self._codec.read([each.decode("latin-1") for each in sent])):
            visit = Visit(self.manager, cookies, self._pending)
            flow = opening(visit)
            try:
                step = first_step(flow, self._peek)
            except StopIteration:  # a copy was at hand
                visit.fill(session)
            else:
                session = await self._load(scope, session, visit, self._go_on(flow, step))
        scope[self.scope_key] = session
        try:
            if kind == "websocket":
                await _Socket(self, scope, session, send).serve(receive)
            else:
                await self._serve(scope, session, receive, send)
        finally:
            over(session)

    async def _serve(self, scope: Scope, session: Session, receive: Receive, send: Send) -> None:
        key = self.scope_key
        exchange = None if session._backing is None else _Exchange(self, scope, session, send)

        def sending(message: Message) -> Awaitable[None]:
            nonlocal exchange
            if exchange is None:
                if session.__class__ is UnusedSession and scope.get(key) is session:
                    if message["type"] == "http.response.start":
                        session._late = True
                    return send(message)
                exchange = _Exchange(self, scope, session, send)
            return exchange.send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            exchange = exchange or _Exchange(self, scope, session, send)
            if await exchange.excused(error):
                return
            if exchange.client_gone:
                await exchange.finish()
            raise
        if exchange is None:
            if session.__class__ is UnusedSession and scope.get(key) is session:
                return
            exchange = _Exchange(self, scope, session, send)
        await exchange.finish()

    # --- what exchanges and sessions ask for ---

    async def _load(
        self, scope: Scope, session: Session, visit: Visit, opened: Awaitable[None]
    ) -> Session:
        try:
            await opened
        except StoreUnavailable as outage:
            if not from_outdated_copies(visit, self._stores):
                tolerates = self.manager.settings.tolerance(scope)
                session = UnusedSession.unloaded(Loading(failure=outage, tolerates=tolerates))
                session._backing = visit
                return session
        visit.fill(session)
        return session

    def _begin_visit(self, session: Session) -> Visit:
        visit = Visit(self.manager, (), self._pending)
        visit.late = session._late
        return visit

    def _pending(self, session: Session, name: str, flow: Flow[Any]) -> Awaitable[Any]:
        return _Pending(session, name, flow, self.run)

    async def run(self, flow: Flow[Any]) -> Any:
        """Drive a flow with the store that suits the running event loop, under one deadline."""
        try:
            step = first_step(flow, self._peek)
        except StopIteration as done:  # there is nothing to ask the store
            return done.value
        return await self._go_on(flow, step)

    async def _go_on(self, flow: Flow[Any], step: Step) -> Any:
        runtime = concurrency.current()
        manager = self.manager
        plain, awaited = self._stores.sync, self._stores.asynchronous
        if awaited is not None and runtime is concurrency.ASYNCIO:
            call = partial(_awaited, awaited)
        elif plain is None:
            raise StoreUnavailable(
                "This store's client works on asyncio only, and the application runs on trio: "
                "give the middleware a URL, or a store built around a client without asyncio."
            )
        elif not getattr(plain, "blocking", True):
            return await adrive(flow, partial(_inline, plain), runtime.pause, manager, step)
        else:
            call = partial(_threaded, plain, runtime, self._threads)
        patience = manager.patience()
        try:
            return await runtime.within(patience, adrive(flow, call, runtime.pause, manager, step))
        except concurrency.DeadlinePassed:
            raise too_late(manager, patience) from None

    def check_proxy(self, scope: Scope) -> None:
        """Warn, once, when the cookie lacks Secure because the server does not trust its proxy."""
        if self._warned or scope.get("scheme") in ("https", "wss"):
            return
        if (b"x-forwarded-proto", b"https") in [tuple(each) for each in scope["headers"]]:
            self._warned = True
            warn_proxy(
                "uvicorn: --proxy-headers --forwarded-allow-ips=…; hypercorn: ProxyFixMiddleware",
                "pass https_only=True",
            )


# --- the store, in each colour --------------------------------------------------------------------


# Any, below: the arguments and answers of the store's verbs, which `flows` knows.


def _awaited(store: AsyncStore, verb: str, *arguments: Any) -> Awaitable[Any]:
    answer: Awaitable[Any] = getattr(store, verb)(*arguments)
    return answer


async def _inline(store: Store, verb: str, *arguments: Any) -> Any:
    return getattr(store, verb)(*arguments)


def _threaded(
    store: Store,
    runtime: concurrency.Runtime,
    threads: ThreadPoolExecutor,
    verb: str,
    *arguments: Any,
) -> Awaitable[Any]:
    return runtime.in_thread(threads, partial(getattr(store, verb), *arguments))


class _Pending:
    """What ``session.commit()`` and ``session.reload()`` return; nothing happens until awaited."""

    def __init__(
        self,
        session: Session,
        name: str,
        flow: Flow[Any],
        run: Callable[[Flow[Any]], Awaitable[Any]],
    ) -> None:
        self._session, self._name, self._flow, self._run = session, name, flow, run
        self._awaited = False
        session._unawaited = (*session._unawaited, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        session, visit = self._session, self._session._backing
        assert isinstance(visit, Visit)
        if self._awaited:
            raise SessionError(f"The result of one session.{self._name} was awaited twice.")
        self._awaited = True
        waiting = list(session._unawaited)
        waiting.remove(self._name)
        session._unawaited = tuple(waiting)
        visit.begin(f"session.{self._name}")
        try:
            return (yield from self._run(self._flow).__await__())
        except StoreUnavailable:
            visit.met_outage = True
            raise
        finally:
            visit.busy = False


# --- one request ----------------------------------------------------------------------------------


async def _nothing() -> None:
    """What is left to send once we have answered."""


class _Exchange:
    """An HTTP request whose session was used, or came with a cookie."""

    starts: tuple[str, ...] = ("http.response.start",)

    def __init__(
        self,
        middleware: SessionMiddleware,
        scope: Scope,
        session: Session,
        send: Send,
    ) -> None:
        self.middleware, self.scope, self.session = middleware, scope, session
        self._servers_send = send
        self.left = session._late  # the headers have left, or their commit has failed
        self.failed = False
        self.answered = False  # with our 503 or 500, in the place of the application's response
        self.client_gone = False  # the server has said so, when something was to be sent

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the application sends; commit before the start of its response."""
        if self.answered:
            return _nothing()
        if self.left or message["type"] not in self.starts:
            return self._send(message)
        if message.get("status") == 500 and met_outage(self.session):
            return self.answer(503)
        self.left = self.failed = self.session._late = True
        if not self._is_settled(late=False):
            return self._commit(message)
        self.failed = False
        return self._send(self._dressed(message))

    async def _commit(self, message: Message) -> None:
        known = trouble(self.session)
        try:
            await self.middleware.run(finishing(self.session))
            self.failed = False
        except Exception as error:  # noqa: BLE001 - what is not the core's to answer is raised
            status = instead(self.session, message.get("status", 101), error, known)
            if status is not None:
                await self.answer(status)
                return
        await self._send(self._dressed(message))

    async def _send(self, message: Message) -> None:
        try:
            await self._servers_send(message)
        except Exception:  # an OSError, by the specification; servers have others as well
            self.client_gone = True
            raise

    async def finish(self) -> None:
        """The application has returned: commit what came late, in background tasks, say."""
        if not self.answered and not self.failed and self.left:
            await self._commit_late()

    async def _commit_late(self) -> None:
        settled = self._is_settled(late=True)
        over(self.session)  # what another task changes from now on raises
        if not settled:
            await self.middleware.run(finishing(self.session, late=True))

    async def excused(self, error: Exception) -> bool:
        """An exception escaped the application; answer 503 if an outage is behind it."""
        if not isinstance(error, StoreUnavailable) and not met_outage(self.session):
            return False
        if self.left and not self.answered:
            return False
        if not self.answered:
            await self.answer(503)
        return True

    async def answer(self, status: int) -> None:
        """Answer in the application's place; what it sends from now on is dropped."""
        self.answered = self.left = True
        headers, body = unavailable(status)
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
        await self._answer(status, encoded, body)

    async def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _dressed(self, message: Message) -> Message:
        """Return the start of the response with the headers of the session."""
        session = self.session
        if not (session._used or session.accessed):
            return message
        if isinstance(session._backing, Visit) and session._backing.answer is not None:
            self.middleware.check_proxy(self.scope)
        headers = [*message.get("headers", ())]
        add_headers(headers, session, https=self.scope.get("scheme") in ("https", "wss"))
        return {**message, "headers": headers}

    def _is_settled(self, *, late: bool) -> bool:
        """Whether nothing is left to be done, which needs no event loop to be found out."""
        session = self.session
        if self.scope.get(self.middleware.scope_key) is not session:
            self._take_replacement()
        for name in session._unawaited:
            raise SessionError(
                f"session.{name} was called but not awaited: write 'await session.{name}'."
            )
        return is_settled(session, late=late)

    def _take_replacement(self) -> None:
        """The application may have put something else in its session's place."""
        current = self.scope.get(self.middleware.scope_key)
        if hasattr(current, "mark_accessed"):
            return  # another middleware's
        if isinstance(current, dict):
            self.session._replace_by(dict(dict.items(current)))
        else:
            self.session.destroy()


class _Socket(_Exchange):
    """A WebSocket: committed at accept, by ``commit()``, and when it is over."""

    starts = ("websocket.accept", "websocket.http.response.start")

    async def serve(self, receive: Receive) -> None:
        async def receiving() -> Message:
            message = await receive()
            self.client_gone |= message["type"] == "websocket.disconnect"
            return message

        try:
            await self.middleware.app(self.scope, receiving, self.send)
        except BaseException as error:  # a cancellation is an end like any other
            if self.client_gone:
                # Most applications end by an exception that says just that.
                await concurrency.current().to_the_end(self.finish())
                raise
            if not isinstance(error, Exception) or not await self.excused(error):
                raise
        else:
            await concurrency.current().to_the_end(self.finish())

    async def finish(self) -> None:
        """The socket is closed, also one that was never accepted: commit."""
        if not self.answered and not self.failed:
            await self._commit_late()

    async def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        if "websocket.http.response" in (self.scope.get("extensions") or {}):
            start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
            await self._send(start)
            await self._send({"type": "websocket.http.response.body", "body": body})
        else:
            code = TRY_AGAIN_LATER if status == 503 else INTERNAL_ERROR
            reason = "try again later" if status == 503 else "not stored"
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
