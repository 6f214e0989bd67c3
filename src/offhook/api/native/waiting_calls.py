"""Calls that wait to be placed, as the API tells of them: like any that has just begun, with ``scheduled_at``."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from offhook.delivery.event_documents import utc
from offhook.model.call_events import CallEvent
from offhook.model.records import CallRecord
from offhook.store.calls import CallFilter, get_call, list_calls
from offhook.store.projection import begin
from offhook.store.scheduled_calls import ScheduledCall, arrived, count_scheduled, list_scheduled, scheduled_call


class KnownCall(NamedTuple):
    """``scheduled_at``: of a call that waits."""

    record: CallRecord
    scheduled_at: datetime | None = None


def find_call(connection: sa.Connection, account_id: str, call_id: str) -> KnownCall | None:
    """Placed, or waiting. In this order: what waits no more has a record by then."""
    waiting = scheduled_call(connection, account_id, call_id)
    record = get_call(connection, account_id, call_id)
    if record is not None:
        return KnownCall(record)
    return None if waiting is None else known(waiting)


def list_known(
    connection: sa.Connection, account_id: str, wanted: CallFilter, *, limit: int, offset: int
) -> tuple[list[KnownCall], int]:
    """As ``list_calls``; where those are asked for that begin, the ones that wait come before them."""
    waiting = count_scheduled(connection, account_id) if wanted in _WHERE_CALLS_WAIT else 0
    page = list_scheduled(connection, account_id, limit=limit, offset=offset) if offset < waiting else ()
    first = [known(one) for one in page]
    rest = {"limit": limit - len(first), "offset": max(0, offset - waiting)}
    records, total = list_calls(connection, account_id, wanted, **rest)
    return [*first, *map(KnownCall, records)], waiting + total


_WHERE_CALLS_WAIT = (CallFilter(status="initiating"), CallFilter(status="initiating", direction="outbound"))


def known(call: ScheduledCall) -> KnownCall:
    fact = arrived(call)
    event = CallEvent(call_id=call.call_id, leg_id="", seq=1, at=call.created_at, fact=fact)
    return KnownCall(begin(event, fact, node_id=""), _scheduled_at(call))


def _scheduled_at(call: ScheduledCall) -> datetime:
    """As it was asked for, or at once; ``due_at`` moves on while no line is free."""
    given = (call.form.get("schedule") or {}).get("earliest_at")
    earliest = call.created_at if given is None else msgspec.convert(given, datetime).timestamp()
    return utc(max(earliest, call.created_at))
