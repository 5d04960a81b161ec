"""G15: with copies a client never reads older than its cookie, and an end is effective in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Flask

from sharedsession._core.settings import NearCache, gather
from sharedsession.exceptions import ConfigurationError
from sharedsession.flask import SharedSession
from sharedsession.stores import near
from tests.guarantees.conftest import Servers
from tests.guarantees.driver import (
    SECRET,
    Browser,
    Gate,
    Server,
    destroy,
    drop,
    held,
    ignore,
    increment,
    put,
    read,
    renew,
    sign_in,
    sign_out,
)
from tests.guarantees.places import Place
from tests.stores.test_near import Time

LEASE = 2.0
WINDOW = LEASE + 2  # seconds after a cookie's time for which no copy will do
COPIES = {"near_cache": {"lease": LEASE}}

Let = Callable[[float], None]


@pytest.fixture
def let_pass(place: Place, monkeypatch: pytest.MonkeyPatch) -> Let:
    """Let time pass on every clock there is."""
    fake = Time()
    place.advance(-place.clock() % 1)  # a cookie's time is in whole seconds
    monkeypatch.setattr(near, "time", fake)
    monkeypatch.setattr("sharedsession.stores.near.copies.time", fake)

    def let(seconds: float) -> None:
        fake.now += seconds
        place.advance(seconds)

    return let


def with_copies(
    servers: Servers, browser: Browser, let_pass: Let, **settings: Any
) -> tuple[Any, Any]:
    """Return two servers that both hold a copy of the browser's session, and its window is over."""
    first, second = servers(2, **{**COPIES, **settings})
    first.request(browser, put(n=1, m=1))
    let_pass(WINDOW + 1)
    for server in (first, second):
        assert server.request(browser, read).value == {"n": 1, "m": 1}
    return first, second


def asks(place: Place, server: Server, browser: Browser) -> list[str]:
    """Return what a read asks of the store."""
    place.forget()
    answer = server.request(browser, read)
    assert answer.status == 200
    return place.verbs


# --- what a client reads --------------------------------------------------------------------------


