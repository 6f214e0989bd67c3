"""``offhook accounts``: whose agents, keys and calls there are, and what each may use."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from offhook.cli.storage import Place, opened, place_options, print_json
from offhook.delivery.event_documents import utc
from offhook.model.records import AccountLimits
from offhook.store.accounts import Account, Usage, create_account, get_account, list_accounts, set_limits, usage_today

_MAX_CALLS = click.option("--max-calls", type=click.IntRange(min=0), help="Calls at a time; 0: no limit.")
_MINUTES = click.option("--minutes-per-day", type=click.FloatRange(min=0), help="Minutes a day (UTC); 0: no limit.")
_SPEND = click.option("--spend-per-day", type=click.FloatRange(min=0), help="By the trunks' prices; 0: no limit.")


@click.group()
def accounts() -> None:
    """Make and list accounts, and set what they may use."""


@accounts.command()
@click.argument("account_id")
@click.option("--name", default="", help="What people call it.")
@_MAX_CALLS
@_MINUTES
@_SPEND
@place_options
def create(*, place: Place, account_id: str, name: str, **limits: float | None) -> None:
    """Make the account ACCOUNT_ID."""
    now = time.time()
    account = Account(account_id=account_id, name=name, limits=_changed(AccountLimits(), limits), created_at=now)
    with opened(place, make=True) as database, database.write() as connection:
        _show(place, create_account(connection, account), Usage())


@accounts.command("list")
@place_options
def list_(*, place: Place) -> None:
    """Show every account, its limits, and what it used today."""
    now = time.time()
    with opened(place) as database, database.read() as connection:
        found = [(one, usage_today(connection, one.account_id, now)) for one in list_accounts(connection)]
    if place.as_json:
        print_json({"accounts": [_document(*one) for one in found], "total": len(found)})
        return
    for one in found:
        click.echo(_line(*one))


@accounts.command()
@click.argument("account_id")
@_MAX_CALLS
@_MINUTES
@_SPEND
@place_options
def limits(*, place: Place, account_id: str, **limits: float | None) -> None:
    """Set limits of ACCOUNT_ID; those not named stay. Without options they are shown."""
    with opened(place) as database, database.write() as connection:
        account = get_account(connection, account_id)
        if any(value is not None for value in limits.values()):
            account = set_limits(connection, account_id, _changed(account.limits, limits))
        _show(place, account, usage_today(connection, account_id, time.time()))


def _changed(before: AccountLimits, limits: dict[str, float | None]) -> AccountLimits:
    known = msgspec.to_builtins(before) | {name: value for name, value in limits.items() if value is not None}
    return msgspec.convert(known, AccountLimits)


def _show(place: Place, account: Account, usage: Usage) -> None:
    if place.as_json:
        print_json(_document(account, usage))
    else:
        click.echo(_line(account, usage))


def _line(account: Account, usage: Usage) -> str:
    limits = account.limits
    parts = [
        f"{_of(limits.max_calls)} calls at a time",
        f"{usage.minutes:.1f} of {_of(limits.minutes_per_day)} minutes today",
        f"{usage.spend:.2f} of {_of(limits.spend_per_day)} spent today",
        f"{usage.calls} calls today",
    ]
    name = f" ({account.name})" if account.name else ""
    return f"{click.style(account.account_id, bold=True)}{name}: {', '.join(parts)}"


def _of(limit: float) -> str:
    return f"{limit:g}" if limit else "unlimited"


def _document(account: Account, usage: Usage) -> dict[str, Any]:
    return {
        "id": account.account_id,
        "name": account.name,
        "limits": account.limits,
        "today": usage,
        "created_at": utc(account.created_at),
    }
