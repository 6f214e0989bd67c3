"""Headers that are the application's own business: X-Ticket, P-Asserted-Identity, Diversion and the like."""

from __future__ import annotations

import re

from offhook.sip.headers import Headers, known_name

MOST_HEADERS = 32
MOST_CHARACTERS = 1000
"""Of a value. What an application wants to know of a call is shorter; a flood of junk is longer."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9\-]{0,63}")

# fmt: off
_SENDABLE = frozenset((
    "alert-info", "call-info", "diversion", "history-info", "in-reply-to", "organization", "p-asserted-identity",
    "p-preferred-identity", "priority", "privacy", "reason", "remote-party-id", "subject", "identity", "identity-info",
))
# fmt: on
"""Of those a standard knows; the others are written by the SIP core, and two of a kind would break the message."""


def is_custom_header(name: str, value: str) -> bool:
    """Whether an application may have this sent."""
    if not _NAME.fullmatch(name) or len(value) > MOST_CHARACTERS or "\r" in value or "\n" in value:
        return False
    known = known_name(name)
    return known is None or known[0] in _SENDABLE


def custom_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Those of a message that an application may want to know; bounded in number and length."""
    found = ((name, value) for name, value in headers.items() if is_custom_header(name, value))
    return tuple(pair for pair, _ in zip(found, range(MOST_HEADERS), strict=False))
