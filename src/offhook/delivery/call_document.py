"""A call as it is told: the same JSON in the API and in ``call.ended``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from offhook.delivery.event_documents import recording_path, utc
from offhook.model.call_events import Speaker, TurnSpoken
from offhook.model.errors import SipParseError
from offhook.model.records import CallRecord
from offhook.sip.uri import SipUri
from offhook.store.calls import status_of
from offhook.store.text import printable_document

SPEAKERS: Mapping[Speaker, str] = {"agent": "ai", "caller": "user", "operator": "operator"}
"""What speakers are called outside."""

_AS_THEY_ARE = (
    "direction", "provider", "agent_id", "trunk_id", "from_uri", "to_uri", "sip_call_id", "remote_address", "codec",
    "srtp", "duration_ms", "ended_by", "cause", "sip_code", "reason", "provider_fault", "spend", "digits", "node_id",
)  # fmt: skip


def call_summary(record: CallRecord) -> dict[str, Any]:
    """Everything but the transcript. ``target``: who was dialled; ``duration``: whole seconds, once it is over."""
    return {
        "id": record.call_id,
        "status": status_of(record),
        "target": dialled(record.to_uri),
        "duration": record.duration_ms // 1000 if record.ended_at is not None else None,
        "created_at": utc(record.created_at),
        "answered_at": _maybe_utc(record.answered_at),
        "ended_at": _maybe_utc(record.ended_at),
        "transfers": tuple(msgspec.to_builtins(one) for one in record.transfers),
        "usage": tuple(msgspec.to_builtins(one) for one in record.usage),
        "task": None if record.task is None else printable_document(msgspec.to_builtins(record.task)),
        "recording": recording_path(record.call_id) if record.recording else None,
        **{name: getattr(record, name) for name in _AS_THEY_ARE},
    }


def call_document(record: CallRecord) -> dict[str, Any]:
    """The same, with ``transcript``: who said what, and when."""
    began = utc(record.answered_at if record.answered_at is not None else record.created_at)
    return {**call_summary(record), "transcript": tuple(_turn(turn, began) for turn in record.transcript)}


def _turn(turn: TurnSpoken, began: datetime) -> dict[str, Any]:
    return {
        "speaker": SPEAKERS[turn.speaker],
        "text": turn.text,
        "timestamp": began + timedelta(milliseconds=turn.started_ms),
        "started_ms": turn.started_ms,
        "ended_ms": turn.ended_ms,
        "interrupted": turn.interrupted,
        "latency_ms": turn.latency_ms,
    }


def dialled(uri: str) -> str:
    """The number or name in a URI; the URI itself where it has none."""
    if uri.startswith("tel:"):
        return uri[4:].partition(";")[0]
    try:
        return SipUri.parse(uri).user or uri
    except SipParseError:
        return uri


def _maybe_utc(at: float | None) -> datetime | None:
    return None if at is None else utc(at)
