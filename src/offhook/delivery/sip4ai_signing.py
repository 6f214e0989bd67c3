"""Signatures of the dialect ``sip4ai``, and the one secret of an installation that they are made with.

SIP4AI promises a signature header and names none; this one is ours: the HMAC-SHA256 of the body, as many have it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets as randomness
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from offhook.model.call_events import DEFAULT_ACCOUNT
from offhook.model.errors import ConfigError, SignatureError

SIGNATURE = "X-SIP4AI-Signature"
TIMESTAMP = "X-SIP4AI-Timestamp"
DELIVERY = "X-SIP4AI-Delivery"
"""The same at each attempt, so that a receiver can tell what comes twice."""

SECRET_FILE = "webhook-secret"
"""In the data folder, readable for its owner alone."""

SECRET_BYTES = 32
"""Of a new secret: what SHA-256 takes in one block."""

SECRET_CHARACTERS_LEAST = 16
"""Shorter ones are guessed, or a mistake."""

AccountSecret = Callable[[str], str]
"""With which secret requests of an account are signed."""


def sign(*, message_id: str, at: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """``X-SIP4AI-Signature: sha256=<hex>`` of the body as it is sent (of none: of nothing), by the first secret.

    Raises ``ConfigError`` without one.
    """
    if not secrets or not secrets[0]:
        raise ConfigError("webhook_secret", "is missing", "Restart the server, which makes one")
    return {
        SIGNATURE: _signature(secrets[0], body),
        TIMESTAMP: str(at),
        DELIVERY: message_id,
    }


def verify(*, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
    """Raises ``SignatureError`` where none of ``secrets`` made the signature."""
    fields = {name.lower(): value for name, value in headers.items()}
    given = fields.get(SIGNATURE.lower(), "")
    if not given:
        raise SignatureError(f"the request has no {SIGNATURE} header, so nobody signed it")
    if not any(hmac.compare_digest(_signature(secret, body).encode(), given.encode()) for secret in secrets):
        raise SignatureError("no signature fits: another secret signed it, or it was changed on the way")


def _signature(secret: str, body: bytes) -> str:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def account_secret(secret: str, account_id: str) -> str:
    """The installation's own for its one account; others have one that is derived from it, and tells nothing of it."""
    if account_id == DEFAULT_ACCOUNT:
        return secret
    return hmac.new(secret.encode(), account_id.encode(), hashlib.sha256).hexdigest()


def installation_secret(folder: Path, configured: str = "") -> str:
    """What config.json or the environment has; else that of the data folder, which is made once.

    Raises ``ConfigError``.
    """
    return configured or _kept_secret(folder / SECRET_FILE)


def _kept_secret(file: Path) -> str:
    try:
        if not file.exists():
            _make_secret(file)
        secret = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        fix = "Let the server read and write it, or set webhook_secret"
        why = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError("webhook_secret", f"{file} cannot be used ({why})", fix) from None
    if len(secret) < SECRET_CHARACTERS_LEAST:
        fix = "Delete the file, and a new one is made; or set webhook_secret"
        raise ConfigError("webhook_secret", f"{file} holds no secret of {SECRET_CHARACTERS_LEAST} characters", fix)
    return secret


def _make_secret(file: Path) -> None:
    """Whole or not at all, and only once: two processes may begin at the same moment. Raises ``OSError``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, made = tempfile.mkstemp(dir=file.parent, prefix=f".{SECRET_FILE}-")  # with mode 0600
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{randomness.token_hex(SECRET_BYTES)}\n")
        with contextlib.suppress(FileExistsError):
            os.link(made, file)
    finally:
        os.unlink(made)
