"""The number that rises with every change a directory in memory must follow."""

from __future__ import annotations

import sqlalchemy as sa

from offhook.store.schema import revisions

_NAME = "directory"


def current_revision(connection: sa.Connection) -> int:
    revision: int = connection.execute(sa.select(revisions.c.revision).where(revisions.c.name == _NAME)).scalar_one()
    return revision


def begin_change(connection: sa.Connection) -> None:
    """Wait for the transactions that change the directory now, and keep others out until ours ends: what one checks is
    true when it is committed. SQLite's transactions do so by themselves.
    """
    connection.execute(sa.select(revisions.c.revision).where(revisions.c.name == _NAME).with_for_update())


def raise_revision(connection: sa.Connection) -> None:
    """Within the transaction of the change."""
    one = sa.update(revisions).where(revisions.c.name == _NAME)
    connection.execute(one.values(revision=revisions.c.revision + 1))
