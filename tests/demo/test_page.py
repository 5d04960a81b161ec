"""The demo in a real browser, by clicks and keys; and without its script, by forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sharedsession.demo.command import address_of, balanced, listening
from sharedsession.demo.servers import Server
from tests.demo.demos import Demo
from tests.support.chromium import Page, Part, wait_for

ABOUT = "GET /about \N{EN DASH} not used"


def opened(page: Page, demo: Demo, width: int = 1280, height: int = 800) -> tuple[Part, Part]:
    """Open the console, and return its two tabs once they show the shop."""
    page.resize(width, height)
    page.go(demo.address + "/")
    tabs = page.frame("tab-1"), page.frame("tab-2")
    for tab in tabs:
        wait_for("the shop in both tabs", lambda tab=tab: tab.text("#visits"))
    wait_for("both tabs to show both visits", lambda: seen(tabs, "#visits") == {"2 visits"})
    return tabs


def seen(tabs: tuple[Part, Part], selector: str) -> set[str | None]:
    """What the tabs show: one thing, when they are in step."""
    return {tab.text(selector) for tab in tabs}


def in_step(tabs: tuple[Part, Part], selector: str, text: str) -> None:
    """Wait until both tabs show this text."""
    wait_for(f"{selector} to be {text!r} in both", lambda: seen(tabs, selector) == {text})


def requests(page: Page, lane: str = "") -> list[str]:
    """The requests in one lane or all, as a person reads them, without their times."""
    found = page.run(
        f"[...doc.querySelectorAll('#lanes {lane} .requests li')]"
        ".map(line => line.innerText.replace(/\\s+/g, ' ').replace(/ \\d+ ms$/, ''))"
    )
    return [str(line) for line in found]


def test_lanes_fill_while_requests_are_answered(demo: Demo, page: Page) -> None:
    """Each request is in its server's lane as it is answered, and still there after a reload."""
    opened(page, demo)
    assert "GET /shop + new" in requests(page)
    assert "GET /shop ✓ found" in requests(page)
    before = int(page.text("#total") or 0)

    with demo.client() as client:
        answered = [client.get("/about").headers["x-demo-server"] for _ in range(3)]
    page.shows("#total", str(before + 3))
    for server in answered:
        assert requests(page, f"#lane-{server}")[0] == ABOUT
    assert page.text("#news") == ""  # who listens is not told of every request

    page.reload()
    assert ABOUT in requests(page)


def test_a_user_stays_signed_in_while_servers_are_killed_and_started(
    demo: Demo, page: Page
) -> None:
    """Sign in, fill the cart, kill a server, go on, start it, sign out: in two tabs, by clicks."""
    tabs = one, two = opened(page, demo)
    one.click("#name")
    page.type("Ada")
    one.click("#sign-in")
    in_step(tabs, "#user", "Ada")
    two.click("#add-lamp")
    in_step(tabs, "#quantity-lamp", "1")

    watch_states(page, "server-2")
    page.click("#change-server-2")
    page.shows("#lane-server-2 .state", "killed")
    page.shows("#news", "server-2 is killed.")
    assert page.run("getComputedStyle(doc.getElementById('lane-server-2')).borderStyle") == "dashed"
    for quantity in "234":
        one.click("#add-lamp")
        in_step(tabs, "#quantity-lamp", quantity)
    assert seen(tabs, "#user") == {"Ada"}

    page.click("#change-server-2")
    page.shows("#lane-server-2 .state", "running")
    assert page.run("states") == ["killed", "starting", "running"]
    in_lane = wait_for("it to answer again", lambda: answers_again(page, two, "server-2"))
    assert "✗" not in in_lane

    two.click("#sign-out")
    wait_for("the form in both tabs", lambda: all(tab.text("#sign-in") for tab in tabs))
    in_step(tabs, "#quantity-lamp", "0")


def watch_states(page: Page, server: str) -> None:
    """Let the page note each state that a lane shows, however short."""
    page.run(
        f"""(() => {{
            window.states = [];
            const lane = doc.getElementById("lane-{server}");
            new MutationObserver(() => {{
                const state = lane.querySelector(".state").innerText;
                if (states.at(-1) !== state && (states.length || state !== "running"))
                    states.push(state);
            }}).observe(lane, {{childList: true, subtree: true}});
        }})()"""
    )


