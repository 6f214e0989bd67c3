"""Accounts, their limits, and what they used today."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from offhook.model.errors import RecordConflictError, RecordError, RecordNotFoundError
from offhook.model.records import AccountLimits
from offhook.store.accounts import (
    DAY_S,
    Account,
    Usage,
    create_account,
    get_account,
    list_accounts,
    set_limits,
    usage_today,
)
from offhook.store.database import Database
from offhook.store.schema import calls

LIMITS = AccountLimits(max_calls=5, minutes_per_day=90.5)
MIDNIGHT = 20_000 * DAY_S


def test_there_is_one_account_out_of_the_box(database: Database) -> None:
    with database.read() as connection:
        assert [one.account_id for one in list_accounts(connection)] == ["default"]


def test_accounts_are_made_found_and_limited(database: Database) -> None:
    made = Account(account_id="acme", name="Acme", limits=LIMITS, created_at=1.0)
    with database.write() as connection:
        assert create_account(connection, made) == made
        assert get_account(connection, "acme") == made
        assert set_limits(connection, "acme", AccountLimits()).limits == AccountLimits()
        assert len(list_accounts(connection)) == 2


@pytest.mark.parametrize("account_id", ["", "a b", "a/b", "x" * 65])
def test_an_id_is_a_word(database: Database, account_id: str) -> None:
    with database.write() as connection, pytest.raises(RecordError) as refusal:
        create_account(connection, Account(account_id=account_id))
    assert refusal.value.field == "id"


def test_what_cannot_be_is_refused(database: Database) -> None:
    with database.write() as connection:
        with pytest.raises(RecordConflictError, match="there already"):
            create_account(connection, Account(account_id="default"))
        with pytest.raises(RecordNotFoundError):
            set_limits(connection, "nobody", LIMITS)
        for limits in (AccountLimits(max_calls=-1), AccountLimits(spend_per_day=float("inf"))):
            with pytest.raises(RecordError, match="limit"):
                set_limits(connection, "default", limits)


def test_a_day_is_the_calls_that_began_on_it(database: Database) -> None:
    now = MIDNIGHT + 3600.0
    with database.write() as connection:
        put_call(connection, "yesterday", created_at=MIDNIGHT - 1, duration_ms=600_000, ended_at=MIDNIGHT, spend=9.0)
        put_call(
            connection, "ended", created_at=MIDNIGHT, answered_at=MIDNIGHT, ended_at=now, duration_ms=90_000, spend=0.5
        )
        put_call(connection, "talking", created_at=now - 70, answered_at=now - 60)
        put_call(connection, "ringing", created_at=now - 5)
        put_call(connection, "other", account_id="other", created_at=now, ended_at=now, duration_ms=60_000)
        assert usage_today(connection, "default", now) == Usage(calls=3, minutes=2.5, spend=0.5)
        assert usage_today(connection, "nobody", now) == Usage()


def put_call(connection: sa.Connection, call_id: str, **values: Any) -> None:
    row: dict[str, Any] = {
        "account_id": "default",
        "node_id": "n",
        "direction": "inbound",
        "phase": "talking",
        "from_uri": "",
    }
    row |= {"to_uri": "", "sip_call_id": "", "last_seq": 1, "record": {}, "call_id": call_id, **values}
    connection.execute(sa.insert(calls), row)
