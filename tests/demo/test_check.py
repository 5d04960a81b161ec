"""``sharedsession demo --check``: every answer side by side; it passes, and it can fail."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import redis

from sharedsession.cli import main
from sharedsession.demo.check import Client, Outcome, Stage, most_wanted
from sharedsession.demo.command import judgement
from sharedsession.demo.strategies import STRATEGIES
from tests.demo.demos import COMMAND, clean_environment
from tests.demo.test_balancer import Upstream, ok
from tests.support.chromium import wait_for
from tests.support.servers import RedisServer

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
    assert table["updates made twice"] == [0] * 5
    assert all(table["updates acknowledged"][each] > 150 for each in IN_A_STORE)
    assert table["failed otherwise"] == [0] * 5


def test_sticky_sessions_in_memory_lose_those_of_the_killed_server_alone(table: Table) -> None:
    """The clients of the other servers find their session to the end."""
    requests, lost = table["requests"][STICKY], table["sessions not found"][STICKY]
    share = table["clients that it had just answered"][STICKY] / 6

    assert share < 1
    assert lost <= requests * share


def test_every_server_answers_and_one_is_killed(table: Table) -> None:
    """The killed server answered until it was killed, and had clients of each answer."""
    answered = {title: row for title, row in table.items() if title.startswith("answered by")}
    (killed,) = (row for title, row in answered.items() if title.endswith(", killed half-way"))
    others = [row for row in answered.values() if row is not killed]

    assert len(others) == 2
    assert all(0 < killed[SHARED] < row[SHARED] for row in others)
    assert sum(killed) < min(map(sum, others))
    assert all(each > 0 for each in table["clients that it had just answered"])


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
    """With ``--replica`` reads in the calm come from the replica, and nothing is lost."""
    monkeypatch.setattr("sharedsession.demo.check.READS", 150)
    with RedisServer(None, "--repl-diskless-sync-delay", "0") as store:
        with RedisServer(store.binary, "--replicaof", f"127.0.0.1 {store.port}") as replica:
            with redis.Redis(port=replica.port) as follower:
                wait_for(
                    "the replica to follow",
                    lambda: follower.info("replication")["master_link_status"] == "up",
                )
            urls = ["--store", store.url, "--replica", replica.url]
            assert main(["demo", "--check", "--sessions", "shared", *urls]) == 0
    assert table_of(capsys.readouterr().out)["session read from a replica"][0] > 0


# --- what it makes of what it finds ---------------------------------------------------------------


def found(name: str, **figures: Any) -> Outcome:
    """An outcome in which all is well, but for these figures."""
    outcome = Outcome(
        STRATEGIES[name], Counter(), {}, updates=9, clients_killed=2, killed="server-2"
    )
    return replace(outcome, **figures)


def told(*outcomes: Outcome) -> tuple[str, bool]:
    """The judgement, beside controls that have lost something."""
    controls = [found("local", updates_lost=1), found("sticky", not_found=1)]
    return judgement([*controls, *outcomes])


def test_a_run_in_which_nothing_is_lost_has_held() -> None:
    """Every session found, every update there once, the killed server missed: then it has held."""
    sentence, held = told(found("clustered"), found("shared", died=3))
    assert (sentence, held) == ("Sessions in one store lost nothing.", True)


@pytest.mark.parametrize("loss", ["not_found", "updates_lost", "updates_twice"])
def test_one_loss_is_enough(loss: str) -> None:
    """One session not found, one update lost or made twice, in one answer: it did not hold."""
    sentence, held = told(found("clustered", **{loss: 1}), found("shared"))
    assert (sentence, held) == ("Sessions in one store did not hold.", False)


def test_a_request_without_an_answer_is_no_loss_and_no_success() -> None:
    """It is said for what it is."""
    sentence, held = told(found("clustered", failed=2), found("shared"))
    assert not held
    assert sentence == "Sessions in one store lost nothing, but 2 requests were not answered."


def test_a_run_without_updates_has_not_held() -> None:
    """Nothing written, nothing lost: that is no success."""
    assert told(found("shared", updates=0)) == ("Sessions in one store did not hold.", False)


@pytest.mark.parametrize("control", ["local", "sticky"])
def test_each_control_must_have_lost_something(control: str) -> None:
    """One answer in memory that lost nothing, and the run proves nothing."""
    controls = [found(each, updates_lost=int(each != control)) for each in ("local", "sticky")]
    sentence, held = judgement([*controls, found("shared")])
    assert not held
    assert sentence == "Sessions in memory lost nothing either, so this run proves nothing."


def test_a_server_that_nobody_missed_proves_nothing() -> None:
    """Where the killed server had no clients of an answer, that is no proof of the answer."""
    sentence, held = told(found("sticky-shared", clients_killed=0), found("shared"))
    assert (sentence, held) == (
        "No client missed the killed server, so this run proves nothing.",
        False,
    )


def test_the_server_that_is_killed_has_clients_of_every_answer() -> None:
    """Of several servers that one is killed whose death costs each answer most."""
    servers = [SimpleNamespace(name=name) for name in "abc"]
    groups = [
        [SimpleNamespace(met=met) for met in ("a", "a", "a", "b")],
        [SimpleNamespace(met=met) for met in ("c", "b", "c", "c")],
    ]
    assert most_wanted(cast(Any, servers), cast(Any, groups)).name == "b"


@pytest.fixture
def client() -> Client:
    """A client that was told of two counts and one note, and not of what became of a third."""
    made = Client("client-0", "http://127.0.0.1:1", found("shared", updates=0), Stage(1))
    made.counted, made.unknown, made.notes = 2, 1, {"note:a": "client-0"}
    return made


@pytest.mark.parametrize(
    ("count", "note", "lost", "twice"),
    [
        (2, "client-0", 0, 0),
        (3, "client-0", 0, 0),  # what it was not told of has taken place
        (1, "client-0", 1, 0),
        (4, "client-0", 0, 1),
        (2, "another", 1, 0),
        (0, None, 3, 0),
    ],
)
def test_a_client_misses_what_it_was_told_is_stored(
    client: Client, count: int, note: str | None, lost: int, twice: int
) -> None:
    """A count or a note that is not there is lost, also when it comes back; more is too much."""
    client.compare({"count": count, "note:a": note})
    client.compare({"count": 2, "note:a": "client-0"})
    client.add_up()

    outcome = client.outcome
    assert (outcome.updates, outcome.updates_lost, outcome.updates_twice) == (3, lost, twice)


@pytest.mark.parametrize(
    ("died", "killed", "fate"),
    [
        ("server-2", "server-2", "died"),
        ("server-1", "server-2", "failed"),
        ("server-2", "", "failed"),  # before anything was killed
        ("", "server-2", "failed"),
    ],
)
def test_only_what_died_with_the_killed_server_is_excused(
    client: Client, died: str, killed: str, fate: str
) -> None:
    """Any other request without a success has failed, and the check with it."""
    client.outcome.killed, client.signed_in = killed, True
    said = ok("", f"x-demo-died: {died}").replace(b"200 OK", b"502 Bad Gateway")
    server = Upstream("balancer", said)

    async def ask() -> None:
        async with client.http:
            assert await client.ask("POST", "/api/count") is None

    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        client.http.base_url = httpx.URL(f"http://127.0.0.1:{server.port}")
        asyncio.run(ask())
        server.shutdown()
        thread.join()
    outcome = client.outcome
    assert (outcome.died, outcome.failed) == ((1, 0) if fate == "died" else (0, 1))
    assert [each.fate for each in outcome.asked] == [fate]


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
