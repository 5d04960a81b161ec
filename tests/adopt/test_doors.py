"""A visitor of an old server comes to a new one: by each door, from each package."""

from __future__ import annotations

from typing import Any

import pytest

from sharedsession import ConfigurationError, adopt
from sharedsession.flask import SharedSession
from tests.adopt.conftest import PAIRS, RECORDS, Pair
from tests.adopt.doors import DOORS, Door
from tests.adopt.sites import FlaskSite
from tests.support.values import spelled

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:flask_session")

every = pytest.mark.parametrize("pair", PAIRS, indirect=True)
AT_ONCE = 20


def is_empty(data: dict[object, object]) -> bool:
    return set(data) <= {"_permanent"}


@every
@pytest.mark.parametrize("name", DOORS)
def test_a_visitor_stays_signed_in_and_an_old_cookie_dies_with_the_session(
    pair: Pair, name: str
) -> None:
    """All values are there; the old record is gone; after the sign-out the old cookie is dead."""
    cookie = pair.site.write(pair.values)
    old = {pair.site.cookie: cookie}
    seen = pair.site.shown(cookie)
    door = Door(name, adopt=pair.source)

    assert door.ask("/unused", old).set_cookies == []
    answer = door.ask("/show", old)
    assert answer.status == 200
    assert spelled(door.shown.pop()) == spelled(seen)
    ours = answer.cookies["session"]
    assert ours != cookie
    assert ("sessionid" in answer.removed) is (pair.site.cookie == "sessionid")
    if pair.source.has_records:
        assert is_empty(pair.site.shown(cookie))

    assert door.ask("/show", {"session": ours}).status == 200
    assert spelled(door.shown.pop()) == spelled(seen)
    door.ask("/show", old)  # an answer of before may have been lost: it finds the same session
    assert spelled(door.shown.pop()) == spelled(seen)

    assert "session" in door.ask("/out", {"session": ours}).removed
    kept = door.ask("/show", old)
    assert door.shown.pop() == {}
    assert ("sessionid" in kept.removed) is (pair.site.cookie == "sessionid")


@every
@pytest.mark.parametrize("name", DOORS)
def test_twenty_first_requests_at_once_end_on_one_session(pair: Pair, name: str) -> None:
    """None is signed out, and what each of them has changed is there."""
    old = {pair.site.cookie: pair.site.write({"user_id": 7})}
    door = Door(name, adopt=pair.source, store_timeout=10)
    answers = door.ask_at_once([f"/set?key=k{number}" for number in range(AT_ONCE)], old)
    assert {each.status for each in answers} == {200}
    ours = {each.cookies["session"].partition(".")[0] for each in answers if each.cookies}
    assert len(ours) == 1
    door.ask("/show", old)
    found = door.shown.pop()
    assert found["user_id"] == 7
    assert {f"k{number}" for number in range(AT_ONCE)} <= set(found)


@pytest.mark.parametrize("pair", [*RECORDS[:1], "flask", "django-db-sqlite"], indirect=True)
@pytest.mark.parametrize("name", DOORS)
def test_a_request_that_ends_its_old_session(pair: Pair, name: str) -> None:
    """A sign-out in the very first request ends the old session, and its cookie goes."""
    cookie = pair.site.write(pair.values)
    old = {pair.site.cookie: cookie}
    door = Door(name, adopt=pair.source)
    answer = door.ask("/out", old)
    assert pair.site.cookie in answer.removed
    if pair.source.has_records:
        assert is_empty(pair.site.shown(cookie))
    door.ask("/show", old)
    assert door.shown.pop() == {}


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("pair", ["flask", "starlette"], indirect=True)
def test_a_cookie_of_another_key_is_worth_nothing(pair: Pair, name: str) -> None:
    """What the old key has not signed begins a new session, and no store is asked for it."""
    old = {pair.site.cookie: pair.site.write(pair.values)}
    door = Door(name, adopt=pair.source, secret_key="another one, as long as that")
    assert door.ask("/show", old).status == 200
    assert door.shown.pop() == {}


def test_a_switch_in_flask_says_nothing_of_the_old_layer(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Until the moment the old layer sets the cookie, by its own options; that is no conflict."""
    app = FlaskSite().app
    app.config["SESSION_TYPE"] = "redis"
    SharedSession(
        app,
        store="memory://",
        adopt=adopt.FlaskCookie(),
        switch_at="2999-01-01T00:00:00Z",
        before=app.session_interface,
    )
    answer = app.test_client().get("/write")
    assert answer.status_code == 200
    assert "conflict" not in caplog.text
    assert not [each for each in recwarn if "SESSION_TYPE" in str(each.message)]


@pytest.mark.parametrize("prefix", ["__Host-", "__Secure-"])
def test_an_old_cookie_with_a_prefix_is_removed_as_browsers_demand(prefix: str) -> None:
    """With Secure, without which they refuse whatever sets it."""
    source = adopt.FlaskCookie(cookie=f"{prefix}old")
    old = {f"{prefix}old": FlaskSite().write({"user_id": 7})}
    sent = Door("ASGI", adopt=source).ask("/show", old).set_cookies
    [removal] = [each for each in sent if each.startswith(prefix)]
    assert "; secure" in removal.lower()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"switch_at": "2027-01-10T03:00:00Z"}, "switch_at and before must be given together"),
        ({"switch_at": "2027-01-10T03:00:00", "before": lambda app: app}, "with its UTC offset"),
        ({"switch_at": "tomorrow", "before": lambda app: app}, "with its UTC offset"),
        ({"adopt": "redis://localhost"}, "must be a source"),
        ({"adopt": adopt.FlaskCookie}, "must be a source"),
    ],
)
@pytest.mark.parametrize("name", DOORS)
def test_what_is_set_wrong_is_said(name: str, settings: dict[str, Any], says: str) -> None:
    """At start-up, by each door, with what must be true and what was found."""
    with pytest.raises(ConfigurationError, match=says):
        Door(name, **settings)
