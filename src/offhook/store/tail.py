"""What is new in the events of running calls, for who follows them from another process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from offhook.model.call_events import CallEvent
from offhook.store.calls import call_events_of
from offhook.store.schema import calls

ENDED_S = 120.0
"""Calls that ended within this time are looked at: clocks of nodes differ, and a follower may have been held up."""


def last_seqs(connection: sa.Connection, account_id: str, now: float) -> Mapping[str, int]:
    """The number of the last event of every call that runs, or ended a moment ago; ``now`` is Unix seconds."""
    recent = sa.or_(calls.c.ended_at.is_(None), calls.c.ended_at > now - ENDED_S)
    query = sa.select(calls.c.call_id, calls.c.last_seq).where(calls.c.account_id == account_id, recent)
    return {row[0]: row[1] for row in connection.execute(query.order_by(calls.c.created_at))}


def new_events(
    connection: sa.Connection, account_id: str, known: Mapping[str, int], latest: Mapping[str, int]
) -> Sequence[CallEvent]:
    """Those after the ``known`` ones up to the ``latest``, as they happened."""
    found: list[CallEvent] = []
    for call_id, seq in latest.items():
        after = known.get(call_id, 0)
        if seq > after:
            found += call_events_of(connection, account_id, call_id, after_seq=after, limit=seq - after)
    return sorted(found, key=lambda event: (event.at, event.call_id, event.seq))
