"""Deliveries that are due: written with the event they tell of, taken by a sender, kept until retention takes them.

A delivery is ``pending`` until it is ``delivered``, ``dead`` (given up) or ``disabled`` (its endpoint wants no more).
To each endpoint a call's deliveries go in the order of its events: a later one waits until the earlier is no longer
pending. Deliveries of no call (``call_id`` "") wait for nobody.

Every function works inside the caller's transaction and raises what SQLAlchemy raises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import sqlalchemy as sa

from offhook.store.rows import Rows
from offhook.store.schema import outbox
from offhook.store.text import printable

DeliveryState = Literal["pending", "delivered", "dead", "disabled"]

LEASE_S = 45.0
"""A delivery taken is not taken again for this long: three times what a receiver is given. When its sender dies
meanwhile, another one takes it then."""

MAX_PROBLEM_CHARS = 500
"""Of what went wrong at the last attempt; a receiver's whole error page helps nobody."""

MAX_REPLAYED = 10_000
"""Deliveries that one replay sends again: more is a mistake, or better done range by range."""


class Endpoint(NamedTuple):
    """Accounts choose the ids of their webhooks, so two may have the same."""

    account_id: str
    webhook_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDelivery:
    """``body`` goes to the endpoint ``webhook_id`` as it is. ``event``: its name, such as ``call.ended``.

    ``url``: of a call's own webhook, whose ``webhook_id`` no record has; "" for the endpoint's.
    """

    delivery_id: str
    account_id: str
    webhook_id: str
    event: str
    body: bytes = field(repr=False)
    created_at: float
    call_id: str = ""
    seq: int = 0
    url: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """``attempt``: tries so far, this one included once it is taken. Times are Unix seconds."""

    delivery_id: str
    account_id: str
    webhook_id: str
    call_id: str
    seq: int
    event: str
    body: bytes = field(repr=False)
    state: DeliveryState
    attempt: int
    due_at: float
    created_at: float
    delivered_at: float | None = None
    last_status: int | None = None
    last_problem: str = ""
    url: str = field(default="", repr=False)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.account_id, self.webhook_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxCounts:
    """``oldest_due_s``: how long the delivery that is most overdue has been so; 0.0 when none is."""

    pending: int
    dead: int
    disabled: int
    oldest_due_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryFilter:
    """Which deliveries of an account; what is empty or None leaves nothing out.

    ``since`` and ``until``: when it was made, with its event; ``until`` is not in it.
    """

    delivery_ids: Sequence[str] = ()
    webhook_id: str = ""
    call_id: str = ""
    states: Sequence[DeliveryState] = ()
    since: float | None = None
    until: float | None = None


_GIVEN = ("delivery_id", "account_id", "webhook_id", "call_id", "seq", "event", "body", "created_at", "url")
_NEW = Rows(outbox, (*_GIVEN, "state", "due_at"), on_conflict="ON CONFLICT (delivery_id) DO NOTHING")


def delivery_id(webhook_id: str, call_id: str, seq: int, event: str) -> str:
    """The id that this event always has at this endpoint: written twice, it is still one delivery."""
    named = "\0".join((webhook_id, call_id, str(seq), event)).encode("utf-8", "backslashreplace")
    return f"msg_{hashlib.sha256(named).hexdigest()[:32]}"


def add(connection: sa.Connection, deliveries: Iterable[NewDelivery]) -> None:
    """Due at once. One whose id is there already changes nothing."""
    rows = [(*(getattr(one, name) for name in _GIVEN), "pending", one.created_at) for one in deliveries]
    _NEW.insert(connection, rows)


def due_endpoints(connection: sa.Connection, now: float) -> tuple[Endpoint, ...]:
    """Those that have something due, though it may wait for what is earlier in its call. Reads all that is pending:
    not for a transaction that others wait for.
    """
    columns = (outbox.c.account_id, outbox.c.webhook_id)
    query = sa.select(*columns).where(outbox.c.state == "pending", outbox.c.due_at <= now).distinct()
    return tuple(Endpoint(*row) for row in connection.execute(query))


