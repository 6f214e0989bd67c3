"""Every store test that takes ``database`` runs on SQLite, and on PostgreSQL in `make interop`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interop import postgres

from offhook.store.database import Database

KINDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.interop))


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty database with all tables; for SQLite a file of ``tmp_path``."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), tmp_path / "offhook.db")
        yield f"sqlite:///{tmp_path / 'offhook.db'}"
    else:
        cluster: postgres.Postgres = request.getfixturevalue("postgres_cluster")
        url = cluster.database()
        yield url
        cluster.drop(url)


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """Open and migrated."""
    one = Database.open(database_url, data_dir=tmp_path)
    yield one
    one.close()


@pytest.fixture(params=KINDS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        cluster: postgres.Postgres = request.getfixturevalue("postgres_cluster")
        url = cluster.database(migrated=False)
        yield url
        cluster.drop(url)


@pytest.fixture
def open_database(tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    """``open_database(url)``: closed with the test."""
    opened: list[Database] = []

    def open_one(url: str) -> Database:
        opened.append(Database.open(url, data_dir=tmp_path))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once: 100 ms."""
    folder = tmp_path_factory.mktemp("template")
    one = Database.open("", data_dir=folder)
    one.migrate()
    one.close()
    return folder / "offhook.db"


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[postgres.Postgres]:
    with postgres.running() as cluster:
        yield cluster
