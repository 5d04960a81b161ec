"""Requests of a Django site: what the response says, and what is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.cookies import Morsel
from typing import Any

import pytest
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory, override_settings
from django.utils import timezone

from sharedsession import LateChange, StoreUnavailable
from sharedsession.django import SessionMiddleware, SessionStore
from sharedsession.stores.memory import MemoryStore
from sharedsession.testing.stores import Clock

Page = Callable[..., Any]
NAME = settings.SESSION_COOKIE_NAME


def fill(request: HttpRequest) -> HttpResponse:
    request.session["cart"] = ["tea"]
    return HttpResponse("filled")


def show(request: HttpRequest) -> dict[Any, Any]:
    return dict(request.session.items())


def ignore(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ignored")


def cookie_of(response: Any) -> Morsel[str] | None:
    found: Morsel[str] | None = response.cookies.get(NAME)
    return found


def test_stored_and_found(page: Page, client: Client) -> None:
    """What one request stores the next one reads, changes inside values too."""
    page(fill)
    page(lambda request: request.session["cart"].append("cake"))
    assert page(show).json() == {"cart": ["tea", "cake"]}
    assert client.session["cart"] == ["tea", "cake"]


def test_what_a_response_says(page: Page) -> None:
    """A session that was used varies by the cookie; one that sets it is not for shared caches; one
    that was not touched says nothing, and stores nothing."""
    response = page(fill)
    assert cookie_of(response) is not None
    assert response["Vary"] == "Cookie"
    assert response["Cache-Control"] == "no-store"
    response = page(show)
    assert cookie_of(response) is None
    assert response["Vary"] == "Cookie"
    response = page(ignore)
    assert cookie_of(response) is None
    assert "Vary" not in response
    assert "Cache-Control" not in response


def test_robots_leave_nothing(page: Page) -> None:
    """Requests without a cookie that only read have no row and no cookie."""
    store = Down()
    store.is_down = True
    with override_settings(SHAREDSESSION={"STORE": store}):
        for _ in range(3):
            response = page(show, client=Client())
            assert response.status_code == 200
            assert not response.cookies


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, {"path": "/", "samesite": "Lax", "httponly": True, "secure": "", "domain": ""}),
        ({"SESSION_COOKIE_HTTPONLY": False}, {"httponly": ""}),
        ({"SESSION_COOKIE_SECURE": True}, {"secure": True}),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, {"samesite": "Strict"}),
        ({"SESSION_COOKIE_SAMESITE": False}, {"samesite": ""}),
        ({"SESSION_COOKIE_PATH": "/hooked"}, {"path": "/hooked"}),
        ({"SESSION_COOKIE_DOMAIN": "testserver.example"}, {"domain": "testserver.example"}),
        ({"SESSION_COOKIE_AGE": 100}, {"max-age": 100}),
        ({"SESSION_EXPIRE_AT_BROWSER_CLOSE": True}, {"max-age": "", "expires": ""}),
    ],
    ids=str,
)
def test_options_of_the_cookie(page: Page, options: dict[str, Any], said: dict[str, Any]) -> None:
    """Each is the cookie's, as Django spells it, and its removal's as far as that needs it."""
    with override_settings(**options):
        cookie = cookie_of(page(fill))
        assert cookie is not None
        assert {name: cookie[name] for name in said} == said
        removal = cookie_of(page(lambda request: request.session.flush()))
        assert removal is not None
        assert (removal.value, removal["max-age"]) == ("", 0)
        where = {name: each for name, each in said.items() if name in {"path", "domain"}}
        assert {name: removal[name] for name in where} == where


def test_the_cookies_name(page: Page, client: Client) -> None:
    """SESSION_COOKIE_NAME."""
    with override_settings(SESSION_COOKIE_NAME="own"):
        page(fill)
        assert set(client.cookies) == {"own"}
        assert page(show).json() == {"cart": ["tea"]}


def test_over_https(page: Page) -> None:
    """Secure, without a setting, where the request came by it."""
    cookie = cookie_of(page(fill, secure=True))
    assert cookie is not None
    assert cookie["secure"]


@pytest.mark.parametrize(
    ("expiry", "max_age"), [(60, 60), (0, ""), (None, settings.SESSION_COOKIE_AGE)]
)
def test_an_expiry_of_its_own(page: Page, expiry: int | None, max_age: object) -> None:
    """set_expiry() is the cookie's age as well."""

    def remember(request: HttpRequest) -> None:
        request.session.set_expiry(expiry)
        request.session["a"] = 1

    cookie = cookie_of(page(remember))
    assert cookie is not None
    assert cookie["max-age"] == max_age


