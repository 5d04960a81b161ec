"""Real servers on one store, and what can befall them.

A `Mode` is a name and how to get there: where the sessions are, and which servers there are. To
join all runs it takes one line in `MODES`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from tests.support.processes import ask_anew, free_port, wait_until

from .application import HEALTH
from .places import (
    Fault,
    HurtStore,
    mariadb,
    mariadb_switched,
    memcached,
    memory,
    postgresql,
    postgresql_pooled,
    postgresql_replica,
    postgresql_switched,
    redis,
    redis_cluster,
    redis_full,
    redis_replica,
    redis_sentinel,
    redis_switched,
    sqlite,
    unsteady,
)

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 60.0
UVICORN = (
    "uvicorn --port {port} --no-access-log --log-level critical --timeout-keep-alive 75 "
    "--factory tests.consistency.application:asgi"
)
GUNICORN = (
    "gunicorn --bind 127.0.0.1:{port} --workers 1 --threads 4 --keep-alive 75 "
    "--no-control-socket --log-level critical tests.consistency.application:wsgi()"
)

FLASK = GUNICORN.replace(":wsgi()", ":flask()")
FORKED = GUNICORN.replace("--workers 1 --threads 4", "--workers 2 --threads 4 --preload")


@dataclass(frozen=True)
class Mode:
    """How sessions are kept.

    ``settings`` are the middleware's, beside those of all modes; the last ``plain`` servers are
    not given them, nor a replica, and the last ``readers`` are sent nothing but reads. ``bound``:
    seconds for which a copy may be behind the store; zero where there are no copies.
    """

    name: str
    open: Callable[[], AbstractContextManager[HurtStore]]
    servers: Sequence[str] = (UVICORN, GUNICORN, FLASK)
    settings: Mapping[str, Any] = field(default_factory=dict)
    plain: int = 0
    readers: int = 0
    bound: float = 0.0
    expendable: bool = True  # servers hold nothing, so any of them may be killed
    undisturbed: bool = False  # none is killed or paused
    window: bool = True  # copies do not answer under cookies that have just been written
    rewinds: bool = False  # a failover may take back what nobody was told is stored
    crowd: int = 1  # clients where others have one: most of them rest

    @property
    def max_age(self) -> float:
        """Seconds after which an idle session ends; infinite where no run takes that long."""
        return float(self.settings.get("max_age", math.inf))


EXPIRING = {"max_age": 2}
NEAR = {"near_cache": True}
OUTDATED = NEAR | {"stale_if_error": 3}
LEASED = {"near_cache": {"lease_with_push": 0}}  # as if the store could not push
MODES = {
    mode.name: mode
    for mode in [
        Mode("memory", memory, [UVICORN], expendable=False),
        Mode("sqlite", sqlite),
        Mode("redis", redis),
        Mode("redis-sentinel", redis_sentinel, rewinds=True),
        Mode("redis-cluster", redis_cluster, rewinds=True),
        Mode("memcached", memcached),
        Mode("postgresql", postgresql),
        Mode("mariadb", mariadb),
        Mode("redis-full", redis_full),
        # It is the same processes, with the connections that they have, that are to notice.
        Mode("redis-switched", redis_switched, readers=1, undisturbed=True),
        Mode(
            "postgresql-switched",
            postgresql_switched,
            [GUNICORN, FLASK, UVICORN],
            readers=1,
            undisturbed=True,
        ),
        Mode("mariadb-switched", mariadb_switched, readers=1, undisturbed=True),
        Mode("redis-unsteady", partial(unsteady, redis)),
        Mode("memcached-unsteady", partial(unsteady, memcached)),
        Mode("postgresql-unsteady", partial(unsteady, postgresql)),
        Mode("sqlite-expiring", sqlite, settings=EXPIRING, crowd=6),
        Mode("redis-expiring", redis, settings=EXPIRING, crowd=6),
        Mode("sqlite-near", sqlite, settings=NEAR, bound=1.0, crowd=5),
        Mode("memcached-near", memcached, settings=NEAR, bound=1.0, crowd=5),
        Mode("redis-near", redis, settings=NEAR, bound=1.0, crowd=5),
        Mode("redis-near-leased", redis, settings=LEASED, bound=1.0, crowd=5),
        Mode(
            "redis-near-unsteady", partial(unsteady, redis, True), settings=NEAR, bound=1.0, crowd=5
        ),
        Mode("redis-near-outdated", redis, settings=OUTDATED, bound=3.0, window=False, crowd=5),
        Mode(
            "redis-sentinel-near",
            redis_sentinel,
            settings=NEAR,
            bound=1.0,
            crowd=5,
            rewinds=True,
        ),
        Mode(
            "redis-cluster-near",
            redis_cluster,
            settings=NEAR,
            bound=1.0,
            crowd=5,
            rewinds=True,
        ),
        Mode("redis-near-expiring", redis, settings=NEAR | {"max_age": 5}, bound=1.0, crowd=9),
        Mode("postgresql-near", postgresql, settings=NEAR, bound=1.0, crowd=5),
        Mode(
            "postgresql-near-unsteady",
            partial(unsteady, postgresql, True),
            settings=NEAR,
            bound=1.0,
            crowd=5,
        ),
        Mode("postgresql-near-pooled", postgresql_pooled, settings=NEAR, bound=1.0, crowd=5),
        Mode("redis-replica", redis_replica, bound=1.0, crowd=5),
        Mode("postgresql-replica", postgresql_replica, bound=1.0, crowd=5),
        Mode("redis-near-replica", redis_replica, settings=NEAR, bound=1.0, crowd=5),
        Mode("postgresql-near-replica", postgresql_replica, settings=NEAR, bound=1.0, crowd=5),
        Mode("sqlite-mixed", sqlite, settings=NEAR, plain=1, bound=1.0, crowd=5),
        Mode("redis-mixed", redis, settings=NEAR, plain=1, bound=1.0, crowd=5),
        Mode("redis-replica-mixed", redis_replica, plain=1, bound=1.0, crowd=5),
        Mode("redis-near-forked", redis, [UVICORN, FORKED], settings=NEAR, bound=1.0, crowd=5),
    ]
}


# --- the servers ----------------------------------------------------------------------------------


class Server:
    """One server, in a process group of its own; a replacement comes to the same port."""

    def __init__(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self._words = [sys.executable, "-m", *command.format(port=self.port).split()]
        self._environment = {**os.environ, "PYTHONPATH": _paths(), **environment}
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        self._process = subprocess.Popen(
            self._words,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Wait until it answers."""
        process = self._process
        assert process is not None
        wait_until(
            lambda: process.poll() is not None or self.loads() is not None,
            "a server starts",
            START_LIMIT,
        )
        if process.poll() is not None:
            self._log.seek(0)
            raise AssertionError(self._log.read().decode()[-4000:])

    def kill(self) -> None:
        """End it at once, with the processes that it has started."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def killed(self, seconds: float) -> None:
        self.kill()
        time.sleep(seconds)
        self.launch()
        self.wait()

    def paused(self, seconds: float) -> None:
        self.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        self._log.close()

    def loads(self) -> Any:
        """Where its process has loaded sessions from, and how often; None when it does not run."""
        with contextlib.suppress(OSError, HTTPException):
            return ask_anew(f"http://127.0.0.1:{self.port}{HEALTH}")
        return None


def _paths() -> str:
    """Servers import what this process does."""
    return os.pathsep.join([str(ROOT), str(ROOT / "src")])


@dataclass
class StartedMode:
    mode: Mode
    place: HurtStore
    servers: list[Server]

    @property
    def plain(self) -> set[str]:
        """The servers that have no copies, where others have."""
        return self._last(self.mode.plain)

    @property
    def readers(self) -> set[str]:
        """The servers that are sent nothing but reads."""
        return self._last(self.mode.readers)

    def _last(self, count: int) -> set[str]:
        return {server.name for server in self.servers[len(self.servers) - count :]}

    def faults(self) -> dict[str, list[Fault]]:
        """Everything that can happen, by its kind."""
        found = {name: [fault] for name, fault in self.place.faults.items()}
        if self.mode.undisturbed:
            return found
        found["server paused"] = [server.paused for server in self.servers]
        if self.mode.expendable:
            found["server killed"] = [server.killed for server in self.servers]
        return found


@contextmanager
def world(mode: Mode, control: str = "") -> Iterator[StartedMode]:
    """Start the store and the servers of a mode, and end them all afterwards."""
    with ExitStack() as stack:
        place = stack.enter_context(mode.open())
        settings = dict(mode.settings)
        if place.replica:
            settings["replica"] = place.replica
        servers: list[Server] = []
        for number, command in enumerate(mode.servers, 1):
            is_plain = number > len(mode.servers) - mode.plain
            environment = {
                "STORE": place.url,
                "CONTROL": control,
                "SETTINGS": json.dumps({} if is_plain else settings),
            }
            name = f"{command.partition(' ')[0]} {number}"
            servers.append(Server(name, command, environment))
            stack.callback(servers[-1].close)
            servers[-1].launch()
        for server in servers:
            server.wait()
        yield StartedMode(mode, place, servers)
