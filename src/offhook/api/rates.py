"""How often somebody may ask: token buckets, a bounded number of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

BUCKETS = 10_000
"""Kept at once, 100 bytes each; who was not seen for the longest time is forgotten first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """``burst`` at once, then ``per_s`` in each second."""

    per_s: float
    burst: int


class RateLimits:
    """One bucket for each name. ``clock``: seconds that only rise."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when the bucket is full again

    def take(self, name: str) -> float:
        """Take one: 0.0 where there was one, else the seconds until there is."""
        now = self._clock()
        one_s = 1 / self._rate.per_s
        full_at = max(self._full_at.get(name, now), now) + one_s
        over_s = full_at - now - self._rate.burst * one_s
        if over_s > 1e-9:  # of a burst of 10, the tenth must still be let through
            return over_s
        self._full_at[name] = full_at
        self._full_at.move_to_end(name)
        if len(self._full_at) > BUCKETS:
            self._full_at.popitem(last=False)
        return 0.0
