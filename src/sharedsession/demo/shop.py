"""The shop of the demo: what its requests do to a session, and the page that shows it.

Written once, for the FastAPI and the Flask application alike: they route requests to here. Nothing
in it knows of other servers; which one it runs in is shown on the page, that is all.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from .._core.exchange import Exchange
from .._core.session import Session, exchange_of
from .page import Page, hue

PRODUCTS = {"tea": "Green tea", "lamp": "Reading lamp", "plant": "Small fern"}
LIFETIME = 3600  # seconds without use after which a session ends
TRAIL = 8  # answers that a session remembers

MET = "x-demo-session"  # the header that tells the balancer how a request met its session
READ = "x-demo-read"  # and the one that tells where it was read from
FOUND, NEW, LOST, UNUSED = "found", "new", "lost", "unused"

PAGE = Page(
    "shop.html",
    style="shop.css",
    script="shop.js",
    policy="connect-src 'self'; form-action 'self'; frame-ancestors 'self'",
)
ABOUT = Page("about.html", style="shop.css", policy="frame-ancestors 'self'")


def how_met(session: Session, cookie_came: bool) -> str:
    """Say whether the session was found, is new, or is lost: the browser has one, we do not."""
    if not session.is_new:
        return FOUND
    return LOST if cookie_came else NEW


def how_read(session: Session, cookie_came: bool) -> str:
    """Say what was asked for the session, store, replica or copy; nothing without a cookie."""
    exchange = exchange_of(session)
    if not cookie_came or not isinstance(exchange, Exchange):
        return ""
    return "store" if exchange.entry is None else exchange.entry.found_in


# --- what requests do to a session ----------------------------------------------------------------


def visit(session: Session, server: str) -> None:
    """Count the visit and note who answered; two at once are both counted."""

    def count_visit(session: Session) -> None:
        session["visits"] = session.get("visits", 0) + 1
        session["answers"] = [*session.get("answers", []), server][-TRAIL:]

    session.mutate(count_visit)


def sign_in(session: Session, name: str) -> None:
    """Sign in: a changed user_id gives the session a new ID by itself."""
    if name := name.strip()[:40]:
        session["user_id"] = name


def change_cart(session: Session, product: str, verb: str) -> None:
    """Put one into the cart or take one out, also from two tabs at once."""

    def change(session: Session) -> None:
        cart = session.setdefault("cart", {})
        cart[product] = max(0, cart.get(product, 0) + (1 if verb == "add" else -1))

    session.mutate(change)


def can_change(product: str, verb: str) -> bool:
    """Say whether there is such a product and such a verb."""
    return product in PRODUCTS and verb in ("add", "remove")


def count(session: Session) -> None:
    """Count one up: everybody writes the same key."""

    def one_more(session: Session) -> None:
        session["count"] = session.get("count", 0) + 1

    session.mutate(one_more)


def note(session: Session, key: str, text: str) -> None:
    """Keep a text under a key of its own."""
    session[f"note:{key}"] = text


# --- the page -------------------------------------------------------------------------------------


def render(server: str, framework: str, session: Session, met: str) -> str:
    """Return the page for this session, as this server answers it."""
    visits = session.get("visits", 0)
    return PAGE.render(
        server=escape(server),
        framework=escape(framework),
        hue=hue(server),
        handle=f"Session {session.handle[:12]}" if session.handle else "A new session",
        visits=f"<b>{visits}</b> visit{'' if visits == 1 else 's'}",
        trail="".join(map(_answer, session.get("answers", []))),
        lost="" if met == LOST else "hidden",
        account=_account(session.get("user_id")),
        cart=_cart(session.get("cart", {})),
    )


def about(server: str, framework: str) -> str:
    """Return the page that leaves the session alone."""
    return ABOUT.render(server=escape(server), framework=escape(framework), hue=hue(server))


def _answer(server: str) -> str:
    return f'<li data-hue="{hue(server)}" title="{escape(server)}">{hue(server)}</li>'


def _account(user: str | None) -> str:
    if user is None:
        return """
    <form class="sign-in" method="post" action="/sign-in">
      <label for="name">Your name, any will do</label>
      <input id="name" name="name" autocomplete="off" maxlength="40" required>
      <button id="sign-in">Sign in</button>
    </form>"""
    return f"""
    <p class="who"><span>Signed in as</span> <b id="user">{escape(user)}</b></p>
    <form method="post" action="/sign-out"><button id="sign-out">Sign out</button></form>"""


def _cart(cart: Mapping[str, int]) -> str:
    return "".join(_product(key, name, cart.get(key, 0)) for key, name in PRODUCTS.items())


def _product(key: str, name: str, quantity: int) -> str:
    def button(verb: str, sign: str, disabled: bool = False) -> str:
        return (
            f'<form method="post" action="/cart/{key}/{verb}"><button id="{verb}-{key}" '
            f'{"disabled" if disabled else ""} aria-label="{verb.capitalize()} one: {name}">'
            f"{sign}</button></form>"
        )

    return (
        f'<li><span class="name">{name}</span>{button("remove", "&minus;", quantity == 0)}'
        f'<output id="quantity-{key}">{quantity}</output>{button("add", "+")}</li>'
    )
