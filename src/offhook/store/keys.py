"""API keys: made, found by their digest, revoked. A key is shown once, when it is made, and stored nowhere.

``ohk_``, 256 random bits in base 62, and a checksum, so that a scanner finds leaked ones, and a mistyped one is told
from a revoked one without a look into the database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from offhook.model.errors import RecordError, RecordNotFoundError
from offhook.model.records import ApiKey
from offhook.store.accounts import get_account
from offhook.store.revision import begin_change, raise_revision
from offhook.store.schema import api_keys as table

PREFIX = "ohk_"
RANDOM_CHARACTERS = 43
"""Of 62: 256 bits."""
CHECKSUM_CHARACTERS = 6
"""Of 62: CRC-32."""

USED_EVERY_S = 60.0
"""``last_used_at`` is no more exact than this: a write for each request would cost more than the request."""

KEYS_LIMIT = 1000
"""Of one list."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SCOPE = re.compile(r"\*|[a-z_]+:(\*|[a-z_]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredKey:
    """A key as it is listed: with what became of it."""

    key: ApiKey
    last_used_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NewKey:
    """``secret`` is the key itself: show it now, it cannot be had again."""

    key: ApiKey
    secret: str = field(repr=False)


def create_key(
    connection: sa.Connection,
    account_id: str,
    *,
    now: float,
    name: str = "",
    scopes: Sequence[str] = ("*",),
    expires_at: float | None = None,
) -> NewKey:
    """Raises ``RecordNotFoundError`` (no such account), ``RecordError`` (scopes or expiry)."""
    for scope in scopes or ("",):
        if not _SCOPE.fullmatch(scope):
            fix = "Use calls:read, agents:write …, or * for all"
            raise RecordError(f"{scope!r} is no scope", field="scopes", fix=fix)
    if expires_at is not None and expires_at <= now:
        raise RecordError("The key would have expired already", field="expires_at", fix="Give a time to come")
    begin_change(connection)
    get_account(connection, account_id)
    secret = new_secret()
    key = ApiKey(
        key_id=f"key_{secrets.token_hex(8)}",
        account_id=account_id,
        name=name,
        hint=f"{PREFIX}…{secret[-4:]}",
        digest=digest_of(secret),
        scopes=tuple(dict.fromkeys(scopes)),
        created_at=now,
        expires_at=expires_at,
    )
    connection.execute(sa.insert(table), {name: getattr(key, name) for name in ApiKey.__slots__})
    raise_revision(connection)
    return NewKey(key=key, secret=secret)


def list_keys(
    connection: sa.Connection, account_id: str | None = None, *, limit: int = KEYS_LIMIT, offset: int = 0
) -> tuple[tuple[StoredKey, ...], int]:
    """An account's, or all of them, the newest first, revoked ones too; and how many there are."""
    wanted = sa.true() if account_id is None else table.c.account_id == account_id
    total = connection.execute(sa.select(sa.func.count()).select_from(table).where(wanted)).scalar_one()
    query = sa.select(table).where(wanted).order_by(table.c.created_at.desc(), table.c.key_id)
    return tuple(_stored(row) for row in connection.execute(query.limit(limit).offset(offset))), total


def get_key(connection: sa.Connection, account_id: str, key_id: str) -> StoredKey:
    """Raises ``RecordNotFoundError``."""
    query = sa.select(table).where(table.c.account_id == account_id, table.c.key_id == key_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise RecordNotFoundError("key", key_id)
    return _stored(row)


def revoke_key(connection: sa.Connection, account_id: str, key_id: str, now: float) -> StoredKey:
    """From now on it opens nothing; again is no error. Raises ``RecordNotFoundError``."""
    begin_change(connection)
    found = get_key(connection, account_id, key_id)
    if found.revoked_at is None:
        connection.execute(sa.update(table).where(table.c.key_id == key_id).values(revoked_at=now))
        raise_revision(connection)
    return get_key(connection, account_id, key_id)


def note_used(connection: sa.Connection, last_used: dict[str, float]) -> None:
    """``last_used``: Unix seconds by key id. Does not raise the directory's revision."""
    for key_id, at in last_used.items():
        later = table.c.last_used_at.is_(None) | (table.c.last_used_at < at)
        connection.execute(sa.update(table).where(table.c.key_id == key_id, later).values(last_used_at=at))


class KeyUse:
    """Which keys were used since they were last written; in memory, for the event loop. ``now`` is Unix seconds."""

    def __init__(self) -> None:
        self._written: dict[str, float] = {}
        self._pending: dict[str, float] = {}

    def note(self, key_id: str, now: float) -> None:
        """One request with that key."""
        if now - self._written.get(key_id, 0.0) >= USED_EVERY_S:
            self._pending.setdefault(key_id, now)

    def take(self) -> dict[str, float]:
        """What is to be written by ``note_used``; each key once a minute at most. Empty: nothing."""
        pending, self._pending = self._pending, {}
        self._written.update(pending)
        return pending


def new_secret() -> str:
    """A key that nobody has."""
    random = _base62(secrets.randbits(256), RANDOM_CHARACTERS)
    return PREFIX + random + _checksum(random)


def digest_of(secret: str) -> bytes:
    """SHA-256: what has 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def is_key(text: str) -> bool:
    """Whether it has the form and checksum of a key of ours."""
    body = text.removeprefix(PREFIX)
    if not text.startswith(PREFIX) or len(body) != RANDOM_CHARACTERS + CHECKSUM_CHARACTERS:
        return False
    return _checksum(body[:RANDOM_CHARACTERS]) == body[RANDOM_CHARACTERS:]


def _checksum(random: str) -> str:
    return _base62(zlib.crc32(random.encode("utf-8", "surrogateescape")), CHECKSUM_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredKey:
    values: dict[str, Any] = row._asdict()
    last_used_at, revoked_at = values.pop("last_used_at"), values.pop("revoked_at")
    values |= {"scopes": tuple(values["scopes"]), "digest": bytes(values["digest"])}
    return StoredKey(key=ApiKey(**values), last_used_at=last_used_at, revoked_at=revoked_at)
