"""Records in Memcached: items, of which each server is asked.

Which server has a key is by the rule of the client that wrote it, and there are several. An item
that two servers hold was left behind when their list changed; the one that lives longer counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pymemcache
from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

from ..._core.per_process import PerProcess
from ...stores.memcached.addresses import address_of, parse
from .. import decoding
from . import Raw, outage

T = TypeVar("T")
_TIME = re.compile(rb"HD t(-?\d+)")
_KEY = re.compile(r"[!-~]{1,250}")


class MemcachedRecords:
    """Items in Memcached, by a URL."""

    def __init__(self, url: str, timeout: float) -> None:
        names, _ = parse(url)
        self._clients = PerProcess(lambda: {name: _open(name, timeout) for name in names})

    def load(self, key: str, now: float) -> Raw | None:
        if not _KEY.fullmatch(key):
            raise decoding.damaged("Memcached has no such keys")
        found = [raw for raw in self._ask_all(lambda client: _load(client, key, now)) if raw]
        never = float("inf")
        return max(
            found, key=lambda raw: never if raw.expires is None else raw.expires, default=None
        )

    def delete(self, key: str) -> None:
        self._ask_all(lambda client: client.delete(key, noreply=False))

    def keys(self, prefix: str) -> Iterator[str]:
        raise TypeError(
            "Memcached does not list its keys: these sessions cannot be moved all at once. Each is "
            "adopted with its client's next request."
        )

    def close(self) -> None:
        for client in (self._clients.known() or {}).values():
            client.close()

    def _ask_all(self, call: Callable[[Any], T]) -> list[T]:
        answers = []
        for name, client in self._clients.own().items():
            try:
                answers.append(_once_more(call, client))
            except (MemcacheError, OSError) as error:
                raise outage(f"Memcached at {name}", _words(error)) from error
        return answers


def _open(name: str, timeout: float) -> Any:  # pymemcache carries no types
    # Without a serializer: what stands in an item is read as it is, and never unpickled.
    return pymemcache.PooledClient(
        address_of(name), connect_timeout=timeout / 2, timeout=timeout / 2, no_delay=True
    )


def _once_more(call: Callable[[Any], T], client: Any) -> T:
    """An idle connection does not notice that the server has restarted."""
    try:
        return call(client)
    except (ConnectionError, MemcacheUnexpectedCloseError):
        return call(client)


def _load(client: Any, key: str, now: float) -> Raw | None:
    data = client.get(key)
    if data is None:
        return None
    try:
        told = _TIME.fullmatch(client.raw_command(f"mg {key} t"))
    except MemcacheError:
        told = None  # a server before 1.6 does not know the command
    seconds = int(told[1]) if told else -1
    return Raw(data, None if seconds < 0 else now + seconds)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) if isinstance(error, OSError) and str(error) else type(error).__name__
