"""What delivering changes of a webhook's record: whether it is enabled."""

from __future__ import annotations

import sqlalchemy as sa

from offhook.store.outbox import Endpoint
from offhook.store.revision import begin_change, raise_revision
from offhook.store.schema import resources


def webhook_enabled(connection: sa.Connection, endpoint: Endpoint) -> bool:
    """False where it is gone, too."""
    form = connection.scalar(sa.select(resources.c.form).where(*_is(endpoint)))
    return form is not None and bool(form.get("enabled", True))


def disable_webhook(connection: sa.Connection, endpoint: Endpoint, now: float) -> bool:
    """Its form says ``enabled: false`` from now on; returns whether that is new.

    One of config.json, too: the file enables it again when the server starts, or reloads.
    """
    begin_change(connection)
    form = connection.scalar(sa.select(resources.c.form).where(*_is(endpoint)))
    if form is None or not form.get("enabled", True):
        return False
    change = {"form": {**form, "enabled": False}, "revision": resources.c.revision + 1, "updated_at": now}
    connection.execute(sa.update(resources).where(*_is(endpoint)).values(change))
    raise_revision(connection)
    return True


def _is(endpoint: Endpoint) -> tuple[sa.ColumnElement[bool], ...]:
    table = resources.c
    return (table.kind == "webhook", table.account_id == endpoint.account_id, table.id == endpoint.webhook_id)
