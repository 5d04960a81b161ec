"""django.contrib.auth, admin, messages and CSRF on our sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import (
    SESSION_KEY,
    authenticate,
    get_user,
    login,
    logout,
    update_session_auth_hash,
)
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.test import Client, override_settings

from sharedsession.django import SessionStore

Page = Callable[..., Any]
NAME = settings.SESSION_COOKIE_NAME


def thief_of(client: Client) -> Client:
    thief = Client()
    thief.cookies[NAME] = client.cookies[NAME].value
    return thief


def sign_in(request: HttpRequest) -> None:
    user = authenticate(request, username="ada", password="right")
    assert user is not None
    login(request, user)


def cart(request: HttpRequest) -> None:
    request.session["cart"] = ["tea"]


def show(request: HttpRequest) -> dict[str, Any]:
    return {name: request.session[name] for name in request.session if not name.startswith("_")}


def test_a_sign_in_renews(page: Page, client: Client, user: User) -> None:
    """The cookie from before it is worth nothing; what the visitor had comes along."""
    page(cart)
    before = thief_of(client)
    page(sign_in)
    assert client.get("/whoami").json()["user"] == "ada"
    assert page(show).json() == {"cart": ["tea"]}
    assert before.get("/whoami").json()["user"] == ""
    assert page(show, client=before).json() == {}
    assert client.session[SESSION_KEY] == str(user.pk)


def test_a_sign_out_ends_it(page: Page, client: Client, user: User) -> None:
    """logout() ends the session and removes the cookie; a copy of it is worth nothing."""
    page(sign_in)
    copy = thief_of(client)
    response = page(logout)
    assert response.cookies[NAME]["max-age"] == 0
    assert copy.get("/whoami").json() == {"user": ""}


def test_another_user_finds_nothing(page: Page, client: Client, user: User) -> None:
    """A sign-in over another user's session begins with nothing of theirs."""
    other = User.objects.create_user("bob")
    page(sign_in)
    page(cart)
    page(lambda request: login(request, other))
    assert client.get("/whoami").json()["user"] == "bob"
    assert page(show).json() == {}


def test_a_new_password(page: Page, client: Client, user: User) -> None:
    """It ends the user's other sessions; update_session_auth_hash keeps this one, renewed."""
    page(sign_in)
    elsewhere = Client()
    page(sign_in, client=elsewhere)
    before = thief_of(client)

    def change(request: HttpRequest) -> None:
        assert request.user == user
        user.set_password("new")
        user.save()
        update_session_auth_hash(request, user)

    page(change)
    assert client.get("/whoami").json()["user"] == "ada"
    assert elsewhere.get("/whoami").json()["user"] == ""
    assert before.get("/whoami").json()["user"] == ""


