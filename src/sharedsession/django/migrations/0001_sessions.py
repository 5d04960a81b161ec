"""Make the table of the sessions, in the database that is their store; in no other."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from .._databases import table_in


def create(_apps: Any, schema_editor: Any) -> None:  # Any: Django's own
    """Make it, as ``sharedsession create-table`` does."""
    definition = table_in(schema_editor.connection.alias)
    known = schema_editor.connection.introspection.table_names()
    if definition is not None and "sharedsession" not in known:
        schema_editor.execute(definition)


def drop(_apps: Any, schema_editor: Any) -> None:  # Any: Django's own
    """Drop it, which signs all users out."""
    if table_in(schema_editor.connection.alias) is not None:
        schema_editor.execute("DROP TABLE IF EXISTS sharedsession")


class Migration(migrations.Migration):
    """The table is ours, and no model: Django's ORM does not know of it."""

    initial = True
    # No transaction of its own: MySQL makes no table inside of one.
    operations = [migrations.RunPython(create, drop, atomic=False)]  # noqa: RUF012 - as Django has it
