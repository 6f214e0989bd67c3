"""How late the event loop wakes: as a figure, and told when it stalls."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

LAG_PROBE_S = 0.1
"""Often enough to see a 50 ms stall within a second, rare enough to cost nothing."""

STALL_S = 0.05
"""One 50 ms stall on the loop is a 50 ms hole in every call."""

RECENT_PROBES = 100
"""Ten seconds: long enough to tell one stall from a loop that is always late."""

_log = logging.getLogger("offhook")


class LoopLag:
    """Measures how late the event loop wakes: ``worst_ms`` since the last ``read()``, stalls in all.

    ``on_lag`` is given every measurement, in seconds.
    """

    def __init__(self, on_lag: Callable[[float], None] = lambda lag_s: None) -> None:
        self.stalls = 0
        self._on_lag = on_lag
        self._worst_s = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT_PROBES)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def read(self) -> float:
        """Worst lag in milliseconds since the last call."""
        worst, self._worst_s = self._worst_s, 0.0
        return worst * 1000

    @property
    def recent_s(self) -> tuple[float, ...]:
        """Every measurement of the last ten seconds, the latest last."""
        return tuple(self._recent)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = time.monotonic() + LAG_PROBE_S
        self._timer = loop.call_later(LAG_PROBE_S, self._probe, loop)

    def _probe(self, loop: asyncio.AbstractEventLoop) -> None:
        lag = max(0.0, time.monotonic() - self._due)
        self._worst_s = max(self._worst_s, lag)
        self._recent.append(lag)
        self._on_lag(lag)
        if lag > STALL_S:
            self.stalls += 1
            _log.warning("the event loop stalled for %d ms: each call that was up had a hole", round(lag * 1000))
        self._arm(loop)
