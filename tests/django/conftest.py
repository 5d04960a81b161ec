"""The site, in this process: its database is in memory, and so are its sessions."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.django import configured  # noqa: F401 - before what needs it

# isort: split

from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import setup_test_environment, teardown_test_environment

from tests.django.site import views


@pytest.fixture(scope="session", autouse=True)
def _site() -> Iterator[None]:
    setup_test_environment(debug=False)
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0)
    yield
    connection.creation.destroy_test_db(name, verbosity=0)
    teardown_test_environment()


@pytest.fixture(autouse=True)
def _no_rows() -> Iterator[None]:
    yield
    User.objects.all().delete()


@pytest.fixture
def no_connections_left() -> Iterator[None]:
    """Threads that Django ran views in leave connections to its database, which warn of that."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada", password="right")


@pytest.fixture
def admin() -> User:
    return User.objects.create_superuser("root", password="right")


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def async_client() -> AsyncClient:
    return AsyncClient()


@pytest.fixture
def page(client: Client) -> Iterator[Callable[..., Any]]:
    """Runs a function of the request as a page of the site; returns its response."""

    def run(function: Callable[..., Any], client: Client = client, **options: Any) -> Any:
        views.hooks["page"] = function
        return client.get("/hooked/page", **options)

    yield run
    views.hooks.clear()
