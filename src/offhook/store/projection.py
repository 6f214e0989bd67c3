"""A call's events -> its record. Pure: (record, event) -> record."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

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
from offhook.model.records import CallRecord


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
        case AnswerJudged(by=answered_by):
            return replace(record, answered_by=answered_by)
        case TurnSpoken() | DigitReceived() | TransferEnded() | RecordingWritten() | ProviderUsage() | TaskCompleted():
            return _add(record, event.fact)
        case CallEnded() as ended:
            return _end(record, ended, event.at)
        case (
            CallArrived()
            | WayTaken()  # of a second party's leg
            | AgentJoined()  # to brief an operator
            | CallRefused()
            | AgentLeft()
            | InterruptionResumed()
            | ToolCalled()
            | ToolReturned()
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


_Added = TurnSpoken | DigitReceived | TransferEnded | RecordingWritten | ProviderUsage | TaskCompleted


def _add(record: CallRecord, fact: _Added) -> CallRecord:
    match fact:
        case TurnSpoken():
            return replace(record, transcript=(*record.transcript, fact))
        case DigitReceived(digit=digit):
            return replace(record, digits=record.digits + digit)
        case TransferEnded():
            return replace(record, transfers=(*record.transfers, fact))
        case RecordingWritten(path=path):
            return replace(record, recording=path)
        case ProviderUsage():
            return replace(record, usage=(*record.usage, fact))
        case TaskCompleted():
            return replace(record, task=fact)
        case _:
            assert_never(fact)


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
