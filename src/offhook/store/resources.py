"""Agents, trunks, numbers, tools, squads and webhooks in the database: written, read, found and deleted.

Every write checks the form and what it refers to, keeps secrets apart and encrypted, and raises the directory's
revision, in the caller's transaction. What config.json defines is written by ``config_rows`` alone.
"""

from __future__ import annotations

import base64
import secrets as random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from offhook.model.errors import (
    ReadOnlyRecordError,
    RecordConflictError,
    RecordNotFoundError,
    RevisionMismatchError,
)
from offhook.model.records import Source
from offhook.store import form_secrets
from offhook.store.form_secrets import Kind
from offhook.store.forms import AnyForm, WebhookForm
from offhook.store.references import check_form, check_peers, known_to, references
from offhook.store.revision import begin_change, raise_revision
from offhook.store.rights import Rights
from offhook.store.schema import resources
from offhook.store.schema import secrets as secrets_table
from offhook.store.vault import Sealed, SecretPlace, Vault

UNIQUE_EVERYWHERE: Collection[Kind] = ("trunk", "number")
"""Their ids are of one world: a trunk registers once, a number is answered by one. Others are their account's."""

ID_BYTES = 10
"""Of ids we make: 80 random bits collide with nobody, and cannot be guessed by other accounts."""

LIST_LIMIT = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class DialectDocument:
    """The object as a dialect's user gave it, opaque to all others."""

    dialect: str
    document: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """A record as it may be shown. ``form`` is its JSON without secrets; ``secret_paths`` tells which are set.

    ``config_key``: where it is in the configuration file (``agents[2]``), for ``source`` config. ``made_secret``: the
    secret that was just made for a webhook which had none, to be shown this once.
    """

    account_id: str
    kind: Kind
    id: str
    source: Source
    revision: int
    form: Mapping[str, Any]
    secret_paths: tuple[str, ...]
    created_at: float
    updated_at: float
    config_key: str = ""
    dialect: str = ""
    document: Any = None
    made_secret: str = field(default="", repr=False)


class ResourceQuery(NamedTuple):
    """``text`` is looked for in id and name, ``source`` "" is any. ``limit`` and ``offset`` count records, by id."""

    text: str = ""
    source: Source | str = ""
    limit: int = LIST_LIMIT
    offset: int = 0


