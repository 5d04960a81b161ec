"""A person at a browser, in front of one server or of several that take turns.

Every request goes to the next server, redirects included. What the person was shown is noted, so
that two drives can be compared; so is every session cookie, so that a thief can try it later.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import cycle
from typing import Any
from unittest.mock import patch

import httpx2
from itsdangerous import TimestampSigner
from starlette.types import ASGIApp

SITE = "http://site.test"
HIDDEN = ("script", "style", "template", "title")


@contextmanager
def later(*, hours: float) -> Iterator[None]:
    """Let time have passed for all that itsdangerous signs: cookies and tokens."""
    moment = int(time.time() + hours * 60 * 60)
    with patch.object(TimestampSigner, "get_timestamp", lambda signer: moment):
        yield


class AsgiServer(httpx2.BaseTransport):
    """An ASGI application; every request has an event loop of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx2.ASGITransport(app)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        return asyncio.run(self._handle(request))

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._transport.handle_async_request(request)
        body = b"".join([chunk async for chunk in response.aiter_raw()])
        return httpx2.Response(response.status_code, headers=response.headers.raw, content=body)


class HttpServer(httpx2.BaseTransport):
    """A server that listens at an address, and is called by the name of the site."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._transport = httpx2.HTTPTransport(verify=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        sent = httpx2.Request(
            request.method,
            self.address + request.url.raw_path.decode("ascii"),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        return self._transport.handle_request(sent)

    def close(self) -> None:
        self._transport.close()


class Turns(httpx2.BaseTransport):
    """A balancer that remembers nothing: each request goes to the next server."""

    def __init__(self, servers: Iterable[httpx2.BaseTransport]) -> None:
        self._servers = list(servers)
        self._next = cycle(self._servers)
        self.last = self._servers[0]

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.last = next(self._next)
        return self.last.handle_request(request)

    def close(self) -> None:
        for server in self._servers:
            server.close()


class Visitor(httpx2.Client):
    """A client with a cookie jar that follows redirects and fills in forms."""

    def __init__(self, *servers: httpx2.BaseTransport, **options: Any) -> None:
        self._servers = servers
        self._turns = Turns(servers)
        super().__init__(
            base_url=SITE,
            mounts={SITE: self._turns},
            follow_redirects=True,
            trust_env=False,
            verify=False,  # nothing here speaks https, and to read the certificates takes its time
            event_hooks={"response": [self._note]},
            headers={"user-agent": "A browser"},
            **options,
        )
        self.shown: list[str] = []  # one line for each response
        self.held: dict[str, str] = {}  # session cookies by the moment they were kept at

    def show(self, path: str) -> str:
        """Visit a page; return its text."""
        return text_of(self.get(path))

    def submit(self, page: httpx2.Response, **fields: Any) -> httpx2.Response:
        """Send the page's first form that has all these fields, with what else it holds."""
        for form in _read(page).forms:
            if fields.keys() <= form.fields.keys():
                url = page.url.join(form.action)
                return self.request(form.method, url, data={**form.fields, **fields})
        raise AssertionError(f"No form with {', '.join(fields)} on: {text_of(page)}")

    def press(self, page: httpx2.Response, action: str) -> httpx2.Response:
        """Send the page's form whose address ends with ``action``, as it is."""
        form = next(form for form in _read(page).forms if form.action.endswith(action))
        return self.request(form.method, page.url.join(form.action), data=form.fields)

    @property
    def last_server(self) -> httpx2.BaseTransport:
        """The server that answered last."""
        return self._turns.last

    @property
    def session_cookie(self) -> str | None:
        return next((each.value for each in self.cookies.jar if each.name == "session"), None)

    def close_and_reopen(self) -> None:
        """Forget the session; other cookies stay."""
        self.cookies.delete("session")

    def hold(self, moment: str) -> None:
        """Keep the session cookie of this moment, under its name."""
        self.held[moment] = self.session_cookie or ""

    def id_at(self, moment: str) -> str:
        """Return the ID in the cookie of that moment (one of ours)."""
        return self.held[moment].partition(".")[0]

    def another(self, **options: Any) -> Visitor:
        """Return another person's browser, before the same servers."""
        return Visitor(*self._servers, **options)

    def thief(self, moment: str) -> Visitor:
        """Return a browser that has nothing but the session cookie of that moment."""
        return self.another(cookies={"session": self.held[moment]})

    def _note(self, response: httpx2.Response) -> None:
        response.read()
        request = response.request
        shown = response.headers.get("location", "").partition("?")[0] or text_of(response)
        line = f"{request.method} {request.url.path} {response.status_code} {shown}"
        self.shown.append(re.sub(r"[\w.-]{40,}", "(token)", line))


class _Form:
    def __init__(self, attributes: dict[str, str | None]) -> None:
        self.action = attributes.get("action") or ""
        self.method = (attributes.get("method") or "get").upper()
        self.fields: dict[str, Any] = {}


class _Page(HTMLParser):
    """Collects what a page shows, and the inputs of its forms."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.forms: list[_Form] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in HIDDEN:
            self._inside.append(tag)
        if tag == "form":
            self.forms.append(_Form(attributes))
        if not self.forms:
            return
        name, fields = attributes.get("name") or "", self.forms[-1].fields
        kind = attributes.get("type", "text")
        if name and (tag == "button" or kind in ("submit", "checkbox", "radio")):
            fields.setdefault(name, [])  # nothing is sent unless it is pressed or ticked
        elif tag == "input" and name and kind != "file":
            fields[name] = attributes.get("value") or ""
        if name and "checked" in attributes:
            fields[name] = attributes.get("value") or "on"

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            self._inside.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words += data.split()


def _read(page: httpx2.Response) -> _Page:
    parser = _Page()
    parser.feed(page.text)
    return parser


def fields_of(page: httpx2.Response) -> dict[str, Any]:
    """Return what the page's first form holds."""
    return _read(page).forms[0].fields


def text_of(page: httpx2.Response) -> str:
    """Return what a person sees of a page."""
    if "html" not in page.headers.get("content-type", ""):
        return page.text
    return " ".join(_read(page).words)
