"""``offhook keys`` and ``offhook accounts``: what is made opens, what is revoked does not, no key is shown twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.typed import typed

from offhook.store.keys import is_key


def test_a_key_is_shown_once_and_never_again(tmp_path: Path) -> None:
    made = typed("keys", "create", "--name", "CRM", "--scope", "calls:read", "--data", str(tmp_path))
    secret = made.stdout.strip()
    assert is_key(secret)
    listed = typed("keys", "list", "--data", str(tmp_path)).stdout
    assert "CRM" in listed
    assert "calls:read" in listed
    assert f"ohk_…{secret[-4:]}" in listed
    assert secret not in listed
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret.encode() not in stored


def test_a_key_can_be_limited_in_time_and_revoked(tmp_path: Path) -> None:
    made = json.loads(typed("keys", "create", "--expires-in", "12h", "--data", str(tmp_path), "--json").stdout)
    assert (made["state"], made["scopes"], made["expires_at"] > made["created_at"]) == ("valid", ["*"], True)
    revoked = json.loads(typed("keys", "revoke", made["id"], "--data", str(tmp_path), "--json").stdout)
    assert revoked["state"] == "revoked"
    (listed,) = json.loads(typed("keys", "list", "--data", str(tmp_path), "--json").stdout)["keys"]
    assert (listed["state"], "key" in listed) == ("revoked", False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("keys", "create", "--account", "nobody"), "There is no account 'nobody'"),
        (("keys", "create", "--scope", "everything"), "is no scope"),
        (("keys", "create", "--expires-in", "soon"), "90s, 15m, 2h or 30d"),
        (("accounts", "create", "a b"), "is no id of an account"),
        (("accounts", "create", "default"), "is there already"),
    ],
)
def test_what_cannot_be_made_is_told_with_the_fix(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    typed("accounts", "create", "acme", "--data", str(tmp_path))
    done = typed(*arguments, "--data", str(tmp_path))
    assert done.returncode in (1, 2)
    assert says in done.stderr


def test_an_account_has_limits_and_keys_of_its_own(tmp_path: Path) -> None:
    typed("accounts", "create", "acme", "--name", "Acme", "--max-calls", "3", "--data", str(tmp_path))
    shown = typed("accounts", "limits", "acme", "--spend-per-day", "5.5", "--data", str(tmp_path)).stdout
    assert shown.startswith("acme (Acme): 3 calls at a time, 0.0 of unlimited minutes today, 0.00 of 5.5 spent today")
    typed("keys", "create", "--account", "acme", "--data", str(tmp_path))
    assert "default" not in typed("keys", "list", "--account", "acme", "--data", str(tmp_path)).stdout
    told = json.loads(typed("accounts", "list", "--data", str(tmp_path), "--json").stdout)
    assert {one["id"]: one["limits"]["max_calls"] for one in told["accounts"]} == {"acme": 3, "default": 0}
