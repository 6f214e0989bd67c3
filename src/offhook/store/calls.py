"""Questions about calls: records, lists, events, and what a process that died has left.

Every function works inside the caller's transaction, and raises what SQLAlchemy raises.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import msgspec
import sqlalchemy as sa

from offhook.model.call_events import CallArrived, CallEvent, CallPhase, Direction, EndCause, TurnSpoken, WayTaken
from offhook.model.records import CallRecord, UnfinishedCall
from offhook.store.facts import fact_of
from offhook.store.schema import call_events, calls, nodes, outbox, recordings, saved_legs, turns
from offhook.store.text import printable

CallStatus = Literal["initiating", "ringing", "in_progress", "completed", "failed"]
"""What an API tells of a call's phase and end. ``failed``: nobody answered, or a fault cut it short."""

CALL_STATUSES: tuple[CallStatus, ...] = get_args(CallStatus)

FAULTS: frozenset[EndCause] = frozenset(
    {"ack_missing", "internal_error", "media_timeout", "provider_failed", "server_lost", "session_expired"}
)
"""Ends of answered calls that nobody wanted."""

RUNNING: Mapping[CallPhase, CallStatus] = {
    "arrived": "initiating",
    "resolving": "initiating",
    "ringing": "ringing",
    "up": "in_progress",
    "ending": "in_progress",
}
"""The status of a call that is not over, by its phase."""

MAX_FOUND = 6
"""Ids that a beginning may mean: more help nobody to choose."""

_log = logging.getLogger("offhook.store")

_decoder = msgspec.json.Decoder(CallRecord)
_turn_decoder = msgspec.json.Decoder(TurnSpoken)
_record_text = sa.cast(calls.c.record, sa.Text)


@dataclass(frozen=True, kw_only=True, slots=True)
class CallFilter:
    """Which calls of an account; what is empty or None leaves nothing out.

    ``created_after`` and ``created_before`` are Unix seconds, neither of them included. ``text`` stands anywhere in the
    From or To URI, in letters of any case.
    """

    status: CallStatus | None = None
    direction: Direction | None = None
    agent_id: str = ""
    trunk_id: str = ""
    cause: EndCause | None = None
    sip_code: int | None = None
    created_after: float | None = None
    created_before: float | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletedCall:
    """What is left of a call on disk: paths of its recordings, and Call-IDs that its traces are kept by."""

    recordings: tuple[str, ...]
    sip_call_ids: tuple[str, ...]


def status_of(record: CallRecord) -> CallStatus:
    if record.phase == "ended":
        return "failed" if record.answered_at is None or record.cause in FAULTS else "completed"
    return RUNNING[record.phase]


def has_status(status: CallStatus) -> sa.ColumnElement[bool]:
    """The same as ``status_of``, for the database to decide."""
    phase, over = calls.c.phase, calls.c.phase == "ended"
    failed = sa.or_(calls.c.answered_at.is_(None), sa.func.coalesce(calls.c.cause, "").in_(FAULTS))
    match status:
        case "initiating":
            return phase.in_(("arrived", "resolving"))
        case "ringing":
            return phase == "ringing"
        case "in_progress":
            return phase.in_(("up", "ending"))
        case "completed":
            return sa.and_(over, ~failed)
        case "failed":
            return sa.and_(over, failed)


def get_call(connection: sa.Connection, account_id: str, call_id: str) -> CallRecord | None:
    """With its transcript. None: there is none, or it is another account's."""
    query = sa.select(_record_text).where(calls.c.call_id == call_id, calls.c.account_id == account_id)
    text = connection.scalar(query)
    if text is None:
        return None
    record = _with_transcripts(connection, [_decoder.decode(text)])[0]
    return replace(record, recording=recording_path(connection, account_id, call_id))


def list_calls(
    connection: sa.Connection, account_id: str, wanted: CallFilter, *, limit: int, offset: int = 0
) -> tuple[tuple[CallRecord, ...], int]:
    """Newest first, without transcripts, and how many there are in all. ``recording``: None when it was deleted."""
    chosen = [calls.c.account_id == account_id, *_tests(wanted)]
    newest_first = (calls.c.created_at.desc(), calls.c.call_id.desc())
    query = sa.select(_record_text).where(*chosen).order_by(*newest_first).limit(limit).offset(offset)
    records = [_decoder.decode(text) for text in connection.scalars(query)]
    ids = [record.call_id for record in records if record.recording is not None]
    there = set(connection.scalars(sa.select(recordings.c.call_id).where(recordings.c.call_id.in_(ids)))) if ids else ()
    records = [record if record.call_id in there else replace(record, recording=None) for record in records]
    total = connection.scalar(sa.select(sa.func.count()).select_from(calls).where(*chosen))
    return tuple(records), total or 0


