"""What is encrypted with which key, keys that are lost or wrong, and the change from one to the next."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import sqlalchemy as sa

from offhook.model.errors import ConfigError
from offhook.store.database import Database
from offhook.store.schema import secrets as table
from offhook.store.vault import MasterKey, SecretPlace, Vault, parse_keys, rotate_batch, secrets_by_key

OLD = MasterKey(key_id="old", key=b"o" * 32)
NEW = MasterKey(key_id="new", key=b"n" * 32)
PLACE = SecretPlace("default", "trunk", "pbx", "password")


def as_variable(*keys: MasterKey) -> str:
    return ",".join(f"{one.key_id}:{base64.b64encode(one.key).decode()}" for one in keys)


def put_secrets(connection: sa.Connection, vault: Vault, number: int) -> None:
    for index in range(number):
        place = PLACE._replace(record_id=f"pbx{index}")
        row = {**vault.seal(place, f"password {index}")._asdict()}
        row |= {"account_id": "default", "kind": "trunk", "id": place.record_id, "path": "password"}
        connection.execute(sa.insert(table), row)


def test_a_secret_comes_back_and_never_looks_the_same_twice() -> None:
    vault = Vault([OLD])
    first, second = vault.seal(PLACE, "Gheim, ßicher"), vault.seal(PLACE, "Gheim, ßicher")
    assert vault.unseal(PLACE, first) == vault.unseal(PLACE, second) == "Gheim, ßicher"
    assert first.nonce != second.nonce
    assert first.ciphertext != second.ciphertext


@pytest.mark.parametrize(
    "elsewhere",
    [
        PLACE._replace(account_id="other"),
        PLACE._replace(kind="agent"),
        PLACE._replace(record_id="pbx2"),
        PLACE._replace(path="secret"),
        SecretPlace("default", "trunk", "pbx/password", ""),
    ],
)
def test_a_row_moved_elsewhere_does_not_decrypt(elsewhere: SecretPlace) -> None:
    vault = Vault([OLD])
    with pytest.raises(ConfigError, match="master key 'old', and the key of that id is another one, or the row"):
        vault.unseal(elsewhere, vault.seal(PLACE, "x"))


def test_a_lost_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"encrypted with the master key 'old', and the keys here are new"):
        Vault([NEW]).unseal(PLACE, Vault([OLD]).seal(PLACE, "x"))


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    vault = Vault([NEW, OLD])
    assert vault.seal(PLACE, "x").key_id == "new"
    assert vault.unseal(PLACE, Vault([OLD]).seal(PLACE, "x")) == "x"


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path)
    sealed = vault.seal(PLACE, "x")
    assert vault.file == tmp_path / "master.key"
    assert vault.file.stat().st_mode & 0o777 == 0o600
    assert Vault.open(tmp_path).unseal(PLACE, sealed) == "x"
    assert [file.name for file in tmp_path.iterdir()] == ["master.key"]


def test_the_made_key_can_be_moved_to_the_environment_or_another_file(tmp_path: Path) -> None:
    sealed = Vault.open(tmp_path).seal(PLACE, "x")
    text = (tmp_path / "master.key").read_text()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = (tmp_path / "master.key").rename(tmp_path / "moved.key")
    for variable in (text, str(moved)):
        vault = Vault.open(elsewhere, variable)
        assert (vault.unseal(PLACE, sealed), vault.file) == ("x", None)
    assert list(elsewhere.iterdir()) == []


def test_a_new_key_in_the_environment_goes_before_the_one_in_the_data_folder(tmp_path: Path) -> None:
    sealed = Vault.open(tmp_path).seal(PLACE, "x")
    vault = Vault.open(tmp_path, as_variable(NEW))
    assert (vault.key_id, vault.unseal(PLACE, sealed)) == ("new", "x")


def test_a_key_without_a_name_is_called_by_its_digest() -> None:
    encoded = base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode().rstrip("=")
    (key,) = parse_keys(encoded)
    assert key.key == b"\xfb\xff" * 16
    assert key.key_id.startswith("k")
    assert parse_keys(f"# of 2026\n{key.key_id}:{encoded}\n") == (key,)


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("main:hidden*hidden", "no base64"),
        ("main:aGlkZGVu", "a key of 6 octets"),
        (f"hid den:{base64.b64encode(b'x' * 32).decode()}", "whose id"),
        (as_variable(OLD, MasterKey(key_id="old", key=b"x" * 32)), "two different keys have the id 'old'"),
        (",", "holds no key"),
        ("/nowhere/hidden.key", "holds no key"),
    ],
)
def test_a_key_that_cannot_be_used_is_told_without_showing_it(variable: str, problem: str, tmp_path: Path) -> None:
    Vault.open(tmp_path)  # a key that lies in the data folder does not help out
    with pytest.raises(ConfigError, match=problem) as refusal:
        Vault.open(tmp_path, variable)
    assert refusal.value.key == "OFFHOOK_MASTER_KEY"
    assert "hidden" not in str(refusal.value)


def test_rotation_can_be_broken_off_and_ends_with_one_key(database: Database) -> None:
    with database.write() as connection:
        put_secrets(connection, Vault([OLD]), 7)
    vault = Vault([NEW, OLD])
    moved: list[int] = []
    while not moved or moved[-1]:
        with database.write() as connection:
            moved.append(rotate_batch(connection, vault, rows=3))
            if len(moved) == 1:
                assert secrets_by_key(connection) == {"new": 3, "old": 4}
    assert moved == [3, 3, 1, 0]
    with database.read() as connection:
        Vault([NEW]).check(connection)
        row = connection.execute(sa.select(table).where(table.c.id == "pbx6")).one()
    place = PLACE._replace(record_id="pbx6")
    sealed = Vault([NEW]).seal(place, "")._replace(nonce=row.nonce, ciphertext=row.ciphertext)
    assert Vault([NEW]).unseal(place, sealed) == "password 6"


def test_a_database_whose_key_is_not_here_is_told_at_start(database: Database) -> None:
    with database.write() as connection:
        put_secrets(connection, Vault([OLD]), 1)
        with pytest.raises(ConfigError, match="master key 'old'"):
            Vault([NEW]).check(connection)
        with pytest.raises(ConfigError, match="another one"):
            Vault([MasterKey(key_id="old", key=b"x" * 32)]).check(connection)
