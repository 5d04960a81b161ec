"""Every answer side by side: one click, the same request to each, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from sharedsession.demo.balancer import TIMEOUT
from sharedsession.demo.strategies import STRATEGIES
from tests.demo.demos import Demo, running_demo
from tests.demo.test_page import CONTRASTS, FOCUSED, OVERFLOWS, name_of, role_of
from tests.support.chromium import Page, wait_for

NAMES = list(STRATEGIES)
IN_A_STORE = [name for name, strategy in STRATEGIES.items() if strategy.is_shared]
Answers = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def demo(told_to_stop: None) -> Iterator[Demo]:
    """A demo of these tests alone: they count on its sums, and break what it has started."""
    with running_demo() as running:
        yield running


def everywhere(client: httpx.Client, action: str) -> Answers:
    """Do it, and return the answers of each strategy."""
    answer = client.post(f"/_demo/everywhere/{action}")
    assert answer.status_code == 200, answer.text
    found: Answers = {name: [] for name in NAMES}
    for each in answer.json()["answers"]:
        found[each["strategy"]].append(each)
    return found


@contextmanager
def broken(client: httpx.Client, process: str, verb: str) -> Iterator[None]:
    """Kill or pause a process, and start it again."""
    assert client.post(f"/_demo/servers/{process}/{verb}").status_code == 303
    try:
        yield
    finally:
        assert client.post(f"/_demo/servers/{process}/start").status_code == 303


# --- the requests ---------------------------------------------------------------------------------


def test_one_request_is_asked_of_every_strategy(demo: Demo) -> None:
    """Each answer says which server gave it, how the session was met, who had it, and when."""
    with demo.client() as client:
        first = everywhere(client, "sign-in")
        then = everywhere(client, "read")

    assert list(first) == NAMES
    for name in NAMES:
        (new,), (read,) = first[name], then[name]
        assert (new["status"], new["met"], new["read"], new["count"]) == (303, "new", "", None)
        assert read["status"] == 200
        assert read["server"] in ("server-1", "server-2", "server-3")
        assert read["took"] > 0
        assert read["met"] == ("lost" if name == "local" else "found")
        assert read["read"] == ("store" if name in IN_A_STORE else "memory")


def test_each_strategy_has_a_session_of_its_own(demo: Demo) -> None:
    """One browser holds a cookie for each; what is counted in one shows in no other."""
    with demo.client() as client:
        everywhere(client, "sign-in")
        cookies = dict(client.cookies)
        client.post("/in/clustered/api/count")
        counts = {name: answers[0]["count"] for name, answers in everywhere(client, "read").items()}

    assert len(cookies) == len(NAMES)
    assert all(any(name.endswith(f"_{each}") for name in cookies) for each in NAMES)
    assert counts == {name: int(name == "clustered") for name in NAMES}


def test_two_tabs_lose_nothing_in_a_store(demo: Demo) -> None:
    """Two writes at once, again and again, are all there where sessions are in a store."""
    with demo.client() as client:
        everywhere(client, "sign-in")
        for _ in range(5):
            assert all(len(answers) == 2 for answers in everywhere(client, "two").values())
        found = everywhere(client, "read")

    assert {name: found[name][0]["count"] for name in IN_A_STORE} == dict.fromkeys(IN_A_STORE, 10)


def test_a_client_stays_with_its_server_where_it_is_sticky(demo: Demo) -> None:
    """By the table or by the field: one server for all requests; the others take turns."""
    with demo.client() as client:
        everywhere(client, "sign-in")
        rounds = [everywhere(client, "read") for _ in range(6)]

    met = {name: {each[name][0]["server"] for each in rounds} for name in NAMES}
    assert {name: len(servers) for name, servers in met.items()} == {
        name: 1 if STRATEGIES[name].is_sticky else 3 for name in NAMES
    }


def test_a_killed_server_takes_along_what_is_in_its_memory_alone(demo: Demo) -> None:
    """Its sticky clients are signed out where sessions are in memory, and nobody elsewhere."""
    with demo.client() as client:
        everywhere(client, "sign-in")
        at = everywhere(client, "read")["sticky"][0]["server"]
        with broken(client, at, "kill"):
            found = everywhere(client, "read")

    assert found["sticky"][0]["met"] == "lost"
    assert {name: found[name][0]["met"] for name in IN_A_STORE} == dict.fromkeys(
        IN_A_STORE, "found"
    )


def test_copies_answer_after_a_while_and_while_the_store_is_paused(demo: Demo) -> None:
    """Where servers have copies a read asks no store; without copies it needs the store."""
    with demo.client() as client:
        everywhere(client, "sign-in")

        def answered_by_a_copy() -> bool:
            return everywhere(client, "read")["sticky-shared"][0]["read"] == "copy"

        wait_for("a copy to answer", answered_by_a_copy)
        with broken(client, "store", "pause"):
            found = everywhere(client, "read")
            assert (found["sticky-shared"][0]["status"], found["shared"][0]["status"]) == (200, 503)
        assert everywhere(client, "read")["shared"][0]["met"] == "found"


def test_a_paused_server_is_passed_over_by_those_who_read(demo: Demo) -> None:
    """A read that is not answered in time is asked of another server, which finds the session."""
    with demo.client() as client:
        everywhere(client, "sign-in")
        with broken(client, "server-1", "pause"):
            assert demo.lanes()["server-1"]["running"] is False
            for _ in range(3):
                found = everywhere(client, "read")
                assert {found[name][0]["met"] for name in IN_A_STORE} == {"found"}
                assert found["shared"][0]["server"] != "server-1"


def test_a_killed_store_comes_back_with_all_sessions(demo: Demo) -> None:
    """While it is away those who need it get a 503; nobody is signed out by that."""
    with demo.client() as client:
        everywhere(client, "sign-in")
        with broken(client, "store", "kill"):
            assert everywhere(client, "write")["shared"][0]["status"] == 503
        assert {each[0]["met"] for name, each in everywhere(client, "read").items()} == {
            "found",
            "lost",  # local, as ever
        }


def test_signing_out_ends_every_session(demo: Demo) -> None:
    """After it each strategy begins anew, and the old cookies find nothing in a store."""
    with demo.client() as client, demo.client() as thief:
        everywhere(client, "sign-in")
        everywhere(client, "write")
        thief.cookies.update(client.cookies)
        everywhere(client, "sign-out")
        assert {client_[0]["met"] for client_ in everywhere(client, "read").values()} <= {
            "new",
            "lost",
        }
        stolen = everywhere(thief, "read")

    assert {stolen[name][0]["met"] for name in IN_A_STORE} == {"lost"}


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://x.test"}]
)
def test_another_site_cannot_do_it(demo: Demo, headers: dict[str, str]) -> None:
    """A page of another site is refused, before anything is asked."""
    with demo.client() as client:
        answer = client.post("/_demo/everywhere/sign-in", headers=headers)
    assert answer.status_code == 403
    assert not answer.cookies


def test_what_is_not_known_is_refused(demo: Demo) -> None:
    """An unknown action, process or verb is a 404; a path with an unknown strategy is a path."""
    with demo.client() as client:
        for path in ("everywhere/steal", "servers/store/burn", "servers/nobody/kill"):
            assert client.post(f"/_demo/{path}").status_code == 404
        assert client.get("/_demo/everywhere/read").status_code in (404, 405)
        assert client.get("/in/nowhere/shop").status_code == 404


def test_a_path_names_its_strategy(demo: Demo) -> None:
    """What begins with /in/ and a strategy is that strategy's, whatever the console shows."""
    with demo.client() as client:
        answer = client.get("/in/sticky/shop")
        (name,) = client.cookies
    assert answer.status_code == 200
    assert name.endswith("_sticky")


