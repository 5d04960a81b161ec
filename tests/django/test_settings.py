"""Settings of a Django project: what is read and refused, what ``manage.py check`` says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.functional import lazystr

from sharedsession import ConfigurationError, SessionManager
from sharedsession.django import SessionStore
from sharedsession.django._databases import url_of
from sharedsession.django._engine import engine
from tests.support.processes import ROOT

DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"


def said() -> dict[str | None, str]:
    return {each.id: each.msg for each in run_checks() if str(each.id).startswith("sharedsession")}


def test_a_site_that_is_right() -> None:
    """A store that all servers share: no word."""
    with override_settings(SHAREDSESSION={"STORE": "redis://127.0.0.1:1"}):
        assert said() == {}


@pytest.mark.parametrize(
    ("options", "identity", "sentence"),
    [
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.db"}, "E001", "SESSION_ENGINE must"),
        ({"MIDDLEWARE": [DJANGOS]}, "E002", "in the place of"),
        ({"MIDDLEWARE": []}, "E002", "no session middleware"),
        ({"SHAREDSESSION": {}}, "E003", "SHAREDSESSION = {"),
        ({"SHAREDSESSION": {"STORE": "nothing://"}}, "E003", "store"),
        ({"SHAREDSESSION": "redis://"}, "E003", "must be a dict"),
        ({"SHAREDSESSION": {"STOER": "redis://h"}}, "E003", "'STOER'"),
        ({"SHAREDSESSION": {"STORE": "memory://", "MAX_AGE": 5}}, "E003", "SESSION_COOKIE_AGE"),
        ({"SHAREDSESSION": {"STORE": "django://none"}}, "E003", "must name one of DATABASES"),
        ({"SHAREDSESSION": {"STORE": "memory://"}}, "W001", "memory of one process"),
        ({"SHAREDSESSION": {"STORE": "django://default"}}, "W002", "one connection writes"),
        ({"SESSION_SERIALIZER": "tests.django.test_settings.Own"}, "W003", "SESSION_SERIALIZER"),
        ({"SESSION_CACHE_ALIAS": "sessions"}, "W004", "another session engine"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(options: dict[str, Any], identity: str, sentence: str) -> None:
    """By an id, with a sentence."""
    with override_settings(**options):
        assert sentence in said()[f"sharedsession.{identity}"]


class Own:
    """A serializer of the project's, which knows paths."""

    def dumps(self, value: Any) -> bytes:
        import json

        return json.dumps(value, default=os.fspath).encode()

    def loads(self, data: bytes) -> Any:
        import json

        return json.loads(data)


def test_a_serializer_of_the_projects() -> None:
    """What it makes of a value of its own kind is stored; what it does not know is refused."""
    with override_settings(SESSION_SERIALIZER=f"{__name__}.Own"):
        session = SessionStore()
        session["path"], session["when"] = Path("/a/b"), (1, 2)
        session.save()
        assert dict(SessionStore(session_key=session.session_key)) == {
            "path": "/a/b",
            "when": (1, 2),
        }
        session["none"] = object()
        with pytest.raises(TypeError, match="none"):
            session.save()


def test_settings_of_ours() -> None:
    """NAMESPACE and the others, by our names in capitals; a secret key that is shared, too."""
    chosen = {"STORE": "memory://", "NAMESPACE": "site", "SECRET_KEY": ["new", "old"]}
    with override_settings(SHAREDSESSION=chosen, SESSION_COOKIE_NAME="__Host-own"):
        found = engine().manager.settings
        assert (found.namespace, found.session_cookie) == ("site", "__Host-own")
        assert found.secret_keys == (b"new", b"old")


def test_a_key_that_is_lazy() -> None:
    """As Django takes it: what it comes to signs."""
    lazy = lazystr("a key that is looked up later")
    with override_settings(SECRET_KEY=lazy, SECRET_KEY_FALLBACKS=[lazystr("the old one")]):
        assert engine().manager.settings.secret_keys == (
            b"a key that is looked up later",
            b"the old one",
        )


def test_keys_that_are_no_list() -> None:
    """Each character of a text would be a key."""
    with (
        override_settings(SECRET_KEY_FALLBACKS="old"),
        pytest.raises(ConfigurationError, match="must be a list"),
    ):
        engine()


