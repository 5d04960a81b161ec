"""All strategies side by side: one click of a browser becomes the same request to each of them.

The browser holds a cookie for each strategy. What it asks for is sent to all of them at the same
moment, and each answer says which server gave it, how the session was met, where it was read from,
and how long that took.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, NamedTuple

import httpx
from starlette.responses import JSONResponse
from starlette.types import Scope

from .balancer import Balancer, Reply
from .check import WAYS
from .page import Page, hue
from .servers import Process
from .strategies import STRATEGIES, Strategy

PAGE = Page(
    "comparison.html",
    style="comparison.css",
    script="comparison.js",
    policy="connect-src 'self'; frame-ancestors 'none'",
)
PASSED_ON = {b"cookie", b"host"}  # headers of the browser that reach the servers
FORM = (b"content-type", b"application/x-www-form-urlencoded")


class Action(NamedTuple):
    """What a button does: a request, sent so many times at once, as if from so many tabs."""

    label: str
    method: str
    path: str
    times: int = 1
    body: bytes = b""


ACTIONS = {
    "sign-in": Action("Sign in", "POST", "/sign-in", body=b"name=Ada"),
    "read": Action("Read", "GET", "/api/session"),
    "write": Action("Write", "POST", "/api/count"),
    "two": Action("Write from two tabs", "POST", "/api/count", times=2),
    "sign-out": Action("Sign out", "POST", "/sign-out"),
}


async def everywhere(balancer: Balancer, action: str, scope: Scope) -> JSONResponse:
    """Send an action to every strategy at once; the answer has what became of each, and cookies."""
    asked = ACTIONS[action]
    headers = [pair for pair in scope["headers"] if pair[0] in PASSED_ON]
    request = {
        **scope,
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": b"",
        "headers": [*headers, FORM] if asked.body else headers,
    }
    chosen = [each for each in STRATEGIES.values() for _ in range(asked.times)]
    answers = await asyncio.gather(
        *(_ask(balancer, strategy, request, asked.body) for strategy in chosen)
    )
    answer = JSONResponse({"label": asked.label, "answers": [told for told, _ in answers]})
    for _, cookies in answers:
        for cookie in cookies:
            answer.headers.append("set-cookie", cookie)
    answer.headers["cache-control"] = "no-store"
    return answer


async def _ask(
    balancer: Balancer, strategy: Strategy, scope: Scope, body: bytes
) -> tuple[dict[str, Any], list[str]]:
    reply = await balancer.ask(strategy, scope, body)
    content, cookies = await _read(reply)
    fate = reply.fate
    told = {"strategy": strategy.name, "count": _count(content or b"")}
    if fate is None:
        return told | {"server": "", "status": 503, "met": "", "read": "", "took": 0.0}, cookies
    if content is None:
        fate = fate._replace(status=502, met="died", read="")
    return told | {
        "server": fate.server,
        "status": fate.status,
        "met": fate.met,
        "read": fate.read,
        "took": round(fate.milliseconds, 1),
    }, cookies


async def _read(reply: Reply) -> tuple[bytes | None, list[str]]:
    if not isinstance(reply.answer, httpx.Response):
        return b"", []
    try:
        return await reply.answer.aread(), reply.answer.headers.get_list("set-cookie")
    except httpx.TransportError:  # it died in the middle of its answer
        return None, []
    finally:
        await reply.answer.aclose()


def _count(content: bytes) -> int | None:
    """What a session in an answer has counted up to; None where the answer shows no session."""
    try:
        session = json.loads(content)
    except ValueError:
        return None
    return int(session.get("count", 0)) if isinstance(session, dict) else None


# --- the page -------------------------------------------------------------------------------------


def render(processes: Mapping[str, Process]) -> str:
    """Return the page; ``processes`` are those with buttons: the servers, and perhaps the store."""
    rows = (
        ("Requests", "requests", ""),
        ("Not found", "lost", "Requests that did not find their session"),
        ("Updates lost", "gone", "Acknowledged, and not there any more"),
        ("Read from", "reads", f"Where the session was: {', '.join(WAYS.values())}"),
        ("Median", "median", "Time of a request, in the balancer"),
    )
    return PAGE.render(
        actions=_joined(_button, ACTIONS.items()),
        processes=_joined(_card, processes.values()),
        heads=_joined(_head, STRATEGIES.values()),
        totals=_joined(_total, rows),
        columns=len(STRATEGIES) + 1,
    )


def _joined(html: Any, items: Iterable[Any]) -> str:  # Any: a function of what the items are
    return "".join(map(html, items))


def _button(item: tuple[str, Action]) -> str:
    name, action = item
    return f'<button id="do-{name}" type="button" data-action="{name}">{action.label}</button>'


def _card(process: Process) -> str:
    name, state = escape(process.name), process.state
    buttons = "".join(
        f'<button id="{verb}-{name}" type="button" data-verb="{verb}" data-process="{name}">'
        f'{verb.capitalize()}<span class="unseen"> {name}</span></button>'
        for verb in ("kill", "pause", "start")
    )
    return (
        f'<li class="process" id="process-{name}" data-hue="{hue(name)}" data-state="{state}">'
        f'<h3>{name}</h3> <span class="state">{state}</span> <span class="verbs">{buttons}</span>'
        "</li>"
    )


def _head(strategy: Strategy) -> str:
    return (
        f'<th scope="col" data-strategy="{strategy.name}"><small>{strategy.keeps}</small> '
        f"<b>{strategy.label}</b> <span>{escape(strategy.sentence)}</span></th>"
    )


def _total(row: tuple[str, str, str]) -> str:
    label, key, title = row
    cells = "".join(
        f'<td data-strategy="{name}" data-total="{key}">&ndash;</td>' for name in STRATEGIES
    )
    return f'<tr><th scope="row" title="{escape(title)}">{label}</th>{cells}</tr>'