def test_without_servers_every_answer_is_a_503(start_demo: Callable[..., Demo]) -> None:
    """With nobody to ask, that is what is told, for each of them."""
    demo = start_demo("--servers", "1", "--framework", "fastapi")
    with demo.client() as client, broken(client, "server-1", "kill"):
        answers = everywhere(client, "read")
    assert {each[0]["status"] for each in answers.values()} == {503}


def test_a_server_that_is_started_again_has_its_clients_back_at_once(demo: Demo) -> None:
    """Paused, it was passed over; as soon as it runs, who is sticky finds the session in it."""
    with demo.client() as client:
        everywhere(client, "sign-in")
        at = everywhere(client, "read")["sticky"][0]["server"]
        with broken(client, at, "pause"):
            assert everywhere(client, "read")["sticky"][0]["met"] == "lost"
        assert everywhere(client, "read")["sticky"][0]["met"] == "found"


def test_what_a_client_waited_for_a_paused_server_counts(demo: Demo) -> None:
    """The time of an answer is from the request on, whoever was asked in between."""
    with demo.client() as client:
        everywhere(client, "sign-in")
        at = everywhere(client, "read")["sticky-shared"][0]["server"]
        with broken(client, at, "pause"):
            (found,) = everywhere(client, "read")["sticky-shared"]
    assert found["met"] == "found"
    assert found["took"] > 1000 * TIMEOUT


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture
def opened(demo: Demo, page: Page) -> Page:
    page.resize(1440, 900)
    page.go(demo.address + "/compare")
    page.shows("#process-server-1 .state", "running")
    return page