def test_saved_every_request(page: Page) -> None:
    """SESSION_SAVE_EVERY_REQUEST repeats the cookie; the store is touched once in a tenth."""
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        assert not page(ignore).cookies
        first = cookie_of(page(fill))
        again = cookie_of(page(ignore))
        assert first is not None
        assert again is not None
        assert first.value == again.value
        assert again["max-age"] == settings.SESSION_COOKIE_AGE


def test_nothing_is_saved_of_what_failed(page: Page, client: Client) -> None:
    """As with Django: not with a status of 500 and above, nor when the view raises; but what ended
    the session has ended it."""
    client.raise_request_exception = False
    page(fill)

    def fails(request: HttpRequest) -> HttpResponse:
        request.session["a"] = 1
        return HttpResponse(status=503)

    def raises(request: HttpRequest) -> HttpResponse:
        request.session["a"] = 1
        raise ValueError

    for each in (fails, raises):
        assert page(each).status_code >= 500
        assert page(show).json() == {"cart": ["tea"]}

    def ends(request: HttpRequest) -> HttpResponse:
        request.session.flush()
        raise ValueError

    assert page(ends).status_code == 500
    assert page(show).json() == {}


def test_a_session_that_is_gone_costs_no_page(page: Page, client: Client) -> None:
    """Signed out by another request meanwhile: Django answers 400 then; here what was written is
    dropped, and the page is shown, without a cookie."""
    page(fill)
    handle = client.session.session_key

    def loses(request: HttpRequest) -> HttpResponse:
        request.session["a"] = 1
        SessionStore(session_key=handle).delete()
        return HttpResponse("shown")

    response = page(loses)
    assert (response.status_code, response.content) == (200, b"shown")
    assert not response.cookies
    assert page(show).json() == {}


@pytest.mark.usefixtures("no_connections_left")
def test_two_requests_at_once(page: Page, client: Client) -> None:
    """Different keys are both kept."""
    page(fill)
    other = Client()
    other.cookies = client.cookies

    def slow(request: HttpRequest) -> HttpResponse:
        request.session["a"] = 1
        from tests.django.site import views

        views.hooks["other"] = lambda request: request.session.__setitem__("b", 2)
        thread = threading.Thread(target=other.get, args=["/hooked/other"])
        thread.start()
        thread.join()
        return HttpResponse()

    page(slow)
    assert page(show).json() == {"cart": ["tea"], "a": 1, "b": 2}


def test_a_key_within_a_request(page: Page, client: Client) -> None:
    """save() and create() give a key that others can use at once; cycle_key() the one that the
    session has when the response has left."""
    seen: list[Any] = []

    def saves(request: HttpRequest) -> None:
        seen.append(request.session.session_key)
        request.session.save()
        seen.append(request.session.session_key)
        SessionStore(session_key=seen[-1]).update({"by": "a worker"})
        other = SessionStore(session_key=seen[-1])
        other["by"] = "a worker"
        other.save()

    page(saves)
    assert seen[0] is None
    assert client.session.handle == seen[1]
    assert page(show).json() == {"by": "a worker"}

    def cycles(request: HttpRequest) -> None:
        request.session.cycle_key()
        seen.append(request.session.session_key)

    page(cycles)
    assert client.session.handle == seen[2] != seen[1]
    assert page(show).json() == {"by": "a worker"}
    assert not SessionStore().exists(seen[1])


def test_a_handle_is_no_cookie(page: Page, client: Client) -> None:
    """Whoever shows one as a cookie is a stranger."""
    page(fill)
    stranger = Client()
    stranger.cookies[NAME] = client.session.handle
    assert page(show, client=stranger).json() == {}
    page(fill, client=stranger)
    assert stranger.session.handle != client.session.handle


