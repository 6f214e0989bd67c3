"""A data folder with calls in it, as commands find it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from offhook.store.database import Database


@contextmanager
def database_in(folder: Path) -> Iterator[Database]:
    """Made and migrated where it is missing."""
    with closing(Database.open("", data_dir=folder)) as database:
        database.migrate()
        yield database
