"""Revisions of the database, run by alembic; see ``store.migrating``."""