def take_due(
    connection: sa.Connection, now: float, wanted: Mapping[Endpoint, int], *, lease_s: float = LEASE_S
) -> tuple[Delivery, ...]:
    """What may be sent now, at most so many for each endpoint as are ``wanted``.

    Each is yours for ``lease_s``, and its attempt counted: end it with ``mark_delivered``, ``mark_failed`` or
    ``put_back``.
    """
    taken: list[Delivery] = []
    for endpoint, limit in wanted.items():
        if limit > 0:
            taken += _take(connection, endpoint, (now, now + lease_s), limit)
    return tuple(taken)


def _take(connection: sa.Connection, endpoint: Endpoint, lease: tuple[float, float], limit: int) -> list[Delivery]:
    now, until = lease
    earlier = outbox.alias("earlier")
    of_the_same_call = sa.and_(
        earlier.c.webhook_id == outbox.c.webhook_id,
        earlier.c.account_id == outbox.c.account_id,
        earlier.c.call_id == outbox.c.call_id,
        earlier.c.state == "pending",
        earlier.c.seq <= outbox.c.seq,  # which an index can find
        sa.or_(
            earlier.c.seq < outbox.c.seq,
            sa.and_(earlier.c.seq == outbox.c.seq, earlier.c.delivery_id < outbox.c.delivery_id),
        ),
    )
    first_of_its_call = sa.or_(outbox.c.call_id == "", ~sa.exists(sa.select(1).where(of_the_same_call)))
    query = (
        sa.select(outbox)
        .where(outbox.c.state == "pending", outbox.c.due_at <= now)
        .where(outbox.c.webhook_id == endpoint.webhook_id, outbox.c.account_id == endpoint.account_id)
        .where(first_of_its_call)
        .order_by(outbox.c.due_at, outbox.c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)  # SQLite has one writer, and ignores it
    )
    rows = connection.execute(query).mappings().all()
    ids = [row["delivery_id"] for row in rows]
    if ids:
        begun = {"attempt": outbox.c.attempt + 1, "due_at": until}
        connection.execute(sa.update(outbox).where(outbox.c.delivery_id.in_(ids)).values(begun))
    return [_delivery({**row, "attempt": row["attempt"] + 1, "due_at": until}) for row in rows]


def mark_delivered(connection: sa.Connection, delivery: Delivery, now: float, *, status: int | None = None) -> None:
    """It arrived. The call's next one is due."""
    done = {"state": "delivered", "delivered_at": now, "last_status": status, "last_problem": ""}
    _end(connection, delivery, now, done)


def mark_failed(
    connection: sa.Connection,
    delivery: Delivery,
    now: float,
    *,
    problem: str,
    status: int | None = None,
    next_due: float | None,
) -> None:
    """It did not arrive: tried again at ``next_due``, or dead where that is None, and the call's next one is due."""
    said = {"last_status": status, "last_problem": printable(problem)[:MAX_PROBLEM_CHARS]}
    if next_due is None:
        _end(connection, delivery, now, {"state": "dead", **said})
        return
    connection.execute(_still(delivery).values(due_at=next_due, **said))
    # The call's later ones are not looked at before: an endpoint that is down must not cost a look at all of them.
    later = _of_its_call(delivery)
    if later is not None:
        connection.execute(later.where(outbox.c.due_at < next_due).values(due_at=next_due))


def put_back(connection: sa.Connection, delivery: Delivery, due_at: float) -> None:
    """It was taken and not sent: the attempt does not count."""
    connection.execute(_still(delivery).values(attempt=delivery.attempt - 1, due_at=due_at))


def _end(connection: sa.Connection, delivery: Delivery, now: float, values: Mapping[str, Any]) -> None:
    connection.execute(_still(delivery).values(values))
    later = _of_its_call(delivery)
    if later is not None and delivery.attempt > 1:  # else nothing failed, and nothing was put off with it
        connection.execute(later.where(outbox.c.attempt == 0, outbox.c.due_at > now).values(due_at=now))


def _still(delivery: Delivery) -> sa.Update:
    """Not one that was disabled meanwhile."""
    return sa.update(outbox).where(outbox.c.delivery_id == delivery.delivery_id, outbox.c.state == "pending")


def _of_its_call(delivery: Delivery) -> sa.Update | None:
    if not delivery.call_id:
        return None
    return sa.update(outbox).where(
        outbox.c.webhook_id == delivery.webhook_id,
        outbox.c.account_id == delivery.account_id,
        outbox.c.call_id == delivery.call_id,
        outbox.c.state == "pending",
        outbox.c.delivery_id != delivery.delivery_id,
    )


