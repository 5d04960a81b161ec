"""Where the clients of tests keep their cookies: a jar for each way there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit
from urllib.request import Request

from .._core.manager import Manager
from .._core.session import Session, exchange_of
from .._core.settings import Settings
from .._doors.found import managers_of
from ..exceptions import ConfigurationError

KNOWN = "Starlette's, FastAPI's, httpx's, Flask's, Werkzeug's, Django's, Litestar's and Quart's"
LOCAL = "http://localhost/"  # what Werkzeug's client asks
Client = Any  # of whatever framework


class Cookies(Protocol):
    """The cookies of a client, and the URL to which it sends its requests."""

    url: str

    def managers(self) -> list[Manager]:
        """Return those of the application."""

    def shown(self, settings: Settings) -> str | None:
        """Return the Cookie header of a request to where the sessions are."""

    def take(self, settings: Settings, answered: Sequence[str]) -> None:
        """Take the values of Set-Cookie headers, as of a response from there."""


@contextmanager
def cookies_of(client: Client) -> Iterator[Cookies]:
    """Yield the cookies of a client, while its application is as for a request of it.

    Raises:
        ConfigurationError: it is a client without a base URL.
        TypeError: it is none of those that are known here.
    """
    if isinstance(jar := _jar_of(client), CookieJar):
        if hasattr(client, "websocket_connection_class"):
            yield _OfQuart(
                client, jar, f"http://{client.app.config['SERVER_NAME'] or 'localhost'}/"
            )
        else:
            yield _InAJar(client, jar, _url_of(client))
    elif is_djangos(client):
        yield _OfDjango(client)
    elif callable(getattr(client, "get_cookie", None)):
        context = getattr(client.application, "test_request_context", None)
        if context is None:
            yield _OfWerkzeug(client, LOCAL)
        else:  # Flask's options may depend on the request
            with context() as flasks:
                yield _OfWerkzeug(client, flasks.request.url_root)
    else:
        raise TypeError(
            f"signed_in and session_of need a test client, {KNOWN} are known, not "
            f"{type(client).__module__}.{type(client).__qualname__}: pass the client that the test "
            "makes its requests with."
        )


def _jar_of(client: Client) -> object:
    jar = getattr(client, "cookie_jar", None)
    return getattr(getattr(client, "cookies", None), "jar", jar)  # the second: httpx's and its kin


def _url_of(client: Client) -> str:
    url = str(getattr(client, "base_url", LOCAL))
    if not urlsplit(url).hostname:
        raise ConfigurationError(
            "The client must have a base_url, by which it is known which cookies it sends, and has "
            "none: make it with base_url='http://testserver'."
        )
    return url


def is_djangos(client: Client) -> bool:
    """Whether it is a client of Django's, or of a package that derives its own from it."""
    return isinstance(getattr(client, "cookies", None), SimpleCookie) and hasattr(client, "handler")


def force_login(client: Client, user: object) -> None:
    """Sign a user in as ``django.contrib.auth`` does; also one that is named by its key."""
    from django.contrib.auth import get_user_model

    known = get_user_model()
    client.force_login(user if isinstance(user, known) else known.objects.get(pk=user))


class _Held:
    def __init__(self, client: Client, url: str) -> None:
        self._client, self.url = client, url

    def managers(self) -> list[Manager]:
        return managers_of(self._client)


class _InAJar(_Held):
    """In a jar of Python's own library, which knows which cookie goes where."""

    def __init__(self, client: Client, jar: CookieJar, url: str) -> None:
        super().__init__(client, url)
        self._jar = jar

    def shown(self, settings: Settings) -> str | None:
        request = self._request(settings)
        self._jar.add_cookie_header(request)
        return request.get_header("Cookie")

    def take(self, settings: Settings, answered: Sequence[str]) -> None:
        self._jar.extract_cookies(_Answer(answered), self._request(settings))  # type: ignore[arg-type]  # all that it asks for

    def _request(self, settings: Settings) -> Request:
        # A header that the client sends always takes the place of its jar.
        given = getattr(self._client, "headers", {}).get("Cookie")
        headers = {} if given is None else {"Cookie": given}
        return Request(urljoin(self.url, settings.path), headers=headers)  # noqa: S310 - not sent


class _OfQuart(_InAJar):
    """In the same kind of jar, of a client that sends all that is in it, wherever it goes."""

    def shown(self, settings: Settings) -> str | None:
        return "; ".join(f"{each.name}={each.value}" for each in self._jar) or None


class _Answer:
    """A response, as far as a cookie jar looks at it."""

    def __init__(self, answered: Sequence[str]) -> None:
        self._headers = Message()
        for each in answered:
            self._headers["Set-Cookie"] = each

    def info(self) -> Message:
        return self._headers


class _OfWerkzeug(_Held):
    """In a client of Werkzeug 2.3 or later, which has no such jar any more."""

    def shown(self, settings: Settings) -> str | None:
        host = self._host
        domain = settings.domain or host
        if not f".{host}".endswith(f".{domain.lstrip('.')}"):
            return None
        found = [
            self._client.get_cookie(name, domain, settings.path) for name in settings.cookie_names
        ]
        return "; ".join(f"{each.key}={each.value}" for each in found if each is not None) or None

    def take(self, settings: Settings, answered: Sequence[str]) -> None:
        domain = settings.domain or self._host
        for each in answered:
            name, _, value = each.partition(";")[0].partition("=")
            self._client.set_cookie(
                name,
                value,
                domain=domain,
                origin_only=settings.domain is None,
                path=settings.path,
                max_age=0 if _removes(each) else None,
            )

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or "localhost"


class _OfDjango(_Held):
    """In a client of Django's, which sends all that it has; the sessions are the project's."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, "http://testserver/")

    def managers(self) -> list[Manager]:
        from django.conf import settings

        session = import_module(settings.SESSION_ENGINE).SessionStore()
        return [exchange_of(session).manager] if isinstance(session, Session) else []

    def shown(self, settings: Settings) -> str | None:
        cookies = self._client.cookies.values()
        return "; ".join(f"{each.key}={each.coded_value}" for each in cookies) or None

    def take(self, settings: Settings, answered: Sequence[str]) -> None:
        for each in answered:
            name, _, value = each.partition(";")[0].partition("=")
            if _removes(each):
                self._client.cookies.pop(name, None)
            else:
                self._client.cookies[name] = value
                self._client.cookies[name]["path"] = settings.path


def _removes(answered: str) -> bool:
    return "expires=Thu, 01 Jan 1970" in answered
