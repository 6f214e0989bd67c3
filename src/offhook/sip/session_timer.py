"""The session timer of a usage (RFC 4028): what our messages say of it, and when it runs out.

What happens when it is time to refresh stands in ``session_refresh``.
"""

from __future__ import annotations

from functools import partial

from offhook.sip import bye
from offhook.sip.dialog import DialogState
from offhook.sip.message import Request, Response
from offhook.sip.parts import Parts
from offhook.sip.session_interval import (
    LEAST_MIN_SE_S,
    OPTION,
    Role,
    SessionExpires,
    SessionTimerRules,
    agree,
    agreed,
    min_se,
    supports,
)
from offhook.sip.usage import SessionTimer, Usage, UsageInput

MARGIN_S = 32
"""§10: who does not refresh hangs up "slightly before the session expires"; "the minimum of 32 seconds and one third
of the session interval is RECOMMENDED"."""

RAISES_MAX = 8
"""Of our interval in one usage, by 422: a few proxies in a row, each with its own minimum."""

ATTEMPTS = 2
"""Of one refresh: a peer that refuses it twice has said so."""

RESUMED_S = 5.0
"""After a restore: what the application has to offer by then refreshes the session as well."""

REASON = ("Reason", 'SIP ;cause=408 ;text="session expired"')
"""RFC 3326."""

Lines = list[tuple[str, str]]

# ── what our messages say ────────────────────────────────────────────────────────────────────────────────


def request_lines(usage: Usage) -> Lines:
    """Of our re-INVITE or UPDATE (§7.4), or of an INVITE that met a 422."""
    least_s = max(usage.timer_rules.min_se_s, usage.min_se_s)
    running = usage.session_timer
    if running is None:
        return first_lines(usage.timer_rules, least_s)
    # §7.4: "equal to the maximum of the Min-SE header field [...] and the current session interval", and "the
    # refresher parameter [...] SHOULD be set to 'uac' if the element sending the request is currently performing
    # refreshes, else it SHOULD be set to 'uas'"
    interval_s = max(running.interval_s, least_s)
    return _asking(SessionExpires(interval_s=interval_s, refresher="uac" if running.is_ours else "uas"), least_s)


def first_lines(rules: SessionTimerRules, least_s: int) -> Lines:
    """Of an INVITE that begins a session (§7.1); who refreshes is left to the callee."""
    if not rules.session_expires_s:
        return []
    return _asking(SessionExpires(interval_s=max(rules.session_expires_s, least_s)), least_s)


def _asking(wanted: SessionExpires, least_s: int) -> Lines:
    lines = [("Session-Expires", str(wanted))]
    return [*lines, ("Min-SE", str(least_s))] if least_s > LEAST_MIN_SE_S else lines


def accept(parts: Parts, usage: Usage, request: Request, now: float) -> Lines:
    """Of our 2xx to the peer's INVITE, re-INVITE or UPDATE (§9); the timer starts anew with it."""
    running = usage.session_timer
    current: Role | None = None if running is None else "uas" if running.is_ours else "uac"
    usage.min_se_s = max(usage.min_se_s, min_se(request.headers))
    told = agree(request, usage.timer_rules, current)
    if told is None:
        parts.cancel_session_timer(usage)
        return []
    lines = [("Session-Expires", str(told))]
    knows = supports(request)
    _start(parts, usage, now, interval_s=told.interval_s, is_ours=told.refresher == "uas", is_agreed=knows)
    # §9: with refresher=uac "the UAS MUST place a Require header field into the response with the value 'timer'"
    return [("Require", OPTION), *lines] if knows else lines


def settle(parts: Parts, usage: Usage, response: Response, now: float) -> None:
    """A 2xx to our INVITE, re-INVITE or UPDATE (§7.2): the timer starts anew with it.

    A peer that knows nothing of timers gives none; where we want one we refresh, and learn whether it is still there.
    """
    told = agreed(response)
    if told is not None:
        _start(parts, usage, now, interval_s=told.interval_s, is_ours=told.refresher == "uac", is_agreed=True)
    elif usage.timer_rules.session_expires_s:
        interval_s = max(usage.timer_rules.session_expires_s, usage.min_se_s)
        _start(parts, usage, now, interval_s=interval_s, is_ours=True, is_agreed=False)
    else:
        parts.cancel_session_timer(usage)


def raised(usage: Usage, response: Response) -> bool:
    """Whether a 422 tells us a larger minimum, so that the same request may do with it (§7.3)."""
    least_s = min_se(response.headers)
    if response.status != 422 or least_s <= usage.min_se_s or usage.raises >= RAISES_MAX:
        return False
    usage.min_se_s, usage.raises = least_s, usage.raises + 1
    return True


# ── when it runs out ─────────────────────────────────────────────────────────────────────────────────────


def _start(parts: Parts, usage: Usage, now: float, *, interval_s: int, is_ours: bool, is_agreed: bool) -> None:
    parts.cancel_session_timer(usage)
    ends_at = now + interval_s - min(MARGIN_S, interval_s / 3)
    # §10: who refreshes does so "once half the session interval has elapsed"
    due = partial(parts.refresh_session, usage) if is_ours else partial(expire, parts, usage)
    timer = parts.timers.start(now + interval_s / 2 if is_ours else ends_at, due)
    usage.session_timer = SessionTimer(
        interval_s=interval_s, is_ours=is_ours, is_agreed=is_agreed, ends_at=ends_at, timer=timer
    )


def resume(parts: Parts, usage: Usage, now: float, *, interval_s: int, is_ours: bool, is_agreed: bool) -> None:
    """A timer that ran in another process: refreshed soon where that is ours, for nobody knows when it last was."""
    _start(parts, usage, now, interval_s=interval_s, is_ours=is_ours, is_agreed=is_agreed)
    if is_ours:
        fire_at(parts, usage, now + RESUMED_S)


def fire_at(parts: Parts, usage: Usage, at: float) -> None:
    """Refresh at ``at``, or end where that is too late."""
    running = usage.session_timer
    if running is None:
        return
    parts.timers.cancel(running.timer)
    late = at >= running.ends_at
    due = partial(expire, parts, usage) if late else partial(parts.refresh_session, usage)
    running.timer = parts.timers.start(min(at, running.ends_at), due)


def refresh_failed(parts: Parts, usage: Usage, status: int | None, now: float) -> None:
    """Our refresh was refused with ``status``; None: it could not be sent (§10).

    "If the session refresh request transaction times out or generates a 408 or 481 response, then the UAC sends a BYE
    request"; any other failure is tried once more, midway to the end. A peer that never agreed to a timer has shown
    by its very refusal that it is there.
    """
    running = usage.session_timer
    if running is None:
        return
    if status in (408, 481):
        expire(parts, usage, now)
    elif status is not None and not running.is_agreed:
        _start(parts, usage, now, interval_s=running.interval_s, is_ours=True, is_agreed=False)
    else:
        running.failures += 1
        fire_at(parts, usage, (now + running.ends_at) / 2 if running.failures < ATTEMPTS else running.ends_at)


def expire(parts: Parts, usage: Usage, now: float) -> None:
    """§10: nobody refreshed the session: BYE."""
    parts.cancel_session_timer(usage)
    if usage.can(UsageInput.BYE):
        usage.end_cause = "session_expired"
        bye.hang_up(parts, usage, now, (REASON,))


def is_up(usage: Usage) -> bool:
    """Whether there is a session to time: §3 knows of none before the 2xx."""
    return usage.dialog is not None and usage.dialog.state is DialogState.CONFIRMED