def test_a_cookie_from_another_header(page: Page, client: Client) -> None:
    """A middleware of the project's that puts it into request.COOKIES is heard, as with Django."""
    page(fill)
    request = RequestFactory().get("/")
    request.COOKIES[NAME] = client.cookies[NAME].value
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    assert request.session["cart"] == ["tea"]


@pytest.mark.parametrize("instead", [None, "", "nonsense"])
def test_a_cookie_that_a_middleware_has_taken_away(
    page: Page, client: Client, instead: str | None
) -> None:
    """What it leaves in request.COOKIES counts, as with Django's own; not the header."""
    page(fill)
    request = RequestFactory().get("/", headers={"cookie": f"{NAME}={client.cookies[NAME].value}"})
    if instead is None:
        del request.COOKIES[NAME]
    else:
        request.COOKIES[NAME] = instead
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    assert dict(request.session.items()) == {}


def test_a_subclass(client: Client, page: Page) -> None:
    """process_request and process_response may be overridden, and what they call is there."""
    order = []

    class Own(SessionMiddleware):
        def process_request(self, request: HttpRequest) -> None:
            super().process_request(request)
            request.session["by"] = "own"
            order.append("request")

        def process_response(self, request: HttpRequest, response: Any) -> Any:
            order.append("response")
            return super().process_response(request, response)

    response = Own(lambda _: HttpResponse())(RequestFactory().get("/"))
    assert order == ["request", "response"]
    assert cookie_of(response) is not None


def test_a_session_made_anew_by_its_key(page: Page, client: Client, user: User) -> None:
    """``request.session.__class__(key)``, as django-allauth has it in each social sign-in."""

    def anew(request: HttpRequest) -> None:
        request.session["state"] = 1
        request.session.save()
        request.session = request.session.__class__(request.session.session_key)
        request.session.modified = True

    def sign_in(request: HttpRequest) -> None:
        anew(request)
        auth.login(request, user)

    assert cookie_of(page(anew)) is not None
    assert page(show).json() == {"state": 1}
    before = client.cookies[NAME].value
    page(sign_in)
    assert client.cookies[NAME].value != before
    assert page(lambda request: request.user.username).json() == "ada"


def test_a_key_by_position(client: Client, user: User) -> None:
    """As django-allauth opens the sessions that its models note, to end those of other devices."""
    client.force_login(user)
    opened: dict[str, Any] = {"__name__": "allauth.usersessions.models", "Store": SessionStore}
    exec("def opens(*args): return Store(*args)", opened)
    key = client.session.session_key
    assert opened["opens"](key)[auth.SESSION_KEY] == str(user.pk)
    assert auth.SESSION_KEY not in SessionStore(key)


def test_late_changes(page: Page, client: Client) -> None:
    """What a stream changes is stored when the session has its cookie; else it is an error."""
    page(fill)

    def streams(request: HttpRequest) -> StreamingHttpResponse:
        def parts() -> Any:
            yield b"a"
            request.session["late"] = 1

        request.session["early"] = 1
        return StreamingHttpResponse(parts())

    response = page(streams)
    assert b"".join(response.streaming_content) == b"a"
    response.close()
    assert page(show).json() == {"cart": ["tea"], "early": 1, "late": 1}

    def from_nothing(request: HttpRequest) -> StreamingHttpResponse:
        def parts() -> Any:
            yield b"a"
            request.session["late"] = 1

        return StreamingHttpResponse(parts())

    response = page(from_nothing, client=Client())
    with pytest.raises(LateChange):
        b"".join(response.streaming_content)


def test_after_the_request(page: Page) -> None:
    """A change that nothing stores any more is an error."""
    kept = []
    page(lambda request: kept.append(request.session))
    with pytest.raises(LateChange):
        kept[0]["a"] = 1


