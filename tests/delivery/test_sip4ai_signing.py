"""The signature of SIP4AI's dialect, and the secret of an installation."""

from __future__ import annotations

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from offhook.delivery.sip4ai_signing import (
    DELIVERY,
    SECRET_FILE,
    SIGNATURE,
    TIMESTAMP,
    account_secret,
    installation_secret,
    sign,
    verify,
)
from offhook.model.errors import ConfigError, SignatureError

SECRET = "a secret of some length"
BODY = b'{"event": "call.ringing"}'


def signed(secret: str = SECRET, body: bytes = BODY) -> dict[str, str]:
    return sign(message_id="msg_1", at=1_700_000_000, body=body, secrets=(secret, "an older one"))


def test_the_body_is_signed_as_anybody_can_verify() -> None:
    expected = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    assert signed() == {SIGNATURE: f"sha256={expected}", TIMESTAMP: "1700000000", DELIVERY: "msg_1"}
    verify(headers={name.lower(): value for name, value in signed().items()}, body=BODY, secrets=("other", SECRET))


def test_what_was_changed_or_signed_by_another_is_found_out() -> None:
    for headers, body in (
        (signed(), BODY + b" "),
        (signed("another secret"), BODY),
        ({}, BODY),
        ({SIGNATURE: "ü"}, BODY),
    ):
        with pytest.raises(SignatureError):
            verify(headers=headers, body=body, secrets=(SECRET,))


@pytest.mark.parametrize("secrets", [(), ("",)])
def test_nothing_is_signed_without_a_secret(secrets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="webhook_secret"):
        sign(message_id="m", at=0, body=BODY, secrets=secrets)


def test_each_account_has_a_secret_of_its_own() -> None:
    found = {account_secret(SECRET, account) for account in ("default", "acme", "other")}
    assert SECRET in found
    assert len(found) == 3
    assert account_secret(SECRET, "acme") == hmac.new(SECRET.encode(), b"acme", hashlib.sha256).hexdigest()


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: installation_secret(folder), range(8)))
    assert len(found) == 1
    assert [file.name for file in folder.iterdir()] == [SECRET_FILE]
    assert stat.S_IMODE((folder / SECRET_FILE).stat().st_mode) == 0o600
    assert len(found.pop()) == 64


def test_a_configured_one_needs_no_file(tmp_path: Path) -> None:
    assert installation_secret(tmp_path / "data", SECRET) == SECRET
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"", b"short", b"\xff\xfe"])
def test_a_file_that_holds_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SECRET_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=SECRET_FILE):
        installation_secret(tmp_path)


def test_why_a_folder_takes_no_secret_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(ConfigError, match="exists"):
        installation_secret(tmp_path / "data")
