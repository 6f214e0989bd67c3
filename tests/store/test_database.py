"""Transactions, writers in several processes, migrations, and what is told of a database that cannot be used."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from offhook.model.errors import ConfigError
from offhook.store import migrating
from offhook.store.database import Database
from offhook.store.schema import metadata, revisions

OpenDatabase = Callable[[str], Database]

RAISE = sa.update(revisions).values(revision=revisions.c.revision + 1)

WRITER = """
import sys
from pathlib import Path
import sqlalchemy as sa
from offhook.store.database import Database
from offhook.store.schema import revisions
database = Database.open(sys.argv[1], data_dir=Path())
for _ in range(int(sys.argv[2])):
    with database.write() as connection:
        seen = connection.execute(sa.select(revisions.c.revision)).scalar_one()
        connection.execute(sa.update(revisions).values(revision=revisions.c.revision + 1))
database.close()
"""


def revision(database: Database) -> int:
    with database.read() as connection:
        found: int = connection.execute(sa.select(revisions.c.revision)).scalar_one()
        return found


def raise_revision(connection: sa.Connection, by: int = 1, *, fail: bool = False) -> int:
    connection.execute(sa.update(revisions).values(revision=revisions.c.revision + by))
    if fail:
        raise ValueError("on purpose")
    return by


# ── transactions ──


async def test_a_write_is_seen_by_the_next_read(database: Database) -> None:
    assert await database.run(raise_revision, 3) == 3
    assert await database.look(lambda connection: connection.execute(sa.select(revisions.c.revision)).scalar()) == 3


async def test_what_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        await database.run(raise_revision, fail=True)
    assert revision(database) == 0


async def test_a_reader_sees_nothing_of_a_write_that_is_not_committed(database: Database) -> None:
    with database.write() as connection:
        raise_revision(connection)
        assert await asyncio.to_thread(revision, database) == 0
    assert revision(database) == 1


async def test_many_writers_at_once_lose_nothing(database: Database) -> None:
    await asyncio.gather(*(database.run(raise_revision) for _ in range(50)))
    assert revision(database) == 50


def test_threads_and_processes_write_beside_each_other(database: Database, database_url: str) -> None:
    """Each reads before it writes: deferred transactions would fail with "database is locked"."""
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, database_url, "40"]) for _ in range(2)]
    threads = [threading.Thread(target=write_times, args=(database, 40)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert revision(database) == 200


def write_times(database: Database, times: int) -> None:
    for _ in range(times):
        with database.write() as connection:
            raise_revision(connection)


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        ({"text": "Grüße 😀", "n": [1, 2.5, None]}, {"text": "Grüße 😀", "n": [1, 2.5, None]}),
        ({"nul": "a\0b"}, {"nul": "a\\x00b"}),
        ({"text": "a peer's octet \udcff"}, {"text": "a peer's octet \\udcff"}),
    ],
)
async def test_json_comes_back_as_it_was_but_for_octets_that_are_no_text(
    database: Database, note: object, kept: object
) -> None:
    table = sa.Table("notes", sa.MetaData(), sa.Column("note", sa.JSON))

    def written(connection: sa.Connection) -> object:
        table.create(connection)
        connection.execute(sa.insert(table), {"note": note})
        return connection.execute(sa.select(table.c.note)).scalar_one()

    assert await database.run(written) == kept


def test_a_committed_write_has_reached_the_disk(tmp_path: Path, open_database: OpenDatabase) -> None:
    with open_database("").read() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]
    assert (tmp_path / "offhook.db").stat().st_mode & 0o777 == 0o600


def test_what_was_committed_comes_into_the_file_while_nobody_closes_it(
    tmp_path: Path, open_database: OpenDatabase
) -> None:
    database, file = open_database(""), tmp_path / "offhook.db"
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE filled (value BLOB)")
        connection.exec_driver_sql("INSERT INTO filled VALUES (zeroblob(1000000))")
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 0
    for _ in range(600):
        if file.stat().st_size > 1_000_000:
            break
        time.sleep(0.05)  # by another thread, in its own time
    assert file.stat().st_size > 1_000_000


# ── migrations ──


def test_the_migrations_make_the_schema(
    empty_database_url: str, open_database: OpenDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    database = open_database(empty_database_url)
    with caplog.at_level("INFO"):
        database.migrate()
        database.migrate()
    assert caplog.records == []  # a new one is nothing to tell
    with database.read() as connection:
        # SQLite writes a default back in other words than alembic compares it with
        context = MigrationContext.configure(connection, opts={"compare_server_default": not database.is_sqlite})
        assert compare_metadata(context, metadata) == []


def test_processes_that_start_together_migrate_once(empty_database_url: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from offhook.store.database import Database\n"
        "one = Database.open(sys.argv[1], data_dir=Path()); one.migrate(); one.close()"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, empty_database_url]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    database = Database.open(empty_database_url, data_dir=tmp_path)
    assert revision(database) == 0
    database.close()


def test_rows_of_the_first_release_come_through_every_later_one(
    empty_database_url: str, open_database: OpenDatabase
) -> None:
    """At revision 0001 every table gets a row, by what the database itself says of its columns."""
    database = open_database(empty_database_url)
    with database.write() as connection:
        migrating.upgrade(connection, database.name, "0001")
        before = fill_every_table(connection)
    database.migrate()
    with database.read() as connection:
        after = sa.MetaData()
        after.reflect(connection)
        counts = {
            name: connection.scalar(sa.select(sa.func.count()).select_from(after.tables[name])) for name in before
        }
    assert counts == before


def fill_every_table(connection: sa.Connection) -> dict[str, int]:
    """Rows by table. A later revision that drops a table says so here."""
    found = sa.MetaData()
    found.reflect(connection)
    tables = [table for name, table in found.tables.items() if name != "alembic_version"]
    for table in tables:
        connection.execute(sa.insert(table), {column.name: some_value(column) for column in table.columns})
    return {table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in tables}


def some_value(column: sa.Column[object]) -> object:
    kind = column.type.python_type
    return {str: "x", int: 1, float: 1.5, bytes: b"x"}.get(kind, {"x": 1})


def test_a_database_of_a_newer_offhook_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match=r"database\.url: .* newer offhook \(revision 9999\)\. Start that version"):
        database.migrate()


# ── databases that cannot be used ──


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://root:hidden@db/offhook", "is no URL of a database that offhook knows"),
        ("postgresql://offhook:hidden@db:x/offhook", "is no URL"),
        ("postgresql://offhook:hidden@db", "lacks a user, a host or a database"),
        ("postgresql://offhook:hidden@db/x?sslmode=maybe", "sslmode 'maybe'"),
        ("postgresql://offhook:hidden@db/x?sslmode=verify-ca&sslrootcert=/none", "sslrootcert that cannot be read"),
        ("postgresql://offhook:hidden@db/x?connect_timeout=0", "connect_timeout"),
        ("postgresql://offhook:hidden@db/x?password2=hidden", "the parameter 'password2'"),
        ("sqlite://", "names no file"),
        ("sqlite:////proc/offhook/x.db", "cannot be opened"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        Database.open(url, data_dir=tmp_path)
    assert refusal.value.key == "database.url"
    assert problem in str(refusal.value)
    assert "hidden" not in str(refusal.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "offhook.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=r"offhook\.db cannot be opened \(file is not a database\)"):
        Database.open("", data_dir=tmp_path)


def test_a_postgresql_that_nobody_started_is_away(open_database: OpenDatabase) -> None:
    database = open_database("postgresql://offhook:hidden@127.0.0.1:1/offhook")
    with pytest.raises(sa.exc.InterfaceError) as failure, database.read():
        pass
    assert database.is_away(failure.value)
    assert not database.is_away(ValueError())
    with pytest.raises(ConfigError, match=r"postgresql://offhook@127\.0\.0\.1:1/offhook cannot be reached") as refusal:
        database.migrate()
    assert "hidden" not in str(refusal.value)
