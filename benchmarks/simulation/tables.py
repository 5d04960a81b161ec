"""The computed tables of docs/scale.md: how the answers compare, and the worked example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil

from .costs import (
    CPU_LOOK,
    CPU_PUSH,
    CPU_READ,
    CPU_WRITE,
    HEARTBEATS_A_SECOND,
    IN_A_COPY,
    IN_REDIS,
    PUSH,
    READ,
    TOUCH,
    WRITE,
    Costs,
    costs,
)
from .model import Answer, World, death, steady

BUSY = 0.5  # of a core of Redis, at most: the rest is for bursts, snapshots and failovers
REGIONS = 3
EVERYWHERE = World(
    Answer.STORE, servers=200, sessions=1_000_000, rate=100_000, writes=0.05, idle_timeout=1800
)
REGION = replace(EVERYWHERE, servers=67, sessions=333_333, rate=100_000 / 3)
SECONDS_DOWN = {"Sentinel": 5 + 1.5, "Cluster": 3.3}
Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def size(number: float) -> str:
    """Return bytes as a person writes them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f} B"


def whole(number: float) -> str:
    return f"{number:,.0f}"


# --- how the answers compare ----------------------------------------------------------------------


def answers() -> str:
    """16 servers, 100,000 sessions, 10,000 requests a second, of which 5 % write."""
    rows = []
    for answer in Answer:
        world = World(answer)
        found = costs(world)
        lost, reads = death(world)
        rows.append(
            [
                answer.value,
                f"{found.commands:.2f}",
                size(found.network),
                size(found.memory),
                f"{lost:.1%}" if lost else "none",
                f"{reads:.1f}" if answer is Answer.STICKY else "none",
            ]
        )
    head = ["answer", "commands, a request", "network, a request", "memory", "lost with a server"]
    return table([*head, "store reads more, for each session that was on it"], rows)


VARIANTS: dict[str, Callable[[World], World]] = {
    "as above": lambda world: world,
    "1 % writes": lambda world: replace(world, writes=0.01),
    "20 % writes": lambda world: replace(world, writes=0.2),
    "each session asks once a second": lambda world: replace(world, rate=100_000),
    "each session asks every 100 s": lambda world: replace(world, rate=1000),
    "some sessions ask far more than others": lambda world: replace(world, skew=0.5),
    "a session ends after 30 min": lambda world: replace(world, idle_timeout=1800),
    "`max_entries=2_000`": lambda world: replace(world, entries=2000),
    "`lease_with_push=600`": lambda world: replace(world, lease_with_push=600),
    "`lease_with_push=0`": lambda world: replace(world, lease_with_push=0),
}


def variants() -> str:
    """The share of reads that the store answers, with copies."""
    rows = []
    for name, change in VARIANTS.items():
        cells = [name]
        for answer in (Answer.COPIES, Answer.STICKY):
            found = costs(change(World(answer)))
            cells.append(f"{found.reads:.2f}")
        rows.append(cells)
    return table(["", "copies, any server", "sticky copies"], rows)


# --- a million sessions ---------------------------------------------------------------------------


def cpu(world: World, found: Costs, way: int) -> float:
    """Return how many cores of Redis the commands of a second take, pushes aside."""
    read = (CPU_LOOK if world.answer.has_copies else CPU_READ)[way]
    # An EXPIRE is taken to cost what a GET does.
    each = (found.reads + found.touches) * read + found.touches * CPU_READ[way]
    return world.rate * (each + world.writes * CPU_WRITE[way]) / 1e6


def one_place() -> str:
    """Everything in one place, one store, no copies: each figure with its arithmetic."""
    world, found = EVERYWHERE, costs(EVERYWHERE)
    touches, writes = found.touches * world.rate, world.writes * world.rate
    small = world.rate + 2 * touches
    slow, fast = cpu(world, found, 0), cpu(world, found, 1)
    # Of each: reads that touches bring along, the record with each read and each write.
    network = {
        record: world.rate * (READ + record)
        + writes * (WRITE + record)
        + touches * (READ + record + TOUCH)
        for record in IN_REDIS
    }
    shards = ceil(slow / BUSY)
    rows = [
        ["reads", "one `GET` a request", f"{whole(world.rate)} a second"],
        ["writes", f"{world.writes:.0%} of them, one `EVALSHA` each", f"{whole(writes)} a second"],
        [
            "touches",
            f"{found.touches:.3f} a request, by the model: `EXPIRE` and `GET`",
            f"{whole(touches)} a second",
        ],
        [
            "commands",
            f"{whole(world.rate)} + {whole(writes)} + 2 x {whole(touches)}",
            f"{whole(world.rate + writes + 2 * touches)} a second",
        ],
        [
            "Redis CPU at worst",
            f"{whole(small)} x {CPU_READ[0]} µs + {whole(writes)} x {CPU_WRITE[0]} µs",
            f"{slow:.2f} cores",
        ],
        [
            "Redis CPU when busy",
            f"the same with {CPU_READ[1]} and {CPU_WRITE[1]} µs",
            f"{fast:.2f} cores",
        ],
        ["shards", f"{slow:.2f} cores, each busy to {BUSY:.0%} at most", f"{shards}"],
        *(
            [
                f"network, records of {record} bytes",
                _sum(
                    (world.rate + touches, READ + record),
                    (writes, WRITE + record),
                    (touches, TOUCH),
                ),
                f"{size(network[record])} a second",
            ]
            for record in IN_REDIS
        ),
        *(
            [
                f"memory, records of {record} bytes",
                _sum((world.sessions, each)),
                f"{size(world.sessions * each)}, and as much in the replicas",
            ]
            for record, each in IN_REDIS.items()
        ),
    ]
    return table(["", "arithmetic", "comes to"], rows)


