"""What a check asks each Memcached server, and what the answers mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from ...exceptions import StoreUnavailable
from .._support.checking import clock_finding, transport_finding
from ..base import Finding
from .addresses import address_of

Stats = Mapping[bytes, object]


def findings(names: tuple[str, ...], ask: Callable[[str], Stats]) -> Iterator[Finding]:
    """Yield what is found out about the servers; one that does not answer is the last."""
    for name in names:
        before = time.time()
        try:
            stats = ask(name)
        except StoreUnavailable as error:
            yield Finding("error", f"{error}. Its share of the sessions is out of reach.")
            return
        middle = (before + time.time()) / 2
        yield Finding("ok", f"Memcached at {name} answers, version {_text(stats, b'version')}.")
        evictions = _text(stats, b"evictions")
        if evictions not in ("", "0"):
            yield Finding(
                "warning",
                f"It had no room for {evictions} items since it was started, and removed those "
                "unused for longest, which signs people out: start it with more memory (-m).",
            )
        if now := _text(stats, b"time"):
            yield clock_finding(int(now) - middle)
    yield Finding(
        "warning",
        "A restart of a server ends its sessions, and so does a lack of memory: Memcached keeps "
        "nothing on disk.",
    )
    hosts = [
        address if isinstance(address, str) else address[0] for address in map(address_of, names)
    ]
    yield transport_finding(
        encrypted=False, hosts=hosts, advice="Bind the servers to a private network."
    )
    yield Finding("ok", "It pushes no writes: near_cache keeps copies for a second.")


def _text(stats: Stats, name: bytes) -> str:
    value = stats.get(name, "")
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