ALL = ResourceQuery()


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcePage:
    """``total``: how many there are, with those of other pages."""

    records: tuple[Resource, ...]
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """The records of all accounts. Each method's first argument is the connection: pass them to ``Database.run``.

    ``config_file`` is only named in errors; ``rights``: what writers may say. Writes raise ``msgspec.ValidationError``
    (a value its type forbids), ``ConfigError`` (what no single field shows), and those of ``RecordError`` that are
    named at each.
    """

    vault: Vault
    config_file: str = "config.json"
    rights: Rights = field(default_factory=Rights)
    now: Callable[[], float] = time.time

    def get(self, connection: sa.Connection, account_id: str, kind: Kind, record_id: str) -> Resource:
        """Raises ``RecordNotFoundError``."""
        row = connection.execute(sa.select(resources).where(*_is(account_id, kind, record_id))).one_or_none()
        if row is None:
            raise RecordNotFoundError(kind, record_id)
        return _resource(row, _secret_paths(connection, account_id, kind, [record_id]).get(record_id, ()))

    def page(self, connection: sa.Connection, account_id: str, kind: Kind, query: ResourceQuery = ALL) -> ResourcePage:
        """Some of an account's, ordered by id."""
        wanted = [resources.c.account_id == account_id, resources.c.kind == kind]
        if query.source:
            wanted.append(resources.c.source == query.source)
        if query.text:
            name = resources.c.form["name"].as_string()
            found = (column.icontains(query.text, autoescape=True) for column in (resources.c.id, name))
            wanted.append(sa.or_(*found))
        total = connection.execute(sa.select(sa.func.count()).select_from(resources).where(*wanted)).scalar_one()
        page = sa.select(resources).where(*wanted).order_by(resources.c.id)
        rows = connection.execute(page.limit(query.limit).offset(query.offset)).all()
        paths = _secret_paths(connection, account_id, kind, [row.id for row in rows])
        return ResourcePage(records=tuple(_resource(row, paths.get(row.id, ())) for row in rows), total=total)

    def form(self, connection: sa.Connection, account_id: str, kind: Kind, record_id: str) -> AnyForm:
        """With its secrets: for the engine, never for an answer. Raises ``RecordNotFoundError``."""
        found = self.get(connection, account_id, kind, record_id)
        return form_secrets.form_of(kind, self._whole(connection, found))

    def create(
        self,
        connection: sa.Connection,
        account_id: str,
        kind: Kind,
        values: Mapping[str, Any],
        *,
        document: DialectDocument | None = None,
    ) -> Resource:
        """A new record; without an ``id`` one is made. Raises ``RecordConflictError`` when the id is taken."""
        begin_change(connection)
        if kind != "number" and not values.get("id"):
            values = {**values, "id": f"{kind}_{new_token()}"}
        form, made = with_secret(form_secrets.form_of(kind, values))
        self._check_free(connection, account_id, kind, form.id)
        check_form(form, known_to(connection, account_id))
        check_peers(connection, account_id, form)
        self.rights.check(account_id, form)
        self.put_new(connection, account_id, kind, form, document=document)
        raise_revision(connection)
        return replace(self.get(connection, account_id, kind, form.id), made_secret=made)

    def replace(
        self,
        connection: sa.Connection,
        account_id: str,
        kind: Kind,
        record_id: str,
        values: Mapping[str, Any],
        *,
        revisions: Collection[int] | None = None,
        document: DialectDocument | None = None,
    ) -> Resource:
        """The whole form anew; secrets that ``values`` do not have are kept, "" clears one.

        ``revisions``: those it may have now (If-Match), None for any. ``document`` None keeps what is there. Raises
        ``RecordNotFoundError``, ``ReadOnlyRecordError``, ``RevisionMismatchError``; ``RecordConflictError`` for
        another id.
        """
        before = self._before(connection, account_id, kind, record_id, revisions)
        whole = self._whole(connection, before)
        values = values if kind == "number" else {"id": record_id, **values}
        return self._rewrite(connection, before, form_secrets.kept(kind, whole, values), document)

    def patch(
        self,
        connection: sa.Connection,
        account_id: str,
        kind: Kind,
        record_id: str,
        patch: Mapping[str, Any],
        *,
        revisions: Collection[int] | None = None,
        document: DialectDocument | None = None,
    ) -> Resource:
        """Change what the merge patch (RFC 7396) names: null puts a field back to its default, "" clears a secret.

        Otherwise as ``replace``.
        """
        before = self._before(connection, account_id, kind, record_id, revisions)
        return self._rewrite(connection, before, merged(self._whole(connection, before), patch), document)

    def delete(
        self,
        connection: sa.Connection,
        account_id: str,
        kind: Kind,
        record_id: str,
        *,
        revisions: Collection[int] | None = None,
    ) -> None:
        """Raises as ``replace``; and ``RecordConflictError`` while others refer to it."""
        self._before(connection, account_id, kind, record_id, revisions)
        users = [one for one in references(connection, account_id) if one.to == (kind, record_id)]
        others = [one for one in users if (one.kind, one.record_id) != (kind, record_id)]
        if others:
            names = ", ".join(dict.fromkeys(f"{one.kind} {one.record_id!r}" for one in others[:10]))
            raise RecordConflictError(
                f"The {kind} {record_id!r} is used by {names}", field="id", fix="Change or delete these first"
            )
        self.remove(connection, account_id, kind, record_id)
        raise_revision(connection)

    # ── rows, without any check; for config_rows as well ──

    def put_new(
        self,
        connection: sa.Connection,
        account_id: str,
        kind: Kind,
        form: AnyForm,
        *,
        source: Source = "api",
        config_key: str = "",
        document: DialectDocument | None = None,
    ) -> None:
        """Insert the row and its secrets."""
        values, found = form_secrets.split(kind, form)
        now = self.now()
        row: dict[str, Any] = {"account_id": account_id, "kind": kind, "id": form.id, "source": source}
        row |= {"config_key": config_key, "revision": 1, "form": values, "created_at": now, "updated_at": now}
        row |= {"dialect": document.dialect, "document": document.document} if document else {}
        connection.execute(sa.insert(resources), row)
        self._put_secrets(connection, (account_id, kind, form.id), found)

    def put_changed(
        self,
        connection: sa.Connection,
        account_id: str,
        kind: Kind,
        form: AnyForm,
        *,
        config_key: str = "",
        document: DialectDocument | None = None,
    ) -> None:
        """Update the row, one revision up, and its secrets."""
        values, found = form_secrets.split(kind, form)
        change: dict[str, Any] = {"form": values, "updated_at": self.now(), "config_key": config_key}
        change |= {"dialect": document.dialect, "document": document.document} if document else {}
        row = sa.update(resources).where(*_is(account_id, kind, form.id))
        connection.execute(row.values(change | {"revision": resources.c.revision + 1}))
        self._drop_secrets(connection, (account_id, kind, form.id))
        self._put_secrets(connection, (account_id, kind, form.id), found)

    def remove(self, connection: sa.Connection, account_id: str, kind: Kind, record_id: str) -> None:
        """Delete the row and its secrets."""
        connection.execute(sa.delete(resources).where(*_is(account_id, kind, record_id)))
        self._drop_secrets(connection, (account_id, kind, record_id))

    def secrets_of(self, connection: sa.Connection, account_id: str, kind: Kind, record_id: str) -> dict[str, str]:
        """Decrypted, by path."""
        table = secrets_table
        rows = connection.execute(sa.select(table).where(*_secrets(account_id, kind, [record_id])))
        return {row.path: unsealed(self.vault, row) for row in rows}

    # ── steps of a write ──

    def _before(
        self,
        connection: sa.Connection,
        account_id: str,
        kind: Kind,
        record_id: str,
        revisions: Collection[int] | None,
    ) -> Resource:
        begin_change(connection)
        before = self.get(connection, account_id, kind, record_id)
        if before.source == "config":
            raise ReadOnlyRecordError(kind, record_id, key=before.config_key, file=self.config_file)
        if revisions is not None and before.revision not in revisions:
            raise RevisionMismatchError(kind, record_id, before.revision)
        return before

    def _whole(self, connection: sa.Connection, before: Resource) -> dict[str, Any]:
        found = self.secrets_of(connection, before.account_id, before.kind, before.id) if before.secret_paths else {}
        return form_secrets.joined(before.kind, before.form, found)

    def _rewrite(
        self,
        connection: sa.Connection,
        before: Resource,
        values: Mapping[str, Any],
        document: DialectDocument | None,
    ) -> Resource:
        form, made = with_secret(form_secrets.form_of(before.kind, values))
        if form.id != before.id:
            fields = "user and trunk" if before.kind == "number" else "id"
            raise RecordConflictError(
                f"The {fields} of a {before.kind} cannot change: this one is {before.id!r}",
                field="user" if before.kind == "number" else "id",
                fix="Create another one, and delete this",
            )
        check_form(form, known_to(connection, before.account_id))
        check_peers(connection, before.account_id, form)
        self.rights.check(before.account_id, form)
        self.put_changed(connection, before.account_id, before.kind, form, document=document)
        raise_revision(connection)
        return replace(self.get(connection, before.account_id, before.kind, before.id), made_secret=made)

    def _check_free(self, connection: sa.Connection, account_id: str, kind: Kind, record_id: str) -> None:
        taken = sa.select(resources.c.account_id).where(resources.c.kind == kind, resources.c.id == record_id)
        owners = connection.execute(taken).scalars().all()
        if account_id not in owners and not (owners and kind in UNIQUE_EVERYWHERE):
            return
        fix = "Choose another id"
        if kind == "number":
            fix = "Change that one" if account_id in owners else "Name the trunk it comes by, one of yours"
        name = "user" if kind == "number" else "id"
        raise RecordConflictError(f"The {kind} {record_id!r} is there already", field=name, fix=fix)

    def _put_secrets(
        self, connection: sa.Connection, record: tuple[str, Kind, str], secrets: Mapping[str, str]
    ) -> None:
        account_id, kind, record_id = record
        for path, secret in secrets.items():
            sealed = self.vault.seal(SecretPlace(account_id, kind, record_id, path), secret)
            row = {"account_id": account_id, "kind": kind, "id": record_id, "path": path, **sealed._asdict()}
            connection.execute(sa.insert(secrets_table), row)

    def _drop_secrets(self, connection: sa.Connection, record: tuple[str, Kind, str]) -> None:
        account_id, kind, record_id = record
        connection.execute(sa.delete(secrets_table).where(*_secrets(account_id, kind, [record_id])))


