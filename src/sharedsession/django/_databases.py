"""``STORE = "django://default"``: the store is one of ``settings.DATABASES``, in our own table."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core import mail
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from ..exceptions import ConfigurationError
from ..stores import table_definition

SCHEME = "django"
# Options of a connection that say where or how safely it connects. Others are Django's business:
# pools, isolation, character sets; our statements have connections of their own.
CARRIED = frozenset(
    "sslmode sslrootcert sslcert sslkey sslcrl service passfile options target_session_attrs "
    "keepalives keepalives_idle keepalives_interval keepalives_count application_name".split()
)


def alias_of(store: object) -> str | None:
    """Return which of the databases a store's URL names; None where it is another store."""
    if not isinstance(store, str) or not store.startswith(f"{SCHEME}:"):
        return None
    return store.removeprefix(f"{SCHEME}:").removeprefix("//").strip("/") or "default"


def place_of(store: str) -> str:
    """Return where the sessions of ``django://alias`` are now: while tests run, in memory.

    A test's database is another one, which must have no connection left when it is dropped, and
    whose transactions, on SQLite, would keep ours out.
    """
    url = url_of(store)
    return f"memory://{SCHEME}-{alias_of(store)}" if is_tested() else url


def is_tested() -> bool:
    """Whether `django.test.utils.setup_test_environment` has been called, and is in force."""
    return hasattr(mail, "outbox")


def table_in(alias: str) -> str | None:
    """Return the SQL that makes our table in a database; None: the sessions are not in there."""
    store = getattr(settings, "SHAREDSESSION", {}).get("STORE")
    if alias_of(store) != alias:
        return None
    definition = table_definition(url_of(str(store)))
    return None if definition is None else definition.strip().rstrip(";")


def url_of(store: str) -> str:
    """Return the URL of the database that ``django://alias`` names.

    Of a database in memory, as tests have it, no other connection sees anything: there the sessions
    are in memory as well.

    Raises:
        ConfigurationError: there is no such database, or it is of a kind that we have no store for.
    """
    alias = str(alias_of(store))
    try:
        database: dict[str, Any] = connections[alias].settings_dict  # in a test: the test's own
        vendor = connections[alias].vendor
    except ConnectionDoesNotExist:
        raise ConfigurationError(
            f"SHAREDSESSION['STORE'] must name one of DATABASES, got {store!r}: there is "
            f"{', '.join(map(repr, connections))}."
        ) from None
    if vendor == "sqlite":
        name = str(database["NAME"])
        in_memory = name == ":memory:" or "mode=memory" in name
        return f"memory://{SCHEME}-{alias}" if in_memory else f"sqlite:///{quote(name)}"
    if vendor not in ("postgresql", "mysql"):
        raise ConfigurationError(
            f"SHAREDSESSION['STORE'] must name a database of SQLite, PostgreSQL, MySQL or "
            f"MariaDB; {alias!r} is one of {vendor}. Choose another store."
        )
    options = {**(database.get("OPTIONS") or {})}
    query = {name: str(options[name]) for name in sorted(CARRIED & options.keys())}
    if vendor == "mysql":
        query.update({f"ssl_{name}": str(each) for name, each in options.get("ssl", {}).items()})
    host = str(database["HOST"] or "")
    if host.startswith("/"):
        query["unix_socket" if vendor == "mysql" else "host"], host = host, ""
    user = ":".join(quote(str(database[name]), safe="") for name in ("USER", "PASSWORD"))
    at = f"{user.rstrip(':')}@" if user != ":" else ""
    host = f"[{host}]" if ":" in host else host
    port = f":{database['PORT']}" if database["PORT"] else ""
    ends = f"?{urlencode(query)}" if query else ""
    return f"{vendor}://{at}{host}{port}/{quote(str(database['NAME']), safe='')}{ends}"
