"""What explains the SIP messages of a call: under which Call-IDs they came, and the facts to show among them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from offhook.delivery.event_documents import EVENT_NAMES, utc
from offhook.model.call_events import (
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallRefused,
    ProviderFailed,
    ProviderReplaced,
    WayTaken,
)
from offhook.signaling.ladder import Note
from offhook.signaling.trace import TraceRecord
from offhook.sip.grammar import format_host
from offhook.store.calls import call_events_of, get_call

_PAGE = 1_000
_TOLD = (WayTaken, CallRefused, CallAnswered, ProviderFailed, ProviderReplaced, CallEnded)


@dataclass(frozen=True, kw_only=True, slots=True)
class CallTrace:
    sip_call_ids: tuple[str, ...]
    notes: tuple[Note, ...] = ()


def call_trace(connection: sa.Connection, account_id: str, call_id: str) -> CallTrace | None:
    """None where the account has no such call."""
    record = get_call(connection, account_id, call_id)
    if record is None:
        return None
    ids, notes = [record.sip_call_id], list[Note]()
    for event in _events(connection, account_id, call_id):
        if isinstance(event.fact, CallArrived | WayTaken):
            ids.append(event.fact.sip_call_id)
        if isinstance(event.fact, _TOLD):
            notes.append(_note(event))
    return CallTrace(sip_call_ids=tuple(dict.fromkeys(one for one in ids if one)), notes=tuple(notes))


def _events(connection: sa.Connection, account_id: str, call_id: str) -> list[CallEvent]:
    events: list[CallEvent] = []
    while True:
        after = events[-1].seq if events else 0
        page = call_events_of(connection, account_id, call_id, after_seq=after, limit=_PAGE)
        events += page
        if len(page) < _PAGE:
            return events


def _note(event: CallEvent) -> Note:
    """A fact in one line, with every field that says something."""
    fields = msgspec.to_builtins(event.fact).items()
    said = (f"{key} {value}" for key, value in fields if value not in ("", None) and key != "sip_call_id")
    return event.at, f"{EVENT_NAMES[type(event.fact)]}: {', '.join(said)}"


def message_document(record: TraceRecord) -> dict[str, Any]:
    """One message on the wire; ``base64`` where it is no UTF-8, ``local`` and ``remote`` as ``host:port``."""
    try:
        text, encoded = record.data.decode(), None
    except UnicodeDecodeError:
        text, encoded = None, base64.b64encode(record.data).decode()
    flow = record.flow
    return {
        "timestamp": utc(record.at),
        "direction": record.direction,
        "transport": flow.transport,
        "local": format_host(flow.bind_host, flow.local.port),
        "remote": format_host(*flow.remote),
        "text": text,
        "base64": encoded,
    }
