"""Whose offer is open in a usage (RFC 3264 §4, RFC 3311 §5, RFC 6337): one at a time, whatever carried it."""

from __future__ import annotations

from typing import Literal

from offhook.sip.dialog import Dialog
from offhook.sip.inspection import Refusal
from offhook.sip.parts import Parts
from offhook.sip.usage import EarlyDialog, Usage, UsageState

RETRY_AFTER_S = 10
"""RFC 3261 §14.2, RFC 3311 §5.2: "between 0 and 10 seconds"."""

OWNER_DELAY_S = (2.1, 4.0)
"""RFC 3261 §14.1, RFC 3311 §5.3: how long the side that made the Call-ID waits after a 491, in steps of 10 ms."""
OTHER_DELAY_S = (0.0, 2.0)
"""How long the other side waits."""

_OURS_IS_OPEN = Refusal(
    status=491,
    rule="offer while ours is open",
    evidence="",
    fix="nothing: try again after a random while (RFC 3261 §14.1, RFC 3311 §5.2)",
)


def open_offer(usage: Usage, early: EarlyDialog | None = None) -> Literal["local", "remote"] | None:
    """Who made the offer that still has no answer; ``early``: in that branch of our INVITE."""
    if _remote(usage, early):
        return "remote"
    return "local" if _local(usage, early) else None


def _remote(usage: Usage, early: EarlyDialog | None) -> bool:
    """The peer's: in an INVITE, a PRACK, an UPDATE, a reliable provisional response or a 2xx."""
    if usage.pracked is not None or usage.updated is not None or usage.state is UsageState.OFFERED:
        return True
    if early is not None and early.owed is not None:
        return True
    return usage.served is not None and bool(usage.served.request.body) and not _settled(usage)


def _local(usage: Usage, early: EarlyDialog | None) -> bool:
    """Ours: in an INVITE, an UPDATE, a reliable provisional response or a 2xx; or the one that is ours to make."""
    if usage.updating is not None and usage.updating.offer:
        return True
    if usage.unacknowledged is not None and usage.unacknowledged.carries_offer:
        return True
    if usage.asked is not None and (early is None or not early.session):
        return True
    return usage.served is not None and not usage.served.request.body and not _settled(usage)


def _settled(usage: Usage) -> bool:
    """Whether the peer's INVITE has its offer and answer already, by a reliable provisional response."""
    return usage.progress is not None and usage.progress.settled


def refuse_offer(parts: Parts, usage: Usage, early: EarlyDialog | None = None) -> Refusal | None:
    """RFC 3311 §5.2: 491 while an offer of ours is open, 500 while the peer's is."""
    match open_offer(usage, early):
        case "local":
            return _OURS_IS_OPEN
        case "remote":
            return overlapping(parts, "offer before the last one is answered")
        case None:
            return None


def overlapping(parts: Parts, rule: str) -> Refusal:
    """RFC 3261 §14.2, RFC 3311 §5.2: 500 "and MUST include a Retry-After header field with a randomly chosen value of
    between 0 and 10 seconds"."""
    after_s = round(parts.new_fraction() * RETRY_AFTER_S)
    return Refusal(
        status=500,
        rule=rule,
        evidence="",
        fix="wait for the final response before the next offer of a dialog",
        headers=(("Retry-After", str(after_s)),),
    )


def glare_delay_s(parts: Parts, dialog: Dialog) -> float:
    """RFC 3261 §14.1: both sides asked at once; who made the Call-ID waits longer, so that they do not meet again."""
    low, high = OWNER_DELAY_S if dialog.owns_call_id else OTHER_DELAY_S
    return round(low + parts.new_fraction() * (high - low), 2)
