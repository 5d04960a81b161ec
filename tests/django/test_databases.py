"""``django://default`` on real database servers: the migration, requests, and ATOMIC_REQUESTS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.django.test_settings import manage
from tests.support.databases import MariaDB, PostgreSQL

VISITS = (
    "from django.test import Client; c = Client(); "
    "print([c.get('/visit').json()['visits'] for _ in range(4)])"
)
ROWS = (
    "from django.db import connection as c; k = c.cursor(); "
    "k.execute('SELECT count(*) FROM sharedsession'); print('rows:', k.fetchone()[0])"
)


@pytest.fixture(params=[PostgreSQL, MariaDB], ids=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The parameters of a connection, as DATABASES has them."""
    server = request.param().start()
    try:
        url = urlsplit(server.url)
        kind = "postgresql" if request.param is PostgreSQL else "mysql"
        yield json.dumps(
            {
                "ENGINE": f"django.db.backends.{kind}",
                "NAME": url.path[1:],
                "USER": unquote(url.username or ""),
                "PASSWORD": unquote(url.password or ""),
                "HOST": url.hostname,
                "PORT": str(url.port),
                "ATOMIC_REQUESTS": True,
            }
        )
    finally:
        server.stop()


def test_sessions_in_the_projects_database(database: str, tmp_path: Path) -> None:
    """The migration makes the table there; views count on in one session, which is one row; and
    the migration takes the table away."""
    manage(tmp_path, "migrate", DATABASE=database)
    assert "[1, 2, 3, 4]" in manage(tmp_path, "shell", "-c", VISITS, DATABASE=database)
    assert "rows: 1" in manage(tmp_path, "shell", "-c", ROWS, DATABASE=database)
    manage(tmp_path, "migrate", "sharedsession", "zero", DATABASE=database)
