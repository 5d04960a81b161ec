"""TLS between the store and its database, by each of the drivers."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trustme
from sqlalchemy.util import greenlet_spawn

from sharedsession.exceptions import StoreUnavailable
from sharedsession.stores.base import Store
from sharedsession.stores.sql import AsyncSQLStore, SQLStore
from sharedsession.testing.stores import Awaited, LoopThread, new_key
from tests.support.databases import Database, MariaDB, PostgreSQL

DRIVERS = ["psycopg", "async psycopg", "asyncpg", "pymysql", "asyncmy"]
ENCRYPTED = {
    "postgresql": "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mariadb": "SELECT variable_value FROM information_schema.session_status"
    " WHERE variable_name = 'Ssl_version'",
}


@dataclass
class Site:
    """Two servers with certificates, and who vouches for them."""

    servers: dict[str, Database]
    authority: str
    stranger: str

    def url(self, driver: str, options: str) -> str:
        name = "mariadb" if driver in ("pymysql", "asyncmy") else "postgresql"
        url: str = self.servers[name].url.replace("127.0.0.1", "localhost")  # type: ignore[attr-defined]
        options = options.format(authority=self.authority, stranger=self.stranger)
        return f"{url.replace(f'{name}:', scheme(driver) + ':')}{options and f'?{options}'}"


def scheme(driver: str) -> str:
    return {"asyncpg": "postgresql+asyncpg", "pymysql": "mariadb", "asyncmy": "mariadb"}.get(
        driver, "postgresql"
    )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="sharedsession-sql-"))
    folder.chmod(0o755)
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    for name, user in (("postgresql", "postgres"), ("mariadb", "mysql")):
        key = folder / f"{name}.key"
        certificate.private_key_pem.write_to_path(str(key))
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        key.chmod(0o600)
        give(key, user)
    postgresql = PostgreSQL(
        "ssl=on", f"ssl_cert_file={folder}/postgresql.pem", f"ssl_key_file={folder}/postgresql.key"
    )
    mariadb = MariaDB(f"--ssl-cert={folder}/mariadb.pem", f"--ssl-key={folder}/mariadb.key")
    with postgresql, mariadb:
        yield Site(
            {"postgresql": postgresql, "mariadb": mariadb},
            str(folder / "ca.pem"),
            str(folder / "stranger.pem"),
        )
    shutil.rmtree(folder)


def give(key: Path, user: str) -> None:
    """A server that root starts runs as a user of its own, and reads no key of anybody else."""
    if key.owner() == "root":
        shutil.chown(key, user)


@dataclass
class Subject:
    """A store of one driver, and what it can ask on its own connection."""

    store: Store
    real: SQLStore | AsyncSQLStore
    loop: LoopThread

    def ask(self, question: str) -> Any:
        if isinstance(self.real, SQLStore):
            return self._ask(self.real._engine, question)
        ((line, _),) = self.real._lines._all.values()
        return self.loop.run(greenlet_spawn(self._ask, line.database.engine, question))

    def _ask(self, engine: sa.Engine, question: str) -> Any:
        with engine.connect() as connection:
            return connection.scalar(sa.text(question))


@pytest.fixture
def open_subject(site: Site) -> Iterator[Any]:
    opened: list[Subject] = []
    with LoopThread() as loop:

        def make(driver: str, options: str) -> Subject:
            url = site.url(driver, options)
            real: SQLStore | AsyncSQLStore
            if driver in ("psycopg", "pymysql"):
                store = real = SQLStore.from_url(url, 10.0)
            else:
                real = AsyncSQLStore.from_url(url, 10.0)
                store = Awaited(real, loop)
            opened.append(Subject(store, real, loop))
            return opened[-1]

        yield make
        for subject in opened:
            if isinstance(subject.real, SQLStore):
                subject.real.close()


def verified(driver: str, authority: str = "{authority}") -> str:
    """The options of a URL that demand the certificate of somebody the authority knows."""
    if driver in ("pymysql", "asyncmy"):
        return f"ssl_ca={authority}"
    return f"sslmode=verify-full&sslrootcert={authority}"


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_certificate_is_checked(driver: str, site: Site, open_subject: Any) -> None:
    """A session is kept over TLS; a server that nobody vouches for is an outage."""
    subject = open_subject(driver, verified(driver))
    key = new_key()
    assert subject.store.create(key, b"data", 60)
    assert subject.store.load(key)
    name = "mariadb" if driver in ("pymysql", "asyncmy") else "postgresql"
    assert subject.ask(ENCRYPTED[name]).startswith("TLSv1")

    wary = open_subject(driver, verified(driver, "{stranger}"))
    with pytest.raises(StoreUnavailable, match=r"certificate|CERTIFICATE"):
        wary.store.load(key)


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_the_certificates_are_read_once(
    driver: str, open_subject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each connection: when all are opened anew after an outage, that takes seconds."""
    made: list[object] = []
    usual = ssl.create_default_context

    def counted(*arguments: Any, **named: Any) -> ssl.SSLContext:
        made.append(named)
        return usual(*arguments, **named)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    for options in (verified(driver), ""):
        before = len(made)
        for _ in range(3):
            assert open_subject(driver, options).store.load(new_key()) is None
        assert len(made) - before <= 1  # none, where another test has been here before


