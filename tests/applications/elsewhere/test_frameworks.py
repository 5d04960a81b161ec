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
import socketio
from websockets.sync.client import connect

from sharedsession.exceptions import UNAVAILABLE
from tests.applications.elsewhere.page import PAGE, blocks, titles
from tests.applications.elsewhere.running import servers
from tests.support.processes import LIMIT, ROOT, wait_until
from tests.support.servers import RedisServer
from tests.support.visitor import HttpServer, Visitor, text_of


class Site(NamedTuple):
    """A browser before an application, and what can be asked of it."""

    application: str
    whose: str
    browser: Visitor
    theirs: Visitor | None
    store: RedisServer


# The application, which of its kinds, and whether its framework has a session of its own.
PYRAMID = ("on_pyramid", "ours", True)
AIOHTTP = ("on_aiohttp", "ours", False)
GRADIO = ("on_gradio", "ours", True)
SOCKETIO = ("on_socketio", "ours", False)
SITES = [
    PYRAMID,
    AIOHTTP,
    ("on_falcon", "ours", False),
    ("on_falcon", "asgi", False),
    ("on_bottle", "ours", False),
    ("on_connexion", "ours", True),
    ("on_connexion", "async", False),
    ("on_dash", "ours", True),
    GRADIO,
    SOCKETIO,
    ("on_sanic", "ours", False),
    ("on_a2wsgi", "wsgi", False),
    ("on_a2wsgi", "asgi", False),
    ("on_mangum", "ours", True),
    ("on_mangum", "ours 1.0", False),
]
# Examples that stand for what other tests show of these frameworks: here they run as they are.
AS_THEY_ARE = ["FastHTML", "NiceGUI"]
LONGEST = {"Pyramid": 85, "aiohttp": 60}  # lines of an example
IN_PROCESS = ["Flask-AppBuilder", "Flask-SocketIO"]  # tests/applications/test_examples.py


