"""HTML for people: the application's page, and the balancer's panel of servers.

Everything a browser needs is in the one answer, styles and script included: a page load is one
request, so that the next page load is answered by the next server.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import NamedTuple

from ..session import Session

PRODUCTS = {"tea": "Green tea", "lamp": "Reading lamp", "plant": "Small fern"}


class Lane(NamedTuple):
    """What there is to tell about one server."""

    name: str
    running: bool
    answered: int
    port: int | None


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """What a content security policy says to allow exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


STYLE, SCRIPT = _read("style.css"), _read("page.js")
PAGE, PANEL = Template(_read("page.html")), Template(_read("panel.html"))
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_source(STYLE)}; script-src {_source(SCRIPT)}; "
        "connect-src 'self'; img-src data:; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
}


def render(server: str, session: Session, lost: bool) -> str:
    """Return the application's page for this session, as this server answers it."""
    visits = session["visits"]
    return PAGE.substitute(
        style=STYLE,
        script=SCRIPT,
        server=escape(server),
        hue=_hue(server),
        handle=f"Session {session.handle[:12]}" if session.handle else "A new session",
        visits=visits,
        visits_unit="visit" if visits == 1 else "visits",
        answers="".join(map(_answer, session["answers"])),
        lost="" if lost else "hidden",
        account=_account(session.get("user_id")),
        cart=_cart(session.get("cart", {})),
    )


def panel(lanes: Iterable[Lane]) -> str:
    """Return the balancer's page about its servers; the application's page shows its list."""
    return _panel("Servers", "Kill the one that answered, then ask again.", lanes)


def no_server(lanes: Iterable[Lane]) -> str:
    """Return what the balancer answers when it reaches no server."""
    return _panel("No server answers", "Start one: a shared session is still in its store.", lanes)


def _panel(title: str, sentence: str, lanes: Iterable[Lane]) -> str:
    return PANEL.substitute(
        style=STYLE, title=title, sentence=sentence, lanes="".join(map(_lane, lanes))
    )


def _hue(server: str) -> str:
    return server.rpartition("-")[2]


def _answer(server: str) -> str:
    return f'<li data-hue="{_hue(server)}" title="{escape(server)}">{_hue(server)}</li>'


def _account(user: str | None) -> str:
    if user is None:
        return """
    <form class="sign-in" method="post" action="/sign-in">
      <label for="name">Any name will do</label>
      <input id="name" name="name" autocomplete="name" maxlength="40" required>
      <button id="sign-in" class="strong">Sign in</button>
    </form>
    <p class="hint">Signing in gives the session a new ID. The cart comes along.</p>"""
    return f"""
    <p class="who"><span>Signed in as</span> <b id="user">{escape(user)}</b></p>
    <form method="post" action="/sign-out"><button id="sign-out">Sign out</button></form>
    <p class="hint">Signing out ends the session, on every server.</p>"""


def _cart(cart: Mapping[str, int]) -> str:
    rows = "".join(_product(key, name, cart.get(key, 0)) for key, name in PRODUCTS.items())
    return f'<ul class="products">{rows}</ul>'


def _product(key: str, name: str, quantity: int) -> str:
    def button(change: int, sign: str, verb: str) -> str:
        disabled = "disabled" if quantity + change < 0 else ""
        return (
            f'<form method="post" action="/cart/{key}/{verb}"><button id="{verb}-{key}" {disabled} '
            f'aria-label="{verb.capitalize()} one: {name}">{sign}</button></form>'
        )

    return (
        f'<li><span class="name"><b>{name}</b></span>{button(-1, "−", "remove")}'
        f'<output id="quantity-{key}">{quantity}</output>{button(1, "+", "add")}</li>'
    )


def _lane(lane: Lane) -> str:
    verb = "kill" if lane.running else "start"
    state = "running" if lane.running else "killed"
    return (
        f'<li data-server="{lane.name}" data-state="{state}" data-hue="{_hue(lane.name)}">'
        f'<span class="dot"></span><span class="name"><b>{lane.name}</b>'
        f"<span>{state}, {lane.answered} answered</span></span>"
        f'<form method="post" action="/_demo/servers/{lane.name}/{verb}">'
        f'<button id="change-{lane.name}" aria-label="{verb.capitalize()} {lane.name}">'
        f"{verb.capitalize()}</button></form></li>"
    )