def answers_again(page: Page, tab: Part, server: str) -> str | None:
    """Ask once more, and return the newest request in the server's lane once there is a new one."""
    before = page.text(f"#lane-{server} .answered")
    quantity = int(tab.text("#quantity-tea") or 0)
    tab.click("#add-tea")
    tab.shows("#quantity-tea", str(quantity + 1))
    return (
        requests(page, f"#lane-{server}")[0]
        if page.text(f"#lane-{server} .answered") != before
        else None
    )


def test_clicks_in_two_tabs_at_once_are_both_kept(demo: Demo, page: Page) -> None:
    """One button clicks in both tabs at the same moment; another adds ten: all are counted."""
    tabs = opened(page, demo)
    for before in (0, 2, 4):
        page.click("#both")
        page.shows("#news", f"Tea: {before} + 2 = {before + 2}. Nothing was lost.")
        in_step(tabs, "#quantity-tea", str(before + 2))
    page.click("#ten")
    page.shows("#news", "Tea: 6 + 10 = 16. Nothing was lost.")
    in_step(tabs, "#quantity-tea", "16")
    assert page.text("#missed") == "0"


def test_one_session_crosses_both_frameworks(demo: Demo, page: Page) -> None:
    """FastAPI and Flask answer in turn, say so, and show the same session."""
    one, _ = opened(page, demo)
    met = set()

    turns = count()

    def all_met() -> bool:
        one.click("#add-plant")
        met.add((one.text("#framework"), one.text("#handle")))
        with (
            demo.client() as other
        ):  # or each click might take as many requests as there are servers
            for _ in range(next(turns) % 3):
                other.get("/about")
        return len({framework for framework, _ in met}) == 2

    one.shows("#handle", wait_for("its name", lambda: one.text("#handle")) or "")
    wait_for("both frameworks to answer", all_met)
    assert len({handle for _, handle in met}) == 1
    names = [page.text(f"#lane-server-{n} small") for n in (1, 2, 3)]
    assert names == ["FastAPI", "Flask", "FastAPI"]


def test_local_sessions_are_not_found(local_demo: Demo, page: Page) -> None:
    """With each server's own memory, lanes, total, page and status say what is lost."""
    page.resize(1280, 800)
    page.go(local_demo.address + "/")
    one = page.frame("tab-1")
    wait_for("a miss", lambda: "GET /shop ✗ NOT FOUND" in requests(page))
    page.click("#both")
    wait_for("the verdict", lambda: "It should be 2" in (page.text("#news") or ""))

    assert int(page.text("#missed") or 0) > 2
    wait_for("the page to say so", lambda: one.click("#add-lamp") or one.text("#lost"))


def test_everything_is_reached_and_pressed_by_keyboard(demo: Demo, page: Page) -> None:
    """Tab goes through all in reading order, into both tabs and out again; Enter presses."""
    opened(page, demo)
    reached = []
    for _ in range(30):
        page.press("Tab")
        reached.append(page.run(FOCUSED))
    order = ["compare", *(f"change-server-{n}" for n in (1, 2, 3)), "both", "ten"]
    shop = ["name", "sign-in", "add-tea", "add-lamp", "add-plant", "away"]
    assert reached[: len(order)] == order
    rest = [each for each in reached[len(order) :] if each in (*shop, "change-server-1")]
    assert rest[:13] == [*shop, *shop, "change-server-1"]

    page.run("doc.getElementById('change-server-1').focus()")
    page.press("Enter")
    page.shows("#lane-server-1 .state", "killed")
    assert page.run(FOCUSED) == "change-server-1"
    page.press("Enter")
    page.shows("#lane-server-1 .state", "running")
    assert page.run(FOCUSED) == "change-server-1"
    assert page.run("getComputedStyle(doc.activeElement).outlineStyle") == "solid"

    tab = page.frame("tab-2")
    tab.run("doc.getElementById('name').focus()")
    page.type("Grace")
    page.press("Enter")
    tab.shows("#user", "Grace")
    tab.run("doc.getElementById('add-lamp').focus()")
    page.press("Enter")
    tab.shows("#quantity-lamp", "1")
    assert page.run(FOCUSED) == "add-lamp"


FOCUSED = """(() => {
    const outer = doc.activeElement;
    const inner = outer.contentDocument?.activeElement ?? outer;
    return inner.id || inner.parentElement?.className;
})()"""

OVERFLOWS = "doc.documentElement.scrollWidth > doc.documentElement.clientWidth"


