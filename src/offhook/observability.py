"""Logs a person can read, loop lag as a figure, and the machine's limits taken at start.

Privacy rule: what is said and which digits are pressed never enters a log record; the live log of ``serve``
shows them only when ``log.speech`` asks for it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import time

LAG_PROBE_S = 0.1
"""Often enough to see a 50 ms stall within a second, rare enough to cost nothing."""

STALL_S = 0.05
"""One 50 ms stall on the loop is a 50 ms hole in every call."""

_log = logging.getLogger("offhook")


def configure_logging(level: str) -> None:
    """Log to stderr, one line a record, with the time of day."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )


def raise_descriptor_limit() -> int:
    """RLIMIT_NOFILE to its hard limit; returns the descriptors this process may hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS caps below its "unlimited" hard limit
        hard = soft
    return hard if hard != resource.RLIM_INFINITY else 1_048_576


def settle_memory() -> None:
    """After start: what lives until the end is taken out of every later garbage collection (`gc.freeze`)."""
    gc.collect()
    gc.freeze()


class LoopLag:
    """Measures how late the event loop wakes: ``worst_ms`` since the last ``read()``, stalls in all."""

    def __init__(self) -> None:
        self.stalls = 0
        self._worst_s = 0.0
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

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = time.monotonic() + LAG_PROBE_S
        self._timer = loop.call_later(LAG_PROBE_S, self._probe, loop)

    def _probe(self, loop: asyncio.AbstractEventLoop) -> None:
        lag = time.monotonic() - self._due
        self._worst_s = max(self._worst_s, lag)
        if lag > STALL_S:
            self.stalls += 1
            _log.warning("the event loop stalled for %d ms: every call had a hole", round(lag * 1000))
        self._arm(loop)
