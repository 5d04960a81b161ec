"""The example applications, run as their pages say and asked over HTTP, each for itself."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.demo.demos import clean_environment
from tests.examples.conftest import Shops
from tests.examples.serving import EXAMPLES, client, commands, running
from tests.support.chromium import Page, wait_for

ADA = {"user": "ada", "password": "countess"}
EACH = pytest.mark.parametrize("name", Shops._fields)


@EACH
def test_an_example_keeps_its_users_on_several_servers(shops: Shops, name: str) -> None:
    """Signed in at one server with a form: signed in at another, cart and all, until signed out."""
    first, second = getattr(shops, name)
    with client() as visitor:
        assert 'name="password"' in visitor.get(first).text
        assert visitor.post(f"{first}/cart", data={"product": "tea"}).status_code == 200
        wrong = visitor.post(f"{first}/sign-in", data={**ADA, "password": "king"})
        assert wrong.status_code == 401
        assert visitor.post(f"{first}/cart", data={"product": "moon"}).status_code == 404
        signed_in = visitor.post(f"{first}/sign-in", data=ADA)
        assert "Signed in as <b>ada</b>" in signed_in.text
        visitor.post(f"{second}/cart", data={"product": "tea"})
        assert "Green tea: 2" in visitor.get(first).text
        kept = dict(visitor.cookies)
        assert 'name="password"' in visitor.post(f"{second}/sign-out").text
    with client(cookies=kept) as thief:
        assert 'name="password"' in thief.get(first).text


@EACH
def test_the_cookie_of_an_example(shops: Shops, name: str) -> None:
    """Both set the same cookie: for eight hours, hidden from scripts, and Lax."""
    with client(follow_redirects=False) as visitor:
        answer = visitor.post(f"{getattr(shops, name)[0]}/sign-in", data=ADA)
        (cookie,) = visitor.cookies.jar
    attributes = {each.lower() for each in answer.headers["set-cookie"].split("; ")}
    assert {"path=/", "httponly", "samesite=lax"} < attributes
    assert cookie.name == "session"
    assert cookie.expires is not None
    assert 0 < cookie.expires - time.time() - 8 * 60 * 60 + 60 <= 61
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("names", [("fastapi", "fastapi"), ("flask", "flask"), Shops._fields])
def test_a_browser_signs_in_at_one_server_and_is_known_by_the_other(
    shops: Shops, page: Page, names: tuple[str, str]
) -> None:
    """With nothing but the session's database, a real browser's sign-in holds on both servers."""
    first, second = getattr(shops, names[0])[0], getattr(shops, names[1])[1]
    page.go(first)
    page.click("[name=user]")
    page.type("ada")
    page.click("[name=password]")
    page.type("countess")
    page.click("button")
    page.shows("b", "ada")
    page.click("[value=tea]")
    wait_for("the cart", lambda: "Green tea: 1" in (page.text("[action='/cart']") or ""))
    page.go(second)
    assert page.text("b") == "ada"
    assert "Green tea: 1" in (page.text("[action='/cart']") or "")
    page.click("[action='/sign-out'] button")
    wait_for("the form to sign in", lambda: page.text("[name=password]") is not None)
    page.go(first)
    assert page.text("b") is None


@pytest.mark.parametrize("environment", [{}, {"APP_ENV": "production"}])
@EACH
def test_an_example_does_not_start_without_a_secret(name: str, environment: dict[str, str]) -> None:
    """Without a key, and unless it is told that it runs for development, it says what to set."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import app"],
        cwd=EXAMPLES / name,
        env={**clean_environment(), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode != 0
    assert "SHAREDSESSION_SECRET_KEY is not set." in done.stderr
    assert "Traceback" not in done.stderr


@EACH
def test_the_key_of_an_example_can_be_replaced(
    name: str, told_to_stop: None, tmp_path: Path
) -> None:
    """Who signed in under the old key stays signed in where a new one stands before it."""
    launch = commands(EXAMPLES / name / "README.md")[-1], EXAMPLES / name
    environment = {
        "SHAREDSESSION_STORE": f"sqlite:///{tmp_path}/sessions.db",
        "HOME": str(tmp_path),
    }
    with client() as visitor:
        with running(launch, SHAREDSESSION_SECRET_KEY="old", **environment) as (address,):
            visitor.post(f"{address}/sign-in", data=ADA)
        keys = '["new", "old"]'
        with running(launch, SHAREDSESSION_SECRET_KEY=keys, **environment) as (address,):
            assert "Signed in as" in visitor.get(address).text
        with running(launch, SHAREDSESSION_SECRET_KEY="new", **environment) as (address,):
            assert "Signed in as" not in visitor.get(address).text


def test_the_shops_are_the_same() -> None:
    """Their goods, their users, their start and their pages are the same, letter by letter."""
    fastapi, flask = ((EXAMPLES / name / "app.py").read_text() for name in Shops._fields)
    goods = fastapi[fastapi.index("PRODUCTS = ") : fastapi.index("app = ")]
    pages = fastapi[fastapi.index("SIGN_IN = ") :]

    assert goods in flask
    assert pages in flask