def test_nothing_sticks_out_of_a_phone(demo: Demo, page: Page) -> None:
    """At 360 pixels neither the console nor the shop scrolls sideways, and a tap still works."""
    tabs = opened(page, demo, width=360, height=740)
    for part in (page, *tabs):
        assert part.run("doc.defaultView.innerWidth") <= 360
        assert not part.run(OVERFLOWS)
    page.click("#both")
    in_step(tabs, "#quantity-tea", "2")


@pytest.mark.parametrize(("width", "height", "size"), [(1280, 800, 16), (1920, 1080, 21)])
def test_it_all_fits_on_one_screen(
    local_demo: Demo, page: Page, width: int, height: int, size: int
) -> None:
    """On a laptop and on a projector nothing needs to be scrolled, warnings included."""
    page.resize(width, height)
    page.go(local_demo.address + "/")
    tabs = page.frame("tab-1"), page.frame("tab-2")
    wait_for("a warning", lambda: any(tab.text("#lost") for tab in tabs))

    for part in (page, *tabs):
        assert part.run("doc.documentElement.scrollHeight <= doc.defaultView.innerHeight")
        assert part.run("parseFloat(getComputedStyle(doc.body).fontSize)") > size


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(local_demo: Demo, page: Page, scheme: str) -> None:
    """Each text stands out from its ground by 4.5 to 1 (WCAG AA), with losses and a killed lane."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=features)
    page.go(local_demo.address + "/")
    tabs = page.frame("tab-1"), page.frame("tab-2")
    wait_for("the shop", lambda: all(tab.text("#visits") for tab in tabs))
    with local_demo.client() as client:
        client.post("/_demo/servers/server-2/kill")
        page.shows("#lane-server-2 .state", "killed")
        found = [each for part in (page, *tabs) for each in part.run(CONTRASTS)]
        client.post("/_demo/servers/server-2/start")

    grounds = {each["ground"] for each in found}
    assert (max(map(max, (each["rgb"] for each in found if each["text"] == "Servers"))) > 128) == (
        scheme == "dark"
    )
    assert len(grounds) > 2
    assert len(found) > 40
    assert [each for each in found if each["ratio"] < 4.5] == []


CONTRASTS = """(() => {
    const canvas = Object.assign(doc.createElement("canvas"), {width: 1, height: 1});
    const pen = canvas.getContext("2d", {willReadFrequently: true});
    const rgb = (color) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = color;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const light = (color) => {
        const [r, g, b] = rgb(color).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const grounds = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const style = getComputedStyle(at);
            if (style.backgroundImage !== "none")  // stripes: the worst of them counts
                return style.backgroundImage.match(/rgba?\\([^)]*\\)|color\\([^)]*\\)/g);
            if (rgb(style.backgroundColor)[3] === 255) return [style.backgroundColor];
        }
    };
    const found = [];
    const walker = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const text = walker.currentNode.data.trim();
        if (!text || !element.checkVisibility() || element.disabled
            || element.closest("script, noscript, .unseen")) continue;
        const color = getComputedStyle(element).color;
        for (const ground of grounds(element)) {
            const [low, high] = [light(color), light(ground)].sort((a, b) => a - b);
            found.push({text, ground, rgb: rgb(color).slice(0, 3),
                        ratio: (high + 0.05) / (low + 0.05)});
        }
    }
    return found;
})()"""


@pytest.mark.parametrize(("wish", "animated"), [("reduce", False), ("no-preference", True)])
def test_nothing_moves_for_who_wants_it_still(
    demo: Demo, page: Page, wish: str, animated: bool
) -> None:
    """A new request is animated, unless the reader has asked for less motion."""
    features = [{"name": "prefers-reduced-motion", "value": wish}]
    page.call("Emulation.setEmulatedMedia", features=features)
    opened(page, demo)
    name = page.run("getComputedStyle(doc.querySelector('.requests li')).animationName")

    assert (name != "none") == animated


def test_a_screen_reader_finds_its_way(demo: Demo, page: Page) -> None:
    """Landmarks, headings, lists, frames and buttons have their roles and names of their own."""
    opened(page, demo)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = [(role_of(node), name_of(node)) for node in nodes if not node.get("ignored")]
    roles = [role for role, _ in named]

    assert {"banner", "main", "status"} <= set(roles)
    assert [name for role, name in named if role == "region"] == [
        "Servers",
        "Two tabs of one browser",
    ]
    headings = [name for role, name in named if role == "heading"]
    assert headings[:2] == ["One session, 3 servers", "Servers"]
    assert {"server-1 FastAPI", "server-2 Flask", "Tab 1", "Tab 2"} <= set(headings)
    assert ("list", "Requests at server-2, newest first") in named
    assert sorted(name for role, name in named if role == "button") == [
        "Add tea in both tabs at once",
        "Add ten at once",
        *(f"Kill server-{n}" for n in (1, 2, 3)),
    ]
    assert [name for role, name in named if role == "Iframe"] == [
        "Tab 1, the shop",
        "Tab 2, the shop",
    ]


def role_of(node: dict[str, Any]) -> str:
    return str(node.get("role", {}).get("value"))


def name_of(node: dict[str, Any]) -> str:
    return str(node.get("name", {}).get("value", "")).strip()


def test_lanes_go_on_when_the_balancer_was_restarted(page: Page) -> None:
    """A page that is open says that it waits, comes back by itself, and is live again."""
    server = SimpleNamespace(name="server-1", framework="flask", port=None, state="killed")
    servers = cast(Sequence[Server], [server])
    with listening(0) as listener, balanced(servers, listener):
        page.go(address_of(listener) + "/")
        page.shows("#live", "Live.")
        port = listener.getsockname()[1]
    page.shows("#live", "Waiting for the balancer.")
    with listening(port) as listener, balanced(servers, listener):
        page.shows("#live", "Live.")
        server.state = "running"
        page.shows("#lane-server-1 .state", "running")


def test_without_any_server_the_page_says_so(page: Page) -> None:
    """The console is there without servers; its buttons fail with a sentence, not as a loss."""
    server = SimpleNamespace(name="server-1", framework="flask", port=None, state="killed")
    with listening(0) as listener, balanced(cast(Sequence[Server], [server]), listener):
        page.go(address_of(listener) + "/")
        page.frame("tab-2").shows("h1", "No server answers")
        for button in ("#both", "#ten"):
            page.run("doc.getElementById('news').textContent = ''")
            page.click(button)
            page.shows("#news", "No server answers.")


def test_it_works_without_javascript(demo: Demo, page: Page) -> None:
    """Lanes stand still and tabs do not follow, but every form does what its button says."""
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.go(demo.address + "/")
    frames = page.run("[...doc.querySelectorAll('iframe[src]')].map(frame => frame.title)")
    assert frames == ["Tab 1, the shop", "Tab 2, the shop"]
    tab = Part(page, "document.querySelectorAll('iframe[src]')[0]?.contentDocument")
    wait_for("the shop", lambda: tab.text("#visits"))
    tab.click("#add-tea")
    tab.shows("#quantity-tea", "1")
    assert page.text("#both") is None or not page.run("doc.getElementById('both').offsetParent")

    page.click("#change-server-3")
    page.shows("#lane-server-3 .state", "killed")
    page.click("#change-server-3")
    page.shows("#lane-server-3 .state", "running")


def test_names_are_text_wherever_they_are_shown(demo: Demo) -> None:
    """What a user types is shown as it was typed."""
    with demo.client(follow_redirects=True) as client:
        client.post("/sign-in", data={"name": "<b>Ada</b>"})

        assert '<b id="user">&lt;b&gt;Ada&lt;/b&gt;</b>' in client.get("/cart").text


@pytest.mark.parametrize(
    ("path", "framed"), [("/", "'none'"), ("/shop", "'self'"), ("/about", "'self'")]
)
def test_a_page_asks_nobody_else(demo: Demo, path: str, framed: str) -> None:
    """A page loads nothing but itself: no other address, and a policy that says so."""
    with demo.client() as client:
        answer = client.get(path)

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert f"frame-ancestors {framed}" in policy
    assert "unsafe" not in policy
    addresses = re.findall(r"(?:https?:)?//[\w.]+", answer.text)
    assert set(addresses) <= {"http://www.w3.org"}  # the name of SVG, which is no address
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?!data:)", answer.text)
    assert not re.findall(r"<[^>]+ (?:style|on\w+)=", answer.text.partition("<script>")[0])


def test_signing_in_gives_the_session_a_new_id(demo: Demo) -> None:
    """The cookie from before the sign-in is worthless afterwards, whoever kept a copy."""
    with demo.client() as client, demo.client() as thief:
        client.get("/shop")
        thief.cookies.update(client.cookies)
        client.post("/sign-in", data={"name": "Ada"})

        assert client.get("/api/session").json()["user_id"] == "Ada"
        assert thief.get("/api/session").json() == {}