def test_a_rotated_secret_key(page: Page, client: Client, user: User) -> None:
    """SECRET_KEY_FALLBACKS keep the users signed in, with the cookie and Django's own hash."""
    page(sign_in)
    with override_settings(SECRET_KEY="the new one", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert client.get("/whoami").json()["user"] == "ada"
        page(cart)
        with override_settings(SECRET_KEY_FALLBACKS=[]):
            assert client.get("/whoami").json()["user"] == "ada"
    assert Client().get("/whoami").json()["user"] == ""


def test_the_key_that_a_signal_notes(page: Page, client: Client, user: User) -> None:
    """What user_logged_in reads as session_key, as device lists do, is the session's to the end."""
    noted: list[Any] = []

    def note(request: HttpRequest, **_: object) -> None:
        noted.append(request.session.session_key)

    user_logged_in.connect(note)
    try:
        page(cart)
        page(sign_in)
        page(sign_in, client=Client())
    finally:
        user_logged_in.disconnect(note)
    assert client.session.handle == noted[0]
    for handle in noted:
        assert SessionStore(session_key=handle)[SESSION_KEY] == str(user.pk)
        SessionStore(session_key=handle).delete()
    assert client.get("/whoami").json()["user"] == ""


def test_the_clients_sign_in(client: Client, user: User) -> None:
    """force_login, login and logout of Django's test client."""
    client.force_login(user)
    assert client.get("/whoami").json()["user"] == "ada"
    client.logout()
    assert client.get("/whoami").json()["user"] == ""
    assert client.login(username="ada", password="right")
    assert not client.login(username="ada", password="wrong")
    assert client.get("/visit").json()["visits"] == 1


def test_the_clients_session(client: Client, user: User) -> None:
    """client.session is read, changed and saved, before a sign-in and after."""
    session = client.session
    session["visits"] = 5
    session.save()
    client.force_login(user)
    assert client.get("/visit").json()["visits"] == 6
    session = client.session
    session["visits"] = 0
    session.save()
    assert client.get("/whoami").json() == {"user": "ada", "visits": 0}


@pytest.mark.parametrize("key", ["user_id", "username", "email", SESSION_KEY, "cart"])
def test_the_client_is_signed_in_by_hand(page: Page, client: Client, key: str) -> None:
    """``session = client.session; session["user_id"] = …; session.save()``, as tests do it."""
    page(lambda request: request.session.update({"before": 1}))
    session = client.session
    session[key] = "7"
    session.save()
    assert client.session[key] == "7"
    found = page(lambda request: [request.session.get(name) for name in ("before", key)]).json()
    assert found == [1, "7"]
    del session[key]
    session.save()
    assert key not in client.session


def test_a_session_ends_with_its_user(client: Client, user: User) -> None:
    """A user who is deleted is signed out."""
    client.force_login(user)
    user.delete()
    assert client.get("/whoami").json()["user"] == ""


def test_get_user(client: Client, user: User, page: Page) -> None:
    """By Django's own function, for who is signed in and for who is not."""
    seen: list[Any] = []
    page(lambda request: seen.append(get_user(request)))
    client.force_login(user)
    page(lambda request: seen.append(get_user(request)))
    assert isinstance(seen[0], AnonymousUser)
    assert seen[1] == user


def test_the_admin(client: Client, admin: User) -> None:
    """By its own forms: signed in, a note added, the message shown once, signed out."""
    login_page = client.get("/admin/", follow=True)
    assert "Log in" in login_page.content.decode()
    home = client.post(
        "/admin/login/?next=/admin/", {"username": "root", "password": "right"}, follow=True
    )
    assert "Site administration" in home.content.decode()
    added = client.post("/admin/notes/note/add/", {"text": "hello"}, follow=True)
    assert "was added successfully" in added.content.decode()
    assert "was added successfully" not in client.get("/admin/").content.decode()
    client.post("/admin/logout/")
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize("storage", ["session.SessionStorage", "fallback.FallbackStorage"])
def test_messages(page: Page, client: Client, storage: str) -> None:
    """In their order, with levels and tags, shown once; in both storages."""
    with override_settings(MESSAGE_STORAGE=f"django.contrib.messages.storage.{storage}"):

        def says(request: HttpRequest) -> None:
            messages.success(request, "saved", extra_tags="big")
            messages.error(request, "x" * 3000)  # for a cookie it is too much

        def shown(request: HttpRequest) -> list[Any]:
            return [
                [each.level_tag, each.tags, len(each.message)]
                for each in messages.get_messages(request)
            ]

        page(says)
        expected = [["success", "big success", 5], ["error", "error", 3000]]
        assert page(shown).json() == expected
        assert page(shown).json() == []


def test_csrf_in_sessions(page: Page, user: User) -> None:
    """CSRF_USE_SESSIONS: the token is the session's, and another one after a sign-in."""
    client = Client(enforce_csrf_checks=True)
    with override_settings(CSRF_USE_SESSIONS=True):
        token = page(lambda request: HttpResponse(get_token(request)), client=client)
        page(sign_in, client=client)
        refused = client.post(
            "/notes", {"text": "a", "csrfmiddlewaretoken": token.content.decode()}
        )
        assert refused.status_code == 403
        token = page(lambda request: HttpResponse(get_token(request)), client=client)
        taken = client.post(
            "/notes", {"text": "a", "csrfmiddlewaretoken": token.content.decode()}, follow=True
        )
        assert "Saved: a" in taken.content.decode()


def test_ninja(client: Client, user: User) -> None:
    """django-ninja's own guard knows the session."""
    assert client.get("/api/me").status_code == 401
    client.force_login(user)
    assert client.get("/api/me").json() == {"user": "ada"}
