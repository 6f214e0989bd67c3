"""A fact as SIP4AI's users are told it: ``{"event", "call_id", "timestamp", "data"}``. Pure.

The document shows the data of ``call.completed`` alone; that of the others is offhook's own choice, and in
docs/WEBHOOKS.md. What offhook adds stands behind what SIP4AI has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from offhook.delivery.call_document import SPEAKERS, as_they_began, json_or_text, other_side
from offhook.delivery.event_documents import utc
from offhook.model.call_events import (
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallRinging,
    EndCause,
    ToolReturned,
    TransferEnded,
    TurnSpoken,
)
from offhook.model.records import CallRecord, FunctionCalled
from offhook.store.calls import status_of
from offhook.store.text import printable, printable_document

INITIATED = "call.initiated"
RINGING = "call.ringing"
ANSWERED = "call.answered"
COMPLETED = "call.completed"
FAILED = "call.failed"
FUNCTION = "function.called"
TRANSCRIPT = "transcript.update"

SIP4AI_EVENTS = (INITIATED, RINGING, ANSWERED, COMPLETED, FAILED, FUNCTION, TRANSCRIPT)
"""All there are, in the order of the document."""

ENDS = frozenset({COMPLETED, FAILED})
"""The last event of every call is one of these, exactly one."""

EndReason = Literal["completed", "busy", "no_answer", "error"]

BUSY_CODES = frozenset({486, 600})
"""RFC 3261 §21.4.24, §21.6.1: busy here, busy everywhere."""

NO_ANSWER_CODES = frozenset({408, 480})
"""RFC 3261 §21.4.9, §21.4.18: what networks say of a telephone that rang in vain, or is switched off."""

FAILURES: Mapping[EndCause, EndReason] = {
    "hangup": "no_answer",
    "transferred": "error",
    "session_expired": "error",
    "cancelled": "no_answer",
    "refused": "error",
    "no_answer": "no_answer",
    "unreachable": "error",
    "ack_missing": "error",
    "media_timeout": "error",
    "provider_failed": "error",
    "duration_limit": "no_answer",
    "answering_machine": "no_answer",
    "silence_timeout": "no_answer",
    "shutdown": "error",
    "server_lost": "error",
    "internal_error": "error",
}
"""``end_reason`` of a call that failed, by its cause; ``refused`` is looked at more closely. One that came about and
ended as somebody wanted is ``completed``, whatever its cause."""


def render(event: CallEvent, record: CallRecord) -> dict[str, Any] | None:
    """``record``: the call as it is with this event. None: SIP4AI has no such event."""
    told = _told(event, record)
    if told is None:
        return None
    name, data = told
    return {"event": name, "call_id": event.call_id, "timestamp": utc(event.at), "data": printable_document(data)}


def _told(event: CallEvent, record: CallRecord) -> tuple[str, dict[str, Any]] | None:
    match event.fact:
        case CallArrived():
            return INITIATED, _whom(record)
        case CallRinging():
            return RINGING, _whom(record)
        case CallAnswered():
            return ANSWERED, _answered(record)
        case TurnSpoken() as turn:
            return TRANSCRIPT, _segment(turn)
        case ToolReturned(tool_call_id=tool_call_id) | TransferEnded(tool_call_id=tool_call_id):
            return _function(event.fact, _called(record, tool_call_id))
        case CallEnded():
            return _ended(record)
        case _:
            return None


# ── the data of each ─────────────────────────────────────────────────────────────────────────────────────


def _whom(record: CallRecord) -> dict[str, Any]:
    return {"target": other_side(record), "direction": record.direction}


def _answered(record: CallRecord) -> dict[str, Any]:
    known = {} if record.answered_by is None else {"answered_by": record.answered_by}
    return {**_whom(record), **known}


def _segment(turn: TurnSpoken) -> dict[str, Any]:
    """``timestamp``: seconds since the answer."""
    return {"speaker": SPEAKERS[turn.speaker], "text": turn.text, "timestamp": turn.started_ms / 1000}


def _function(fact: ToolReturned | TransferEnded, called: FunctionCalled | None) -> tuple[str, dict[str, Any]] | None:
    """A transfer that no function of the agent's own asked for is none. ``called`` None: the record has no room."""
    if isinstance(fact, ToolReturned):
        result = _as_object(fact.output, is_error=fact.is_error)
        arguments = {} if called is None else _as_object(called.arguments)
        return FUNCTION, {"name": fact.tool, "arguments": arguments, "result": result}
    return None if called is None else (FUNCTION, function_document(called))


def function_document(called: FunctionCalled) -> dict[str, Any]:
    """``result`` null: none came before the call was over."""
    result = None if called.result is None else _as_object(called.result, is_error=called.is_error)
    return {"name": called.name, "arguments": _as_object(called.arguments), "result": result}


def _as_object(text: str, *, is_error: bool = False) -> dict[str, Any]:
    """SIP4AI has objects: what is none is put into one."""
    value = json_or_text(text or "{}")
    if isinstance(value, dict):
        return value
    return {"error" if is_error else "result": value}


def _called(record: CallRecord, tool_call_id: str) -> FunctionCalled | None:
    """The latest that has a result, which came with this event."""
    if not tool_call_id:
        return None
    found = (one for one in reversed(record.functions_called) if one.tool_call_id == tool_call_id)
    return next((one for one in found if one.result is not None), None)


def _ended(record: CallRecord) -> tuple[str, dict[str, Any]]:
    talk = {
        "transcript": [_segment(turn) for turn in as_they_began(record.transcript)],
        "functions_called": [function_document(one) for one in record.functions_called],
    }
    duration = record.duration_ms // 1000
    more = {
        "cause": record.cause,
        "ended_by": record.ended_by,
        "answered_by": record.answered_by,
        "task": None if record.task is None else msgspec.to_builtins(record.task),
    }
    if status_of(record) == "completed":
        return COMPLETED, {"duration": duration, "end_reason": end_reason(record), **talk, **_whom(record), **more}
    failure = {"end_reason": end_reason(record), "sip_code": record.sip_code, "reason": printable(record.reason)}
    return FAILED, {**failure, **_whom(record), **more, "duration": duration, **talk}


def end_reason(record: CallRecord) -> EndReason:
    """Of a call that is over, in SIP4AI's words."""
    if status_of(record) == "completed":
        return "completed"
    if record.answered_at is None and record.sip_code in BUSY_CODES:
        return "busy"
    if record.answered_at is None and record.cause == "refused" and record.sip_code in NO_ANSWER_CODES:
        return "no_answer"
    return "error" if record.cause is None else FAILURES[record.cause]
