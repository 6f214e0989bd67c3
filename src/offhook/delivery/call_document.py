"""A call as it is told: the same JSON in the API and in ``call.ended``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from offhook.delivery.event_documents import recording_path, utc
from offhook.model.call_events import Speaker, TurnSpoken
from offhook.model.errors import SipParseError
from offhook.model.records import CallRecord, FunctionCalled
from offhook.sip.uri import SipUri
from offhook.store.calls import status_of
from offhook.store.text import printable_document

SPEAKERS: Mapping[Speaker, str] = {"agent": "ai", "caller": "user", "operator": "operator"}
"""What speakers are called outside."""

JSON_DEPTH = 32
"""Of a function's arguments and result: what is deeper is told as the text it came as. Encoders recurse."""

_AS_THEY_ARE = (
    "answered_by", "agent_id", "trunk_id", "from_uri", "to_uri", "sip_call_id", "remote_address", "codec",
    "srtp", "duration_ms", "ended_by", "cause", "sip_code", "reason", "provider_fault", "spend", "digits", "node_id",
)  # fmt: skip

_OF_TRANSFERS = ("mode", "target", "outcome", "sip_code", "reason")


def call_summary(record: CallRecord) -> dict[str, Any]:
    """Everything but what was said, and which functions were called. ``target``: the other side, whom we dialled or who
    has called us; ``duration``: whole seconds, once it is over.
    """
    return {
        "id": record.call_id,
        "status": status_of(record),
        "direction": record.direction,
        "target": other_side(record),
        "provider": record.provider,
        "duration": record.duration_ms // 1000 if record.ended_at is not None else None,
        "created_at": utc(record.created_at),
        "ended_at": _maybe_utc(record.ended_at),
        "answered_at": _maybe_utc(record.answered_at),
        "transfers": tuple({name: getattr(one, name) for name in _OF_TRANSFERS} for one in record.transfers),
        "usage": tuple(msgspec.to_builtins(one) for one in record.usage),
        "task": None if record.task is None else printable_document(msgspec.to_builtins(record.task)),
        "recording": recording_path(record.call_id) if record.recording else None,
        **{name: getattr(record, name) for name in _AS_THEY_ARE},
    }


def call_document(record: CallRecord) -> dict[str, Any]:
    """The same, with ``functions_called`` and ``transcript``: who said what, and when."""
    return {
        **call_summary(record),
        "functions_called": tuple(function_document(one) for one in record.functions_called),
        "transcript": tuple(_turn(turn) for turn in as_they_began(record.transcript)),
    }


def function_document(called: FunctionCalled) -> dict[str, Any]:
    """``result`` null: none came. Both as JSON where they are JSON, else as text."""
    result = None if called.result is None else json_or_text(called.result)
    return {"name": called.name, "arguments": json_or_text(called.arguments), "result": result}


def json_or_text(text: str) -> Any:
    """The values that ``text`` is the JSON of; else itself."""
    try:
        values = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return printable_document(text)
    return printable_document(values if _is_flat(values, JSON_DEPTH) else text)


def _is_flat(value: Any, depth: int) -> bool:
    match value:
        case dict():
            return depth > 0 and all(_is_flat(each, depth - 1) for each in value.values())
        case list():
            return depth > 0 and all(_is_flat(each, depth - 1) for each in value)
        case _:
            return True


def as_they_began(transcript: Iterable[TurnSpoken]) -> Sequence[TurnSpoken]:
    """Turns are recorded when they are over: one that was cut after the words that cut it."""
    return sorted(transcript, key=lambda turn: turn.started_ms)


def _turn(turn: TurnSpoken) -> dict[str, Any]:
    """``timestamp``: seconds since the answer."""
    return {
        "speaker": SPEAKERS[turn.speaker],
        "text": turn.text,
        "timestamp": turn.started_ms / 1000,
        "started_ms": turn.started_ms,
        "ended_ms": turn.ended_ms,
        "interrupted": turn.interrupted,
        "latency_ms": turn.latency_ms,
    }


def other_side(record: CallRecord) -> str:
    """Number or name of whom we dialled, or who has called us."""
    return number_in(record.from_uri if record.direction == "inbound" else record.to_uri)


def number_in(uri: str) -> str:
    """The number or name in a URI; the URI itself where it has none."""
    if uri.startswith("tel:"):
        return uri[4:].partition(";")[0]
    try:
        return SipUri.parse(uri).user or uri
    except SipParseError:
        return uri


def _maybe_utc(at: float | None) -> datetime | None:
    return None if at is None else utc(at)