def do(page: Page, action: str) -> list[str]:
    """Press a button, and return the new row as a person reads it, without times."""
    rows = "doc.querySelectorAll('#requests tr:not(.none)').length"
    before, label = page.run(rows), page.text(f"#do-{action}")
    page.run("doc.querySelector('#requests tr').dataset.old = true")
    page.click(f"#do-{action}")
    wait_for(
        f"a row for {label}",
        lambda: page.run(f"{rows} > {before} || !doc.querySelector('#requests tr').dataset.old"),
    )
    return [
        str(cell)
        for cell in page.run(
            "[...doc.querySelector('#requests tr').cells].map(cell => "
            "cell.innerText.replace(/\\s+/g, ' ').replace(/ [\\d.]+ ms/g, '').trim())"
        )
    ]


def total(page: Page, key: str) -> list[str]:
    return [
        str(cell)
        for cell in page.run(
            f"[...doc.querySelectorAll('[data-total={key}]')].map(cell => cell.innerText)"
        )
    ]


def test_a_person_sees_what_each_answer_loses(opened: Page) -> None:
    """Sign in, write, kill the sticky server, read: by clicks, with a row for each and sums."""
    page = opened
    assert do(page, "sign-in")[0] == "Sign in"
    for _ in range(3):
        do(page, "write")
    row = do(page, "read")
    at = row[1 + NAMES.index("sticky")].split(" ")[0]
    page.click(f"#kill-server-{at}")
    page.shows(f"#process-server-{at} .state", "killed")
    page.shows("#news", f"server-{at} is killed.")
    row = do(page, "read")
    page.click(f"#start-server-{at}")
    page.shows(f"#process-server-{at} .state", "running")

    cells = dict(zip(NAMES, row[1:], strict=True))
    assert "✗ NOT FOUND" in cells["sticky"]
    assert all("✓ found" in cells[name] for name in IN_A_STORE)
    lost, gone = total(page, "lost"), total(page, "gone")
    assert int(lost[NAMES.index("local")]) > 0
    assert (lost[1:], gone[1:]) == (["1", "0", "0", "0"], ["3", "0", "0", "0"])
    assert set(total(page, "requests")) == {"6"}
    assert total(page, "reads")[-1] == "store 5"
    assert all(each.endswith(" ms") for each in total(page, "median"))