def disable_endpoint(connection: sa.Connection, account_id: str, webhook_id: str) -> int:
    """Its receiver wants no more (410), or it is gone: nothing pending is sent. Returns how many."""
    waiting = _matching(sa.update(outbox), account_id, DeliveryFilter(webhook_id=webhook_id, states=("pending",)))
    return connection.execute(waiting.values(state="disabled")).rowcount


def replay(connection: sa.Connection, account_id: str, chosen: DeliveryFilter, now: float) -> int:
    """Send again what is chosen, delivered or not: the same id and body, a whole new row of attempts.

    Returns how many; at most ``MAX_REPLAYED``, the oldest first. What is pending is left as it is.
    """
    over = _matching(sa.select(outbox.c.delivery_id), account_id, chosen).where(outbox.c.state != "pending")
    ids = over.order_by(outbox.c.created_at, outbox.c.seq).limit(MAX_REPLAYED)
    again = {"state": "pending", "attempt": 0, "due_at": now, "delivered_at": None}
    return connection.execute(sa.update(outbox).where(outbox.c.delivery_id.in_(ids)).values(again)).rowcount


def list_deliveries(
    connection: sa.Connection, account_id: str, chosen: DeliveryFilter, *, limit: int, offset: int = 0
) -> tuple[tuple[Delivery, ...], int]:
    """Newest first, and how many there are in all."""
    query = _matching(sa.select(outbox), account_id, chosen)
    newest_first = query.order_by(outbox.c.created_at.desc(), outbox.c.seq.desc(), outbox.c.delivery_id)
    rows = connection.execute(newest_first.limit(limit).offset(offset)).mappings()
    total = _matching(sa.select(sa.func.count()).select_from(outbox), account_id, chosen)
    return tuple(map(_delivery, rows)), connection.scalar(total) or 0


def get_delivery(connection: sa.Connection, account_id: str, delivery_id: str) -> Delivery | None:
    """None: there is none, or it is another account's."""
    query = sa.select(outbox).where(outbox.c.account_id == account_id, outbox.c.delivery_id == delivery_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _delivery(row)


def next_due(connection: sa.Connection) -> float | None:
    """When the earliest pending delivery is due; None when none is pending."""
    earliest: float | None = connection.scalar(
        sa.select(sa.func.min(outbox.c.due_at)).where(outbox.c.state == "pending")
    )
    return earliest


def counts(connection: sa.Connection, now: float) -> OutboxCounts:
    """For /ready and /metrics, of all accounts."""
    query = sa.select(outbox.c.state, sa.func.count(), sa.func.min(outbox.c.due_at))
    # each state by itself: the index then leaves out what was delivered, which is nearly everything
    by_state = {
        state: connection.execute(query.where(outbox.c.state == state).group_by(outbox.c.state)).first()
        for state in ("pending", "dead", "disabled")
    }
    found = {state: (row[1], row[2]) if row is not None else (0, now) for state, row in by_state.items()}
    return OutboxCounts(
        pending=found["pending"][0],
        dead=found["dead"][0],
        disabled=found["disabled"][0],
        oldest_due_s=max(0.0, now - found["pending"][1]),
    )


def _matching(statement: Any, account_id: str, chosen: DeliveryFilter) -> Any:
    """``statement`` (a select or an update of the outbox) with what ``chosen`` asks for."""
    tests = [outbox.c.account_id == account_id]
    if chosen.delivery_ids:
        tests.append(outbox.c.delivery_id.in_(chosen.delivery_ids))
    if chosen.webhook_id:
        tests.append(outbox.c.webhook_id == chosen.webhook_id)
    if chosen.call_id:
        tests.append(outbox.c.call_id == chosen.call_id)
    if chosen.states:
        tests.append(outbox.c.state.in_(chosen.states))
    if chosen.since is not None:
        tests.append(outbox.c.created_at >= chosen.since)
    if chosen.until is not None:
        tests.append(outbox.c.created_at < chosen.until)
    return statement.where(*tests)


def _delivery(row: Mapping[Any, Any]) -> Delivery:
    fields = {str(key): value for key, value in row.items()}
    return Delivery(**{**fields, "body": bytes(fields["body"]), "state": cast(DeliveryState, fields["state"])})
