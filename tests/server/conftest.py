"""Tests here that take ``database`` run on SQLite, and on PostgreSQL in `make interop`, as the store's do."""

from __future__ import annotations

from tests.store.conftest import database, database_url, open_database, postgres_cluster, sqlite_template

__all__ = ["database", "database_url", "open_database", "postgres_cluster", "sqlite_template"]
