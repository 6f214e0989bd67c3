"""How a connection to a provider ended, in words, and for all who agree on it: what that means. Pure.

A provider's own file decides what its statuses and codes are worth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from offhook.model.errors import BridgeError, Verdict

TEMPORARY_CLOSES = frozenset({1001, 1005, 1006, 1011, 1012, 1013})
"""RFC 6455 §7.4.1 and its registry: going away, nothing or a break, crashed, restarts, try again later."""

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""May go well the next time: busy, or broken for a moment."""

MAX_WORDS_SHOWN = 200
"""Characters of what a provider says about itself."""

_SECRET = re.compile(r"\b(sk|pk|key|gsk|xai)[-_][\w*.-]{6,}", re.IGNORECASE)
"""Vendors repeat the key they refuse."""


def failure(part: str, status: int, body: bytes) -> BridgeError:
    """Of a part of a cascade."""
    return BridgeError(part, problem_of(status, body), verdict_of(status))


def verdict_of(status: int) -> Verdict:
    """A refused key or request is this vendor's: another one may still serve the caller."""
    return "retry" if status in _AGAIN else "fall_over"


def problem_of(status: int, body: bytes, meanings: Mapping[int, str] | None = None) -> str:
    """``meanings``: what some statuses say, as the rest of a sentence about the provider."""
    words = _SECRET.sub("***", " ".join(body[: MAX_WORDS_SHOWN * 4].decode(errors="replace").split()))
    problem = (meanings or {}).get(status, f"answered HTTP {status}")
    return f"{problem}: {words[:MAX_WORDS_SHOWN]}" if words else problem


def closing(code: int, reason: str) -> str:
    """The rest of a sentence about the provider."""
    return f"closed the connection ({code}{': ' + reason[:MAX_WORDS_SHOWN] if reason else ''})"
