"""Signatures by Standard Webhooks, against the reference verifier from PyPI in both directions."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from offhook.delivery.signing import Sign, key_of, new_secret, sign, verify
from offhook.model.errors import ConfigError, SignatureError

# The example of the specification (standardwebhooks.com), which its libraries test too.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

NOW = int(time.time())
"""When this file was read. The reference library asks the clock, and refuses what is five minutes old."""
OTHER = new_secret()


def signed(*secrets: str, at: int = NOW, body: bytes = BODY) -> dict[str, str]:
    return sign(message_id=ID, at=at, body=body, secrets=secrets or [SECRET])


def test_the_example_of_the_specification() -> None:
    assert sign(message_id=ID, at=AT, body=BODY, secrets=[SECRET]) == {
        "webhook-id": ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


@pytest.mark.parametrize(
    "body", [BODY, b"{}", '{"said": "grüß Gott 👋"}'.encode(), b'{"long": "' + b"a" * 20_000 + b'"}']
)
def test_the_reference_library_believes_ours(body: bytes) -> None:
    for secret in (SECRET, new_secret()):
        Webhook(secret).verify(body, signed(secret, at=int(time.time()), body=body))


def test_the_reference_library_does_not_believe_a_changed_one() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" ", signed())


def test_we_believe_the_reference_library() -> None:
    signature = Webhook(SECRET).sign(ID, datetime.fromtimestamp(NOW, tz=UTC), BODY.decode())
    headers = {"Webhook-Id": ID, "Webhook-Timestamp": str(NOW), "Webhook-Signature": signature}
    assert verify(headers=headers, body=BODY, secrets=[SECRET], now=NOW) == ID


def test_during_a_rotation_both_secrets_hold() -> None:
    now = int(time.time())
    headers = signed(OTHER, SECRET, at=now)
    assert headers["webhook-signature"].count(" ") == 1
    for secret in (OTHER, SECRET):
        Webhook(secret).verify(BODY, headers)
        assert verify(headers=headers, body=BODY, secrets=[secret], now=now) == ID
    assert verify(headers=signed(SECRET), body=BODY, secrets=[OTHER, SECRET], now=NOW) == ID


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-signature": SIGNATURE},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1"},
        {"webhook-signature": ","},
        {"webhook-signature": "v1,!!!"},
        {"webhook-signature": "v1,ä"},
        {"webhook-signature": " " * 100_000},
        {"webhook-signature": "v1a,AAAA"},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "9" * 5000},
        {"webhook-timestamp": f"{NOW}.5"},
        {"webhook-timestamp": "١٢٣"},
        {"webhook-id": ""},
        {"webhook-timestamp": ""},
        {"webhook-signature": ""},
    ],
)
def test_what_is_changed_is_not_believed(changed: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        verify(headers={**signed(), **changed}, body=BODY, secrets=[SECRET], now=NOW)


def test_another_version_of_the_same_bytes_is_not_believed() -> None:
    headers = signed()
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v1a,")
    with pytest.raises(SignatureError, match="another secret"):
        verify(headers=headers, body=BODY, secrets=[SECRET], now=NOW)


@pytest.mark.parametrize("drift", [-300, -1, 0, 1, 300])
def test_five_minutes_are_allowed(drift: int) -> None:
    assert verify(headers=signed(), body=BODY, secrets=[SECRET], now=NOW + drift) == ID


@pytest.mark.parametrize(("drift", "word"), [(-301, "ahead"), (301, "old"), (86_400, "old")])
def test_more_are_not(drift: int, word: str) -> None:
    with pytest.raises(SignatureError, match=word):
        verify(headers=signed(), body=BODY, secrets=[SECRET], now=NOW + drift)


def test_without_secrets_nothing_is_believed() -> None:
    with pytest.raises(SignatureError):
        verify(headers=signed(), body=BODY, secrets=[], now=NOW)


def test_a_new_secret_is_new_and_long_enough() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(key_of(secret)) == 24 for secret in made)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_äöü",
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        key_of(secret)
    assert caught.value.key == "secret"
    assert len(secret) < 7 or secret[6:] not in str(caught.value)


def test_another_dialect_brings_a_function_of_the_same_shape() -> None:
    scheme: Sign = sign
    assert scheme(message_id=ID, at=AT, body=BODY, secrets=[SECRET])["webhook-signature"] == SIGNATURE
