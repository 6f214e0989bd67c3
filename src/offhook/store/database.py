"""The database: a SQLite file in the data folder, or PostgreSQL by its URL; the same tables and statements for both.

All work is done in threads: ``await database.run(work, …)`` for a write, ``look`` for a read, where ``work`` is a plain
function whose first argument is the connection, so that several can share one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from offhook.model.errors import ConfigError
from offhook.store import database_url, migrating
from offhook.store.database_url import PostgresTarget, SqliteTarget, Target
from offhook.store.text import json_text, json_values

KEY = "database.url"

READ_THREADS = 4
"""Reads wait for the disk or the network more than for our two cores."""

POSTGRES_WRITE_THREADS = 4
"""SQLite has one writer at a time, whoever they are; PostgreSQL as many as there are connections."""

POOL_CONNECTIONS = 6
POOL_OVERFLOW = 6
"""Threads of ours, the journal's and the outbox's."""

POOL_WAIT_S = 10.0
"""For a free connection: every one of them is held for milliseconds."""

BUSY_S = 30.0
"""How long a writer waits for other processes (the CLI, a second server by mistake). Ours queue at a lock instead:
SQLite's own waiting is not fair and polls up to every 100 ms."""

WAL_BYTES = 64_000_000
"""What remains of the write-ahead log after a burst."""

CHECKPOINT_S = 1.0
"""Between two looks at the write-ahead log: at 20 calls a second 2 MB come together meanwhile."""

MIGRATION_S = 600.0
"""A table may have to be rewritten, or another process migrates first."""

# It writes a traceback for every connection that breaks off; whoever used that one is told, and says it in a line.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

_OUT_OF_SERVICE = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "25006", "25P03"})
"""SQLSTATEs (PostgreSQL, appendix A): shut down, crashed, starting up, idle too long, too many connections, and a
standby that only reads."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Database:
    """Made by ``Database.open``. Thread-safe. ``name`` is what may be shown of it: no password.

    Writes to SQLite wait for the disk (``synchronous=FULL``): a commit that returned survives a power cut. It takes
    4 ms on the disk we measured, as PostgreSQL's does; NORMAL takes 0.15 ms and may lose the last commits. Reads take
    0.1 ms.
    """

    def __init__(self, target: Target) -> None:
        """No connection yet."""
        self.name = target.name
        self.is_sqlite = isinstance(target, SqliteTarget)
        self._target = target
        self._engine = _engine(target)
        # In turn and fair; and one that waits here holds no connection.
        self._turn: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if self.is_sqlite else contextlib.nullcontext()
        )
        writers = 1 if self.is_sqlite else POSTGRES_WRITE_THREADS
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="offhook-database-write")
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="offhook-database-read")
        self._checkpoints = _Checkpoints(target.path) if isinstance(target, SqliteTarget) else None

    @classmethod
    def open(cls, url: str, *, data_dir: Path) -> Database:
        """``url`` "": the SQLite file ``offhook.db`` in ``data_dir``, made where it is missing; PostgreSQL is not yet
        connected to. Blocks for the disk. Raises ``ConfigError`` with the key ``database.url``.
        """
        target = database_url.parse(url, data_dir)
        if isinstance(target, SqliteTarget):
            _prepare_file(target.path)
        return cls(target)

    def migrate(self) -> None:
        """Bring the tables to what this code needs. Blocks: call it in a thread, once, at start.

        Two processes may do it at the same time. Raises ``ConfigError``: a database of a newer offhook, or one that
        cannot be reached or written.
        """
        engine = _engine(self._target, patient=True)
        try:
            with self._turn, _begun(engine, writes=True) as connection:
                migrating.upgrade(connection, self.name)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise self._unusable(error) from None
        finally:
            engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One consistent look on SQLite; on PostgreSQL each statement sees what was committed before it."""
        with _begun(self._engine, writes=False) as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: committed at the end, undone where something raises. Do not nest on SQLite."""
        if self._checkpoints is not None:
            self._checkpoints.begin()
        with self._turn, _begun(self._engine, writes=True) as connection:
            yield connection

    async def run(
        self,
        work: Callable[Concatenate[sa.Connection, _Arguments], _Result],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        """``work(connection, …)`` in a write transaction, in a thread; cancelled or not, it is finished."""

        def written() -> _Result:
            with self.write() as connection:
                return work(connection, *arguments, **named)

        return await asyncio.get_running_loop().run_in_executor(self._writers, written)

    async def look(
        self,
        work: Callable[Concatenate[sa.Connection, _Arguments], _Result],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        """``work(connection, …)`` that only reads, in a thread."""

        def seen() -> _Result:
            with self.read() as connection:
                return work(connection, *arguments, **named)

        return await asyncio.get_running_loop().run_in_executor(self._readers, seen)

    def is_away(self, error: BaseException) -> bool:
        """Whether PostgreSQL cannot be reached, or does not serve for now: try again later. SQLite is never away."""
        if self.is_sqlite:
            return False
        if isinstance(error, sa.exc.TimeoutError) or _broke_off(error):  # the first: no connection came free, all hang
            return True
        return isinstance(error, sa.exc.DBAPIError) and _is_away(error)

    def close(self) -> None:
        """Wait for the work that was begun, then let go of every connection. Blocks."""
        self._writers.shutdown()
        self._readers.shutdown()
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._engine.dispose()

    def _unusable(self, error: Exception) -> ConfigError:
        if self.is_away(error):
            return ConfigError(KEY, f"{self.name} cannot be reached ({_reason(error)})", "Start it, or correct the URL")
        fix = "Check the URL, the user's rights, and the room on the disk"
        return ConfigError(KEY, f"{self.name} cannot be used ({_reason(error)})", fix)


class _Checkpoints:
    """Brings what was committed from SQLite's write-ahead log into its file, in a thread: writers go on meanwhile.

    By SQLite's own rule the writer whose commit fills 1,000 pages does it, and the calls behind it wait 0.3 s.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """With the first write."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._go_on, name="offhook-database-checkpoints", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _go_on(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            while not self._closing.wait(CHECKPOINT_S):
                with contextlib.suppress(sqlite3.Error):  # the disk is full, or somebody else does it: again in a while
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


