"""A site that stays with Django, on the sessions of its database first: what happens is asserted.

Run by test_moving_in.py in a process of its own, with a database in a file.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import django

django.setup()

from django.conf import settings  # noqa: E402 - after the line above
from django.contrib.auth import logout  # noqa: E402 - the same
from django.contrib.auth.models import User  # noqa: E402 - the same
from django.contrib.sessions.models import Session  # noqa: E402 - the same
from django.core.management import call_command  # noqa: E402 - the same
from django.test import Client, override_settings  # noqa: E402 - the same

from sharedsession.adopt import Django  # noqa: E402 - the same
from tests.django.site import views  # noqa: E402 - the same

OLD = "django.contrib.sessions.backends.db"
DATABASE = f"sqlite:///{os.environ['FOLDER']}/site.db"
NAME = settings.SESSION_COOKIE_NAME


def again(client: Client) -> Client:
    """Return the same browser, before a server that was started anew."""
    other = Client()
    other.cookies = client.cookies
    return other


def switching(at: datetime) -> override_settings:
    chosen = {
        "STORE": "memory://moving",
        "ADOPT": Django(DATABASE),
        "SWITCH_AT": at.isoformat(),
        "BEFORE": OLD,
    }
    return override_settings(SHAREDSESSION=chosen)


call_command("migrate", verbosity=0)
ada = User.objects.create_user("ada")
middleware = [
    "django.contrib.sessions.middleware.SessionMiddleware" if "sharedsession" in each else each
    for each in settings.MIDDLEWARE
]
with override_settings(SESSION_ENGINE=OLD, MIDDLEWARE=middleware):
    browser = Client()
    browser.force_login(ada)
    assert browser.get("/visit").json()["visits"] == 1
old = browser.cookies[NAME].value

hour = timedelta(hours=1)
with switching(datetime.now(UTC) + hour):  # new servers beside old ones
    browser = again(browser)
    assert browser.get("/visit").json()["visits"] == 2
    assert browser.get("/avisit").json() == {"visits": 3, "user": "ada"}
    assert browser.cookies[NAME].value == old
    assert Session.objects.count() == 1

with switching(datetime.now(UTC) - hour):
    browser = again(browser)
    assert browser.get("/whoami").json() == {"user": "ada", "visits": 3}
    assert browser.cookies[NAME].value != old
    assert browser.get("/visit").json()["visits"] == 4
    assert Session.objects.count() == 0
    late = Client()
    late.cookies[NAME] = old
    assert late.get("/whoami").json() == {"user": "ada", "visits": 4}
    views.hooks["out"] = logout
    browser.get("/hooked/out")
    assert browser.get("/whoami").json() == {"user": ""}
    late = Client()
    late.cookies[NAME] = old
    assert late.get("/whoami").json() == {"user": ""}