def test_a_read_that_a_copy_can_answer_asks_no_store(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """Within the lease: no command, no cookie, and it is counted."""
    server, _ = with_copies(servers, browser, let_pass)
    place.forget()
    for _ in range(3):
        let_pass(0.5)
        answer = server.request(browser, read)
        assert answer.value == {"n": 1, "m": 1}
        assert not answer.cookies
        assert answer.all("vary") == ["Cookie"]
    assert place.verbs == []
    assert server.counts["copy"] == 3
    let_pass(0.5)
    assert asks(place, server, browser) == ["load"]


def test_a_client_reads_its_own_write_on_every_server(
    servers: Servers, browser: Browser, let_pass: Let
) -> None:
    """A copy below the version in the cookie does not answer, however young it is."""
    first, second = with_copies(servers, browser, let_pass)
    for n in range(2, 5):
        first.request(browser, put(n=n))
        assert second.request(browser, read).value["n"] == n
        second.request(browser, put(m=n))
        assert first.request(browser, read).value == {"n": n, "m": n}


def test_an_older_cookie_that_arrives_last_shows_nothing_older(
    servers: Servers, browser: Browser, let_pass: Let
) -> None:
    """Answers that overtake each other: the version goes back, what is read does not."""
    first, second = with_copies(servers, browser, let_pass)
    gate = Gate()
    slow = first.begin(browser.copy(), held(gate, put(m=2)))
    gate.wait_for()
    gate.open()
    older = slow.answer()  # version 2, on its way for long
    first.request(browser, put(n=2))
    second.request(browser.copy(), read)
    first.request(browser, put(n=3))
    assert second.request(browser, read).value["n"] == 3
    browser.take(older)
    let_pass(LEASE - 0.5)
    for server in (second, first):
        assert server.request(browser, read).value == {"n": 3, "m": 2}
    let_pass(WINDOW)
    for server in (second, first):
        assert server.request(browser, read).value == {"n": 3, "m": 2}


def test_reads_go_to_the_store_for_a_while_after_a_write(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """For the lease and two seconds after the cookie was written, every read asks the store."""
    first, second = servers(2, **COPIES)
    first.request(browser, put(n=1))
    for _ in range(8):
        assert asks(place, first, browser) == asks(place, second, browser) == ["load"]
        let_pass(WINDOW / 8)
    assert asks(place, first, browser) == asks(place, second, browser) == []


def test_a_write_based_on_a_copy_loses_nothing(
    servers: Servers, browser: Browser, let_pass: Let
) -> None:
    """What another server wrote since the copy was made is merged, not overwritten (G2)."""
    first, second = with_copies(servers, browser, let_pass)
    other = browser.copy()
    for _ in range(3):
        first.request(browser, increment)
    second.request(other, put(x=1))
    assert second.request(other, increment).value == 5
    assert first.request(other, read).value == {"n": 5, "m": 1, "x": 1}


def test_a_newer_version_found_is_handed_out(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """A client that reads what another tab wrote never goes back behind it."""
    first, second = with_copies(servers, browser, let_pass)
    other = browser.copy()
    first.request(other, put(n=2))
    let_pass(LEASE)
    answer = first.request(browser, read)
    assert answer.value["n"] == 2
    assert answer.cookies
    assert second.request(browser, read).value["n"] == 2


def test_a_newer_version_is_handed_out_by_a_request_that_need_not_touch(
    servers: Servers, browser: Browser, place: Place, let_pass: Let
) -> None:
    """Another request of the page has touched; this one read what a third one wrote meanwhile."""
    first, second = with_copies(servers, browser, let_pass, max_age=1000)
    let_pass(101)
    assert first.request(browser.copy(), read).cookies  # touches
    second.request(browser.copy(), put(n=2))
    let_pass(LEASE)
    answer = first.request(browser, read)
    assert answer.value["n"] == 2
    assert answer.cookies


def test_a_route_without_its_session_asks_nothing_more(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """Copies change nothing for who does not use the session (G6)."""
    server, _ = with_copies(servers, browser, let_pass)
    place.forget()
    answer = server.request(browser, ignore)
    assert answer.value == "not used"
    assert not answer.cookies
    assert not answer.all("vary")
    assert place.verbs == []


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [destroy, sign_out, renew], ids=["destroy", "sign out", "renew"])
def test_an_end_is_effective_here_at_once_and_elsewhere_within_the_lease(
    servers: Servers, place: Place, browser: Browser, let_pass: Let, end: Any
) -> None:
    """Whoever shows the old cookie: nothing on the same server, and soon nothing anywhere."""
    first, second = servers(2, **COPIES)
    first.request(browser, sign_in("ann"))
    let_pass(WINDOW + 1)
    for server in (first, second):
        assert server.request(browser, read).value == {"user_id": "ann"}
    thief = browser.copy()
    assert first.request(browser, end).status == 200
    assert first.request(thief.copy(), read).value == {}
    let_pass(LEASE - 0.1)
    place.forget()
    assert second.request(thief.copy(), read).value == {"user_id": "ann"}  # the stated bound
    assert place.verbs == []
    let_pass(0.1)
    answer = second.request(thief.copy(), read)
    assert answer.value == {}
    assert not answer.cookies


def test_no_write_through_a_copy_revives_a_session(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """A copy of a session that has ended elsewhere can be read, never written (G3)."""
    first, second = with_copies(servers, browser, let_pass)
    thief = browser.copy()
    first.request(browser, destroy)
    for application in (put(x=1), drop("n"), increment):
        answer = second.request(thief.copy(), application)
        assert answer.status == 200
        assert not answer.cookies
    assert second.counts["gone"] >= 1
    assert place.stored == []


def test_a_session_renewed_elsewhere_stays_one(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """A sign-in on one server, a write with the old cookie on another that has a copy (G5)."""
    first, second = with_copies(servers, browser, let_pass)
    old = browser.copy()
    first.request(browser, sign_in("ann"))
    assert not second.request(old, put(x=1)).cookies
    assert place.stored == [{"n": 1, "m": 1, "user_id": "ann"}]
    assert second.request(browser, read).value["user_id"] == "ann"


def test_a_touch_through_a_copy_prolongs_the_session(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """A session that is only read, and mostly from copies, does not expire (G8)."""
    (server,) = servers(1, **COPIES, max_age=50)
    server.request(browser, put(n=1))
    for _ in range(100):
        let_pass(1)
        assert server.request(browser, read).value == {"n": 1}
    assert server.counts["copy"] > 0


# --- outages --------------------------------------------------------------------------------------

STALE = {"stale_if_error": 30, "max_age": 100}
EVERY = ("load", "create", "replace", "touch", "delete")


def test_copies_answer_reads_in_an_outage(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """Up to the age that was allowed, without a touch, a cookie, or an error."""
    first, second = with_copies(servers, browser, let_pass, **STALE)
    let_pass(8)  # a touch is due by now
    place.fail(*EVERY, times=1000)
    place.forget()
    for server in (first, second):
        answer = server.request(browser, read)
        assert answer.value == {"n": 1, "m": 1}
        assert not answer.cookies
        assert server.counts["outdated copy"] == 1
        assert server.counts["outage"] == 1
    assert place.writes == []
    let_pass(30)
    assert first.request(browser, read).status == 503
    place.recover()
    answer = first.request(browser, read)
    assert answer.value == {"n": 1, "m": 1}
    assert answer.cookies  # the touch that was due


def test_writes_fail_in_an_outage(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """A write that cannot be stored is a 503, and what was unknown is no copy afterwards."""
    first, second = with_copies(servers, browser, let_pass, **STALE)
    let_pass(LEASE)
    place.fail(*EVERY, times=1000)
    answer = first.request(browser, put(n=2))
    assert answer.status == 503
    assert not answer.cookies
    assert first.request(browser, read).status == 503
    assert second.request(browser, read).value == {"n": 1, "m": 1}
    place.recover()
    assert second.request(browser, put(n=3)).status == 200
    assert first.request(browser, read).value == {"n": 3, "m": 1}


def test_a_copy_below_the_cookie_does_not_answer_in_an_outage(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """Better a 503 than a session older than what its client has seen."""
    first, second = with_copies(servers, browser, let_pass, **STALE)
    first.request(browser, put(n=2))
    place.fail(*EVERY, times=1000)
    assert second.request(browser, read).status == 503


def test_a_cookie_without_a_version_is_answered_by_no_copy(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """It says nothing of what its client has seen: the store itself is asked, or it is a 503."""
    (plain,) = servers(1)
    (near,) = servers(1, **COPIES, **STALE)
    plain.request(browser, put(n=1))
    let_pass(WINDOW + 1)
    for _ in range(3):
        assert asks(place, near, browser) == ["load"]
    assert near.request(browser, put(m=1)).cookies == []
    assert plain.request(browser, put(n=2)).cookies == []
    assert near.request(browser, read).value == {"n": 2, "m": 1}
    plain.request(browser, put(n=3))
    place.fail(*EVERY, times=1000)
    assert near.request(browser, read).status == 503
    place.recover()
    # With its next new ID the session has copies.
    assert near.request(browser, renew).cookies
    let_pass(WINDOW + 1)
    near.request(browser, read)
    assert asks(place, near, browser) == []


def test_a_server_without_copies_keeps_to_the_versions_of_an_id(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """Each write of it, and each read that finds a newer one, hands the version out."""
    first, second = with_copies(servers, browser, let_pass)
    (plain,) = servers(1)
    other = browser.copy()
    assert plain.request(browser, put(n=2)).cookies
    assert second.request(browser, read).value["n"] == 2
    assert plain.request(other, read).cookies
    let_pass(WINDOW + 1)
    assert first.request(other, read).value["n"] == 2
    # A session without versions stays so, wherever its next ID is made.
    plain.request(browser, renew)
    assert plain.request(browser, put(n=3)).cookies == []
    assert asks(place, first, browser) == ["load"]


def test_without_stale_if_error_no_copy_outlives_its_lease(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """The default: an outage shows as soon as the lease is over."""
    first, _ = with_copies(servers, browser, let_pass)
    place.fail(*EVERY, times=1000)
    assert first.request(browser, read).value == {"n": 1, "m": 1}
    let_pass(LEASE)
    assert first.request(browser, read).status == 503


def test_on_outage_is_for_those_without_copies(
    servers: Servers, place: Place, browser: Browser, let_pass: Let
) -> None:
    """A server that has a copy shows it; one that has none does what the application chose."""
    first, second = servers(2, **COPIES, **STALE, on_outage="readonly-empty")
    first.request(browser, put(n=1))
    let_pass(WINDOW + 1)
    first.request(browser, read)
    let_pass(LEASE)
    place.fail(*EVERY, times=1000)
    assert first.request(browser, read).value == {"n": 1}
    assert second.request(browser, read).value == {}
    assert second.request(browser, put(n=2)).status == 503


# --- settings -------------------------------------------------------------------------------------


def gathered(environ: Mapping[str, str] | None = None, **given: Any) -> Any:
    return gather({"secret_key": SECRET, "store": "memory://", **given}, environ=environ or {})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (True, NearCache()),
        (False, None),
        (None, None),
        (NearCache(lease=3), NearCache(lease=3)),
        ({"lease": 3, "max_entries": 5}, NearCache(lease=3, max_entries=5)),
        ({}, NearCache()),
    ],
)
def test_near_cache_as_an_argument(given: Any, meant: NearCache | None) -> None:
    """True, an object, a mapping of what is to differ from the defaults, or nothing."""
    assert gathered(near_cache=given).near_cache == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("true", NearCache()),
        ("TRUE", NearCache()),
        ("false", None),
        ("none", None),
        ('{"lease": 3, "lease_with_push": 0}', NearCache(lease=3, lease_with_push=0)),
    ],
)
def test_near_cache_in_the_environment(written: str, meant: NearCache | None) -> None:
    """The same as JSON."""
    environ = {"SHAREDSESSION_NEAR_CACHE": written, "SHAREDSESSION_REPLICA": "redis://replica"}
    found = gathered(environ)
    assert found.near_cache == meant
    assert found.replica == "redis://replica"
    if meant is not None:
        environ["SHAREDSESSION_STALE_IF_ERROR"] = "2.5"
        assert gathered(environ).stale_if_error == 2.5


@pytest.mark.parametrize(
    "given",
    [
        "yes",
        2,
        ["lease", 1],
        {"leese": 1},
        {"lease": 0},
        {"lease": -1},
        {"lease": 61},
        {"lease": float("nan")},
        {"lease": "1"},
        {"lease": None},
        {"max_entries": 0},
        {"max_bytes": -1},
        {"lease_with_push": float("nan")},
        {1: 2},
    ],
)
def test_a_wrong_near_cache_is_refused_with_a_sentence(given: Any) -> None:
    """What makes no sense is refused at start-up."""
    with pytest.raises(ConfigurationError, match=r"[Nn]ear_?[Cc]ache.*\.$"):
        gathered(near_cache=given)


@pytest.mark.parametrize("stale", [-1, "30", True, float("nan"), 10**10])
def test_a_wrong_stale_if_error_is_refused(stale: Any) -> None:
    """It is a number of seconds, and it needs copies."""
    with pytest.raises(ConfigurationError, match="stale_if_error"):
        gathered(near_cache=True, stale_if_error=stale)
    with pytest.raises(ConfigurationError, match="near_cache=True"):
        gathered(stale_if_error=5)


def test_flask_reads_its_configuration() -> None:
    """SESSION_NEAR_CACHE and its kin, as the other options."""
    app = Flask("tests")
    app.config.update(
        SECRET_KEY=SECRET,
        SESSION_STORE="memory://near",
        SESSION_NEAR_CACHE={"lease": 3},
        SESSION_STALE_IF_ERROR=20,
    )
    SharedSession(app)
    settings = app.extensions["sharedsession"].manager.settings
    assert settings.near_cache == NearCache(lease=3)
    assert settings.stale_if_error == 20
    assert app.extensions["sharedsession"].manager.process.lag == 3


def test_flask_refuses_what_makes_no_sense() -> None:
    """At start-up, with the same sentence."""
    app = Flask("tests")
    app.config.update(
        SECRET_KEY=SECRET, SESSION_STORE="memory://", SESSION_NEAR_CACHE={"lease": 99}
    )
    with pytest.raises(ConfigurationError, match="NearCache"):
        SharedSession(app)


def test_the_environment_does_not_show_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """The address of a replica may carry a password, which no representation repeats."""
    settings = gathered(replica="redis://user:s3cret@replica/0", near_cache=True)
    assert "s3cret" not in repr(settings)
