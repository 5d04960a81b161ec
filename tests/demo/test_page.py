"""The demo's page in a real browser, by clicks and keys; and without its script, by forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.demo.browser import Page, wait_for
from tests.demo.demos import Demo


def test_a_user_stays_signed_in_when_the_server_that_answered_is_killed(
    demo: Demo, page: Page
) -> None:
    """Sign in, fill the cart, kill the server, reload, start it again, sign out: all by clicks."""
    page.go(demo.address + "/")
    page.shows("#visits", "1")
    page.click("#name")
    page.type("Ada")
    page.click("#sign-in")
    page.shows("#user", "Ada")
    page.click("#add-tea")
    page.shows("#quantity-tea", "1")
    page.click("#add-tea")
    page.shows("#quantity-tea", "2")
    page.click("#remove-tea")
    page.shows("#quantity-tea", "1")

    answered = page.text("#answer-title")
    page.click(f"#change-{answered}")
    page.shows(f"#change-{answered}", "Start")
    assert not demo.lanes()[str(answered)]["running"]
    others = set(demo.lanes()) - {answered}
    for _ in range(3):
        page.reload()
        assert page.text("#answer-title") in others
        assert page.text("#user") == "Ada"
        assert page.text("#quantity-tea") == "1"
        assert page.run("document.getElementById('lost').hidden")

    page.click(f"#change-{answered}")
    page.shows(f"#change-{answered}", "Kill")
    wait_for("it to answer again", lambda: page.reload() or page.text("#answer-title") == answered)
    assert page.text("#user") == "Ada"

    page.click("#sign-out")
    wait_for("the form to sign in", lambda: page.text("#user") is None and page.text("#sign-in"))
    assert page.text("#quantity-tea") == "0"
    assert page.text("#visits") == "1"


def test_ten_requests_at_once_are_all_counted(demo: Demo, page: Page) -> None:
    """Ten page loads at the same time, on all servers, are ten visits."""
    page.go(demo.address + "/")
    before = int(page.text("#visits") or 0)
    page.click("#ten")
    page.shows("#visits", str(before + 11))
    news = wait_for("the report", lambda: page.text("#news"))

    assert set(re.findall(r"server-\d", news)) == {"server-1", "server-2", "server-3"}


def test_the_page_works_by_keyboard(demo: Demo, page: Page) -> None:
    """Tab and Enter reach and press everything, and the focus stays where it was."""
    page.go(demo.address + "/")
    page.shows("#change-server-1", "Kill")
    reached = []
    for _ in range(12):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id"))
    assert reached[:7] == [
        "again",
        "ten",
        *(f"change-server-{n}" for n in (1, 2, 3)),
        "name",
        "sign-in",
    ]
    assert "add-plant" in reached

    page.run("document.getElementById('name').focus()")
    page.type("Grace")
    page.press("Enter")
    page.shows("#user", "Grace")
    page.run("document.getElementById('add-lamp').focus()")
    page.press("Enter")
    page.shows("#quantity-lamp", "1")
    assert page.run("document.activeElement.id") == "add-lamp"


def test_local_sessions_are_told_to_be_lost(start_demo: Callable[..., Demo], page: Page) -> None:
    """With each server's own memory the page says that the session was not found."""
    demo = start_demo("--sessions", "local", "--servers", "2")
    page.go(demo.address + "/")
    page.click("#again")

    wait_for("the warning", lambda: not page.run("document.getElementById('lost').hidden"))
    assert page.text("#visits") == "1"


@pytest.mark.parametrize("path", ["/", "/_demo/servers"])
def test_a_page_asks_nobody_else_and_is_framed_by_nobody(demo: Demo, path: str) -> None:
    """A page loads nothing but itself: no other address, and a policy that says so."""
    with demo.client() as client:
        answer = client.get(path)

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    addresses = re.findall(r"(?:https?:)?//[\w.]+", answer.text)
    assert set(addresses) <= {"http://www.w3.org"}  # the name of SVG, which is no address
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?!data:)", answer.text)


def test_it_works_as_plain_forms(demo: Demo) -> None:
    """Without JavaScript every button is a form, and the servers have a page of their own."""
    with demo.client(follow_redirects=True) as client:
        client.get("/")
        client.post("/sign-in", data={"name": "<b>Ada</b>"})
        client.post("/cart/tea/add")
        page = client.get("/").text
        panel = client.get("/_demo/servers").text

        assert '<b id="user">&lt;b&gt;Ada&lt;/b&gt;</b>' in page
        assert '<output id="quantity-tea">1</output>' in page
        assert '<noscript><a href="/_demo/servers">' in page
        assert panel.count('action="/_demo/servers/') == 3
        assert 'id="sign-in"' in client.post("/sign-out").text


def test_signing_in_gives_the_session_a_new_id(demo: Demo) -> None:
    """The cookie from before the sign-in is worthless afterwards, whoever kept a copy."""
    with demo.client() as client, demo.client() as thief:
        client.get("/")
        thief.cookies.update(client.cookies)
        client.post("/sign-in", data={"name": "Ada"})

        assert client.get("/api/session").json()["user_id"] == "Ada"
        assert thief.get("/api/session").json() == {}


def test_pictures_of_the_page(demo: Demo, page: Page, tmp_path: Path) -> None:
    """On a desktop, a phone and in the dark nothing sticks out of the screen."""
    page.go(demo.address + "/")
    page.shows("#change-server-1", "Kill")
    for name, width, dark in (
        ("desktop", 1200, False),
        ("phone", 360, False),
        ("dark", 1200, True),
    ):
        page.picture(tmp_path / f"{name}.png", width=width, height=800, dark=dark)
        assert page.run("document.documentElement.scrollWidth") <= width
        dark_ground = (
            page.run("getComputedStyle(document.body).backgroundColor") == "rgb(22, 21, 19)"
        )
        assert dark_ground == dark
