"""Brings the tables of a database to ``store.schema`` by the revisions in ``store/migrations`` (alembic)."""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from offhook.model.errors import ConfigError

FOLDER = Path(__file__).parent / "migrations"

_log = logging.getLogger("offhook.store")
logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each look; we tell of a change

LOCK = 0x6F66_6668_6F6F_6B01
"""PostgreSQL's advisory locks are numbers that programs agree on: "offhook", 1."""


def upgrade(connection: sa.Connection, name: str, revision: str = "head") -> None:
    """Run the revisions that are missing, in the connection's own transaction, which must be a writing one on SQLite:
    it keeps other processes out, and whatever fails leaves the database as it was.

    Raises ``ConfigError`` for a database of a newer offhook.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    settings = settings_for(connection)
    known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
    before = MigrationContext.configure(connection).get_current_heads()
    newer = set(before) - known
    if newer:
        problem = f"{name} was written by a newer offhook (revision {', '.join(sorted(newer))})"
        raise ConfigError("database.url", problem, "Start that version, or restore the copy made before the update")
    command.upgrade(settings, revision)
    after = MigrationContext.configure(connection).get_current_heads()
    if before and after != before:  # a new one is nothing to tell
        _log.info("%s brought from revision %s to %s", name, *(", ".join(one) for one in (before, after)))


def settings_for(connection: sa.Connection) -> Config:
    """alembic's settings, without a file of its own."""
    settings = Config()
    settings.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings
