"""Work of a test on a database, each piece in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from offhook.store.database import Database

P = ParamSpec("P")
T = TypeVar("T")


def write(database: Database, work: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
    with database.write() as connection:
        return work(connection, *args, **named)


def read(database: Database, work: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
    with database.read() as connection:
        return work(connection, *args, **named)
