"""Refreshing a session (RFC 4028 §10): by UPDATE where the peer takes it, by re-INVITE with our session unchanged."""

from __future__ import annotations

from offhook.sip import reinvite, session_timer, update
from offhook.sip.parts import Parts
from offhook.sip.usage import Usage, UsageState

BUSY_S = 5.0
"""How long a refresh waits for what goes on in its dialog; a request that succeeds is a refresh by itself."""


def refresh(parts: Parts, usage: Usage, now: float) -> None:
    """Half the interval is over."""
    running = usage.session_timer
    if running is None:
        return
    if usage.state is UsageState.CONFIRMED and _send(parts, usage, now):
        # A proxy may answer 100 and never again: the end does not wait for the answer.
        session_timer.fire_at(parts, usage, running.ends_at)
    else:
        session_timer.fire_at(parts, usage, now + BUSY_S)


def _send(parts: Parts, usage: Usage, now: float) -> bool:
    """False: something is going on that it must not disturb."""
    if "UPDATE" in usage.peer_allows and update.is_idle(usage):
        update.refresh(parts, usage, now)
    elif "UPDATE" not in usage.peer_allows and reinvite.is_idle(usage):
        reinvite.refresh(parts, usage, now)
    else:
        return False
    return True
