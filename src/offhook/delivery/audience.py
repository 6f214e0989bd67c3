"""Who is told what: the endpoints of each account, those of one call, and an event rendered for those that want it."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import msgspec

from offhook.delivery import sip4ai_events
from offhook.delivery.call_document import call_document
from offhook.delivery.event_documents import EVENT_NAMES, event_document, utc
from offhook.delivery.sip4ai_signing import AccountSecret
from offhook.model.call_events import CallEnded, CallEvent
from offhook.model.records import CallRecord, WebhookEndpoint
from offhook.store.outbox import Delivery, Endpoint, NewDelivery, delivery_id
from offhook.store.text import printable_document

EVERY_EVENT = "*"

TEST_EVENT = "webhook.test"

MAX_BODY_BYTES = 20_000
"""Receivers refuse larger ones (Standard Webhooks, "Payload size"); what is left out can be read by the API."""

MAX_CALL_BYTES = 200_000
"""Of ``call.ended``, which carries the call, as a call's last event of SIP4AI does: an hour of talk. Most are below
20 KB."""

CALL_WEBHOOK = "call-webhook-"
"""How ids of webhooks begin that no record has: those of a call's own."""

OF_FUNCTIONS = ("arguments", "result")
"""Fields of any shape: cut by their items they could still be large."""

FIELD_CHARS = 1_000
LIST_ITEMS = 4
"""Of what is too large: fields of text, and headers, which are pairs."""


class Audience:
    """The enabled endpoints, swapped whole; read by the journal's thread as well.

    ``account_secret``: what all that is told in the dialect ``sip4ai`` is signed with.
    """

    def __init__(self, account_secret: AccountSecret = lambda account_id: "") -> None:
        self._account_secret = account_secret
        self._endpoints: Mapping[str, Mapping[str, WebhookEndpoint]] = {}

    def replace(self, endpoints: Mapping[str, Mapping[str, WebhookEndpoint]]) -> None:
        """By account, then by webhook id."""
        self._endpoints = endpoints

    def receiver(self, delivery: Delivery) -> WebhookEndpoint | None:
        """Whom it goes to, with what signs it. None where that is gone, or was disabled; a call's own never is."""
        if delivery.url:
            endpoint = _own_webhook(delivery.account_id, delivery.url)
        else:
            found = self._endpoints.get(delivery.account_id, {}).get(delivery.webhook_id)
            if found is None:
                return None
            endpoint = found
        if endpoint.dialect != "sip4ai":
            return endpoint
        return replace(endpoint, secrets=(self._account_secret(endpoint.account_id),))

    def deliveries(self, event: CallEvent, record: CallRecord) -> Iterable[NewDelivery]:
        """One for each endpoint of the call's account, and each of the call's own, that wants this event; called in the
        event's transaction. A URL that is told of all calls is not told of one again.
        """
        endpoints = self._endpoints.get(record.account_id, {}).values()
        for endpoint in endpoints:
            yield from _delivery(endpoint, event, record)
        told = {one.url for one in endpoints if one.dialect == "sip4ai" and EVERY_EVENT in one.events}
        for url in dict.fromkeys(record.event_webhooks):
            if url not in told:
                yield from _delivery(_own_webhook(record.account_id, url), event, record, own_url=url)


def call_webhook_id(url: str) -> str:
    """Of a webhook that calls bring along: the same for all that bring this URL, so that it is one receiver."""
    return CALL_WEBHOOK + hashlib.sha256(url.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _own_webhook(account_id: str, url: str) -> WebhookEndpoint:
    return WebhookEndpoint(webhook_id=call_webhook_id(url), account_id=account_id, url=url, dialect="sip4ai")


def _delivery(
    endpoint: WebhookEndpoint, event: CallEvent, record: CallRecord, *, own_url: str = ""
) -> Iterator[NewDelivery]:
    """One, or none where the endpoint does not want this event, or its dialect has none for it."""
    document = sip4ai_events.render(event, record) if endpoint.dialect == "sip4ai" else None
    if document is None and endpoint.dialect == "sip4ai":
        return
    name = EVENT_NAMES[type(event.fact)] if document is None else document["event"]
    if EVERY_EVENT not in endpoint.events and name not in endpoint.events:
        return
    told = delivery_id(endpoint.webhook_id, event.call_id, event.seq, name)
    body = body_of(event, record, told) if document is None else sip4ai_body_of(document)
    yield NewDelivery(
        delivery_id=told,
        account_id=record.account_id,
        webhook_id=endpoint.webhook_id,
        event=name,
        body=body,
        created_at=event.at,
        call_id=event.call_id,
        seq=event.seq,
        url=own_url,
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


def sip4ai_body_of(document: dict[str, Any]) -> bytes:
    """JSON of what ``sip4ai_events.render`` made, cut by the same rules."""
    ends = document["event"] in sip4ai_events.ENDS
    limit = MAX_CALL_BYTES if ends else MAX_BODY_BYTES
    body = msgspec.json.encode(document)
    if len(body) <= limit:
        return body
    data = document["data"]
    cut = {name: _cut_shape(value) if name in OF_FUNCTIONS else _cut(value) for name, value in data.items()}
    short = {**document, "data": cut, "truncated": True}
    if ends:
        _fill(short["data"], data["functions_called"], data["transcript"], short, limit)
    return msgspec.json.encode(short)


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
    short["data"]["call"] = {name: _cut(value) for name, value in call.items()}
    _fill(short["data"]["call"], functions, turns, short, limit)
    return msgspec.json.encode(short)


def _fill(
    told: dict[str, Any], functions: Sequence[object], turns: Sequence[object], short: dict[str, Any], limit: int
) -> None:
    """As many functions as half of the room takes that ``short``, of which ``told`` is a part, leaves; then turns."""
    told |= {"functions_called": [], "transcript": []}
    told["functions_called"] = _first(functions, (limit - len(msgspec.json.encode(short))) // 2)
    told["transcript"] = _first(turns, limit - len(msgspec.json.encode(short)))


def _first(turns: Sequence[object], room: int) -> Sequence[object]:
    """Those that fit into so many octets of JSON."""
    used = list(accumulate(len(msgspec.json.encode(turn)) + 1 for turn in turns))
    return turns[: bisect_right(used, room)]


def _cut_shape(value: object) -> object:
    """Where it is large, the beginning of its JSON."""
    text = msgspec.json.encode(value)
    return value if len(text) <= FIELD_CHARS else {"truncated": f"{text[:FIELD_CHARS].decode(errors='ignore')}…"}


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
