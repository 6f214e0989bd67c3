"""Accounts: whose the records, calls and keys are; what each may use, and has used today."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa

from offhook.model.errors import RecordConflictError, RecordError, RecordNotFoundError
from offhook.model.records import AccountLimits
from offhook.store.revision import begin_change, raise_revision
from offhook.store.schema import accounts, calls

DAY_S = 86_400.0

_MS_PER_MINUTE = 60_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    account_id: str
    name: str = ""
    limits: AccountLimits = field(default_factory=AccountLimits)
    created_at: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Of one account since midnight UTC: calls that began, and what they talked and cost so far; running ones count."""

    calls: int = 0
    minutes: float = 0.0
    spend: float = 0.0


def create_account(connection: sa.Connection, account: Account) -> Account:
    """Raises ``RecordConflictError`` when the id is taken, ``RecordError`` when it is none, or limits are negative."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", account.account_id):
        fix = "Use 1 to 64 letters, digits, dots and hyphens"
        raise RecordError(f"{account.account_id!r} is no id of an account", field="id", fix=fix)
    _check(account.limits)
    begin_change(connection)
    taken = sa.select(accounts.c.account_id).where(accounts.c.account_id == account.account_id)
    if connection.execute(taken).one_or_none() is not None:
        fix = "Choose another id"
        raise RecordConflictError(f"The account {account.account_id!r} is there already", field="id", fix=fix)
    row = {"account_id": account.account_id, "name": account.name, "created_at": account.created_at}
    connection.execute(sa.insert(accounts), row | {"limits": msgspec.to_builtins(account.limits)})
    raise_revision(connection)
    return account


def list_accounts(connection: sa.Connection) -> tuple[Account, ...]:
    """By id."""
    return tuple(_account(row) for row in connection.execute(sa.select(accounts).order_by(accounts.c.account_id)))


def get_account(connection: sa.Connection, account_id: str) -> Account:
    """Raises ``RecordNotFoundError``."""
    row = connection.execute(sa.select(accounts).where(accounts.c.account_id == account_id)).one_or_none()
    if row is None:
        raise RecordNotFoundError("account", account_id)
    return _account(row)


def set_limits(connection: sa.Connection, account_id: str, limits: AccountLimits) -> Account:
    """Raises ``RecordNotFoundError``, and ``RecordError`` for a negative limit."""
    _check(limits)
    begin_change(connection)
    get_account(connection, account_id)
    one = sa.update(accounts).where(accounts.c.account_id == account_id)
    connection.execute(one.values(limits=msgspec.to_builtins(limits)))
    raise_revision(connection)
    return get_account(connection, account_id)


def usage_today(connection: sa.Connection, account_id: str, now: float) -> Usage:
    """``now``: Unix seconds. A call belongs to the day it began on; one that talks has talked until now."""
    talked_ms = sa.case(
        (calls.c.ended_at.is_not(None), calls.c.duration_ms),
        (calls.c.answered_at.is_not(None), (now - calls.c.answered_at) * 1000.0),
        else_=0.0,
    )
    query = sa.select(sa.func.count(), sa.func.sum(talked_ms), sa.func.sum(calls.c.spend))
    midnight = now - now % DAY_S
    row = connection.execute(query.where(calls.c.account_id == account_id, calls.c.created_at >= midnight)).one()
    return Usage(calls=row[0], minutes=float(row[1] or 0.0) / _MS_PER_MINUTE, spend=float(row[2] or 0.0))


def _check(limits: AccountLimits) -> None:
    for name in AccountLimits.__slots__:
        if not 0 <= getattr(limits, name) < float("inf"):
            raise RecordError(f"The limit {name} is negative", field=f"limits.{name}", fix="Write 0 for no limit")


def _account(row: sa.Row[tuple[object, ...]]) -> Account:
    return Account(
        account_id=row.account_id,
        name=row.name,
        limits=msgspec.convert(row.limits, AccountLimits),
        created_at=row.created_at,
    )
