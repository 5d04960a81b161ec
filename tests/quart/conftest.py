"""Sites in Quart, on one store and one clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sharedsession.quart import SharedSession
from sharedsession.testing.stores import Clock
from tests.quart.site import Browser, Site
from tests.support.fixtures import clock, no_settings_from_outside, store
from tests.support.watched import WatchedStore

__all__ = ["clock", "no_settings_from_outside", "store"]

MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(clock: Clock, store: WatchedStore) -> MakeSite:
    """Sites with other options, on the same store and clock."""
    return lambda *extension, **config: Site(*extension, clock=clock, store=store, **config)


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


@pytest.fixture
def browser(site: Site) -> Browser:
    return site.browser()


@pytest.fixture(params=["ours", "Quart's own"])
def either(request: pytest.FixtureRequest, make_site: MakeSite) -> MakeSite:
    """Sites with our interface, and with the one that Quart comes with: both must pass."""
    extension = SharedSession if request.param == "ours" else None
    return lambda **config: make_site(extension, **config)