def test_two_tabs_and_a_stream(opened: Page) -> None:
    """A write from two tabs has two answers in a cell; a stream reads until it is stopped."""
    page = opened
    do(page, "sign-in")
    assert all(cell.count("✓") + cell.count("✗") == 2 for cell in do(page, "two")[1:])
    page.click("#stream")
    assert page.run("doc.getElementById('stream').ariaPressed") == "true"
    wait_for("two reads of the stream", lambda: set(total(page, "requests")) == {"5"})
    page.click("#stream")
    assert page.run("doc.getElementById('stream').ariaPressed") == "false"
    assert total(page, "gone")[2:] == ["0", "0", "0"]


def answers(met: str, *counts: int | None, status: int = 200, **others: Any) -> str:
    """What the balancer answers, the same for each strategy but for what is said of ``others``."""
    told = [
        {"strategy": name, "server": "server-1", "status": status, "met": met, "read": "store"}
        | {"took": 10.0 * (number + 1), "count": count}
        | others.get(name.replace("-", "_"), {})
        for name in NAMES
        for number, count in enumerate(counts)
    ]
    return json.dumps({"label": "Told", "answers": told})


def click_with(page: Page, action: str, answer: str) -> None:
    """Press a button whose request gets this answer."""
    page.run(f"window.fetch = async () => new Response({json.dumps(answer)})")
    page.run("doc.getElementById('news').textContent = ''")
    page.click(f"#do-{action}")
    wait_for("the answer", lambda: page.text("#news"))


SUMS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a write that is not there is lost": (
        [
            ("write", answers("found", 1)),
            ("write", answers("found", 2)),
            ("read", answers("found", 1)),
        ],
        "1",
    ),
    "what was lost stays lost": (
        [
            ("write", answers("found", 1)),
            ("read", answers("lost", 0)),
            ("read", answers("found", 1)),
            ("read", answers("lost", 0)),
        ],
        "1",
    ),
    "a write that failed was promised to nobody": (
        [("write", answers("", None, status=503)), ("read", answers("found", 0))],
        "0",
    ),
    "an answer that says no count says nothing": (
        [("write", answers("found", 1)), ("read", answers("died", None, status=502))],
        "0",
    ),
    "two first visits are two sessions": (
        [("two", answers("new", 1, 1)), ("read", answers("found", 1))],
        "0",
    ),
    "two answers of which neither has seen both": (
        [("two", answers("found", 1, 1)), ("read", answers("found", 2))],
        "0",
    ),
    "signed out by another tab": (
        [("write", answers("found", 1)), ("read", answers("new", 0))],
        "0",
    ),
    "signed out here, and losses of before stay": (
        [
            ("write", answers("found", 1)),
            ("read", answers("lost", 0)),
            ("sign-out", answers("lost", None)),
            ("read", answers("new", 0)),
        ],
        "1",
    ),
}


@pytest.mark.parametrize("case", SUMS)
def test_updates_lost_are_those_that_are_lost(opened: Page, case: str) -> None:
    """The sum shows each acknowledged update that is not there, once, and nothing else."""
    rounds, lost = SUMS[case]
    for action, answer in rounds:
        click_with(opened, action, answer)
    assert total(opened, "gone") == [lost] * 5


def test_the_sums_of_a_page(opened: Page) -> None:
    """Requests, sessions not found, where they were read from, the median: those of what came."""
    elsewhere = {"read": "copy", "took": 1.0}
    click_with(opened, "read", answers("found", 0, 0, 0))
    click_with(opened, "read", answers("found", 0, shared=elsewhere, local={"met": "lost"}))
    assert opened.text("#news") == "Told: not found: local, own memory."
    click_with(opened, "read", answers("", None, status=503))

    assert opened.text("#news").startswith("Told: no answer: local, own memory; sticky, own")
    assert total(opened, "requests") == ["5"] * 5
    assert total(opened, "lost") == ["1", "0", "0", "0", "0"]
    assert total(opened, "reads") == ["store 4"] * 4 + ["store 3, copy 1"]
    assert total(opened, "median") == ["20.0 ms"] * 5


