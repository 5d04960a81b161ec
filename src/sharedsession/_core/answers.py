"""What a response says about its session, and what is answered in its place. Headers are bytes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator

from ..exceptions import NOT_STORED, RETRY_AFTER, UNAVAILABLE
from .cookie import Cookie
from .manager import Manager

Headers = list[tuple[bytes, bytes]]  # as ASGI has them
Texts = list[tuple[str, str]]  # as WSGI has them

# What an application says about all its responses, and not about the one that ours replaces: a
# browser shows a script of another origin no answer without its CORS headers, not even the status.
OF_EVERY_RESPONSE = re.compile(
    "access-control-.*|cross-origin-.*|strict-transport-security|timing-allow-origin|vary"
    "|x-request-id|x-frame-options|x-content-type-options",
    re.IGNORECASE,
)
PROTOCOL_HEADERS = ("x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-ssl")
_SAFE = ("https", "wss")  # the second of a socket, as some proxies put it
_FORWARDED = re.compile(
    r'(?:^|[;,])[ \t]*+proto="?(?:https|wss)"?[ \t]*+(?=[;,]|\Z)', re.IGNORECASE
)
_REMOVES = re.compile(r"max-age=(0|-)|01.jan.1970", re.IGNORECASE)


def encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return headers as ASGI has them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def unavailable(status: int = 503, said: Iterable[tuple[str, str]] = ()) -> tuple[Texts, bytes]:
    """Return the headers and the body of the 503 that an outage is answered with.

    Or of a 500: nothing of a request is stored when one of its functions raised at a replay.

    Args:
        status: 503 (the default) or 500.
        said: the headers of the response whose place it takes, of which some are kept.
    """
    body = f"{UNAVAILABLE if status == 503 else NOT_STORED}\n".encode()
    retry = [("Retry-After", str(RETRY_AFTER))] if status == 503 else []
    return [
        *(each for each in said if OF_EVERY_RESPONSE.fullmatch(each[0])),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        *retry,
        ("Cache-Control", "no-store"),
    ], body


def merge(headers: Headers, name: bytes, value: bytes, unless: tuple[bytes, ...]) -> None:
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


def set_cookies(
    manager: Manager, headers: Iterable[tuple[bytes, bytes]]
) -> Iterator[tuple[tuple[bytes, bytes], Cookie | None, bool]]:
    """Yield the headers that set a cookie of our name: ours or not, and whether they remove it."""
    start = manager.settings.session_cookie.encode() + b"="
    for header in headers:
        if header[0].lower() == b"set-cookie" and header[1].startswith(start):
            value, _, attributes = header[1][len(start) :].decode("latin-1").partition(";")
            removes = value.strip(" \"'") in ("", "null") or bool(_REMOVES.search(attributes))
            yield header, manager.codec.verify(value), removes


def issued_inside(manager: Manager, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[Cookie]:
    """Yield the cookies of ours that other layers of the application have set.

    What another package puts into the same cookie is said once; a removal may be the application's.
    """
    for _, cookie, removes in set_cookies(manager, headers):
        if cookie is not None:
            yield cookie
        elif not removes:
            manager.tell_once(
                "cookie-conflict",
                "The cookie %r must be set by one session middleware, and another one inside the "
                "application sets it as well: browsers keep one of the two, and what is in the "
                "other is lost. Remove the other one, or give one of them a name of its own "
                "(session_cookie=…, in Flask SESSION_COOKIE_NAME); where a package brings "
                "Starlette's, call sharedsession.starlette.install() before its import.",
                manager.settings.session_cookie,
            )


def check_scheme(manager: Manager, header: Callable[[str], str], how: str, setting: str) -> None:
    """Say, once, what becomes of a cookie that is set where the server says that it speaks http.

    Args:
        manager: that of the request.
        header: gives a header of the request by its name, in lower case, or nothing.
        how: how this kind of server is made to trust its proxy.
        setting: what else helps.
    """
    secure, name = manager.settings.https_only, manager.settings.session_cookie
    if secure is False:
        return
    https = _came_by_https(header)
    if https and secure is None and manager.is_first("proxy"):
        warnings.warn(
            "A proxy says that the client came by https, but the server says http, so the session "
            "cookie is set without Secure. Let the server trust its proxy, and the proxy say "
            f"'X-Forwarded-Proto: https' once, in lower case ({how}); or {setting}.",
            RuntimeWarning,
            stacklevel=3,
        )
    # Browsers say where a request comes from only if they take the connection for a safe one: by
    # https up to a proxy that says nothing of it, or to this very machine.
    if secure and not https and not header("sec-fetch-site"):
        manager.tell_once(
            "secure-over-http",
            "The cookie %r is for https only, and a client came by http: it will not send the "
            "cookie back, so that each of its requests begins a new session. Use https; where a "
            "proxy speaks it for this server, let it say 'X-Forwarded-Proto: https'. While you "
            "develop without it leave https_only (SESSION_COOKIE_SECURE in Flask) at its default, "
            "and the prefix __Host- or __Secure- out of the name: browsers make an exception for "
            "localhost, but curl and test clients do not.",
            name,
        )


def _came_by_https(header: Callable[[str], str]) -> bool:
    """Whether a proxy says so, in one of the ways that there are."""
    said = {each: header(each) for each in PROTOCOL_HEADERS}
    parts = {part.strip(" \t").lower() for value in said.values() for part in value.split(",")}
    by_list = not parts.isdisjoint(_SAFE) or said["x-forwarded-ssl"].lower() == "on"
    return by_list or _FORWARDED.search(header("forwarded")) is not None
