"""What the errors of databases and of their drivers mean, in one table, and how they are told.

The codes are PostgreSQL's and SQLite's, as text, and those of MySQL and MariaDB, as numbers. Where
drivers keep them differs.
"""

from __future__ import annotations

import re
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from ...exceptions import StoreFull, StoreUnavailable

Kind = Literal["lost", "refused", "undone", "full"]

_KINDS: dict[Kind, tuple[object, ...]] = {
    # The connection ends, and whether the statement took place is not known.
    "lost": ("57P01", "57P02", "57P05", "25P03", "08003", "08006", 1053, 3032),
    # It did not, and will not on this connection: the server is no longer the primary, say, or a
    # SQLite file was opened while it could not be written. By another one it may.
    "refused": ("25006", "25P02", 1047, 1290, 1792, 1836, 1874, 3100, "SQLite 8"),
    # It was given up for the sake of others: a deadlock, or a row that changed under it, where
    # isolation is strict.
    "undone": ("40001", "40P01", 1020, 1213, 3101),
    # There is no room for it: the disk's, the table's, that of `max_page_count`.
    "full": ("53100", 1021, 1114, "SQLite 13"),
}
_MEANING = {code: kind for kind, codes in _KINDS.items() for code in codes}
_NOT_WRITTEN = (1026, 1030)  # by MySQL, of a file; why not stands in the text
_NO_SPACE = re.compile(r"No space left on device|\berr(?:or|no):? 28\b")

OURS = "sharedsession"  # the option of connections by which statements of ours are known
HINTS = {
    "unable to open database file": "check that its folder exists and that it may be written",
    "readonly database": "the file or its folder is read-only",
    "database is locked": "another process held the file's write lock for too long",
    "no such table": "the file was removed or replaced while in use; it is set up anew",
    "disk is full": "make room on the disk, or raise max_page_count; what is stored can be read",
    "could not extend file": "make room on the database's disk; what is stored can be read",
    "No space left": "make room on the database's disk; what is stored can be read",
    "is full": "make room for the database; what is stored can be read",
    "read-only": "this server is not the primary, or no longer",
    "too many clients": "raise max_connections, or lower ?pool_size=… in the store's URL",
    "remaining connection slots": "raise max_connections, or lower ?pool_size=… in the store's URL",
    "Too many connections": "raise max_connections, or lower ?pool_size=… in the store's URL",
    "QueuePool limit": "all connections of this process were in use",
    "connections of this process": "raise ?pool_size=… in the store's URL",
    "statement timeout": "the server was too slow, or another connection held a lock on the row",
    "prepared statement": "behind a pooler use psycopg, postgresql://…, which prepares nothing",
    "permission denied": "grant SELECT, INSERT, UPDATE and DELETE on the table, and let a user "
    "who may create it run: sharedsession create-table",
}


def kind_of(error: Exception) -> Kind | None:
    """Say what became of a statement that failed; None: nothing that is known here."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    known = _meaning(error.orig)
    return known or ("lost" if error.connection_invalidated else None)


def suspect_connections(context: sa.ExceptionContext) -> None:
    """Let SQLAlchemy replace a connection that is of no use any more, and all that were idle.

    It knows those that were closed; not those to a server that lives on and only reads. For
    statements of ours alone: an engine of the user's own has others.
    """
    connection = context.connection
    if connection is None or not connection.get_execution_options().get(OURS):
        return
    if _meaning(context.original_exception) in ("lost", "refused"):
        context.is_disconnect = True


def cause(error: Exception) -> BaseException | None:
    """Return what an outage is raised from: not what may show parameters, a session's data."""
    if isinstance(error, DataError | IntegrityError):
        return None
    return error.orig if isinstance(error, DBAPIError) and error.orig else error


def reason(error: Exception) -> str:
    """Return what an error says, in a line, with what to do about it; nothing of a session."""
    if isinstance(error, DataError | IntegrityError):
        return f"it refused a value ({type(error.orig).__name__}); its table may have been altered"
    shown = cause(error) or error
    texts = [each for each in shown.args if isinstance(each, str)] or [str(shown)]
    first = next(iter(texts[-1].strip().splitlines()), "") or "no answer in time"
    said = re.sub(r"^<class '[\w.]+'>: ", "", first).rstrip(".")
    hint = next((hint for words, hint in HINTS.items() if words in said), "")
    return f"{said} ({hint})" if hint else said


def outage(place: str, reason: str, *, full: bool = False) -> StoreUnavailable:
    """Return the outage of a database; ``full``: it has no room, and nothing was written."""
    kind = StoreFull if full else StoreUnavailable
    return kind(f"The session store ({place}) failed: {reason}.")


def place_of(url: sa.URL) -> str:
    """Return the database in a sentence, without a password."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return f"SQLite file {url.database}"
    name = {"postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}.get(backend)
    host = f"{url.host}:{url.port}" if url.port else url.host
    return f"{name or backend} database {url.database}{f' at {host}' if host else ''}"


def _meaning(error: BaseException) -> Kind | None:
    return next((_MEANING[code] for code in _codes(error) if code in _MEANING), None)


def _codes(error: BaseException) -> list[object]:
    first = next(iter(error.args), None)
    if isinstance(first, dict):  # pg8000
        first = first.get("C")
    if first in _NOT_WRITTEN and _NO_SPACE.search(str(error)):
        first = 1021
    found = [first, *(getattr(error, name, None) for name in ("sqlstate", "pgcode", "errno"))]
    if isinstance(code := getattr(error, "sqlite_errorcode", None), int):
        found.append(f"SQLite {code & 0xFF}")  # the rest says more of the same
    return [code for code in found if isinstance(code, int | str)]
