"""A plugin of Alembic (1.18 and newer) by which its autogenerate leaves the store's table alone.

Autogenerate drops every table that the application's MetaData does not know. Alembic finds this
plugin by the entry point ``alembic.autogenerate.sharedsession``, and so it needs no line in the
application's ``env.py``; there ``autogenerate_plugins`` can leave it out. A table is taken for the
store's by its columns, whatever it is called. `sql.metadata` is for who wants it in the migrations.
"""

from __future__ import annotations

from typing import Any

# Any in what follows: Alembic's own objects, and it may not be installed.
COLUMNS = {"key", "version", "tokens", "data", "expires", "owner"}


def setup(plugin: Any) -> None:
    """Register what looks at each comparison when it is done; Alembic calls it at its import."""
    from alembic.util import DispatchPriority

    plugin.add_autogenerate_comparator(
        leave_the_table, "autogenerate", priority=DispatchPriority.LAST
    )


def leave_the_table(_context: Any, upgrade_ops: Any) -> Any:
    """Take the removal of the store's table, and of its indices, out of a migration."""
    from alembic.operations.ops import DropTableOp, ModifyTableOps
    from alembic.util import PriorityDispatchResult

    ours = {
        (each.schema, each.table_name)
        for each in upgrade_ops.ops
        if isinstance(each, DropTableOp) and set(each.to_table().columns.keys()) == COLUMNS
    }
    upgrade_ops.ops[:] = [
        each
        for each in upgrade_ops.ops
        if not isinstance(each, DropTableOp | ModifyTableOps)
        or (each.schema, each.table_name) not in ours
    ]
    return PriorityDispatchResult.CONTINUE
