"""``sharedsession demo --check``: every answer side by side; it passes, and it can fail."""

from __future__ import annotations

import re
import subprocess

import pytest
import redis

from sharedsession.cli import main
from sharedsession.demo.strategies import STRATEGIES
from tests.demo.browser import wait_for
from tests.demo.demos import COMMAND, clean_environment
from tests.servers import RedisServer

LOCAL, STICKY, STICKY_SHARED, CLUSTERED, SHARED = range(5)
IN_A_STORE = (STICKY_SHARED, CLUSTERED, SHARED)

Table = dict[str, list[float]]


def table_of(printed: str) -> Table:
    rows = re.findall(r"^ *(\S.*?)  +((?:\d+(?:\.\d)? *)+)$", printed, re.MULTILINE)
    return {title: [float(cell) for cell in cells.split()] for title, cells in rows}


def check(*arguments: str) -> tuple[int, str]:
    """Run the check and return its exit status and what it printed."""
    done = subprocess.run(
        [*COMMAND, "--check", *arguments],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of few requests."""
    monkeypatch.setattr("sharedsession.demo.check.CLIENTS", 2)
    monkeypatch.setattr("sharedsession.demo.check.ROUNDS", 2)
    monkeypatch.setattr("sharedsession.demo.check.READS", 6)


@pytest.fixture(scope="module")
def all_of_them() -> tuple[int, str]:
    """The check as it runs without arguments: every answer."""
    return check()


@pytest.fixture(scope="module")
def table(all_of_them: tuple[int, str]) -> Table:
    return table_of(all_of_them[1])


def test_the_answers_stand_side_by_side(all_of_them: tuple[int, str]) -> None:
    """The columns say where sessions are and who picks the server, and the check has passed."""
    status, printed = all_of_them
    keeps, labels = (re.split(r" {2,}", line.strip()) for line in printed.splitlines()[:2])

    assert (status, printed.splitlines()[-1]) == (0, "Sessions in one store lost nothing.")
    assert labels == ["local", "sticky", "sticky", "clustered", "shared"]
    assert " ".join(keeps).count("own memory") == 2
    assert " ".join(keeps).count("one store") == 3


def test_sessions_in_a_store_lose_nothing_where_those_in_memory_do(table: Table) -> None:
    """A killed server costs sessions in memory dearly, and nothing where they are in a store."""
    for title in ("sessions not found", "updates lost"):
        assert all(table[title][each] == 0 for each in IN_A_STORE), title
        assert table[title][LOCAL] > table[title][STICKY] > 0
    assert all(table["updates acknowledged"][each] > 150 for each in IN_A_STORE)
    assert table["failed otherwise"] == [0] * 5


def test_sticky_sessions_in_memory_lose_those_of_the_killed_server_alone(table: Table) -> None:
    """Of six clients, two were at the killed server: the others find their session to the end."""
    requests, lost = table["requests"][STICKY], table["sessions not found"][STICKY]

    assert lost < requests / 3


def test_every_server_answers_and_one_is_killed(table: Table) -> None:
    """The killed server answered until it was killed, not longer, whoever picked the server."""
    first, killed, third = (
        table[f"answered by {name}"]
        for name in (
            "server-1 (FastAPI)",
            "server-2 (Flask), killed half-way",
            "server-3 (FastAPI)",
        )
    )

    assert 0 < killed[SHARED] < min(first[SHARED], third[SHARED])
    assert 0 < sum(killed) < min(sum(first), sum(third))


def test_every_request_is_accounted_for(table: Table) -> None:
    """Requests add up to those answered, by whom, those that died and those that failed."""
    fates = [cells for title, cells in table.items() if re.match("answered|died|failed", title)]

    assert table["requests"] == [sum(column) for column in zip(*fates, strict=True)]


def test_it_shows_who_answered_the_look_for_the_session(table: Table) -> None:
    """Memory where sessions are in memory; the store, and copies where there are any."""
    memory, store, replica, copy = (
        table[f"session read from {where}"]
        for where in ("the server's own memory", "the store", "a replica", "a copy in the server")
    )

    assert [each > 0 for each in memory] == [True, True, False, False, False]
    assert [each > 0 for each in store] == [False, False, True, True, True]
    assert [each > 0 for each in copy] == [False, False, True, True, False]
    assert replica == [0] * 5
    # In the calm only each client's first read at each server asks the store.
    assert copy[STICKY_SHARED] >= 6 * 19
    assert copy[CLUSTERED] >= 6 * 18
    assert all(each > 0 for each in table["median time of a read, ms"])


@pytest.mark.parametrize(("framework", "shown"), [("flask", "Flask"), ("fastapi", "FastAPI")])
def test_the_check_holds_with_one_framework_alone(
    small: None, capsys: pytest.CaptureFixture[str], framework: str, shown: str
) -> None:
    """Flask servers among themselves, and FastAPI servers, lose nothing either."""
    arguments = ["--sessions", "clustered", "--servers", "2", "--framework", framework]

    assert main(["demo", "--check", *arguments]) == 0
    answered = re.findall(r"answered by (server-\d) \((\w+)\)", capsys.readouterr().out)
    assert answered == [("server-1", shown), ("server-2", shown)]


@pytest.mark.parametrize("sessions", ["local", "sticky"])
def test_the_check_fails_when_sessions_are_lost(
    small: None, capsys: pytest.CaptureFixture[str], sessions: str
) -> None:
    """Run over each server's own memory, the check counts what is lost and exits with 1."""
    assert main(["demo", "--check", "--sessions", sessions, "--servers", "2"]) == 1
    printed = capsys.readouterr().out
    assert table_of(printed)["sessions not found"][0] > 0
    assert "Sessions in their own memory did not hold." in printed


def test_a_replica_answers_where_one_is_named(
    small: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``--read-from`` reads in the calm come from the replica, and nothing is lost."""
    monkeypatch.setattr("sharedsession.demo.check.READS", 150)
    with RedisServer(None, "--repl-diskless-sync-delay", "0") as store:
        with RedisServer(store.binary, "--replicaof", f"127.0.0.1 {store.port}") as replica:
            with redis.Redis(port=replica.port) as follower:
                wait_for(
                    "the replica to follow",
                    lambda: follower.info("replication")["master_link_status"] == "up",
                )
            urls = ["--store", store.url, "--read-from", replica.url]
            assert main(["demo", "--check", "--sessions", "shared", *urls]) == 0
    assert table_of(capsys.readouterr().out)["session read from a replica"][0] > 0


def test_a_check_whose_control_lost_nothing_proves_nothing(
    small: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where sessions in memory lose nothing either, the check says so and exits with 1."""
    monkeypatch.setattr("sharedsession.demo.servers.Server.kill", lambda self: None)
    monkeypatch.setattr(
        "sharedsession.demo.command.STRATEGIES",
        {name: strategy for name, strategy in STRATEGIES.items() if name in ("sticky", "shared")},
    )

    assert main(["demo", "--check"]) == 1
    assert "this run proves nothing" in capsys.readouterr().out
