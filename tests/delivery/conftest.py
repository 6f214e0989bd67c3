"""Deliveries come from a real database: SQLite here, PostgreSQL in `make interop`."""

from __future__ import annotations

from tests.store.conftest import database, database_url, postgres_cluster, sqlite_template

__all__ = ["database", "database_url", "postgres_cluster", "sqlite_template"]
