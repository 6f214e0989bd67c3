"""Who is told what: the endpoints of each account, and an event rendered for those that want it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from offhook.delivery.call_document import call_document
from offhook.delivery.event_documents import EVENT_NAMES, event_document, utc
from offhook.model.call_events import CallEnded, CallEvent
from offhook.model.records import CallRecord, WebhookEndpoint
from offhook.store.outbox import Endpoint, NewDelivery, delivery_id
from offhook.store.text import printable_document

EVERY_EVENT = "*"

TEST_EVENT = "webhook.test"

MAX_BODY_BYTES = 20_000
"""Receivers refuse larger ones (Standard Webhooks, "Payload size"); what is left out can be read by the API."""

MAX_CALL_BYTES = 200_000
"""Of ``call.ended``, which carries the call: an hour of talk. Most are below 20 KB."""

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
                    body=body_of(event, record, told),
                    created_at=event.at,
                    call_id=event.call_id,
                    seq=event.seq,
                )


def body_of(event: CallEvent, record: CallRecord, message_id: str) -> bytes:
    """JSON: the event's document and ``id``; with ``call.ended`` the whole call as ``data.call``.

    Too large a text in it is cut, the transcript after so many turns as there is room for, which called functions leave
    half of; ``truncated`` says so.
    """
    document = {"id": message_id, **event_document(event)}
    limit = MAX_BODY_BYTES
    if isinstance(event.fact, CallEnded):
        document["data"]["call"] = printable_document(call_document(record))
        limit = MAX_CALL_BYTES
    body = msgspec.json.encode(document)
    return body if len(body) <= limit else _shortened(document, limit)


def trial_delivery(endpoint: Endpoint, delivery_id: str, at: float) -> NewDelivery:
    """Tells a webhook that it is one."""
    document = {"id": delivery_id, "event": TEST_EVENT, "webhook_id": endpoint.webhook_id, "timestamp": utc(at)}
    return NewDelivery(
        delivery_id=delivery_id,
        account_id=endpoint.account_id,
        webhook_id=endpoint.webhook_id,
        event=TEST_EVENT,
        body=msgspec.json.encode({**document, "data": {}}),
        created_at=at,
    )


def _shortened(document: dict[str, Any], limit: int) -> bytes:
    data: dict[str, Any] = document["data"]
    call = data.pop("call", None)
    short = {**document, "data": {name: _cut(value) for name, value in data.items()}, "truncated": True}
    if call is None:
        return msgspec.json.encode(short)
    functions, turns = call.pop("functions_called"), call.pop("transcript")
    told = {name: _cut(value) for name, value in call.items()} | {"functions_called": [], "transcript": []}
    short["data"]["call"] = told
    told["functions_called"] = _first(functions, (limit - len(msgspec.json.encode(short))) // 2)
    told["transcript"] = _first(turns, limit - len(msgspec.json.encode(short)))
    return msgspec.json.encode(short)


def _first(turns: Sequence[object], room: int) -> Sequence[object]:
    """Those that fit into so many octets of JSON."""
    used = list(accumulate(len(msgspec.json.encode(turn)) + 1 for turn in turns))
    return turns[: bisect_right(used, room)]


def _cut(value: object) -> object:
    """At most ``LIST_ITEMS`` of ``FIELD_CHARS``: as UTF-8, with what is escaped, they fit."""
    match value:
        case str() if len(value) > FIELD_CHARS:
            return value[:FIELD_CHARS] + "…"
        case list() | tuple():
            return [_cut(each) for each in value[:LIST_ITEMS]]
        case dict():
            return {name: _cut(each) for name, each in value.items()}
        case _:
            return value
