"""A lane for each server: its state, its latest requests, and a button.

The HTML of lanes is made here only. The first page has it as it is, and each change is published as
the piece of HTML to be put in place.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from html import escape
from typing import Any

from .balancer import Fate
from .feed import Feed, encode
from .page import hue
from .servers import FRAMEWORKS, Process, Server
from .strategies import SHARED, Strategy

SHOWN = 8  # requests in a lane
LOOK_EVERY = 0.5  # seconds: a server may also be killed from outside
COPIES = {"copy": "in a copy", "replica": "in the replica"}  # not in the store itself
MARKS = {
    "found": ("✓", "found"),
    "new": ("+", "new"),
    "unused": ("&ndash;", "not used"),
    "lost": ("✗", "NOT FOUND"),
    "died": ("✗", "died"),
    "failed": ("✗", "failed"),
}


class Lanes:
    """What there is to show: the latest requests and the totals. Each change goes to the feed.

    They are those of one strategy; ``store`` is the one that the demo has started, if it has.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        feed: Feed,
        strategy: Strategy = SHARED,
        store: Process | None = None,
    ) -> None:
        self.servers = {server.name: server for server in servers}
        self.feed = feed
        self.strategy = strategy
        self.processes: dict[str, Process] = dict(self.servers)
        if store is not None:
            self.processes[store.name] = store
        self._latest = {server.name: deque[Fate](maxlen=SHOWN) for server in servers}
        self._answered: Counter[str] = Counter()
        self._lost = 0
        self._states = self._look()

    def tell(self, fate: Fate) -> None:
        """Show what became of a request."""
        if fate.strategy != self.strategy.name:
            return
        self._latest[fate.server].append(fate)
        self._answered[fate.server] += 1
        self._lost += fate.met == "lost"
        change = {
            "server": fate.server,
            "lost": fate.met == "lost",
            "request": request_html(fate),
            "answered": self._answered[fate.server],
        }
        self.feed.publish("request", change | self.totals())

    def tell_states(self) -> None:
        """Show which processes run, where that has changed."""
        before, self._states = self._states, self._look()
        for name, state in self._states.items():
            if before[name] != state:
                change = {"name": name, "state": state}
                if name in self.servers:
                    server = {"server": name, "head": self._head(self.servers[name])}
                    self.feed.publish("server", change | server)
                self.feed.publish("state", change)

    async def keep_looking(self) -> None:
        """Tell the states again and again, until cancelled."""
        while True:
            self.tell_states()
            await asyncio.sleep(LOOK_EVERY)

    def picture(self) -> bytes:
        """Return the event that shows everything at once."""
        now = {"lanes": self.html(), "states": self._look()}
        return encode("picture", now | self.totals())

    def describe(self) -> list[dict[str, Any]]:
        """Return the servers as JSON has them."""
        return [
            {
                "name": server.name,
                "framework": server.framework,
                "running": server.state == "running",
                "answered": self._answered[server.name],
                "port": server.port,
            }
            for server in self.servers.values()
        ]

    def _look(self) -> dict[str, str]:
        return {name: process.state for name, process in self.processes.items()}

    def totals(self) -> dict[str, int]:
        """Return how many requests were answered, and how many of them missed their session."""
        return {"total": self._answered.total(), "missed": self._lost}

    def html(self) -> str:
        """Return all lanes as they are now."""
        return "".join(map(self._lane, self.servers.values()))

    def _lane(self, server: Server) -> str:
        name = server.name
        requests = "".join(map(request_html, reversed(self._latest[name])))
        return (
            f'<li class="lane" id="lane-{name}" data-hue="{hue(name)}">{self._head(server)}'
            f'<ol class="requests" aria-label="Requests at {name}, newest first">{requests}</ol>'
            "</li>"
        )

    def _head(self, server: Server) -> str:
        name, state = server.name, server.state
        verb = "kill" if state == "running" else "start"
        button = "Starting…" if state == "starting" else verb.capitalize()
        waiting = 'aria-disabled="true"' if state == "starting" else ""
        return (
            f'<div class="head" data-state="{state}">'
            f"<h3><b>{name}</b> <small>{FRAMEWORKS[server.framework]}</small></h3>"
            f'<p><span class="state">{state}</span>, '
            f'answered <span class="answered">{self._answered[name]}</span></p>'
            f'<form method="post" action="/_demo/servers/{name}/{verb}">'
            f'<button id="change-{name}" {waiting}>{button}'
            f'<span class="unseen"> {name}</span></button></form></div>'
        )


def request_html(fate: Fate) -> str:
    """Return a request as a line of its lane."""
    met = fate.met if fate.met == "died" or fate.status < 500 else "failed"
    sign, word = MARKS.get(met, ("", str(fate.status)))
    word = f"{word} {COPIES[fate.read]}" if met == "found" and fate.read in COPIES else word
    what = escape(f"{fate.method} {fate.path}")
    return (
        f'<li data-met="{escape(met)}"><span class="what" title="{what}">{what}</span> '
        f'<span class="met"><span aria-hidden="true">{sign}</span> {word}</span> '
        f'<span class="took">{fate.milliseconds:.0f} ms</span></li>'
    )
