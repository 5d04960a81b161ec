"""The WSGI adapter (PEP 3333): ``environ["sharedsession.session"]``, for any WSGI application.

The server's ``start_response`` is held back until the record is stored: until the application has
returned a whole body, or until the first part of a body that comes in parts. What the application
returns is passed on as it is where no later change can be missed, so that servers still see the
length of a list, or a file that they can send by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Protocol

from ._core.answers import check_scheme, encoded, unavailable
from ._core.exchange import Exchange
from ._core.manager import Manager
from ._core.settings import UNSET, NearCache, OnOutage, Unset
from ._core.source import Source
from ._doors import advice, misuse
from ._doors.arguments import documented
from ._doors.layers import COUNTS, enter
from ._doors.stores import configure
from ._doors.switching import Switch
from .adapter import Sessions, environ_header
from .stores.base import AsyncStore, Store

__all__ = ["SessionMiddleware"]

# WSGI's own types: what an environment holds differs from server to server.
Environ = MutableMapping[str, Any]
Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Write = Callable[[bytes], object]


class StartResponse(Protocol):
    """What a server gives to an application."""

    def __call__(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Write: ...


log = logging.getLogger("sharedsession")

WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


@documented
class SessionMiddleware(misuse.KeptForTheLifespan):
    """Give ``environ["sharedsession.session"]`` to any WSGI application, from a shared store.

    The session is loaded when it is first used and stored before the first byte of the response
    leaves. Each setting can also come from the environment, ``SHAREDSESSION_STORE`` and so on.

    Args:
        app: the application.
        {of the cookie}
        {of the sessions}
        environ_key: where in the environment the session is put, default
            ``"sharedsession.session"``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: there is no such argument, the application is of another kind, or the store is
            none, or one whose functions are awaited.
    """

    @advice.with_known_arguments({"scope_key": "under WSGI it is environ_key="})
    def __init__(
        self,
        app: WSGIApp,
        secret_key: str | bytes | Sequence[str | bytes] | Unset = UNSET,
        session_cookie: str | Unset = UNSET,
        max_age: float | timedelta | None | Unset = UNSET,
        path: str | Unset = UNSET,
        same_site: Literal["lax", "strict", "none"] | Unset = UNSET,
        https_only: bool | None | Unset = UNSET,
        domain: str | None | Unset = UNSET,
        partitioned: bool | Unset = UNSET,
        *,
        store: str | Store | AsyncStore | Unset = UNSET,
        absolute_timeout: float | timedelta | None | Unset = UNSET,
        namespace: str | Unset = UNSET,
        owner_key: str | Iterable[str] | Unset = UNSET,
        sign_in_names: str | Iterable[str] | Unset = UNSET,
        on_owner_change: Literal["drop", "keep"] | Unset = UNSET,
        store_timeout: float | timedelta | Unset = UNSET,
        on_outage: OnOutage | Unset = UNSET,
        near_cache: bool | NearCache | Mapping[str, float] | None | Unset = UNSET,
        stale_if_error: float | timedelta | Unset = UNSET,
        replica: str | Store | AsyncStore | None | Unset = UNSET,
        adopt: Source | Iterable[Source] | Unset = UNSET,
        switch_at: str | datetime | None = None,
        before: Callable[[WSGIApp], WSGIApp] | None = None,
        environ_key: str = "sharedsession.session",
    ) -> None:
        given = dict(locals())
        self.app = app
        self.environ_key = environ_key
        misuse.require_wsgi(app)
        settings = configure(given)
        self.sessions = Sessions(settings)
        self._needles = [f"{name}=" for name in settings.cookie_names]
        self._before = Switch.of(app, switch_at, before)
        self._counts = self.sessions.live_counts(environ_key)

    @property
    def counts(self) -> dict[str, int]:
        """How often each event happened in this process: created, renewed, gone, outage, ….

        Applications find the same, as a mapping, in ``environ["sharedsession.counts"]``.
        """
        return self.sessions.counts

    def manager_of(self, app: object) -> Manager:
        """Return what tests need to know of it: see `_doors.found`."""
        return self.sessions.manager

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if self._before is not None and self._before.is_ahead(self.sessions.manager.clock()):
            return self._before.app(environ, start_response)
        around = environ.get(COUNTS)
        if around is not None and (shared := enter(environ, self._counts, around)) is not None:
            environ[self.environ_key] = shared
            return self.app(environ, start_response)
        environ[COUNTS] = self._counts
        cookies = environ.get("HTTP_COOKIE", "")
        ours = cookies if any(each in cookies for each in self._needles) else None
        exchange = self.sessions.begin(ours, request=environ)
        environ[self.environ_key] = exchange.session
        return _Response(self, environ, exchange, start_response).run()


class _Response:
    """One response. It is the iterable that the server gets, where there has to be one of ours."""

    def __init__(
        self,
        middleware: SessionMiddleware,
        environ: Environ,
        exchange: Exchange,
        start_response: StartResponse,
    ) -> None:
        self.middleware, self.environ, self.exchange = middleware, environ, exchange
        self._start_response = start_response
        self._held: tuple[str, Headers, ExcInfo | None] | None = None  # what the application says
        self._write: Write | None = None  # the server's
        self._body: Iterable[bytes] = ()  # the application's
        self._parts: Iterator[bytes] | None = None
        self._started = False  # the server has been told
        self._answer: bytes | None = None  # ours, in the place of the application's

    # --- what the application calls ---

    def start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Write:
        """Hold the response's start back until its first byte."""
        try:
            if self._started and self._answer is None:
                # The server raises, unless nothing of the first answer has left yet.
                self._write = self._start_response(status, self._dressed(headers), exc_info)
                return self.write
            if self._held is not None and exc_info is None:
                raise AssertionError(
                    "start_response was called twice, the second time without exc_info (PEP 3333)."
                )
            self._held = status, headers, exc_info
        finally:
            exc_info = None  # a traceback that refers to its own frame is a cycle
        return self.write

    def write(self, data: bytes) -> None:
        """PEP 3333's other way to send a body."""
        self._start()
        if self._answer is None and self._write is not None:
            self._write(data)

    # --- from the application to the server ---

    def run(self) -> Iterable[bytes]:
        """Call the application, and return what the server is to send."""
        try:
            self._body = self.middleware.app(self.environ, self.start_response)
        except BaseException as error:
            if not self._excused(error):
                self.exchange.over()
                raise
            return self
        if self._held is not None and self._is_whole():
            try:
                self._start()
            except BaseException:
                self.close()  # nothing else will
                raise
            if self._answer is None:
                self._finish_early()
                return self._body
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Pass the next part on; the first of all waits for the record to be stored."""
        if self._answer is not None:
            return self._next_of_answer()
        try:
            if self._parts is None:
                self._parts = iter(self._body)
            part = next(self._parts, None)
        except Exception as error:
            if not self._excused(error):
                raise
            return self._next_of_answer()
        if not self._started and (self._held is not None or part is None):
            self._start()
            if self._answer is not None:
                return self._next_of_answer()
        if part is None:
            raise StopIteration
        return part

    def close(self) -> None:
        """Close the application's body, then look for changes that came after the headers."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
            self.middleware.sessions.run(self.exchange.finish())
        finally:
            self.exchange.over()

    # --- inside ---

    def _finish_early(self) -> None:
        """Look for what another thread changed while the record was being stored."""
        try:
            self.middleware.sessions.run(self.exchange.finish())
        except Exception:
            log.exception("A late change of the session was not saved.")
        finally:
            self.exchange.over()

    def _is_whole(self) -> bool:
        """Whether the application has returned all there is: its body is a list, or a file."""
        if isinstance(self._body, list | tuple):
            return True
        wrapper = self.environ.get("wsgi.file_wrapper")
        return isinstance(wrapper, type) and isinstance(self._body, wrapper)

    def _start(self) -> None:
        """Commit, and tell the server how the response starts; once."""
        if self._started or self._held is None:
            return
        (status, headers, exc_info), self._held = self._held, None
        current = self.environ.get(self.middleware.environ_key)
        if isinstance(current, dict) and not hasattr(current, "mark_accessed"):
            self.exchange.replaced_by(current)
        self._started = True
        try:
            set_here = encoded(each for each in headers if each[0].lower() == "set-cookie")
            respond = self.exchange.respond(int(status[:3]), set_here)
            instead = self.middleware.sessions.run(respond)
            if instead is None:
                self._write = self._start_response(status, self._dressed(headers), exc_info)
            else:
                self._answer_with(instead, headers)
        finally:
            exc_info = None

    def _dressed(self, headers: Headers) -> Headers:
        """Return the application's headers with those of the session."""
        https = str(self.environ.get("wsgi.url_scheme")).lower() == "https"
        if not https and self.exchange.reply is not None:
            check_scheme(
                self.exchange.manager,
                partial(environ_header, self.environ),
                "gunicorn: --forwarded-allow-ips; waitress: trusted_proxy; anywhere: werkzeug's "
                "ProxyFix around this middleware",
                "pass https_only=True",
            )
        return self.middleware.sessions.headers(self.exchange, headers, https=https)

    def _excused(self, error: BaseException) -> bool:
        """An error escaped the application; answer 503 if an outage is behind it."""
        self.exchange.give_up()
        if self._started or not self.exchange.excuses(error):
            return False
        self._answer_with(503, [] if self._held is None else self._held[1])
        return True

    def _answer_with(self, status: int, said: Iterable[tuple[str, str]] = ()) -> None:
        """Answer in the application's place; what it sends from now on is dropped.

        ``said``: the headers of its own response, where it has begun one.
        """
        headers, body = unavailable(status, said)
        self._started = True
        self._answer = b"" if self.environ.get("REQUEST_METHOD") == "HEAD" else body
        self._start_response(f"{status} {HTTPStatus(status).phrase}", headers)

    def _next_of_answer(self) -> bytes:
        """Give the server our own answer, once."""
        answer, self._answer = self._answer, b""
        if not answer:
            raise StopIteration
        return answer
