"""Whose turn it is: which server a balancer asks first, and which ones after it.

Sessions in a server's own memory need a table of who has which (HAProxy calls it a stick table).
Sessions in a store need none: the first field of the cookie, which stays the same while the ID
lives, leads a client to the same server by arithmetic alone.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import count
from typing import Protocol

from .servers import Server
from .strategies import Strategy

REMEMBERED = 10_000  # clients


class Route(Protocol):
    """A way to pick servers."""

    def order(self, cookies: str) -> Sequence[Server]:
        """Return the servers in the order in which to ask them."""

    def learn(self, server: Server, set_cookies: Iterable[str]) -> None:
        """Take note of which server has handed out which cookies."""


class Turns:
    """Round robin: each request goes to the next server, whichever client sent it."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._turn = count()

    def order(self, cookies: str) -> Sequence[Server]:
        turn = next(self._turn) % len(self._servers)
        return [*self._servers[turn:], *self._servers[:turn]]

    def learn(self, server: Server, set_cookies: Iterable[str]) -> None:
        pass


class _ByField(Turns):
    """By the first field of the session's cookie; a client without one goes to any server."""

    def __init__(self, servers: Sequence[Server], cookie: str) -> None:
        super().__init__(servers)
        self._fields = re.compile(rf"(?:^|;)\s*{re.escape(cookie)}=([^.;]+)\.").findall


class Hashed(_ByField):
    """The field alone says which server: each has its rank, and the first in rank is asked first.

    One server more or less moves only its own clients (rendezvous hashing).
    """

    def order(self, cookies: str) -> Sequence[Server]:
        fields = self._fields(cookies)
        if not fields:
            return super().order(cookies)
        field = fields[0].encode()
        return sorted(
            self._servers,
            key=lambda server: blake2b(field, key=server.name.encode(), digest_size=8).digest(),
        )


class Remembered(_ByField):
    """The server that handed out the cookie, as long as this balancer remembers it."""

    def __init__(self, servers: Sequence[Server], cookie: str) -> None:
        super().__init__(servers, cookie)
        self._table: OrderedDict[str, Server] = OrderedDict()

    def order(self, cookies: str) -> Sequence[Server]:
        others = super().order(cookies)
        for field in self._fields(cookies):
            known = self._table.get(field)
            if known is not None:
                self._table.move_to_end(field)
                return [known, *(server for server in others if server is not known)]
        return others

    def learn(self, server: Server, set_cookies: Iterable[str]) -> None:
        for set_cookie in set_cookies:
            for field in self._fields(set_cookie):
                self._table[field] = server
                self._table.move_to_end(field)
        while len(self._table) > REMEMBERED:
            self._table.popitem(last=False)


def route_of(strategy: Strategy, servers: Sequence[Server], cookie: str) -> Route:
    """Return the way in which a strategy picks servers."""
    if not strategy.is_sticky:
        return Turns(servers)
    return Hashed(servers, cookie) if strategy.is_shared else Remembered(servers, cookie)
