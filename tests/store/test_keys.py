"""API keys: what they look like, what is kept of them, and what ends them."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from tests.store.world import OTHER, World

from offhook.model.errors import RecordError, RecordNotFoundError
from offhook.store.database import Database
from offhook.store.keys import (
    KeyUse,
    NewKey,
    create_key,
    digest_of,
    get_key,
    is_key,
    list_keys,
    new_secret,
    note_used,
    revoke_key,
)
from offhook.store.schema import api_keys


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def made(world: World, account: str = "default", now: float = 1000.0) -> NewKey:
    with world.database.write() as connection:
        return create_key(connection, account, now=now, name="ci", scopes=("calls:read", "agents:*"))


def test_a_key_has_a_prefix_256_bits_and_a_checksum() -> None:
    secret = new_secret()
    assert re.fullmatch(r"ohk_[0-9A-Za-z]{49}", secret)
    assert is_key(secret)
    assert len({new_secret() for _ in range(100)}) == 100


@pytest.mark.parametrize("place", [4, 20, 46, 52])
def test_a_mistyped_key_is_told_by_itself(place: int) -> None:
    secret = new_secret()
    other = "0" if secret[place] != "0" else "1"
    assert not is_key(secret[:place] + other + secret[place + 1 :])
    assert not is_key(secret[:-1])
    assert not is_key(secret.removeprefix("ohk_"))
    assert not is_key("ohk_" + "\udcff" * 49)


def test_only_the_digest_is_kept(world: World) -> None:
    new = made(world)
    with world.database.read() as connection:
        row = connection.execute(sa.select(api_keys)).one()
    assert bytes(row.digest) == digest_of(new.secret) == new.key.digest
    assert row.hint == f"ohk_…{new.secret[-4:]}"
    assert new.secret[4:-4] not in repr((row, new, new.key))


def test_a_key_opens_its_account_until_it_is_revoked(world: World) -> None:
    assert not world.directory().has_api_keys
    new = made(world, OTHER)
    assert world.directory().api_key(digest_of(new.secret)) == new.key
    with world.database.write() as connection:
        first = revoke_key(connection, OTHER, new.key.key_id, now=2000.0)
        assert revoke_key(connection, OTHER, new.key.key_id, now=3000.0) == first
    assert first.revoked_at == 2000.0
    assert world.directory().api_key(digest_of(new.secret)) is None
    assert world.directory().has_api_keys  # else revoking the last one would open the door to anybody


def test_keys_are_listed_by_account(world: World) -> None:
    old, new, others = made(world, now=1.0), made(world, now=2.0), made(world, OTHER)
    with world.database.read() as connection:
        assert [one.key for one in list_keys(connection, "default")[0]] == [new.key, old.key]
        assert list_keys(connection, "default", limit=1, offset=1)[1] == 2
        assert len(list_keys(connection)[0]) == 3
        with pytest.raises(RecordNotFoundError):
            get_key(connection, "default", others.key.key_id)


@pytest.mark.parametrize(
    ("options", "field"),
    [({"scopes": ["calls"]}, "scopes"), ({"scopes": []}, "scopes"), ({"expires_at": 999.0}, "expires_at")],
)
def test_a_key_nobody_could_use_is_refused(world: World, options: dict[str, object], field: str) -> None:
    with world.database.write() as connection, pytest.raises(RecordError) as refusal:
        create_key(connection, "default", now=1000.0, **options)  # type: ignore[arg-type]
    assert refusal.value.field == field


def test_a_key_needs_its_account(world: World) -> None:
    with pytest.raises(RecordNotFoundError, match="account 'nobody'"):
        made(world, "nobody")


def test_the_last_use_is_written_once_a_minute(world: World) -> None:
    key = made(world).key.key_id
    use = KeyUse()
    taken = []
    for now in (100.0, 110.0, 159.0, 161.0, 200.0):
        use.note(key, now)
        taken.append(use.take())
    assert taken == [{key: 100.0}, {}, {}, {key: 161.0}, {}]
    with world.database.write() as connection:
        note_used(connection, {key: 161.0, "gone": 1.0})
        note_used(connection, {key: 100.0})  # another node's, late
        assert get_key(connection, "default", key).last_used_at == 161.0
