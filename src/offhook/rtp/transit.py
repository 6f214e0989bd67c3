"""How long packets took, relative to one another: the measure the playout delay follows (RFC 3550 A.8)."""

from __future__ import annotations

from dataclasses import dataclass, field

BUCKET_S = 0.5
BUCKETS = 6
"""Three seconds are remembered: long enough to see the peaks of steady jitter, short enough to be back at
the least delay within five seconds of its end."""

_JITTER_GAIN = 1 / 16  # RFC 3550 §6.4.1: the noise reduction of the interarrival jitter
_NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class TransitWindow:
    """Transit times, in samples: arrival minus timestamp, so that only differences mean something.

    ``floor`` is the least of the last three seconds. ``peak`` is the greatest after the worst packet of
    each half second was set aside: one packet that comes late alone is cheaper to conceal than to wait for.
    Both follow a clock that drifts, since old buckets fall out. ``floor`` is infinite while ``empty``.
    """

    floor: float = float("inf")
    peak: float = 0.0
    jitter: float = 0.0
    empty: bool = True
    _last: float = 0.0
    _bucket_ends: float = 0.0
    _floors: list[float] = field(default_factory=list)
    _peaks: list[float] = field(default_factory=list)
    _least: float = 0.0  # of the open bucket
    _worst: float = _NEVER
    _second: float = _NEVER

    def add_early(self, transit: float, arrival_s: float) -> bool:
        """Count a packet that came before anything plays: its lateness harms nobody, only ``floor`` may move.

        Calls begin with packets that waited for an address to be resolved: no measure of the network.
        """
        if self.empty:
            return self._begin(transit, arrival_s)
        self._last = transit
        self._least = min(self._least, transit)
        return self._measure()

    def add(self, transit: float, arrival_s: float) -> bool:
        """Count one packet; True when ``floor`` or ``peak`` moved."""
        if self.empty:
            return self._begin(transit, arrival_s)
        self.jitter += (abs(transit - self._last) - self.jitter) * _JITTER_GAIN
        self._last = transit
        rolled = arrival_s >= self._bucket_ends and self._roll(arrival_s)
        if not self._second >= transit >= self._least:
            self._stretch(transit)
        if rolled or self._least < self.floor or self._second > self.peak:
            return self._measure()
        return False

    def _stretch(self, transit: float) -> None:
        """The extremes of the open bucket."""
        self._least = min(self._least, transit)
        if transit > self._second:
            self._second = min(transit, self._worst)
            self._worst = max(transit, self._worst)

    def _begin(self, transit: float, arrival_s: float) -> bool:
        self.empty = False
        self._last = self.floor = self.peak = self._least = transit
        self._bucket_ends = arrival_s + BUCKET_S
        return True

    def _roll(self, arrival_s: float) -> bool:
        self._floors = [*self._floors[1 - BUCKETS :], self._least]
        self._peaks = [*self._peaks[1 - BUCKETS :], self._second]
        self._least, self._worst, self._second = float("inf"), _NEVER, _NEVER
        self._bucket_ends = arrival_s + BUCKET_S
        return True

    def _measure(self) -> bool:
        self.floor = min(self._least, *self._floors) if self._floors else self._least
        self.peak = max(self.floor, self._second, *self._peaks)
        return True
