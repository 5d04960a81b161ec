"""What docs/scale.md says: its counts are measured anew, and what is computed is computed anew."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.simulation import costs as costs_of
from benchmarks.simulation.checked import POINTS, Compared, compared
from benchmarks.simulation.model import (
    BEGINNING,
    Answer,
    Model,
    Request,
    World,
    death,
    steady,
    stream,
)
from benchmarks.simulation.pictures import DOCS, PICTURES, Picture, draw
from benchmarks.simulation.tables import TABLES
from tests.support.servers import RedisServer

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text()
READS_APART = 0.03  # of the model and the real servers, a request
BYTES_APART = 0.1  # share; heartbeats are as regular as the machine is idle
LENGTHS_APART = 3  # bytes: numbers may have a digit more
REQUESTS = 20  # of each kind
Measured = dict[str, tuple[str, float, float, int]]  # commands, bytes to and from Redis, Set-Cookie


# --- the model and the real thing -----------------------------------------------------------------


@pytest.fixture(scope="module")
def points() -> dict[str, Compared]:
    """The model and real servers on the same requests, in three ways at a time."""

    def at(world: World) -> Compared:
        with RedisServer() as server:
            return compared(server.port, world)

    with ThreadPoolExecutor(len(POINTS)) as pool:
        return dict(zip(POINTS, pool.map(at, POINTS.values()), strict=True))


@pytest.mark.parametrize("point", POINTS)
def test_the_model_says_what_real_servers_do(points: dict[str, Compared], point: str) -> None:
    """Store reads, commands and bytes of real servers on a real Redis are those of the model."""
    found = points[point]
    assert found.real.by_store + found.real.by_copy == found.real.requests
    (_, *reads), (_, *commands), (_, by_model, in_fact) = found.rows()

    assert reads[0] == pytest.approx(reads[1], abs=READS_APART)
    assert commands[0] == pytest.approx(commands[1], abs=READS_APART)
    assert by_model == pytest.approx(in_fact, rel=BYTES_APART)


def by_copy(world: World, *requests: tuple[float, int, int, bool]) -> list[bool]:
    """Say which requests a copy answers, of sessions that were written long ago."""
    model = Model(world, [BEGINNING - 1000] * world.sessions)
    found = []
    for seconds, session, server, writes in requests:
        before = model.counts.by_copy
        model.take(Request(BEGINNING + seconds, session, server, writes))
        found.append(model.counts.by_copy > before)
    return found


def test_a_write_ends_the_copies_of_all_servers_and_keeps_others_away_for_a_while() -> None:
    """A copy answers until there is a write anywhere; then none does for three seconds."""
    world = World(Answer.COPIES, servers=2, sessions=1)
    asked = [(0, 1), (1, 1), (2, 0, True), (4, 0), (4.5, 0), (10, 0), (10, 1), (11, 1)]
    requests = [(at, 0, server, bool(writes)) for at, server, *writes in asked]

    assert by_copy(world, *requests) == [False, True, False, False, False, True, False, True]


def test_a_copy_answers_for_its_lease_and_while_there_is_room() -> None:
    """After a minute, or a second without pushes, or when others needed the room, it is over."""
    world = World(Answer.STICKY, servers=1, sessions=2, entries=1)
    unpushed = replace(world, lease_with_push=0)

    assert by_copy(world, *((at, 0, 0, False) for at in (0, 59, 61))) == [False, True, False]
    assert by_copy(unpushed, *((at, 0, 0, False) for at in (0, 0.9, 1.1))) == [False, True, False]
    assert by_copy(world, *((0, each, 0, False) for each in (0, 1, 1, 0))) == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("answer", [Answer.COPIES, Answer.STICKY])
def test_a_part_of_the_sessions_shows_what_all_of_them_do(answer: Answer) -> None:
    """Ten times the sessions, requests and room give the same reads a request."""
    small = World(answer, servers=4, sessions=500, rate=100, entries=40, lease_with_push=10)
    large = replace(small, sessions=5000, rate=1000, entries=400)
    shares = []
    for world in (small, large):
        model = Model(world, [0.0] * world.sessions)
        for request in stream(world, 60):
            model.take(request)
        shares.append(model.counts.by_store / model.counts.requests)

    assert shares[0] == pytest.approx(shares[1], abs=0.03)


def test_one_store_is_asked_once_a_request_and_once_more_for_a_write() -> None:
    """Without copies, the model comes to what can be said without it."""
    counts, _ = steady(World(Answer.STORE, writes=0.2))

    assert counts.by_store == counts.requests
    assert counts.commands / counts.requests == pytest.approx(1.2, abs=0.02)


def test_a_dead_server_takes_only_what_it_alone_had() -> None:
    """Sessions in its own memory are lost; with copies each costs one store read at most."""
    lost = {answer: death(World(answer, servers=8, entries=20_000)) for answer in Answer}

    assert lost[Answer.OWN][0] == pytest.approx(1 / 8, abs=0.02)
    assert all(share == 0 for answer, (share, _) in lost.items() if answer is not Answer.OWN)
    assert 0 < lost[Answer.STICKY][1] <= 1


def test_a_death_costs_more_where_there_is_no_room_for_what_it_leaves() -> None:
    """Room for 10,000 copies on each of 8 servers is not enough for 100,000 sessions on 7."""
    _, reads = death(World(Answer.STICKY, servers=8))

    assert reads > 10


# --- the figures of the page ----------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_the_computed_tables_of_the_page(table: Callable[[], str]) -> None:
    """Each computed table stands in the page as `python -m benchmarks.simulation` prints it."""
    assert table() in PAGE


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_the_pictures_show_what_is_computed(picture: Picture) -> None:
    """Each picture is the one that `python -m benchmarks.simulation --draw` writes."""
    assert draw(picture) == (DOCS / f"{picture.name}.svg").read_text()


def rows_of(head: str) -> dict[str, list[str]]:
    """Return a table of the page by its first column."""
    body = PAGE.split(head, 1)[1].split("\n\n", 1)[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.split("\n")]
    return {line[0]: line[1:] for line in lines if len(line) > 1 and "---" not in line[0]}


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    """What each kind of request costs, measured now."""
    with pytest.MonkeyPatch.context() as patch, RedisServer() as server:
        patch.setattr(scale, "EACH", REQUESTS)
        with contextlib.closing(scale.Kinds(server.port, scale.SMALL)) as kinds:
            yield {
                name: (
                    ", ".join(
                        f"{number // REQUESTS} {command}"
                        for command, number in usage.commands.items()
                    ),
                    usage.bytes_in / REQUESTS,
                    usage.bytes_out / REQUESTS,
                    told,
                )
                for name, usage, told in kinds.all()
            }


def test_a_request_costs_what_the_page_says(measured: Measured) -> None:
    """Commands and bytes of each kind of request are those of the table."""
    said = rows_of("| request | commands | bytes to Redis | from it | Set-Cookie, bytes |\n")

    assert said.keys() == measured.keys()
    for name, (commands, sent, received, told) in measured.items():
        assert said[name][0] == (commands or "none"), name
        assert float(said[name][1]) == pytest.approx(sent, abs=LENGTHS_APART), name
        assert float(said[name][2]) == pytest.approx(received, abs=LENGTHS_APART), name
        assert int(said[name][3]) == told, name


def test_the_model_counts_bytes_as_measured(measured: Measured) -> None:
    """The bytes that the model takes for a read, a look, a write and a touch are the measured."""
    _, sent, received, _ = measured["read, from the store"]
    read = sent + received
    _, sent, received, _ = measured["read, and a copy kept"]
    look = sent + received
    _, sent, received, _ = measured["write of one key"]
    write = sent + received - read
    _, sent, received, _ = measured["touch"]
    touch = sent + received - 2 * read

    within = {"abs": LENGTHS_APART}
    assert read == pytest.approx(costs_of.READ + scale.SMALL, **within)
    assert look == pytest.approx(costs_of.LOOK + scale.SMALL, **within)
    assert write == pytest.approx(costs_of.WRITE + scale.SMALL, **within)
    assert touch == pytest.approx(costs_of.TOUCH, **within)


def test_a_write_is_pushed_once_to_each_server_that_listens(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every listener hears every write, in as many bytes as the model takes."""
    monkeypatch.setattr(scale, "WRITES", 200)
    alone, _ = scale.written(server.port, 0, scale.SMALL)
    told, heard = scale.written(server.port, 3, scale.SMALL)

    assert heard == 3 * 200
    assert (told.bytes_out - alone.bytes_out) / heard == pytest.approx(costs_of.PUSH, abs=1)


