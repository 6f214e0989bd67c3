"""What happens in the calls of these tests, told in a few words, and written to a database without a journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tests.store.databases import write

from offhook.model.call_events import (
    AgentJoined,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallEvent,
    CallFact,
    CallRinging,
    DigitReceived,
    RecordingWritten,
    TurnSpoken,
)
from offhook.store.batches import Batch, Deliveries, Entry, KnownCall, write_batch
from offhook.store.database import Database

ARRIVED = CallArrived(
    direction="inbound",
    from_uri="sip:alice@example.com",
    to_uri="sip:demo@example.com",
    sip_call_id="abc@example.com",
    transport="UDP",
    remote_address="192.0.2.1:5060",
)
RINGING = CallRinging(status=180)
ANSWERED = CallAnswered(codec="PCMU", setup_ms=20)
JOINED = AgentJoined(agent_id="demo", provider="local")
TURN = TurnSpoken(speaker="caller", text="what time is it", started_ms=100, ended_ms=900)
DIGIT = DigitReceived(digit="5", duration_ms=100)
RECORDED = RecordingWritten(path="recordings/c1.wav", duration_ms=4000)
ENDED = CallEnded(by="caller", phase="up", cause="hangup", duration_ms=4000, spend=0.5)
WHOLE = (ARRIVED, RINGING, ANSWERED, JOINED, TURN, DIGIT, replace(DIGIT, digit="#"), RECORDED, ENDED)


def event(fact: CallFact, seq: int, *, call_id: str = "c1", at: float = 1000.0) -> CallEvent:
    return CallEvent(call_id=call_id, leg_id="leg-1", seq=seq, at=at + seq, fact=fact)


def story(*facts: CallFact, call_id: str = "c1", at: float = 1000.0, after: int = 0) -> list[CallEvent]:
    return [event(fact, after + number, call_id=call_id, at=at) for number, fact in enumerate(facts, 1)]


def nobody(event: CallEvent, record: object) -> tuple[()]:
    return ()


def kept(
    database: Database,
    entries: Iterable[Entry],
    *,
    known: dict[str, KnownCall] | None = None,
    deliveries: Deliveries = nobody,
    repeated: bool = False,
) -> Batch:
    """One batch, in one transaction."""
    batch = Batch(node_id="n1", deliveries=deliveries, known={} if known is None else known, repeated=repeated)
    write(database, write_batch, batch, list(entries))
    return batch


def happened(database: Database, *facts: CallFact, call_id: str = "c1", at: float = 1000.0) -> None:
    kept(database, story(*facts, call_id=call_id, at=at))
