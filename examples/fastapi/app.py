"""A small shop: sign in with a form, fill a cart, sign out. Run it as the README says.

The session is the only thing it stores. Start it as often as you like, on as many ports as you
like, with the same key and the same store: every server finds every session.
"""

import hashlib
import hmac
import os
from html import escape
from typing import Annotated

from fastapi import FastAPI, Form, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse

from sharedsession import Session
from sharedsession.asgi import SessionMiddleware
from sharedsession.fastapi import SessionDep

PRODUCTS = {"tea": "Green tea", "lamp": "Reading lamp", "plant": "Small fern"}


def password_hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)


# Stands for your table of users: a salt and a hash each, never a password. This one is "countess".
USERS = {
    "ada": (
        bytes.fromhex("6f1d9c0a52b84e37"),
        bytes.fromhex("1640dd5825450a773247c68a67832bbf696d5300db8b52219c2c9be0229add06"),
    ),
}


def check_the_secret_key() -> None:
    """The sessions read it from the environment: one key, or a JSON list of them, newest first."""
    if os.environ.get("APP_ENV") == "development":
        os.environ.setdefault("SHAREDSESSION_SECRET_KEY", "everybody knows this one")
    if not os.environ.get("SHAREDSESSION_SECRET_KEY"):
        raise SystemExit(
            "SHAREDSESSION_SECRET_KEY is not set. Set it to a long random value, the same on every "
            "server, or set APP_ENV=development to try the application on your own machine."
        )


check_the_secret_key()

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("SHAREDSESSION_STORE", "sqlite:///sessions.db"),
    max_age=8 * 60 * 60,  # signed out after eight hours without a request
)


@app.get("/", response_class=HTMLResponse)
def home(session: SessionDep) -> str:
    user = session.get("user_id")
    if user is None:
        return page(SIGN_IN)
    cart = session.get("cart", {})
    rows = "".join(
        f'<p>{name}: {cart.get(key, 0)} <button name="product" value="{key}">Add</button></p>'
        for key, name in PRODUCTS.items()
    )
    return page(
        f"<p>Signed in as <b>{escape(user)}</b>.</p>"
        f'<form method="post" action="/cart">{rows}</form>'
        '<form method="post" action="/sign-out"><button>Sign out</button></form>'
    )


@app.post("/sign-in")
def sign_in(
    session: SessionDep, user: Annotated[str, Form()], password: Annotated[str, Form()]
) -> RedirectResponse:
    salt, expected = USERS.get(user, (b"nobody", b""))
    if not hmac.compare_digest(password_hash(password, salt), expected):
        raise HTTPException(401, "Unknown user or wrong password.")
    # A new user_id gives the session a new ID: whoever knew the old one knows nothing now.
    # What was in the cart before signing in is still there.
    session["user_id"] = user
    return RedirectResponse("/", status_code=303)


@app.post("/cart")
def add_to_cart(session: SessionDep, product: Annotated[str, Form()]) -> RedirectResponse:
    if product not in PRODUCTS:
        raise HTTPException(404, "There is no such product.")

    def add(fresh: Session) -> None:
        cart = fresh.setdefault("cart", {})
        cart[product] = cart.get(product, 0) + 1

    # mutate: two clicks at the same time, on two servers, are two in the cart.
    session.mutate(add)
    return RedirectResponse("/", status_code=303)


@app.post("/sign-out")
def sign_out(session: SessionDep) -> RedirectResponse:
    session.destroy()  # on every server, and for good
    return RedirectResponse("/", status_code=303)


SIGN_IN = """
<form method="post" action="/sign-in">
  <p><label>User <input name="user" autocomplete="username" required></label></p>
  <p><label>Password <input name="password" type="password"
     autocomplete="current-password" required></label></p>
  <p><button>Sign in</button></p>
</form>"""


def page(body: str) -> str:
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>A small shop</title>
<body><h1>A small shop</h1>{body}</body></html>"""
