"""A batch of the journal as rows: events, turns, recordings, the calls they change, saved legs and deliveries.

All of a batch is one transaction of a handful of statements.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from offhook.model.call_events import CallArrived, CallEvent, RecordingWritten, TurnSpoken
from offhook.model.errors import LocalProtocolError
from offhook.model.records import CallRecord
from offhook.store import outbox
from offhook.store.calls import load_records
from offhook.store.facts import fact_json_without_speech
from offhook.store.outbox import NewDelivery
from offhook.store.projection import begin, project
from offhook.store.rows import Row, Rows
from offhook.store.schema import call_events, calls, recordings, saved_legs, turns
from offhook.store.text import json_text, printable

_log = logging.getLogger("offhook.store")

Deliveries = Callable[[CallEvent, CallRecord], Iterable[NewDelivery]]
"""Who is told of an event, and in what words; ``record`` is the call as it is with this event. Pure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedLeg:
    """What is kept of an answered leg; None: the leg is over."""

    call_id: str
    leg_id: str
    saved: bytes | None


Entry = CallEvent | SavedLeg


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownCall:
    """A call as the database has it: ``last_seq`` is that of the last event in it."""

    record: CallRecord
    last_seq: int


class EventRefusedError(LocalProtocolError):
    """An event that cannot follow what is kept of its call: a bug of ours."""


@dataclass(kw_only=True, slots=True)
class Batch:
    """Entries in their order, made into rows by ``take``; ``write`` writes them.

    ``known``: calls as they are in the database. One that is missing there has not arrived.
    ``repeated``: some entries may be in the database already; those change nothing.
    """

    node_id: str
    deliveries: Deliveries
    known: dict[str, KnownCall]
    repeated: bool = False
    changed: dict[str, KnownCall] = field(default_factory=dict)
    new_deliveries: list[NewDelivery] = field(default_factory=list)
    _skipped: list[CallEvent] = field(default_factory=list)
    _legs: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    _events: list[Row] = field(default_factory=list)
    _turns: list[Row] = field(default_factory=list)
    _recordings: list[Row] = field(default_factory=list)

    def take(self, entry: Entry) -> None:
        """Raises ``EventRefusedError``, or whatever an event with a wrong type in it causes."""
        if isinstance(entry, SavedLeg):
            self._legs[entry.call_id, entry.leg_id] = entry.saved
            return
        call = self.known.get(entry.call_id)
        if call is not None and entry.seq <= call.last_seq:
            if not self.repeated:
                raise EventRefusedError(f"event {entry.seq} of call {entry.call_id} came after {call.last_seq}")
            self._skipped.append(entry)
            return
        after = KnownCall(record=self._record(call, entry), last_seq=entry.seq)
        self._add_rows(entry, after.record)
        self.known[entry.call_id] = self.changed[entry.call_id] = after

    def write(self, connection: sa.Connection) -> None:
        """Raises what SQLAlchemy raises; ``EventRefusedError`` for another event under a number that is taken."""
        if self._skipped:
            _expect_the_same(connection, self._skipped)
        _CALLS.insert(connection, [_call_row(call) for call in self.changed.values()])
        _EVENTS.insert(connection, self._events)
        _TURNS.insert(connection, self._turns)
        _RECORDINGS.insert(connection, self._recordings)
        outbox.add(connection, self.new_deliveries)
        _SAVED_LEGS.insert(connection, [(*key, saved) for key, saved in self._legs.items() if saved is not None])
        for (call_id, leg_id), saved in self._legs.items():
            if saved is None:
                over = sa.delete(saved_legs).where(saved_legs.c.call_id == call_id, saved_legs.c.leg_id == leg_id)
                connection.execute(over)

    def _record(self, call: KnownCall | None, event: CallEvent) -> CallRecord:
        if call is not None:
            return project(call.record, event)
        if not isinstance(event.fact, CallArrived):
            raise EventRefusedError(f"{type(event.fact).__name__} of call {event.call_id}, which has not arrived")
        return begin(event, event.fact, node_id=self.node_id)

    def _add_rows(self, event: CallEvent, record: CallRecord) -> None:
        fact = event.fact
        key = (event.call_id, event.seq, record.account_id)
        self._events.append((*key, event.leg_id, event.at, type(fact).__name__, fact_json_without_speech(fact)))
        if isinstance(fact, TurnSpoken):
            self._turns.append((*key, fact.speaker, printable(fact.text), json_text(fact)))
        elif isinstance(fact, RecordingWritten):
            self._recordings.append((event.call_id, fact.path, record.account_id, fact.duration_ms, event.at))
        try:
            self.new_deliveries += self.deliveries(event, record)
        except Exception:  # what cannot be told is still kept
            _log.exception("nobody is told of %s of call %s", type(fact).__name__, event.call_id)


