"""One 20 ms clock for all calls, in four phase groups 5 ms apart, on one loop timer.

The schedule is absolute: tick n of a group is due at origin + n x 20 ms + the group's phase, whatever
happened before. A tick that comes late runs what is due, at most ``MOST_DUE`` frames a leg; older ones
are skipped and counted.

A tick has three parts, each for the whole group before the next: send, read the sockets, hear. So nothing
delays a packet that is due, and what came until now is heard now. The sockets of all groups are read at the tick of
any: who hears at once waits 5 ms at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from offhook.media.packet_poll import PacketPoll, Reader
from offhook.model.audio import FRAME_MS

FRAME_S = FRAME_MS / 1000
PHASE_GROUPS = 4
PHASE_S = FRAME_S / PHASE_GROUPS

MOST_DUE = 3
"""Frames a leg sends at once after a stall; a burst of more overruns the remote jitter buffer."""

EARLY_S = 0.0006
"""Loop timers have a grain of 1 ms: woken up to this much early, a tick runs at once instead of spinning."""


class Tickable(Protocol):
    """What the clock drives. All are called on the loop and return within microseconds.

    ``due_s`` is when the frame was due, ``now`` when the clock woke for it, in monotonic seconds.
    """

    def send(self, due_s: float, now: float) -> None:
        """A frame is to be sent."""
        ...

    def hear(self, due_s: float) -> None:
        """A frame is to be heard; ``send`` was called for the same tick, and what had come was read since."""
        ...

    def skip(self, frames: int, due_s: float) -> None:
        """So many frames, the first of them due at ``due_s``, will never be sent. What had come was read."""
        ...


@dataclass(slots=True, eq=False)
class _Group:
    """``legs`` is replaced, never changed: one who iterates keeps what it began with."""

    phase_s: float
    poll: PacketPoll
    legs: list[Tickable] = field(default_factory=list)
    due_s: float = 0.0


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
        self._groups = tuple(
            _Group(group * PHASE_S, PacketPoll(self._loop, self._report)) for group in range(PHASE_GROUPS)
        )
        self._origin = monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self.late_ticks = 0
        self.skipped_ticks = 0
        self.worst_late_s = 0.0
        self.faults = 0

    def __len__(self) -> int:
        return sum(len(group.legs) for group in self._groups)

    def emptiest_group(self) -> int:
        """Where the next call is placed best."""
        return min(range(PHASE_GROUPS), key=lambda group: len(self._groups[group].legs))

    def add(self, tickable: Tickable, group: int = 0) -> None:
        """Tick it from the group's next due time on."""
        joined = self._groups[group % PHASE_GROUPS]
        if not joined.legs:
            joined.due_s = self._next_due(joined, self._monotonic())
        joined.legs = [*joined.legs, tickable]
        self._arm()

    def remove(self, tickable: Tickable) -> None:
        """Idempotent; allowed from within a tick."""
        for group in self._groups:
            if tickable in group.legs:
                group.legs = [other for other in group.legs if other is not tickable]
        if not len(self) and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def watch(self, descriptor: int, reader: Reader, group: int = 0) -> None:
        """Read a socket at each tick of the group, between sending and hearing."""
        self._groups[group % PHASE_GROUPS].poll.watch(descriptor, reader)

    def unwatch(self, descriptor: int, group: int = 0) -> None:
        """Idempotent; to be called before the socket is closed."""
        self._groups[group % PHASE_GROUPS].poll.unwatch(descriptor)

    def _next_due(self, group: _Group, now: float) -> float:
        first = self._origin + group.phase_s
        return first + (int((now - first) / FRAME_S) + 1) * FRAME_S

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = min(group.due_s for group in self._groups if group.legs)
        self._timer = self._loop.call_later(max(0.0, due - self._monotonic()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self._monotonic()
        due = self._due_at(now + EARLY_S)
        for group in due:
            if now - group.due_s >= FRAME_S:
                self._catch_up(group, now)
        while due:
            self._tick(due, now)
            due = self._due_at(now)
        if len(self) and self._timer is None:
            self._arm()

    def _due_at(self, now: float) -> list[_Group]:
        return [group for group in self._groups if group.legs and now >= group.due_s]

    def _tick(self, groups: list[_Group], now: float) -> None:
        """One frame of every leg of ``groups``."""
        frames = [(group.due_s, group.legs) for group in groups]
        for group in groups:
            group.due_s += FRAME_S
        for due_s, legs in frames:
            for leg in legs:
                try:
                    leg.send(due_s, now)
                except Exception as error:
                    self._report(error)
        for group in self._groups:
            group.poll.read()
        for due_s, legs in frames:
            for leg in legs:
                try:
                    leg.hear(due_s)
                except Exception as error:
                    self._report(error)

    def _catch_up(self, group: _Group, now: float) -> None:
        """Count what is late, and skip what is more than ``most_due``."""
        late_s = now - group.due_s
        frames = int(late_s / FRAME_S) + 1
        skipped = max(0, frames - self._most_due)
        self.late_ticks += frames - skipped - 1
        self.skipped_ticks += skipped
        self.worst_late_s = max(self.worst_late_s, late_s)
        if skipped:
            self._skip(group, skipped)

    def _skip(self, group: _Group, frames: int) -> None:
        group.poll.read()
        due_s, group.due_s = group.due_s, group.due_s + frames * FRAME_S
        for leg in group.legs:
            try:
                leg.skip(frames, due_s)
            except Exception as error:
                self._report(error)

    def _report(self, error: Exception) -> None:
        """A fault of one leg (or of a sink it feeds) stays that leg's: the others are ticked."""
        self.faults += 1
        self._loop.call_exception_handler({"message": "a media tick failed", "exception": error})
