"""`signed_in` and `session_of`, by Django's own test clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import AsyncClient, Client, override_settings

from sharedsession import ConfigurationError
from sharedsession.testing import Clock, FailingStore, session_of, signed_in

Page = Callable[..., Any]


def show(request: HttpRequest) -> dict[str, Any]:
    return {name: request.session[name] for name in request.session if not name.startswith("_")}


@pytest.mark.parametrize("named", ["by the user", "by the key"])
def test_a_user_of_django_is_signed_in(page: Page, client: Client, user: User, named: str) -> None:
    """As by ``force_login``, with data beside it, and by the primary key as well."""
    same = signed_in(client, user if named == "by the user" else user.pk, cart=["tea", {"no": 3}])

    assert same is client
    assert client.get("/whoami").json()["user"] == "ada"
    assert page(show).json() == {"cart": ["tea", {"no": 3}]}


def test_a_client_that_is_awaited_is_signed_in(async_client: AsyncClient, user: User) -> None:
    """The same call, in a test that is no coroutine."""
    signed_in(async_client, user, cart=["tea"])

    with session_of(async_client) as session:
        assert session["cart"] == ["tea"]
        assert session["_auth_user_id"] == str(user.pk)


def test_in_a_coroutine_djangos_own_sign_in_goes_before(
    async_client: AsyncClient, user: User
) -> None:
    """Its database is not asked there; our session is opened all the same."""

    async def test() -> dict[str, Any]:
        await async_client.aforce_login(user)
        with session_of(async_client) as session:
            session["visits"] = 3
        return (await async_client.get("/whoami")).json()

    assert asyncio.run(test()) == {"user": "ada", "visits": 3}


def test_what_is_changed_in_a_session_is_what_a_view_finds(
    page: Page, client: Client, user: User
) -> None:
    """And what a view leaves is what is read."""
    signed_in(client, user, cart=["tea"])

    with session_of(client) as session:
        session["cart"].append("milk")

    assert page(show).json() == {"cart": ["tea", "milk"]}
    assert client.session["cart"] == ["tea", "milk"]


def test_a_session_that_is_ended_is_signed_out(client: Client, user: User) -> None:
    """The client sends no cookie any more."""
    signed_in(client, user)

    with session_of(client) as session:
        session.destroy()

    assert client.get("/whoami").json()["user"] == ""
    assert settings.SESSION_COOKIE_NAME not in client.cookies


def test_the_fixtures_are_for_django_as_well(
    client: Client, user: User, session_store: FailingStore, session_clock: Clock
) -> None:
    """An outage is a 503, and time passes by the clock."""
    with override_settings(SHAREDSESSION={"STORE": session_store}, SESSION_COOKIE_AGE=3600):
        signed_in(client, user)
        with session_store.outage():
            assert client.get("/whoami").status_code == 503

        session_clock.advance(3599)
        assert client.get("/whoami").json()["user"] == "ada"
        session_clock.advance(3600)
        assert client.get("/whoami").json()["user"] == ""


@override_settings(SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies")
def test_another_session_engine_is_an_error(client: Client) -> None:
    """It says what must be there."""
    with pytest.raises(ConfigurationError, match="must have a session middleware"):
        signed_in(client, None, cart=["tea"])
