"""What is beside the webhooks themselves: deliveries, replay, a test, a new secret."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from offhook.api.endpoints import Answer, Asked, Body, Endpoint, Form, Page, Query
from offhook.api.native.fields import PAGING, Time
from offhook.api.native.resources import ETAG, IF_MATCH, WEBHOOKS, changed, document, stored
from offhook.api.problems import ApiError, not_found
from offhook.api.reading import etag, revision_wanted
from offhook.delivery.audience import trial_delivery
from offhook.delivery.delivery_document import delivery_document
from offhook.store import outbox
from offhook.store.form_secrets import Kind
from offhook.store.forms import WebhookForm
from offhook.store.outbox import Delivery, DeliveryFilter, DeliveryState
from offhook.store.outbox import Endpoint as ToldEndpoint
from offhook.store.resources import Resource, new_webhook_secret

KIND: Kind = "webhook"


class DeliveryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one endpoint. ``id`` is the `webhook-id` header, the same at each attempt.

    ``due_at``: when it is tried next, or is given up on; ``last_status``, ``last_problem``: of the latest attempt.
    """

    id: str
    webhook_id: str
    call_id: str
    seq: int
    event: str
    state: DeliveryState
    attempts: int
    created_at: Time
    due_at: Time
    delivered_at: Time | None
    last_status: int | None
    last_problem: str


class ReplayForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent again: one delivery, those of a call, or those of a time (``until`` not in it)."""

    delivery_id: str | None = None
    call_id: str | None = None
    since: Time | None = None
    until: Time | None = None


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries are due again; those that still wait are left as they are."""

    replayed: int


class TestSent(msgspec.Struct, frozen=True, kw_only=True):
    """The delivery that was made: look there what became of it."""

    delivery_id: str


async def list_deliveries(asked: Asked) -> Answer:
    state: DeliveryState | None = asked.query["state"]
    chosen = DeliveryFilter(
        webhook_id=asked.path["id"],
        call_id=asked.query["call_id"],
        states=(state,) if state else (),
    )
    page = {"limit": asked.query["limit"], "offset": asked.query["offset"]}

    def look(connection: sa.Connection) -> tuple[tuple[Delivery, ...], int]:
        stored(asked).get(connection, asked.account_id, KIND, asked.path["id"])
        return outbox.list_deliveries(connection, asked.account_id, chosen, **page)

    found, total = await asked.parts.database.look(look)
    return Answer(
        body={"deliveries": [DeliveryAnswer(**delivery_document(one)) for one in found], "total": total, **page}
    )


async def replay(asked: Asked) -> Answer:
    form: ReplayForm = asked.body
    chosen = _chosen(asked.path["id"], form)

    def work(connection: sa.Connection) -> int:
        stored(asked).get(connection, asked.account_id, KIND, asked.path["id"])
        if form.delivery_id is not None:
            _check_delivery(connection, asked, form.delivery_id)
        return outbox.replay(connection, asked.account_id, chosen, asked.parts.now())

    replayed = await asked.parts.database.run(work)
    asked.parts.wake_sender()
    return Answer(body=Replayed(replayed=replayed))


def _chosen(webhook_id: str, form: ReplayForm) -> DeliveryFilter:
    """Raises ``ApiError``: nothing was chosen, or two things at once."""
    ways = (form.delivery_id is not None, form.call_id is not None, form.since is not None or form.until is not None)
    if sum(ways) != 1:
        raise ApiError("INVALID", "Say which deliveries", hint="Give delivery_id, or call_id, or since and until")
    if form.delivery_id == "" or form.call_id == "":
        raise ApiError("INVALID", "An id is empty", field="call_id" if form.call_id == "" else "delivery_id")
    return DeliveryFilter(
        webhook_id=webhook_id,
        delivery_ids=(form.delivery_id,) if form.delivery_id else (),
        call_id=form.call_id or "",
        since=None if form.since is None else form.since.timestamp(),
        until=None if form.until is None else form.until.timestamp(),
    )


