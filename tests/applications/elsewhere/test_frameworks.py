"""The examples of docs/frameworks.md, each in an application behind two servers with one store.

Where the framework has a session of its own, a person is shown the same with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from sharedsession.exceptions import UNAVAILABLE
from tests.applications.elsewhere.page import PAGE, blocks, titles
from tests.applications.elsewhere.running import servers
from tests.applications.sockets import Socket, opened
from tests.support.servers import RedisServer
from tests.support.visitor import HttpServer, Visitor, text_of

ALL = "on_falcon on_bottle on_aiohttp on_a2wsgi"


class Site(NamedTuple):
    """A browser before an application, and what can be asked of it."""

    application: str
    whose: str
    browser: Visitor
    theirs: Visitor | None
    store: RedisServer


# The application, which of its kinds, and whether its framework has a session of its own.
SITES = [
    ("on_pyramid", "ours", True),
    ("on_aiohttp", "ours", False),
    ("on_falcon", "ours", False),
    ("on_falcon", "asgi", False),
    ("on_bottle", "ours", False),
    ("on_connexion", "ours", True),
    ("on_connexion", "async", False),
    ("on_dash", "ours", True),
    ("on_gradio", "ours", True),
    ("on_socketio", "ours", False),
    ("on_sanic", "ours", False),
    ("on_a2wsgi", "wsgi", False),
    ("on_a2wsgi", "asgi", False),
    ("on_mangum", "ours", True),
    ("on_mangum", "ours 1.0", False),
]
# Examples that other tests run.
IN_PROCESS = ["Flask-AppBuilder", "Flask-SocketIO"]
OWN = ["FastHTML", "NiceGUI"]


@pytest.fixture(scope="module", params=SITES, ids=lambda site: f"{site[0][3:]}, {site[1]}")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    application, whose, has_own = request.param
    with ExitStack() as stack:
        store = stack.enter_context(RedisServer())

        def browser(whose: str, copies: int) -> Visitor:
            folder: Path = tmp_path_factory.mktemp(application)
            made = stack.enter_context(
                servers(
                    "applications", application, whose, folder, copies, store.url, outages=True
                )
            )
            return stack.enter_context(Visitor(*made))

        theirs = browser("theirs", 1) if has_own else None
        yield Site(application, whose, browser(whose, 2), theirs, store)


def visit(browser: Visitor, application: str) -> str:
    """Visit the page that the example shows."""
    if application != "on_dash":
        return browser.show("/visits").strip()
    asked = {
        "output": "visits.children",
        "outputs": {"id": "visits", "property": "children"},
        "inputs": [{"id": "again", "property": "n_clicks", "value": 1}],
        "changedPropIds": ["again.n_clicks"],
    }
    answer = browser.post("/_dash-update-component", json=asked)
    return answer.json()["response"]["visits"]["children"]


def shop(browser: Visitor, application: str) -> None:
    assert visit(browser, application) == "Visit 1"
    browser.hold("before")
    assert visit(browser, application) == "Visit 2"
    assert browser.show("/me") == "None, 2 visits."
    assert browser.show("/sign-in/ada") == "in: ada"
    browser.hold("signed in")
    assert browser.show("/me") == "ada, 2 visits. Hello, ada."
    assert browser.show("/me") == "ada, 2 visits."
    assert visit(browser, application) == "Visit 3"
    assert browser.show("/sign-out") == "out"
    assert browser.show("/me") == "None, 3 visits. Goodbye."
    assert browser.show("/me") == "None, 3 visits."


def test_sign_in_flash_message_and_sign_out_at_two_servers(site: Site) -> None:
    """What a person is shown is as with the framework's own session, where it has one."""
    with site.browser.another() as browser:
        shop(browser, site.application)
        shown = browser.shown
    if site.theirs is not None:
        shop(site.theirs, site.application)
        assert site.theirs.shown == shown


def test_a_cookie_from_before_the_sign_in_signs_in_no_one(site: Site) -> None:
    """Nor does one from before the sign-out, afterwards."""
    with site.browser.another() as browser:
        visit(browser, site.application)
        browser.hold("before")
        browser.get("/sign-in/ada")
        browser.hold("signed in")
        assert browser.id_at("before") != browser.id_at("signed in")
        with browser.thief("before") as thief:
            assert thief.show("/me").startswith("None")
        with browser.thief("signed in") as thief:
            assert thief.show("/me").startswith("ada")
            browser.get("/sign-out")
            assert thief.show("/me").startswith("None")


def test_an_outage_of_the_store_is_a_503_at_every_server(site: Site) -> None:
    """With a time to try again, without a traceback and a cookie; then all goes on."""
    with site.browser.another() as browser:
        browser.get("/sign-in/ada")
        site.store.kill()
        try:
            answers = [browser.get("/me") for _ in range(2)]
            with browser.another() as other:
                answers += [other.get("/sign-in/bob") for _ in range(2)]
        finally:
            site.store.restart()
        for answer in answers:
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
            assert answer.headers["cache-control"] == "no-store"
            assert "set-cookie" not in answer.headers
            assert UNAVAILABLE in text_of(answer)


@pytest.mark.parametrize("title", titles())
def test_every_section_has_examples_that_are_run(title: str) -> None:
    """Each is that of an application, and none is longer than a page of it should be."""
    applications = Path(__file__).parent.glob("on_*.py")
    used = "".join(each.read_text() for each in applications)
    if title not in (*IN_PROCESS, *OWN):
        assert f'example("{title}"' in used
    longest = 75 if title == "Pyramid" else 50
    for block in blocks(title):
        assert len(block.strip().splitlines()) <= longest


def test_the_page_is_short() -> None:
    assert len(PAGE.read_text().split()) <= 1900


def test_the_table_of_the_page_names_every_section() -> None:
    named = re.findall(r"^\| \[([^\]]+)\]\(#", PAGE.read_text(), re.MULTILINE)
    assert named == titles()
