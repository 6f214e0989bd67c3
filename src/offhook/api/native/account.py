"""The account of the key: what it may use, and has used today."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from offhook.api.endpoints import Answer, Asked, Endpoint, Form
from offhook.api.native.fields import Time
from offhook.delivery.event_documents import utc
from offhook.store.accounts import DAY_S, Account, Usage, get_account, usage_today


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """0 is no limit. Days are UTC; spend is in the currency of the trunks' prices."""

    max_calls: int
    minutes_per_day: float
    spend_per_day: float


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """Since midnight UTC, with the calls that run. ``until``: when it begins anew."""

    calls: int
    minutes: float
    spend: float
    until: Time


class AccountAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``scopes``: what the asking key may do."""

    id: str
    name: str
    limits: Limits
    today: Today
    created_at: Time
    scopes: tuple[str, ...]


async def get(asked: Asked) -> Answer:
    now = asked.parts.now()
    account, usage = await asked.parts.database.look(_found, asked.account_id, now)
    return Answer(
        body=AccountAnswer(
            id=account.account_id,
            name=account.name,
            limits=Limits(**msgspec.to_builtins(account.limits)),
            today=Today(
                calls=usage.calls,
                minutes=round(usage.minutes, 2),
                spend=round(usage.spend, 4),
                until=utc(now - now % DAY_S + DAY_S),
            ),
            created_at=utc(account.created_at),
            scopes=asked.client.scopes,
        )
    )


def _found(connection: sa.Connection, account_id: str, now: float) -> tuple[Account, Usage]:
    return get_account(connection, account_id), usage_today(connection, account_id, now)


_EXAMPLE = {
    "id": "default",
    "name": "",
    "limits": {"max_calls": 20, "minutes_per_day": 600, "spend_per_day": 0},
    "today": {"calls": 14, "minutes": 31.5, "spend": 0.42, "until": "2026-11-22T00:00:00Z"},
    "created_at": "2026-11-01T08:00:00Z",
    "scopes": ["*"],
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/account",
        operation="getAccount",
        tag="account",
        summary="The account of the key: its limits, and what it has used today",
        handler=get,
        scope="account:read",
        answers=(Form(type=AccountAnswer, example=_EXAMPLE),),
    ),
)
