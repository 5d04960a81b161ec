"""Lines 15, 16, 19 and 20: permanent, new, modified, accessed; when the cookie is repeated; IDs."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import flask
import pytest
from flask.sessions import SessionMixin

from sharedsession import SessionGone
from sharedsession._core.session import exchange_of
from sharedsession.testing.stores import Clock
from tests.flask.conftest import MakeSite
from tests.flask.site import Browser, Site, attributes, give_cookie, own, put, untouched
from tests.support.watched import WatchedStore

LIFETIME = 1000


def permanent(**values: Any) -> Callable[[Any], None]:
    def act(session: Any) -> None:
        session.permanent = True
        session.update(values)

    return act


def be_permanent(session: Any) -> None:
    """What many applications do before each request."""
    session.permanent = True


def clear(session: Any) -> None:
    session.clear()


def timestamp(value: str | None) -> int:
    """The time in a cookie of ours."""
    assert value is not None
    text = value.split(".")[2]
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site(PERMANENT_SESSION_LIFETIME=LIFETIME)


class TestADict:
    def test_it_is_what_flask_and_json_take_it_for(self, browser: Browser) -> None:
        """A dict, a SessionMixin; json, jsonify and a copy see all of it, at its first use too."""
        data = {"name": "Ada", "cart": [1, {"deep": None}], "_permanent": False}
        browser.visit(put(**data))
        assert browser.visit(lambda session: isinstance(session, dict)).result is True
        assert browser.visit(lambda session: isinstance(session, SessionMixin)).result is True
        assert browser.serve(lambda: flask.jsonify(own())).response.json == data
        assert browser.serve(lambda: json.dumps(dict(flask.session))).result == json.dumps(data)
        assert browser.serve(lambda: flask.session.copy()).result == data
        assert browser.serve(lambda: {**flask.session}).result == data

    def test_in_templates(self, browser: Browser) -> None:
        """As an object with items, in a loop, and by tojson; used first in the template."""
        browser.visit(put(name="<Ada>", cart=["tea", "milk"]))

        def render(source: str) -> str:
            return browser.serve(lambda: (flask.render_template_string(source), 200)).text

        assert render("{{ session.name }} {{ session['name'] }}") == "&lt;Ada&gt; &lt;Ada&gt;"
        assert render("{% for it in session.cart %}{{ it }} {% endfor %}") == "tea milk "
        assert render("{{ session|length }} {{ 'cart' in session }}") == "2 True"
        assert json.loads(render("{{ dict(session)|tojson }}")) == {
            "name": "<Ada>",
            "cart": ["tea", "milk"],
        }
        assert render("{% if session %}known{% endif %}") == "known"
        assert render("{{ session.nothing }}|{{ session.get('nothing') }}") == "|None"

    def test_an_attribute_in_a_template_is_the_key_or_the_sessions_own(
        self, browser: Browser
    ) -> None:
        """``session.new`` and ``session.permanent`` are the flags, as with Flask's own."""
        source = "{{ session.new }} {{ session.permanent }}"
        page = lambda: (flask.render_template_string(source), 200)  # noqa: E731
        assert browser.serve(page).text == "True False"
        browser.visit(permanent(a=1))
        assert browser.serve(page).text == "False True"


