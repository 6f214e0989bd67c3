"""``offhook keys``: API keys made, listed, revoked, in the database itself."""

from __future__ import annotations

import time
from typing import Any

import click

from offhook.cli.storage import Place, account_option, opened, place_options, print_json, seconds_of, shown_time
from offhook.delivery.event_documents import utc
from offhook.store.keys import StoredKey, create_key, list_keys, revoke_key


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@account_option
@click.option("--name", default="", help="Whose or what for; shown in lists.")
@click.option(
    "--scope", "scopes", multiple=True, metavar="SCOPE", help="calls:read, agents:write …; all (*) by default."
)
@click.option("--expires-in", metavar="TIME", help="Valid for so long: 12h, 90d; until it is revoked by default.")
@place_options
def create(*, place: Place, account_id: str, name: str, scopes: tuple[str, ...], expires_in: str | None) -> None:
    """Make a key and print it, this once: only a digest of it is kept."""
    now = time.time()
    expires_at = None if expires_in is None else now + seconds_of(expires_in)
    with opened(place, make=True) as database, database.write() as connection:
        made = create_key(connection, account_id, now=now, name=name, scopes=scopes or ("*",), expires_at=expires_at)
    if place.as_json:
        print_json(_document(StoredKey(key=made.key), now) | {"key": made.secret})
        return
    click.echo(made.secret)
    click.secho(f"{made.key.key_id} of account {account_id}; it is not shown again", fg="yellow", err=True)


@keys.command("list")
@click.option("--account", "account_id", help="Of this account alone; of all by default.")
@place_options
def list_(*, place: Place, account_id: str | None) -> None:
    """Show the keys there are, revoked ones too; of a key only its end."""
    now = time.time()
    with opened(place) as database, database.read() as connection:
        found, total = list_keys(connection, account_id)
    if place.as_json:
        print_json({"keys": [_document(one, now) for one in found], "total": total})
    elif not found:
        click.echo("no key has been made: `offhook keys create` makes one")
    for one in () if place.as_json else found:
        click.echo(_line(one, now))


@keys.command()
@click.argument("key_id")
@account_option
@place_options
def revoke(*, place: Place, key_id: str, account_id: str) -> None:
    """Let KEY_ID open nothing any more; a running server knows within a second."""
    now = time.time()
    with opened(place) as database, database.write() as connection:
        revoked = revoke_key(connection, account_id, key_id, now)
    if place.as_json:
        print_json(_document(revoked, now))
    else:
        click.echo(_line(revoked, now))


def _state(stored: StoredKey, now: float) -> str:
    if stored.revoked_at is not None:
        return "revoked"
    expired = stored.key.expires_at is not None and stored.key.expires_at <= now
    return "expired" if expired else "valid"


def _line(stored: StoredKey, now: float) -> str:
    key, state = stored.key, _state(stored, now)
    parts = [f"{key.account_id}", f"{key.hint}", " ".join(key.scopes), f"made {shown_time(key.created_at)}"]
    parts += [f"expires {shown_time(key.expires_at)}"] if key.expires_at is not None else []
    parts += [f"used {shown_time(stored.last_used_at)}" if stored.last_used_at is not None else "never used"]
    parts += [key.name] if key.name else []
    coloured = click.style(f"{state:<8}", fg="green" if state == "valid" else "red")
    return f"{click.style(key.key_id, bold=True)}  {coloured} {', '.join(parts)}"


def _document(stored: StoredKey, now: float) -> dict[str, Any]:
    """As the API has it, with account and state; without the digest."""
    key = stored.key
    times = {"created_at": key.created_at, "expires_at": key.expires_at}
    times |= {"last_used_at": stored.last_used_at, "revoked_at": stored.revoked_at}
    return {
        "id": key.key_id,
        "account_id": key.account_id,
        "name": key.name,
        "hint": key.hint,
        "scopes": key.scopes,
        "state": _state(stored, now),
        **{name: None if at is None else utc(at) for name, at in times.items()},
    }
