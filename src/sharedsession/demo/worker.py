"""One application server of the demo: a process, uvicorn for FastAPI and waitress for Flask.

It runs the shop once for each strategy; the balancer says in a header which one is asked.

It reports its port to the parent in one line, once requests can come, and ends when the parent
does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from .strategies import SHARED, STRATEGIES, cookie_of, options

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

T = TypeVar("T")

THREADS = 32  # of a Flask server: what the check sends at once must not queue up
BACKLOG = 1024  # connections that may wait for a server which is paused
CHOSEN = "x-demo-strategy"  # the header in which the balancer names it


def main(name: str, framework: str) -> None:
    """Be the application server of that name until told to stop."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    serve = {"fastapi": _serve_fastapi, "flask": _serve_flask}[framework]
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted ones inherit it
        serve(listener, name)


def _shops(create: Callable[..., T], name: str) -> dict[str, T]:
    """Return the shop once for every strategy."""
    secret, store, replica, prefix = (
        os.environ[f"DEMO_{each}"] for each in ("SECRET_KEY", "STORE", "REPLICA", "COOKIE")
    )
    return {
        each.name: create(name, secret, cookie_of(each, prefix), options(each, store, replica))
        for each in STRATEGIES.values()
    }


def _serve_fastapi(listener: socket.socket, name: str) -> None:
    import uvicorn
    from starlette.types import Receive, Scope, Send

    from .fastapi_app import create_app

    shops = _shops(create_app, name)

    async def chosen(scope: Scope, receive: Receive, send: Send) -> None:
        said = dict(scope["headers"]).get(CHOSEN.encode(), SHARED.name.encode())
        await shops[said.decode()](scope, receive, send)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _report(listener)

    config = uvicorn.Config(
        chosen,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=60,  # longer than the balancer's: who closes first loses no request
    )
    Server(config).run(sockets=[listener])


def _serve_flask(listener: socket.socket, name: str) -> None:
    import waitress  # type: ignore[import-untyped]  # it carries no types

    from .flask_app import create_app

    shops = _shops(create_app, name)
    key = f"HTTP_{CHOSEN.upper().replace('-', '_')}"

    def chosen(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return shops[environ.get(key, SHARED.name)](environ, start_response)

    server = waitress.create_server(chosen, sockets=[listener], threads=THREADS)
    _report(listener)
    server.run()


def _report(listener: socket.socket) -> None:
    print(listener.getsockname()[1], flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the parent reads one line, no more


def _end_with_the_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
