"""The same application on every server that people deploy with; one worker of each is killed.

Three applications, with the same routes: ``/sign-in/<user>``, ``/count`` (an increment by
`mutate`), ``/me`` (the whole session), ``/sign-out``, ``/pid`` (touches no session), ``/slow`` (a
change, and then a body that comes in parts). Each answer says which process gave it.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.deployments.running import Deployment, Running, gunicorn, running, uwsgi
from tests.deployments.shared import PARTS
from tests.support.processes import LIMIT

GRANIAN = "granian --no-ws --log-level error --host 127.0.0.1 --port {port}"
WAITRESS = "waitress --listen={address} --threads=4 {app}"
UVICORN = "uvicorn --log-level warning --port {port} --workers 2 {app}"
HYPERCORN = "hypercorn --log-level WARNING --bind {address} {app}"
DEPLOYMENTS = [
    gunicorn("-k sync", "wsgi_app"),
    gunicorn("-k gthread --threads 4", "flask_app"),
    gunicorn("-k gevent", "flask_app"),
    uwsgi("flask_app"),
    Deployment("waitress", WAITRESS, "wsgi_app", copies=2),
    Deployment(
        "granian",
        f"{GRANIAN} --workers 2 --respawn-failed-workers --blocking-threads 4"
        " --interface wsgi {app}",
        "flask_app",
    ),
    Deployment("uvicorn", UVICORN, "fastapi_app"),
    Deployment("hypercorn", HYPERCORN, "fastapi_app", copies=2),
    Deployment("granian", f"{GRANIAN} --interface asgi {{app}}", "fastapi_app", copies=2),
]
THREADS, EACH = 4, 12


class Visitor:
    """Somebody with one cookie and several open pages, who asks again when a server has died."""

    def __init__(self, servers: Running, client: httpx.Client) -> None:
        self._servers, self._client = servers, client
        self._turns = count()
        self._lock = threading.Lock()
        self.acknowledged = self.unknown = 0

    def ask(self, method: str, path: str) -> httpx.Response:
        """Ask the next server; one that is gone is passed over."""
        turn = next(self._turns)
        for tries in range(10):  # other threads take turns too: this one goes on from its own
            address = self._servers.addresses[(turn + tries) % len(self._servers.addresses)]
            try:
                answer = self._client.request(method, address + path)
            except httpx.TransportError:
                with self._lock:
                    self.unknown += path == "/count"
                continue
            assert answer.status_code == 200, answer.text
            return answer
        raise AssertionError("nobody answers any more")

    def count(self, _: object) -> None:
        """Add one."""
        seen = self.ask("POST", "/count").json()["session"]
        assert seen["user_id"] == "ada"
        with self._lock:
            self.acknowledged += 1


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=str)
def test_a_worker_is_killed_and_nobody_notices(deployment: Deployment, tmp_path: Path) -> None:
    """Signed in at one, signed in at all; with `kill -9` nothing that was acknowledged is lost."""
    with (
        running(deployment, f"sqlite:///{tmp_path}/sessions.db") as servers,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        client = servers.client
        before = servers.answers_of_all()
        assert all(answer["session"] == {} for answer in before.values())
        visitor = Visitor(servers, client)
        assert visitor.ask("POST", "/sign-in/ada").json()["session"] == {"user_id": "ada"}
        for answer in servers.answers_of_all("/me", cookies=dict(client.cookies)).values():
            assert answer["session"] == {"user_id": "ada"}

        with client.stream("GET", f"{servers.addresses[0]}/slow") as slow:
            parts = slow.iter_lines()
            pid, user = next(parts).split()
            assert user == "ada"
            # Its first byte is here, so its change is everywhere.
            assert visitor.ask("GET", "/me").json()["session"]["streamed"] is True
            counting = [threads.submit(visitor.count, turn) for turn in range(THREADS * EACH)]
            counting[THREADS * EACH // 2].result()
            os.kill(int(pid), signal.SIGKILL)
            with suppress(httpx.TransportError):  # uWSGI's clients see no more than its end
                assert len(list(parts)) < PARTS - 1
        for counted in counting:
            counted.result()
        assert visitor.acknowledged == THREADS * EACH
        n = visitor.ask("GET", "/me").json()["session"]["n"]
        assert visitor.acknowledged <= n <= visitor.acknowledged + visitor.unknown

        # Behind one address the server has replaced the worker; otherwise the other one goes on.
        workers = 2 if deployment.copies == 1 else 1
        signed_in = dict(client.cookies)
        after = servers.answers_of_all("/me", workers, signed_in, without=int(pid))
        for answer in after.values():
            assert answer["session"] == {"user_id": "ada", "streamed": True, "n": n}
        visitor.ask("POST", "/sign-out")
        assert not client.cookies
        for answer in servers.answers_of_all("/me", workers, signed_in).values():
            assert answer["session"] == {}
        if deployment.copies > 1:
            servers.processes[0].wait(LIMIT)  # as a whole: it has to be started again
