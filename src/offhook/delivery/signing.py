"""Signatures of what offhook tells outside, by Standard Webhooks (standardwebhooks.com, specification 1.0.0).

A signature scheme is a function from a message to headers; other dialects bring another one of the same shape, and the
HTTP client knows of none. What is signed are the bytes that are sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets as randomness
from collections.abc import Mapping, Sequence
from typing import Protocol

from offhook.model.errors import ConfigError, SignatureError

SECRET_PREFIX = "whsec_"

SECRET_BYTES = 24
"""Of a new secret: the least the specification asks for is 192 bits, and its base64 then needs no padding."""

_SECRET_BYTES_LEAST, _SECRET_BYTES_MOST = 24, 64

TOLERANCE_S = 300
"""How old, or how far ahead, a timestamp may be: bounds the time in which a caught message can be sent again."""

SIGNATURES_READ = 16
"""Of one header: during a rotation there are two."""


class Sign(Protocol):
    """Headers that sign ``body``. ``at``: seconds since 1970. The first secret is the newest."""

    def __call__(self, *, message_id: str, at: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]: ...


def new_secret() -> str:
    """``whsec_`` and 24 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The key inside ``whsec_<base64>``: 24 to 64 bytes. Raises ConfigError for ``secret``."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not _SECRET_BYTES_LEAST <= len(key) <= _SECRET_BYTES_MOST:
        fix = f'Give "{SECRET_PREFIX}" and {_SECRET_BYTES_LEAST} to {_SECRET_BYTES_MOST} bytes in base64'
        raise ConfigError("secret", "this is no webhook secret", f"{fix}, or leave it out and offhook makes one")
    return key


def sign(*, message_id: str, at: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """``webhook-id``, ``webhook-timestamp`` and ``webhook-signature`` (one signature a secret, apart by a space).

    The same id is sent at each try of a message, the timestamp is that of the try. Raises ConfigError.
    """
    stamp = str(at)
    signatures = [_signature(key_of(secret), message_id, stamp, body) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join("v1," + base64.b64encode(each).decode() for each in signatures),
    }


def verify(*, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> str:
    """The id of a message that one of ``secrets`` signed not long ago. Raises SignatureError, ConfigError."""
    fields = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not fields.get(name)]
    if missing:
        raise SignatureError(f"the request has no {missing[0]} header, so nobody signed it")
    message_id, stamp = fields["webhook-id"], fields["webhook-timestamp"]
    _check_time(stamp, now)
    given = _signatures(fields["webhook-signature"])
    for expected in (_signature(key_of(secret), message_id, stamp, body) for secret in secrets):
        if any(hmac.compare_digest(expected, each) for each in given):
            return message_id
    raise SignatureError("no signature fits: another secret signed it, or it was changed on the way")


def _check_time(stamp: str, now: float) -> None:
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > 12:
        raise SignatureError("webhook-timestamp is no number of seconds since 1970")
    behind = now - int(stamp)
    if abs(behind) > TOLERANCE_S:
        where = "old" if behind > 0 else "ahead of this machine's clock"
        raise SignatureError(f"webhook-timestamp is {abs(behind):.0f} s {where}; {TOLERANCE_S} s are allowed")


def _signatures(field: str) -> list[bytes]:
    given = []
    for each in field.split(" ")[:SIGNATURES_READ]:
        version, _, text = each.partition(",")
        if version == "v1":
            try:
                given.append(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                continue
    return given


def _signature(key: bytes, message_id: str, stamp: str, body: bytes) -> bytes:
    return hmac.digest(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256)
