"""Where the database is: what ``database.url`` may say."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from offhook.model.errors import ConfigError

FILE = "offhook.db"

TIMEOUT_S = 5.0
"""To connect, and for the answer to any statement: a hundred times what ours take, and short enough that callers do
not wait for a PostgreSQL that hangs."""

_KEY = "database.url"
_FIX = "Write it as postgresql://user:password@host:5432/database, or leave it empty for SQLite"
_DRIVERS = {"postgresql": "postgresql", "postgres": "postgresql", "postgresql+pg8000": "postgresql", "sqlite": "sqlite"}
_PARAMETERS = ("application_name", "connect_timeout", "host", "sslmode", "sslrootcert")


@dataclass(frozen=True, kw_only=True, slots=True)
class SqliteTarget:
    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def url(self) -> sa.URL:
        return sa.URL.create("sqlite", database=str(self.path))


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresTarget:
    """``options`` are pg8000's own; ``name`` is without the password."""

    name: str
    url: sa.URL = field(repr=False)
    options: Mapping[str, Any]
    timeout_s: float


Target = SqliteTarget | PostgresTarget


def parse(url: str, data_dir: Path) -> Target:
    """``url`` "": the file ``offhook.db`` in ``data_dir``; ``sqlite:///path`` is another file, seen from there.

    ``postgresql://user:password@host:port/database?…`` with ``sslmode`` (disable, require, verify-ca, verify-full; not
    given: no TLS), ``sslrootcert``, ``application_name``, ``connect_timeout``, and ``host``, the folder of a Unix
    socket. Raises ``ConfigError``, which holds nothing of the URL.
    """
    if not url:
        return SqliteTarget(path=data_dir / FILE)
    try:
        parts = sa.make_url(url)
        kind = _DRIVERS[parts.drivername]
    except (sa.exc.ArgumentError, KeyError, ValueError):
        raise ConfigError(_KEY, "is no URL of a database that offhook knows", _FIX) from None
    if kind == "sqlite":
        return _sqlite(parts, data_dir)
    return _postgres(parts)


def _sqlite(parts: sa.URL, data_dir: Path) -> SqliteTarget:
    if not parts.database or parts.database == ":memory:" or parts.query or parts.host:
        raise ConfigError(_KEY, "names no file", "Write it as sqlite:///name.db or sqlite:////folder/name.db")
    return SqliteTarget(path=data_dir / parts.database)


def _postgres(parts: sa.URL) -> PostgresTarget:
    query = {name: value for name, value in parts.query.items() if isinstance(value, str)}
    for name in parts.query:
        if name not in _PARAMETERS or name not in query:
            raise ConfigError(
                _KEY, f"has the parameter {name!r}", f"Use each of {', '.join(_PARAMETERS)} once, or none"
            )
    if not parts.username or not parts.database or not (parts.host or query.get("host")):
        raise ConfigError(_KEY, "lacks a user, a host or a database", _FIX)
    port = parts.port or 5432
    options: dict[str, Any] = {"application_name": query.get("application_name", "offhook")}
    if socket_folder := query.get("host"):
        options["unix_sock"] = f"{socket_folder.rstrip('/')}/.s.PGSQL.{port}"
    elif (mode := query.get("sslmode", "disable")) != "disable":
        options["ssl_context"] = _tls(mode, query.get("sslrootcert"))
    where = f"{parts.host or query['host']}:{port}/{parts.database}"
    return PostgresTarget(
        name=f"postgresql://{parts.username}@{where}",
        url=parts.set(drivername="postgresql+pg8000", query={}),
        options=options,
        timeout_s=_timeout(query.get("connect_timeout", str(TIMEOUT_S))),
    )


def _timeout(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 60:
        raise ConfigError(_KEY, "has a connect_timeout that is none", "Give seconds, from 1 to 60")
    return value


def _tls(mode: str, authorities: str | None) -> ssl.SSLContext:
    """As libpq means it: ``require`` encrypts and trusts anybody, ``verify-full`` knows whom it talks to."""
    if mode not in ("require", "verify-ca", "verify-full"):
        fix = "Use disable, require, verify-ca or verify-full"
        raise ConfigError(_KEY, f"has the sslmode {mode!r}", fix)
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise ConfigError(_KEY, f"has an sslrootcert that cannot be read ({error})", "Name a PEM file") from None
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context
