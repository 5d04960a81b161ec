"""Which part of a request that only reads its session costs what, in process, without a network.

The store is in memory and the application does nothing but read a key, so that what is left is this
package's own work; Starlette's session in a signed cookie stands beside it. Each line adds one part
to the one before; a figure is the least of several runs, in microseconds.

    python benchmarks/parts.py
"""

from __future__ import annotations

import asyncio
import timeit
from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any

from starlette.middleware.sessions import SessionMiddleware as CookieMiddleware

from sharedsession._core.drivers import advance
from sharedsession._core.exchange import Exchange
from sharedsession._core.flows import opening
from sharedsession._core.record import decode_data, encode_data
from sharedsession.asgi import SessionMiddleware

SECRET = "a secret of this benchmark"
SESSION = {
    "user_id": 4711,
    "_csrf": "c" * 43,
    "language": "en",
    "seen": 1000,
    "cart": [{"product": f"a-{number}", "count": number} for number in range(4)],
    "last_page": "/orders/2026/11",
}
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"4")]
ROUNDS, TIMES = 9, 5_000

Scope = MutableMapping[str, Any]


async def _sign_in(scope: Scope, _receive: object, send: Any) -> None:
    scope["session"].update(SESSION)
    await _answer(send)


async def _read(scope: Scope, _receive: object, send: Any) -> None:
    scope["session"].get("user_id")
    await _answer(send)


async def _unused(_scope: Scope, _receive: object, send: Any) -> None:
    await _answer(send)


async def _answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"4711"})


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


def _cookie_of(app: Any) -> bytes:
    """Sign in, and return the Cookie header that a client sends from then on."""
    found: list[bytes] = []

    async def send(message: Any) -> None:
        headers = message.get("headers", ())
        found.extend(value.partition(b";")[0] for name, value in headers if name == b"set-cookie")

    asyncio.run(app({"type": "http", "headers": [], "scheme": "http"}, None, send))
    return found[0]


def _show(name: str, function: Callable[[], object]) -> None:
    least = min(timeit.repeat(function, number=TIMES, repeat=ROUNDS)) / TIMES * 1e6
    print(f"{name:56} {least:6.1f}")


def _request(middleware: Any, app: Any, cookie: bytes) -> Callable[[], None]:
    async def send(_message: object) -> None: ...

    headers = [(b"host", b"example.org"), (b"cookie", cookie)]
    middleware.app = app
    return lambda: _finish(
        middleware({"type": "http", "headers": headers, "scheme": "http"}, None, send)
    )


def main() -> None:
    """Measure, and print."""
    ours = SessionMiddleware(_sign_in, secret_key=SECRET, store="memory://")
    theirs = CookieMiddleware(_sign_in, secret_key=SECRET)
    cookie = _cookie_of(ours)
    manager, at_once = ours.manager, ours.sessions.stores.sync
    sent = [cookie.decode()]
    encoded = encode_data(SESSION)

    def opened() -> Exchange:
        exchange = Exchange(manager, manager.read(sent))
        try:
            advance(opening(exchange), manager, None, at_once)
        except StopIteration:
            exchange.fill(exchange.session)
        return exchange

    def answered() -> Exchange:
        exchange = opened()
        exchange.session.get("user_id")
        exchange.respond(200, HEADERS)
        return exchange

    _show("encoding it once, of which a read has two", lambda: encode_data(SESSION))
    _show("decoding it once", lambda: decode_data(encoded))
    _show("the cookie, known; an exchange", lambda: Exchange(manager, manager.read(sent)).over())
    _show("... and opened, which decodes it", lambda: opened().over())
    _show("... and read, and compared before the headers leave", lambda: answered().over())
    _show("... and compared at the end of the request", lambda: answered().finish())
    _show("a request that reads", _request(ours, _read, cookie))
    _show("a request that does not use it", _request(ours, _unused, cookie))
    _show("Starlette's cookie: a request", _request(theirs, _unused, _cookie_of(theirs)))


if __name__ == "__main__":
    main()
