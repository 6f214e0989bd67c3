"""What config.json defines, as rows of account ``default``: they follow the file at every start and reload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.errors import ConfigError
from offhook.store import form_secrets
from offhook.store.config_forms import ConfigForms
from offhook.store.form_secrets import Kind
from offhook.store.forms import AnyForm, WebhookForm
from offhook.store.references import dangling
from offhook.store.resources import UNIQUE_EVERYWHERE, Resources, new_webhook_secret
from offhook.store.revision import begin_change, raise_revision
from offhook.store.schema import resources as table


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigChange:
    """What the file changed, as (kind, id). ``dangling``: sentences about records of the API that name what is gone."""

    added: tuple[tuple[Kind, str], ...]
    changed: tuple[tuple[Kind, str], ...]
    removed: tuple[tuple[Kind, str], ...]
    dangling: tuple[str, ...] = ()


class _Row(NamedTuple):
    form: Any
    config_key: str


def sync_config(connection: sa.Connection, resources: Resources, forms: ConfigForms) -> ConfigChange:
    """Make the rows of ``source`` config what the file has, in the caller's transaction.

    Raises ``ConfigError`` for an id that a record of the API has: one of the two must change.
    """
    begin_change(connection)
    before = _config_rows(connection)
    _check_collisions(connection, resources.config_file, forms)
    added: list[tuple[Kind, str]] = []
    changed: list[tuple[Kind, str]] = []
    for kind, key, form in forms.each():
        row = before.pop((kind, form.id), None)
        if row is None:
            whole = _with_secret(form, "")
            resources.put_new(connection, DEFAULT_ACCOUNT, kind, whole, source="config", config_key=key)
            added.append((kind, form.id))
        elif _update(connection, resources, kind, (key, form), row):
            changed.append((kind, form.id))
    for kind, record_id in before:
        resources.remove(connection, DEFAULT_ACCOUNT, kind, record_id)
    if added or changed or before:
        raise_revision(connection)
    return ConfigChange(
        added=tuple(added), changed=tuple(changed), removed=tuple(before), dangling=dangling(connection)
    )


def _config_rows(connection: sa.Connection) -> dict[tuple[Kind, str], _Row]:
    query = sa.select(table.c.kind, table.c.id, table.c.form, table.c.config_key)
    rows = connection.execute(query.where(table.c.account_id == DEFAULT_ACCOUNT, table.c.source == "config"))
    return {(kind, record_id): _Row(form, key) for kind, record_id, form, key in rows}


def _update(
    connection: sa.Connection, resources: Resources, kind: Kind, defined: tuple[str, AnyForm], row: _Row
) -> bool:
    """Whether more than its place in the file changed."""
    key, form = defined
    stored = resources.secrets_of(connection, DEFAULT_ACCOUNT, kind, form.id)
    form = _with_secret(form, stored.get("secret", ""))
    if form_secrets.split(kind, form) != (row.form, stored):
        resources.put_changed(connection, DEFAULT_ACCOUNT, kind, form, config_key=key)
        return True
    if key != row.config_key:
        one = sa.update(table).where(table.c.account_id == DEFAULT_ACCOUNT, table.c.kind == kind, table.c.id == form.id)
        connection.execute(one.values(config_key=key))
    return False


def _with_secret(form: AnyForm, stored: str) -> AnyForm:
    """A webhook for which the file has no secret keeps the one that was made when it was first read."""
    if isinstance(form, WebhookForm) and not form.secret:
        return msgspec.structs.replace(form, secret=stored or new_webhook_secret())
    return form


def _check_collisions(connection: sa.Connection, file: str, forms: ConfigForms) -> None:
    mine = table.c.account_id == DEFAULT_ACCOUNT
    query = sa.select(table.c.account_id, table.c.kind, table.c.id)
    query = query.where(table.c.source == "api", mine | table.c.kind.in_(UNIQUE_EVERYWHERE))
    owners = {(kind, record_id): account for account, kind, record_id in connection.execute(query)}
    for kind, key, form in forms.each():
        owner = owners.get((kind, form.id))
        if owner is not None:
            field = "user" if kind == "number" else "id"
            problem = f"{form.id!r} is also the {kind} {form.id!r} of account {owner!r}, made by the API"
            fix = f"Change it in {file}, or delete the other: DELETE /api/{kind}s/{form.id}"
            place = key if (kind, form.id) in forms.places else f"{key}.{field}"
            raise ConfigError(place, problem, fix)
