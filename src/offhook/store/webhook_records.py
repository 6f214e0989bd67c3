"""Webhooks and what waits for them; and what delivering changes of a webhook's record: whether it is enabled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import sqlalchemy as sa

from offhook.model.records import Source
from offhook.store.outbox import DeliveryState, Endpoint
from offhook.store.revision import begin_change, raise_revision
from offhook.store.schema import outbox, resources


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookState:
    """``deliveries``: how many are in each state; none where it is missing."""

    webhook_id: str
    url: str
    events: tuple[str, ...]
    enabled: bool
    source: Source
    deliveries: Mapping[DeliveryState, int] = field(default_factory=dict)


def webhook_states(connection: sa.Connection, account_id: str) -> tuple[WebhookState, ...]:
    """Of an account, by id."""
    columns = (outbox.c.webhook_id, outbox.c.state)
    query = sa.select(*columns, sa.func.count()).where(outbox.c.account_id == account_id).group_by(*columns)
    counts: dict[str, dict[DeliveryState, int]] = {}
    for webhook_id, state, number in connection.execute(query):
        counts.setdefault(webhook_id, {})[cast(DeliveryState, state)] = number
    table = resources.c
    records = sa.select(table.id, table.form, table.source).where(
        table.kind == "webhook", table.account_id == account_id
    )
    return tuple(
        WebhookState(
            webhook_id=webhook_id,
            url=form["url"],
            events=tuple(form.get("events", ("*",))),
            enabled=bool(form.get("enabled", True)),
            source=source,
            deliveries=counts.get(webhook_id, {}),
        )
        for webhook_id, form, source in connection.execute(records.order_by(table.id))
    )


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