def test_a_stream_waits_for_its_answers(opened: Page) -> None:
    """While an answer is on its way nothing more is asked, so that nothing piles up."""
    opened.run(
        "window.asked = 0, window.fetch = () => { asked += 1;"
        " return new Promise((resolve) => { window.arrive = resolve }) }"
    )
    opened.click("#stream")
    wait_for("the first", lambda: opened.run("asked"))
    begun = opened.run("performance.now()")
    wait_for("two ticks more", lambda: opened.run(f"performance.now() > {begun} + 2.5 * EVERY"))
    assert opened.run("asked") == 1
    opened.run(f"arrive(new Response({json.dumps(answers('found', 0))}))")
    wait_for("the next", lambda: opened.run("asked") == 2)
    opened.click("#stream")


def test_the_store_has_buttons_too(opened: Page) -> None:
    """Paused, what needs it is a 503; started, all is well, and nothing was lost."""
    page = opened
    do(page, "sign-in")
    page.click("#pause-store")
    page.shows("#process-store .state", "paused")
    row = do(page, "write")
    page.click("#start-store")
    page.shows("#process-store .state", "running")

    assert "✗ 503" in row[-1]
    assert "503" not in row[1]
    assert "✓ found" in do(page, "read")[-1]


def test_the_console_leads_there_and_back(demo: Demo, page: Page) -> None:
    """A link on either page leads to the other."""
    page.go(demo.address + "/")
    page.click("#compare")
    wait_for("the comparison", lambda: page.text("#do-sign-in"))
    page.click("header a")
    wait_for("the console", lambda: page.text("#both"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(opened: Page, scheme: str) -> None:
    """Each text stands out from its ground by 4.5 to 1 (WCAG AA), losses and killed ones too."""
    page = opened
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=features)
    for action in ("sign-in", "write", "read"):
        do(page, action)
    page.click("#kill-server-3")
    page.shows("#process-server-3 .state", "killed")
    found = page.run(CONTRASTS)
    page.click("#start-server-3")
    page.shows("#process-server-3 .state", "running")

    assert len(found) > 60
    assert [each for each in found if each["ratio"] < 4.5] == []


def test_a_phone_scrolls_the_table_and_not_the_page(opened: Page) -> None:
    """At 360 pixels only the table is wider, and it can be scrolled, by keyboard as well."""
    page = opened
    page.resize(360, 740)
    do(page, "sign-in")
    assert not page.run(OVERFLOWS)
    assert page.run("doc.querySelector('.scroll').scrollWidth > doc.defaultView.innerWidth")
    assert page.run("doc.querySelector('.scroll').tabIndex") == 0


def test_everything_is_reached_by_keyboard_and_has_a_name(opened: Page) -> None:
    """Tab goes through all in reading order; each button says what it does, and to what."""
    page = opened
    reached = []
    for _ in range(19):
        page.press("Tab")
        reached.append(page.run(FOCUSED))
    processes = ("server-1", "server-2", "server-3", "store")
    buttons = [f"{verb}-{name}" for name in processes for verb in ("kill", "pause", "start")]
    actions = ["do-sign-in", "do-read", "do-write", "do-two", "do-sign-out", "stream"]
    assert reached == [*reached[:1], *actions, *buttons]

    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(role_of(node), name_of(node)) for node in nodes if not node.get("ignored")}
    assert ("button", "Pause store") in named
    assert {"Requests", "What became of them"} <= {n for role, n in named if role == "region"}
    page.run("doc.getElementById('do-sign-in').focus()")
    page.press("Enter")
    wait_for("a row", lambda: page.run("doc.querySelector('#requests th')?.innerText"))


def test_the_page_asks_nobody_else(demo: Demo) -> None:
    """It loads nothing but itself, may not be framed, and says what it needs without a script."""
    with demo.client() as client:
        answer = client.get("/compare")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "needs JavaScript" in answer.text.partition("<noscript>")[2]