@pytest.fixture(scope="module", params=SITES, ids=lambda site: f"{site[0][3:]}, {site[1]}")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    application, whose, has_own = request.param
    with ExitStack() as stack:
        store = stack.enter_context(RedisServer())

        def browser(whose: str, copies: int) -> Visitor:
            folder: Path = tmp_path_factory.mktemp(application)
            made = stack.enter_context(
                servers("applications", application, whose, folder, copies, store.url, outages=True)
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
            if (site.application, site.whose) != ("on_connexion", "ours"):  # as the page says
                assert answer.headers["retry-after"]
                assert answer.headers["cache-control"] == "no-store"
            assert "set-cookie" not in answer.headers
            assert UNAVAILABLE in text_of(answer)


# --- what is peculiar to some ---------------------------------------------------------------------


def only(*sites: tuple[str, str, bool]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("site", sites, indirect=True, ids=lambda site: site[0][3:])


@only(PYRAMID)
def test_pyramids_interface_of_a_session(site: Site) -> None:
    """Queues of messages, tokens, `new` and `created`; changes inside values are found."""
    with site.browser.another() as browser:
        first = browser.get("/facts").json()
        assert first == {
            "new": True,
            "created": "int",
            "queues": [[], [], []],
            "token": 40,
            "same": True,
            "another": True,
            "inside": None,
        }
        browser.get("/flash")
        browser.get("/flash")
        second = browser.get("/facts").json()
        held = ["once or twice"] * 4
        assert second == {
            **first,
            "new": False,
            "queues": [held, held, []],
            "inside": {"list": [1, 1]},
        }
        assert browser.get("/facts").json()["queues"] == [[], [], []]


@only(PYRAMID)
def test_pyramids_own_token_check_reads_it_from_the_session(site: Site) -> None:
    """A form with the session's token is accepted at each server, and one without at neither."""
    with site.browser.another() as browser:
        token = browser.show("/token")
        for _ in range(2):
            assert browser.post("/form", data={"csrf_token": token}).text == "accepted"
            assert browser.post("/form", data={"csrf_token": "made up"}).status_code == 400


@only(PYRAMID)
def test_an_invalidated_session_of_pyramid_ends_or_goes_on_under_a_new_id(site: Site) -> None:
    """The old cookie is worth nothing; what is put into the session afterwards is there."""
    with site.browser.another() as browser:
        visit(browser, site.application)
        browser.hold("before")
        browser.get("/sign-in/ada?again")
        assert browser.show("/me") == "ada, 0 visits. Hello, ada."
        browser.hold("signed in")
        assert browser.id_at("before") != browser.id_at("signed in")
        assert browser.show("/leaves") == "left"
        assert browser.session_cookie is None
        with browser.thief("signed in") as thief:
            assert thief.show("/me") == "None, 0 visits."


@only(PYRAMID, AIOHTTP)
def test_nothing_of_a_view_that_raises_is_stored(site: Site) -> None:
    """The answer is the framework's, without a cookie."""
    with site.browser.another() as browser:
        failed = browser.get("/fails")
        assert failed.status_code == 500
        assert "set-cookie" not in failed.headers
        visit(browser, site.application)
        browser.get("/fails")
        assert browser.show("/me") == "None, 1 visits."


@only(AIOHTTP)
def test_a_redirect_that_aiohttp_raises_carries_the_session(site: Site) -> None:
    """With the application's own headers, and those of the session."""
    with site.browser.another() as browser:
        answer = browser.get("/redirect/ada", follow_redirects=False)
        assert answer.status_code == 302
        assert answer.headers["x-own"] == "kept"
        assert answer.headers["vary"] == "Cookie"
        assert browser.show("/me") == "ada, 0 visits. Hello, ada."


@only(AIOHTTP)
def test_a_stream_of_aiohttp_is_committed_before_its_first_byte(site: Site) -> None:
    """What its handler changes afterwards is stored at its end."""
    with site.browser.another() as browser:
        answer = browser.get("/stream/ada")
        assert answer.text == "one two"
        assert answer.headers["x-own"] == "kept"
        assert answer.headers.get_list("set-cookie")
        assert browser.show("/me") == "ada, 0 visits. Hello, ada."
        browser.get("/stream/ada")
        assert browser.show("/late") == "stored"


@only(AIOHTTP)
def test_a_stream_of_aiohttp_that_cannot_be_committed_is_a_503(site: Site) -> None:
    """In the stream's place, whole, and the connection goes on."""
    with site.browser.another() as browser:
        browser.show("/me")
        site.store.kill()
        try:
            answers = [browser.get("/stream/ada") for _ in range(4)]
        finally:
            site.store.restart()
        for answer in answers:
            assert answer.status_code == 503
            assert answer.text == f"{UNAVAILABLE}\n"
            assert "set-cookie" not in answer.headers
        assert browser.show("/me") == "None, 0 visits."


@only(AIOHTTP)
def test_an_outage_in_the_middle_of_a_stream_of_aiohttp_breaks_it_off(site: Site) -> None:
    """No second answer is sent into it; the next request is served as ever."""
    with site.browser.another() as browser:
        browser.get("/sign-in/ada")
        assert browser.show("/reads-late") == "for ada"
        site.store.kill()
        try:
            with pytest.raises(httpx2.RemoteProtocolError, match="closed connection"):
                browser.get("/reads-late")
        finally:
            site.store.restart()
        assert [browser.show("/reads-late") for _ in range(2)] == ["for None"] * 2


@only(AIOHTTP)
def test_a_websocket_of_aiohttp_has_the_session_of_its_browser(site: Site) -> None:
    """What its handler changes is stored when it is over."""
    with site.browser.another() as browser:
        browser.get("/sign-in/ada")
        url = address(browser, "ws") + "/socket"
        with connect(url, additional_headers={"Cookie": cookies(browser)}, proxy=None) as socket:
            for _ in range(2):
                socket.send("hello")
                assert socket.recv(LIMIT) == "ada: hello"
        wait_until(lambda: browser.show("/me").startswith("ada, 2 visits."), "it is stored")


@only(GRADIO)
def test_an_event_of_gradio_knows_who_is_signed_in(site: Site) -> None:
    """Its page and its event at one server, the sign-in at another."""
    for whose in (site.theirs, site.browser):
        assert whose is not None
        with whose.another() as browser:
            assert said(browser, "greet") == "Hello, guest."
            browser.get("/sign-in/ada")
            assert [said(browser, "greet") for _ in range(2)] == ["Hello, ada."] * 2


@only(GRADIO)
def test_an_event_of_gradio_cannot_change_the_session(site: Site) -> None:
    """Its request has been answered: ours says so, where Starlette's loses the change."""
    with site.browser.another() as browser:
        browser.get("/sign-in/ada")
        assert said(browser, "buy") == "too late"
        assert browser.show("/me") == "ada, 0 visits. Hello, ada."


@only(GRADIO)
def test_a_page_of_gradio_for_who_is_signed_in(site: Site) -> None:
    """At each server, until the sign-out."""
    with site.browser.another() as browser:
        assert browser.get("/private/").status_code == 401
        browser.get("/sign-in/ada")
        assert [browser.get("/private/").status_code for _ in range(2)] == [200, 200]
        browser.get("/sign-out")
        assert browser.get("/private/").status_code == 401


def said(browser: Visitor, event: str) -> str:
    """Send an event of the page at one server, as a browser does; return what it answers."""
    call = browser.post(f"/page/gradio_api/call/{event}", json={"data": []}).json()
    answer = f"{address(browser)}/page/gradio_api/call/{event}/{call['event_id']}"
    events = httpx2.get(answer, headers={"Cookie": cookies(browser)}, trust_env=False)
    (data,) = re.findall(r"event: complete\ndata: (.*)", events.text)
    return json.loads(data)[0]


@only(SOCKETIO)
def test_a_socket_of_python_socketio_knows_who_is_signed_in(site: Site) -> None:
    """One without a sign-in is refused; both servers know whose the other ones are."""
    with site.browser.another() as browser:
        visit(browser, site.application)
        assert connected(browser) == REFUSED
        browser.get("/sign-in/ada")
        for _ in range(2):
            browser.show("/me")
            assert connected(browser) == "ada"
        browser.get("/sign-out")
        assert connected(browser) == REFUSED


@only(SOCKETIO)
def test_an_outage_refuses_a_socket_of_python_socketio(site: Site) -> None:
    """At once, whether its handshake is a request or a WebSocket; later it is let in."""
    with site.browser.another() as browser:
        browser.get("/sign-in/ada")
        site.store.kill()
        try:
            assert connected(browser, "websocket") == REFUSED
            assert "try again later" in polled(browser)
        finally:
            site.store.restart()
        browser.get("/sign-in/ada")
        assert connected(browser) == "ada"


REFUSED = "One or more namespaces failed to connect: /"


def connected(browser: Visitor, *transports: str) -> str:
    """Connect a client; return what its event answers, or why it has none."""
    client = socketio.SimpleClient()
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("no_proxy", "127.0.0.1")
            headers = {"Cookie": cookies(browser)}
            client.connect(address(browser), headers=headers, transports=[*transports] or None)
        return client.call("whoami")
    except socketio.exceptions.ConnectionError as error:
        return str(error)
    finally:
        client.disconnect()


def polled(browser: Visitor) -> str:
    """Connect by requests alone; return what the server says to that."""
    url = f"{address(browser)}/socket.io/?EIO=4&transport=polling"
    with httpx2.Client(headers={"Cookie": cookies(browser)}, trust_env=False) as client:
        terms = json.loads(client.get(url).text[1:])
        url += f"&sid={terms['sid']}"
        client.post(url, content="40")
        return client.get(url).text


def address(browser: Visitor, scheme: str = "http") -> str:
    """Where the server is that has answered last."""
    server = browser.last_server
    assert isinstance(server, HttpServer)
    return server.address.replace("http", scheme, 1)


def cookies(browser: Visitor) -> str:
    return "; ".join(f"{each.name}={each.value}" for each in browser.cookies.jar)


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", AS_THEY_ARE)
def test_an_example_runs_as_it_is(title: str, tmp_path: Path) -> None:
    """At two servers, whose visitor is counted as one."""
    with (
        servers("applications", "on_page", title, tmp_path, 2) as made,
        Visitor(*made) as browser,
    ):
        for number in (1, 2, 3):
            assert f"Visit {number}" in browser.get("/visits").text
    assert not (ROOT / ".sesskey").exists()  # which FastHTML makes up


@pytest.mark.parametrize("title", titles())
def test_every_section_has_examples_that_are_run(title: str) -> None:
    """Each is that of an application, and none is longer than a page of it should be."""
    applications = Path(__file__).parent.glob("on_*.py")
    used = "".join(each.read_text() for each in applications)
    if title not in (*IN_PROCESS, *AS_THEY_ARE):
        assert f'example("{title}"' in used
    longest = LONGEST.get(title, 30)
    for block in blocks(title):
        assert len(block.strip().splitlines()) <= longest


def test_the_page_is_short() -> None:
    """As long as its fifteen frameworks need."""
    assert len(PAGE.read_text().split()) <= 1900


def test_the_table_of_the_page_names_every_section() -> None:
    """In their order, none twice."""
    named = re.findall(r"^\| \[([^\]]+)\]\(#", PAGE.read_text(), re.MULTILINE)
    assert named == titles()
