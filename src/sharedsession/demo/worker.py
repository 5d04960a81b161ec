"""One application server of the demo: a process, uvicorn for FastAPI and waitress for Flask.

It reports its port to the parent in one line, once requests can come, and ends when the parent
does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

THREADS = 32  # of a Flask server: what the check sends at once must not queue up


def main(name: str, framework: str) -> None:
    """Be the application server of that name until told to stop."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    serve = {"fastapi": _serve_fastapi, "flask": _serve_flask}[framework]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve(
            listener,
            name,
            os.environ["SHAREDSESSION_SECRET_KEY"],
            os.environ["SHAREDSESSION_STORE"],
            os.environ["SHAREDSESSION_SESSION_COOKIE"],
        )


def _serve_fastapi(listener: socket.socket, *settings: str) -> None:
    import uvicorn

    from .fastapi_app import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _report(listener)

    config = uvicorn.Config(
        create_app(*settings),
        log_level="warning",
        access_log=False,
        ws="none",
        timeout_keep_alive=60,  # longer than the balancer's: who closes first loses no request
    )
    Server(config).run(sockets=[listener])


def _serve_flask(listener: socket.socket, *settings: str) -> None:
    import waitress  # type: ignore[import-untyped]  # it carries no types

    from .flask_app import create_app

    server = waitress.create_server(create_app(*settings), sockets=[listener], threads=THREADS)
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
