"""The API on a real socket, with a real database of its own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.api.served import Served

from offhook.store.database import Database


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once: 100 ms."""
    folder = tmp_path_factory.mktemp("template")
    one = Database.open("", data_dir=folder)
    one.migrate()
    one.close()
    return folder / "offhook.db"


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copyfile(sqlite_template, tmp_path / "offhook.db")
    one = Database.open("", data_dir=tmp_path)
    yield one
    one.close()


@pytest.fixture
async def served(database: Database, tmp_path: Path) -> AsyncIterator[Served]:
    """Nothing is kept yet, and nobody has made a key."""
    async with Served(database, tmp_path) as one:
        yield one
