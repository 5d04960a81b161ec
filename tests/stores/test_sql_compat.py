"""What `stores/sql/psycopg.py` repairs: the test fails when psycopg needs it no more."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sharedsession.stores._support.deadline import within
from sharedsession.stores.sql.psycopg import BoundedAsyncConnection, BoundedConnection

pytestmark = pytest.mark.newest

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that accepts and says nothing; garbage stays where it is meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gc.collect()
        gc.disable()
        yield f"host=127.0.0.1 port={listening.getsockname()[1]} connect_timeout=2"
        gc.enable()


def sockets() -> int:
    """Return how many this process has."""
    links = [f"/proc/self/fd/{file}" for file in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return sum(os.readlink(each)[:7] == "socket:" for each in links if os.path.lexists(each))  # noqa: PTH115


def test_psycopg_leaves_what_could_not_be_opened_in_time(silent: str) -> None:
    """Until the next garbage collection (issue 565, for timeouts); ours is closed at once."""
    before = sockets()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(silent)
    assert sockets() == before + 1, "`BoundedConnection._connect_gen` can go"
    with within(0.3), pytest.raises(psycopg.OperationalError):
        BoundedConnection.connect(silent)
    assert sockets() == before + 1


def test_what_a_task_gives_up_is_closed(silent: str) -> None:
    """Whether psycopg would close it or not."""

    async def scenario() -> None:
        before = sockets()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(BoundedAsyncConnection.connect(silent), 0.3)
        assert sockets() == before

    asyncio.run(scenario())


def test_steps_are_taken_for_psycopg_before_3_3() -> None:
    """Its C waits for a server that hangs without end (3.2.1), and such versions are allowed."""
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    [found] = [re.match(r"psycopg\[binary\]>=([\d.]+)", each) for each in extras["postgresql"][:1]]
    assert found is not None
    assert tuple(map(int, found[1].split("."))) < (3, 3), "`TAKES_STEPS` can go"
