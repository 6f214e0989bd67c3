"""A PostgreSQL that stops, crashes, hangs or throws us out: told from a fault of ours, used again when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.interop import postgres

from offhook.model.errors import ConfigError
from offhook.store.database import Database
from offhook.store.revision import current_revision, raise_revision


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Postgres]:
    with postgres.running() as one:
        yield one


@pytest.fixture
def database(cluster: postgres.Postgres, tmp_path: Path) -> Iterator[Database]:
    one = Database.open(f"{cluster.database()}?connect_timeout=1", data_dir=tmp_path)
    yield one
    one.close()


def write(database: Database) -> int:
    with database.write() as connection:
        raise_revision(connection)
        return current_revision(connection)


def go_away(cluster: postgres.Postgres, how: str) -> Callable[[], None]:
    """Returns what brings it back."""
    if how == "hangs":
        cluster.pause()
        return cluster.resume
    {"stops": cluster.stop, "crashes": cluster.kill}[how]()
    return cluster.start


@pytest.mark.parametrize("how", ["stops", "crashes", "hangs"])
def test_away_and_back(cluster: postgres.Postgres, database: Database, how: str) -> None:
    assert write(database) == 1
    come_back = go_away(cluster, how)
    try:
        for _ in range(2):
            with pytest.raises((sa.exc.SQLAlchemyError, OSError)) as failure:
                write(database)
            assert database.is_away(failure.value), repr(failure.value)
            assert postgres.PASSWORD not in repr(failure.value)
    finally:
        come_back()
    assert write(database) == 2


def test_thrown_out_in_the_middle_of_a_transaction(cluster: postgres.Postgres, database: Database) -> None:
    with pytest.raises(sa.exc.SQLAlchemyError) as failure:
        be_thrown_out(cluster, database)
    assert database.is_away(failure.value)
    assert write(database) == 1


def be_thrown_out(cluster: postgres.Postgres, database: Database) -> None:
    with database.write() as connection:
        raise_revision(connection)
        cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'offhook'")
        current_revision(connection)


def test_no_answer_is_taken_for_that_of_an_earlier_question(cluster: postgres.Postgres, database: Database) -> None:
    """A statement that timed out is answered later, on its own connection: that one is not used again."""
    for number in range(3):
        with pytest.raises((sa.exc.SQLAlchemyError, OSError)) as failure, database.read() as connection:
            connection.execute(sa.text("SELECT -1, pg_sleep(1.2)"))
        assert database.is_away(failure.value)
        with database.read() as connection:
            assert connection.execute(sa.text("SELECT CAST(:n AS int)"), {"n": number}).scalar() == number


def test_a_fault_of_ours_is_not_taken_for_its(database: Database) -> None:
    with pytest.raises(sa.exc.ProgrammingError) as failure, database.read() as connection:
        connection.exec_driver_sql("SELECT nonsense")
    assert not database.is_away(failure.value)


@pytest.mark.parametrize(
    ("of", "database_name", "said"),
    [("wrong-planted", "postgres", "password authentication failed"), (postgres.PASSWORD, "none", "does not exist")],
)
def test_what_is_wrong_is_told_without_the_password(
    cluster: postgres.Postgres, tmp_path: Path, of: str, database_name: str, said: str
) -> None:
    one = Database.open(cluster.url(database_name, password=of), data_dir=tmp_path)
    with pytest.raises(ConfigError, match=said) as refusal:
        one.migrate()
    one.close()
    assert "planted" not in str(refusal.value)


def test_by_its_unix_socket(cluster: postgres.Postgres, tmp_path: Path) -> None:
    url = f"postgresql://{postgres.USER}:{postgres.PASSWORD}@/postgres?host={cluster.folder}"
    one = Database.open(url.replace("@/", f"@:{cluster.port}/"), data_dir=tmp_path)
    with one.read() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    one.close()


def test_several_writers_at_once(database: Database) -> None:
    """Two transactions are open at a time; each sees the other's only when it is committed."""
    with database.write() as one, database.write() as two:
        one.execute(sa.text("CREATE TABLE t (n int)"))
        assert two.execute(sa.text("SELECT to_regclass('t')")).scalar() is None