class Down(MemoryStore):
    """A memory that can be down."""

    is_down = False

    def load(self, *arguments: Any) -> Any:
        return self._unless_down(super().load, arguments)

    def create(self, *arguments: Any) -> Any:
        return self._unless_down(super().create, arguments)

    def _unless_down(self, verb: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self.is_down:
            raise StoreUnavailable("The store is down.")
        return verb(*arguments)


def test_an_outage(page: Page, client: Client) -> None:
    """Views that use the session are a 503, others are served; afterwards all is as it was."""
    store = Down()
    with override_settings(SHAREDSESSION={"STORE": store}):
        page(fill)
        store.is_down = True
        response = page(show)
        assert (response.status_code, response["Retry-After"]) == (503, "2")
        assert page(ignore).status_code == 200
        assert client.get("/whoami").status_code == 503
        store.is_down = False
        assert page(show).json() == {"cart": ["tea"]}


def test_an_outage_that_the_application_may_outlive(page: Page, client: Client) -> None:
    """ON_OUTAGE: an empty session to read, and a 503 for what is to be stored."""
    store = Down()
    chosen = {"STORE": store, "ON_OUTAGE": "readonly-empty"}
    with override_settings(SHAREDSESSION=chosen):
        page(fill)
        store.is_down = True
        assert page(show).json() == {}
        assert page(fill).status_code == 503
        store.is_down = False
        assert page(show).json() == {"cart": ["tea"]}


def test_the_idle_timeout(page: Page) -> None:
    """SESSION_COOKIE_AGE ends a session that is not used, whatever cookie the client shows."""
    clock = Clock()
    with override_settings(
        SHAREDSESSION={"STORE": MemoryStore(clock=clock)}, SESSION_COOKIE_AGE=100
    ):
        page(fill)
        clock.advance(99)
        assert page(show).json() == {"cart": ["tea"]}
        clock.advance(101)
        assert page(show).json() == {}


def test_modified_by_hand_prolongs(page: Page) -> None:
    """``session.modified = True`` keeps session and cookie alive, of pages that use no session."""

    def keep(request: HttpRequest) -> None:
        request.session.modified = True

    assert cookie_of(page(keep)) is None  # nothing is kept for a robot
    page(fill)
    kept = cookie_of(page(keep))
    assert kept is not None
    assert kept["max-age"] == settings.SESSION_COOKIE_AGE
    assert page(show).json() == {"cart": ["tea"]}


@pytest.mark.parametrize(
    "expiry",
    [datetime(2100, 1, 1, tzinfo=UTC), datetime.fromisoformat("2100-01-01"), timedelta(hours=1)],
)
@pytest.mark.parametrize("use_tz", [False, True])
def test_a_moment_with_and_without_time_zones(
    page: Page, expiry: datetime | timedelta, use_tz: bool
) -> None:
    """An expiry that is a moment gives a cookie and ages, whatever USE_TZ says."""

    def until(request: HttpRequest) -> None:
        request.session["cart"] = ["tea"]
        request.session.set_expiry(expiry)

    def ages(request: HttpRequest) -> Any:
        left = request.session.get_expiry_date() - timezone.now()
        return abs(left.total_seconds() - request.session.get_expiry_age())

    with override_settings(USE_TZ=use_tz):
        cookie = cookie_of(page(until))
        assert cookie is not None
        assert int(cookie["max-age"]) > 3590
        assert page(ages).json() < 2


def test_an_age_that_is_a_timedelta(page: Page) -> None:
    """SESSION_COOKIE_AGE may be one here, as the idle timeout of the other frameworks may."""
    with override_settings(SESSION_COOKIE_AGE=timedelta(minutes=1)):
        cookie = cookie_of(page(fill))
        assert cookie is not None
        assert cookie["max-age"] == 60


def test_another_engine_is_refused() -> None:
    """The middleware alone is half of it."""
    with (
        override_settings(SESSION_ENGINE="django.contrib.sessions.backends.db"),
        pytest.raises(ImproperlyConfigured, match="SESSION_ENGINE must be"),
    ):
        SessionMiddleware(lambda _: HttpResponse())


def test_a_session_that_the_view_has_put_in_its_place(page: Page, client: Client) -> None:
    """Another SessionStore, by the value of a cookie: it is what the response is about."""
    page(fill)
    cookie = client.cookies[NAME].value

    def replaces(request: HttpRequest) -> None:
        request.session = SessionStore(cookie)
        request.session["a"] = 1

    stranger = Client()
    page(replaces, client=stranger)
    assert page(show).json() == {"cart": ["tea"], "a": 1}