class TestPermanent:
    def test_the_cookie_has_an_expiry_only_then(self, browser: Browser, site: Site) -> None:
        """Now and PERMANENT_SESSION_LIFETIME; switched off, the cookie ends with the browser."""
        assert "expires" not in attributes(browser.visit(put(a=1)).set_cookie)
        shown = attributes(browser.visit(be_permanent).set_cookie)
        left = parsedate_to_datetime(shown["expires"]) - datetime.now(UTC)
        assert timedelta(seconds=LIFETIME - 60) < left <= timedelta(seconds=LIFETIME)
        answer = browser.visit(lambda session: setattr(session, "permanent", False))
        assert "expires" not in attributes(answer.set_cookie)
        assert browser.visit(lambda session: session.permanent).result is False

    def test_it_is_a_key_of_the_data(self, browser: Browser) -> None:
        """`_permanent`, as Flask has it."""
        browser.visit(permanent(a=1))
        assert browser.see() == {"a": 1, "_permanent": True}
        assert browser.visit(lambda session: session.permanent).result is True

    def test_set_again_it_changes_nothing(self, browser: Browser, store: WatchedStore) -> None:
        """session.permanent = True before each request writes once."""
        browser.visit(permanent(a=1))
        store.calls.clear()
        for _ in range(3):
            browser.visit(be_permanent)
        assert set(store.calls) == {"load"}

    def test_set_again_it_repeats_no_cookie_either(
        self, make_site: MakeSite, store: WatchedStore
    ) -> None:
        """Where the cookie is not refreshed; False is written once, as Flask's own has it."""
        browser = make_site(SESSION_REFRESH_EACH_REQUEST=False).browser()
        browser.visit(permanent(a=1))
        assert browser.visit(be_permanent).set_cookie is None
        other = browser.site.browser()
        other.visit(put(a=1))
        for _ in range(2):
            answer = other.visit(lambda session: setattr(session, "permanent", False))
            assert answer.vary == "Cookie"
        assert other.see() == {"a": 1, "_permanent": False}
        assert store.calls.count("replace") == 1

    @pytest.mark.parametrize("refresh", [True, False])
    def test_alone_it_is_nothing(
        self, refresh: bool, make_site: MakeSite, store: WatchedStore
    ) -> None:
        """No row, no cookie and no store access for robots, however many pass."""
        site = make_site(SESSION_REFRESH_EACH_REQUEST=refresh)
        for _ in range(5):
            answer = site.browser().visit(be_permanent)
            assert (answer.set_cookie, answer.vary) == (None, "Cookie")
        assert (store.calls, store.stored) == ([], [])

    def test_what_is_left_of_a_session_besides_it_is_nothing(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """The last key but `_permanent` removed, the session ends; its cookie goes."""
        browser.visit(permanent(a=1))
        answer = browser.visit(lambda session: session.pop("a"))
        assert attributes(answer.set_cookie)["max-age"] == "0"
        assert store.stored == []
        assert browser.cookie is None

    def test_cleared_and_made_permanent_again_it_is_nothing(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """As a sign-out does in an application that makes each session permanent afterwards."""
        browser.visit(permanent(a=1))
        old = browser.cookie

        def sign_out(session: Any) -> None:
            session.clear()
            session.permanent = True

        browser.visit(sign_out)
        assert (store.stored, browser.cookie) == ([], None)
        browser.cookie = old
        assert browser.see() == {}


class TestFlags:
    def test_new_until_the_client_has_its_cookie(
        self, browser: Browser, site: Site, clock: Clock
    ) -> None:
        """Also true for what has expired, and for a cookie that does not verify."""
        new = lambda session: session.new  # noqa: E731
        assert browser.visit(new).result is True
        assert browser.visit(lambda session: (session.update(a=1), session.new)[1]).result is True
        assert browser.visit(new).result is False
        clock.advance(LIFETIME)
        assert browser.visit(new).result is True
        browser.cookie = "forged"
        assert browser.visit(new).result is True

    @pytest.mark.newest
    @pytest.mark.parametrize("known", [False, True], ids=["new client", "known client"])
    def test_accessed_only_by_whoever_asks_for_it(self, known: bool, browser: Browser) -> None:
        """open_session() alone does not count; asking for flask.session does, before any read."""
        if known:
            browser.visit(put(a=1))

        def look() -> tuple[bool, bool]:
            before = untouched().accessed
            return before, flask.session.accessed

        assert browser.serve(look).result == (False, True)
        assert browser.serve(look).vary == "Cookie"
        assert browser.serve(lambda: untouched().accessed).vary is None

    @pytest.mark.parametrize(
        ("act", "modified"),
        [
            (lambda session: session.get("a"), False),
            (lambda session: session["a"], False),
            (lambda session: "a" in session, False),
            (len, False),
            (lambda session: session.setdefault("a", 2), False),
            (lambda session: session.pop("nothing", None), False),
            (lambda session: session.permanent, False),
            (lambda session: session.__setitem__("a", 1), True),
            (lambda session: session.__delitem__("a"), True),
            (lambda session: session.setdefault("b", 2), True),
            (lambda session: session.pop("a"), True),
            (lambda session: session.popitem(), True),
            (lambda session: session.update(a=1), True),
            (lambda session: session.__ior__({"a": 1}), True),
            (lambda session: session.clear(), True),
            (be_permanent, True),
            (lambda session: flask.flash("hello"), True),
            (lambda session: setattr(session, "modified", True), True),
        ],
    )
    def test_modified_by_what_sets_or_removes(
        self, act: Callable[[Any], Any], modified: bool, browser: Browser
    ) -> None:
        """And by nothing else."""
        browser.visit(put(a=1))
        assert browser.visit(lambda session: (act(session), session.modified)[1]).result is modified

    def test_nested_changes_count_without_the_flag(self, browser: Browser) -> None:
        """Where Flask wants session.modified = True, which remains allowed."""
        browser.visit(put(cart=[]))
        browser.visit(lambda session: session["cart"].append("tea"))

        def with_the_flag(session: Any) -> None:
            session["cart"].append("milk")
            session.modified = True

        browser.visit(with_the_flag)
        assert browser.see() == {"cart": ["tea", "milk"]}

    def test_modified_taken_back_is_still_saved(self, browser: Browser) -> None:
        """What changed is found by comparing; the flag decides nothing."""

        def act(session: Any) -> None:
            session["a"] = 1
            session.modified = False

        browser.visit(act)
        assert browser.see() == {"a": 1}


class TestTheCookieIsRepeated:
    def test_on_every_response_of_a_permanent_session(
        self, site: Site, browser: Browser, clock: Clock
    ) -> None:
        """Used or not: with its old value, timestamp included, a new expiry, Vary and private."""
        first = browser.visit(permanent(a=1)).value
        clock.advance(LIFETIME * 0.05)
        for act in (None, dict, lambda session: session.get("b")):
            answer = browser.visit(act)
            assert answer.value == first
            assert "expires" in attributes(answer.set_cookie)
            assert answer.vary == "Cookie"
            assert answer.response.headers["Cache-Control"] == "private"

    def test_a_repeated_cookie_leaves_the_browser_its_cache(
        self, browser: Browser, clock: Clock
    ) -> None:
        """But not the caches that several people share; a new cookie is in nobody's cache."""

        def page(number: int) -> Any:
            def view() -> flask.Response:
                flask.session.permanent = True
                flask.session["n"] = number
                return flask.Response("ok", headers={"Cache-Control": "public, max-age=60"})

            return view

        first = browser.serve(page(1)).response.headers["Cache-Control"]
        again = browser.serve(page(1)).response.headers["Cache-Control"]
        other = browser.serve(page(2)).response.headers["Cache-Control"]
        clock.advance(LIFETIME / 10)
        dated = browser.serve(page(3)).response.headers["Cache-Control"]
        assert again == other == "max-age=60, private"
        assert first == dated == "public, max-age=60, no-store"

    def test_not_of_one_that_is_not_permanent(self, site: Site, browser: Browser) -> None:
        """An untouched request says nothing of its session."""
        browser.visit(put(a=1))
        answer = browser.visit()
        assert (answer.set_cookie, answer.vary) == (None, None)
        assert browser.visit(dict).set_cookie is None

    @pytest.mark.parametrize("act", [None, dict], ids=["untouched", "read"])
    def test_the_store_is_touched_once_a_tenth_of_the_lifetime(
        self, act: Any, site: Site, browser: Browser, clock: Clock, store: WatchedStore
    ) -> None:
        """All the same; the cookie then has a new timestamp."""
        first = browser.visit(permanent(a=1)).value
        store.calls.clear()
        stamps = []
        for _ in range(10):
            clock.advance(LIFETIME * 0.05)
            stamps.append(timestamp(browser.visit(act).value))
        assert store.calls.count("touch") == 5
        assert len(set(stamps)) == 6
        assert stamps[0] == timestamp(first)
        assert {"create", "replace", "delete"}.isdisjoint(store.calls)

    def test_an_untouched_session_is_kept_alive_by_it(
        self, site: Site, browser: Browser, clock: Clock
    ) -> None:
        """That is what refreshing each request is for."""
        browser.visit(permanent(a=1))
        for _ in range(5):
            clock.advance(LIFETIME * 0.5)
            browser.visit()
        assert browser.see() == {"a": 1, "_permanent": True}

    @pytest.mark.parametrize("cookie", [None, "forged", "other"])
    def test_without_a_cookie_that_verifies_nothing_is_loaded(
        self, cookie: str | None, site: Site, store: WatchedStore
    ) -> None:
        """No cookie, a forged one, somebody else's that has ours as the end of its name."""
        browser = site.browser()
        if cookie == "other":
            give_cookie(browser.client, "mysession", "forged")
        elif cookie:
            browser.cookie = cookie
        answer = browser.visit()
        assert (answer.status, answer.set_cookie, answer.vary) == (200, None, None)
        assert store.calls == []

    def test_of_a_session_that_has_ended_nothing_is_said(
        self, site: Site, browser: Browser, clock: Clock
    ) -> None:
        """Neither a cookie nor its removal."""
        browser.visit(permanent(a=1))
        clock.advance(LIFETIME)
        answer = browser.visit()
        assert (answer.set_cookie, answer.vary) == (None, None)

    def test_without_the_option_nothing_is_loaded(
        self, make_site: MakeSite, store: WatchedStore
    ) -> None:
        """SESSION_REFRESH_EACH_REQUEST=False: an untouched request costs no store access."""
        browser = make_site(SESSION_REFRESH_EACH_REQUEST=False).browser()
        browser.visit(permanent(a=1))
        store.calls.clear()
        answer = browser.visit()
        assert (answer.set_cookie, answer.vary, store.calls) == (None, None, [])
        assert browser.visit(dict).set_cookie is None

    @pytest.mark.parametrize("refresh", [True, False])
    def test_a_key_set_to_the_value_it_had(
        self, refresh: bool, make_site: MakeSite, clock: Clock, store: WatchedStore
    ) -> None:
        """Repeats the cookie, as with Flask's own, with its old timestamp, and writes nothing."""
        options = {"SESSION_REFRESH_EACH_REQUEST": refresh}
        browser = make_site(PERMANENT_SESSION_LIFETIME=LIFETIME, **options).browser()
        first = browser.visit(put(a=1)).value
        clock.advance(LIFETIME * 0.05)
        store.calls.clear()
        assert browser.visit(put(a=1)).value == first
        assert set(store.calls) == {"load"}

    @pytest.mark.parametrize("phase", ["load", "touch", "the second load"])
    def test_an_outage_in_what_nobody_asked_for_is_ignored(
        self, phase: str, site: Site, browser: Browser, clock: Clock, store: WatchedStore
    ) -> None:
        """The page that does not use its session is served, without a cookie; the next has it."""
        browser.visit(permanent(a=1))
        clock.advance(LIFETIME * 0.2)
        loads = store.calls.count("load")
        if phase == "the second load":
            load, before = store.load, [0]

            def second(*arguments: Any) -> Any:
                before[0] += 1
                store.down = {"load"} if before[0] > 1 else set()
                return load(*arguments)

            store.load = second  # type: ignore[method-assign]
        else:
            store.fail(phase)
        answer = browser.visit()
        assert store.calls.count("load") > loads
        assert (answer.status, answer.text, answer.set_cookie) == (200, "ok", None)
        store.recover()
        if phase == "the second load":
            store.load = load  # type: ignore[method-assign]
        assert browser.visit().set_cookie
        assert browser.see() == {"a": 1, "_permanent": True}

    def test_two_requests_at_once_lose_nothing_to_it(self, site: Site, browser: Browser) -> None:
        """A repeated cookie never brings back what another request has ended."""
        browser.visit(permanent(a=1))
        other = site.browser()
        other.cookie = browser.cookie

        def meanwhile() -> None:
            flask.session.get("a")
            view = site.view
            other.visit(clear)
            site.view = view

        answer = browser.serve(meanwhile)
        assert answer.set_cookie is None
        assert browser.see() == {}


class TestVerbs:
    def test_they_are_plain_calls(self, browser: Browser) -> None:
        """mutate, commit, renew, reload, destroy, on flask.session itself."""

        def act() -> Any:
            flask.session["n"] = 1
            flask.session.mutate(lambda session: session.update(n=session["n"] + 1))
            token = flask.session.commit(lambda session: session["n"])
            flask.session["n"] = 7
            flask.session.reload()
            return token, dict(flask.session), flask.session.handle is not None

        answer = browser.serve(act)
        assert answer.result == (2, {"n": 2}, True)
        before = browser.cookie
        assert answer.set_cookie
        browser.visit(lambda session: session.renew())
        assert browser.cookie[:43] != before[:43]
        assert browser.see() == {"n": 2}
        browser.visit(lambda session: session.destroy())
        assert (browser.cookie, browser.see()) == (None, {})

    def test_a_commit_of_what_has_ended_says_so(self, browser: Browser, site: Site) -> None:
        """SessionGone, in the view."""
        browser.visit(put(a=1))
        other = site.browser()
        other.cookie = browser.cookie

        def act() -> str:
            flask.session["a"] = 2
            view = site.view
            other.visit(clear)
            site.view = view
            with pytest.raises(SessionGone):
                flask.session.commit()
            return "said"

        answer = browser.serve(act)
        assert (answer.result, answer.set_cookie) == ("said", None)

    def test_a_sign_in_renews_the_id(self, browser: Browser, store: WatchedStore) -> None:
        """The old cookie is worthless; what the session held goes on."""
        browser.visit(put(cart=["tea"]))
        old = browser.cookie
        browser.visit(put(_user_id="ada"))
        assert browser.see() == {"cart": ["tea"], "_user_id": "ada"}
        browser.cookie = old
        assert browser.see() == {}
        assert len(store.stored) == 1


class TestIDs:
    def test_an_id_has_256_bits(self, site: Site) -> None:
        """Of the system's random generator; no two alike."""
        found = {site.browser().visit(put(a=1)).value.split(".")[0] for _ in range(20)}
        assert len(found) == 20
        assert {len(urlsafe_b64decode(each + "=")) for each in found} == {32}

    def test_a_signed_id_that_the_store_no_longer_knows_is_not_adopted(
        self, browser: Browser, store: WatchedStore
    ) -> None:
        """What is written comes under a new one."""
        browser.visit(put(a=1))
        old = browser.cookie
        store.delete(browser.visit(lambda session: session.handle).result)
        browser.visit(put(a=2))
        assert browser.cookie.partition(".")[0] != old.partition(".")[0]
        browser.cookie = old
        assert browser.see() == {}

    def test_the_id_is_never_shown(self, browser: Browser) -> None:
        """Not in the repr of the session or of what is around it, nor in its handle."""
        browser.visit(put(a=1))
        session_id = browser.cookie.partition(".")[0]

        def shown() -> str:
            return f"{flask.session!r} {own()!r} {flask.session.handle} {exchange_of(own())!r}"

        assert session_id not in browser.serve(shown).result


class TestComingFromFlaskSession:
    def test_regenerate_gives_a_new_id(self, browser: Browser, store: WatchedStore) -> None:
        """app.session_interface.regenerate(session): the same data, and the old ID is dead."""
        browser.visit(put(a=1))
        old = browser.cookie
        interface: Any = browser.site.app.session_interface
        browser.visit(lambda session: interface.regenerate(session))
        assert browser.cookie is not None
        assert old is not None
        assert browser.cookie.split(".")[0] != old.split(".")[0]
        assert browser.see() == {"a": 1}
        browser.cookie = old
        assert browser.see() == {}

    def test_sid_names_the_session_and_signs_nobody_in(self, browser: Browser) -> None:
        """It is the same in each request, and no cookie can be made of it."""
        assert browser.visit(lambda session: session.sid).result is None
        browser.visit(put(a=1))
        sids = {browser.visit(lambda session: session.sid).result for _ in range(2)}
        (sid,) = sids
        assert sid == browser.visit(lambda session: session.handle).result
        assert browser.cookie is not None
        assert sid not in browser.cookie
        browser.cookie = sid
        assert browser.see() == {}
