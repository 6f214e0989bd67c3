"""How long SIP input may hold the event loop, so that no flood of it stalls the media of running calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WINDOW_S = 0.004
SHARE_S = 0.002
"""SIP input gets 2 ms of each 4 ms: half the loop stays for media under any flood, and with the one
message that was being read when the share ran out the loop is held below 5 ms."""


class WorkBudget:
    """The share of the loop's time that all SIP sockets together may spend on what the network sends.

    A socket charges what each message cost. When the share is spent it stops reading and asks to be
    resumed in the next window; the kernel's receive buffer then fills, and overflows where it must.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._window_ends = 0.0
        self._spent_s = 0.0
        self._waiting: list[Callable[[], None]] = []
        self._refill: asyncio.TimerHandle | None = None
        self.exhaustions = 0

    def charge(self, started: float) -> bool:
        """Charge the time since ``started`` (``time.monotonic()``). False: nothing is left in this window."""
        now = time.monotonic()
        if started >= self._window_ends:
            self._window_ends = started + WINDOW_S
            self._spent_s = 0.0
        self._spent_s += now - started
        return self._spent_s < SHARE_S

    @property
    def exhausted(self) -> bool:
        return self._spent_s >= SHARE_S and time.monotonic() < self._window_ends

    def when_refilled(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` once, when the next window opens."""
        self._waiting.append(resume)
        if self._refill is None:
            self.exhaustions += 1
            wait_s = max(self._window_ends - time.monotonic(), 0.001)
            self._refill = self._loop.call_later(wait_s, self._open_window)

    def close(self) -> None:
        self._waiting.clear()
        if self._refill is not None:
            self._refill.cancel()
            self._refill = None

    def _open_window(self) -> None:
        self._refill = None
        self._window_ends = time.monotonic() + WINDOW_S
        self._spent_s = 0.0
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()