KNOWN = "ssl_ca={authority}"
STRANGE = "ssl_ca={stranger}"
OPTIONS = {  # of MySQL, and whether a server of the authority is connected to, and by TLS
    "ssl=true": "TLS",
    "ssl_mode=REQUIRED": "TLS",
    "ssl-mode=required": "TLS",
    f"ssl_mode=VERIFY_CA&{KNOWN}": "TLS",
    f"ssl_mode=VERIFY_IDENTITY&{KNOWN}": "TLS",
    f"ssl_verify_identity=true&{KNOWN}": "TLS",
    f"ssl_check_hostname=false&{KNOWN}": "TLS",
    f"ssl_verify_cert=false&{STRANGE}": "TLS",
    f"ssl_check_hostname=false&{STRANGE}": "refused",
    f"ssl_mode=VERIFY_CA&{STRANGE}": "refused",
    STRANGE: "refused",
    "ssl_mode=VERIFY_CA": "refused",  # by the system's authorities, who do not know it
    "ssl_verify_cert=true": "refused",
    "ssl_verify_identity=true": "refused",
    "ssl_disabled=true": "plain",
    "ssl=false": "plain",
    "ssl_mode=DISABLED": "plain",
}
OF_POSTGRESQL = {
    "sslmode=require": "TLS",
    "ssl=require": "TLS",
    "sslmode=verify-ca&sslrootcert={authority}": "TLS",
    "ssl=verify-full&sslrootcert={stranger}": "refused",
    "sslmode=verify-ca&sslrootcert={stranger}": "refused",
    "sslmode=disable": "plain",
    "ssl=disable": "plain",
}


@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        (driver, options, expected)
        for driver in DRIVERS
        for options, expected in (OPTIONS if "my" in driver else OF_POSTGRESQL).items()
    ],
)
def test_what_a_url_says_of_tls_counts_by_every_driver(
    driver: str, options: str, expected: str, open_subject: Any
) -> None:
    """No option for TLS is dropped in silence, by neither of the two drivers of one URL."""
    subject = open_subject(driver, options)
    if expected == "refused":
        with pytest.raises(StoreUnavailable, match=r"certificate|CERTIFICATE"):
            subject.store.load(new_key())
        return
    assert subject.store.load(new_key()) is None
    name = "mariadb" if "my" in driver else "postgresql"
    version = subject.ask(ENCRYPTED[name]) or ""
    assert version.startswith("TLSv1") is (expected == "TLS")
