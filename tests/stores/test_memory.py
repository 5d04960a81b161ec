"""What only the memory store promises."""

from __future__ import annotations

import warnings

import pytest

from sharedsession.exceptions import ConfigurationError
from sharedsession.stores.memory import SLICE, WRITES_PER_SLICE, MemoryStore, workers_of
from sharedsession.testing.stores import Clock


def fill(store: MemoryStore, count: int, ttl: int, prefix: str = "key") -> None:
    for number in range(count):
        assert store.create(f"{prefix} {number}", b"data", ttl)


def test_a_write_sweeps_a_slice_at_most() -> None:
    """However much has expired, one write removes no more than a slice of it."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    fill(store, 5000, 10)
    clock.advance(10)
    before = len(store._entries)
    for number in range(3 * WRITES_PER_SLICE):
        store.create(f"new {number}", b"", 100)
        after = len(store._entries)
        assert before - after < SLICE
        before = after


def test_what_has_expired_leaves_memory_as_others_write() -> None:
    """Nobody needs to ask for an expired entry, or to call `sweep`, for it to go."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    fill(store, 1000, 10)
    fill(store, 100, 10_000, "long")
    clock.advance(10)
    for number in range(1000):
        store.touch(f"long {number % 100}", 10_000)
    assert set(store._entries) == {f"long {number}" for number in range(100)}


def test_a_key_that_comes_and_goes_leaves_nothing_behind() -> None:
    """Creating and deleting one key for ever does not grow."""
    for store in (MemoryStore(), MemoryStore(max_entries=10)):
        fill(store, 5, 10_000)
        for _ in range(2000):
            assert store.create("again", b"", 60)
            store.delete("again")
        assert len(store._ring) <= 6
        assert len(store._entries) <= 6


def test_a_deleted_sessions_data_is_freed_at_once() -> None:
    """Of what was deleted no data is kept, even before the sweep comes by."""
    store = MemoryStore()
    store.create("key", b"secret", 60)
    store.delete("key")
    assert all(b"secret" not in entry.data for entry in store._entries.values())


def test_sweep_is_bounded_and_complete() -> None:
    """`sweep` removes at most its limit, all in the end, and does not count what was deleted."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    fill(store, 500, 10)
    store.create("alive", b"data", 100)
    store.delete("key 0")
    clock.advance(10)
    swept = [store.sweep(200) for _ in range(4)]
    assert swept[0] <= 200
    assert sum(swept) <= 499
    assert set(store._entries) == {"alive"}


def test_a_full_store_forgets_the_least_recently_written() -> None:
    """Creating, replacing and touching count as writing; reading does not."""
    store = MemoryStore(max_entries=4)
    fill(store, 4, 100)
    entry = store.load("key 0")
    assert entry is not None
    assert store.replace("key 0", entry, b"new", 100)
    assert store.touch("key 1", 100)
    assert store.load("key 2")
    fill(store, 2, 100, "new")
    kept = [
        key for key in ("key 0", "key 1", "key 2", "key 3", "new 0", "new 1") if store.load(key)
    ]
    assert kept == ["key 0", "key 1", "new 0", "new 1"]


def test_what_was_deleted_is_forgotten_first() -> None:
    """A deleted entry takes no living one's place."""
    store = MemoryStore(max_entries=3)
    fill(store, 3, 100)
    store.delete("key 2")
    fill(store, 1, 100, "new")
    assert [bool(store.load(key)) for key in ("key 0", "key 1", "key 2", "new 0")] == [
        True,
        True,
        False,
        True,
    ]


def test_the_bound_holds() -> None:
    """A bounded store never holds more entries than its bound, nor a ring that grows."""
    store = MemoryStore(max_entries=100)
    for number in range(5000):
        store.create(f"key {number}", b"", 100)
        assert len(store._entries) <= 100
        assert len(store._ring) <= 500
    with pytest.raises(ConfigurationError, match="at least 1"):
        MemoryStore(max_entries=0)


WORKERS = [
    (["/usr/bin/uvicorn", "app:app", "--workers", "4"], {}, 4),
    (["/usr/bin/uvicorn", "app:app", "--workers=2"], {}, 2),
    (["/venv/lib/uvicorn/__main__.py", "app:app", "--workers", "3"], {}, 3),
    (["gunicorn", "-w", "4", "-k", "uvicorn_worker.UvicornWorker", "app:app"], {}, 4),
    (["gunicorn", "-w4", "app:app"], {}, 4),
    (["gunicorn", "app:app"], {"GUNICORN_CMD_ARGS": "--bind=:80 --workers=5"}, 5),
    (["hypercorn", "app:app", "-w", "2"], {}, 2),
    (["granian", "--interface", "asgi", "app:app", "--workers", "2"], {}, 2),
    (["fastapi", "run", "--workers", "2"], {}, 2),
    (["uvicorn", "app:app"], {"WEB_CONCURRENCY": "8"}, 8),
    (["server.py"], {"WEB_CONCURRENCY": "2"}, 2),
    (["uvicorn", "app:app", "--workers", "1"], {"WEB_CONCURRENCY": "8"}, 1),
    (["uvicorn", "app:app"], {}, 1),
    (["uvicorn", "app:app", "--workers"], {}, 1),
    (["uvicorn", "app:app"], {"WEB_CONCURRENCY": "many"}, 1),
    (["pytest", "--workers", "4", "-w", "4"], {}, 1),
    (["gunicorn", "app:app"], {"GUNICORN_CMD_ARGS": "--name 'unbalanced"}, 1),
    ([""], {}, 1),
    ([], {}, 1),
]


@pytest.mark.parametrize(("arguments", "environment", "workers"), WORKERS)
def test_the_number_of_workers_is_read_from_the_command_line(
    arguments: list[str], environment: dict[str, str], workers: int
) -> None:
    """The servers' own spellings are understood, other programs' options are not mistaken."""
    assert workers_of(arguments, environment) == workers


def test_a_memory_store_under_several_workers_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning names what users would see, and the stores that help."""
    monkeypatch.setattr("sys.argv", ["uvicorn", "app:app", "--workers", "2"])
    with pytest.warns(RuntimeWarning, match="signed out") as caught:
        MemoryStore()
    assert len(caught) == 1
    assert "sqlite:///" in str(caught[0].message)
    assert "redis://" in str(caught[0].message)
    assert caught[0].filename == __file__
    monkeypatch.setattr("sys.argv", ["uvicorn", "app:app"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MemoryStore()
