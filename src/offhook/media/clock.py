"""One 20 ms clock for all calls, in four phase groups 5 ms apart, on one loop timer.

The schedule is absolute: tick n of a group is due at origin + n x 20 ms + the group's phase, whatever
happened before. A tick that comes late runs what is due, at most ``MOST_DUE`` frames a leg; older ones
are skipped and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from offhook.model.audio import FRAME_MS

FRAME_S = FRAME_MS / 1000
PHASE_GROUPS = 4
PHASE_S = FRAME_S / PHASE_GROUPS

MOST_DUE = 3
"""Frames a leg sends at once after a stall; a burst of more overruns the remote jitter buffer."""

EARLY_S = 0.0006
"""Loop timers have a grain of 1 ms: woken up to this much early, a tick runs at once instead of spinning."""


class Tickable(Protocol):
    """What the clock drives. Both are called on the loop and return within microseconds."""

    def tick(self, due_s: float) -> None:
        """One frame is due; ``due_s`` is when, in monotonic seconds."""
        ...

    def skip(self, frames: int, due_s: float) -> None:
        """So many frames, the first of them due at ``due_s``, will never be sent."""
        ...


class MediaClock:
    """Drives every media session of a process. Sleeps while nothing is added.

    ``late_ticks`` counts frames that ran a frame or more after they were due, ``skipped_ticks`` those
    that never ran (both per group, not per leg); ``worst_late_s`` is the longest lateness seen.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        most_due: int = MOST_DUE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._most_due = most_due
        self._monotonic = monotonic
        self._groups: tuple[list[Tickable], ...] = tuple([] for _ in range(PHASE_GROUPS))
        self._due = [0.0] * PHASE_GROUPS
        self._origin = monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self.late_ticks = 0
        self.skipped_ticks = 0
        self.worst_late_s = 0.0
        self.faults = 0

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def emptiest_group(self) -> int:
        """Where the next call is placed best."""
        return min(range(PHASE_GROUPS), key=lambda group: len(self._groups[group]))

    def add(self, tickable: Tickable, group: int = 0) -> None:
        """Tick it from the group's next due time on."""
        group %= PHASE_GROUPS
        if not self._groups[group]:
            self._due[group] = self._next_due(group, self._monotonic())
        self._groups[group].append(tickable)
        self._arm()

    def remove(self, tickable: Tickable) -> None:
        """Idempotent; allowed from within a tick."""
        for number, group in enumerate(self._groups):
            if tickable in group:
                # A new list: the one being iterated stays as it is.
                self._groups = (
                    *self._groups[:number],
                    [other for other in group if other is not tickable],
                    *self._groups[number + 1 :],
                )
        if not len(self) and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next_due(self, group: int, now: float) -> float:
        first = self._origin + group * PHASE_S
        return first + (int((now - first) / FRAME_S) + 1) * FRAME_S

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = min(self._due[number] for number, group in enumerate(self._groups) if group)
        self._timer = self._loop.call_later(max(0.0, due - self._monotonic()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        for number in range(PHASE_GROUPS):
            group = self._groups[number]
            if group and self._monotonic() >= self._due[number] - EARLY_S:
                self._run(number, group)
        if len(self) and self._timer is None:
            self._arm()

    def _run(self, number: int, group: list[Tickable]) -> None:
        due = self._due[number]
        late_s = self._monotonic() - due
        frames = 1
        if late_s >= FRAME_S:
            frames, skipped = self._count_late(late_s)
            if skipped:
                self._skip(group, skipped, due)
                due += skipped * FRAME_S
        self._due[number] = due + frames * FRAME_S
        for _ in range(frames):
            for tickable in group:
                try:
                    tickable.tick(due)
                except Exception as error:
                    self._report(tickable, error)
            due += FRAME_S

    def _count_late(self, late_s: float) -> tuple[int, int]:
        """(frames to run, frames to skip) at this lateness."""
        frames = int(late_s / FRAME_S) + 1
        skipped = max(0, frames - self._most_due)
        self.late_ticks += min(frames, self._most_due) - 1
        self.skipped_ticks += skipped
        self.worst_late_s = max(self.worst_late_s, late_s)
        return frames - skipped, skipped

    def _skip(self, group: list[Tickable], frames: int, due_s: float) -> None:
        for tickable in group:
            try:
                tickable.skip(frames, due_s)
            except Exception as error:
                self._report(tickable, error)

    def _report(self, tickable: Tickable, error: Exception) -> None:
        """A fault of one leg (or of a sink it feeds) stays that leg's: the others are ticked."""
        self.faults += 1
        self._loop.call_exception_handler({"message": "a media tick failed", "exception": error, "tickable": tickable})
