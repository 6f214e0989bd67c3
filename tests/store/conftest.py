"""The database of a test: SQLite, or the PostgreSQL that ``OFFHOOK_TEST_DATABASE`` names, emptied first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from offhook.store.database import Database
from offhook.store.schema import metadata


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(os.environ.get("OFFHOOK_TEST_DATABASE", ""), data_dir=tmp_path)
    database.migrate()
    if not database.is_sqlite:
        with database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
    yield database
    database.close()
