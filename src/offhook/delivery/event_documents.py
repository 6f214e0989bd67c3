"""A fact as it is told: the same JSON in streams, histories and webhooks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_never

import msgspec

from offhook.model.call_events import (
    AgentJoined,
    AgentLeft,
    AnswerJudged,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallFact,
    CallRefused,
    CallRinging,
    DigitReceived,
    HoldChanged,
    InterimTranscript,
    InterruptionResumed,
    LegAnswered,
    LegDialled,
    LegEnded,
    LiveSignal,
    MediaPathChanged,
    MediaReported,
    PartyReplaced,
    ProviderFailed,
    ProviderReplaced,
    ProviderUsage,
    RecordingWritten,
    SipMessageReceived,
    SpeechStateChanged,
    TaskCompleted,
    ToolCalled,
    ToolReturned,
    TransferEnded,
    TransferStarted,
    TurnSpoken,
    WayTaken,
)
from offhook.store.text import printable_document

EVENT_NAMES: Mapping[type[CallFact], str] = {
    CallArrived: "call.arrived",
    WayTaken: "call.way_taken",
    CallRinging: "call.ringing",
    CallAnswered: "call.answered",
    AnswerJudged: "call.answer_judged",
    CallRefused: "call.refused",
    AgentJoined: "agent.joined",
    AgentLeft: "agent.left",
    TurnSpoken: "turn.spoken",
    InterruptionResumed: "turn.resumed",
    DigitReceived: "digit.received",
    ToolCalled: "tool.called",
    ToolReturned: "tool.returned",
    HoldChanged: "call.hold_changed",
    SipMessageReceived: "sip_message.received",
    TransferStarted: "transfer.started",
    TransferEnded: "transfer.ended",
    LegDialled: "leg.dialled",
    LegAnswered: "leg.answered",
    LegEnded: "leg.ended",
    PartyReplaced: "party.replaced",
    ProviderFailed: "provider.failed",
    ProviderReplaced: "provider.replaced",
    ProviderUsage: "provider.usage",
    TaskCompleted: "task.completed",
    MediaPathChanged: "media.path_changed",
    MediaReported: "media.reported",
    RecordingWritten: "recording.written",
    CallEnded: "call.ended",
}
"""What each fact is called outside."""


def utc(at: float) -> datetime:
    """Unix seconds as ISO 8601 in UTC has them, to the millisecond: JSON ends in ``Z``."""
    return datetime.fromtimestamp(round(at, 3), UTC)


def event_document(event: CallEvent) -> dict[str, Any]:
    """``event`` (its name), ``call_id``, ``leg_id``, ``seq``, ``timestamp``, and the fact's own fields as ``data``."""
    return {
        "event": EVENT_NAMES[type(event.fact)],
        "call_id": event.call_id,
        "leg_id": event.leg_id,
        "seq": event.seq,
        "timestamp": utc(event.at),
        "data": _data(event),
    }


def _data(event: CallEvent) -> dict[str, Any]:
    data: dict[str, Any] = printable_document(msgspec.to_builtins(event.fact))  # peers need not send UTF-8
    if isinstance(event.fact, RecordingWritten):  # where it lies on our disk is nobody's business
        data["path"] = recording_path(event.call_id)
    return data


def recording_path(call_id: str) -> str:
    """Where the API gives a call's recording."""
    return f"/api/calls/{call_id}/recording"


def signal_document(signal: LiveSignal, at: float) -> dict[str, Any]:
    """As an event's, without a place in the call: ``transcript.interim``, ``speech.changed``."""
    match signal:
        case InterimTranscript():
            name = "transcript.interim"
        case SpeechStateChanged():
            name = "speech.changed"
        case _:
            assert_never(signal)
    data = printable_document(msgspec.to_builtins(signal))
    return {"event": name, "call_id": data.pop("call_id"), "timestamp": utc(at), "data": data}
