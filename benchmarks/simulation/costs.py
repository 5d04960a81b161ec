"""What the model's counts come to in commands, bytes and memory, by figures measured on Redis.

``python benchmarks/scale.py`` measures them; tests/benchmarks compares those that are counts.
Bytes are those of the commands and answers, without TCP/IP.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model import Answer, World, steady

# Bytes to Redis and back, beside the record where one is sent.
READ = 77 + 18  # GET
LOOK = 135 + 39  # a read of which a copy is kept: EVALSHA
WRITE = 196 + 4  # EVALSHA
TOUCH = 93 + 4  # EXPIRE; one more read comes with it
PUSH = 89  # for each server that listens
HEARTBEATS_A_SECOND = 4  # of each server that listens
HEARTBEAT = 86 + 98  # the push of it included

# Microseconds of Redis' CPU: one command at a time on a connection, 32 connections at once.
CPU_READ = (8.1, 2.9)
CPU_LOOK = (9.4, 7.4)
CPU_WRITE = (10.6, 8.2)
CPU_PUSH = 3.7

# Bytes of memory for a session whose record has 400 or 2000 bytes.
IN_REDIS = {400: 540, 2000: 2144}
IN_A_SERVER = {400: 771, 2000: 2365}
IN_A_COPY = {400: 1615, 2000: 4784}
COPIED_AS = 60  # bytes of key, version and head that a clustered session is taken to travel with
PRIMARY_AND_REPLICA = 2


@dataclass(frozen=True)
class Costs:
    """Per request, but for the memory: bytes in all servers and the store with a replica."""

    reads: float
    commands: float  # heartbeats included
    network: float
    pushes: float
    touches: float
    memory: float


def costs(world: World) -> Costs:
    """Return what an answer costs in a steady state."""
    counts, share = steady(world)
    each = 1 / counts.requests
    own = world.sessions * IN_A_SERVER[world.record_bytes]
    if world.answer is Answer.OWN:
        return Costs(0, 0, 0, 0, 0, own)
    if world.answer is Answer.CLUSTERED:
        copied = counts.writes * each * (world.servers - 1)
        return Costs(0, 0, copied * (world.record_bytes + COPIED_AS), 0, 0, own * world.servers)
    read = (LOOK if world.answer.has_copies else READ) + world.record_bytes
    network = (counts.by_store + counts.touches) * read + counts.touches * TOUCH
    network += counts.writes * (WRITE + world.record_bytes)
    pushes = heartbeats = 0.0
    if world.pushes:
        pushes = counts.changes * each * world.servers
        heartbeats = HEARTBEATS_A_SECOND * world.servers / world.rate
    memory = world.sessions * IN_REDIS[world.record_bytes] * PRIMARY_AND_REPLICA
    return Costs(
        counts.by_store * each,
        counts.commands * each + heartbeats,
        network * each + pushes * PUSH + heartbeats * HEARTBEAT,
        pushes,
        counts.touches * each,
        memory + counts.copies / share * IN_A_COPY[world.record_bytes],
    )
