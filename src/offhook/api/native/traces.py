"""The SIP messages of a call, secrets crossed out: as JSON, or as the ladder that ``offhook trace`` shows."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import sqlalchemy as sa
from aiohttp import web

from offhook.api.endpoints import JSON, Asked, Endpoint, Form
from offhook.api.native.calls import READ, call_record
from offhook.api.native.fields import Time
from offhook.api.problems import ApiError
from offhook.delivery.event_documents import EVENT_NAMES, utc
from offhook.model.call_events import (
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallRefused,
    ProviderFailed,
    WayTaken,
)
from offhook.signaling.ladder import Note, ladder
from offhook.signaling.trace import TraceRecord
from offhook.sip.grammar import format_host
from offhook.store.calls import call_events_of
from offhook.store.traces import read_trace

TEXT = "text/plain"

_PAGE = 1_000
_TOLD = (WayTaken, CallRefused, CallAnswered, ProviderFailed, CallEnded)
"""Facts of the call that explain its messages."""


class SipMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message on the wire. ``local`` and ``remote`` are ``host:port``; ``base64`` where it is no UTF-8."""

    timestamp: Time
    direction: Literal["received", "sent"]
    transport: Literal["UDP", "TCP", "TLS"]
    local: str
    remote: str
    text: str | None
    base64: str | None


class TraceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """In the order of time. Empty where ``sip.trace`` is off, or the messages are too old to be kept."""

    messages: tuple[SipMessage, ...]


async def get_trace(asked: Asked) -> web.StreamResponse:
    record = await call_record(asked)
    events = await asked.parts.database.look(_all_events, asked.account_id, record.call_id)
    as_text = _prefers_text(asked.request.headers.get("Accept", ""))
    ids = _sip_call_ids(record.sip_call_id, events)
    try:
        body = await asyncio.to_thread(_shown, asked.parts.data_dir, ids, events, as_text=as_text)
    except OSError as error:
        raise ApiError(
            "UNAVAILABLE", f"The traces cannot be read ({error.strerror})", headers={"Retry-After": "10"}
        ) from error
    return web.Response(body=body, content_type=TEXT if as_text else JSON, charset="utf-8" if as_text else None)


def _prefers_text(accept: str) -> bool:
    return TEXT in accept and JSON not in accept


def _all_events(connection: sa.Connection, account_id: str, call_id: str) -> tuple[CallEvent, ...]:
    events: list[CallEvent] = []
    while True:
        after = events[-1].seq if events else 0
        page = call_events_of(connection, account_id, call_id, after_seq=after, limit=_PAGE)
        events += (event for event in page if isinstance(event.fact, (CallArrived, *_TOLD)))
        if len(page) < _PAGE:
            return tuple(events)


def _sip_call_ids(latest: str, events: Iterable[CallEvent]) -> tuple[str, ...]:
    taken = [event.fact.sip_call_id for event in events if isinstance(event.fact, CallArrived | WayTaken)]
    return tuple(dict.fromkeys(one for one in (latest, *taken) if one))


def _shown(data_dir: Path, sip_call_ids: Sequence[str], events: Iterable[CallEvent], *, as_text: bool) -> bytes:
    """Reads and writes up to some megabytes: for a thread. Raises ``OSError``."""
    records = read_trace(data_dir, sip_call_ids)
    if as_text:
        return ladder(records, [_note(event) for event in events if isinstance(event.fact, _TOLD)]).encode()
    return msgspec.json.encode(TraceAnswer(messages=tuple(map(_message, records))))


def _message(record: TraceRecord) -> SipMessage:
    try:
        text, encoded = record.data.decode(), None
    except UnicodeDecodeError:
        text, encoded = None, base64.b64encode(record.data).decode()
    flow = record.flow
    return SipMessage(
        timestamp=utc(record.at),
        direction=record.direction,
        transport=flow.transport,
        local=format_host(flow.bind_host, flow.local.port),
        remote=format_host(*flow.remote),
        text=text,
        base64=encoded,
    )


def _note(event: CallEvent) -> Note:
    """A fact in one line, with every field that says something."""
    fields = msgspec.to_builtins(event.fact).items()
    said = (f"{key} {value}" for key, value in fields if value not in ("", None) and key != "sip_call_id")
    return event.at, f"{EVENT_NAMES[type(event.fact)]}: {', '.join(said)}"


_EXAMPLE = {
    "messages": [
        {
            "timestamp": "2026-11-21T11:52:00.120Z",
            "direction": "received",
            "transport": "UDP",
            "local": "192.0.2.1:5060",
            "remote": "192.0.2.10:5060",
            "text": "BYE sip:demo@192.0.2.1 SIP/2.0\r\nCall-ID: a84b4c76e66710\r\n\r\n",
            "base64": None,
        }
    ]
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/calls/{id}/trace",
        operation="getTrace",
        tag="calls",
        summary="Every SIP message of a call, secrets crossed out; with Accept: text/plain as a ladder",
        handler=get_trace,
        scope=READ,
        answers=(
            Form(type=TraceAnswer, example=_EXAMPLE),
            Form(media=TEXT, summary="A ladder of arrows, then every message"),
        ),
    ),
)