def _sum(*products: tuple[float, int]) -> str:
    return " + ".join(f"{whole(number)} x {each} B" for number, each in products)


def one_region() -> str:
    """A third of it, without copies and with."""
    columns = []
    for answer in (Answer.STORE, Answer.COPIES, Answer.STICKY):
        world = replace(REGION, answer=answer)
        found, (counts, share) = costs(world), steady(world)
        pushes = found.pushes * world.rate
        copies = counts.copies / share / world.servers
        commands, pushing = cpu(world, found, 0), pushes * CPU_PUSH / 1e6
        columns.append(
            [
                whole(found.reads * world.rate),
                whole(found.commands * world.rate),
                whole(pushes),
                size(found.network * world.rate),
                size(pushes * PUSH),
                f"{commands:.2f}",
                f"{pushing:.2f}",
                f"{commands + pushing:.2f}",
                whole(copies),
                size(copies * IN_A_COPY[world.record_bytes]),
            ]
        )
    names = [
        "reads that reach Redis, a second",
        "commands, a second (heartbeats included)",
        "pushes, a second",
        "network, a second",
        "of it pushes",
        "Redis CPU for commands, cores at worst",
        "for pushes",
        "together",
        "copies on each server",
        "memory of these",
    ]
    rows = [[name, *cells] for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
    return table(["one region of three", "no copies", "copies, any server", "sticky copies"], rows)


def push_limit() -> str:
    """How many writes a second fill half a core of Redis with pushes alone."""
    pushes = BUSY * 1e6 / CPU_PUSH
    rows = [
        [
            whole(servers),
            whole(pushes / servers),
            size(pushes * PUSH),
            whole(HEARTBEATS_A_SECOND * servers),
        ]
        for servers in (5, 10, 30, 100, 300)
    ]
    head = ["servers that listen", "writes and touches a second", "pushes, a second"]
    return table([*head, "heartbeats a second"], rows)


def break_even() -> str:
    """Up to how many listening servers sticky copies take less of Redis than they save."""
    rows = []
    for writes in (0.01, 0.05, 0.2):
        cells = [f"{writes:.0%}"]
        plain = World(Answer.STORE, writes=writes)
        near = World(Answer.STICKY, writes=writes)
        without, found = costs(plain), costs(near)
        for way in (0, 1):
            saved = (cpu(plain, without, way) - cpu(near, found, way)) / near.rate * 1e6
            cells.append(whole(saved / (writes * CPU_PUSH)))
        rows.append([*cells, f"{1 - found.reads:.0%}"])
    head = ["writes", "servers, one command at a time", "servers, busy connections"]
    return table([*head, "reads answered by copies"], rows)


def failovers() -> str:
    """How many requests are a 503 while a primary is replaced."""
    sentinel, cluster = SECONDS_DOWN["Sentinel"], SECONDS_DOWN["Cluster"]
    rows = [
        [
            "Sentinel, one region",
            f"{whole(REGION.rate)} a second x {sentinel} s",
            whole(REGION.rate * sentinel),
        ],
        [
            "Cluster of three shards, one of them, everything in one place",
            f"{whole(EVERYWHERE.rate)} a second / 3 x {cluster} s",
            whole(EVERYWHERE.rate / 3 * cluster),
        ],
    ]
    return table(["", "arithmetic", "requests answered 503"], rows)


TABLES = (answers, variants, one_place, one_region, push_limit, break_even, failovers)


def tables() -> Iterator[tuple[str, str]]:
    """Yield what each table shows, and the table."""
    for each in TABLES:
        yield str(each.__doc__), each()
