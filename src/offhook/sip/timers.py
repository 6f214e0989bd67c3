"""Every timer of a user agent in one heap: starting and cancelling cost O(log n), the next deadline O(1)."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

_SWEEP_FLOOR = 64
"""Below this many cancelled entries a sweep costs more than the memory it frees."""


class Timer:
    """One deadline, in monotonic seconds. Cancelled or fired, it holds nothing alive."""

    __slots__ = ("at", "fire")

    def __init__(self, at: float, fire: Callable[[float], None]) -> None:
        self.at = at
        self.fire: Callable[[float], None] | None = fire


class TimerHeap:
    """Deadlines in order; equal ones fire in the order they were started.

    Cancelling is lazy: the entry stays in the heap until it comes up or until cancelled entries outnumber
    live ones, so that the heap never holds more than twice what is live (plus a small floor).
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._live = 0

    def __len__(self) -> int:
        """Timers that will fire; cancelled ones do not count."""
        return self._live

    def start(self, at: float, fire: Callable[[float], None]) -> Timer:
        """Call ``fire(now)`` at the first ``run_due`` whose ``now`` is not before ``at``."""
        timer = Timer(at, fire)
        heapq.heappush(self._heap, (at, next(self._order), timer))
        self._live += 1
        return timer

    def cancel(self, timer: Timer) -> None:
        """Idempotent; a timer that has fired is left alone."""
        if timer.fire is None:
            return
        timer.fire = None
        self._live -= 1
        if len(self._heap) > 2 * self._live + _SWEEP_FLOOR:
            self._heap = [entry for entry in self._heap if entry[2].fire is not None]
            heapq.heapify(self._heap)

    def next_at(self) -> float | None:
        while self._heap and self._heap[0][2].fire is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self, now: float) -> None:
        """Fire what is due, including what a fired timer starts for a moment not after ``now``."""
        while (due := self.next_at()) is not None and due <= now:
            timer = heapq.heappop(self._heap)[2]
            fire, timer.fire = timer.fire, None
            self._live -= 1
            if fire is not None:
                fire(now)