def write_batch(connection: sa.Connection, batch: Batch, entries: Sequence[Entry]) -> None:
    """Load the calls that the batch does not know, and write all of ``entries``. Raises as ``Batch`` does."""
    batch.known |= _missing(connection, batch, entries)
    for entry in entries:
        batch.take(entry)
    batch.write(connection)


def _missing(connection: sa.Connection, batch: Batch, entries: Sequence[Entry]) -> Mapping[str, KnownCall]:
    events = [entry for entry in entries if isinstance(entry, CallEvent)]
    arriving = set[str]()
    if not batch.repeated:
        arriving = {event.call_id for event in events if isinstance(event.fact, CallArrived)}
    ids = {event.call_id for event in events} - arriving - batch.known.keys()
    if not ids:
        return {}
    loaded = load_records(connection, ids)
    return {call_id: KnownCall(record=record, last_seq=seq) for call_id, (record, seq) in loaded.items()}


def _expect_the_same(connection: sa.Connection, events: Sequence[CallEvent]) -> None:
    ids = {event.call_id for event in events}
    query = sa.select(call_events.c.call_id, call_events.c.seq, call_events.c.type)
    there = {(row[0], row[1]): row[2] for row in connection.execute(query.where(call_events.c.call_id.in_(ids)))}
    for event in events:
        name = type(event.fact).__name__
        if there.get((event.call_id, event.seq)) != name:
            raise EventRefusedError(f"another event than this {name} is number {event.seq} of call {event.call_id}")


_SAME_NAMES = (  # in the record and in the table
    "call_id",
    "account_id",
    "node_id",
    "direction",
    "phase",
    "from_uri",
    "to_uri",
    "sip_call_id",
    "trunk_id",
    "agent_id",
    "created_at",
    "answered_at",
    "ended_at",
    "duration_ms",
    "cause",
    "sip_code",
    "spend",
)
_CHANGING = (*_SAME_NAMES[4:], "node_id", "last_seq", "record")
_CALLS = Rows(
    calls,
    (*_SAME_NAMES, "last_seq", "record"),
    on_conflict=f"ON CONFLICT (call_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _CHANGING)}",
)
_EVENTS = Rows(call_events, ("call_id", "seq", "account_id", "leg_id", "at", "type", "fact"))
_TURNS = Rows(turns, ("call_id", "seq", "account_id", "speaker", "text", "turn"))
_RECORDINGS = Rows(
    recordings,
    ("call_id", "path", "account_id", "duration_ms", "created_at"),
    on_conflict="ON CONFLICT (call_id, path) DO UPDATE SET duration_ms = excluded.duration_ms",
)
_SAVED_LEGS = Rows(
    saved_legs,
    ("call_id", "leg_id", "saved"),
    on_conflict="ON CONFLICT (call_id, leg_id) DO UPDATE SET saved = excluded.saved",
)


def _call_row(call: KnownCall) -> Row:
    values = (getattr(call.record, name) for name in _SAME_NAMES)
    columns = (printable(value) if isinstance(value, str) else value for value in values)
    return (*columns, call.last_seq, json_text(replace(call.record, transcript=())))