def test_a_session_takes_the_memory_that_the_page_says(server: RedisServer) -> None:
    """Redis needs so many bytes for a session, within a twentieth."""
    taken = scale.in_redis(server.port, scale.SMALL)

    assert taken == pytest.approx(costs_of.IN_REDIS[scale.SMALL], rel=0.05)


def test_the_page_shows_the_figures_that_the_model_takes() -> None:
    """Memory and CPU times stand in the page as they are computed with."""
    memory = rows_of("| record | in Redis | in a server's own memory (`memory://`) | as a copy |\n")
    times = {
        name: [float(cell.split()[0]) for cell in cells[:2]]
        for name, cells in rows_of(
            "| command | one at a time | 32 connections, one each | 32 in a pipeline |\n"
        ).items()
    }

    for record, cells in memory.items():
        taken = [costs_of.IN_REDIS, costs_of.IN_A_SERVER, costs_of.IN_A_COPY]
        assert [int(cell) for cell in cells] == [each[int(record)] for each in taken]
    assert times == {
        "`GET`": list(costs_of.CPU_READ),
        "`EVALSHA`, a look for a copy": list(costs_of.CPU_LOOK),
        "`EVALSHA`, a write": list(costs_of.CPU_WRITE),
    }
    pushed = re.search(r"^\| a push \|.*\| (\d+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert pushed
    assert (int(pushed[1]), float(pushed[2])) == (costs_of.PUSH, costs_of.CPU_PUSH)