def transcripts(connection: sa.Connection, records: Sequence[CallRecord]) -> tuple[CallRecord, ...]:
    """The same records, with what was said."""
    return tuple(_with_transcripts(connection, records))


def call_events_of(
    connection: sa.Connection, account_id: str, call_id: str, *, after_seq: int = 0, limit: int = 1000
) -> tuple[CallEvent, ...]:
    """In their order. Speech whose time is over (retention) is "". What this version does not know is left out."""
    kept = sa.func.coalesce(sa.cast(turns.c.turn, sa.Text), sa.cast(call_events.c.fact, sa.Text))
    of_event = sa.and_(turns.c.call_id == call_events.c.call_id, turns.c.seq == call_events.c.seq)
    query = (
        sa.select(call_events.c.seq, call_events.c.leg_id, call_events.c.at, call_events.c.type, kept)
        .select_from(call_events.outerjoin(turns, of_event))
        .where(call_events.c.call_id == call_id, call_events.c.account_id == account_id)
        .where(call_events.c.seq > after_seq)
        .order_by(call_events.c.seq)
        .limit(limit)
    )
    events = list[CallEvent]()
    for seq, leg_id, at, type_name, text in connection.execute(query):
        try:
            fact = fact_of(type_name, text)
        except ValueError as error:
            _log.warning("event %d of call %s cannot be read: %s", seq, call_id, error)
            continue
        events.append(CallEvent(call_id=call_id, leg_id=leg_id, seq=seq, at=at, fact=fact))
    return tuple(events)


def recording_path(connection: sa.Connection, account_id: str, call_id: str) -> str | None:
    """As ``RecordingWritten`` has it; the latest where there are several."""
    mine = (recordings.c.call_id == call_id, recordings.c.account_id == account_id)
    path: str | None = connection.scalar(
        sa.select(recordings.c.path).where(*mine).order_by(recordings.c.created_at.desc()).limit(1)
    )
    return path


def find_calls(connection: sa.Connection, account_id: str, told: str) -> tuple[str, ...]:
    """Ids of the calls that somebody may mean: by an id or its beginning, else by a SIP Call-ID. Newest first."""
    told = printable(told)
    if not told:
        return ()
    mine = sa.select(calls.c.call_id).where(calls.c.account_id == account_id)
    newest = mine.order_by(calls.c.created_at.desc()).limit(MAX_FOUND)
    exact = connection.scalars(newest.where(calls.c.call_id == told)).all()
    by_beginning = exact or connection.scalars(newest.where(calls.c.call_id.startswith(told, autoescape=True))).all()
    if by_beginning:
        return tuple(by_beginning)
    # an outbound call has one for each way it took, which only its events know; looked for as the JSON has it
    as_json = msgspec.json.encode(told).decode()
    took_it = (
        sa.select(call_events.c.call_id)
        .where(call_events.c.account_id == account_id, call_events.c.type == "WayTaken")
        .where(sa.cast(call_events.c.fact, sa.Text).contains(f'"sip_call_id":{as_json}', autoescape=True))
    )
    known = sa.or_(calls.c.sip_call_id == told, calls.c.call_id.in_(took_it))
    return tuple(connection.scalars(newest.where(known)))


def unfinished_calls(connection: sa.Connection, node_id: str) -> tuple[UnfinishedCall, ...]:
    """Calls of this node that did not end, or of which a leg is still saved; the oldest first."""
    with_legs = sa.select(saved_legs.c.call_id)
    columns = (calls.c.call_id, calls.c.account_id, calls.c.last_seq, calls.c.phase, calls.c.answered_at)
    query = (
        sa.select(*columns, call_events.c.at.label("last_at"), calls.c.created_at, nodes.c.beat_at)
        .select_from(calls.outerjoin(call_events, _last_event()).outerjoin(nodes, nodes.c.node_id == calls.c.node_id))
        .where(calls.c.node_id == node_id, sa.or_(calls.c.ended_at.is_(None), calls.c.call_id.in_(with_legs)))
        .order_by(calls.c.created_at)
    )
    rows = connection.execute(query).all()
    legs = _legs(connection, {row.call_id for row in rows})
    return tuple(
        UnfinishedCall(
            call_id=row.call_id,
            account_id=row.account_id,
            last_seq=row.last_seq,
            last_at=max(row.created_at, row.last_at or 0.0, row.beat_at or 0.0),
            phase=row.phase,
            answered_at=row.answered_at,
            legs=legs.get(row.call_id, {}),
        )
        for row in rows
    )


