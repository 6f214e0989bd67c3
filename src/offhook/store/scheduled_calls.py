"""Calls that are asked for and not yet due; each is placed once, by whichever process takes it.

Who takes a call holds it for ``LEASE_S``, and removes it once the call has a record (``calls``). A process that dies in
between leaves both or the row alone: a call that has a record is never given again.

Every function works inside the caller's transaction and raises what SQLAlchemy raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from offhook.model.call_events import CallArrived
from offhook.sip.uri import without_password
from offhook.store.schema import calls, scheduled_calls

LEASE_S = 60.0
"""To place a call takes milliseconds, and its first row is on disk within two seconds, or it is not placed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduledCall:
    """``form``: what was asked for, as JSON. Not placed before ``due_at`` nor after ``latest_at``; Unix seconds."""

    call_id: str
    account_id: str
    due_at: float
    latest_at: float
    created_at: float
    form: Mapping[str, Any] = field(repr=False)

    def text(self, key: str) -> str:
        """Of the form; "" where it has none."""
        return str(self.form.get(key) or "")


def arrived(call: ScheduledCall) -> CallArrived:
    """What is told of it before it is placed: as much as was asked for."""
    webhooks = (call.text("event_webhook"), call.text("result_webhook"))
    return CallArrived(
        direction="outbound",
        from_uri=call.text("caller_id"),
        to_uri=without_password(call.text("target")),
        sip_call_id="",
        transport="",
        remote_address="",
        trunk_id=call.text("trunk_id"),
        account_id=call.account_id,
        event_webhooks=tuple(dict.fromkeys(filter(None, webhooks))),
        agent_id=call.text("agent_id"),
        provider=call.text("provider"),
    )


def add(connection: sa.Connection, call: ScheduledCall, *, most: int) -> bool:
    """False: the account has ``most`` of them already."""
    if count_scheduled(connection, call.account_id) >= most:
        return False
    connection.execute(sa.insert(scheduled_calls).values(asdict(call)))
    return True


def scheduled_call(connection: sa.Connection, account_id: str, call_id: str) -> ScheduledCall | None:
    """None: there is none, it was placed or cancelled, or it is another account's."""
    row = connection.execute(_COLUMNS.where(_of(account_id), scheduled_calls.c.call_id == call_id)).first()
    return None if row is None else _call(row)


def count_scheduled(connection: sa.Connection, account_id: str) -> int:
    """How many of an account wait."""
    mine = sa.select(sa.func.count()).select_from(scheduled_calls).where(_of(account_id))
    return connection.scalar(mine) or 0


def list_scheduled(
    connection: sa.Connection, account_id: str, *, limit: int, offset: int = 0
) -> tuple[ScheduledCall, ...]:
    """Of an account, the one that was asked for last first. Each may hold 64 KB."""
    newest_first = (scheduled_calls.c.created_at.desc(), scheduled_calls.c.call_id.desc())
    page = _COLUMNS.where(_of(account_id)).order_by(*newest_first).limit(limit).offset(offset)
    return tuple(map(_call, connection.execute(page)))


def take(connection: sa.Connection, account_id: str, call_id: str, now: float) -> ScheduledCall | None:
    """This one, due or not, as ``take_due`` does. None: there is none, or a process is placing it now."""
    mine = (_of(account_id), scheduled_calls.c.call_id == call_id, _is_free(now))
    rows = connection.execute(_COLUMNS.where(*mine).with_for_update(skip_locked=True)).all()
    return next(iter(_taken(connection, rows, now)), None)


def take_due(
    connection: sa.Connection, now: float, limit: int, *, late_only: bool = False
) -> tuple[ScheduledCall, ...]:
    """Those that are due, the one that waits longest first: each is yours for ``LEASE_S``. End it with ``remove`` or
    ``put_off``. ``late_only``: those that cannot be placed any more.
    """
    due = scheduled_calls.c.latest_at < now if late_only else scheduled_calls.c.due_at <= now
    query = _COLUMNS.where(due, _is_free(now)).order_by(*_FIRST).limit(limit)
    rows = connection.execute(query.with_for_update(skip_locked=True)).all()  # SQLite has one writer, and ignores it
    return tuple(_taken(connection, rows, now))


def _taken(connection: sa.Connection, rows: Sequence[sa.Row[Any]], now: float) -> Iterator[ScheduledCall]:
    """Hold them, and leave out what has a record: it was placed."""
    ids = [row.call_id for row in rows]
    if not ids:
        return
    placed = set(connection.scalars(sa.select(calls.c.call_id).where(calls.c.call_id.in_(ids))))
    held = sa.update(scheduled_calls).where(scheduled_calls.c.call_id.in_(ids))
    connection.execute(held.values(taken_until=now + LEASE_S))
    if placed:
        connection.execute(sa.delete(scheduled_calls).where(scheduled_calls.c.call_id.in_(placed)))
    yield from (_call(row) for row in rows if row.call_id not in placed)


def put_off(connection: sa.Connection, call_id: str, due_at: float) -> None:
    """It was taken and not placed: to be tried again at ``due_at``."""
    again = {"due_at": due_at, "taken_until": None}
    connection.execute(sa.update(scheduled_calls).where(scheduled_calls.c.call_id == call_id).values(again))


def put_off_all(connection: sa.Connection, account_id: str, now: float, due_at: float) -> None:
    """The account may have no further call now: whatever else of it is due waits as well."""
    due = (_of(account_id), scheduled_calls.c.due_at <= now, _is_free(now))
    connection.execute(sa.update(scheduled_calls).where(*due).values(due_at=due_at))


def remove(connection: sa.Connection, call_id: str) -> None:
    """It was placed, or will not be."""
    connection.execute(sa.delete(scheduled_calls).where(scheduled_calls.c.call_id == call_id))


def next_due(connection: sa.Connection, now: float) -> float | None:
    """When the earliest one is due, or was, that nobody is placing; None where there is none."""
    earliest: float | None = connection.scalar(sa.select(sa.func.min(scheduled_calls.c.due_at)).where(_is_free(now)))
    return earliest


_COLUMNS = sa.select(
    *(scheduled_calls.c[name] for name in ("call_id", "account_id", "due_at", "latest_at", "created_at", "form"))
)

_FIRST = (scheduled_calls.c.due_at, scheduled_calls.c.created_at)


def _of(account_id: str) -> sa.ColumnElement[bool]:
    return scheduled_calls.c.account_id == account_id


def _is_free(now: float) -> sa.ColumnElement[bool]:
    return sa.or_(scheduled_calls.c.taken_until.is_(None), scheduled_calls.c.taken_until <= now)


def _call(row: sa.Row[Any]) -> ScheduledCall:
    return ScheduledCall(**row._mapping)
