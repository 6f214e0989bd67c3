"""What is told of a call's legs when they are over: what went over the wire, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from offhook.call.leg import Leg
from offhook.media.session import MediaSession
from offhook.model.call_events import CallEnded, MediaReported
from offhook.model.trunks import CallRules


def price(rules: CallRules, duration_s: float) -> float:
    """What a trunk asks for an outbound call of that length, by the second."""
    return rules.price_per_min * max(0.0, duration_s) / 60


def spend_of(leg: Leg) -> float:
    """What the leg's trunk asks for the time it was up; one that came to us costs nothing."""
    if leg.direction == "inbound" or leg.answered_at is None:
        return 0.0
    until = time.time() if leg.over_at is None else leg.over_at
    return price(leg.rules, until - leg.answered_at)


def with_figures(ended: CallEnded, legs: Iterable[Leg], answered_at: float | None) -> CallEnded:
    """How long the call was, and what all its legs cost; a call that was not answered has neither.

    ``answered_at``: on the monotonic clock, which nobody sets. The legs' own times are told to other processes.
    """
    if answered_at is None:
        return ended
    duration_ms = round((time.monotonic() - answered_at) * 1000)
    return replace(ended, duration_ms=duration_ms, spend=sum(spend_of(leg) for leg in legs))


def media_report(media: MediaSession) -> MediaReported | None:
    """A leg's figures; None when no media ever flowed."""
    stats = media.stats()
    if stats is None:
        return None
    return MediaReported(
        packets_sent=stats.packets_sent,
        packets_received=stats.packets_received,
        packets_lost=stats.packets_lost,
        loss_percent=round(stats.loss_percent, 2),
        remote_loss_percent=stats.remote_loss_percent,
        jitter_ms=round(stats.jitter_ms, 2),
        concealed_frames=stats.concealed_frames,
        late_ticks=stats.late_ticks,
        round_trip_ms=stats.round_trip_ms,
    )
