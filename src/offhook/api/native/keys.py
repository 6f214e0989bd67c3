"""API keys: made, listed, revoked. A key cannot make one that may do more than itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from offhook.api.endpoints import Answer, Asked, Body, Client, Endpoint, Form, Page
from offhook.api.native.fields import PAGING, Deleted, Time
from offhook.api.problems import ApiError
from offhook.delivery.event_documents import utc
from offhook.store import keys as kept
from offhook.store.keys import StoredKey

Scope = Annotated[str, msgspec.Meta(pattern=r"^(\*|[a-z_]+:(\*|read|write))$")]


class KeyForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``scopes``: `calls:read`, `agents:write`, `calls:*` …, or `*`; left out: all that the asking key has.

    Without `expires_at` it is good until it is revoked.
    """

    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=50)] | None = None
    expires_at: Time | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """``hint`` is its beginning and its end. ``last_used_at`` is exact to a minute."""

    id: str
    name: str
    hint: str
    scopes: tuple[str, ...]
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    revoked_at: Time | None


class NewKey(Key, frozen=True, kw_only=True):
    """``key`` is the key itself: it is shown this once."""

    key: str


async def list_keys(asked: Asked) -> Answer:
    page = {"limit": asked.query["limit"], "offset": asked.query["offset"]}
    found, total = await asked.parts.database.look(kept.list_keys, asked.account_id, **page)
    return Answer(body={"keys": [_key(one) for one in found], "total": total, **page})


async def create_key(asked: Asked) -> Answer:
    form: KeyForm = asked.body
    scopes = asked.client.scopes if form.scopes is None else form.scopes
    _check_granted(asked.client, scopes)
    made = await asked.parts.database.run(
        kept.create_key,
        asked.account_id,
        now=asked.parts.now(),
        name=form.name,
        scopes=scopes,
        expires_at=None if form.expires_at is None else _expiry(form.expires_at),
    )
    await asked.parts.catch_up()
    shown = msgspec.structs.asdict(_key(StoredKey(key=made.key)))
    return Answer(body=NewKey(**shown, key=made.secret), headers={"Location": f"/api/keys/{made.key.key_id}"})


def _expiry(at: datetime) -> float:
    """Unix seconds. Raises ``ApiError``: the last hours of 9999 are in 10000 elsewhere, which cannot be shown."""
    try:
        return utc(at.timestamp()).timestamp()
    except (OverflowError, ValueError):
        raise ApiError(
            "INVALID", "expires_at: is too late", field="expires_at", hint="Leave it out for never"
        ) from None


def _check_granted(client: Client, scopes: tuple[str, ...]) -> None:
    for index, scope in enumerate(scopes):
        if not client.may(scope):
            raise ApiError(
                "FORBIDDEN",
                f"This key has not the scope {scope}, so it cannot give it",
                field=f"scopes[{index}]",
                hint=f"Choose among {', '.join(client.scopes)}",
            )


async def get_key(asked: Asked) -> Answer:
    return Answer(body=_key(await asked.parts.database.look(kept.get_key, asked.account_id, asked.path["id"])))


async def revoke_key(asked: Asked) -> Answer:
    name = asked.path["id"]
    await asked.parts.database.run(kept.revoke_key, asked.account_id, name, asked.parts.now())
    await asked.parts.catch_up()
    return Answer(body=Deleted(id=name, deleted=True))


def _key(stored: StoredKey) -> Key:
    key = stored.key
    return Key(
        id=key.key_id,
        name=key.name,
        hint=key.hint,
        scopes=key.scopes,
        created_at=utc(key.created_at),
        expires_at=_maybe(key.expires_at),
        last_used_at=_maybe(stored.last_used_at),
        revoked_at=_maybe(stored.revoked_at),
    )


def _maybe(at: float | None) -> datetime | None:
    return None if at is None else utc(at)


_EXAMPLE = {
    "id": "key_5f2c19d07a3b4e6d",
    "name": "CRM",
    "hint": "ohk_…x7Qd",
    "scopes": ["calls:read", "webhooks:write"],
    "created_at": "2026-11-21T11:52:00Z",
    "expires_at": "2027-11-21T00:00:00Z",
    "last_used_at": None,
    "revoked_at": None,
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/keys",
        operation="listKeys",
        tag="keys",
        summary="The account's keys, the newest first; revoked ones too",
        handler=list_keys,
        scope="keys:read",
        query=PAGING,
        answers=(
            Form(type=Page(key="keys", of=Key), example={"keys": [_EXAMPLE], "total": 1, "limit": 20, "offset": 0}),
        ),
    ),
    Endpoint(
        method="POST",
        path="/api/keys",
        operation="createKey",
        tag="keys",
        summary="Make a key, which is shown this once; from the first one on every request needs one",
        handler=create_key,
        scope="keys:write",
        status=201,
        body=Body(
            type=KeyForm,
            example={"name": "CRM", "scopes": ["calls:read", "webhooks:write"], "expires_at": "2027-11-21T00:00:00Z"},
        ),
        answers=(
            Form(
                type=NewKey,
                example={**_EXAMPLE, "key": "ohk_2bVJ0mTqk8sYcR5uWn1hZ4eXo9GdLfPaQiBtCvEyHxUrM3w7kD9x7Qd"},
            ),
        ),
        answer_headers={"Location": "Where it is"},
    ),
    Endpoint(
        method="GET",
        path="/api/keys/{id}",
        operation="getKey",
        tag="keys",
        summary="A key; never the key itself",
        handler=get_key,
        scope="keys:read",
        answers=(Form(type=Key, example=_EXAMPLE),),
    ),
    Endpoint(
        method="DELETE",
        path="/api/keys/{id}",
        operation="revokeKey",
        tag="keys",
        summary="Revoke a key: from now on it opens nothing",
        handler=revoke_key,
        scope="keys:write",
        answers=(Form(type=Deleted, example={"id": "key_5f2c19d07a3b4e6d", "deleted": True}),),
    ),
)
