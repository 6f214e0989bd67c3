"""A delivery as it is told: the same JSON in the API and on the command line. Pure."""

from __future__ import annotations

from typing import Any

from offhook.delivery.event_documents import utc
from offhook.store.outbox import Delivery


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """Without the body: the event says the same. ``id`` is the ``webhook-id`` header."""
    return {
        "id": delivery.delivery_id,
        "webhook_id": delivery.webhook_id,
        "call_id": delivery.call_id,
        "seq": delivery.seq,
        "event": delivery.event,
        "state": delivery.state,
        "attempts": delivery.attempt,
        "created_at": utc(delivery.created_at),
        "due_at": utc(delivery.due_at),
        "delivered_at": None if delivery.delivered_at is None else utc(delivery.delivered_at),
        "last_status": delivery.last_status,
        "last_problem": delivery.last_problem,
    }