def delete_call(connection: sa.Connection, account_id: str, call_id: str) -> DeletedCall | None:
    """Everything the database has of a call that is over; files are the caller's (``retention.remove_files``).

    None: there is none, it is another account's, or it is not over (``get_call`` tells).
    """
    mine = (calls.c.call_id == call_id, calls.c.account_id == account_id, calls.c.phase == "ended")
    if connection.scalar(sa.select(calls.c.call_id).where(*mine)) is None:
        return None
    left = files_of(connection, [call_id])
    delete_rows(connection, [call_id])
    return left


def delete_rows(connection: sa.Connection, call_ids: Collection[str]) -> None:
    """Of these calls, in every table."""
    for table in (outbox, saved_legs, recordings, turns, call_events, calls):
        connection.execute(sa.delete(table).where(table.c.call_id.in_(call_ids)))


def load_records(connection: sa.Connection, call_ids: Iterable[str]) -> Mapping[str, tuple[CallRecord, int]]:
    """With their transcripts, and the number of their last event; for the journal."""
    query = sa.select(_record_text, calls.c.last_seq).where(calls.c.call_id.in_(list(call_ids)))
    rows = connection.execute(query).all()
    records = _with_transcripts(connection, [_decoder.decode(text) for text, _ in rows])
    return {record.call_id: (record, seq) for record, (_, seq) in zip(records, rows, strict=True)}


def _with_transcripts(connection: sa.Connection, records: Sequence[CallRecord]) -> list[CallRecord]:
    ids = [record.call_id for record in records]
    query = sa.select(turns.c.call_id, sa.cast(turns.c.turn, sa.Text)).where(turns.c.call_id.in_(ids))
    said = dict[str, list[TurnSpoken]]()
    for call_id, text in connection.execute(query.order_by(turns.c.call_id, turns.c.seq)):
        said.setdefault(call_id, []).append(_turn_decoder.decode(text))
    return [replace(record, transcript=tuple(said.get(record.call_id, ()))) for record in records]


def _last_event() -> sa.ColumnElement[bool]:
    return sa.and_(call_events.c.call_id == calls.c.call_id, call_events.c.seq == calls.c.last_seq)


def _legs(connection: sa.Connection, call_ids: Collection[str]) -> Mapping[str, Mapping[str, bytes]]:
    legs = dict[str, dict[str, bytes]]()
    query = sa.select(saved_legs).where(saved_legs.c.call_id.in_(call_ids))
    for call_id, leg_id, saved in connection.execute(query):
        legs.setdefault(call_id, {})[leg_id] = bytes(saved)
    return legs


def files_of(connection: sa.Connection, call_ids: Collection[str]) -> DeletedCall:
    """What these calls have on disk."""
    paths = connection.scalars(sa.select(recordings.c.path).where(recordings.c.call_id.in_(call_ids)))
    naming = sa.select(call_events.c.type, sa.cast(call_events.c.fact, sa.Text)).where(
        call_events.c.call_id.in_(call_ids), call_events.c.type.in_(("CallArrived", "WayTaken"))
    )
    facts = (fact_of(type_name, text) for type_name, text in connection.execute(naming.order_by(call_events.c.seq)))
    ids = [fact.sip_call_id for fact in facts if isinstance(fact, CallArrived | WayTaken)]
    return DeletedCall(recordings=tuple(paths), sip_call_ids=tuple(dict.fromkeys(filter(None, ids))))


def _tests(wanted: CallFilter) -> list[sa.ColumnElement[bool]]:
    equal: dict[Any, Any] = {
        calls.c.direction: wanted.direction,
        calls.c.agent_id: wanted.agent_id or None,
        calls.c.trunk_id: wanted.trunk_id or None,
        calls.c.cause: wanted.cause,
        calls.c.sip_code: wanted.sip_code,
    }
    tests: list[sa.ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
    if wanted.status is not None:
        tests.append(has_status(wanted.status))
    if wanted.created_after is not None:
        tests.append(calls.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        tests.append(calls.c.created_at < wanted.created_before)
    if wanted.text:
        text = printable(wanted.text)
        either = (column.icontains(text, autoescape=True) for column in (calls.c.from_uri, calls.c.to_uri))
        tests.append(sa.or_(*either))
    return tests