def _check_delivery(connection: sa.Connection, asked: Asked, delivery_id: str) -> None:
    found = outbox.get_delivery(connection, asked.account_id, delivery_id)
    if found is None or found.webhook_id != asked.path["id"]:
        raise not_found("delivery", delivery_id)


async def test(asked: Asked) -> Answer:
    delivery_id = f"msg_{secrets.token_hex(16)}"
    told = ToldEndpoint(asked.account_id, asked.path["id"])

    def work(connection: sa.Connection) -> None:
        stored(asked).get(connection, told.account_id, KIND, told.webhook_id)
        outbox.add(connection, (trial_delivery(told, delivery_id, asked.parts.now()),))

    await asked.parts.database.run(work)
    asked.parts.wake_sender()
    return Answer(body=TestSent(delivery_id=delivery_id))


async def rotate_secret(asked: Asked) -> Answer:
    secret = new_webhook_secret()
    records, name, revisions = stored(asked), asked.path["id"], revision_wanted(asked.request)

    def work(connection: sa.Connection, account_id: str) -> Resource:
        before = records.form(connection, account_id, KIND, name)
        assert isinstance(before, WebhookForm)
        patch = {"secret": secret, "previous_secret": before.secret}
        return records.patch(connection, account_id, KIND, name, patch, revisions=revisions)

    found = await changed(asked, work)
    return Answer(body={**document(found), "secret": secret}, headers={"ETag": etag(found.revision)})


_PATH = f"{WEBHOOKS.path}/{{id}}"
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
_ID = "msg_5f2c19d07a3b4e6d8c1f0a9b7e6d5c4b"

_EXAMPLE: Mapping[str, Any] = {
    "id": _ID,
    "webhook_id": "crm",
    "call_id": "9f0c1de24b7a",
    "seq": 12,
    "event": "call.ended",
    "state": "pending",
    "attempts": 2,
    "created_at": "2026-11-21T11:52:43.800Z",
    "due_at": "2026-11-21T11:57:49Z",
    "delivered_at": None,
    "last_status": 502,
    "last_problem": "answered 502",
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{_PATH}/deliveries",
        operation="listDeliveries",
        tag="webhooks",
        summary="What was and will be sent to an endpoint, the newest first",
        handler=list_deliveries,
        scope="webhooks:read",
        query=(
            *PAGING,
            Query(name="state", type=DeliveryState, summary="pending, delivered, dead or disabled"),
            Query(name="call_id", type=str, default="", summary="Of one call"),
        ),
        answers=(
            Form(
                type=Page(key="deliveries", of=DeliveryAnswer),
                example={"deliveries": [_EXAMPLE], "total": 1, "limit": 20, "offset": 0},
            ),
        ),
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/replay",
        operation="replayDeliveries",
        tag="webhooks",
        summary="Send again: the same ids and bodies, with all attempts anew",
        handler=replay,
        scope="webhooks:write",
        body=Body(type=ReplayForm, example={"call_id": "9f0c1de24b7a"}),
        answers=(Form(type=Replayed, example={"replayed": 7}),),
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/test",
        operation="testWebhook",
        tag="webhooks",
        summary="Send an event webhook.test there",
        handler=test,
        scope="webhooks:write",
        status=202,
        answers=(Form(type=TestSent, example={"delivery_id": _ID}),),
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/rotate-secret",
        operation="rotateWebhookSecret",
        tag="webhooks",
        summary="Make a new secret, shown this once; the one before signs beside it until the next rotation",
        handler=rotate_secret,
        scope="webhooks:write",
        headers=IF_MATCH,
        answers=(
            Form(
                type=WEBHOOKS.answer,
                example={
                    **WEBHOOKS.answered(),
                    "revision": 2,
                    "secrets": ["previous_secret", "secret"],
                    "secret": _SECRET,
                },
            ),
        ),
        answer_headers=ETAG,
        errors=("READ_ONLY", "REVISION_MISMATCH"),
    ),
)
