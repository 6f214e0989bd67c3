"""Who is told what: the endpoints of each account, and an event rendered for those that want it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from offhook.delivery.event_documents import EVENT_NAMES, event_document
from offhook.model.call_events import CallEvent
from offhook.model.records import CallRecord, WebhookEndpoint
from offhook.store.outbox import NewDelivery, delivery_id

EVERY_EVENT = "*"

MAX_BODY_BYTES = 20_000
"""Receivers refuse larger ones (Standard Webhooks, "Payload size"); what is left out can be read by the API."""

FIELD_CHARS = 1_000
LIST_ITEMS = 4
"""Of what is too large: fields of text, and headers, which are pairs."""


class Audience:
    """The enabled endpoints, swapped whole; read by the journal's thread as well."""

    def __init__(self) -> None:
        self._endpoints: Mapping[str, Mapping[str, WebhookEndpoint]] = {}

    def replace(self, endpoints: Mapping[str, Mapping[str, WebhookEndpoint]]) -> None:
        """By account, then by webhook id."""
        self._endpoints = endpoints

    def endpoint(self, account_id: str, webhook_id: str) -> WebhookEndpoint | None:
        """None where it is gone, or was disabled."""
        return self._endpoints.get(account_id, {}).get(webhook_id)

    def deliveries(self, event: CallEvent, record: CallRecord) -> Iterable[NewDelivery]:
        """One for each endpoint of the call's account that wants this event; called in the event's transaction."""
        name = EVENT_NAMES[type(event.fact)]
        for endpoint in self._endpoints.get(record.account_id, {}).values():
            if EVERY_EVENT in endpoint.events or name in endpoint.events:
                told = delivery_id(endpoint.webhook_id, event.call_id, event.seq, name)
                yield NewDelivery(
                    delivery_id=told,
                    account_id=record.account_id,
                    webhook_id=endpoint.webhook_id,
                    event=name,
                    body=body_of(event, told),
                    created_at=event.at,
                    call_id=event.call_id,
                    seq=event.seq,
                )


def body_of(event: CallEvent, message_id: str) -> bytes:
    """JSON: the event's document and ``id``. Too large a text in it is cut, and ``truncated`` says so."""
    document = {"id": message_id, **event_document(event)}
    body = msgspec.json.encode(document)
    if len(body) <= MAX_BODY_BYTES:
        return body
    document["data"] = {name: _cut(value) for name, value in document["data"].items()}
    return msgspec.json.encode({**document, "truncated": True})


def _cut(value: object) -> object:
    """At most ``LIST_ITEMS`` of ``FIELD_CHARS``: as UTF-8, with what is escaped, they fit."""
    match value:
        case str() if len(value) > FIELD_CHARS:
            return value[:FIELD_CHARS] + "…"
        case list() | tuple():
            return [_cut(each) for each in value[:LIST_ITEMS]]
        case _:
            return value