def merged(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396: null takes a field away, objects are merged, anything else replaces."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def unsealed(vault: Vault, row: sa.Row[Any]) -> str:
    """The secret of a row of the table ``secrets``. Raises ``ConfigError`` as ``Vault.unseal``."""
    place = SecretPlace(row.account_id, row.kind, row.id, row.path)
    return vault.unseal(place, Sealed(row.key_id, bytes(row.nonce), bytes(row.ciphertext)))


def with_secret(form: AnyForm) -> tuple[AnyForm, str]:
    """A webhook without a secret gets one; it is given beside the form, "" where none was made."""
    if not isinstance(form, WebhookForm) or form.secret:
        return form, ""
    made = new_webhook_secret()
    return msgspec.structs.replace(form, secret=made), made


def new_token() -> str:
    """For an id: lower-case letters and digits, 80 random bits."""
    return base64.b32encode(random.token_bytes(ID_BYTES)).decode().lower()


def new_webhook_secret() -> str:
    """Standard Webhooks: ``whsec_`` and 24 to 64 octets in base64."""
    return f"whsec_{base64.b64encode(random.token_bytes(32)).decode()}"


def _is(account_id: str, kind: Kind, record_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (resources.c.account_id == account_id, resources.c.kind == kind, resources.c.id == record_id)


def _secrets(account_id: str, kind: Kind, record_ids: Collection[str]) -> tuple[sa.ColumnElement[bool], ...]:
    table = secrets_table
    return (table.c.account_id == account_id, table.c.kind == kind, table.c.id.in_(record_ids))


def _secret_paths(
    connection: sa.Connection, account_id: str, kind: Kind, record_ids: Collection[str]
) -> dict[str, tuple[str, ...]]:
    if not record_ids or not (form_secrets.secret_fields(kind) or form_secrets.partly_secret_fields(kind)):
        return {}
    query = sa.select(secrets_table.c.id, secrets_table.c.path).where(*_secrets(account_id, kind, record_ids))
    paths: dict[str, tuple[str, ...]] = {}
    for record_id, path in connection.execute(query.order_by(secrets_table.c.path)):
        paths[record_id] = (*paths.get(record_id, ()), path)
    return paths


def _resource(row: sa.Row[Any], secret_paths: tuple[str, ...]) -> Resource:
    return Resource(**row._asdict(), secret_paths=secret_paths)
