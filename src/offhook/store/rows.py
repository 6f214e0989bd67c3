"""Many rows in one statement and one round trip, on SQLite and PostgreSQL.

``executemany`` of pg8000 is one round trip a row, and SQLAlchemy's VALUES of many rows is compiled anew for each number
of rows. So PostgreSQL gets all rows as one JSON text and takes them apart itself; SQLite has no round trips, and its
``executemany`` is a loop in C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

Row = tuple[Any, ...]
"""Values in the order of the columns; JSON as text, bytes as bytes."""


class Rows:
    """An INSERT into ``table`` of rows with these ``columns``; ``on_conflict`` is the clause that ends it."""

    def __init__(self, table: sa.Table, columns: Sequence[str], *, on_conflict: str = "") -> None:
        self._table = table
        self._columns = tuple(table.c[name] for name in columns)
        self._on_conflict = on_conflict
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        self._for_sqlite = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {on_conflict}"
        self._for_postgresql: sa.TextClause | None = None

    def insert(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """All of them, or none: raises what SQLAlchemy raises, or ``UnicodeEncodeError`` on a surrogate."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(self._for_sqlite, list(rows))
            return
        if self._for_postgresql is None:
            self._for_postgresql = self._unpacking(connection.dialect)
        connection.execute(self._for_postgresql, {"rows": self._packed(rows)})

    def _packed(self, rows: Sequence[Row]) -> str:
        as_json = [_AS_JSON.get(type(column.type), _as_it_is) for column in self._columns]
        names = [column.name for column in self._columns]
        documents = [
            dict(zip(names, (pack(value) for pack, value in zip(as_json, row, strict=True)), strict=True))
            for row in rows
        ]
        return msgspec.json.encode(documents).decode()

    def _unpacking(self, dialect: sa.Dialect) -> sa.TextClause:
        binary = {column.name for column in self._columns if isinstance(column.type, sa.LargeBinary)}
        declared = ", ".join(
            f"{column.name} {'TEXT' if column.name in binary else column.type.compile(dialect=dialect)}"
            for column in self._columns
        )
        names = ", ".join(column.name for column in self._columns)
        values = ", ".join(
            f"decode(given.{column.name}, 'hex')" if column.name in binary else f"given.{column.name}"
            for column in self._columns
        )
        source = f"json_to_recordset(CAST(:rows AS json)) AS given({declared})"
        return sa.text(f"INSERT INTO {self._table.name} ({names}) SELECT {values} FROM {source} {self._on_conflict}")


def _as_it_is(value: Any) -> Any:
    return value


def _raw(value: str | None) -> msgspec.Raw | None:
    return None if value is None else msgspec.Raw(value)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


_AS_JSON: Mapping[type[Any], Callable[[Any], Any]] = {sa.JSON: _raw, sa.LargeBinary: _hex}
