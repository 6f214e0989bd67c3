"""What alembic runs: in the connection and the transaction that ``store.migrating`` holds."""

from __future__ import annotations

from alembic import context

from offhook.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a column by making the table anew
    transactional_ddl=True,  # SQLite can, though alembic supposes that sqlite3 commits behind its back
)
context.run_migrations()
