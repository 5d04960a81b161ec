"""The WSGI adapter (PEP 3333): ``environ["sharedsession.session"]``, for any WSGI application.

The server's ``start_response`` is held back until the record is stored: until the application has
returned a whole body, or until the first part of a body that comes in parts. What the application
returns is passed on as it is where no later change can be missed, so that servers still see the
length of a list, or a file that they can send by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Protocol

from .adapter import Sessions, met_outage, unavailable, warn_proxy
from .exceptions import StoreUnavailable
from .flows import instead, over, trouble
from .session import Session
from .settings import UNSET, NearCache, OnOutage, Unset, gather
from .stores.base import AsyncStore, Store

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


class SessionMiddleware:
    """Give ``environ["sharedsession.session"]`` to any WSGI application, from a shared store.

    The session is loaded when it is first used and stored before the first byte of the response
    leaves. Each setting can also come from the environment, ``SHAREDSESSION_STORE`` and so on.

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
            when it wants to store something; or a function of the environment and the error that
            returns one of the two.
        near_cache: True, or a `NearCache`, keeps copies of sessions in this server's memory, so
            that most reads ask no store; default False. See docs/consistency.md for what it costs.
        stale_if_outage: seconds for which copies may be read while the store is down; default 0.
        read_from: the URL of a replica of the store near this server, which answers reads;
            default none.
        environ_key: where in the environment the session is put, default
            ``"sharedsession.session"``.

    Raises:
        ConfigurationError: a setting is missing, wrong, or contradicts another.
        TypeError: the store is one whose functions are awaited.
    """

    def __init__(
        self,
        app: WSGIApp,
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
        environ_key: str = "sharedsession.session",
    ) -> None:
        settings = gather(dict(locals()))
        self.app = app
        self.environ_key = environ_key
        self.sessions = Sessions(settings)
        self._needle = settings.session_cookie + "="
        self._warned = settings.https_only is not None

    @property
    def counts(self) -> dict[str, int]:
        """How often each event happened in this process: created, renewed, gone, outage, …."""
        return self.sessions.counts

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        cookies = environ.get("HTTP_COOKIE", "")
        ours = cookies if self._needle in cookies else None
        session = self.sessions.open(ours, request=environ)
        environ[self.environ_key] = session
        return _Exchange(self, environ, session, start_response).run()

    def check_proxy(self, environ: Environ) -> None:
        """Warn, once, when the cookie lacks Secure because the server does not trust its proxy."""
        if not self._warned and environ.get("HTTP_X_FORWARDED_PROTO") == "https":
            self._warned = True
            warn_proxy(
                "gunicorn: --forwarded-allow-ips; waitress: trusted_proxy; anywhere: werkzeug's "
                "ProxyFix around this middleware",
                "pass https_only=True",
            )


class _Exchange:
    """One request. It is the iterable that the server gets, where there has to be one of ours."""

    def __init__(
        self,
        middleware: SessionMiddleware,
        environ: Environ,
        session: Session,
        start_response: StartResponse,
    ) -> None:
        self.middleware, self.environ, self.session = middleware, environ, session
        self._start_response = start_response
        self._held: tuple[str, Headers, ExcInfo | None] | None = None  # what the application says
        self._write: Write | None = None  # the server's
        self._body: Iterable[bytes] = ()  # the application's
        self._parts: Iterator[bytes] | None = None
        self._started = False  # the server has been told
        self._failed = False  # by an error, or a commit that did not succeed
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
            self._failed = True
            if self._started or not self._excused(error):
                over(self.session)
                raise
            self._answer_with(503)
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
            self._failed = True
            if self._started or not self._excused(error):
                raise
            self._answer_with(503)
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
            if self._started and not self._failed:
                self._failed = True  # never twice
                self.middleware.sessions.finish(self.session)
        finally:
            over(self.session)

    # --- inside ---

    def _finish_early(self) -> None:
        """Look for what another thread changed while the record was being stored."""
        try:
            self.middleware.sessions.finish(self.session)
        except Exception:
            log.exception("A late change of the session was not saved.")

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
        self._take_replacement()
        self._started = self._failed = True
        try:
            answer = self._commit(int(status[:3]))
            if answer is None:
                self._write = self._start_response(status, self._dressed(headers), exc_info)
            else:
                self._answer_with(answer)
        finally:
            exc_info = None

    def _commit(self, status: int) -> int | None:
        """Commit before a response of this status; return what to answer in its place, if so."""
        if status == 500 and met_outage(self.session):
            return 503  # the application gave up because of the outage
        known = trouble(self.session)
        try:
            self.middleware.sessions.close(self.session)
        except Exception as error:  # noqa: BLE001 - what is not the core's to answer is raised
            return instead(self.session, status, error, known)
        self._failed = False
        return None

    def _dressed(self, headers: Headers) -> Headers:
        """Return the application's headers with those of the session."""
        https = self.environ.get("wsgi.url_scheme") == "https"
        if self.session._used and not https:
            self.middleware.check_proxy(self.environ)
        return self.middleware.sessions.headers(self.session, headers, https=https)

    def _take_replacement(self) -> None:
        """The application may have put a plain dict in its session's place."""
        current = self.environ.get(self.middleware.environ_key)
        if isinstance(current, dict) and not hasattr(current, "mark_accessed"):
            self.session._replace_by(dict(dict.items(current)))

    def _excused(self, error: BaseException) -> bool:
        """Whether an outage is behind an error that escaped the application."""
        if isinstance(error, StoreUnavailable):
            return True
        return isinstance(error, Exception) and met_outage(self.session)

    def _answer_with(self, status: int) -> None:
        """Answer in the application's place; what it sends from now on is dropped."""
        headers, body = unavailable(status)
        self._started = self._failed = True
        self._answer = b"" if self.environ.get("REQUEST_METHOD") == "HEAD" else body
        self._start_response(f"{status} {HTTPStatus(status).phrase}", headers)

    def _next_of_answer(self) -> bytes:
        """Give the server our own answer, once."""
        answer, self._answer = self._answer, b""
        if not answer:
            raise StopIteration
        return answer
