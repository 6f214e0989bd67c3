"""Headers that are the application's own business: X-Ticket, P-Asserted-Identity, Diversion and the like."""

from __future__ import annotations

import re

from offhook.sip.headers import Headers, known_name

MOST_HEADERS = 32
MOST_CHARACTERS = 1000
"""Of a value. What an application wants to know of a call is shorter; a flood of junk is longer."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9\-]{0,63}")

_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
"""Control characters, and what some parsers take for the end of a line; RFC 3261 §25.1 has none of them in a value."""

# fmt: off
_SENDABLE = frozenset((
    "alert-info", "call-info", "diversion", "history-info", "in-reply-to", "organization", "p-asserted-identity",
    "p-preferred-identity", "priority", "privacy", "reason", "remote-party-id", "subject", "identity", "identity-info",
))
# fmt: on
"""Of those a standard knows; the others are written by the SIP core, and two of a kind would break the message."""


def is_custom_header(name: str, value: str) -> bool:
    """Whether an application may have this sent."""
    if not _NAME.fullmatch(name) or len(value) > MOST_CHARACTERS or _BREAKS.search(value):
        return False
    known = known_name(name)
    return known is None or known[0] in _SENDABLE


_IDENTITIES = frozenset(("diversion", "history-info", "identity", "identity-info", "remote-party-id"))
"""Beside all that begin with ``P-``, which speak among networks: who calls, and who pays (RFC 7315)."""


def states_identity(name: str) -> bool:
    """Whether a network may take it for what its customer's servers know: who calls, or for whom."""
    return name.lower().startswith("p-") or name.lower() in _IDENTITIES


def custom_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Those of a message that an application may want to know; bounded in number and length."""
    found = ((name, value) for name, value in headers.items() if is_custom_header(name, value))
    return tuple(pair for pair, _ in zip(found, range(MOST_HEADERS), strict=False))
