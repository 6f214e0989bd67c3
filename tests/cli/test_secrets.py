"""``offhook secrets``: which master key protects how many, and the way to a new one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.cli.data_folders import database_in
from tests.cli.typed import typed

from offhook.store.schema import secrets
from offhook.store.vault import FILE, VARIABLE, SecretPlace, Vault, parse_keys

PLACE = SecretPlace("default", "trunk", "pbx", "password")


def keep(folder: Path, vault: Vault) -> None:
    sealed = vault.seal(PLACE, "hush")
    row = {"account_id": "default", "kind": "trunk", "id": "pbx", "path": "password", **sealed._asdict()}
    with database_in(folder) as database, database.write() as connection:
        connection.execute(sa.insert(secrets), row)


def test_secrets_come_to_a_new_master_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    first = Vault.open(tmp_path)
    keep(tmp_path, first)
    status = typed("secrets", "status", "--data", str(tmp_path)).stdout
    assert f"{first.key_id}: 1 secrets, the key that encrypts" in status
    assert f"lies in {tmp_path / FILE}" in status

    new = typed("secrets", "new-key").stdout.strip()
    monkeypatch.setenv(VARIABLE, new)
    before = json.loads(typed("secrets", "status", "--data", str(tmp_path), "--json").stdout)
    assert (before["secrets_by_key"], before["file"]) == ({first.key_id: 1}, None)
    assert "1 secrets were encrypted anew" in typed("secrets", "rotate", "--data", str(tmp_path)).stdout
    after = json.loads(typed("secrets", "rotate", "--data", str(tmp_path), "--json").stdout)
    (key,) = parse_keys(new)
    assert (after["moved"], after["secrets_by_key"]) == (0, {key.key_id: 1})

    (tmp_path / FILE).unlink()
    assert typed("secrets", "status", "--data", str(tmp_path)).returncode == 0


def test_a_missing_master_key_is_told_and_no_key_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, typed("secrets", "new-key").stdout.strip())
    keep(tmp_path, Vault.open(tmp_path, typed("secrets", "new-key").stdout.strip()))
    done = typed("secrets", "status", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "encrypted with the master key" in done.stderr