@contextlib.contextmanager
def _begun(engine: sa.Engine, *, writes: bool) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        connection.execution_options(offhook_writes=writes)
        with connection.begin():
            yield connection


def _engine(target: Target, *, patient: bool = False) -> sa.Engine:
    match target:
        case SqliteTarget():
            return _sqlite_engine(target)
        case PostgresTarget():
            return _postgres_engine(target, MIGRATION_S if patient else target.timeout_s)


def _sqlite_engine(target: SqliteTarget) -> sa.Engine:
    engine = _pooled(target.url, {"check_same_thread": False, "timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _record: object) -> None:
        # sqlite3 would begin transactions by itself, deferred ones: two that read first and then write cannot both.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=0")  # who commits would wait for it: see _Checkpoints
        connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("offhook_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres_engine(target: PostgresTarget, timeout_s: float) -> sa.Engine:
    engine = _pooled(target.url, {**target.options, "timeout": timeout_s, "tcp_keepalive": True}, pool_pre_ping=True)

    @sa.event.listens_for(engine, "handle_error")
    def _judge(context: sa.engine.ExceptionContext) -> None:
        if sqlstate(context.original_exception) in _OUT_OF_SERVICE:
            context.is_disconnect = True

    return engine


def _pooled(url: sa.URL, connect_args: dict[str, Any], **options: Any) -> sa.Engine:
    return sa.create_engine(
        url,
        connect_args=connect_args,
        pool_size=POOL_CONNECTIONS,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_WAIT_S,
        hide_parameters=True,  # they may be secrets, and errors are logged
        json_serializer=json_text,
        json_deserializer=json_values,
        **options,
    )


def _prepare_file(path: Path) -> None:
    """The file, readable by its owner alone, with its write-ahead log on. Raises ``ConfigError``."""
    fix = "Make data_dir a folder on a local disk that offhook may write to"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        mode = _write_ahead(path)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(KEY, f"{path} cannot be opened ({error})", fix) from None
    if mode != "wal":
        raise ConfigError(KEY, f"{path} is where SQLite can keep no write-ahead log", fix)


def _write_ahead(path: Path) -> str:
    """The journal's mode after it was asked to be ``wal``. SQLite does not wait for others here, so we do."""
    deadline = time.monotonic() + BUSY_S
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
        while True:
            try:
                return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _broke_off(error: BaseException) -> bool:
    """pg8000 lets some errors of its socket through as they are."""
    return isinstance(getattr(error, "orig", None) or error, OSError)


def _is_away(error: sa.exc.DBAPIError) -> bool:
    code = sqlstate(error.orig)
    if code:
        return code in _OUT_OF_SERVICE or code.startswith("08")  # connection exceptions
    return error.connection_invalidated or isinstance(error, sa.exc.InterfaceError)


def sqlstate(error: BaseException | None) -> str:
    """pg8000 gives the fields of PostgreSQL's error (protocol, §55.8) as a dictionary; "" where it is none."""
    fields = error.args[0] if error is not None and error.args else None
    return str(fields.get("C", "")) if isinstance(fields, dict) else ""


def _reason(error: Exception) -> str:
    """In its own words, on one line."""
    original = getattr(error, "orig", None) or error
    fields = original.args[0] if original.args else ""
    text = fields.get("M", "") if isinstance(fields, dict) else str(original)
    return " ".join(str(text).split())
