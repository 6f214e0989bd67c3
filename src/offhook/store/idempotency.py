"""Answers by the key that the client gave with its request: each request is begun once, by one process of all.

A row without a status is begun and not answered. It is never begun again, however old it is: whether a call was placed
before its process died is not known, and two calls are worse than none. It goes with the rest, after ``KEPT_S``.

Every function works inside the caller's transaction and raises what SQLAlchemy raises.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from offhook.store.schema import idempotency

KEPT_S = 86_400.0
"""As the API promises; retention takes them afterwards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyedRequest:
    """``digest``: of what is asked for, so that a key is not used for two things."""

    account_id: str
    key: str
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """It is yours: end it with ``finish`` or ``release``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """It was done before, with this answer."""

    status: int
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Unanswered:
    """Another process began it ``since_s`` ago, and works on it or died."""

    since_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AnotherRequest:
    """The key belongs to something else that was asked for."""


Claim = Begun | Answered | Unanswered | AnotherRequest

_BEGIN = sa.text(
    f"INSERT INTO {idempotency.name} (account_id, key, request_digest, created_at)"
    " VALUES (:account_id, :key, :digest, :now) ON CONFLICT (account_id, key) DO NOTHING"
)


def claim(connection: sa.Connection, request: KeyedRequest, now: float) -> Claim:
    """Begin a request, or learn what came of it. On PostgreSQL two that come together wait for each other here."""
    connection.execute(sa.delete(idempotency).where(*_row(request), idempotency.c.created_at < now - KEPT_S))
    values = {"account_id": request.account_id, "key": request.key, "digest": request.digest, "now": now}
    if connection.execute(_BEGIN, values).rowcount:
        return Begun()
    row = connection.execute(sa.select(idempotency).where(*_row(request))).one()
    if bytes(row.request_digest) != request.digest:
        return AnotherRequest()
    if row.status is None:
        return Unanswered(since_s=max(0.0, now - row.created_at))
    return Answered(status=row.status, body=bytes(row.body))


def finish(connection: sa.Connection, request: KeyedRequest, answer: Answered) -> None:
    """Whoever asks again gets this."""
    kept = {"status": answer.status, "body": answer.body}
    connection.execute(sa.update(idempotency).where(*_row(request), idempotency.c.status.is_(None)).values(kept))


def release(connection: sa.Connection, request: KeyedRequest) -> None:
    """Nothing was done: the key is free again."""
    connection.execute(sa.delete(idempotency).where(*_row(request), idempotency.c.status.is_(None)))


def _row(request: KeyedRequest) -> tuple[sa.ColumnElement[bool], ...]:
    return (idempotency.c.account_id == request.account_id, idempotency.c.key == request.key)
