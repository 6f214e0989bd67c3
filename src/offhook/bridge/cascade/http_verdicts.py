"""What an HTTP status of a part's vendor means for the call. Pure."""

from __future__ import annotations

import re

from offhook.model.errors import BridgeError, Verdict

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""May go well the next time: busy, or broken for a moment."""

MAX_WORDS_SHOWN = 200

_SECRET = re.compile(r"\b(sk|pk|key|gsk|xai)[-_][\w*.-]{6,}", re.IGNORECASE)
"""Vendors repeat the key they refuse."""


def failure(part: str, status: int, body: bytes) -> BridgeError:
    return BridgeError(part, problem_of(status, body), verdict_of(status))


def verdict_of(status: int) -> Verdict:
    """A refused key or request is this vendor's: another one may still serve the caller."""
    return "retry" if status in _AGAIN else "fall_over"


def problem_of(status: int, body: bytes) -> str:
    words = _SECRET.sub("***", " ".join(body[: MAX_WORDS_SHOWN * 4].decode(errors="replace").split()))
    return f"HTTP {status}: {words[:MAX_WORDS_SHOWN]}" if words else f"HTTP {status}"
