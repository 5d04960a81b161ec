"""Alembic, whose autogenerate drops what it does not know, beside the sessions' table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations

from sharedsession.stores.sql import SQLStore, metadata
from tests.support.databases import MariaDB, PostgreSQL

TABLES = [("sharedsession", None), ("their sessions", None), ("sessions", "shop")]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/app.db"
    server: PostgreSQL | MariaDB = request.getfixturevalue(request.param)
    return server.url


def with_driver(url: str) -> str:
    """The URL as SQLAlchemy takes it, for an engine of the application's own."""
    return url.replace("postgresql:", "postgresql+psycopg:").replace("mariadb:", "mariadb+pymysql:")


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(with_driver(url))
    yield engine
    with engine.begin() as connection:
        for name in ("sharedsession", "their sessions", "users", "drafts"):
            quoted = engine.dialect.identifier_preparer.quote(name)
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quoted}")
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("DROP SCHEMA IF EXISTS shop CASCADE")
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS sharedsession_push CASCADE")
    engine.dispose()


@pytest.fixture
def models() -> sa.MetaData:
    """What the application knows: its own table."""
    models = sa.MetaData()
    sa.Table("users", models, sa.Column("id", sa.Integer, primary_key=True))
    return models


def made(url: str, table: str, schema: str | None, engine: sa.Engine) -> None:
    """Make the store's table as its users do, with what tells of writes where that can be."""
    if schema is not None:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    store = SQLStore.from_url(f"{url}?table={table}" + (f"&schema={schema}" if schema else ""))
    store.create_table()
    if engine.dialect.name == "postgresql":
        store.create_trigger()
    store.close()


def written(engine: sa.Engine, known: Any, **options: Any) -> str:
    """The migration that autogenerate writes."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return render_python_code(produce_migrations(context, known).upgrade_ops)


@pytest.mark.parametrize(("table", "schema"), TABLES)
def test_a_migration_leaves_the_table_alone(
    url: str, engine: sa.Engine, models: sa.MetaData, table: str, schema: str | None
) -> None:
    """Without a line in the application: the table is not dropped.

    Others that the application does not know still are.
    """
    if schema is not None and engine.dialect.name != "postgresql":
        return
    made(url, table, schema, engine)
    drafts = sa.MetaData()
    sa.Table("drafts", drafts, sa.Column("key", sa.Integer, primary_key=True))
    drafts.create_all(engine)
    migration = written(engine, models, include_schemas=schema is not None)
    assert "op.create_table('users'" in migration
    assert "op.drop_table('drafts')" in migration
    assert table not in migration
    assert "drop_index" not in migration
    assert migration.count("drop_table") == 1


def test_the_plugin_can_be_left_out(url: str, engine: sa.Engine, models: sa.MetaData) -> None:
    """Who wants the table dropped says so, by Alembic's own option."""
    made(url, "sharedsession", None, engine)
    plugins = ["alembic.autogenerate.*", "~alembic.autogenerate.sharedsession"]
    migration = written(engine, models, autogenerate_plugins=plugins)
    assert "op.drop_table('sharedsession')" in migration


@pytest.mark.parametrize(("table", "schema"), TABLES)
def test_the_table_in_the_metadata_is_the_one_in_the_database(
    url: str, engine: sa.Engine, models: sa.MetaData, table: str, schema: str | None
) -> None:
    """Columns, types, defaults and indices compare equal, with the triggers in place too."""
    if schema is not None and engine.dialect.name != "postgresql":
        return
    made(url, table, schema, engine)
    models.create_all(engine)
    options = {"compare_server_default": True, "include_schemas": schema is not None}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, [models, metadata(table, schema=schema)]) == []


def test_a_migration_can_make_the_table(url: str, engine: sa.Engine) -> None:
    """With the MetaData in `target_metadata` the migration that is written makes it; it serves."""
    migration = written(engine, metadata())
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        namespace = {"op": op, "sa": sa, "mysql": sa.dialects.mysql}
        exec(compile(migration_body(migration), "migration", "exec"), namespace)
    store = SQLStore.from_url(url)
    created = store.create("k" * 43, bytes(range(256)), 60, "Zoë")
    assert created is not None
    loaded = store.load("k" * 43)
    assert loaded is not None
    assert (loaded.data, loaded.token) == (created.data, created.token)
    store.close()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata()) == []


def test_a_migration_drops_the_indices_of_an_earlier_version(url: str, engine: sa.Engine) -> None:
    """With the MetaData in `target_metadata`, autogenerate finds what is indexed and not read."""
    made(url, "sharedsession", None, engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE INDEX ix_old ON sharedsession (expires)")
    migration = written(engine, metadata())
    assert "op.drop_index(" in migration
    assert "ix_old" in migration
    assert "drop_table" not in migration


def migration_body(migration: str) -> str:
    lines = migration.splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines)


APPLICATION = """
import flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sharedsession.flask import SharedSession

app = flask.Flask(__name__, instance_path={folder!r})
app.config.update(SECRET_KEY="k" * 32, SQLALCHEMY_DATABASE_URI={url!r})
database = SQLAlchemy(app)
users = database.Table("users", database.Column("id", database.Integer, primary_key=True))
Migrate(app, database, directory={folder!r} + "/migrations")
SharedSession(app, store={url!r})

@app.get("/")
def view():
    flask.session["a"] = 1
    return ""

app.test_client().get("/")
"""


def test_flask_db_migrate_leaves_the_table_alone(tmp_path: Path) -> None:
    """Flask-Migrate, in a database that the application and the sessions share."""
    url = f"sqlite:///{tmp_path}/app.db"
    (tmp_path / "shop.py").write_text(APPLICATION.format(folder=str(tmp_path), url=url))
    for command in (["init"], ["migrate"]):
        words = [sys.executable, "-m", "flask", "--app", str(tmp_path / "shop.py"), "db", *command]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (script,) = (tmp_path / "migrations" / "versions").glob("*.py")
    text = script.read_text()
    assert "op.create_table('users'" in text.partition("def downgrade")[0]
    assert "sharedsession" not in text
