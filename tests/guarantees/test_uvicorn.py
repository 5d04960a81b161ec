"""A FastAPI application on three uvicorn processes with one store; one of them is killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30.0


@contextmanager
def uvicorns(count: int, store: str) -> Iterator[list[tuple[str, subprocess.Popen[bytes]]]]:
    """Start that many server processes; give the address of each, and the process."""
    started = []
    environment = {**os.environ, "STORE": store}
    try:
        for _ in range(count):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            words = "-W error -m uvicorn tests.guarantees.served:app --log-level warning --port"
            process = subprocess.Popen(
                [sys.executable, *words.split(), str(port)], cwd=ROOT, env=environment
            )
            started.append((f"http://127.0.0.1:{port}", process))
        limit = time.monotonic() + LIMIT
        for address, process in started:
            while not answers(address):
                assert process.poll() is None, "a server has ended"
                assert time.monotonic() < limit, "a server does not answer"
                time.sleep(0.05)
        yield started
    finally:
        for _, process in started:
            process.terminate()
        codes = [process.wait(LIMIT) for _, process in started]
    assert set(codes) <= {0, -15, -9}


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("kind", ["SQLite", "Redis"])
def test_every_uvicorn_finds_the_session(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Signed in at one, signed in at all; one is killed (kill -9), and nobody is signed out."""
    store = f"sqlite:///{tmp_path}/sessions.db"
    if kind == "Redis":
        store = request.getfixturevalue("redis_url")
    with uvicorns(3, store) as servers, httpx.Client(trust_env=False, timeout=LIMIT) as client:
        (first, doomed), (second, _), (third, _) = servers
        health = client.get(f"{first}/health")
        assert "set-cookie" not in health.headers
        assert "vary" not in health.headers
        signed_in = client.post(f"{first}/sign-in/ada")
        assert signed_in.headers["vary"] == "Cookie"
        assert "httponly" in signed_in.headers["set-cookie"]
        pids = set()
        for address, _ in servers:
            me = client.get(f"{address}/me").json()
            assert me.pop("pid") not in pids
            assert me == {"user_id": "ada"}
        with ThreadPoolExecutor(6) as threads:
            counted = threads.map(
                lambda n: client.post(f"{servers[n % 3][0]}/count").status_code, range(18)
            )
            assert set(counted) == {200}
        assert client.get(f"{third}/me").json()["n"] == 18

        doomed.kill()
        doomed.wait()
        for address in (second, third):
            assert client.get(f"{address}/me").json()["user_id"] == "ada"
            assert client.post(f"{address}/count").status_code == 200
        assert client.get(f"{second}/me").json()["n"] == 20
        old = dict(client.cookies)
        assert client.post(f"{second}/sign-out").status_code == 200
        assert not client.cookies
        after = httpx.get(f"{third}/me", cookies=old, trust_env=False)
        assert set(after.json()) == {"pid"}
        assert "set-cookie" not in after.headers