@pytest.mark.parametrize(
    ("database", "url"),
    [
        ({"ENGINE": "sqlite3", "NAME": "/srv/a b.db"}, "sqlite:////srv/a%20b.db"),
        ({"ENGINE": "sqlite3", "NAME": ":memory:"}, "memory://django-other"),
        (
            {
                "ENGINE": "postgresql",
                "NAME": "site",
                "USER": "web",
                "PASSWORD": "p@ss/word",
                "HOST": "db.example",
                "PORT": "5433",
                "OPTIONS": {"sslmode": "require", "pool": True, "isolation_level": 3},
            },
            "postgresql://web:p%40ss%2Fword@db.example:5433/site?sslmode=require",
        ),
        (
            {"ENGINE": "postgresql", "NAME": "site", "HOST": "/var/run/postgresql"},
            "postgresql:///site?host=%2Fvar%2Frun%2Fpostgresql",
        ),
        ({"ENGINE": "postgresql", "NAME": "site", "HOST": "::1"}, "postgresql://[::1]/site"),
        (
            {
                "ENGINE": "mysql",
                "NAME": "site",
                "USER": "web",
                "HOST": "db",
                "OPTIONS": {"ssl": {"ca": "/ca.pem"}, "charset": "utf8mb4"},
            },
            "mysql://web@db/site?ssl_ca=%2Fca.pem",
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else given["NAME"],
)
def test_a_database_as_a_store(database: dict[str, Any], url: str) -> None:
    """The parameters of its connection become a URL of ours; a password is quoted."""
    kind = database["ENGINE"]
    try:
        connections.settings["other"] = {
            **connections.settings["default"],
            "OPTIONS": {},
            **database,
            "ENGINE": f"django.db.backends.{'sqlite3' if kind == 'mysql' else kind}",
        }
        if kind == "mysql":
            connections["other"].vendor = "mysql"  # whose driver these tests do not install
        assert url_of("django://other") == url
    finally:
        del connections.settings["other"]
        del connections["other"]


def test_a_database_in_memory(client: Client) -> None:
    """As tests have it: no other connection sees it, so the sessions are in memory, too."""
    with override_settings(SHAREDSESSION={"STORE": "django://default"}):
        with CaptureQueriesContext(connections["default"]) as queries:
            assert client.get("/visit").json()["visits"] == 1
            assert client.get("/visit").json()["visits"] == 2
        assert not queries.captured_queries


def manage(folder: Path, *arguments: str, store: str = "django://default", **more: str) -> str:
    """Run a command of the project's, as a person does."""
    environment = {
        **more,
        **{name: each for name, each in os.environ.items() if name in {"PATH", "HOME"}},
        "DJANGO_SETTINGS_MODULE": "tests.django.site.settings",
        "FOLDER": str(folder),
        "STORE": store,
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_migration(tmp_path: Path) -> None:
    """``manage.py migrate`` makes the table in the database that is the store, and takes it away;
    nothing is left to migrate, and the ORM knows no model of it."""
    assert "sharedsession.0001_sessions... OK" in manage(tmp_path, "migrate", "sharedsession")
    assert "No changes detected" in manage(tmp_path, "makemigrations", "--check", "sharedsession")
    manager = SessionManager(store=f"sqlite:///{tmp_path}/site.db")
    assert manager.read("x" * 43) is None
    tables = manage(tmp_path, "shell", "-c", SHOW_TABLES)
    assert "sharedsession" in tables
    manage(tmp_path, "migrate", "sharedsession", "zero")
    assert "['" not in manage(tmp_path, "shell", "-c", SHOW_TABLES)


EARLY = """
from django.core.wsgi import get_wsgi_application
from django.test import TransactionTestCase

application = get_wsgi_application()  # which reads the settings, before any test


class Visits(TransactionTestCase):
    def test_visit(self):
        assert self.client.get("/visit").json()["visits"] == 1
"""


def test_tests_leave_the_sites_own_database_alone(tmp_path: Path) -> None:
    """Also where a test's module imports the application, before there is a test's database."""
    manage(tmp_path, "migrate")
    (tmp_path / "test_early.py").write_text(EARLY)
    manage(tmp_path, "test", "test_early")
    assert "[0]" in manage(tmp_path, "shell", "-c", COUNT_ROWS)


def test_a_migration_elsewhere_makes_nothing(tmp_path: Path) -> None:
    """With a store that is none of DATABASES."""
    manage(tmp_path, "migrate", "sharedsession", store="memory://")
    assert "['" not in manage(tmp_path, "shell", "-c", SHOW_TABLES)


SHOW_TABLES = (
    "from django.db import connection as c; "
    "print([each for each in c.introspection.table_names() if each == 'sharedsession'])"
)
COUNT_ROWS = (
    "from django.db import connection as c; "
    "print([each[0] for each in c.cursor().execute('SELECT count(*) FROM sharedsession')])"
)
