"""A throw-away PostgreSQL of the test's own: one cluster in a temporary folder, on loopback, with a password.

Databases are made in milliseconds from a migrated template. ``stop``, ``start``, ``kill``, ``pause`` and ``resume`` are
for those who test what happens without it. It ends with the process that started it, even by kill -9.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from tests.interop.tools import free_port, unavailable

from offhook.store.database import Database

DEBIAN_FOLDER = Path("/usr/lib/postgresql")
USER = "offhook"
PASSWORD = "planted-Pg-password"
"""So that a test may look for it where it must not be."""

TEMPLATE = "migrated"
START_S = 30.0
POLL_S = 0.02

_THROW_AWAY = ("fsync=off", "full_page_writes=off", "autovacuum=off", "max_connections=60", "shared_buffers=16MB")


class Postgres:
    """Made by ``running``."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.port = free_port("tcp")
        self.folder = folder
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        url = self.url().replace("postgresql:", "postgresql+pg8000:")
        self._admin = sa.create_engine(url, pool_size=1, pool_pre_ping=True, isolation_level="AUTOCOMMIT")

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """The cluster and the migrated template; it runs afterwards."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            _give_to_postgres(self.folder, secret)
        command = [_program("initdb"), "-D", self._data, "-U", USER, "--pwfile", str(secret), "-A", "scram-sha-256"]
        command += ["-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        subprocess.run(_unprivileged(command), check=True, capture_output=True, cwd=self.folder)
        self.start()
        self.execute(f"CREATE DATABASE {TEMPLATE}")
        template = Database.open(self.url(TEMPLATE), data_dir=self.folder)
        template.migrate()
        template.close()

    def database(self, *, migrated: bool = True) -> str:
        """The URL of a new database."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE if migrated else 'template0'}")
        return self.url(name)

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {sa.make_url(url).database} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Outside any transaction."""
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)

    def start(self) -> None:
        """Returns when it serves."""
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}"]
        options += [] if self._durable else _THROW_AWAY
        command = [_program("postgres"), "-D", self._data]
        for option in options:
            command += ["-c", option]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(_unprivileged(command), stdout=log, stderr=log, cwd=self.folder)
        self._wait()

    def stop(self) -> None:
        """As an administrator stops it: connections are broken off, all is on disk."""
        self._end(signal.SIGINT)

    def abandon(self) -> None:
        """It ends at once: nobody will read its files again."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """kill -9 of all its processes."""
        assert self._process is not None
        for child in _children(self._process.pid):
            os.kill(child, signal.SIGSTOP)  # else they would write a farewell
        family = _children(self._process.pid)
        self._end(signal.SIGKILL)
        for child in family:
            os.kill(child, signal.SIGKILL)

    def pause(self) -> None:
        """It hangs: connections stay open and nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        for pid in (self._process.pid, *_children(self._process.pid)):
            os.kill(pid, number)

    def _end(self, number: signal.Signals) -> None:
        self._admin.dispose()
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_S)
            self._process = None

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.execute("SELECT 1")
            except sa.exc.DBAPIError:
                time.sleep(POLL_S)
            else:
                return
        raise AssertionError(f"PostgreSQL does not serve:\n{(self.folder / 'log').read_text()[-3000:]}")


@contextmanager
def running(*, durable: bool = False) -> Iterator[Postgres]:
    """A cluster that ends with the block. ``durable``: it writes as it does in production, for tests of kill -9."""
    folder = Path(tempfile.mkdtemp(prefix="offhook-postgres-"))
    one = Postgres(folder, durable=durable)
    try:
        one.create()
        yield one
    finally:
        one.abandon()
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    """Debian keeps those of each version apart, off the PATH."""
    found = sorted(DEBIAN_FOLDER.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    where = str(found[-1]) if found else shutil.which(name)
    return where or unavailable(f"{name} is not installed: apt-get install postgresql")


def _unprivileged(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root. The kernel ends it with us."""
    user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, "--pdeathsig=INT", *command]


def _give_to_postgres(*paths: Path) -> None:
    try:
        owner = pwd.getpwnam("postgres")
    except KeyError:
        unavailable("there is no user postgres: apt-get install postgresql")
    for path in paths:
        os.chown(path, owner.pw_uid, owner.pw_gid)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
