"""A call's events -> its record. Pure: (record, event) -> record."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

import msgspec

from offhook.model.call_events import (
    AgentJoined,
    AgentLeft,
    AnswerJudged,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallRefused,
    CallRinging,
    DigitReceived,
    HoldChanged,
    InterruptionResumed,
    LegAnswered,
    LegDialled,
    LegEnded,
    MediaPathChanged,
    MediaReported,
    PartyReplaced,
    ProviderFailed,
    ProviderReplaced,
    ProviderUsage,
    RecordingWritten,
    SipMessageReceived,
    TaskCompleted,
    ToolCalled,
    ToolReturned,
    TransferEnded,
    TransferStarted,
    TurnSpoken,
    WayTaken,
)
from offhook.model.records import CallRecord, FunctionCalled

MOST_FUNCTIONS = 100
"""Calls of functions that a record tells of; its events tell of all. A record is written anew with each event."""

MOST_FUNCTION_CHARS = 4_000
"""Of arguments, and of a result. What is longer is cut, and is no JSON then."""

MOST_CHARS_IN_ALL = 100_000
"""Of all arguments and results of a call."""


def begin(event: CallEvent, arrived: CallArrived, *, node_id: str) -> CallRecord:
    """The record of a call whose first fact this is."""
    return CallRecord(
        call_id=event.call_id,
        account_id=arrived.account_id,
        node_id=node_id,
        direction=arrived.direction,
        phase="arrived",
        from_uri=arrived.from_uri,
        to_uri=arrived.to_uri,
        sip_call_id=arrived.sip_call_id,
        remote_address=arrived.remote_address,
        trunk_id=arrived.trunk_id,
        created_at=event.at,
        event_webhooks=arrived.event_webhooks,
        agent_id=arrived.agent_id,
        provider=arrived.provider,
    )


def project(record: CallRecord, event: CallEvent) -> CallRecord:
    """The record after one more fact."""
    match event.fact:
        case WayTaken(sip_call_id=sip_call_id, server=server) if record.answered_at is None:
            return replace(record, sip_call_id=sip_call_id, remote_address=server)
        case CallRinging():
            return replace(record, phase="ringing")
        case CallAnswered(codec=codec, srtp=srtp):
            return replace(record, phase="up", codec=codec, srtp=srtp, answered_at=event.at)
        case AgentJoined(agent_id=agent_id, provider=provider) if not record.agent_id:
            return replace(record, agent_id=agent_id, provider=provider)
        case ProviderReplaced(by=by):
            return replace(record, provider=by)
        case TurnSpoken() | DigitReceived() | RecordingWritten() | ProviderUsage() | TaskCompleted() | AnswerJudged():
            return _add(record, event.fact)
        case ToolCalled() | ToolReturned() | TransferEnded():
            return _note_function(record, event.fact)
        case CallEnded() as ended:
            return _end(record, ended, event.at)
        case (
            CallArrived()
            | WayTaken()  # of a second party's leg
            | AgentJoined()  # to brief an operator
            | CallRefused()
            | AgentLeft()
            | InterruptionResumed()
            | HoldChanged()
            | SipMessageReceived()
            | TransferStarted()
            | LegDialled()
            | LegAnswered()
            | LegEnded()
            | PartyReplaced()
            | ProviderFailed()
            | MediaPathChanged()
            | MediaReported()
        ):
            return record  # kept among the record's events, projected into no field
        case _:
            assert_never(event.fact)


_Added = TurnSpoken | DigitReceived | RecordingWritten | ProviderUsage | TaskCompleted | AnswerJudged


def _add(record: CallRecord, fact: _Added) -> CallRecord:
    match fact:
        case TurnSpoken():
            return replace(record, transcript=(*record.transcript, fact))
        case DigitReceived(digit=digit):
            return replace(record, digits=record.digits + digit)
        case RecordingWritten(path=path):
            return replace(record, recording=path)
        case ProviderUsage():
            return replace(record, usage=(*record.usage, fact))
        case TaskCompleted():
            return replace(record, task=fact)
        case AnswerJudged(by=answered_by):
            return replace(record, answered_by=answered_by)
        case _:
            assert_never(fact)


# ── functions of the agent's own ─────────────────────────────────────────────────────────────────────────


def _note_function(record: CallRecord, fact: ToolCalled | ToolReturned | TransferEnded) -> CallRecord:
    match fact:
        case ToolCalled():
            return _call_function(record, fact)
        case ToolReturned():
            return _return(record, fact.tool_call_id, fact.output, is_error=fact.is_error)
        case TransferEnded():
            return _transferred(record, fact)
        case _:
            assert_never(fact)


def _call_function(record: CallRecord, fact: ToolCalled) -> CallRecord:
    """A tool of offhook's own is none."""
    if not fact.own or len(record.functions_called) >= MOST_FUNCTIONS:
        return record
    arguments = _cut(fact.arguments, _room(record))
    called = FunctionCalled(tool_call_id=fact.tool_call_id, name=fact.tool, arguments=arguments)
    return replace(record, functions_called=(*record.functions_called, called))


def _return(record: CallRecord, tool_call_id: str, result: str, *, is_error: bool) -> CallRecord:
    """It is that of the oldest call of this id that has none: a model may use an id again."""
    functions = record.functions_called
    for index, one in enumerate(functions):
        if one.tool_call_id == tool_call_id and one.result is None:
            done = replace(one, result=_cut(result, _room(record)), is_error=is_error)
            return replace(record, functions_called=(*functions[:index], done, *functions[index + 1 :]))
    return record


def _transferred(record: CallRecord, ended: TransferEnded) -> CallRecord:
    """The result of a function that transfers is what became of it: ``{"outcome": "connected"}``."""
    record = replace(record, transfers=(*record.transfers, ended))
    if not ended.tool_call_id:  # no model asked for it
        return record
    result = msgspec.json.encode({"outcome": ended.outcome}).decode()
    return _return(record, ended.tool_call_id, result, is_error=ended.outcome != "connected")


def _room(record: CallRecord) -> int:
    return MOST_CHARS_IN_ALL - sum(len(one.arguments) + len(one.result or "") for one in record.functions_called)


def _cut(text: str, room: int) -> str:
    longest = max(0, min(room, MOST_FUNCTION_CHARS))
    return text if len(text) <= longest else text[:longest]


def _end(record: CallRecord, ended: CallEnded, at: float) -> CallRecord:
    return replace(
        record,
        phase="ended",
        ended_at=at,
        duration_ms=ended.duration_ms,
        ended_by=ended.by,
        cause=ended.cause,
        sip_code=ended.sip_code,
        reason=ended.reason,
        provider_fault=ended.provider_fault,
        spend=ended.spend,
    )
